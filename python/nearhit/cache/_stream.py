"""Single-flight for streams: concurrent callers with one key read what one call yields.

Every listener gets every item, from the first on and at its own pace. A plain generator is advanced by whichever
thread needs its next item, so that a slow or departed listener holds up nobody. An async generator runs in a task of
its own, an item at a time as somebody asks for it, so that a listener's cancellation does not reach it. The call is
given up when its last listener has left.

When a call fails, the listener that made it sees the error. Of those that have not passed on anything yet one makes the
next call and the others listen to that; those that have are told that their stream broke off.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from nearhit._errors import StreamBrokenError
from nearhit.cache._lifecycle import renew_in_child

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator, Iterator

_ENDED: Final = object()
_LATE: Final = object()


@dataclass(frozen=True, slots=True)
class _Failed:
    """How a call ended that did not come to its end."""

    error: BaseException

    def told(self) -> BaseException:
        """What a listener in the middle of the stream is told."""
        if isinstance(self.error, Exception):
            return self.error
        broken = StreamBrokenError("the call that this stream came from was interrupted before its end; ask again")
        broken.__cause__ = self.error
        return broken


def _too_late(patience: float) -> StreamBrokenError:
    return StreamBrokenError(f"the call that this stream comes from yielded nothing for {patience:g} s; ask again")


@dataclass(slots=True, eq=False)
class _Call:
    """One call and what it has yielded."""

    source: Any
    news: threading.Condition
    items: list[Any] = field(default_factory=list)
    listeners: int = 0
    outcome: object | None = None
    puller: int | None = None  # the thread that is waiting for the next item


@dataclass(slots=True, eq=False)
class _AsyncCall(_Call):
    loop: asyncio.AbstractEventLoop | None = None
    task: asyncio.Task[None] | None = None
    wanted: int = 0
    demand: asyncio.Event = field(default_factory=asyncio.Event)
    waiters: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = field(default_factory=list)


class _Calls:
    """The calls under way, by key.

    Args:
        patience: Most seconds a listener waits for an item of another one's call.
    """

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self.renew()
        renew_in_child(self)

    def renew(self) -> None:
        """Forgets every call: in a forked child nobody makes them."""
        self._lock = threading.Lock()
        self._open: dict[Any, Any] = {}

    def __len__(self) -> int:
        return len(self._open)

    def _end(self, key: Any, call: _Call, outcome: object) -> None:
        """Settles a call's outcome and makes room for the next one. Under the lock."""
        call.outcome, call.puller = outcome, None
        if self._open.get(key) is call:
            del self._open[key]
        call.news.notify_all()

    def _leave(self, key: Any, call: _Call) -> bool:
        """One listener less; True if it was the last and the call is still under way, to be given up."""
        with self._lock:
            call.listeners -= 1
            last = call.listeners == 0 and call.outcome is None
            if last:
                self._end(key, call, _ENDED)
            return last


class Streams(_Calls):
    """Single-flight for plain generators."""

    def follow(self, key: Any, make: Callable[[], Generator[Any, None, Any]]) -> Iterator[Any]:
        """Yields what `make()` yields, called here or by whoever has called it for this key already."""
        passed_on = 0
        while True:
            call = self._join(key, make)
            try:
                while (outcome := self._advance(key, call, passed_on)) is None:
                    yield call.items[passed_on]
                    passed_on += 1
            finally:
                if self._leave(key, call):
                    call.source.close()
            if isinstance(outcome, _Failed):
                if passed_on:
                    raise outcome.told()
                continue
            if outcome is _LATE:
                if passed_on:
                    raise _too_late(self._patience)
                yield from make()
            return

    def _join(self, key: Any, make: Callable[[], Generator[Any, None, Any]]) -> _Call:
        with self._lock:
            call: _Call | None = self._open.get(key)
            if call is None:
                call = self._open[key] = _Call(make(), threading.Condition(self._lock))
            call.listeners += 1
            return call

    def _advance(self, key: Any, call: _Call, at: int) -> object | None:
        """None once item `at` is there, else why it will not come."""
        until = monotonic() + self._patience
        with self._lock:
            while True:
                if at < len(call.items):
                    return None
                if call.outcome is not None:
                    return call.outcome
                if call.puller is None:
                    call.puller = threading.get_ident()
                    break
                # A call that asks for itself would wait for ever.
                if call.puller == threading.get_ident() or (left := until - monotonic()) <= 0:
                    return _LATE
                call.news.wait(left)
        try:
            item = next(call.source)
        except StopIteration:
            with self._lock:
                self._end(key, call, _ENDED)
            return _ENDED
        except BaseException as error:
            with self._lock:
                self._end(key, call, _Failed(error))
            raise
        with self._lock:
            call.items.append(item)
            call.puller = None
            call.news.notify_all()
        return None


