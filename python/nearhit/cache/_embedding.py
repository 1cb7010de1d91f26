"""One text to one checked vector, whatever the embedder."""

from __future__ import annotations

import threading
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from nearhit._errors import EmbedderBusyError, EmbeddingError, Error
from nearhit._types import Embeddings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from nearhit._types import Embedder


class Embedded(NamedTuple):
    """A text's vector and what it took.

    Attributes:
        vector: float32 of shape [dim].
        truncated: The text was longer than the embedder's window and was cut.
        tokenise: Seconds spent on tokenising.
        forward: Seconds of the embedder's call beyond that; for an embedder that does not tell, all of them.
    """

    vector: NDArray[np.float32]
    truncated: bool
    tokenise: float
    forward: float


class Unembedded:
    """Counts the texts that went without a vector because the embedder had no time for them.

    Attributes:
        busy: Its queue was full.
        late: The caller's time was over.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.busy = 0
        self.late = 0

    def count(self, error: EmbeddingError) -> None:
        """Counts one more."""
        with self._lock:
            if isinstance(error, EmbedderBusyError):
                self.busy += 1
            else:
                self.late += 1


def embed(embedder: Embedder, texts: Sequence[str]) -> list[Embedded]:
    """Embeds texts and checks what comes back.

    Args:
        embedder: Any embedder; one with `encode` also tells which texts it cut.
        texts: The texts.

    Returns:
        One result per text; the batch's times are shared out equally.

    Raises:
        EmbeddingError: The embedder failed, or returned vectors of another shape.
    """
    started = perf_counter()
    try:
        # Asking for the method: `isinstance` with a protocol takes as long as the rest of this function.
        encode = getattr(embedder, "encode", None) or embedder.embed
        made = encode(list(texts))
    except Error:
        raise
    except Exception as error:
        raise EmbeddingError(f"embedder {embedder.id!r} failed: {type(error).__name__}: {error}") from error
    elapsed = perf_counter() - started
    if isinstance(made, Embeddings):
        vectors, truncated = made.vectors, made.truncated
        tokenise = min(made.tokenise_seconds, elapsed)
        forward = elapsed - tokenise  # what an embedder does around its model is embedding too
    else:
        vectors, truncated, tokenise, forward = made, np.zeros(len(texts), dtype=np.bool_), 0.0, elapsed
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    if vectors.shape != (len(texts), embedder.dim) or len(truncated) != len(texts):
        raise EmbeddingError(
            f"embedder {embedder.id!r} returned vectors of shape {vectors.shape} for {len(texts)} texts, "
            f"expected ({len(texts)}, {embedder.dim})"
        )
    share = len(texts) or 1
    return [
        Embedded(vector, bool(cut), tokenise / share, forward / share)
        for vector, cut in zip(vectors, truncated, strict=True)
    ]
