"""A thread of its own for blocking work, driven step by step from an event loop."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from nearhit.tiers.limits import Slot

T = TypeVar("T")


class Worker:
    """Runs blocking calls one after another in one daemon thread, in the caller's context.

    One thread serves one request from first to last, so that what is bound to a thread (a database connection, a
    generator's locals) stays in it. The thread is a daemon: a call that never returns cannot keep the interpreter
    from ending.

    Args:
        name: Name of the thread.
        slot: Held until the thread has ended.
    """

    def __init__(self, name: str, slot: Slot) -> None:
        self._slot = slot
        self._loop = asyncio.get_running_loop()
        self._jobs: SimpleQueue[tuple[Callable[[], Any], asyncio.Future[Any] | None] | None] = SimpleQueue()
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._main,), name=name, daemon=True)
        slot.hold()
        try:
            self._thread.start()
        except RuntimeError:  # the system gives no more threads
            slot.let_go()
            raise

    async def call(self, function: Callable[[], T]) -> T:
        """Runs a function in the thread and returns its result, or raises what it raised."""
        future: asyncio.Future[T] = self._loop.create_future()
        self._jobs.put((function, future))
        return await future

    def stop(self, last: Callable[[], Any] | None = None) -> None:
        """Ends the thread after what it is doing now, and after `last`; does not wait."""
        if last is not None:
            self._jobs.put((last, None))
        self._jobs.put(None)

    def is_alive(self) -> bool:
        """Whether the thread has not ended yet."""
        return self._thread.is_alive()

    def join(self, seconds: float) -> None:
        """Waits until the thread has ended, or for so long."""
        self._thread.join(seconds)

    def _main(self) -> None:
        while (job := self._jobs.get()) is not None:
            function, future = job
            result: Any = None
            error: BaseException | None = None
            try:
                result = function()
            except StopIteration as stop:  # a future cannot carry it
                error = RuntimeError("StopIteration was raised")
                error.__cause__ = stop
            except BaseException as raised:  # noqa: BLE001 - a SystemExit in here is the caller's to judge
                error = raised
            if future is not None:
                self._report(future, result, error)
            del job, function, future, result, error  # a waiting thread keeps nothing alive
        self._slot.let_go()

    def _report(self, future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
        try:
            self._loop.call_soon_threadsafe(_settle, future, result, error)
        except RuntimeError:
            return  # the loop was closed; nobody waits


def _settle(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
