"""Server-sent events out of a stream of bytes, as the WHATWG HTML standard (section 9.2.6) reads them."""

from __future__ import annotations

from typing import NamedTuple

MAX_EVENT_BYTES = 32 * 1024 * 1024
"""An event that grows past this is an attack or a mistake."""


class SSEError(ValueError):
    """The bytes are not a stream of server-sent events."""


class Event(NamedTuple):
    """One event.

    Attributes:
        data: Its data lines, joined by newlines.
        name: Its type; "message" unless the server names one.
    """

    data: str
    name: str = "message"


class SSEParser:
    r"""Splits bytes, cut anywhere, into events.

    Lines end with LF, CR or CRLF; comments (keep-alives) are skipped; a character cut in two by the network is whole
    again, since text is decoded by the line.

    Example:
        >>> parser = SSEParser()
        >>> parser.feed(b": ping\r\ndata: caf\xc3")
        []
        >>> parser.feed(b"\xa9\r\n\r\n")
        [Event(data='café', name='message')]
    """

    def __init__(self) -> None:
        self._partial: list[bytes] = []
        self._size = 0
        self._data: list[str] = []
        self._name = ""
        self._skip_lf = False
        self._at_start = True

    def feed(self, chunk: bytes) -> list[Event]:
        """Takes the next bytes and returns the events that they complete.

        Raises:
            SSEError: A line that is not UTF-8, or an event beyond `MAX_EVENT_BYTES`.
        """
        if not chunk:
            return []
        if self._skip_lf:
            # The CR that ended the last piece was taken for a line's end at once, so that no event waits for the next.
            self._skip_lf = False
            if chunk.startswith(b"\n"):
                chunk = chunk[1:]
        events: list[Event] = []
        for line in chunk.splitlines(keepends=True):  # of bytes: ends at CR, LF and CRLF only
            if line[-1] not in b"\r\n":
                self._partial.append(line)
                self._grow(len(line))
                break
            if self._partial:
                self._partial.append(line)
                line = b"".join(self._partial)  # noqa: PLW2901 - the same line, whole
                self._partial.clear()
            event = self._line(line.rstrip(b"\r\n"))
            if event is not None:
                events.append(event)
        self._skip_lf = chunk.endswith(b"\r")
        return events

    def finish(self) -> list[Event]:
        """Returns the event that the end of the stream left without its blank line.

        The standard drops it; servers that close right after their last data line are common enough to be heard.
        """
        events = [self._line(line) for line in (b"".join(self._partial), b"")]
        self._partial.clear()
        return [event for event in events if event is not None]

    def _grow(self, size: int) -> None:
        self._size += size
        if self._size > MAX_EVENT_BYTES:
            raise SSEError(f"an event is longer than {MAX_EVENT_BYTES} bytes")

    def _line(self, line: bytes) -> Event | None:
        if self._at_start:
            self._at_start = False
            line = line.removeprefix(b"\xef\xbb\xbf")
        if not line:
            return self._dispatch()
        self._grow(len(line))
        if line.startswith(b"data: "):  # all but every line that matters
            field, value = b"data", line[6:]
        else:
            field, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            if field not in (b"data", b"event"):
                return None
        try:
            text = value.decode()
        except UnicodeDecodeError as error:
            raise SSEError(f"a line is not UTF-8: {line[:80]!r}") from error
        if field == b"data":
            self._data.append(text)
        else:
            self._name = text
        return None

    def _dispatch(self) -> Event | None:
        data, name = self._data, self._name
        self._data, self._name, self._size = [], "", 0
        return Event("\n".join(data), name or "message") if data else None
