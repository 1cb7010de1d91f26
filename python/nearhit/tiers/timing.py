"""Time limits of a request, and the stopwatch that measures it."""

from __future__ import annotations

import time
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from nearhit._errors import OptionError
from nearhit._types import Timings
from nearhit.tiers.options import check_number

if TYPE_CHECKING:
    from nearhit._types import Chunk


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long each phase of a request may take, in seconds; None for no limit.

    Attributes:
        connect: To a connection with the server.
        first_token: From the start of the request's work to the first piece of content.
        stall: Between two pieces after that.
        total: For the whole request, waiting for a slot included.

    Raises:
        OptionError: A limit that is not a positive, finite number.

    Example:
        >>> Timeouts(first_token=2.0, total=30.0).stall is None
        True
    """

    connect: float | None = None
    first_token: float | None = None
    stall: float | None = None
    total: float | None = None

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            check_number(f"timeout {entry.name!r}", value)
            if value is not None and value <= 0:
                raise OptionError(f"timeout {entry.name!r} must be a positive number of seconds or None, not {value!r}")


class Stopwatch:
    """Measures one request on one monotonic clock (`time.perf_counter`).

    Attributes:
        connect: Set by the tier: seconds spent on connecting, where it did.
    """

    __slots__ = (
        "_end",
        "_first_byte",
        "_first_content",
        "_gaps",
        "_last",
        "_output_tokens",
        "_queue",
        "_start",
        "connect",
    )

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._queue = 0.0
        self._first_byte: float | None = None
        self._first_content: float | None = None
        self._last = 0.0
        self._end: float | None = None
        self._gaps: list[float] = []
        self._output_tokens = 0
        self.connect: float | None = None

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self._start

    def admitted(self) -> None:
        """Marks that the request has its slot."""
        self._queue = self.elapsed

    def first_byte(self) -> None:
        """Marks the first sign of an answer; later calls change nothing."""
        if self._first_byte is None:
            self._first_byte = self.elapsed

    def piece(self, chunk: Chunk) -> None:
        """Marks a piece of the answer."""
        now = self.elapsed
        if self._first_byte is None:
            self._first_byte = now
        if chunk.usage is not None:
            self._output_tokens = chunk.usage.completion_tokens
        if not chunk.has_content:
            return
        if self._first_content is None:
            self._first_content = now
        else:
            self._gaps.append(now - self._last)
        self._last = now

    def finish(self) -> None:
        """Marks the end of the answer; later calls change nothing."""
        if self._end is None:
            self._end = self.elapsed

    def timings(self) -> Timings:
        """Returns what was measured, up to now if the answer has not ended."""
        end = self.elapsed if self._end is None else self._end
        return Timings(
            ttfb=end if self._first_byte is None else self._first_byte,
            ttft=self._first_content,
            e2e=end,
            itl=tuple(self._gaps),
            output_tokens=self._output_tokens,
            queue=self._queue,
            connect=self.connect,
        )
