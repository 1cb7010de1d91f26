"""A connection on a caller's own event loop, which all lookups from that loop share.

What is asked in one turn of the loop goes out in one write, one timer serves all deadlines, and no other thread has
anything to do with it. The socket is a bare one and not a transport: a loop that is closed without a word, as
`asyncio.run` does, leaves nothing to warn of.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

import hiredis

from nearhit.backends._wire import LostError

if TYPE_CHECKING:
    import asyncio

    from nearhit.backends._direct import Plain
    from nearhit.backends._wire import Reply

# Questions that go out without waiting for the turn's end, so that the server has work while the next are made. A
# hundred callers on a busy machine, q8 sets: 5,750 lookups/s; with 8, 4,400; 32, 5,100; all at the turn's end, 4,700.
_TOGETHER: Final = 16
_STALL: Final = 2.0  # seconds without a reply after which the connection is given up


class LoopLane:
    """A pipelined connection on one event loop, for the lookups made from it. Runs on that loop but for `close`.

    Args:
        loop: The loop.
        plain: The connection; not encrypted.
        seconds: How long a caller waits.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, plain: Plain, seconds: float) -> None:
        self._loop = loop
        self._socket = plain.socket
        self._intake = plain.intake
        self._seconds = seconds
        self._out: list[bytes] = []
        self._blocked = False
        self._due = False  # a flush at the turn's end
        self._waiting: deque[_Asked] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self.closed = False
        plain.socket.setblocking(False)

    def start(self) -> None:
        """Begins to listen.

        Raises:
            NotImplementedError: The loop cannot watch sockets.
        """
        if not self.closed:
            self._loop.add_reader(self._socket, self._readable)

    def ask(self, data: bytes, count: int) -> asyncio.Future[list[Reply] | None]:
        """Sends packed commands; the future's result is their replies, or None if they do not come in time.

        It raises LostError if the connection breaks.
        """
        future: asyncio.Future[Any] = self._loop.create_future()
        asked = _Asked(future, count, self._loop.time() + self._seconds)
        if not self._due and not self._blocked:
            self._due = True
            self._loop.call_soon(self._flush_due)
        self._out.append(data)
        self._waiting.append(asked)
        if len(self._out) >= _TOGETHER and not self._blocked:
            self._flush()
        if self._timer is None:
            self._timer = self._loop.call_at(asked.until, self._look)
        return future

    def _flush_due(self) -> None:
        self._due = False
        self._flush()

    def _flush(self) -> None:
        out, self._out = b"".join(self._out), []
        if self.closed or not out:
            return
        try:
            sent = self._socket.send(out)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._break(str(error))
            return
        if sent < len(out):
            self._out.append(out[sent:])
        if bool(self._out) != self._blocked:
            self._blocked = not self._blocked
            if self._blocked:
                self._loop.add_writer(self._socket, self._flush)
            else:
                self._loop.remove_writer(self._socket)

    def _readable(self) -> None:
        waiting, gets = self._waiting, self._intake.gets
        try:
            if self._intake.take_in() == 0:
                self._break("the connection broke")
                return
            while (reply := gets()) is not False:
                if type(reply) is hiredis.PushNotification or not waiting:
                    continue
                asked = waiting[0]
                asked.replies.append(reply)
                if len(asked.replies) == asked.count:
                    waiting.popleft()
                    if not asked.future.done():
                        asked.future.set_result(asked.replies)
        except BlockingIOError:
            return
        except (OSError, hiredis.ProtocolError) as error:
            self._break(str(error))

    def _look(self) -> None:
        """Ends the waits that have been too long."""
        self._timer = None
        now = self._loop.time()
        if self._waiting and now > self._waiting[0].until + _STALL:
            self._break("no reply for too long")
            return
        for asked in self._waiting:
            if asked.future.done():
                continue
            if asked.until > now:
                self._timer = self._loop.call_at(asked.until, self._look)
                return
            asked.future.set_result(None)
        if self._waiting:
            self._timer = self._loop.call_later(_STALL, self._look)

    def _break(self, why: str) -> None:
        waiting, self._waiting = self._waiting, deque()
        for asked in waiting:
            if not asked.future.done():
                asked.future.set_exception(LostError(why))
        if self.closed:
            return
        self.closed = True
        if not self._loop.is_closed():
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            if self._timer is not None:
                self._timer.cancel()
        self._socket.close()

    def close(self) -> None:
        """Closes it; from any thread."""
        if self._loop.is_running():
            self._loop.call_soon_threadsafe(self._break, "closed")
        else:
            self._break("closed")


class _Asked:
    """One question on its way."""

    __slots__ = ("count", "future", "replies", "until")

    def __init__(self, future: asyncio.Future[Any], count: int, until: float) -> None:
        self.future = future
        self.count = count
        self.until = until
        self.replies: list[Reply] = []
