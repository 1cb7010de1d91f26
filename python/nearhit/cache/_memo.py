"""Vectors of the texts that were embedded last: a repeat, and the store that follows a miss, embed nothing."""

from __future__ import annotations

import threading
from collections import OrderedDict
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from nearhit.cache._embedding import Embedded

if TYPE_CHECKING:
    from nearhit._types import Embedder

_OVERHEAD: Final = 440  # bytes an entry takes beside its vector's values: key, tuple, array and their places
_SHARE: Final = 16  # part of `max_bytes` that the memo may take


class EmbeddingMemo:
    """The least recently used text leaves. Safe to use from many threads.

    Args:
        embedder: The one embedder whose vectors these are; None for a memo that stays empty.
        entries: Most texts remembered; None for none.
        max_bytes: Bytes of the whole cache, of which the memo takes a sixteenth at most; None for no bound.
    """

    def __init__(self, embedder: Embedder | None, entries: int | None, max_bytes: int | None) -> None:
        self._each = _OVERHEAD + (0 if embedder is None else 4 * embedder.dim)
        most = 0 if embedder is None or entries is None else entries
        self._most = most if max_bytes is None else min(most, max_bytes // _SHARE // self._each)
        self._kept: OrderedDict[bytes, Embedded] = OrderedDict()
        self._lock = threading.Lock()
        self.hits = 0

    @property
    def reserved(self) -> int:
        """Most bytes that it will take."""
        return self._most * self._each

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return len(self._kept) * self._each

    def find(self, texts: list[str]) -> list[Embedded] | None:
        """What was remembered of a single text; many at once are an import, which comes once."""
        if not self._most or len(texts) != 1:
            return None
        key = _key(texts[0])
        with self._lock:
            found = self._kept.get(key)
            if found is None:
                return None
            self._kept.move_to_end(key)
            self.hits += 1
        return [found]

    def keep(self, texts: list[str], made: list[Embedded]) -> list[Embedded]:
        """Remembers what was made of a single text; returns it."""
        if not self._most or len(texts) != 1:
            return made
        (one,) = made
        vector = one.vector.copy()  # its own: a row would keep its batch alive
        vector.flags.writeable = False
        with self._lock:
            self._kept[_key(texts[0])] = Embedded(vector, one.truncated, tokenise=0.0, forward=0.0)
            if len(self._kept) > self._most:
                self._kept.popitem(last=False)
        return made


def _key(text: str) -> bytes:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
