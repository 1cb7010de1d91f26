"""Only equal texts hit."""

from __future__ import annotations


class ExactMatchEvaluation:
    """Asks for equal texts, as GPTCache's default does.

    Example:
        >>> ExactMatchEvaluation().range()
        (0, 1)
    """

    def range(self) -> tuple[float, float]:
        """The least and the greatest score."""
        return 0, 1
