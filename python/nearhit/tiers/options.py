"""Checks of options that come from untyped callers, each naming the value it refuses."""

from __future__ import annotations

import math

from nearhit._errors import OptionError


def check_text(name: str, value: object) -> None:
    """Raises `OptionError` unless `value` is a text that is not blank."""
    if not isinstance(value, str) or not value.strip():
        raise OptionError(f"{name} must be a text that is not empty, not {value!r}")


def check_whole(name: str, value: object, *, least: int) -> None:
    """Raises `OptionError` unless `value` is None or a whole number of at least `least`."""
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise OptionError(f"{name} must be an integer >= {least} or None, not {value!r}")


def check_number(name: str, value: object, *, least: float = -math.inf, most: float = math.inf) -> None:
    """Raises `OptionError` unless `value` is None or a finite number in [least, most]."""
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise OptionError(f"{name} must be a finite number or None, not {value!r}")
    if not least <= value <= most:
        raise OptionError(f"{name} must lie in [{least:g}, {most:g}], not {value!r}")


def check_kind(name: str, value: object, kind: type) -> None:
    """Raises `OptionError` unless `value` is None or a `kind`."""
    if value is not None and not isinstance(value, kind):
        raise OptionError(f"{name} must be a {kind.__module__}.{kind.__qualname__} or None, not {value!r}")
