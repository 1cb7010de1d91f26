"""What runs on the I/O thread for one backend: connections, the log's reader, the writer, the sweeper, followers."""

from __future__ import annotations

import asyncio
import contextlib
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from nearhit.backends import _scripts
from nearhit.backends._engines import ExactEngine, SearchEngine, VectorSetEngine, probe
from nearhit.backends._entry import FIELDS, decode
from nearhit.backends._fleet import Fleet, lacks_script
from nearhit.backends._form import Form
from nearhit.backends._log import KEPT, Log
from nearhit.backends._mail import mailbox
from nearhit.backends._wire import LostError, ServerError, connect, log, text
from nearhit.backends._writer import LAST_MOMENT, Writer, removal, succeeded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from nearhit._core import CacheCore
    from nearhit.backends._address import Address
    from nearhit.backends._engines import EngineName, Shape, VectorEngine
    from nearhit.backends._entry import Entry
    from nearhit.backends._keys import Keys
    from nearhit.backends._link import Link
    from nearhit.backends._log import Kind
    from nearhit.backends._mail import Awaited
    from nearhit.backends._wire import Command, Reply, Wire

_AGAIN: Final = 0.2  # seconds until a reader that lost its connection tries again
_PATIENCE: Final = 3.0  # seconds that a waiting read of the log may take
_PAGE: Final = 200  # entries fetched at once
_POLL: Final = 0.02  # seconds between two looks at a locked request
_FORMS: Final = 64  # kinds of lookups whose commands are kept packed: thresholds, lengths of vectors, shards


class _Search(NamedTuple):
    """What a lookup searches for."""

    engine: VectorEngine
    element: bytes
    dim: int
    least: float


