"""The distance of two vectors as a score."""

from __future__ import annotations

from nearhit._errors import OptionError


class SearchDistanceEvaluation:
    """The score of a candidate is `max_distance` minus its squared distance.

    A threshold t therefore asks for a cosine of at least 1 - (1 - t) * max_distance / 2: 2 t - 1 by default.

    Args:
        max_distance: The greatest distance that counts.
        positive: Must be False: greater distances do not mean greater similarity here.

    Raises:
        OptionError: `positive`.

    Example:
        >>> SearchDistanceEvaluation(max_distance=2.0).range()
        (0.0, 2.0)
    """

    def __init__(self, max_distance: float = 4.0, positive: bool = False) -> None:  # noqa: FBT001, FBT002 - GPTCache's signature
        if positive:
            raise OptionError(
                "option positive=True is not valid: nearhit compares by cosine, where distances are costs"
            )
        self.max_distance = max_distance
        self.positive = positive

    def range(self) -> tuple[float, float]:
        """The least and the greatest score."""
        return 0.0, self.max_distance
