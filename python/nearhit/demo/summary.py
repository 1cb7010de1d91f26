"""What the records of a play add up to. Nothing here is estimated: counts, sums and order statistics only."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from nearhit.demo.record import Record


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Order statistics of some times, in seconds.

    Attributes:
        label: Whose times.
        n: How many there are; p99 of fewer than 100 is the longest.
        p50: Half of them took no longer.
        p95: 95 % of them took no longer.
        p99: 99 % of them took no longer.
    """

    label: str
    n: int
    p50: float
    p95: float
    p99: float


@dataclass(frozen=True, slots=True)
class Stage:
    """One bar of a waterfall.

    Attributes:
        name: The stage.
        start: Median start after the request's start, in seconds.
        seconds: Median duration.
        n: In how many requests it occurred.
    """

    name: str
    start: float
    seconds: float
    n: int


@dataclass(frozen=True, slots=True)
class Anatomy:
    """Where the time of one kind of request went.

    Attributes:
        label: Which requests.
        n: How many.
        total: Median seconds from call to answer.
        rest: Median seconds outside all stages: the call itself, and changes of threads.
        stages: Stages in the order in which they start.
    """

    label: str
    n: int
    total: float
    rest: float
    stages: tuple[Stage, ...]


@dataclass(frozen=True, slots=True)
class Micro:
    """Calls timed alone in a loop, where the play shows them once each: median seconds a call, None if not measured.

    Attributes:
        exact_lookup: `Cache.lookup` of a prompt that is there.
        decide: `Router.decide`.
        near_lookup: `Cache.lookup` of a prompt that is there in other words.
        near_stages: Where the time of `near_lookup` goes, by stage.
    """

    exact_lookup: float | None = None
    decide: float | None = None
    near_lookup: float | None = None
    near_stages: Mapping[str, float] = field(default_factory=dict)

    @property
    def near_shares(self) -> dict[str, float]:
        """Shares of `near_lookup`: its three large stages, and everything else together."""
        if not self.near_lookup:
            return {}
        shares = {name: self.near_stages.get(name, 0.0) / self.near_lookup for name in ("tokenise", "embed", "search")}
        return {**shares, "everything else": max(0.0, 1.0 - sum(shares.values()))}


@dataclass(frozen=True, slots=True)
class Summary:
    """Everything the last screen shows.

    Attributes:
        requests: Requests played.
        exact: Exact hits.
        near: Near hits.
        misses: Requests that a tier answered.
        judged: Requests whose outcome the answer classes can judge.
        answerable: Of those, requests whose answer was already there.
        false_hits: Hits that served an answer of another class.
        missed_hits: Misses although the answer was there.
        hard: Hard requests that a tier answered, and easy likewise; from the script's labels.
        hard_to_large: Of those, the ones that the last (largest) tier answered.
        easy: Easy requests that a tier answered.
        easy_to_small: Of those, the ones that another than the largest tier answered.
        seconds: Time of the whole play.
        saved_seconds: Time that hits saved: what the answers took when tiers made them, less what the hits took.
        saved_tokens: Tokens that hits saved.
        spent_tokens: Tokens that misses took.
        latencies: Times by outcome.
        anatomies: Waterfalls by outcome.
        micro: Calls timed alone.
    """

    requests: int
    exact: int
    near: int
    misses: int
    judged: int
    answerable: int
    false_hits: int
    missed_hits: int
    hard: int
    hard_to_large: int
    easy: int
    easy_to_small: int
    seconds: float
    saved_seconds: float
    saved_tokens: int
    spent_tokens: int
    latencies: tuple[Quantiles, ...]
    anatomies: tuple[Anatomy, ...]
    micro: Micro

    @property
    def hits(self) -> int:
        """Exact and near hits together."""
        return self.exact + self.near

    def to_json(self) -> dict[str, Any]:
        """The summary as JSON values; times in seconds."""
        return {**asdict(self), "hit_rate": self.hits / self.requests if self.requests else None}


def summarise(records: Sequence[Record], *, large: str, seconds: float, micro: Micro = Micro()) -> Summary:
    """Adds up the records of a play.

    Args:
        records: In the order in which they were played.
        large: Name of the largest tier.
        seconds: Time of the whole play.
        micro: Calls timed alone.
    """
    judged = [record for record in records if record.verdict is not None]
    missed = [record for record in records if record.outcome == "miss"]
    hard = [record for record in missed if record.request.level == "hard"]
    easy = [record for record in missed if record.request.level == "easy"]
    kinds = _kinds(records)
    return Summary(
        requests=len(records),
        exact=sum(record.outcome == "exact" for record in records),
        near=sum(record.outcome == "near" for record in records),
        misses=len(missed),
        judged=len(judged),
        answerable=sum(bool(record.answerable) for record in judged),
        false_hits=sum(record.verdict == "false hit" for record in judged),
        missed_hits=sum(record.verdict == "missed hit" for record in judged),
        hard=len(hard),
        hard_to_large=sum(record.tier == large for record in hard),
        easy=len(easy),
        easy_to_small=sum(record.tier != large for record in easy),
        seconds=seconds,
        saved_seconds=sum(record.saved_seconds for record in records),
        saved_tokens=sum(record.saved_tokens for record in records),
        spent_tokens=sum(record.usage.total_tokens for record in records),
        latencies=tuple(quantiles(label, [record.seconds for record in group]) for label, group in kinds.items()),
        anatomies=tuple(anatomy(label, group) for label, group in kinds.items()),
        micro=micro,
    )


def quantiles(label: str, times: Iterable[float]) -> Quantiles:
    """Nearest-rank quantiles: each is one of the times, none is interpolated."""
    ordered = sorted(times)

    def rank(share: float) -> float:
        return ordered[math.ceil(share * len(ordered)) - 1]

    return Quantiles(label, len(ordered), rank(0.50), rank(0.95), rank(0.99))


def anatomy(label: str, records: Sequence[Record]) -> Anatomy:
    """Median start and duration of every stage that at least half of the records went through."""
    stages: dict[str, list[tuple[float, float]]] = {}
    for record in records:
        merged: dict[str, tuple[float, float]] = {}
        for span in record.spans:  # a stage that occurs twice (a retry) counts as one from its first start
            start, duration = merged.get(span.name, (span.start, 0.0))
            merged[span.name] = (start, duration + span.duration)
        for name, times in merged.items():
            stages.setdefault(name, []).append(times)
    bars = [
        Stage(name, median(start for start, _ in times), median(duration for _, duration in times), len(times))
        for name, times in stages.items()
        if 2 * len(times) >= len(records)
    ]
    return Anatomy(
        label,
        len(records),
        median(record.seconds for record in records),
        median(_outside(record) for record in records),
        tuple(sorted(bars, key=lambda stage: stage.start)),
    )


def _outside(record: Record) -> float:
    """Seconds of a request that no stage covers; stages may overlap, as the first byte comes before the first token."""
    covered, end = 0.0, 0.0
    for span in sorted(record.spans, key=lambda span: span.start):
        covered += max(0.0, span.start + span.duration - max(span.start, end))
        end = max(end, span.start + span.duration)
    return max(0.0, record.seconds - covered)


def _kinds(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Records by outcome, misses by tier; hits first."""
    kinds: dict[str, list[Record]] = {"exact hit": [], "near hit": []}
    for record in records:
        label = f"{record.tier} tier" if record.outcome == "miss" else f"{record.outcome} hit"
        kinds.setdefault(label, []).append(record)
    return {label: group for label, group in kinds.items() if group}
