"""The servers, and which of them has a key: one server, one that sentinels name, or a cluster."""

from __future__ import annotations

import asyncio
import contextlib
from binascii import crc_hqx
from functools import partial
from typing import TYPE_CHECKING, Final

from nearhit.backends import _scripts
from nearhit.backends._link import Link
from nearhit.backends._wire import LostError, ServerError, connect, log, text

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from nearhit.backends._address import Address
    from nearhit.backends._scripts import Script
    from nearhit.backends._wire import Command, Reply, Wire

_SLOTS: Final = 16384
_LOOK: Final = 1.0  # seconds between two looks at a cluster that has an unreachable node
_MOVES: Final = 4  # redirections of one command
_LOADS: Final = [("SCRIPT", "LOAD", script.body) for script in _scripts.ALL]


def slot_of(key: str) -> int:
    """The slot of a cluster that a key belongs to."""
    start = key.find("{")
    if start >= 0:
        end = key.find("}", start + 1)
        if end > start + 1:
            key = key[start + 1 : end]
    return crc_hqx(key.encode(), 0) % _SLOTS


class Fleet:
    """Every server of one URL. All of it runs on the I/O thread.

    Attributes:
        greeting: What the first server said of itself; empty before.
        is_cluster: Whether keys are spread over slots.
    """

    def __init__(self, address: Address, deadline: float, ready: Callable[[Wire], Awaitable[None]]) -> None:
        self._address = address
        self._deadline = deadline
        self._ready = ready
        self._links: dict[tuple[str, int], Link] = {}
        self._slots: dict[int, Link] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._looking: asyncio.Task[None] | None = None
        self.greeting: dict[str, object] = {}
        self.is_cluster = False
        if address.kind == "sentinel":
            self._first = Link(self._ask_sentinels, deadline, self._prepare)
        else:
            self._first = Link(self._next_host, deadline, self._prepare)
        self._turn = 0

    @property
    def first(self) -> Link:
        """The link that was made from the URL."""
        return self._first

    def links(self) -> list[Link]:
        """One link to each server that holds keys."""
        return list(self._links.values()) if self.is_cluster and self._links else [self._first]

    @property
    def usable(self) -> bool:
        """Whether any server can be asked."""
        return any(link.usable for link in self.links()) if self.is_cluster else self._first.usable

    @property
    def is_late(self) -> bool:
        """Whether a server's breaker is open."""
        return any(link.is_late for link in self.links())

    def link(self, key: str) -> Link:
        """The link to the server that holds a key."""
        if not self.is_cluster:
            return self._first
        return self._slots.get(slot_of(key), self._first)

    def send(self, key: str, command: Command, done: Callable[[Reply], None], moves: int = _MOVES) -> None:
        """Sends a command to the server that holds `key`, following a cluster's redirections."""
        if self.is_cluster:
            done = partial(self._redirected, key, command, done, moves)
        self.link(key).send(command, done)

    async def ask(self, key: str, *command: str | bytes | float) -> Reply:
        """Sends a command by its key and waits for the reply.

        Raises:
            ServerError: The server refused.
            LostError: There is no connection, or it broke.
        """
        (reply,) = await self.ask_all([(key, command)])
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def ask_all(self, commands: Sequence[tuple[str, Command]]) -> list[Reply]:
        """Sends commands by their keys, in one write to each server; refusals are exceptions among the replies."""
        loop = asyncio.get_running_loop()
        replies: list[Reply] = [None] * len(commands)
        missing = len(commands)
        future: asyncio.Future[None] = loop.create_future()

        def done(at: int, reply: Reply) -> None:
            nonlocal missing
            replies[at] = reply
            missing -= 1
            if missing == 0 and not future.done():
                future.set_result(None)

        for at, (key, command) in enumerate(commands):
            self.send(key, command, partial(done, at))
        if commands:
            await future
        return replies

    async def run(self, script: Script, keys: Sequence[str], *arguments: str | bytes | float) -> Reply:
        """Runs a script and waits for its reply.

        Raises:
            ServerError: The server refused.
            LostError: There is no connection, or it broke.
        """
        return await self.ask(keys[0], *script_command(script, keys, *arguments))

    async def load_scripts(self) -> None:
        """Gives the servers the scripts again: somebody has flushed them."""
        for link in self.links():
            if link.wire is not None:
                await link.wire.ask_all(_LOADS)

    def _redirected(self, key: str, command: Command, done: Callable[[Reply], None], moves: int, reply: Reply) -> None:
        if isinstance(reply, ServerError) and moves > 0:
            kind, _, rest = str(reply).partition(" ")
            if kind in ("MOVED", "ASK"):
                slot, _, where = rest.partition(" ")
                host, _, port = where.rpartition(":")
                link = self._link_to(host or self._known_host(), int(port))
                if kind == "MOVED":
                    self._slots[int(slot)] = link
                    self._look()
                self._task(self._resend(link, key, command, done, moves - 1, asking=kind == "ASK"))
                return
        elif isinstance(reply, LostError):
            self._look()
        done(reply)

    async def _resend(
        self, link: Link, key: str, command: Command, done: Callable[[Reply], None], moves: int, *, asking: bool
    ) -> None:
        with contextlib.suppress(TimeoutError):  # a server just met is given a moment
            await asyncio.wait_for(link.connected.wait(), self._deadline * 5)
        if asking:
            link.send(("ASKING",), lambda _: None)
        link.send(command, partial(self._redirected, key, command, done, moves))

    def _task(self, coroutine: Awaitable[None]) -> None:
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _known_host(self) -> str:
        address = self._first.address or self._address
        return address.hosts[0][0]

    async def _next_host(self) -> Address:
        hosts = [*self._address.hosts, *self._links]  # of a cluster, any node will do
        self._turn += 1
        return self._address.at(*hosts[(self._turn - 1) % len(hosts)])

    async def _ask_sentinels(self) -> Address:
        failure: Exception = LostError("no sentinel answered")
        for host, port in self._address.hosts:
            wire = None
            try:
                # The sentinels have no databases, and users of their own, if any.
                wire = await connect(type(self._address)(((host, port),), protocol=2, tls=self._address.tls))
                found = await wire.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._address.service)
                if found:
                    return self._address.at(text(found[0]), int(found[1]))
                failure = LostError(f"the sentinels know no {self._address.service!r}")
            except (OSError, ServerError, LostError) as error:
                failure = error
            finally:
                if wire is not None:
                    wire.abort()
        raise failure

    async def _prepare(self, wire: Wire) -> None:
        """Has a fresh connection know the scripts; the first one tells what kind of servers these are."""
        for reply in await wire.ask_all(_LOADS):
            if isinstance(reply, Exception):
                raise reply
        self.greeting = wire.greeting or self.greeting
        role = text(wire.greeting.get("role", b"master"))
        if self._address.kind == "sentinel" and role != "master":
            raise LostError("the server is a replica now; asking the sentinels again")
        mode = text(wire.greeting.get("mode", b"standalone"))
        if mode == "cluster" and (not self.is_cluster or not self._slots):
            await self._read_slots(wire)
            self.is_cluster = True
        await self._ready(wire)

    async def _prepare_node(self, wire: Wire) -> None:
        for reply in await wire.ask_all(_LOADS):
            if isinstance(reply, Exception):
                raise reply
        await self._ready(wire)

    async def _read_slots(self, wire: Wire) -> None:
        slots: dict[int, Link] = {}
        used = set()
        for first, last, (host, port, *_), *_ in await wire.ask("CLUSTER", "SLOTS"):
            where = (text(host or b"") or self._known_host(), int(port))
            used.add(where)
            slots |= dict.fromkeys(range(first, last + 1), self._link_to(*where))
        self._slots = slots
        for where in set(self._links) - used:
            self._task(self._links.pop(where).close())

    def _link_to(self, host: str, port: int) -> Link:
        link = self._links.get((host, port))
        if link is None:
            address = self._address.at(host, port)

            async def locate() -> Address:
                return address

            link = self._links[host, port] = Link(locate, self._deadline, self._prepare_node)
        return link

    def _look(self) -> None:
        """Reads the slots again, soon, once."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.get_running_loop().create_task(self._look_again())

    async def _look_again(self) -> None:
        for link in [*self._links.values(), self._first]:
            if link.usable and link.wire is not None:
                try:
                    async with asyncio.timeout(_LOOK):
                        await self._read_slots(link.wire)
                    break
                except (ServerError, LostError, TimeoutError) as error:
                    log.info("cannot read the cluster's slots: %s", error)
        await asyncio.sleep(_LOOK / 4)  # at most so often

    async def close(self) -> None:
        """Closes every connection."""
        for task in [*self._tasks, *([self._looking] if self._looking else [])]:
            task.cancel()
        for link in [self._first, *self._links.values()]:
            await link.close()


def lacks_script(reply: Reply) -> bool:
    """Whether a server has forgotten the scripts."""
    return isinstance(reply, ServerError) and str(reply).startswith("NOSCRIPT")


def script_command(script: Script, keys: Sequence[str], *arguments: str | bytes | float) -> Command:
    """The command that runs a script."""
    return ("EVALSHA", script.sha, len(keys), *keys, *arguments)
