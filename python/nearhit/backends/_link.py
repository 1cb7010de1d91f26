"""The connection to one server, which comes back by itself, and a breaker in front of it."""

from __future__ import annotations

import asyncio
import contextlib
import random
from time import monotonic
from typing import TYPE_CHECKING, Final

from nearhit.backends._lanes import Lanes
from nearhit.backends._wire import LostError, ServerError, Wire, connect, log

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from nearhit.backends._address import Address
    from nearhit.backends._wire import Command, Reply


_FIRST, _LONGEST = 0.05, 2.0  # seconds between two attempts to connect
_STALL: Final = 2.0  # seconds without a reply after which a connection is given up
_LATE: Final = 5  # answers in a row past their deadline that open the breaker
_PAUSE: Final = 0.5  # seconds between two probes while it is open


class Link:
    """One server. Commands are refused at once while there is no connection; nothing is queued for a dead server.

    Attributes:
        address: Where it goes, or went last.
        failure: Why there is no connection at present; None while there is one.
        tried: Set once the first attempt has ended, well or badly.
        connected: Set while there is a connection.
    """

    def __init__(
        self,
        locate: Callable[[], Awaitable[Address]],
        deadline: float,
        prepare: Callable[[Wire], Awaitable[None]],
    ) -> None:
        self._locate = locate
        self._deadline = deadline
        self._prepare = prepare
        self._wire: Wire | None = None
        self._late = 0
        self.address: Address | None = None
        self.failure: str | None = "not connected yet"
        self.tried = asyncio.Event()
        self.connected = asyncio.Event()
        self._lanes = Lanes(deadline)
        self._task = asyncio.get_running_loop().create_task(self._run())

    @property
    def lanes(self) -> Lanes:
        """Its connections for lookups alone."""
        return self._lanes

    @property
    def wire(self) -> Wire | None:
        """The connection, if there is one."""
        return self._wire

    @property
    def usable(self) -> bool:
        """Whether lookups may use it: connected, and not known to be late."""
        return self._wire is not None and self._late < _LATE

    @property
    def is_late(self) -> bool:
        """Whether its last answers came late, so that it is not asked at present."""
        return self._late >= _LATE

    def send(self, command: Command, done: Callable[[Reply], None]) -> None:
        """Sends a command, or answers at once that there is no connection."""
        if self._wire is None:
            done(LostError(self.failure or "not connected"))
        else:
            self._wire.send(command, done)

    def late(self) -> None:
        """Counts an answer that did not come in time."""
        self._late += 1

    def punctual(self) -> None:
        """Counts one that did."""
        self._late = 0

    async def _run(self) -> None:
        pause = _FIRST
        while True:
            wire = None
            try:
                self.address = await self._locate()
                wire = await connect(self.address)
                async with asyncio.timeout(_STALL):
                    await self._prepare(wire)
            except (OSError, ServerError, LostError) as error:
                failure = f"{type(error).__name__}: {error}"
                if failure != self.failure:
                    log.warning("%r: %s; trying again", self.address, failure)
                self.failure = failure
                if wire is not None:
                    wire.abort()
                self.tried.set()
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - spreads the replicas out
                pause = min(2 * pause, _LONGEST)
                continue
            self._wire, self.failure, self._late, pause = wire, None, 0, _FIRST
            await self._lanes.open(self.address)
            self.tried.set()
            self.connected.set()
            await self._watch(wire)
            self.connected.clear()
            self._wire, self.failure = None, "the connection was lost"
            self._lanes.close()
            wire.abort()

    async def _watch(self, wire: Wire) -> None:
        """Returns when the connection is lost or stalls; closes the breaker when the server is quick again."""
        while not wire.lost.done():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(wire.lost), _PAUSE)
            if wire.delay > _STALL:
                return
            if self._late >= _LATE and not wire.lost.done() and wire.delay < _PAUSE:
                wire.send(("PING",), self._probe(monotonic()))

    def _probe(self, started: float) -> Callable[[Reply], None]:
        def done(reply: Reply) -> None:
            if not isinstance(reply, LostError) and monotonic() - started < self._deadline:
                self._late = 0

        return done

    async def close(self) -> None:
        """Ends it."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self._lanes.close()
        if self._wire is not None:
            self._wire.abort()
            self._wire = None
        self.failure = "closed"
