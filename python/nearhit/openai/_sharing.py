"""Single-flight in front of a server: of equal requests under way at the same time, one is sent.

The others get what it is answered with: the same body, or the same stream while it comes. If its call fails, one of
them makes the next one; if its answer is none that may be passed on (cut, refused, an error of the request's own),
they all go their own ways at once. Nobody waits for longer than `PATIENCE` seconds, or its own timeout.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakValueDictionary

from nearhit.cache._flight import Flights
from nearhit.openai._plan import drive, drive_async

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

    from nearhit.openai._plan import Plan

PATIENCE: Final = 60.0
"""Most seconds that a request waits for another one's answer, or for the next part of its stream."""

_PASSING: Final = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS})
"""Statuses below 500 that the next call need not meet."""

_leading: ContextVar[frozenset[Hashable]] = ContextVar("nearhit.openai.leading", default=frozenset())
"""Keys of the calls that are being made around here: one that asks for itself must not wait for itself."""


class Sharing:
    """The calls under way, and the streams."""

    def __init__(self) -> None:
        self._flights = Flights(PATIENCE)
        # Held weakly: a stream that its readers have dropped without closing it is closed by the collector.
        self._streams: WeakValueDictionary[Hashable, Any] = WeakValueDictionary()

    def run(self, key: Hashable, make: Callable[[], Plan[Any]], patience: float) -> Any:
        """What `make()` comes to, made here or by whoever is making it for this key already."""
        return self._flights.run(key, lambda: drive(make()), patience)

    async def run_async(self, key: Hashable, make: Callable[[], Plan[Any]], patience: float) -> Any:
        """`run`, for a task."""
        return await self._flights.run_async(key, lambda: drive_async(make()), patience)

    def stream(self, key: Hashable) -> Any:
        """The stream for a key that is on its way, or None."""
        return self._streams.get(key)

    def opened(self, key: Hashable, shared: Any) -> None:
        """Takes down a stream, so that those who come while it flows find it."""
        self._streams[key] = shared

    def closed(self, key: Hashable) -> None:
        """Forgets a stream that has come to its end."""
        self._streams.pop(key, None)


@contextmanager
def leading(key: Hashable) -> Iterator[None]:
    """Marks a call as being made here, by whatever it calls."""
    token = _leading.set(_leading.get() | {key})
    try:
        yield
    finally:
        _leading.reset(token)


def leads(key: Hashable) -> bool:
    """Whether the call for a key is being made around here."""
    return key in _leading.get()


def is_final(error: Exception) -> bool:
    """Whether an equal request would meet the same error."""
    status = getattr(error, "status_code", None)
    return (
        isinstance(status, int)
        and HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR
        and status not in _PASSING
    )


def timeout_of(client: Any, options: Any) -> float | None:
    """Most seconds that a request may wait for bytes; None for no bound."""
    given = options.timeout
    stated = given is None or isinstance(given, int | float) or hasattr(given, "read")
    timeout = given if stated else client.timeout
    seconds = getattr(timeout, "read", timeout)
    return float(seconds) if isinstance(seconds, int | float) else None
