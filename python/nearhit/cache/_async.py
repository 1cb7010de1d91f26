"""The cache for asynchronous code: the same methods, awaitable; embedding runs off the event loop."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self, TypeVar

from nearhit._core import Hit
from nearhit.cache._base import CacheBase, store_options
from nearhit.cache._memoize import MemoizeMixin
from nearhit.cache.portable import export, read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from os import PathLike

    from nearhit._types import Prompt
    from nearhit.cache._records import Explanation, Judgement, Lookup, Stats

T = TypeVar("T")


class AsyncCache(MemoizeMixin, CacheBase):
    """`Cache` for asyncio: see there for the options and for what each method does.

    Everything but embedding takes microseconds and runs in place; texts are embedded in a worker thread.

    Example:
        >>> import asyncio
        >>> async def main() -> str:
        ...     cache = AsyncCache()
        ...     await cache.store("What is 2 + 2?", "4")
        ...     hit = await cache.lookup("What is 2 + 2?")
        ...     return hit.response
        >>> asyncio.run(main())
        '4'
    """

    async def lookup(
        self, prompt: Prompt, *, scope: Any = None, threshold: float | None = None, vector: Any = None
    ) -> Hit | None:
        """See `Cache.lookup`."""
        if vector is None and self._ask is not None:
            found = self._ask(prompt, scope, threshold, True)  # only what need not be embedded: it takes microseconds
            if found is None or isinstance(found, Hit):
                return found
        else:
            found = self._find(prompt, scope)
            if isinstance(found, Hit):
                self._core.threshold(threshold)
                return found
        return (await self._await_plan(self._near(found, threshold, vector, {}))).hit

    async def lookup_traced(
        self, prompt: Prompt, *, scope: Any = None, threshold: float | None = None, vector: Any = None
    ) -> Lookup:
        """See `Cache.lookup_traced`."""
        return await self._await_plan(self._lookup(prompt, scope, threshold, vector))

    async def explain(
        self, prompt: Prompt, *, scope: Any = None, threshold: float | None = None, vector: Any = None, k: int = 10
    ) -> Explanation:
        """See `Cache.explain`."""
        return await self._await_plan(self._explain(prompt, scope, threshold, vector, k))

    async def store(
        self,
        prompt: Prompt | Lookup,
        response: Any,
        *,
        scope: Any = None,
        ttl: float | None = None,
        tags: Iterable[str] = (),
        cost: float | None = None,
        vector: Any = None,
        model: str | None = None,
        tokens: tuple[int, int] | None = None,
    ) -> str:
        """See `Cache.store`."""
        options = store_options(ttl=ttl, tags=tags, cost=cost, model=model, tokens=tokens)
        plan = self._store(prompt, response, scope, vector, options)
        if self._waits_for_disk:
            return await asyncio.to_thread(self._run_plan, plan)
        return await self._await_plan(plan)

    async def invalidate(
        self,
        *,
        id: str | None = None,  # noqa: A002 - the name users know from everywhere else
        tag: str | None = None,
        scope: Any = None,
        older_than: float | None = None,
        prompt: Prompt | None = None,
    ) -> int:
        """See `Cache.invalidate`."""
        return await self._off_loop(self._invalidate, id, tag, scope, older_than, prompt)

    async def stats(self) -> Stats:
        """See `Cache.stats`."""
        return self._stats()

    async def clear(self) -> None:
        """See `Cache.clear`."""
        await self._off_loop(self._clear)

    async def feedback(self, hit: Hit, correct: bool) -> None:  # noqa: FBT001 - the contract's signature reads well
        """See `Cache.feedback`."""
        await self._off_loop(self._feedback, hit, correct)

    async def judgements(self) -> list[Judgement]:
        """See `Cache.judgements`."""
        return self._judgements()

    async def reembed(self, *, progress: Callable[[int, int], None] | None = None) -> int:
        """See `Cache.reembed`."""
        return await self._await_plan(self._reembed(progress))

    async def flush(self) -> None:
        """See `Cache.flush`."""
        await asyncio.to_thread(self._flush)

    async def close(self) -> None:
        """See `Cache.close`."""
        await asyncio.to_thread(self._close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def export(self, path: str | PathLike[str]) -> int:
        """See `Cache.export`."""
        return await asyncio.to_thread(export, self._core, path)

    async def import_(self, path: str | PathLike[str], *, progress: Callable[[int], None] | None = None) -> int:
        """See `Cache.import_`."""
        return await self._await_plan(self._import(read(path), progress))

    async def _off_loop(self, call: Callable[..., T], *args: Any) -> T:
        """Calls in place, or in a worker thread if the call may wait for the disk or for a server."""
        return await asyncio.to_thread(call, *args) if self._blocks else call(*args)
