"""Vectors of many texts, each text embedded once and kept on disk if wished."""

from __future__ import annotations

import hashlib
import sys
from typing import TYPE_CHECKING

import numpy as np

from nearhit._errors import CorruptFileError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from nearhit._types import Embedder

__all__ = ["VectorTable", "embed_all", "tell_embedded"]

_BATCH = 256


class VectorTable:
    """Unit vectors by text.

    Args:
        texts: The texts, all different.
        vectors: Their unit vectors, float32 of shape [len(texts), dim].
        embedder: Id of the embedder that made them.
    """

    def __init__(self, texts: Sequence[str], vectors: NDArray[np.float32], embedder: str) -> None:
        self.vectors = vectors
        self.embedder = embedder
        self._rows = {text: row for row, text in enumerate(texts)}

    def rows(self, texts: Iterable[str]) -> NDArray[np.int64]:
        """Row numbers of texts."""
        return np.fromiter((self._rows[text] for text in texts), np.int64)

    def as_embedder(self) -> Embedder:
        """An embedder of these texts alone, which embeds nothing anew."""
        return _Known(self)

    def of(self, texts: Iterable[str]) -> NDArray[np.float32]:
        """Vectors of texts, float32 of shape [n, dim]."""
        return np.asarray(self.vectors[self.rows(texts)])


class _Known:
    """The texts of a table, embedded already."""

    def __init__(self, table: VectorTable) -> None:
        self._table = table
        self.dim: int = table.vectors.shape[1]
        self.id = table.embedder

    def embed(self, texts: list[str], /) -> NDArray[np.float32]:
        """Returns their vectors."""
        return self._table.of(texts)


def embed_all(
    texts: Iterable[str],
    embedder: Embedder,
    *,
    store: Path | None = None,
    advance: Callable[[int, int], None] = lambda _done, _total: None,
) -> VectorTable:
    """Embeds every different text once.

    Args:
        texts: The texts; repeats cost nothing.
        embedder: What embeds them.
        store: A .npz file that keeps the vectors between calls; made if absent, extended by what is new.
        advance: Told the number of texts done and their total.

    Returns:
        The vectors, normalised.

    Raises:
        CorruptFileError: `store` is not such a file, or was made with another embedder.
    """
    wanted = list(dict.fromkeys(texts))
    known: dict[bytes, NDArray[np.float32]] = {}
    if store is not None and store.exists():
        known = _read(store, embedder.id)
    keys = [hashlib.blake2b(text.encode(), digest_size=16).digest() for text in wanted]
    missing = sorted((text for key, text in zip(keys, wanted, strict=True) if key not in known), key=len)
    for start in range(0, len(missing), _BATCH):
        batch = missing[start : start + _BATCH]
        raw = np.asarray(embedder.embed(batch), np.float32)
        made = raw / np.maximum(np.linalg.norm(raw, axis=1, keepdims=True), 1e-12)
        known.update(
            (hashlib.blake2b(text.encode(), digest_size=16).digest(), vector)
            for text, vector in zip(batch, made, strict=True)
        )
        advance(start + len(batch), len(missing))
    if store is not None and missing:
        partial = store.with_name(store.name + ".part.npz")
        np.savez(
            partial,
            keys=np.frombuffer(b"".join(known), np.uint8).reshape(-1, 16),
            vectors=np.stack(list(known.values())),
            embedder=np.array(embedder.id),
        )
        partial.replace(store)
    vectors = np.stack([known[key] for key in keys]) if keys else np.zeros((0, embedder.dim), np.float32)
    return VectorTable(wanted, vectors, embedder.id)


def tell_embedded(done: int, total: int) -> None:
    """Says on stderr how far `embed_all` is."""
    end = "\n" if done == total else "\r"
    sys.stderr.write(f"embedding {done}/{total}{end}")


def _read(store: Path, embedder: str) -> dict[bytes, NDArray[np.float32]]:
    try:
        with np.load(store, allow_pickle=False) as file:
            keys, vectors, made_with = file["keys"], file["vectors"], str(file["embedder"])
    except (OSError, ValueError, KeyError) as error:
        raise CorruptFileError(f"{store}: not a file of vectors ({error}); delete it") from error
    if made_with != embedder:
        raise CorruptFileError(f"{store}: vectors of {made_with}, not of {embedder}; give another file")
    return {key.tobytes(): vector for key, vector in zip(keys, vectors, strict=True)}
