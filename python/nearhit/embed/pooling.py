"""Token vectors to one unit vector a text."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import numpy as np

from nearhit._errors import EmbeddingError

if TYPE_CHECKING:
    from numpy.typing import NDArray

Pooling = Literal["mean", "cls"]


def pool_unit(hidden: NDArray[np.float32], pooling: Pooling, out: NDArray[np.float32]) -> None:
    """Pools the hidden states of one text's real tokens into a unit vector.

    Right after a forward pass the caches hold the model and not Python, so the shortest way through numpy counts: there
    `np.add.reduce` takes 38 µs and `hidden.mean(0)` 91.

    Args:
        hidden: Hidden states of shape [tokens, dim], without padding.
        pooling: "mean" averages the tokens, "cls" takes the first.
        out: Takes the result, shape [dim].

    Raises:
        EmbeddingError: The result has no direction: it is all zero, or holds NaN or an infinity.
    """
    if pooling == "cls":
        out[:] = hidden[0]
    else:
        np.add.reduce(hidden, axis=0, out=out)  # the mean, but for a factor that scaling takes out
    length = math.sqrt(float(np.dot(out, out)))
    if not 0 < length < math.inf:
        raise EmbeddingError(f"the model gave a vector of length {length}, which has no direction")
    np.multiply(out, 1 / length, out=out)
