"""One timer for a whole stream."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from typing import TypeVar

    T = TypeVar("T")


class Watchdog:
    """Limits each wait of a stream, at the cost of one timer that looks after all of them.

    `asyncio.timeout` makes and cancels a timer for every wait, 5 us a piece of the stream; here a wait only notes when
    it is due, and the timer, when it fires, sleeps on until then.

    Attributes:
        expired: Whether the last wait ran out of time.
    """

    __slots__ = ("_due", "_loop", "_task", "_timer", "expired")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._due: float | None = None
        self._task: asyncio.Task[object] | None = None
        self.expired = False

    def close(self) -> None:
        """Puts the timer away."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def wait(self, awaitable: Awaitable[T], due: float | None) -> T:
        """Awaits something until `due`, in the event loop's time; None for as long as it takes.

        Raises:
            TimeoutError: The time has come; what was awaited has been cancelled.
        """
        if due is None:
            return await awaitable
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine of asyncio runs in a task
        before = task.cancelling()
        self._due, self._task, self.expired = due, task, False
        if self._timer is None or self._timer.when() > due:
            self._arm(due)
        try:
            return await awaitable
        except asyncio.CancelledError as error:
            # Ours alone: somebody else's cancellation, if there is one too, goes first.
            if self.expired and task.uncancel() <= before:
                raise TimeoutError from error
            raise
        finally:
            self._due = self._task = None

    def _arm(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(when, self._fire)

    def _fire(self) -> None:
        self._timer = None
        if self._due is None or self._task is None:
            return  # nobody waits now; the next wait arms it again
        if self._loop.time() < self._due:
            self._arm(self._due)
            return
        self.expired = True
        self._task.cancel()
