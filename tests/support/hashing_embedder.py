"""A deterministic embedder without a model: character trigrams hashed into signed buckets."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np

from nearhit._types import Embeddings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


class HashingEmbedder:
    """Texts that share most trigrams are near; `window` cuts like a model's window does."""

    def __init__(self, dim: int = 64, window: int = 512) -> None:
        self.dim = dim
        self.id = f"hashing-{dim}-{window}"
        self.window = window
        self.calls: list[list[str]] = []

    def embed(self, texts: list[str]) -> NDArray[np.float32]:
        return self.encode(texts).vectors

    def encode(self, texts: Sequence[str]) -> Embeddings:
        self.calls.append(list(texts))
        vectors = np.zeros((len(texts), self.dim), dtype=np.float32)
        for row, text in zip(vectors, texts, strict=True):
            padded = f"  {text[: self.window].lower()} "
            for start in range(len(padded) - 2):
                digest = blake2b(padded[start : start + 3].encode("utf-8", "replace"), digest_size=4).digest()
                row[int.from_bytes(digest[:3], "little") % self.dim] += 1.0 if digest[3] & 1 else -1.0
            norm = np.linalg.norm(row)
            if norm == 0:
                row[0] = norm = 1.0
            np.divide(row, norm, out=row)
        return Embeddings(
            vectors=vectors,
            truncated=np.array([len(text) > self.window for text in texts]),
            tokens=np.array([min(len(text), self.window) for text in texts], dtype=np.int32),
        )
