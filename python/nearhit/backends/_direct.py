"""A connection that a caller asks at by himself, waiting in place.

It spares a lone caller two changes of threads and the I/O thread's loop between them. Whoever finds it free takes it,
the others go through the I/O thread and share its connection.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import sys
import threading
import time
from typing import TYPE_CHECKING, Final, cast

import hiredis

from nearhit.backends._wire import CONNECT_SECONDS, LostError, ServerError, greeting, pack

if TYPE_CHECKING:
    from collections.abc import Callable

    from nearhit.backends._address import Address
    from nearhit.backends._wire import Reply

_CHUNK: Final = 1 << 18  # read into one buffer: a new one for each read takes every lookup some 10 us
_OVER: Final = (TimeoutError, BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Intake:
    """What comes over a socket, as replies.

    Attributes:
        gets: The next reply; False if it has not come in full.
    """

    def __init__(self, plug: socket.socket) -> None:
        reader = hiredis.Reader(replyError=ServerError)
        self.gets = reader.gets
        # The parser takes any buffer; its stub knows none but bytes.
        self._feed = cast("Callable[[bytearray, int, int], None]", reader.feed)
        self._receive = plug.recv_into
        self._buffer = bytearray(_CHUNK)

    def take_in(self) -> int:
        """Hands what has come to the parser; returns its bytes, of which there are none when the connection has ended.

        Raises:
            OSError: The connection broke; BlockingIOError if nothing has come and the socket does not wait.
            ProtocolError: What has come is no reply.
        """
        size = self._receive(self._buffer)
        self._feed(self._buffer, 0, size)
        return size


class Plain:
    """A blocking connection that has been greeted and has logged in.

    Raises:
        OSError: Nobody there, or not in time.
        ServerError: Wrong password, no such database.
        LostError: It broke meanwhile.
    """

    def __init__(self, address: Address) -> None:
        host, port = address.hosts[0]
        self.is_encrypted = address.tls is not None
        self.socket = _connected(host, port)
        try:
            if address.tls is not None:
                self.socket = address.tls.wrap_socket(self.socket, server_hostname=host)
            self.intake = Intake(self.socket)
            steps = greeting(address)
            command = next(steps)
            with contextlib.suppress(StopIteration):
                while True:
                    self.socket.sendall(pack(command))
                    command = steps.send(self.receive(1, time.monotonic() + CONNECT_SECONDS)[0])
        except BaseException:
            self.socket.close()
            raise

    def receive(self, count: int, until: float) -> list[Reply]:
        """Waits for replies.

        Raises:
            TimeoutError: They are not complete at the moment `until`.
            LostError: The connection broke.
        """
        replies: list[Reply] = []
        gets, take_in = self.intake.gets, self.intake.take_in
        try:
            while True:
                reply = gets()
                if reply is not False:
                    replies.append(reply)
                    if len(replies) == count:
                        return replies
                    continue
                if take_in() == 0:
                    raise LostError("the connection broke")
                if time.monotonic() > until:
                    raise TimeoutError
        except _OVER as error:
            raise TimeoutError from error
        except (OSError, hiredis.ProtocolError) as error:
            raise LostError(str(error)) from error

    def limit(self, seconds: float) -> None:
        """Has every further wait end after so long."""
        if self.is_encrypted or sys.platform == "win32":
            self.socket.settimeout(seconds)
            return
        # The kernel's own limit: a timeout of Python's would cost a poll before every call.
        self.socket.settimeout(None)
        moment = struct.pack("ll", int(seconds), max(1, int(seconds % 1 * 1e6)))
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, moment)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, moment)


def _connected(host: str, port: int) -> socket.socket:
    if port == 0:
        made = socket.socket(socket.AF_UNIX)
        try:
            made.settimeout(CONNECT_SECONDS)
            made.connect(host)
        except BaseException:
            made.close()
            raise
        return made
    made = socket.create_connection((host, port), CONNECT_SECONDS)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made


class Direct:
    """A connection that one caller at a time takes and waits at.

    Args:
        plain: The connection.
        seconds: How long a caller waits.
    """

    def __init__(self, plain: Plain, seconds: float) -> None:
        self._plain = plain
        self._seconds = seconds
        self._lock = threading.Lock()
        self._closed = False
        plain.limit(seconds)

    @property
    def closed(self) -> bool:
        """Whether it is of no use any more."""
        return self._closed

    def claim(self) -> bool:
        """Takes it, if it is free; `ask` gives it back."""
        return self._lock.acquire(blocking=False)

    def ask(self, data: bytes, count: int) -> list[Reply]:
        """Sends packed commands and waits for their replies. After any error it is of no use any more.

        Raises:
            TimeoutError: They did not come in time.
            LostError: The connection broke.
        """
        whole = False
        try:
            until = time.monotonic() + self._seconds
            try:
                self._plain.socket.sendall(data)
            except _OVER as error:
                raise TimeoutError from error
            except OSError as error:
                raise LostError(str(error)) from error
            replies = self._plain.receive(count, until)
            whole = True
            return replies
        finally:
            self._closed = self._closed or not whole  # a reply still to come would be taken for the next one's
            self._lock.release()
            self._end()

    def close(self) -> None:
        """Closes it, now or when the one who has it gives it back; from any thread."""
        self._closed = True
        with contextlib.suppress(OSError):
            self._plain.socket.shutdown(socket.SHUT_RDWR)
        self._end()

    def _end(self) -> None:
        if self._closed and self._lock.acquire(blocking=False):  # for good: nobody can take it any more
            self._plain.socket.close()
