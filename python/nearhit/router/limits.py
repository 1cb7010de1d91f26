"""What one request demands of the router, apart from the tier's own parameters."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nearhit._errors import DeadlineError, OptionError

if TYPE_CHECKING:
    from nearhit.trace import Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of one request.

    Attributes:
        deadline: Seconds for the whole answer, counted from the request's start; None for no limit.
        max_cost: US dollars that it may cost by prediction; None for no limit.
        scope: The caller's scope in the cache (a tenant); any JSON value.
        cache: False to neither look up nor store.
        priority: Requests of a higher one leave a tier's queue first; those below 0 are neither retried nor hedged.
        session: Requests of one session go to the same replica, as long as it is not overloaded.
        tags: What rules of metadata ask for; not sent to tiers.
        about: Further facts for them, by name; not sent to tiers.
    """

    deadline: float | None = None
    max_cost: float | None = None
    scope: Any = None
    cache: bool = True
    priority: int = 0
    session: str | None = None
    tags: Sequence[str] = ()
    about: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_seconds("deadline", self.deadline)
        check_amount("max_cost", self.max_cost)
        if isinstance(self.priority, bool) or not isinstance(self.priority, int):
            raise OptionError(f"priority={self.priority!r} is not valid: expected a whole number, 0 by default")
        if self.session is not None and not isinstance(self.session, str):
            raise OptionError(f"session={self.session!r} is not valid: expected a text, or None")
        check_facts(self.tags, self.about)

    def left(self, trace: Trace) -> float | None:
        """Returns the seconds left until the deadline; None without one.

        Raises:
            DeadlineError: It has passed.
        """
        if self.deadline is None:
            return None
        left = self.deadline - trace.elapsed
        if left <= 0:
            raise DeadlineError(f"the deadline of {self.deadline} s has passed: allow more time or add a faster tier")
        return left


def check_seconds(name: str, value: object) -> None:
    """Raises `OptionError` unless `value` is None or a positive number of seconds."""
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 < value < math.inf:
        raise OptionError(f"{name}={value!r} is not valid: expected seconds, more than 0, or None")


def check_amount(name: str, value: object) -> None:
    """Raises `OptionError` unless `value` is None or a finite number of at least 0."""
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 <= value < math.inf:
        raise OptionError(f"{name}={value!r} is not valid: expected US dollars, 0 or more, or None")


def check_facts(tags: object, about: object) -> None:
    """Raises `OptionError` unless `tags` are a list of texts and `about` has values by name."""
    if tags != () and not (
        isinstance(tags, Sequence) and not isinstance(tags, str) and all(isinstance(tag, str) for tag in tags)
    ):
        raise OptionError(f"tags={tags!r} is not valid: expected a list of texts")
    if about != {} and not isinstance(about, Mapping):
        raise OptionError(f"about={about!r} is not valid: expected values by name")


def need_of(limits: Limits, params: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the demands that bear on the choice of a tier, as `RouterCore.decide` takes them."""
    longest = params.get("max_completion_tokens", params.get("max_tokens"))
    if longest is not None and (isinstance(longest, bool) or not isinstance(longest, int) or longest < 1):
        raise OptionError(f"max_tokens={longest!r} is not valid: expected a whole number, at least 1")
    return {"max_cost": limits.max_cost, "max_tokens": longest, "tools": bool(params.get("tools"))}
