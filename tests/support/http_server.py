"""A real HTTP server on 127.0.0.1 whose answers are written byte by byte, so that any fault can be played."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Self


@dataclass
class Request:
    """One request as it came in."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Reply:
    """The way back to the client: raw bytes, or the pieces of an HTTP answer."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    server: Server
    keep_alive: bool = True
    chunked: bool = False

    async def raw(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def head(self, status: int, headers: dict[str, str], *, reason: str = "X") -> None:
        lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
        await self.raw("\r\n".join(lines).encode())

    async def body(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        """A whole answer."""
        given = {"content-type": "application/json", "content-length": str(len(body)), **(headers or {})}
        await self.head(status, given)
        await self.raw(body)

    async def start_stream(self, headers: dict[str, str] | None = None, *, chunked: bool = True) -> None:
        """The head of a stream; without `chunked` its end is the connection's."""
        self.chunked = chunked
        self.keep_alive = chunked
        framing = {"transfer-encoding": "chunked"} if chunked else {"connection": "close"}
        await self.head(200, {"content-type": "text/event-stream", **framing, **(headers or {})})

    async def part(self, data: bytes) -> None:
        """The next bytes of a stream, sent as a network packet of their own as far as that can be asked for."""
        await self.raw(b"%x\r\n%b\r\n" % (len(data), data) if self.chunked else data)
        await asyncio.sleep(0)

    async def end_stream(self) -> None:
        if self.chunked:
            await self.raw(b"0\r\n\r\n")

    async def cut(self) -> None:
        """Drops the connection in the middle of whatever was being said."""
        self.keep_alive = False
        self.writer.close()

    async def client_gone(self) -> None:
        """Waits until the client has closed the connection."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(1024):
                pass
        self.server.note_departure()
        self.keep_alive = False


Handler = Callable[[Request, Reply], Awaitable[None]]


@dataclass
class Server:
    """Serves queued handlers, one for each request in order, then the default one.

    Attributes:
        requests: What came in.
        connections: Connections accepted so far.
        open: Connections open now.
        departures: Clients seen going away in the middle of an answer.
        departed: Set at the first of them.
        received: Set at the first request.
    """

    default: Handler | None = None
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    open: int = 0
    departures: int = 0

    def __post_init__(self) -> None:
        self.departed = threading.Event()
        self.received = threading.Event()
        self._queue: deque[Handler] = deque()
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="test-server", daemon=True)
        self._thread.start()
        self._listener = self._run(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port: int = self._listener.sockets[0].getsockname()[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def then(self, *handlers: Handler) -> Self:
        """Queues handlers for the next requests."""
        self._queue.extend(handlers)
        return self

    def note_departure(self) -> None:
        self.departures += 1
        self.departed.set()

    def _run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        self.open += 1
        try:
            while (request := await _read_request(reader)) is not None:
                self.requests.append(request)
                self.received.set()
                handler = self._queue.popleft() if self._queue else self.default
                assert handler is not None, f"no handler for {request.path}"
                reply = Reply(reader, writer, self)
                await handler(request, reply)
                if not reply.keep_alive:
                    break
        except ConnectionError:
            self.note_departure()
        except (asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self.open -= 1
            writer.close()
            try:
                with contextlib.suppress(ConnectionError):
                    await writer.wait_closed()
            except asyncio.CancelledError:
                writer.transport.abort()  # the server ends: what is still to be sent waits for nobody
            finally:
                self._tasks.discard(task)  # only now: `close` waits for those that have not closed their connection

    def close(self) -> None:
        async def shut() -> None:
            self._listener.close()
            for task in list(self._tasks):
                task.cancel()
            if self._tasks:
                await asyncio.wait(list(self._tasks), timeout=5)
            await asyncio.sleep(0)

        if not self._loop.is_closed():
            self._run(shut())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(5)
            self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


async def _read_request(reader: asyncio.StreamReader) -> Request | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ", 2)
    headers = {
        name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)
    }
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Request(method, path, headers, body)
