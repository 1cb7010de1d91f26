"""Single-flight: of concurrent callers with one key, one makes the call and the others wait for it.

Threads and tasks of any event loop can wait for each other. When the leader fails or is cancelled, exactly one
waiter takes the lead; the others go on waiting. A waiter that has waited long enough makes its own call, and so does a
leader whose call asks for itself.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from nearhit.cache._lifecycle import renew_in_child

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_LEAD: Final = object()
_OWN: Final = object()


@dataclass(slots=True, eq=False)
class _Flight:
    leader: object  # a thread's number or a task
    waiters: deque[Future[Any]] = field(default_factory=deque)


@dataclass(frozen=True, slots=True)
class _Landed:
    value: Any


class Flights:
    """The calls under way.

    Args:
        patience: Most seconds a caller waits for another one's call before it makes its own.
    """

    def __init__(self, patience: float = 60.0) -> None:
        self._patience = patience
        self.renew()
        renew_in_child(self)

    def renew(self) -> None:
        """Forgets every call: in a forked child nobody makes them."""
        self._lock = threading.Lock()
        self._open: dict[Any, _Flight] = {}

    def __len__(self) -> int:
        return len(self._open)

    def run(self, key: Any, call: Callable[[], Any], patience: float | None = None) -> Any:
        """The value of `call()`, made here or by whoever is making it for this key already.

        Args:
            key: What the call is for.
            call: Makes the value.
            patience: As in the constructor, for this caller; None for that.
        """
        me = threading.get_ident()
        waiter = self._board(key, me)
        if waiter is _OWN:
            return call()
        if isinstance(waiter, Future):
            try:
                outcome = waiter.result(self._patience if patience is None else patience)
            except FutureTimeoutError:
                self._give_up(key, waiter)
                return call()
            except BaseException:  # an interrupt while waiting must not leave the lead with us
                self._give_up(key, waiter)
                raise
            if outcome is not _LEAD:
                return outcome.value
            self._lead(key, me)
        try:
            value = call()
        except BaseException:
            self._pass_on(key)
            raise
        self._land(key, value)
        return value

    async def run_async(self, key: Any, call: Callable[[], Awaitable[Any]], patience: float | None = None) -> Any:
        """Like `run`, for a coroutine function; only the calling task waits."""
        me = asyncio.current_task()
        waiter = self._board(key, me)
        if waiter is _OWN:
            return await call()
        if isinstance(waiter, Future):
            try:
                waits = self._patience if patience is None else patience
                outcome = await asyncio.wait_for(asyncio.wrap_future(waiter), waits)
            except TimeoutError:
                self._give_up(key, waiter)
                return await call()
            except BaseException:
                self._give_up(key, waiter)
                raise
            if outcome is not _LEAD:
                return outcome.value
            self._lead(key, me)
        try:
            value = await call()
        except BaseException:
            self._pass_on(key)
            raise
        self._land(key, value)
        return value

    def _board(self, key: Any, me: object) -> Future[Any] | object | None:
        """None for the leader, `_OWN` for a call that the leader makes on its way, else what to wait for."""
        with self._lock:
            flight = self._open.get(key)
            if flight is None:
                self._open[key] = _Flight(me)
                return None
            if flight.leader == me:
                return _OWN
            waiter: Future[Any] = Future()
            flight.waiters.append(waiter)
            return waiter

    def _lead(self, key: Any, me: object) -> None:
        """Takes down who has been given the lead."""
        with self._lock:
            self._open[key].leader = me

    def _land(self, key: Any, value: Any) -> None:
        with self._lock:
            flight = self._open.pop(key)
        for waiter in flight.waiters:
            if waiter.set_running_or_notify_cancel():
                waiter.set_result(_Landed(value))

    def _pass_on(self, key: Any) -> None:
        """Gives the lead to the first waiter that is still there, or closes the flight."""
        while True:
            with self._lock:
                flight = self._open[key]
                if not flight.waiters:
                    del self._open[key]
                    return
                flight.leader = None
                waiter = flight.waiters.popleft()
            if waiter.set_running_or_notify_cancel():
                waiter.set_result(_LEAD)
                return

    def _give_up(self, key: Any, waiter: Future[Any]) -> None:
        """Stops waiting; a lead that arrived at the same moment goes to the next one."""
        with self._lock:
            flight = self._open.get(key)
            if flight is not None:
                with suppress(ValueError):
                    flight.waiters.remove(waiter)
        if not waiter.cancel() and waiter.done() and not waiter.cancelled() and waiter.result() is _LEAD:
            self._pass_on(key)