class Session:
    """One backend's life on one loop. Methods run on that loop unless they say otherwise."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        address: Address,
        keys: Keys,
        core: CacheCore,
        take: Callable[[Entry], bool],
        *,
        dim: int,
        deadline: float,
        engine: EngineName,
        shape: Shape,
        queue: tuple[int, int],
        most: int,
        sweep: float,
        max_stale: float | None,
        follow: Sequence[str],
        news: bool,
    ) -> None:
        self.loop = loop
        self.box = mailbox(loop)
        self._address = address
        self._keys = keys
        self._core = core
        self._take = take
        self._dim = dim
        self._wanted = engine
        self._shape = shape
        self._sweep_seconds = sweep
        self._max_stale = max_stale
        self._follow = follow
        self._tasks: list[asyncio.Task[None]] = []
        self._preparing: set[int] = set()
        self._running: set[asyncio.Task[Any]] = set()
        self._forms: dict[Any, Form] = {}
        self.log = Log(keys, core)
        self.engine: VectorEngine | None = None
        self.heard = time.monotonic()
        self.fleet = Fleet(address, deadline, self._ready)
        self.writer = Writer(self.fleet, keys, self.log, shape, queue=queue, most=most, news=news)
        jobs = [self.writer.run, self._read_log, self._sweep, *([self._follow_news] if follow else [])]
        self._tasks = [loop.create_task(job()) for job in jobs]

    @property
    def usable(self) -> bool:
        """Whether lookups may ask: connected, punctual, and the log is known. From any thread."""
        return self.fleet.usable and self.engine is not None and self.log.position >= 0

    async def _ready(self, wire: Wire) -> None:
        """Finds out what a fresh connection's server can do."""
        info = text(await wire.ask("INFO", "memory"))
        bounded = "maxmemory:0\r" not in info
        self.log.strict = bounded and "maxmemory_policy:allkeys" in info
        name = await probe(wire, self._wanted, is_cluster=self.fleet.is_cluster)
        if self.engine is None or self.engine.name != name:
            if name == "search":
                self.engine = SearchEngine(self._keys, self._shape, self.fleet)
            elif name == "vectorset":
                self.engine = VectorSetEngine(self._keys, self._shape)
            else:
                self.engine = ExactEngine()
            self.writer.engine = self.engine
        self.writer.forget_prepared()
        if self._dim:
            self._prepare_soon(self._dim)

    def _prepare_soon(self, dim: int) -> None:
        if dim not in self._preparing:
            self._preparing.add(dim)
            self.spawn(self._prepare(dim))

    async def _prepare(self, dim: int) -> None:
        try:
            await asyncio.sleep(0)  # the connection that this is called for comes into use first
            if self.engine is not None:
                await self.engine.prepare(dim)
        except (ServerError, LostError) as error:
            log.warning("cannot prepare vector search: %s", error)
        finally:
            self._preparing.discard(dim)

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Runs something to its end."""
        task = self.loop.create_task(coroutine)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    # -- reading ---------------------------------------------------------------------------------------------------

    def questions(
        self, scope: str, fingerprint: str, vector: NDArray[np.float32] | None, least: float
    ) -> list[tuple[str, Command]]:
        """Commands that ask for the very entry and for the nearest ones, with their keys. From any thread."""
        return self._questions(scope, fingerprint, search=self._search(vector, least))

    def packed(
        self, scope: str, fingerprint: str, vector: NDArray[np.float32] | None, least: float
    ) -> tuple[bytes, int]:
        """The same as they go over the wire to one server, and how many they are. From any thread."""
        search = self._search(vector, least)
        shard = self._keys.shard(fingerprint)
        kind = (
            shard if search is None else (shard, search.engine, search.engine.narrow, len(search.element), search[2:])
        )
        form = self._forms.get(kind)
        element = b"" if search is None else search.element
        if form is None:
            form = Form(lambda *marks: self._questions(*marks, search=search), scope, fingerprint, element)
            if len(self._forms) >= _FORMS:
                self._forms.clear()
            self._forms[kind] = form
        return form.filled(scope, fingerprint, element), form.count

    def _search(self, vector: NDArray[np.float32] | None, least: float) -> _Search | None:
        engine = self.engine
        if vector is None or engine is None:
            return None
        return _Search(engine, engine.element(vector), len(vector), least)

    def _questions(self, scope: str, fingerprint: str, *, search: _Search | None) -> list[tuple[str, Command]]:
        key = self._keys.entry(scope, fingerprint)
        commands: list[tuple[str, Command]] = [(key, ("HMGET", key, *FIELDS))]
        if search is not None:
            commands += search.engine.questions(scope, search.element, search.dim, search.least)
        return commands

    def ask(self, errand: Awaited[list[Reply]], commands: Sequence[tuple[str, Command]], dim: int, link: Link) -> None:
        """Sends a lookup's commands, all in one write to each server."""
        replies: list[Reply] = [None] * len(commands)
        missing = len(commands)

        def done(at: int, reply: Reply) -> None:
            nonlocal missing
            replies[at] = reply
            missing -= 1
            if isinstance(reply, ServerError):
                self.refused(reply, dim)
            if missing == 0:
                if not errand.finished:
                    link.punctual()
                errand.finish(replies)

        for at, (where, command) in enumerate(commands):
            self.fleet.send(where, command, partial(done, at))

    def refused(self, error: ServerError, dim: int) -> None:
        """Puts right what a lookup found missing on a server. From any thread."""
        if self.engine is not None and self.engine.is_missing(error):
            self.box.post(lambda: self._prepare_soon(dim))
        elif lacks_script(error):
            self.box.post(lambda: self.spawn(self.fleet.load_scripts()))

    # -- the log ---------------------------------------------------------------------------------------------------

    async def _read_log(self) -> None:
        while True:
            wire = None
            try:
                await self.fleet.first.connected.wait()
                wire = await self._log_wire()
                async with asyncio.timeout(_PATIENCE):
                    await self.log.open(wire)
                while True:
                    self.heard = time.monotonic()
                    async with asyncio.timeout(_PATIENCE):
                        await self.log.read(wire)
            except (OSError, ServerError, LostError) as error:
                log.info("the log of invalidations is out of reach: %s", error)
            finally:
                if wire is not None:
                    wire.abort()
            await asyncio.sleep(_AGAIN)

    async def _log_wire(self) -> Wire:
        """A connection of its own, to where the log is: a read that waits holds up everything behind it."""
        address = self.fleet.link(self._keys.log).address or self._address
        wire = await connect(address)
        for script in (_scripts.OPEN, _scripts.TELL):
            await wire.ask("SCRIPT", "LOAD", script.body)
        return wire

    # -- removing --------------------------------------------------------------------------------------------------

    async def remove(self, kind: Kind, argument: str) -> int:
        """Removes from the servers what an invalidation names; returns how much was there."""
        if kind in ("id", "demote"):
            return await self._remove_id(argument, vector_only=kind == "demote")
        if kind == "tag":
            return await self._remove_tagged(argument)
        moment = float(argument) * 1000 if kind == "older" else LAST_MOMENT
        key = self._keys.caller(argument) if kind == "scope" else self._keys.scopes
        removed = 0
        for line in await self.fleet.ask(key, "SMEMBERS", key):
            removed += await self._remove_place(text(line), moment)
        return removed

    async def _remove_id(self, entry_id: str, *, vector_only: bool) -> int:
        removed = 0
        for link in self.fleet.links():
            if link.wire is None:
                continue
            async for key in scan(link.wire, f"{self._keys.root}*:{entry_id}"):
                space, place, name = _taken_apart(self._keys, key)
                if name != entry_id:
                    continue
                keys = self._keys.within(space)
                for dim in await self._dims(space, place):
                    where = removal(keys, self.engine, place, entry_id, dim, vector_only=vector_only)
                    removed += succeeded(await self.fleet.ask_all([where]))
        return removed

    async def _dims(self, space: str, place: str) -> list[int]:
        lines = [
            text(line).split(" ") for line in await self.fleet.ask(self._keys.scopes, "SMEMBERS", self._keys.scopes)
        ]
        return sorted({int(dim) for a, b, dim in lines if (a, b) == (space, place)}, reverse=True) or [0]

    async def _remove_tagged(self, tag: str) -> int:
        key = self._keys.tag(tag)
        lines = [text(line) for line in await self.fleet.ask(key, "SMEMBERS", key)]
        removed = 0
        for start in range(0, len(lines), _PAGE):
            page = lines[start : start + _PAGE]
            commands = []
            for line in page:
                space, place, dim, entry_id = line.split(" ")
                keys = self._keys.within(space)
                commands.append(removal(keys, self.engine, place, entry_id, int(dim)))
            removed += succeeded(await self.fleet.ask_all(commands))
            await self.fleet.ask(key, "SREM", key, *page)
        return removed

    async def _remove_place(self, line: str, moment: float) -> int:
        space, place, dim = line.split(" ")
        keys = self._keys.within(space)
        ledger = keys.ledger(place)
        removed = 0
        while page := await self.fleet.ask(ledger, "ZRANGEBYSCORE", ledger, "-inf", int(moment), "LIMIT", 0, _PAGE):
            commands = [removal(keys, self.engine, place, text(one), int(dim), moment=moment) for one in page]
            replies = await self.fleet.ask_all(commands)
            removed += succeeded(replies)
            await self.fleet.ask(ledger, "ZREM", ledger, *page)
        return removed

    # -- everything ------------------------------------------------------------------------------------------------

    async def lines(self) -> list[tuple[str, str, int]]:
        """Where entries are: embedder, place, dimension."""
        members = await self.fleet.ask(self._keys.scopes, "SMEMBERS", self._keys.scopes)
        lines = [text(member).split(" ") for member in members]
        return sorted((space, place, int(dim)) for space, place, dim in lines)

    async def count(self) -> int:
        """Entries in the books."""
        places = {(space, place) for space, place, _ in await self.lines()}
        ledgers = [self._keys.within(space).ledger(place) for space, place in places]
        return succeeded(await self.fleet.ask_all([(ledger, ("ZCARD", ledger)) for ledger in ledgers]))

    async def everything(self) -> AsyncIterator[tuple[str, Entry]]:
        """Every entry with its embedder's short name, page by page; those of this cache's own embedder first."""
        seen: set[tuple[str, str]] = set()
        lines = await self.lines()
        for space, place, dim in sorted(lines, key=lambda line: (line[0] != self._keys.space, -line[2])):
            keys = self._keys.within(space)
            ledger, cursor = keys.ledger(place), b"0"
            while True:
                cursor, page = await self.fleet.ask(ledger, "ZSCAN", ledger, cursor, "COUNT", _PAGE)
                names = {(space, text(name)) for name in page[::2]} - seen
                seen |= names
                for entry in await self.fetch([keys.prefix(place) + name for _, name in names], dim):
                    yield space, entry
                if int(cursor) == 0:
                    break

    async def fetch(self, entries: Sequence[str], dim: int) -> list[Entry]:
        """The entries under these keys that are whole and not invalidated."""
        commands = [(key, ("HMGET", key, *FIELDS)) for key in entries]
        replies = await self.fleet.ask_all(commands)
        found = [decode(reply, dim) for reply in replies if isinstance(reply, list)]
        with self.log.lock:
            return [entry for entry in found if entry is not None and self.log.allows(entry)]

    # -- sweeping --------------------------------------------------------------------------------------------------

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(min(self._sweep_seconds, self._max_stale or self._sweep_seconds) / 2)
            if self._max_stale is not None and time.monotonic() - self.heard > self._max_stale and len(self._core):
                self.log.drop(f"the log of invalidations has been out of reach for {self._max_stale:g} s")
            with contextlib.suppress(ServerError, LostError):
                key = self._keys.sweeper
                life = round(self._sweep_seconds * 1000)
                if await self.fleet.ask(key, "SET", key, self.log.origin, "NX", "PX", max(life, 1)):
                    await self.sweep()

    async def sweep(self) -> int:
        """Takes out of the books, and of vector sets, what has no entry any more; returns how much."""
        gone = 0
        for space, place, dim in await self.lines():
            keys = self._keys.within(space)
            vectors = self.engine.vector_key(place, dim) if self.engine is not None and dim else None
            where = [keys.ledger(place)]
            if vectors is not None:
                where.append(keys.vectors(place, dim))
            cursor = "0"
            while True:
                found = await self.fleet.run(_scripts.SWEEP, where, cursor, keys.prefix(place))
                cursor, gone = text(found[0]), gone + int(found[1])
                if cursor == "0":
                    break
                await asyncio.sleep(0)
        return gone

    # -- following -------------------------------------------------------------------------------------------------

    async def _follow_news(self) -> None:
        """Takes new entries of the chosen scopes into the local cache as they are written anywhere."""
        fresh: asyncio.Queue[str] = asyncio.Queue(KEPT)

        def push(message: Reply) -> None:
            if isinstance(message, list) and message and text(message[0]) == "message" and not fresh.full():
                fresh.put_nowait(text(message[2]))

        while True:
            wire = None
            try:
                await self.fleet.first.connected.wait()
                wire = await connect(self.fleet.first.address or self._address, push)
                wire.tell("SUBSCRIBE", *(self._keys.news(caller) for caller in self._follow))
                while not wire.lost.done():
                    with contextlib.suppress(TimeoutError):
                        await self._take_news(await asyncio.wait_for(fresh.get(), 1.0), fresh)
            except (OSError, ServerError, LostError) as error:
                log.info("the news of other replicas are out of reach: %s", error)
            finally:
                if wire is not None:
                    wire.abort()
            await asyncio.sleep(_AGAIN)

    async def _take_news(self, first: str, fresh: asyncio.Queue[str]) -> None:
        names = [first]
        while not fresh.empty() and len(names) < _PAGE:
            names.append(fresh.get_nowait())
        for entry in await self.fetch(names, self._dim):
            self._take(entry)

    # -- one call among all replicas -------------------------------------------------------------------------------

    async def claim(self, scope: str, fingerprint: str, life: float, patience: float) -> tuple[int, str]:
        """Waits for the right to make an answer, or for the answer.

        Returns:
            Fencing token and holder's name; 0 if there is an answer now, or patience or connection are at an end.
        """
        holder = f"{self.log.origin}:{time.monotonic_ns()}"
        keys = [self._keys.lock(scope, fingerprint), self._keys.fence(scope, fingerprint)]
        entry = self._keys.entry(scope, fingerprint)
        until = time.monotonic() + patience
        with contextlib.suppress(ServerError, LostError):
            while True:
                token = int(await self.fleet.run(_scripts.CLAIM, keys, holder, round(life * 1000)))
                if not token and time.monotonic() >= until:
                    break
                # With the right in hand too: whoever had it may have written and gone since the last look.
                if await self.fleet.ask(entry, "EXISTS", entry):
                    if token:
                        await self.fleet.run(_scripts.RELEASE, keys[:1], holder)
                    break
                if token:
                    return token, holder
                await asyncio.sleep(_POLL)
        return 0, holder

    async def release(self, scope: str, fingerprint: str, holder: str) -> None:
        """Gives the right back, once what was made of it is there for others."""
        with contextlib.suppress(ServerError, LostError, TimeoutError):
            await asyncio.wait_for(self.writer.idle.wait(), _PATIENCE)
            await self.fleet.run(_scripts.RELEASE, [self._keys.lock(scope, fingerprint)], holder)

    async def close(self) -> None:
        """Ends everything."""
        for task in [*self._tasks, *self._running]:
            task.cancel()
        await asyncio.gather(*self._tasks, *self._running, return_exceptions=True)
        await self.fleet.close()


async def scan(wire: Wire, pattern: str) -> AsyncIterator[str]:
    """Keys of one server by a pattern."""
    cursor = b"0"
    while True:
        cursor, page = await wire.ask("SCAN", cursor, "MATCH", pattern, "COUNT", 1000)
        for key in page:
            yield text(key)
        if int(cursor) == 0:
            return


def _taken_apart(keys: Keys, key: str) -> tuple[str, str, str]:
    """Embedder, place and id of an entry's key; empty if it is none."""
    space, kind, rest = [*key.removeprefix(keys.root).split(":", 2), "", ""][:3]
    place, _, name = rest.partition(":")
    return (space, place.strip("{}"), name) if kind == "e" else ("", "", "")
