"""How long one request may wait for an embedder, and how it is called off.

A bound travels in a context variable: it reaches the embedder through whatever lies between, a cache, a worker thread
or somebody else's embedder around one of ours, without a parameter in each of them.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from contextvars import ContextVar
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, TypeVar

from nearhit._config import parse_seconds
from nearhit._errors import EmbeddingError, EmbeddingTimeoutError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")


class Bound:
    """The patience of one request.

    Args:
        seconds: From now; None for no end.
        outer: Another bound that holds as well.
    """

    __slots__ = ("_lock", "_watcher", "called_off", "seconds", "until")

    def __init__(self, seconds: float | None = None, outer: Bound | None = None) -> None:
        self.seconds = seconds
        self.until = None if seconds is None else monotonic() + seconds
        if outer is not None and outer.until is not None and (self.until is None or outer.until < self.until):
            self.seconds, self.until = outer.seconds, outer.until
        self.called_off = False
        self._watcher: Callable[[], None] | None = None
        self._lock = threading.Lock()

    @property
    def left(self) -> float | None:
        """Seconds left, at least 0; None for no end."""
        return None if self.until is None else max(0.0, self.until - monotonic())

    def check(self, name: str) -> None:
        """Raises if the request has no time left, or nobody waits for it any more.

        Args:
            name: The embedder, for the message.

        Raises:
            EmbeddingTimeoutError: The deadline has passed.
            EmbeddingError: The request was called off.
        """
        if self.called_off:
            raise EmbeddingError(f"{name} was called off: the caller no longer waits")
        if self.until is not None and monotonic() >= self.until:
            raise EmbeddingTimeoutError(
                f"{name} did not embed within {self.seconds} s: it is too busy; send less, or allow more time"
            )

    def call_off(self) -> None:
        """Nobody waits for the request any more: it leaves whatever queue it is in."""
        with self._lock:
            self.called_off = True
            watcher = self._watcher
        if watcher is not None:
            watcher()

    @contextmanager
    def watched(self, watcher: Callable[[], None]) -> Iterator[None]:
        """Within the block, `watcher` is called when the request is called off; at once if it was already."""
        with self._lock:
            self._watcher = watcher
            called_off = self.called_off
        try:
            if called_off:
                watcher()
            yield
        finally:
            with self._lock:
                self._watcher = None


_current: Final[ContextVar[Bound | None]] = ContextVar("nearhit_bound", default=None)


def current_bound(seconds: float | None = None) -> Bound:
    """The bound that holds here, with `seconds` from now as a further one."""
    outer = _current.get()
    return outer if outer is not None and seconds is None else Bound(seconds, outer)


def call_within(bound: Bound, call: Callable[..., T], *args: Any) -> T:
    """Calls with the bound in force."""
    token = _current.set(bound)
    try:
        return call(*args)
    finally:
        _current.reset(token)


@contextmanager
def deadline(seconds: float | None) -> Iterator[None]:
    """Bounds the time that embedding may take within the block, whoever asks for it there: a cache, or you.

    Time runs from the block's start. What has not been embedded by then raises `EmbeddingTimeoutError`; a lookup in a
    cache becomes a miss instead, counted in `Stats.embedder_late`. Blocks may be nested; the earliest end counts.
    Works in threads, and in asyncio for the task that is in the block.

    Args:
        seconds: Seconds from now; None changes nothing.

    Raises:
        OptionError: Not a positive number.

    Example:
        >>> from nearhit import Cache, embed
        >>> cache = Cache()
        >>> with embed.deadline(0.05):
        ...     cache.lookup("What is 2 + 2?") is None
        True
    """
    token = _current.set(Bound(parse_seconds("seconds", seconds), _current.get()))
    try:
        yield
    finally:
        _current.reset(token)
