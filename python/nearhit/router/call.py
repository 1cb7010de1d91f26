"""One call of one tier: limited by the deadline, measured, and reported to the tier's state exactly once."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from nearhit._errors import DeadlineError, Error, TierError
from nearhit._types import Usage
from nearhit.tiers.base import Tier
from nearhit.tiers.faults import asked_to_wait, harms, late
from nearhit.tiers.replicas import ReplicaTier

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping, Sequence

    from nearhit._core import RouterCore, RouteRequest
    from nearhit._types import Chunk, Message
    from nearhit.router.limits import Limits
    from nearhit.router.profile import Answerer
    from nearhit.trace import Attempt, Trace


class Call:
    """A call that has been let through by the tier's breaker.

    Args:
        core: Where the tier's state is kept.
        index: Number of the tier there.
        tier: The tier.
        request: The request as the core has read it.
        trace: The request's trace.
        why: Why this tier is called: "chosen", "fallback"...
        load: Calls of the tier under way with this one, as `RouterCore.start` said; None for those at its end.
        predicted_cost: US dollars that it may come to.
        avoid: Replicas of the tier that are at work on the request already.

    Attributes:
        index: Number of the tier.
        tier: The tier.
        attempt: The call's record.
        answering: True once content has come.
    """

    def __init__(
        self,
        core: RouterCore,
        index: int,
        tier: Answerer,
        *,
        request: RouteRequest,
        trace: Trace,
        why: str,
        load: int | None = None,
        predicted_cost: float = 0.0,
        avoid: Collection[str] = (),
    ) -> None:
        self.index = index
        self.tier = tier
        self.attempt: Attempt = trace.attempt(tier.name, why, tier.model, getattr(tier, "provider", "nearhit"))
        self.answering = False
        self._core = core
        self._request = request
        self._trace = trace
        self._load = load
        self._predicted_cost = predicted_cost
        self._avoid = avoid
        self._start = time.perf_counter()
        self._pieces = 0
        self._usage: Usage | None = None
        self._queue = 0.0
        self._stream: Any = None

    @property
    def may_cost(self) -> float:
        """US dollars that it has cost or, while it runs, may come to."""
        attempt = self.attempt
        return self._predicted_cost if attempt.outcome == "running" else (attempt.cost or 0.0)

    @property
    def replica(self) -> str | None:
        """Name of the replica that is at work, where the tier has several."""
        return getattr(self._stream, "replica", None)

    async def run(
        self, messages: Sequence[Message], params: Mapping[str, Any], limits: Limits
    ) -> AsyncGenerator[Chunk, None]:
        """Yields the pieces of the answer, from the first one with content on; earlier ones are held back till then.

        Raises:
            DeadlineError: The request's deadline passed.
            TierError: The tier could not answer.
        """
        held_back: list[Chunk] = []
        try:
            self._stream = self._open(messages, params, limits)
            async with aclosing(_closable(self._stream)) as pieces:
                while (chunk := await self._next(pieces, limits)) is not None:
                    self._note(chunk)
                    if not self.answering and not chunk.has_content:
                        held_back.append(chunk)
                        continue
                    self.answering = True
                    for piece in (*held_back, chunk):
                        yield piece
                    held_back.clear()
            for piece in held_back:
                yield piece
        except (asyncio.CancelledError, GeneratorExit):
            self._end("cancelled", None)
            raise
        except Exception as error:
            self._end("failed", error)
            if isinstance(error, Error):
                raise
            name = self.tier.name
            raise TierError(f"tier {name!r} failed: {type(error).__name__}: {error}", tier=name) from error
        self._end("answered", None)

    def _open(self, messages: Sequence[Message], params: Mapping[str, Any], limits: Limits) -> AsyncIterator[Chunk]:
        tier = self.tier
        if not isinstance(tier, Tier):
            return tier.astream(messages, **params)
        options: dict[str, Any] = {"priority": limits.priority, "within": limits.left(self._trace)}
        if isinstance(tier, ReplicaTier):
            options |= {"session": limits.session, "avoid": self._avoid}
        return tier.astream(messages, **options, **params)

    async def _next(self, pieces: AsyncIterator[Chunk], limits: Limits) -> Chunk | None:
        left = limits.left(self._trace)
        try:
            with self._trace.waiting():
                async with asyncio.timeout(left) as timer:
                    return await anext(pieces, None)
        except TimeoutError as error:
            if not timer.expired():
                raise
            raise DeadlineError(
                f"tier {self.tier.name!r} did not {'finish' if self.answering else 'answer'} within the deadline of "
                f"{limits.deadline} s: allow more time or add a faster tier",
                tier=self.tier.name,
            ) from error

    def _note(self, chunk: Chunk) -> None:
        now = time.perf_counter() - self._start
        if self.attempt.ttfb is None:
            self.attempt.ttfb = now
        if chunk.has_content:
            self._pieces += 1
            if self.attempt.ttft is None:
                self.attempt.ttft = now
        if chunk.usage is not None:
            self._usage = chunk.usage

    def _end(self, outcome: str, error: Exception | None) -> None:
        """Writes the attempt's record and tells the tier's state; nothing in here waits."""
        attempt, trace = self.attempt, self._trace
        attempt.duration = time.perf_counter() - self._start
        attempt.outcome = outcome
        attempt.error = None if error is None else f"{type(error).__name__}: {error}"
        attempt.replica = self.replica
        attempt.address, attempt.port = self._address() or (None, None)
        self._account(outcome)
        stage = {"tier": self.tier.name}
        if attempt.why != "chosen":
            stage["why"] = attempt.why
        timings = getattr(self._stream, "timings", None)
        if timings is not None and timings.queue > 0:
            self._queue = timings.queue
            trace.add("queue", attempt.start, timings.queue, **stage)
        if timings is not None and timings.connect is not None:
            trace.add("connect", attempt.start + self._queue, timings.connect, **stage)
        for tried in getattr(self._stream, "failed_replicas", ()):
            trace.add("replica", attempt.start + tried.start, tried.duration, tier=tried.replica, error=tried.error)
        if attempt.ttfb is not None:
            trace.add("ttfb", attempt.start, attempt.ttfb, **stage)
        if attempt.ttft is None:
            trace.add(outcome, attempt.start, attempt.duration, **stage)
        else:
            trace.add("ttft", attempt.start, attempt.ttft, **stage)
            trace.add("decode", attempt.start + attempt.ttft, attempt.duration - attempt.ttft, **stage)
        self._report(outcome, error)

    def _address(self) -> tuple[str, int] | None:
        tier = self.tier
        if isinstance(tier, ReplicaTier) and self.replica is not None:
            return tier.replica(self.replica).address
        return getattr(tier, "address", None)

    def _account(self, outcome: str) -> None:
        """Counts tokens and cost; of a call that was given up they are estimated, for its server bills them."""
        attempt, usage = self.attempt, self._usage
        if usage is None and (outcome == "cancelled" or (outcome == "failed" and self._pieces)):
            usage = Usage(round(self._request.tokens), self._pieces)
            attempt.estimated = True
        attempt.usage = usage
        cost = getattr(self.tier, "cost", None)
        if cost is not None and usage is not None:
            attempt.cost = cost(usage)

    def _report(self, outcome: str, error: Exception | None) -> None:
        attempt, core, load = self.attempt, self._core, self._load
        at = (self.index, self._request.tokens)
        ttft = None if attempt.ttft is None else max(0.0, attempt.ttft - self._queue)
        decode = 0.0 if attempt.ttft is None else attempt.duration - attempt.ttft
        if outcome == "answered":
            output = self._usage.completion_tokens if self._usage is not None else 0
            core.answered(*at, ttft, decode, output or self._pieces, load=load)
        elif outcome == "cancelled" or not harms(error):
            # A refusal tells nothing about latency, a wait that was given up does.
            if ttft is not None and (outcome == "cancelled" or late(error)):
                core.stopped(*at, ttft, decode, self._pieces, load=load)
            else:
                core.cancelled(*at, self._waited() if outcome == "cancelled" or late(error) else None, load=load)
        else:
            core.failed(*at, self._waited() if late(error) else None, load=load)
        if isinstance(error, Error) and (rest := asked_to_wait(error)) is not None:
            self._core.rest(self.index, rest)

    def _waited(self) -> float | None:
        """Seconds that the tier has worked without a first token; None if there was one, or no slot to work in."""
        if self.attempt.ttft is not None or getattr(self._stream, "queueing", False):
            return None
        return max(0.0, self.attempt.duration - self._queue)


async def _closable(stream: AsyncIterator[Chunk]) -> AsyncGenerator[Chunk, None]:
    """Passes a stream on and closes it at the end, where it can be closed."""
    try:
        async for chunk in stream:
            yield chunk
    finally:
        close = getattr(stream, "aclose", None)
        if close is not None:
            await close()
