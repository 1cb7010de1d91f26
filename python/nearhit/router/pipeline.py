"""The way of a request: exact, embed, near, the tiers, store. Read it from top to bottom."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nearhit.router.ask import Asking
from nearhit.router.caching import replay
from nearhit.tiers.collect import Collector
from nearhit.tiers.timing import Stopwatch
from nearhit.trace import Trace

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping, Sequence

    from nearhit._core import RouteRequest
    from nearhit._types import Chunk, Completion, Message
    from nearhit.router.ask import Means
    from nearhit.router.caching import CacheSide
    from nearhit.router.limits import Limits


class Pipeline:
    """One request on its way; `pieces` runs it once.

    Args:
        means: What to answer with.
        side: The cache's side, or None.
        request: The request as the core has read it.
        messages: The messages.
        params: The tier's parameters.
        limits: The request's limits.
        on_trace: Told of the trace once the request has ended.

    Attributes:
        trace: The request's trace.
    """

    def __init__(
        self,
        means: Means,
        side: CacheSide | None,
        *,
        request: RouteRequest,
        messages: Sequence[Message],
        params: Mapping[str, Any],
        limits: Limits,
        on_trace: Callable[[Trace], object] | None = None,
    ) -> None:
        self._side = side if limits.cache else None
        self._messages = messages
        self._params = params
        self._limits = limits
        self._on_trace = on_trace
        self._collector = Collector()
        self._watch = Stopwatch()
        self._cached_model = ""
        self._begun = False
        self._asked_cache = self._side is None
        self.trace = Trace()
        self._asking = Asking(
            means,
            request=request,
            messages=messages,
            params=params,
            limits=limits,
            trace=self.trace,
            vector=lambda embedder: None if self._side is None else self._side.vector(self.trace, embedder),
        )

    def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            self.trace.begin()
            self._watch = Stopwatch()

    def from_cache(self) -> Completion | None:
        """Answers from the cache on the caller's own thread, so that a hit waits for no other one.

        Returns:
            The whole answer; None on a miss, and where the cache cannot be asked so: `run` goes on from there.
        """
        if self._side is None or not self._side.direct:
            return None
        self._begin()
        hit = self._side.look_up_directly(self._messages, self._params, self._limits, self.trace)
        self._asked_cache = True
        if hit is None:
            return None
        chunk = self._replay(hit)
        self._watch.piece(chunk)
        self._collector.add(chunk)
        self._watch.finish()
        self._finish(self.trace.outcome)
        return self.completion()

    async def pieces(self) -> AsyncGenerator[Chunk, None]:
        """Yields the pieces of the answer.

        Raises:
            NoTierError: No tier can take the request.
            DeadlineError: None did in time.
            TierError: What the first tier raised, where every tier tried has failed.
        """
        trace = self.trace
        self._begin()
        try:
            async with aclosing(self._answer()) as answer:
                async for chunk in answer:
                    self._watch.piece(chunk)
                    self._collector.add(chunk)
                    before = trace.elapsed
                    yield chunk
                    trace.held += trace.elapsed - before
            self._watch.finish()
            if self._side is not None and trace.tier != "cache" and self._asking.sure:
                await self._side.store(self._messages, self._params, self._limits, self.completion(), trace)
            self._finish(trace.outcome)
        except BaseException as error:
            trace.error = trace.error or type(error).__name__
            raise
        finally:
            self._watch.finish()
            self._finish("error")

    def _finish(self, outcome: str) -> None:
        trace = self.trace
        if trace.finished:
            return
        trace.finish_reason = self._collector.finish_reason
        trace.finish(outcome)
        if self._on_trace is not None:
            try:
                self._on_trace(trace)
            except Exception as error:  # noqa: BLE001 - who only watches must not fail a request
                trace.notes.append(f"on_trace failed: {type(error).__name__}: {error}")

    async def _answer(self) -> AsyncGenerator[Chunk, None]:
        trace = self.trace
        if self._side is not None and not self._asked_cache:
            hit = await self._side.look_up(self._messages, self._params, self._limits, trace)
            if hit is not None:
                yield self._replay(hit)
                return
        async with aclosing(self._asking.pieces()) as answer:
            async for chunk in answer:
                yield chunk
        trace.outcome = "bypass" if self._side is None else "miss"

    def _replay(self, hit: Any) -> Chunk:
        trace = self.trace
        trace.outcome, trace.tier, trace.similarity = hit.kind, "cache", hit.similarity
        trace.reason = f"{hit.kind} hit with similarity {hit.similarity:.4f}"
        chunk, self._cached_model = replay(hit)
        return chunk

    async def run(self) -> Completion:
        """Runs to the end and returns the whole answer; errors as for `pieces`."""
        async with aclosing(self.pieces()) as pieces:
            async for _ in pieces:
                pass
        return self.completion()

    def completion(self) -> Completion:
        """Returns the whole answer, once every piece was taken."""
        model = self._cached_model if self.trace.tier == "cache" else self._asking.model
        whole = self._collector.completion(tier=self.trace.tier, model=model, timings=self._watch.timings())
        return replace(whole, trace=self.trace)