class AsyncStreams(_Calls):
    """Single-flight for async generators, among the tasks of any event loops."""

    async def follow(self, key: Any, make: Callable[[], AsyncGenerator[Any, None]]) -> AsyncGenerator[Any, None]:
        """Yields what `make()` yields, called here or by whoever has called it for this key already."""
        passed_on = 0
        while True:
            call, leads = self._join(key, make)
            try:
                while (outcome := await self._advance(key, call, passed_on, leads=leads)) is None:
                    yield call.items[passed_on]
                    passed_on += 1
            finally:
                if self._leave(key, call):
                    await self._give_up(call)
            if isinstance(outcome, _Failed):
                if leads:
                    raise outcome.error
                if passed_on:
                    raise outcome.told()
                continue
            if outcome is _LATE:
                if passed_on:
                    raise _too_late(self._patience)
                async with aclosing(make()) as own:
                    async for item in own:
                        yield item
            return

    def _join(self, key: Any, make: Callable[[], AsyncGenerator[Any, None]]) -> tuple[_AsyncCall, bool]:
        """The call for this key, and whether it was begun just now."""
        with self._lock:
            call: _AsyncCall | None = self._open.get(key)
            leads = call is None
            if call is None:
                loop = asyncio.get_running_loop()
                call = self._open[key] = _AsyncCall(make(), threading.Condition(self._lock), loop=loop)
                call.task = loop.create_task(self._run(call))
                call.task.add_done_callback(partial(self._over, key, call))
            call.listeners += 1
            return call, leads

    async def _run(self, call: _AsyncCall) -> None:
        """Makes the call: takes an item from it whenever one is wanted that is not there."""
        async with aclosing(call.source) as source:
            while True:
                while call.wanted <= len(call.items):
                    call.demand.clear()
                    await call.demand.wait()
                try:
                    item = await anext(source)
                except StopAsyncIteration:
                    return
                with self._lock:
                    call.items.append(item)
                    self._wake(call)

    def _over(self, key: Any, call: _AsyncCall, task: asyncio.Task[None]) -> None:
        """Takes down how a call ended."""
        error: BaseException | None = asyncio.CancelledError() if task.cancelled() else task.exception()
        with self._lock:
            if call.outcome is None:
                self._end(key, call, _ENDED if error is None else _Failed(error))
            self._wake(call)

    def _wake(self, call: _AsyncCall) -> None:
        """Tells every waiting listener to look again. Under the lock."""
        waiters, call.waiters = call.waiters, []
        for loop, waiter in waiters:
            with suppress(RuntimeError):  # its loop has been closed, and the listener with it
                if loop is call.loop:
                    _settle(waiter)
                else:
                    loop.call_soon_threadsafe(_settle, waiter)

    async def _advance(self, key: Any, call: _AsyncCall, at: int, *, leads: bool) -> object | None:
        """None once item `at` is there, else why it will not come."""
        here = asyncio.get_running_loop()
        deadline = None if leads else here.time() + self._patience
        if call.task is asyncio.current_task():
            return _LATE  # a call that asks for itself would wait for ever
        while True:
            with self._lock:
                if at < len(call.items):
                    return None
                if call.outcome is not None:
                    return call.outcome
                waiter = here.create_future()
                call.waiters.append((here, waiter))
                call.wanted = max(call.wanted, at + 1)
            try:
                if here is call.loop:
                    call.demand.set()
                elif call.loop is not None:
                    call.loop.call_soon_threadsafe(call.demand.set)
            except RuntimeError as error:  # the event loop that made the call has been closed under it
                with self._lock:
                    self._end(key, call, _Failed(error))
                    self._wake(call)
                continue
            try:
                async with asyncio.timeout_at(deadline):
                    await waiter
            except TimeoutError:
                return _LATE

    async def _give_up(self, call: _AsyncCall) -> None:
        """Cancels a call that nobody listens to, and sees it end where that is possible."""
        if call.task is None or call.loop is None:
            return
        if call.loop is asyncio.get_running_loop():
            call.task.cancel()
            await asyncio.wait({call.task}, timeout=self._patience)
        else:
            with suppress(RuntimeError):
                call.loop.call_soon_threadsafe(call.task.cancel)


def _settle(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
