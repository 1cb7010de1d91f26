"""Write-behind: entries wait in a bounded queue and go out in batches, value and vector in one step each."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Final

from nearhit.backends import _scripts
from nearhit.backends._engines import SETS
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
_FLYING: Final = 2  # batches on their way at a time
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
        """Writes what waits, a few batches on their way at any time, so that the servers do not wait for us."""
        flying: deque[_Flight] = deque()
        lost: list[Entry] = []
        failure: Exception | None = None
        try:
            while self._queue and not self._told and not lost:
                flying.append(await self._send())
                if len(flying) == _FLYING:
                    lost += await self._settle(flying.popleft())
        except (ServerError, LostError) as error:
            failure = error
        for flight in flying:
            lost += await self._settle(flight)
        self._queue.extendleft(reversed(lost))
        if failure is not None:
            raise failure
        if lost:
            await self._fleet.load_scripts()
            raise LostError(self.failure or "the connection broke while writing")

    async def _send(self) -> _Flight:
        """Sends a batch; if that fails it is in the queue again."""
        assert self.engine is not None  # noqa: S101 - looked at by `run`
        batch = [self._queue.popleft() for _ in range(min(_BATCH, len(self._queue)))]
        try:
            with self._log.lock:
                live = [self._stated(entry) for entry in batch if self._may_go(entry)]
            for dim in {entry.dim for entry in live} - self._prepared - {0}:
                await self.engine.prepare(dim)
                self._prepared.add(dim)
            books, writes = self._books(live), [self._command(entry) for entry in live]
            if self._fleet.is_cluster:
                # What one server has done another may see before it: an entry is noted before it is there.
                _raise_refused(await self._fleet.ask_all(books))
                books = []
        except (ServerError, LostError):
            self._queue.extendleft(reversed(batch))  # writing twice does no harm
            raise
        self._bytes -= sum(entry.size for entry in batch) - sum(entry.size for entry in live)
        replies = asyncio.ensure_future(self._fleet.ask_all([*books, *writes, self._log_end()]))
        return _Flight(live, len(books), replies)

    async def _settle(self, flight: _Flight) -> list[Entry]:
        """Waits for a batch to be written; returns what has to be written again."""
        entries, replies = flight.entries, await flight.replies
        noted, written, end = replies[: flight.books], replies[flight.books : -1], replies[-1]
        unnoted = next((reply for reply in noted if isinstance(reply, Exception)), None)
        if unnoted is not None:
            # Without its place in the books an entry could not be invalidated any more.
            self._note(ServerError(f"{unnoted} (while noting where entries are)"))
            await self._remove(entries)
            return entries
        if self._fleet.is_cluster:  # the log may be on another server, which need not have waited for the entries
            (end,) = await self._fleet.ask_all([self._log_end()])
        if isinstance(end, Exception):
            return entries  # nobody can tell whether they have been invalidated meanwhile
        lost, kept = [], []
        for entry, reply in zip(entries, written, strict=True):
            if isinstance(reply, LostError) or lacks_script(reply):
                lost.append(entry)
                continue
            kept.append(entry)
            self._bytes -= entry.size
            if isinstance(reply, Exception):
                self.refused += 1
                self._note(reply)
            else:
                self.written += 1
        await self._take_back(kept, end)
        if not any(isinstance(reply, Exception) for reply in written):
            self.failure = None
        return lost

    def _may_go(self, entry: Entry) -> bool:
        return not entry.epoch or self._log.allows(entry)

    def _stated(self, entry: Entry) -> Entry:
        """An entry stored before the first contact with the log gets the state at which it is written."""
        if not entry.epoch:
            entry.epoch, entry.position = self._log.epoch, self._log.position
        if self._log.is_demoted(entry):
            entry.vector = None
        return entry

    def _books(self, entries: list[Entry]) -> list[tuple[str, Command]]:
        """Commands that have entries found by tag, caller and scope."""
        keys = self._keys
        members: dict[str, set[str]] = {}
        for entry in entries:
            line = keys.register(keys.place(entry.scope, entry.id), entry.dim)
            members.setdefault(keys.scopes, set()).add(line)
            members.setdefault(keys.caller(entry.caller), set()).add(line)
            for tag in entry.tags:
                line_of_entry = f"{line} {entry.id}"
                members.setdefault(keys.tag(tag), set()).add(line_of_entry)
        return [(key, ("SADD", key, *some)) for key, some in members.items()]

    def _log_end(self) -> tuple[str, Command]:
        """The command that tells how far the log goes: behind writes, so that it is asked when they are there."""
        return self._keys.log_state, ("HGET", self._keys.log_state, "n")

    def _command(self, entry: Entry) -> tuple[str, Command]:
        assert self.engine is not None  # noqa: S101 - looked at by `run`
        keys = self._keys
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
            self._shape.quantisation,
            SETS.m,
            SETS.build,
            keys.news(entry.caller) if self._news else "",
            *entry.fields(),
            *found_by,
        )
        return where[0], command

    async def _take_back(self, entries: list[Entry], end: Reply) -> None:
        """Removes what was invalidated while it was on its way: whoever did so may have looked before it was there."""
        last = int(end or 0)
        steps = 50
        for _ in range(steps):
            if self._log.position >= last:
                break
            await asyncio.sleep(_CAUGHT_UP / steps)
        with self._log.lock:
            stale = [entry for entry in entries if not self._log.allows(entry)]
        await self._remove(stale)

    async def _remove(self, entries: list[Entry]) -> None:
        keys = self._keys
        places = [(keys.place(entry.scope, entry.id), entry) for entry in entries]
        await self._fleet.ask_all([removal(keys, self.engine, place, entry.id, entry.dim) for place, entry in places])

    async def _tell(self, kind: Kind, argument: str) -> None:
        keys = self._keys
        made = [keys.log, keys.log_state]
        await self._fleet.run(_scripts.TELL, made, self._log.origin + ":log", kind, argument, self._log.origin, 10_000)
        self._log.told(kind, argument)


@dataclass(frozen=True, slots=True)
class _Flight:
    """A batch on its way.

    Attributes:
        entries: What is written.
        books: How many of the first replies are about where the entries are; each entry's follow, then the log's.
        replies: Comes when they are all there.
    """

    entries: list[Entry]
    books: int
    replies: asyncio.Future[list[Reply]]


def _raise_refused(replies: list[Reply]) -> None:
    for reply in replies:
        if isinstance(reply, LostError):
            raise reply
        if isinstance(reply, ServerError):
            raise ServerError(f"{reply} (while noting where entries are)")


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
