"""Write-behind: entries wait in a bounded queue and go out in batches, value and vector in one step each."""

from __future__ import annotations

import asyncio
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Final

from nearhit.backends import _scripts
from nearhit.backends._fleet import lacks_script, script_command
from nearhit.backends._wire import LostError, ServerError, log

if TYPE_CHECKING:
    from nearhit.backends._engines import Shape, VectorEngine
    from nearhit.backends._entry import Entry
    from nearhit.backends._fleet import Fleet
    from nearhit.backends._keys import Keys
    from nearhit.backends._log import Kind, Log
    from nearhit.backends._wire import Command, Reply

_BATCH: Final = 128
_PAUSE: Final = 0.2  # seconds after a failure
_CAUGHT_UP: Final = 1.0  # seconds that the log's reader is given to reach what the server has

LAST_MOMENT: Final = 2**53
"""Milliseconds: `REMOVE` with it removes whatever is there."""


class Writer:
    """Writes entries and tells invalidations. `put` may be called from any thread, all else on the I/O thread.

    Attributes:
        written: Entries the servers have.
        dropped: Entries that found the queue full.
        refused: Entries the servers would not take.
    """

    def __init__(
        self, fleet: Fleet, keys: Keys, books: Log, shape: Shape, *, queue: tuple[int, int], most: int, news: bool
    ) -> None:
        self._fleet = fleet
        self._keys = keys
        self._log = books
        self._shape = shape
        self._most_entries, self._most_bytes = queue
        self._bound = most
        self._news = news
        self._queue: deque[Entry] = deque()
        self._bytes = 0
        self._told: deque[tuple[Kind, str]] = deque()
        self._wake = asyncio.Event()
        self._prepared: set[int] = set()
        self.engine: VectorEngine | None = None
        self.idle = asyncio.Event()
        self.idle.set()
        self.written = self.dropped = self.refused = 0
        self.failure: str | None = None

    @property
    def waiting(self) -> int:
        """Entries in the queue."""
        return len(self._queue)

    @property
    def waiting_bytes(self) -> int:
        """Bytes in the queue, about."""
        return self._bytes

    @property
    def lag(self) -> float:
        """Seconds that the entry which has waited longest has waited."""
        try:
            return monotonic() - self._queue[0].queued
        except IndexError:
            return 0.0

    def put(self, entry: Entry) -> bool:
        """Queues an entry; false if there is no room."""
        size = entry.size
        if len(self._queue) >= self._most_entries or self._bytes + size > self._most_bytes:
            self.dropped += 1
            return False
        self._bytes += size
        entry.queued = monotonic()
        self._queue.append(entry)
        return True

    def wake(self) -> None:
        """Says that something has been queued."""
        if self._queue or self._told:
            self.idle.clear()
            self._wake.set()

    def tell(self, kind: Kind, argument: str) -> None:
        """Queues an invalidation, which goes before all entries."""
        self._told.append((kind, argument))
        self.wake()

    async def run(self) -> None:
        """Writes for ever."""
        while True:
            await self._wake.wait()
            await self._fleet.first.connected.wait()
            try:
                while self._told:
                    await self._tell(*self._told[0])
                    self._told.popleft()
                if self._queue and self.engine is not None and self._log.position >= 0:
                    await self._write()
                elif self._queue:
                    await asyncio.sleep(_PAUSE / 10)
            except (ServerError, LostError, TimeoutError) as error:
                if lacks_script(error):
                    await self._fleet.load_scripts()
                self._note(error)
                await asyncio.sleep(_PAUSE)
            if not self._queue and not self._told:
                self._wake.clear()
                self.idle.set()

    def forget_prepared(self) -> None:
        """Has indexes made again: the server may have lost its data."""
        self._prepared.clear()

    def _note(self, error: Exception) -> None:
        if str(error) != self.failure:
            log.warning("writing to Redis failed: %s", error)
        self.failure = str(error)

    async def _write(self) -> None:
        assert self.engine is not None  # noqa: S101 - looked at by `run`
        batch = [self._queue.popleft() for _ in range(min(_BATCH, len(self._queue)))]
        try:
            with self._log.lock:
                live = [self._stated(entry) for entry in batch if self._may_go(entry)]
            for dim in {entry.dim for entry in live} - self._prepared - {0}:
                await self.engine.prepare(dim)
                self._prepared.add(dim)
            await self._register(live)
            replies = await self._fleet.ask_all([self._command(entry) for entry in live])
        except (ServerError, LostError):
            self._queue.extendleft(reversed(batch))  # writing twice does no harm
            raise
        lost = []
        for entry, reply in zip(live, replies, strict=True):
            if isinstance(reply, LostError) or lacks_script(reply):
                lost.append(entry)
            elif isinstance(reply, Exception):
                self.refused += 1
                self._note(reply)
            else:
                self.written += 1
        self._queue.extendleft(reversed(lost))
        self._bytes -= sum(entry.size for entry in batch) - sum(entry.size for entry in lost)
        if lost:
            await self._fleet.load_scripts()
            raise LostError("the connection broke while writing")
        await self._take_back(live)
        if not any(isinstance(reply, Exception) for reply in replies):
            self.failure = None

    def _may_go(self, entry: Entry) -> bool:
        return not entry.epoch or self._log.allows(entry)

    def _stated(self, entry: Entry) -> Entry:
        """An entry stored before the first contact with the log gets the state at which it is written."""
        if not entry.epoch:
            entry.epoch, entry.position = self._log.epoch, self._log.position
        if self._log.is_demoted(entry):
            entry.vector = None
        return entry

    async def _register(self, entries: list[Entry]) -> None:
        """Has entries found by tag, caller and scope, before they are there."""
        keys = self._keys
        members: dict[str, set[str]] = {}
        for entry in entries:
            line = keys.register(keys.place(entry.scope, entry.id), entry.dim)
            members.setdefault(keys.scopes, set()).add(line)
            members.setdefault(keys.caller(entry.caller), set()).add(line)
            for tag in entry.tags:
                line_of_entry = f"{line} {entry.id}"
                members.setdefault(keys.tag(tag), set()).add(line_of_entry)
        for reply in await self._fleet.ask_all([(key, ("SADD", key, *some)) for key, some in members.items()]):
            if isinstance(reply, LostError):
                raise reply
            if isinstance(reply, ServerError):
                # Without its place in the books an entry could not be invalidated any more.
                raise ServerError(f"{reply} (while noting where entries are)")

    def _command(self, entry: Entry) -> tuple[str, Command]:
        assert self.engine is not None  # noqa: S101 - looked at by `run`
        keys, shape = self._keys, self._shape
        place = keys.place(entry.scope, entry.id)
        where = [keys.entry(entry.scope, entry.id), keys.ledger(place)]
        vectors = self.engine.vector_key(place, entry.dim) if entry.dim else None
        if vectors is not None:
            where.append(vectors)
        element, found_by = self.engine.stored(entry.vector)
        command = script_command(
            _scripts.WRITE,
            where,
            entry.id,
            round(entry.created * 1000),
            "" if entry.expires is None else round(entry.expires * 1000),
            entry.token,
            -(-self._bound // keys.shards),
            keys.prefix(place),
            element,
            shape.quantisation,
            shape.m,
            shape.build,
            keys.news(entry.caller) if self._news else "",
            *entry.fields(),
            *found_by,
        )
        return where[0], command

    async def _take_back(self, entries: list[Entry]) -> None:
        """Removes what was invalidated while it was on its way: whoever did so may have looked before it was there."""
        reply = await self._fleet.ask(self._keys.log_state, "HGET", self._keys.log_state, "n")
        last = int(reply or 0)
        steps = 50
        for _ in range(steps):
            if self._log.position >= last:
                break
            await asyncio.sleep(_CAUGHT_UP / steps)
        with self._log.lock:
            stale = [entry for entry in entries if not self._log.allows(entry)]
        keys = self._keys
        places = [keys.place(entry.scope, entry.id) for entry in stale]
        await self._fleet.ask_all(
            [removal(keys, self.engine, at, entry.id, entry.dim) for at, entry in zip(places, stale, strict=True)]
        )

    async def _tell(self, kind: Kind, argument: str) -> None:
        keys = self._keys
        made = [keys.log, keys.log_state]
        await self._fleet.run(_scripts.TELL, made, self._log.origin + ":log", kind, argument, self._log.origin, 10_000)
        self._log.told(kind, argument)


def removal(
    keys: Keys,
    engine: VectorEngine | None,
    place: str,
    entry_id: str,
    dim: int,
    *,
    moment: float = LAST_MOMENT,
    vector_only: bool = False,
) -> tuple[str, Command]:
    """The command that removes an entry made up to `moment` (ms), or its vector alone."""
    where = [keys.prefix(place) + entry_id, keys.ledger(place)]
    vectors = engine.vector_key(place, dim) if engine is not None and dim else None
    if vectors is not None:
        where.append(vectors)
    command = script_command(_scripts.REMOVE, where, entry_id, int(moment), int(vector_only), dim)
    return where[0], command


def succeeded(replies: list[Reply]) -> int:
    """Sum of the numbers among replies."""
    return sum(reply for reply in replies if isinstance(reply, int))
