"""One call of one tier: limited by the deadline, measured, and reported to the tier's state exactly once."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from nearhit._errors import DeadlineError, Error, TierBusyError, TierError, TierStatusError, TierUnsupportedError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence

    from nearhit._core import RouterCore, RouteRequest
    from nearhit._types import Chunk, Message, Usage
    from nearhit.router.limits import Limits
    from nearhit.router.profile import Answerer
    from nearhit.trace import Trace

_CALLERS_FAULT = frozenset({400, 401, 403, 404, 413, 422})
"""Statuses that say nothing about the tier's health: the request, the key or the model's name is wrong."""


class Call:
    """A call that has been let through by the tier's breaker.

    Args:
        core: Where the tier's state is kept.
        index: Number of the tier there.
        tier: The tier.
        request: The request as the core has read it.
        trace: The request's trace.
        why: Why this tier is called: "chosen", "fallback"...

    Attributes:
        committed: True once content has been passed on, so that no other tier may answer any more.
    """

    def __init__(
        self, core: RouterCore, index: int, tier: Answerer, *, request: RouteRequest, trace: Trace, why: str
    ) -> None:
        self._core = core
        self._index = index
        self._tier = tier
        self._request = request
        self._trace = trace
        self._attempt = trace.attempt(tier.name, why)
        self._start = time.perf_counter()
        self._pieces = 0
        self._usage: Usage | None = None
        self._queue = 0.0
        self.committed = False

    async def run(
        self, messages: Sequence[Message], params: Mapping[str, Any], limits: Limits
    ) -> AsyncGenerator[Chunk, None]:
        """Yields the pieces of the answer, from the first one with content on; earlier ones are held back till then.

        Raises:
            DeadlineError: The request's deadline passed.
            TierError: The tier could not answer.
        """
        held_back: list[Chunk] = []
        stream: Any = None
        try:
            stream = self._tier.astream(messages, **params)
            async with aclosing(_closable(stream)) as pieces:
                while (chunk := await self._next(pieces, limits)) is not None:
                    self._note(chunk)
                    if not self.committed and not chunk.has_content:
                        held_back.append(chunk)
                        continue
                    self.committed = True
                    for piece in (*held_back, chunk):
                        yield piece
                    held_back.clear()
            for piece in held_back:
                yield piece
        except (asyncio.CancelledError, GeneratorExit):
            self._end(stream, "cancelled", None)
            raise
        except Exception as error:
            self._end(stream, "failed", error)
            if isinstance(error, Error):
                raise
            name = self._tier.name
            raise TierError(f"tier {name!r} failed: {type(error).__name__}: {error}", tier=name) from error
        self._end(stream, "answered", None)

    async def _next(self, pieces: AsyncIterator[Chunk], limits: Limits) -> Chunk | None:
        start = time.perf_counter()
        left = limits.left(self._trace)
        try:
            async with asyncio.timeout(left) as timer:
                return await anext(pieces, None)
        except TimeoutError as error:
            if not timer.expired():
                raise
            raise DeadlineError(
                f"tier {self._tier.name!r} did not {'finish' if self.committed else 'answer'} within the deadline of "
                f"{limits.deadline} s: allow more time or add a faster tier",
                tier=self._tier.name,
            ) from error
        finally:
            self._trace.waited += time.perf_counter() - start

    def _note(self, chunk: Chunk) -> None:
        now = time.perf_counter() - self._start
        if self._attempt.ttfb is None:
            self._attempt.ttfb = now
        if chunk.has_content:
            self._pieces += 1
            if self._attempt.ttft is None:
                self._attempt.ttft = now
        if chunk.usage is not None:
            self._usage = chunk.usage

    def _end(self, stream: Any, outcome: str, error: Exception | None) -> None:
        """Writes the attempt's record and tells the tier's state; nothing in here waits."""
        attempt, trace = self._attempt, self._trace
        attempt.duration = time.perf_counter() - self._start
        attempt.outcome = outcome
        attempt.usage = self._usage
        attempt.error = None if error is None else f"{type(error).__name__}: {error}"
        cost = getattr(self._tier, "cost", None)
        if cost is not None and self._usage is not None:
            attempt.cost = cost(self._usage)
        name = self._tier.name
        timings = getattr(stream, "timings", None)
        if timings is not None and timings.queue > 0:
            self._queue = timings.queue
            trace.add("queue", attempt.start, timings.queue, tier=name)
        if timings is not None and timings.connect is not None:
            trace.add("connect", attempt.start + self._queue, timings.connect, tier=name)
        if attempt.ttfb is not None:
            trace.add("ttfb", attempt.start, attempt.ttfb, tier=name)
        if attempt.ttft is None:
            trace.add(outcome, attempt.start, attempt.duration, tier=name)
        else:
            trace.add("ttft", attempt.start, attempt.ttft, tier=name)
            trace.add("decode", attempt.start + attempt.ttft, attempt.duration - attempt.ttft, tier=name)
        self._report(outcome, error)

    def _report(self, outcome: str, error: Exception | None) -> None:
        attempt, tokens = self._attempt, self._request.tokens
        waited = None if attempt.ttft is not None else max(0.0, attempt.duration - self._queue)
        if outcome == "answered":
            ttft = None if attempt.ttft is None else max(0.0, attempt.ttft - self._queue)
            output = self._usage.completion_tokens if self._usage is not None else 0
            decode = 0.0 if attempt.ttft is None else attempt.duration - attempt.ttft
            self._core.answered(self._index, tokens, ttft, decode, output or self._pieces)
        elif outcome == "cancelled" or not harms(error):
            # A refusal tells nothing about latency, a wait that was given up does.
            self._core.cancelled(self._index, tokens, waited if outcome == "cancelled" or late(error) else None)
        else:
            self._core.failed(self._index, tokens, waited if late(error) else None)


def harms(error: Exception | None) -> bool:
    """Whether an error counts against the tier's health."""
    if isinstance(error, DeadlineError | TierBusyError | TierUnsupportedError):
        return False
    if isinstance(error, TierStatusError):
        return error.status not in _CALLERS_FAULT
    return isinstance(error, TierError) or not isinstance(error, Error)


def late(error: Exception | None) -> bool:
    """Whether an error means that time ran out."""
    return isinstance(error, TimeoutError)


def final(error: Error) -> bool:
    """Whether no other tier should be asked: the request itself is wrong, or its time is over."""
    if isinstance(error, DeadlineError):
        return True
    if isinstance(error, TierStatusError):
        return error.status in (400, 422)
    return not isinstance(error, TierError)


async def _closable(stream: AsyncIterator[Chunk]) -> AsyncGenerator[Chunk, None]:
    """Passes a stream on and closes it at the end, where it can be closed."""
    try:
        async for chunk in stream:
            yield chunk
    finally:
        close = getattr(stream, "aclose", None)
        if close is not None:
            await close()
