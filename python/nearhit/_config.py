"""Reading of options that people write by hand."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from nearhit._errors import OptionError, UnknownOptionError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import UnionType

_UNITS: Final = {
    "": 1, "b": 1,
    "k": 10**3, "kb": 10**3, "kib": 2**10,
    "m": 10**6, "mb": 10**6, "mib": 2**20,
    "g": 10**9, "gb": 10**9, "gib": 2**30,
    "t": 10**12, "tb": 10**12, "tib": 2**40,
}  # fmt: skip
_LONGEST: Final = 1e12  # seconds, 30,000 years: what milliseconds in 64 bits hold with room to spare


def parse_bytes(name: str, value: int | str | None) -> int | None:
    """A number of bytes from an integer or a string such as "512MiB"; None means no bound.

    Args:
        name: Name of the option, for the message.
        value: What was given.

    Raises:
        OptionError: Not a size, or less than 1.

    Example:
        >>> parse_bytes("max_bytes", "1.5KiB")
        1536
    """
    if value is None:
        return None
    size: float | None = None
    if isinstance(value, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", value)
        unit = _UNITS.get(match[2].lower()) if match else None
        if match and unit:
            size = float(match[1]) * unit
    elif _is_number(value, int):
        size = value
    if size is None or not 1 <= size < 2**63:
        raise OptionError(f'option {name}={value!r} is not valid: expected a number of bytes or a size like "512MiB"')
    return int(size)


def parse_count(name: str, value: int | None, least: int = 1) -> int | None:
    """An integer, or None for no bound.

    Args:
        name: Name of the option, for the message.
        value: What was given.
        least: The smallest one that means something.

    Raises:
        OptionError: Not an integer of at least `least`.
    """
    if value is None:
        return None
    if not _is_number(value, int) or not least <= value < 2**63:
        raise OptionError(f"option {name}={value!r} is not valid: expected an integer of at least {least}, or None")
    return value


def parse_seconds(name: str, value: float | timedelta | None) -> float | None:
    """A positive number of seconds, or None for no end.

    Args:
        name: Name of the option, for the message.
        value: What was given: a number, or a `datetime.timedelta`.

    Raises:
        OptionError: Not a positive, finite number.
    """
    if value is None:
        return None
    seconds: Any = value.total_seconds() if isinstance(value, timedelta) else value
    if not _is_number(seconds, int | float) or not 0 < seconds < _LONGEST:
        raise OptionError(f"option {name}={value!r} is not valid: expected a positive number of seconds, or None")
    return float(seconds)


def _is_number(value: Any, kind: type | UnionType) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def refuse_unknown(owner: type, given: Mapping[str, Any]) -> None:
    """Refuses options that a class does not have.

    Args:
        owner: The class whose constructor was called.
        given: What was left over after its own options were taken.

    Raises:
        UnknownOptionError: Something was left over.
    """
    if not given:
        return
    import difflib  # noqa: PLC0415 - only a mistake needs them
    import inspect  # noqa: PLC0415 - likewise

    name = next(iter(given))
    known = [
        parameter.name
        for parameter in inspect.signature(owner).parameters.values()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    ]
    nearest = difflib.get_close_matches(name, known, n=1)
    way_out = f"did you mean {nearest[0]}?" if nearest else f"it has {', '.join(known)}"
    raise UnknownOptionError(f"{owner.__name__} has no option {name}={given[name]!r}: {way_out}")
