"""One connection to one server: commands go out in one write a turn, replies come back in their order."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import hiredis

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from nearhit.backends._address import Address

Command: TypeAlias = "tuple[str | bytes | int | float, ...]"
Reply: TypeAlias = Any

log = logging.getLogger("nearhit.backends")

CONNECT_SECONDS: Final = 2.0
"""For the network and the greeting together."""


class ServerError(Exception):
    """The server's own refusal of a command, as a reply."""


class LostError(Exception):
    """The connection broke before the reply came, or was given up."""


class Wire(asyncio.Protocol):
    """A pipelined connection. Everything runs on the loop's own thread."""

    def __init__(self, push: Callable[[Reply], None] | None = None) -> None:
        self._reader = hiredis.Reader(replyError=ServerError)
        self._waiting: deque[tuple[Callable[[Reply], None], float]] = deque()
        self._out: list[bytes] = []
        self._transport: asyncio.Transport | None = None
        self._push = push
        self._loop = asyncio.get_running_loop()
        self.lost: asyncio.Future[None] = self._loop.create_future()
        self.greeting: dict[str, Any] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - streams have one
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Called by the loop: hands out the replies that are complete."""
        reader, waiting = self._reader, self._waiting
        try:
            reader.feed(data)
            while (reply := reader.gets()) is not False:
                if type(reply) is hiredis.PushNotification or not waiting:
                    if self._push is not None:
                        self._push(reply)
                else:
                    waiting.popleft()[0](reply)
        except hiredis.ProtocolError:
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop: whoever waits is told."""
        del exc
        if not self.lost.done():
            self.lost.set_result(None)
        waiting, self._waiting = self._waiting, deque()
        error = LostError("the connection broke")
        for done, _ in waiting:
            done(error)

    def send(self, command: Command, done: Callable[[Reply], None]) -> None:
        """Sends a command; `done` gets the reply, an error among them, or a LostError."""
        if self.lost.done() or self._transport is None:
            done(LostError("the connection is closed"))
            return
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(pack(command))
        self._waiting.append((done, monotonic()))

    def tell(self, *command: str | bytes | float) -> None:
        """Sends a command whose answers come as pushes."""
        if self._transport is not None:
            self._transport.write(pack(command))

    def _flush(self) -> None:
        out, self._out = self._out, []
        if self._transport is not None and out:
            self._transport.write(out[0] if len(out) == 1 else b"".join(out))

    async def ask(self, *command: str | bytes | float) -> Reply:
        """Sends a command and waits for its reply.

        Raises:
            ServerError: The server refused.
            LostError: The connection broke.
        """
        future: asyncio.Future[Reply] = self._loop.create_future()

        def done(reply: Reply) -> None:
            if not future.done():
                future.set_result(reply)

        self.send(command, done)
        reply = await future
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def ask_all(self, commands: Sequence[Command]) -> list[Reply]:
        """Sends commands in one write; replies in their order, refusals as exceptions among them."""
        return await asyncio.gather(*(self.ask(*command) for command in commands), return_exceptions=True)

    @property
    def delay(self) -> float:
        """Seconds that the longest waiting command has waited."""
        return monotonic() - self._waiting[0][1] if self._waiting else 0.0

    def abort(self) -> None:
        """Closes at once; whoever waits gets a LostError."""
        if self._transport is not None:
            self._transport.abort()


async def connect(address: Address, push: Callable[[Reply], None] | None = None) -> Wire:
    """A connection that has been greeted and has logged in.

    Raises:
        OSError: Nobody there, or not in time.
        ServerError: Wrong password, no such database.
        LostError: It broke meanwhile.
    """
    loop = asyncio.get_running_loop()
    host, port = address.hosts[0]
    async with asyncio.timeout(CONNECT_SECONDS):
        if port == 0:
            _, wire = await loop.create_unix_connection(lambda: Wire(push), host, ssl=address.tls)
        else:
            _, wire = await loop.create_connection(lambda: Wire(push), host, port, ssl=address.tls)
        try:
            await _greet(wire, address)
        except BaseException:
            wire.abort()
            raise
    return wire


async def _greet(wire: Wire, address: Address) -> None:
    steps = greeting(address)
    command = next(steps)
    try:
        while True:
            (reply,) = await wire.ask_all([command])
            command = steps.send(reply)
    except StopIteration as done:
        wire.greeting = done.value


def greeting(address: Address) -> Generator[Command, Reply, dict[str, Any]]:
    """Commands that open a connection; each is sent its reply. Returns what the server said of itself.

    Raises:
        ServerError: Wrong password, no such database.
        LostError: It was a reply.
    """
    login: tuple[str, ...] = ()
    if address.password is not None:
        login = ("AUTH", address.username or "default", address.password)
    hello = yield "HELLO", address.protocol, *login
    if isinstance(hello, ServerError) and "unknown command" in str(hello).lower():  # a server before version 6
        hello = {}
        if login:
            _refused((yield "AUTH", *([address.username] if address.username else []), login[-1]))
    _refused(hello)
    if address.db:
        _refused((yield "SELECT", address.db))
    return as_dict(hello)


def _refused(reply: Reply) -> None:
    if isinstance(reply, Exception):
        raise reply


def pack(command: Command) -> bytes:
    """A command as it goes over the wire."""
    return hiredis.pack_command(command)  # type: ignore[arg-type,no-any-return]  # the stub speaks of tuples of one


def as_dict(reply: Reply) -> dict[str, Any]:
    """A map of RESP3, or the flat list that RESP2 has for it; keys as text."""
    pairs = reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2], strict=True)
    return {text(name): value for name, value in pairs}


def text(value: bytes | str) -> str:
    """A reply as text."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
