"""What one request asks of the cache and of the router."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, TypedDict, Unpack, get_args, get_origin, get_type_hints

from nearhit._config import parse_seconds
from nearhit._errors import OptionError, UnknownOptionError

if TYPE_CHECKING:
    from collections.abc import Iterator

FIELD: Final = "nearhit"
"""Key in `extra_body` under which a request's controls come; it is taken out before anything is sent."""


class Controls(TypedDict, total=False):
    """What a request may say to nearhit, in `extra_body={"nearhit": {...}}` or in `with controls(...)`.

    Attributes:
        no_store: Do not keep the answer.
        no_cache: Do not answer from the cache; the fresh answer is kept.
        only_if_cached: Answer from the cache or not at all: a miss raises the client's error for status 504.
        ttl: Seconds that the answer is kept.
        tenant: Whose request it is; tenants never see each other's answers.
        tags: Labels of the stored answer, for `Cache.invalidate(tag=...)`.
        threshold: Least similarity of a near hit; counts where it is stricter than the cache's.
        deadline: Seconds for the whole answer; the router keeps to it, a client without one takes it as its timeout.
        tier: Name of the router's tier that shall answer; no other one does.
        single_flight: Whether to wait for an equal request that is under way, in place of what `wrap` was told.
    """

    no_store: bool
    no_cache: bool
    only_if_cached: bool
    ttl: float | None
    tenant: str | None
    tags: list[str]
    threshold: float | None
    deadline: float | None
    tier: str | None
    single_flight: bool


_current: ContextVar[Controls] = ContextVar("nearhit.openai.controls", default=Controls())  # noqa: B039 - never changed


@contextmanager
def controls(**given: Unpack[Controls]) -> Iterator[None]:
    """Sets controls for every request made inside the block, in this thread or task; blocks add up.

    Args:
        **given: See `Controls`.

    Raises:
        OptionError: A value out of its range; `UnknownOptionError` for a name that does not exist.

    Example:
        >>> with controls(tenant="acme", ttl=3600):
        ...     current({"no_store": True})
        {'tenant': 'acme', 'ttl': 3600, 'no_store': True}
    """
    token = _current.set(Controls(**{**_current.get(), **checked(given)}))
    try:
        yield
    finally:
        _current.reset(token)


def current(given: Any = None) -> Controls:
    """The controls in force for a request that states `given`.

    Raises:
        OptionError: See `controls`.
    """
    base = _current.get()
    return base if given is None else Controls(**{**base, **checked(given)})


def checked(given: Any) -> Controls:
    """Controls as somebody wrote them, checked.

    Raises:
        OptionError: Not a mapping, or a value of the wrong type; `UnknownOptionError` for an unknown name.
    """
    if not isinstance(given, Mapping):
        raise OptionError(f'extra_body["{FIELD}"]={given!r} is not valid: expected an object such as {{"ttl": 60}}')
    for name, value in given.items():
        kinds = _KINDS.get(name)
        if kinds is None:
            nearest = difflib.get_close_matches(str(name), _KINDS, n=1)
            way_out = f"did you mean {nearest[0]}?" if nearest else f"there are {', '.join(_KINDS)}"
            raise UnknownOptionError(f"nearhit has no request control {name}={value!r}: {way_out}")
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            expected = " or ".join("None" if kind is type(None) else kind.__name__ for kind in kinds)
            raise OptionError(f"request control {name}={value!r} is not valid: expected {expected}")
    for name in ("ttl", "deadline"):
        parse_seconds(name, given.get(name))
    if not all(isinstance(tag, str) for tag in given.get("tags", ())):
        raise OptionError(f"request control tags={given['tags']!r} is not valid: expected strings")
    return Controls(**given)  # type: ignore[typeddict-item]  # checked name by name just above


def _kinds(hint: Any) -> tuple[type, ...]:
    """The classes that a type hint stands for; an integer is a number, too."""
    parts = get_args(hint) if get_origin(hint) is not list and get_args(hint) else (hint,)
    return tuple(kind for part in parts for kind in ((int, float) if part is float else (get_origin(part) or part,)))


_KINDS: Final = {name: _kinds(hint) for name, hint in get_type_hints(Controls).items()}
