"""Where a request's time went: its stages, its attempts, its tokens and its cost.

All times are seconds on one monotonic clock, counted from the request's start.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from nearhit._types import Span, Usage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nearhit.cache import Lookup


@dataclass(slots=True)
class Attempt:
    """One call of one tier.

    Attributes:
        tier: Name of the tier.
        why: "chosen", "fallback", "retry", "hedge" or "escalation"; "replica" for a further replica of the same tier.
        start: Seconds after the request's start.
        duration: Seconds to its end.
        outcome: "running", "answered", "failed", "cancelled", or "rejected": answered, with too little confidence.
        ttfb: Seconds from the attempt's start to the first byte; None if there was none.
        ttft: Seconds from the attempt's start to the first content; None if there was none.
        usage: Token counts.
        cost: US dollars; None where the tier has no price.
        error: The error, as text.
        model: Name of the tier's model.
        provider: Whose API or engine it is, as OpenTelemetry's conventions call it.
        replica: Name of the replica that took the call, where the tier has several.
        confidence: What a cascade thought of the answer, in [0, 1]; None where nobody looked.
        address: Host of the server that took the call; None where it was answered in this process.
        port: Its port.
        estimated: Whether token counts and cost are an estimate: the call was given up before its server could count.
    """

    tier: str
    why: str
    start: float
    duration: float = 0.0
    outcome: str = "running"
    ttfb: float | None = None
    ttft: float | None = None
    usage: Usage | None = None
    cost: float | None = None
    error: str | None = None
    model: str = ""
    provider: str = ""
    replica: str | None = None
    confidence: float | None = None
    address: str | None = None
    port: int | None = None
    estimated: bool = False


@dataclass(frozen=True, slots=True)
class Shadowed:
    """What a router's shadow policy would have chosen.

    Attributes:
        tier: Name of the tier; "" where it would have refused the request.
        agrees: Whether it is the tier that was chosen.
        reason: Why.
        cost_difference: US dollars that it would cost more, by prediction.
        quality_difference: Probability of a good answer that it would add, by the router's own head.
    """

    tier: str
    agrees: bool
    reason: str
    cost_difference: float = 0.0
    quality_difference: float = 0.0


class Trace:
    """The record of one request.

    Attributes:
        outcome: "exact", "near", "miss" or "bypass" (no cache); "error" where no answer came.
        tier: Name of the tier that answered, "cache", or "".
        reason: Why that tier, or why the cache answered.
        similarity: Of the cached prompt, on a hit.
        lookup: What the cache found and refused, with the request's fingerprint; None without one of nearhit's caches.
        shadow: What the router's shadow policy would have chosen; None without one.
        stored: Id of the entry that holds the answer, if it was stored.
        spans: The stages, in the order in which they ended.
        attempts: The calls of tiers, in the order in which they started.
        notes: Failures that cost nothing but a stage: of the cache, of the embedder, of a cascade's score.
        finish_reason: Why the answer ended; None where it did not.
        error: Name of the error that the caller got; None without one.
        total: Seconds from start to end; grows until the request has ended.
        waited: Of those, seconds spent waiting for tiers.
        held: Of those, seconds in which the caller held the stream without asking for more.

    Example:
        >>> trace = Trace()
        >>> with trace.span("decide"):
        ...     pass
        >>> trace.finish("bypass")
        >>> [span.name for span in trace.spans]
        ['decide']
        >>> trace.overhead == trace.total
        True
    """

    __slots__ = (
        "_end",
        "_start",
        "_waiting",
        "_waiting_since",
        "attempts",
        "error",
        "finish_reason",
        "held",
        "lookup",
        "notes",
        "outcome",
        "reason",
        "shadow",
        "similarity",
        "spans",
        "stored",
        "tier",
        "waited",
    )

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._end: float | None = None
        self.outcome = ""
        self.tier = ""
        self.reason = ""
        self.similarity: float | None = None
        self.lookup: Lookup | None = None
        self.shadow: Shadowed | None = None
        self.stored: str | None = None
        self.spans: list[Span] = []
        self.attempts: list[Attempt] = []
        self.notes: list[str] = []
        self.finish_reason: str | None = None
        self.error: str | None = None
        self.waited = 0.0
        self.held = 0.0
        self._waiting = 0
        self._waiting_since = 0.0

    def begin(self) -> None:
        """Starts the clock, where that is later than the making of the record."""
        self._start = time.perf_counter()

    @property
    def finished(self) -> bool:
        """Whether the request has ended."""
        return self._end is not None

    @property
    def elapsed(self) -> float:
        """Seconds since the request's start, also after its end."""
        return time.perf_counter() - self._start

    @property
    def total(self) -> float:
        """Seconds from start to end, or to now."""
        return self.elapsed if self._end is None else self._end

    @property
    def overhead(self) -> float:
        """Seconds that nearhit itself took: the total without waiting for tiers and for the caller."""
        return max(0.0, self.total - self.waited - self.held)

    @property
    def usage(self) -> Usage:
        """Tokens of all attempts together, the given up ones included."""
        known = [attempt.usage for attempt in self.attempts if attempt.usage is not None]
        return Usage(sum(each.prompt_tokens for each in known), sum(each.completion_tokens for each in known))

    @property
    def cost(self) -> float | None:
        """US dollars of all attempts together; None where no tier has a price. An answer from the cache costs 0."""
        costs = [attempt.cost for attempt in self.attempts if attempt.cost is not None]
        if not costs and self.attempts:
            return None
        return sum(costs)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Counts a wait for a tier; waits for several tiers at once count once."""
        if self._waiting == 0:
            self._waiting_since = time.perf_counter()
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1
            if self._waiting == 0:
                self.waited += time.perf_counter() - self._waiting_since

    @contextmanager
    def span(self, name: str, **attributes: Any) -> Iterator[dict[str, Any]]:
        """Times a stage; the dict it yields takes attributes known only at its end."""
        start = self.elapsed
        try:
            yield attributes
        finally:
            self.add(name, start, self.elapsed - start, **attributes)

    def add(self, name: str, start: float, duration: float, **attributes: Any) -> None:
        """Adds a stage timed elsewhere; `start` is in seconds after the request's start."""
        self.spans.append(Span(name, start, duration, attributes))

    def attempt(self, tier: str, why: str, model: str = "", provider: str = "") -> Attempt:
        """Starts the record of a tier's call."""
        attempt = Attempt(tier, why, self.elapsed, model=model, provider=provider)
        self.attempts.append(attempt)
        return attempt

    def finish(self, outcome: str) -> None:
        """Ends the record; later calls change nothing."""
        if self._end is None:
            self._end = self.elapsed
            self.outcome = outcome

    def seconds(self, name: str) -> float:
        """Seconds spent in a stage, all its spans together."""
        return sum(span.duration for span in self.spans if span.name == name)

    def to_dict(self) -> dict[str, Any]:
        """Returns the record as JSON values."""
        return {
            "outcome": self.outcome,
            "tier": self.tier,
            "reason": self.reason,
            "similarity": self.similarity,
            "refused": self._refused(),
            "shadow": None if self.shadow is None else asdict(self.shadow),
            "stored": self.stored,
            "total": self.total,
            "overhead": self.overhead,
            "waited": self.waited,
            "held": self.held,
            "cost": self.cost,
            "usage": {"prompt_tokens": self.usage.prompt_tokens, "completion_tokens": self.usage.completion_tokens},
            "spans": [
                {"name": span.name, "start": span.start, "duration": span.duration, **dict(span.attributes)}
                for span in self.spans
            ],
            "attempts": [asdict(attempt) for attempt in self.attempts],
            "notes": list(self.notes),
            "finish_reason": self.finish_reason,
            "error": self.error,
        }

    def _refused(self) -> dict[str, Any] | None:
        """The best candidate that was near enough and was refused, as JSON values."""
        refused = None if self.lookup is None else self.lookup.near_miss
        if refused is None:
            return None
        return {"prompt": refused.prompt, "similarity": refused.similarity, "reasons": list(refused.reasons)}

    def waterfall(self, width: int = 80) -> str:
        """Draws the stages as bars on one time axis.

        Args:
            width: Columns to fill, at least 40.

        Returns:
            Lines of text, the summary last.
        """
        spans = sorted(self.spans, key=lambda span: span.start)
        label = max([len(_label(span)) for span in spans], default=0)
        room = max(8, max(40, width) - label - 12)
        scale = room / max(self.total, 1e-9)
        lines = []
        for span in spans:
            left = min(room - 1, int(span.start * scale))
            bar = min(room - left, max(1, round(span.duration * scale)))
            track = " " * left + "█" * bar
            lines.append(f"{_label(span):<{label}} {track:<{room}} {_seconds(span.duration):>9}")
        source = f"{self.outcome} from {self.tier}" if self.tier else self.outcome or "running"
        lines.append(f"{source}: {_seconds(self.total)}, of which nearhit {_seconds(self.overhead)}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"Trace(outcome={self.outcome!r}, tier={self.tier!r}, total={self.total:.6f})"


def _label(span: Span) -> str:
    tier, why = span.attributes.get("tier"), span.attributes.get("why")
    return " ".join([span.name, *([str(tier)] if tier else []), *([f"({why})"] if why else [])])


def _seconds(value: float) -> str:
    if value < 1e-3:  # noqa: PLR2004 - units change by thousands
        return f"{value * 1e6:.0f} µs"
    if value < 1.0:
        return f"{value * 1e3:.1f} ms"
    return f"{value:.2f} s"
