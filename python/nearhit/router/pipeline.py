"""The way of a request: exact, embed, near, decide, tier, store. Read it from top to bottom."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nearhit._errors import Error, NoTierError
from nearhit.router.caching import replay
from nearhit.router.call import Call, final
from nearhit.router.limits import need_of
from nearhit.tiers.collect import Collector
from nearhit.tiers.timing import Stopwatch
from nearhit.trace import Trace

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence

    from nearhit._core import RouterCore, RouteRequest
    from nearhit._types import Chunk, Completion, Message
    from nearhit.router.caching import CacheSide
    from nearhit.router.limits import Limits
    from nearhit.router.profile import Answerer


class Pipeline:
    """One request on its way; `pieces` runs it once.

    Args:
        core: The decision and the tiers' state.
        tiers: The tiers, in the order of the core.
        side: The cache's side, or None.
        request: The request as the core has read it.
        messages: The messages.
        params: The tier's parameters.
        limits: The router's limits.

    Attributes:
        trace: The request's trace.
    """

    def __init__(
        self,
        core: RouterCore,
        tiers: Sequence[Answerer],
        side: CacheSide | None,
        *,
        request: RouteRequest,
        messages: Sequence[Message],
        params: Mapping[str, Any],
        limits: Limits,
    ) -> None:
        self._core = core
        self._tiers = tiers
        self._side = side if limits.cache else None
        self._request = request
        self._messages = messages
        self._params = params
        self._limits = limits
        self._need = need_of(limits, params)
        self._collector = Collector()
        self._watch = Stopwatch()
        self._model = ""
        self._begun = False
        self._asked_cache = self._side is None
        self.trace = Trace()

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
        self.trace.finish(self.trace.outcome)
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
            if self._side is not None and trace.tier != "cache":
                await self._side.store(self._messages, self._params, self._limits, self.completion(), trace)
            trace.finish(trace.outcome)
        finally:
            self._watch.finish()
            trace.finish("error")

    async def _answer(self) -> AsyncGenerator[Chunk, None]:
        trace = self.trace
        if self._side is not None and not self._asked_cache:
            hit = await self._side.look_up(self._messages, self._params, self._limits, trace)
            if hit is not None:
                yield self._replay(hit)
                return
        async with aclosing(self._ask()) as answer:
            async for chunk in answer:
                yield chunk
        trace.outcome = "bypass" if self._side is None else "miss"

    def _replay(self, hit: Any) -> Chunk:
        trace = self.trace
        trace.outcome, trace.tier, trace.similarity = hit.kind, "cache", hit.similarity
        trace.reason = f"{hit.kind} hit with similarity {hit.similarity:.4f}"
        chunk, self._model = replay(hit)
        return chunk

    async def _ask(self) -> AsyncGenerator[Chunk, None]:
        """Decides, calls, and falls back to the next best tier until the first content has been passed on."""
        trace, limits = self.trace, self._limits
        failed: list[int] = []
        first_error: Error | None = None
        while True:
            with trace.span("decide") as attributes:
                try:
                    vector = None if self._side is None else self._side.vector(trace)
                    decision = self._core.decide(
                        self._request, deadline=limits.left(trace), excluded=failed, vector=vector, **self._need
                    )
                except NoTierError as refusal:
                    if first_error is None:
                        raise
                    raise first_error from refusal
                attributes["tier"] = decision.tier
            index, tier = decision.index, self._tiers[decision.index]
            if not self._core.start(index):  # another request took the breaker's one probe in between
                failed.append(index)
                continue
            trace.tier, trace.reason, self._model = tier.name, decision.reason, tier.model
            why = "fallback" if failed else "chosen"
            call = Call(self._core, index, tier, request=self._request, trace=trace, why=why)
            try:
                async with aclosing(call.run(self._messages, self._params, limits)) as pieces:
                    async for chunk in pieces:
                        yield chunk
            except Error as error:
                if call.committed or final(error):
                    raise
                first_error = first_error or error
                failed.append(index)
                continue
            return

    async def run(self) -> Completion:
        """Runs to the end and returns the whole answer; errors as for `pieces`."""
        async with aclosing(self.pieces()) as pieces:
            async for _ in pieces:
                pass
        return self.completion()

    def completion(self) -> Completion:
        """Returns the whole answer, once every piece was taken."""
        whole = self._collector.completion(tier=self.trace.tier, model=self._model, timings=self._watch.timings())
        return replace(whole, trace=self.trace)
