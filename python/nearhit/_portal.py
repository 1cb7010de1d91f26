"""One private event loop in one daemon thread, on which the synchronous API runs the asynchronous code.

The loop starts with the first call and belongs to the process: after a fork the child starts its own. Each call, and
each iterator, is one task from its first step to its last, made in the caller's context (`contextvars`); an exception
raised there is raised here, and a caller that goes away (an exception such as KeyboardInterrupt, a closed or forgotten
iterator) cancels its task.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from nearhit._errors import Error, ReentrancyError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

T = TypeVar("T")

_CAPACITY = 4
"""Items that an iterator may run ahead of its consumer.

Few, so that a caller who reads slowly or leaves holds the tier back; with 1, every piece would wait for a change of
threads, which triples what a piece costs (13 us to 44 us of processor time).
"""

_CLOSE_SECONDS = 5.0
"""How long closing an iterator, and leaving the interpreter, waits for tasks that do not end when cancelled."""


class _Channel(Generic[T]):
    """The way from one task on the loop to one consumer in another thread."""

    __slots__ = ("_cancelled", "_loop", "_queue", "_room", "_task", "_waiting", "ended")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        # (True, item), (False, exception to raise) or (False, None): the end.
        self._queue: SimpleQueue[tuple[bool, Any]] = SimpleQueue()
        self._task: asyncio.Task[None] | None = None
        self._room: asyncio.Event | None = None
        self._waiting = False
        self._cancelled = False
        self.ended = threading.Event()

    def start(self, body: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            self._loop.call_soon_threadsafe(self._begin, body)
        except RuntimeError:
            raise Error("nearhit's background event loop has stopped: the interpreter is shutting down") from None

    def _begin(self, body: Callable[[], Coroutine[Any, Any, None]]) -> None:
        if self._cancelled:
            self.ended.set()
            return
        self._task = self._loop.create_task(self._guard(body))
        self._task.add_done_callback(self._done)

    def _done(self, _task: asyncio.Task[None]) -> None:
        self.ended.set()

    async def _guard(self, body: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            await body()
            self._queue.put((False, None))
        except asyncio.CancelledError:
            self._queue.put((False, Error("the call was cancelled on nearhit's background event loop")))
            raise
        except BaseException as error:  # noqa: BLE001 - a SystemExit belongs to the caller, not to the loop's thread
            self._queue.put((False, error))

    async def send(self, item: T) -> None:
        """Hands an item over; waits while the consumer is far behind."""
        self._queue.put((True, item))
        if self._queue.qsize() < _CAPACITY:
            return
        self._room = self._room or asyncio.Event()
        self._room.clear()
        self._waiting = True
        # Looked at again after the flag is up: the consumer either sees the flag or has already made room.
        while self._queue.qsize() >= _CAPACITY:
            await self._room.wait()
            self._room.clear()
        self._waiting = False

    def receive(self) -> tuple[bool, Any]:
        """Waits for the next outcome; an interruption of the wait leaves nothing half done."""
        outcome = self._queue.get()
        if self._waiting:
            self._soon(self._make_room)
        return outcome

    def cancel(self) -> None:
        """Cancels the task; from any thread, at any time."""
        self._soon(self._cancel)

    def _make_room(self) -> None:
        if self._room is not None:
            self._room.set()

    def _cancel(self) -> None:
        self._cancelled = True
        if self._task is not None:
            self._task.cancel()

    def _soon(self, callback: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(callback)
        except RuntimeError:
            self.ended.set()  # the loop is closed, and every task with it


class PortalIterator(Generic[T]):
    """A synchronous iterator over an asynchronous one that runs on the portal's loop.

    The asynchronous iterator starts with the first `next`, runs at most four items ahead, and is closed with this one:
    by `close`, at the end of a `with` block, or when nobody holds it any more.

    Attributes:
        exhausted: Whether the consumer has had every item, and the end.
    """

    def __init__(self, portal: Portal, make: Callable[[], AsyncIterator[T]]) -> None:
        self._portal = portal
        self._make = make
        self._channel: _Channel[T] | None = None
        self._finished = False
        self.exhausted = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        if self._finished:
            raise StopIteration
        channel = self._channel
        if channel is None:
            self._portal.refuse_own_thread()
            channel = self._channel = _Channel(self._portal.loop)
            channel.start(partial(_pump, self._make, channel))
        try:
            running, value = channel.receive()
        except BaseException:
            self._finished = True
            channel.cancel()
            raise
        if running:
            return value  # type: ignore[no-any-return]  # the queue carries items and exceptions alike
        self._finished = True
        if value is None:
            self.exhausted = True
            raise StopIteration
        raise value

    def close(self) -> None:
        """Cancels what is still running below, and waits until it has ended (at most five seconds)."""
        if self._cancel() and not self._portal.is_own_thread():
            assert self._channel is not None  # noqa: S101 - there was something to cancel
            self._channel.ended.wait(_CLOSE_SECONDS)

    def _cancel(self) -> bool:
        self._finished = True
        channel = self._channel
        if channel is None or channel.ended.is_set():
            return False
        channel.cancel()
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __del__(self) -> None:
        # Runs wherever the last reference falls, at times in the middle of other code: never waits.
        if getattr(self, "_channel", None) is not None:
            self._cancel()


async def _pump(make: Callable[[], AsyncIterator[T]], channel: _Channel[T]) -> None:
    iterator = make()
    try:
        async for item in iterator:
            await channel.send(item)
    finally:
        close = getattr(iterator, "aclose", None)
        if close is not None:
            await close()


async def _answer(coroutine: Coroutine[Any, Any, T], channel: _Channel[T]) -> None:
    await channel.send(await coroutine)


class Portal:
    """Runs coroutines and asynchronous iterators for callers that are not asynchronous.

    Take the process's one with `portal()`.

    Example:
        >>> async def double(x: int) -> int:
        ...     return 2 * x
        >>> portal().run(double(21))
        42
    """

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._main, name="nearhit-portal", daemon=True)
        self._thread.start()

    def _main(self) -> None:
        loop = self.loop
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
        finally:
            tasks = asyncio.all_tasks(loop)
            for task in tasks:
                task.cancel()
            if tasks:
                loop.run_until_complete(asyncio.wait(tasks, timeout=_CLOSE_SECONDS))
            loop.run_until_complete(loop.shutdown_asyncgens())
            asyncio.set_event_loop(None)
            loop.close()

    def is_own_thread(self) -> bool:
        """Whether the caller runs on the portal's own thread."""
        return threading.get_ident() == self._thread.ident

    def refuse_own_thread(self) -> None:
        """Raises where waiting would wait for itself.

        Raises:
            ReentrancyError: The caller runs on the portal's own thread.
        """
        if self.is_own_thread():
            raise ReentrancyError(
                "a synchronous call from a coroutine that itself runs for a synchronous call would wait for ever: "
                "await the asynchronous method there"
            )

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Runs a coroutine to its end and returns its result.

        Raises:
            ReentrancyError: Called from a coroutine that runs on the portal.
            BaseException: What the coroutine raised.
        """
        channel: _Channel[T] = _Channel(self.loop)
        try:
            self.refuse_own_thread()
            channel.start(partial(_answer, coroutine, channel))
        except Error:
            coroutine.close()  # it will never be awaited
            raise
        try:
            answered, value = channel.receive()
        except BaseException:
            channel.cancel()
            raise
        if answered:
            return value  # type: ignore[no-any-return]  # the queue carries results and exceptions alike
        raise value

    def iterate(self, make: Callable[[], AsyncIterator[T]]) -> PortalIterator[T]:
        """Returns a synchronous iterator over the asynchronous one that `make` returns (called on the loop)."""
        return PortalIterator(self, make)

    def stop(self) -> None:
        """Cancels everything and ends the thread; later calls raise."""
        try:
            self.loop.call_soon_threadsafe(self.loop.stop)
        except RuntimeError:
            return
        if not self.is_own_thread():
            self._thread.join(_CLOSE_SECONDS)


_lock = threading.Lock()
_current: Portal | None = None
_left_behind: list[Portal] = []
"""Portals of the process that this one was forked from.

They are kept, not closed: parent and child share the loop's epoll object, and taking descriptors out of it here would
take them from the parent.
"""


def portal() -> Portal:
    """Returns the process's portal, starting it on first use."""
    global _current  # noqa: PLW0603 - one per process, by design
    if _current is None:
        with _lock:
            if _current is None:
                _current = Portal()
    return _current


def _after_fork() -> None:
    global _current, _lock  # noqa: PLW0603 - the parent's thread and lock holder do not exist here
    _lock = threading.Lock()
    if _current is not None:
        _left_behind.append(_current)
        _current = None


def _at_exit() -> None:
    if _current is not None:
        _current.stop()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)
