"""Where a cache's vectors come from: what the core remembers or makes itself, else the embedder.

The core remembers the texts that were embedded last, whoever embedded them. With the native embedder it also makes
their vectors, and has callers with one text wait for one vector; for every other embedder that happens here.
"""

from __future__ import annotations

import asyncio
import sys
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from nearhit._bound import Bound, call_within, current_bound
from nearhit.cache._embedding import Embedded, embed
from nearhit.cache._flight import Flights

if TYPE_CHECKING:
    from collections.abc import Callable

    from nearhit._core import CacheCore, NativeEncoder, Near, Request
    from nearhit._types import Embedder
    from nearhit.embed import NativeEmbedder

T = TypeVar("T")

_PATIENCE: Final = 10.0  # seconds a caller waits for another one's vector before it embeds for itself
_RECALL: Final = True  # `CacheCore`: only what is remembered, in microseconds
_METHODS: Final = ("embed", "encode")


def native_encoder(embedder: Embedder | None) -> NativeEncoder | None:
    """The core's encoder behind an embedder, if nothing in Python stands between it and the texts."""
    module = sys.modules.get("nearhit.embed.native")  # whoever has made a native embedder has loaded it
    if module is None or type(embedder) is not module.NativeEmbedder or not vars(embedder).keys().isdisjoint(_METHODS):
        return None
    return cast("NativeEmbedder", embedder).encoder


class Vectors:
    """Vectors of texts for one cache. Safe to use from many threads and event loops.

    Args:
        core: The cache.
        embedder: Its embedder; None if there is none, and then nobody asks.
        native: Whether the core embeds by itself.
        remembers: Whether the core remembers vectors; if not, every call embeds.
    """

    def __init__(self, core: CacheCore, embedder: Embedder | None, *, native: bool, remembers: bool) -> None:
        self._core = core
        self._embedder = embedder
        self._native = native
        self._flights = Flights(_PATIENCE) if remembers and not native else None

    def now(self, texts: list[str]) -> list[Embedded]:
        """The texts' vectors, made in place. Many at once are an import, which comes once: they are not remembered."""
        text = _single(texts)
        if text is not None and self._native:
            return [self._by_core(text)]
        if text is None or self._flights is None:
            return embed(self._by(), texts)
        if found := self._core.vector_of(text, _RECALL):
            return [Embedded(*found)]
        started, own = perf_counter(), list[Embedded]()
        made = self._flights.run(text, partial(self._make, text, own), _patience())
        return own or [self._awaited(text, made, started)]

    async def soon(self, texts: list[str]) -> list[Embedded]:
        """`now`, with what takes long in a worker thread."""
        text = _single(texts)
        if text is not None and (found := self._core.vector_of(text, _RECALL)):
            return [Embedded(*found)]
        if text is not None and self._native:
            return [await asyncio.to_thread(self._by_core, text)]
        if text is None or self._flights is None:
            return await _off_loop(embed, self._by(), texts)
        started, own = perf_counter(), list[Embedded]()
        made = await self._flights.run_async(text, partial(_off_loop, self._make, text, own), _patience())
        return own or [self._awaited(text, made, started)]

    def _by_core(self, text: str) -> Embedded:
        found = self._core.vector_of(text)
        assert found is not None  # noqa: S101 - only a core without an encoder says None
        return Embedded(*found)

    def _make(self, text: str, own: list[Embedded]) -> Embedded:
        """Embeds a text for whoever waits for it; `own` tells the one that did."""
        (made,) = embed(self._by(), [text])
        self._core.remember(text, made.vector, made.truncated)
        vector = made.vector.view()
        vector.flags.writeable = False  # it goes to everybody who waits
        made = made._replace(vector=vector)
        own.append(made)
        return made

    def _awaited(self, text: str, made: Embedded, started: float) -> Embedded:
        """What another caller has made; the core counts that it was not made twice."""
        self._core.vector_of(text, _RECALL)
        return made._replace(tokenise=0.0, forward=perf_counter() - started)

    def _by(self) -> Embedder:
        assert self._embedder is not None  # noqa: S101 - a plan asks for vectors only if there is an embedder
        return self._embedder


class Seek:
    """The part of a lookup after the exact map had nothing, in one call of a core that embeds by itself.

    Args:
        core: The cache.
        request: What is looked up.
        threshold: Least similarity, where it is stricter than the cache's.
    """

    __slots__ = ("_core", "_request", "_threshold")

    def __init__(self, core: CacheCore, request: Request, threshold: float | None) -> None:
        self._core = core
        self._request = request
        self._threshold = threshold

    def wait(self) -> Near:
        """Embeds, searches and judges in place."""
        near = self._core.seek(self._request, self._threshold)
        assert near is not None  # noqa: S101 - only a core without an encoder says None
        return near

    async def wait_async(self) -> Near:
        """`wait`, in a worker thread if the text has to be embedded."""
        near = self._core.seek(self._request, self._threshold, _RECALL)
        return await asyncio.to_thread(self.wait) if near is None else near


async def _off_loop(call: Callable[..., T], *args: Any) -> T:
    """Calls in a worker thread; when the caller is cancelled, its texts leave the embedder's queue."""
    bound = Bound(outer=current_bound())
    try:
        return await asyncio.to_thread(call_within, bound, call, *args)
    except asyncio.CancelledError:
        bound.call_off()
        raise


def _patience() -> float:
    """Seconds to wait for another caller: no more than the request has left."""
    left = current_bound().left
    return _PATIENCE if left is None else min(left, _PATIENCE)


def _single(texts: list[str]) -> str | None:
    return texts[0] if len(texts) == 1 else None
