"""What an error of a tier means: for its health, for the same request once more, for another tier."""

from __future__ import annotations

from nearhit._errors import (
    DeadlineError,
    Error,
    TierBusyError,
    TierClosedError,
    TierError,
    TierStatusError,
    TierTimeoutError,
    TierUnsupportedError,
)

_CALLERS_FAULT = frozenset({400, 401, 403, 404, 413, 422})
"""Statuses that say nothing about the tier's health: the request, the key or the model's name is wrong."""

_PASSING = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
"""Statuses that another moment may not bring."""


def harms(error: Exception | None) -> bool:
    """Whether an error counts against the tier's health."""
    if isinstance(error, DeadlineError | TierBusyError | TierUnsupportedError):
        return False
    if isinstance(error, TierStatusError):
        return error.status not in _CALLERS_FAULT
    return isinstance(error, TierError) or not isinstance(error, Error)


def late(error: Exception | None) -> bool:
    """Whether an error means that time ran out."""
    return isinstance(error, TimeoutError)


def final(error: Error) -> bool:
    """Whether no other tier should be asked: the request itself is wrong, or its time is over."""
    if isinstance(error, DeadlineError):
        return True
    if isinstance(error, TierStatusError):
        return error.status in (400, 422)
    return not isinstance(error, TierError)


def passing(error: Error) -> bool:
    """Whether the same tier may well answer if it is asked once more.

    A tier whose queue is full would only be loaded further, and one that took too long would take as long again.
    """
    if isinstance(error, TierStatusError):
        return error.status in _PASSING
    if isinstance(error, TierTimeoutError):
        return error.phase == "connect"
    if isinstance(error, TierBusyError | TierClosedError | TierUnsupportedError | DeadlineError):
        return False
    return isinstance(error, TierError)


def asked_to_wait(error: Error) -> float | None:
    """Seconds for which the server wants no call, if it said so."""
    return error.retry_after if isinstance(error, TierStatusError) else None
