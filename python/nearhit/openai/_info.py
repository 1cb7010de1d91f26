"""What happened to a request, told on its result."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections import Counter

ATTRIBUTE = "_nearhit"
"""Attribute of a result that holds its `Info`."""


@dataclass(slots=True)
class Info:
    """What nearhit did with one request.

    A stream's record is complete once the stream has ended.

    Attributes:
        outcome: "exact" or "near" for an answer out of the cache, "shared" for that of an equal request that was under
            way, "miss", or "bypass" where the cache was not asked.
        reason: Why it was not asked, or why a near candidate was refused.
        unrouted: Why the router was not asked, where there is one.
        tier: "cache", the name of the router's tier that answered, or "upstream" for the client's own server.
        similarity: Cosine of the cached prompt, on a hit.
        confidence: Probability that its answer fits, where the cache's policy estimates one.
        entry_id: The entry that answered.
        age: Seconds since it was stored.
        stored: Id of the entry that now holds this answer; None if it was not stored, or in several.
        lookup_seconds: Time spent on asking the cache, embedding included.
        notes: Failures that cost the request nothing but a chance: of the cache, the embedder, the router.
    """

    outcome: str = "bypass"
    reason: str = ""
    unrouted: str = ""
    tier: str = "upstream"
    similarity: float | None = None
    confidence: float | None = None
    entry_id: str | None = None
    age: float | None = None
    stored: str | None = None
    lookup_seconds: float = 0.0
    notes: list[str] = field(default_factory=list)

    @property
    def hit(self) -> bool:
        """Whether the answer came out of the cache."""
        return self.outcome in ("exact", "near")


@dataclass(frozen=True, slots=True)
class Counts:
    """What a wrapped client has done since it was wrapped.

    Attributes:
        exact: Requests answered by an equal one.
        near: Requests answered by one that means the same.
        miss: Requests that the cache had no answer to.
        shared: Those of them that were answered with an equal request's answer, which was under way.
        bypass: Requests that the cache was not asked about.
        routed: Requests that a tier of the router answered.
        stored: Answers stored.
        failures: Failures that were passed over, by stage: "lookup", "deadline", "store", "router", "replay".
    """

    exact: int
    near: int
    miss: int
    shared: int
    bypass: int
    routed: int
    stored: int
    failures: dict[str, int]

    @classmethod
    def of(cls, counter: Counter[str], failures: Counter[str]) -> Counts:
        """From running counters."""
        return cls(
            exact=counter["exact"],
            near=counter["near"],
            miss=counter["miss"],
            shared=counter["shared"],
            bypass=counter["bypass"],
            routed=counter["routed"],
            stored=counter["stored"],
            failures=dict(failures),
        )


def info(result: Any) -> Info | None:
    """What nearhit did with the request behind a result: an object, a stream, a stream helper, a raw response.

    Args:
        result: What the wrapped client returned.

    Returns:
        The record; None for a result of a client that is not wrapped, or of a call that nearhit leaves alone.
    """
    for holder in (result, getattr(result, "_raw_stream", None), getattr(result, "_raw_response", None)):
        found = getattr(holder, ATTRIBUTE, None)
        if isinstance(found, Info):
            return found
    return None


def attach(result: Any, record: Info) -> None:
    """Puts a request's record on its result; pydantic objects stay equal and dump the same."""
    object.__setattr__(result, ATTRIBUTE, record)
