"""The way between the callers' threads and the I/O thread: many errands cross in one wake-up.

An errand is made by a caller, carried out on the I/O thread, and waited for in place or awaited, in either case no
longer than its deadline.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from abc import ABC, abstractmethod
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class Mailbox:
    """Calls on their way to one loop. Posting costs a wake-up only if the loop has none pending."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._calls: deque[Callable[[], None]] = deque()
        self._woken = False

    def post(self, call: Callable[[], None]) -> None:
        """Has `call` run on the loop; from any thread. Forgotten if the loop has been closed."""
        self._calls.append(call)
        if not self._woken:
            self._woken = True
            try:
                self._loop.call_soon_threadsafe(self._drain)
            except RuntimeError:
                self._calls.clear()

    def _drain(self) -> None:
        self._woken = False  # first: what is posted from here on wakes the loop again
        calls = self._calls
        while calls:
            calls.popleft()()


_boxes: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Mailbox] = weakref.WeakKeyDictionary()


def mailbox(loop: asyncio.AbstractEventLoop) -> Mailbox:
    """The mailbox of a loop."""
    box = _boxes.get(loop)
    if box is None:
        box = _boxes[loop] = Mailbox(loop)
    return box


class Awaited(ABC, Generic[T]):
    """Something that the I/O thread does for a caller, who waits for it a bounded time.

    Args:
        box: The I/O thread's mailbox.
        seconds: How long the caller waits.
        missed: Called on the I/O thread if the caller stopped waiting.
    """

    __slots__ = ("_box", "_deliver", "_missed", "_seconds", "_value", "finished")

    def __init__(self, box: Mailbox, seconds: float, missed: Callable[[], None] | None = None) -> None:
        self._box = box
        self._seconds = seconds
        self._missed = missed
        self._value: T | None = None
        self._deliver: Callable[[], None] | None = None
        self.finished = False

    @abstractmethod
    def _start(self) -> None:
        """Starts it, on the I/O thread; `finish` is called when it is done."""

    def finish(self, value: T | None) -> None:
        """Ends it; on the I/O thread. Only the first call counts."""
        if not self.finished:
            self._value, self.finished = value, True
            if self._deliver is not None:
                self._deliver()

    def wait(self) -> T | None:
        """Waits in place; None if the time was over first."""
        done = threading.Lock()
        done.acquire()
        self._deliver = done.release
        self._box.post(self._start)
        if not done.acquire(timeout=self._seconds):
            return self._give_up()
        return self._value

    async def wait_async(self) -> T | None:
        """Waits on the caller's own loop; None if the time was over first."""
        loop = asyncio.get_running_loop()
        home = mailbox(loop)
        future: asyncio.Future[None] = loop.create_future()

        def wake() -> None:
            if not future.done():
                future.set_result(None)

        self._deliver = lambda: home.post(wake)
        timer = loop.call_later(self._seconds, wake)
        self._box.post(self._start)
        try:
            await future
        finally:
            timer.cancel()
        return self._value if self.finished else self._give_up()

    def _give_up(self) -> T | None:
        if self._missed is not None:
            self._box.post(self._missed)
        return cast("T | None", None)


class Errand(Awaited[T]):
    """What a function starts.

    Args:
        box: The I/O thread's mailbox.
        begin: Starts it, on the I/O thread; it calls `finish` when it is done.
        seconds: How long the caller waits.
    """

    __slots__ = ("_begin",)

    def __init__(self, box: Mailbox, begin: Callable[[Errand[T]], None], seconds: float) -> None:
        super().__init__(box, seconds)
        self._begin = begin

    def _start(self) -> None:
        self._begin(self)
