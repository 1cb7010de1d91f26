"""What became of each request, and the figures of a replay."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nearhit.bench.replay.scenario import Workload


@dataclass(slots=True)
class Outcome:
    """What became of one request.

    Attributes:
        ending: "answered" (in time: at its deadline a caller gives up), "late", "failed" or "refused"; at first empty.
        tier: Number of the tier that answered; -1 if none did.
        ttft: Seconds from arrival to the first token; None if none came.
        e2e: Seconds from arrival to the end.
        calls: Calls made for it.
        hedges: Of these, the ones made beside another.
        cost: US dollars of all of them.
        quality: Probability that the answer is a good one; 0 without one.
    """

    ending: str = ""
    tier: int = -1
    ttft: float | None = None
    e2e: float = 0.0
    calls: int = 0
    hedges: int = 0
    cost: float = 0.0
    quality: float = 0.0


def figures(outcomes: Sequence[Outcome], workload: Workload) -> dict[str, Any]:
    """Sums a replay up.

    A request without a first token counts with the deadline as its time to first token: its caller has waited that
    long, or was refused and has nothing, so that refusing improves no quantile; "served" leaves those out.
    """
    start, end = workload.slowed
    slowed = [
        outcome for arrival, outcome in zip(workload.arrivals, outcomes, strict=True) if start <= arrival.at < end
    ]
    waits = sorted(workload.deadline if each.ttft is None else each.ttft for each in outcomes)
    served = sorted(each.ttft for each in outcomes if each.ttft is not None)
    answered = [each for each in outcomes if each.ending == "answered"]
    count = len(outcomes)
    return {
        "attained": len(answered) / count,
        "attained_degraded": sum(each.ending == "answered" for each in slowed) / max(len(slowed), 1),
        "ttft_p50": _quantile(waits, 0.5),
        "ttft_p99": _quantile(waits, 0.99),
        "ttft_p99_served": _quantile(served, 0.99) if served else workload.deadline,
        "usd_per_1000": 1000 * sum(each.cost for each in outcomes) / count,
        "quality": sum(each.quality for each in answered) / max(len(answered), 1),
        "good_in_time": sum(each.quality for each in answered) / count,
        "extra_calls": sum(max(each.calls - 1, 0) for each in outcomes) / count,
        "hedges": sum(each.hedges for each in outcomes) / count,
        "late": sum(each.ending == "late" for each in outcomes) / count,
        "refused": sum(each.ending == "refused" for each in outcomes) / count,
        "failed": sum(each.ending == "failed" for each in outcomes) / count,
    }


def _quantile(ordered: Sequence[float], q: float) -> float:
    """The least value that a share `q` does not exceed."""
    return ordered[max(math.ceil(q * len(ordered)) - 1, 0)]
