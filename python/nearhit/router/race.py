"""Two calls for one answer: the first with content goes on, the other is cancelled."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING

from nearhit._errors import Error

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from nearhit._types import Chunk
    from nearhit.router.call import Call

    Pieces = AsyncGenerator[Chunk, None]


class Race:
    """A call, and from `delay` on a second one beside it.

    Args:
        lead: The first call.
        run: Starts a call's stream.
        delay: Seconds without content after which the second call starts.
        second: Gives the second call, or None if there is none to be had.

    Attributes:
        winner: The call that goes on; the first one until another has won.
        failed: Calls that have failed, in order.
    """

    def __init__(
        self, lead: Call, run: Callable[[Call], Pieces], *, delay: float, second: Callable[[], Call | None]
    ) -> None:
        self.winner = lead
        self.failed: list[Call] = []
        self._run = run
        self._delay = delay
        self._second = second
        self._running: dict[asyncio.Task[Chunk | None], tuple[Call, Pieces]] = {}

    async def pieces(self) -> AsyncGenerator[Chunk, None]:
        """Yields the winner's pieces; by then every other call has ended.

        Raises:
            TierError: Both have failed; it is the first one's error.
        """
        try:
            pieces, first = await self._first()
        finally:
            await self._give_up()
        async with aclosing(pieces):
            if first is None:
                return
            yield first
            async for chunk in pieces:
                yield chunk

    def _start(self, call: Call) -> None:
        pieces = self._run(call)
        self._running[asyncio.ensure_future(_step(pieces))] = (call, pieces)

    async def _first(self) -> tuple[Pieces, Chunk | None]:
        self._start(self.winner)
        done, _ = await asyncio.wait(self._running, timeout=self._delay)
        if not done and (call := self._second()) is not None:
            self._start(call)
        first_error: Error | None = None
        while self._running:
            done, _ = await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                call, pieces = self._running[task]
                try:
                    first = task.result()
                except Error as error:
                    del self._running[task]
                    self.failed.append(call)
                    first_error = first_error or error
                    continue
                del self._running[task]
                self.winner = call
                return pieces, first
        assert first_error is not None  # noqa: S101 - every call has failed, and there was one
        raise first_error

    async def _give_up(self) -> None:
        """Cancels the calls that go on, and waits until they have ended."""
        rest = dict(self._running)
        self._running.clear()
        for task in rest:
            task.cancel()
        if rest:
            await asyncio.gather(*rest, return_exceptions=True)
            for _, pieces in rest.values():  # one that had come to its content in the same moment is still open
                await pieces.aclose()


async def _step(pieces: Pieces) -> Chunk | None:
    return await anext(pieces, None)
