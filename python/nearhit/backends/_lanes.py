"""The connections to one server for lookups alone, made behind the callers' backs and left when anything goes wrong."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from time import monotonic
from typing import TYPE_CHECKING, Final

from nearhit.backends._direct import Direct, Plain
from nearhit.backends._loop_lane import LoopLane
from nearhit.backends._wire import LostError, ServerError, log

if TYPE_CHECKING:
    from collections.abc import Callable

    from nearhit.backends._address import Address

_AGAIN: Final = 1.0  # seconds after a failure until it is tried again
_DIAL: Final = 0.25  # seconds that a fresh connection waits for the one beside it
_LOOKUPS: Final = 16  # lookups from an event loop until it is worth a connection of its own


class Lanes:
    """The connections to one server for lookups alone. Methods may be called from any thread but for `open`.

    Args:
        seconds: How long a lookup waits.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._address: Address | None = None  # none while there is no server to go to
        self._direct: Direct | None = None
        self._loops: dict[asyncio.AbstractEventLoop, LoopLane | int | None] = {}
        self._dialling = False
        self._failed = -_AGAIN

    async def open(self, address: Address) -> None:
        """Makes the connection for callers that wait in place; returns when there is one, or after a moment."""
        loop = asyncio.get_running_loop()
        made = asyncio.Event()
        with self._lock:
            self._address = address

        def tell() -> None:
            with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile
                loop.call_soon_threadsafe(made.set)

        self._dial(self._keep_direct, tell)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(made.wait(), _DIAL)

    def direct(self) -> Direct | None:
        """The connection for callers that wait in place."""
        direct = self._direct
        if direct is not None and direct.closed:
            with self._lock:
                if self._direct is direct:  # and not a new one that has been made meanwhile
                    self._direct = None
            direct = self._direct
        if direct is None:
            self._dial(self._keep_direct)
        return direct

    def of(self, loop: asyncio.AbstractEventLoop) -> LoopLane | None:
        """The connection on a caller's own loop; None if it has none yet, or cannot have one."""
        lane = self._loops.get(loop)
        if isinstance(lane, LoopLane) and not lane.closed:
            return lane
        with self._lock:
            lane = self._loops.get(loop, 0)  # again: the thread that dials may have put one there meanwhile
            if isinstance(lane, LoopLane):
                lane = _LOOKUPS if lane.closed else lane
            if not isinstance(lane, int):
                return lane
            if lane == 0:
                self._forget_closed()
            self._loops[loop] = lane + 1
            tls = self._address is not None and self._address.tls is not None
        if lane >= _LOOKUPS and not tls:
            self._dial(lambda plain: self._keep_lane(loop, plain))
        return None

    def _dial(self, keep: Callable[[Plain], None], tell: Callable[[], None] = lambda: None) -> None:
        """Connects in a thread of its own; not again too soon after a failure."""
        with self._lock:
            address = self._address
            if address is None or self._dialling or monotonic() - self._failed < _AGAIN:
                return
            self._dialling = True

        def work() -> None:
            plain = None
            try:
                plain = Plain(address)
                keep(plain)
            except (OSError, ServerError, LostError, NotImplementedError, RuntimeError) as error:
                log.info("no connection for lookups alone: %s", error)
                self._failed = monotonic()
                if plain is not None:
                    plain.socket.close()
            finally:
                self._dialling = False
                tell()

        threading.Thread(target=work, name="nearhit-dial", daemon=True).start()

    def _keep_direct(self, plain: Plain) -> None:
        with self._lock:
            if self._address is None:
                raise LostError("closed")
            before, self._direct = self._direct, Direct(plain, self._seconds)
        if before is not None:
            before.close()

    def _keep_lane(self, loop: asyncio.AbstractEventLoop, plain: Plain) -> None:
        lane = LoopLane(loop, plain, self._seconds)

        def start() -> None:
            try:
                lane.start()
            except NotImplementedError:  # a loop that watches no sockets: never again
                self._loops[loop] = None
                lane.close()

        with self._lock:
            if self._address is None:
                raise LostError("closed")
            loop.call_soon_threadsafe(start)
            self._loops[loop] = lane

    def _forget_closed(self) -> None:
        for loop in [one for one in self._loops if one.is_closed()]:
            lane = self._loops.pop(loop)
            if isinstance(lane, LoopLane):
                lane.close()

    def close(self) -> None:
        """Closes them; `open` makes new ones."""
        with self._lock:
            self._address = None
            lanes = [self._direct, *self._loops.values()]
            self._direct = None
            self._loops.clear()
        for lane in lanes:
            if isinstance(lane, Direct | LoopLane):
                lane.close()
