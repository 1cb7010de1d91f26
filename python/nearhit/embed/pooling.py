"""Token vectors to one unit vector a text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from nearhit._errors import EmbeddingError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray


def pool(
    hidden: NDArray[np.float32], lengths: Sequence[int], how: Literal["mean", "cls"], out: NDArray[np.float32]
) -> None:
    """Pools the hidden states of a padded batch over real tokens only.

    Args:
        hidden: Hidden states of shape [n, padded length, dim].
        lengths: Real tokens of each text.
        how: "mean" averages the real tokens, "cls" takes the first.
        out: Takes the result, shape [n, dim].
    """
    if how == "cls":
        out[:] = hidden[:, 0]
        return
    for row, length in enumerate(lengths):
        hidden[row, :length].mean(axis=0, out=out[row])


def normalise(vectors: NDArray[np.float32]) -> None:
    """Scales the rows of shape [n, dim] to unit length, in place.

    Raises:
        EmbeddingError: A row has no direction: it is all zero, or holds NaN or an infinity.
    """
    import numpy as np  # noqa: PLC0415 - kept out of `import nearhit`

    norms = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    bad = ~(np.isfinite(norms) & (norms > 0))
    if bad.any():
        row = int(bad.argmax())
        raise EmbeddingError(f"the model gave text {row} a vector of length {norms[row]}, which has no direction")
    vectors /= norms[:, None]
