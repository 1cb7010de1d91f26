"""GPTCache's functions that choose among answers. `Cache.init` does not use them: nearhit gives one, the nearest."""

from __future__ import annotations

import secrets
from typing import Any


def first(messages: list[Any]) -> Any:
    """The first one.

    Example:
        >>> first(["a", "b"])
        'a'
    """
    return messages[0]


def random_one(messages: list[Any]) -> Any:
    """Any one."""
    return secrets.choice(messages)


def nop(messages: list[Any]) -> list[Any]:
    """All of them."""
    return messages


def temperature_softmax(messages: list[Any], scores: list[float], temperature: float = 0.0) -> Any:
    """The one with the best score."""
    del temperature
    return max(zip(scores, messages, strict=True), key=lambda pair: pair[0])[1]
