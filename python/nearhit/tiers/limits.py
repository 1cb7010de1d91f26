"""How many requests a tier works on at once, how many may wait, and who is refused at the door."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from contextlib import suppress
from time import monotonic
from typing import Final

from nearhit.tiers.options import check_whole

_SHARE: Final = 0.2
"""Weight of the newest of the times for which slots were held."""

_ENOUGH: Final = 4
"""Times that have to be known before anybody is refused because of them."""


class QueueFullError(Exception):
    """Every slot and every waiting place is taken."""


class HopelessError(QueueFullError):
    """Its turn would come too late.

    Args:
        ahead: Requests that would go first.
        seconds: Seconds that these alone take.
    """

    def __init__(self, ahead: int, seconds: float) -> None:
        super().__init__(ahead, seconds)
        self.ahead = ahead
        self.seconds = seconds


class Limiter:
    """Slots with a bounded queue, shared by all threads and event loops.

    Higher priorities go first; of equal ones, who came first. Who could not have his turn in time, even if all requests
    at work ended now, does not wait for it: how long slots are held is learned.

    Args:
        slots: Requests at once; None for no limit.
        places: Requests that may wait for a slot; None for no limit. With 0 a request that finds no free slot is
            refused at once.

    Raises:
        OptionError: `slots` below 1 or `places` below 0.
    """

    def __init__(self, slots: int | None = None, places: int | None = None) -> None:
        check_whole("max_concurrency", slots, least=1)
        check_whole("max_queue", places, least=0)
        self.slots = slots
        self.places = places
        self._active = 0
        self._waiting: deque[_Waiter] = deque()
        self._held = 0.0  # seconds, about
        self._known = 0
        self._lock = threading.Lock()

    @property
    def active(self) -> int:
        """Slots in use."""
        return self._active

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._waiting)

    async def take(self, priority: int = 0, within: float | None = None) -> Slot:
        """Takes a slot as `acquire` does, and returns it."""
        await self.acquire(priority, within)
        return Slot(self)

    async def acquire(self, priority: int = 0, within: float | None = None) -> None:
        """Takes a slot, waiting in the queue if there is room, or if somebody of a lower priority can make room.

        Args:
            priority: Its place in the queue.
            within: Seconds after which the slot is of no use; None for any time.

        Raises:
            QueueFullError: No slot and no place in the queue, or the place was given away; nothing was taken.
            HopelessError: Those ahead in the queue alone take longer than `within`.
        """
        waiter = self._enter(priority, within)
        if waiter is None:
            return
        try:
            await waiter.future
        except BaseException:
            with self._lock:
                granted = waiter not in self._waiting and not waiter.displaced
                if waiter in self._waiting:
                    self._waiting.remove(waiter)
            if granted:  # between being handed the slot and waking up: pass it on
                self.release()
            raise

    def _enter(self, priority: int, within: float | None) -> _Waiter | None:
        with self._lock:
            if self.slots is None or (self._active < self.slots and not self._waiting):
                self._active += 1
                return None
            place = len(self._waiting)
            while place > 0 and self._waiting[place - 1].priority < priority:
                place -= 1
            seconds = place * self._held / self.slots
            if within is not None and self._known >= _ENOUGH and seconds >= within:
                raise HopelessError(place, seconds)
            if self.places is not None and len(self._waiting) >= self.places:
                if not self._waiting or self._waiting[-1].priority >= priority:
                    raise QueueFullError
                self._waiting.pop().displace()
            waiter = _Waiter(asyncio.get_running_loop(), priority)
            self._waiting.insert(place, waiter)
            return waiter

    def release(self, held: float | None = None) -> None:
        """Gives a slot back, to the first request in the queue if there is one.

        Args:
            held: Seconds for which it was held.
        """
        with self._lock:
            if held is not None:
                self._held += (held - self._held) * (_SHARE if self._known else 1.0)
                self._known += 1
            while self._waiting:
                try:
                    self._waiting.popleft().grant()
                except RuntimeError:
                    continue  # its loop was closed over it
                return
            self._active -= 1


class Slot:
    """A slot that was taken, given back when the last of its holders lets go.

    A request that was given up may leave a thread behind that still works on it; as long as it does, the slot is not
    free, or the tier would work on more than it can.

    Args:
        limiter: Where it was taken.
    """

    __slots__ = ("_holders", "_limiter", "_lock", "_since")

    def __init__(self, limiter: Limiter) -> None:
        self._since = monotonic()
        self._limiter = limiter
        self._holders = 1
        self._lock = threading.Lock()

    def hold(self) -> None:
        """Adds a holder."""
        with self._lock:
            self._holders += 1

    def let_go(self) -> None:
        """Takes a holder away; from any thread."""
        with self._lock:
            self._holders -= 1
            last = self._holders == 0
        if last:
            self._limiter.release(monotonic() - self._since)


class _Waiter:
    """A request in the queue, and the loop on which it sleeps."""

    __slots__ = ("_loop", "displaced", "future", "priority")

    def __init__(self, loop: asyncio.AbstractEventLoop, priority: int) -> None:
        self._loop = loop
        self.priority = priority
        self.displaced = False
        self.future: asyncio.Future[None] = loop.create_future()

    def grant(self) -> None:
        self._loop.call_soon_threadsafe(self._wake)

    def displace(self) -> None:
        """Sends it away, for another of higher priority."""
        self.displaced = True
        with suppress(RuntimeError):  # its loop was closed over it
            self._loop.call_soon_threadsafe(self._refuse)

    def _wake(self) -> None:
        if not self.future.done():
            self.future.set_result(None)

    def _refuse(self) -> None:
        if not self.future.done():
            self.future.set_exception(QueueFullError())
