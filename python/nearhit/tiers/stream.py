"""A streamed answer on its way: limits enforced, times taken, pieces gathered."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Self

from nearhit._errors import TierBusyError, TierError, TierTimeoutError
from nearhit._portal import PortalIterator
from nearhit._types import Chunk
from nearhit.tiers.collect import Collector
from nearhit.tiers.limits import HopelessError, QueueFullError, Slot
from nearhit.tiers.timing import Stopwatch, Timeouts
from nearhit.tiers.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

    from nearhit._portal import Portal
    from nearhit._types import Completion, Timings
    from nearhit.tiers.base import Tier


class AsyncTierStream:
    """The pieces of one answer, as they arrive.

    Nothing is sent before the first piece is asked for. Closing the stream, or leaving its `async with` block, ends
    the work below at once. It is an asynchronous iterator of `Chunk`; the last piece has the finish reason, or the
    token counts where the tier knows them.

    Args:
        tier: The tier that answers.
        open_: Opens the tier's own stream.
        timeouts: Limits of this request.
        priority: Its place in the tier's queue.
        within: Seconds after which its turn is of no use, if that is less than the total limit.
    """

    def __init__(
        self,
        tier: Tier,
        open_: Callable[[Stopwatch, Slot], AsyncGenerator[Chunk, None]],
        timeouts: Timeouts,
        *,
        priority: int = 0,
        within: float | None = None,
    ) -> None:
        self._tier = tier
        self._open = open_
        self._timeouts = timeouts
        self._priority = priority
        self._within = min((limit for limit in (within, timeouts.total) if limit is not None), default=None)
        self._collector = Collector()
        self._watch: Stopwatch | None = None
        self._ended = False
        self._queueing = False
        self._pieces = self._run()

    def __aiter__(self) -> Self:
        return self

    def __anext__(self) -> Awaitable[Chunk]:
        return self._pieces.__anext__()

    async def aclose(self) -> None:
        """Ends the work below; a stream that has ended is left as it is."""
        await self._pieces.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.aclose()

    @property
    def queueing(self) -> bool:
        """True from the first piece asked for until the tier has a slot for it; it stays so where it never had one."""
        return self._queueing

    @property
    def timings(self) -> Timings:
        """Times measured, so far or in full."""
        return (self._watch or Stopwatch()).timings()

    def completion(self) -> Completion:
        """Returns the whole answer, once every piece was taken.

        Raises:
            TierError: The stream has not ended, was closed early or failed: there is no whole answer.
        """
        if not self._ended:
            raise self.incomplete()
        return self._collector.completion(tier=self._tier.name, model=self._tier.model, timings=self.timings)

    def incomplete(self) -> TierError:
        """Returns the error of asking for a whole answer too early."""
        name = self._tier.name
        return TierError(
            f"the answer of tier {name!r} is not complete: take every piece of the stream first", tier=name
        )

    async def _run(self) -> AsyncGenerator[Chunk, None]:
        tier, limits = self._tier, self._timeouts
        tier.refuse_closed()
        watch = self._watch = Stopwatch()
        loop = asyncio.get_running_loop()
        total = None if limits.total is None else loop.time() + limits.total
        self._queueing = True
        slot = await self._take_slot(total)
        self._queueing = False
        watch.admitted()
        dog = Watchdog()
        try:
            tier.refuse_closed()  # it may have been while this request waited for its turn
            phase, limit = "first_token", limits.first_token
            due = None if limit is None else loop.time() + limit
            async with aclosing(self._open(watch, slot)) as pieces:
                while (chunk := await self._next(dog, pieces, phase, due, total)) is not None:
                    watch.piece(chunk)
                    self._collector.add(chunk)
                    yield chunk
                    if phase == "stall" or chunk.has_content:
                        phase, limit = "stall", limits.stall
                        due = None if limit is None else loop.time() + limit
            watch.finish()
            self._ended = True
        finally:
            dog.close()
            watch.finish()
            slot.let_go()

    async def _take_slot(self, total: float | None) -> Slot:
        tier = self._tier
        try:
            async with asyncio.timeout_at(total) as timer:
                return await tier.limiter.take(self._priority, self._within)
        except HopelessError as error:
            raise TierBusyError(
                f"tier {tier.name!r} is busy: {error.ahead} waiting go first, which take {error.seconds:.3g} s,"
                f" where this one has {self._within:.3g} s",
                tier=tier.name,
            ) from None
        except QueueFullError:
            raise TierBusyError(
                f"tier {tier.name!r} is busy: {tier.limiter.slots} requests at work and {tier.limiter.places} waiting",
                tier=tier.name,
            ) from None
        except TimeoutError:
            if not timer.expired():
                raise
            raise TierTimeoutError(
                f"tier {tier.name!r}: no free slot within {self._timeouts.total} s", tier=tier.name, phase="queue"
            ) from None

    async def _next(
        self, dog: Watchdog, pieces: AsyncIterator[Chunk], phase: str, due: float | None, total: float | None
    ) -> Chunk | None:
        """Returns the next piece, or None at the end; raises where a limit passes."""
        if due is None or (total is not None and total < due):
            phase, due = "total", total
        try:
            return await dog.wait(anext(pieces, None), due)
        except TimeoutError as error:
            if not dog.expired:
                raise  # the tier's own, and not ours to explain
            raise self._late(phase) from error

    def _late(self, phase: str) -> TierTimeoutError:
        limit = getattr(self._timeouts, phase)
        what = {
            "first_token": f"no content within {limit} s",
            "stall": f"nothing further for {limit} s after {len(self._collector.text)} characters",
            "total": f"not complete within {limit} s",
        }[phase]
        return TierTimeoutError(f"tier {self._tier.name!r}: {what}", tier=self._tier.name, phase=phase)


class TierStream(PortalIterator[Chunk]):
    """`AsyncTierStream` for callers that are not asynchronous: an iterator of `Chunk`, to be closed or exhausted.

    Args:
        portal: Where the asynchronous stream runs.
        stream: The asynchronous stream, not yet started.
    """

    def __init__(self, portal: Portal, stream: AsyncTierStream) -> None:
        super().__init__(portal, lambda: stream)
        self._stream = stream

    @property
    def timings(self) -> Timings:
        """Times measured, so far or in full."""
        return self._stream.timings

    def completion(self) -> Completion:
        """Returns the whole answer, once every piece was taken.

        Raises:
            TierError: The stream has not ended, was closed early or failed.
        """
        if not self.exhausted:  # the stream below runs ahead of its consumer
            raise self._stream.incomplete()
        return self._stream.completion()
