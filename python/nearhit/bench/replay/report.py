"""Policies side by side over several seeds: figures, and curves to draw."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

from nearhit.bench.replay.outcome import figures
from nearhit.bench.replay.run import POLICIES, replay
from nearhit.bench.replay.scenario import prepare

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from nearhit.bench.replay.outcome import Outcome
    from nearhit.bench.replay.scenario import Scenario, Workload
    from nearhit.bench.replay.traces import Arrival

Curves: TypeAlias = "dict[str, list[tuple[float, float]]]"

_PARTS = 40
"""Points of a curve along the time."""


def compare(
    scenario: Scenario, trace: Sequence[Arrival], *, seeds: int, advance: Callable[[], None]
) -> tuple[dict[str, Any], dict[str, list[Outcome]], Workload]:
    """Replays a trace under every policy and seed.

    Args:
        scenario: What is simulated; its seed is the first one.
        trace: The requests.
        seeds: How many.
        advance: Called after each replay.

    Returns:
        The figures as JSON has them, the first seed's outcomes by policy, and its workload.
    """
    of_seeds: dict[str, list[dict[str, float]]] = {name: [] for name in POLICIES}
    first: dict[str, list[Outcome]] = {}
    workload = prepare(scenario, trace)
    for step in range(seeds):
        seeded = replace(scenario, seed=scenario.seed + step)
        drawn = workload if step == 0 else prepare(seeded, trace)
        for name in POLICIES:
            outcomes = replay(name, seeded, drawn)
            first.setdefault(name, outcomes)
            of_seeds[name].append(figures(outcomes, drawn))
            advance()
    result = {
        "requests": len(trace),
        "load": scenario.load,
        "degraded": None if scenario.degraded is None else scenario.tiers[scenario.degraded].name,
        "factor": scenario.factor,
        "deadline": workload.deadline,
        "seconds": workload.span,
        "seeds": seeds,
        "policies": {name: _over(runs) for name, runs in of_seeds.items()},
    }
    return result, first, workload


def _over(runs: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Mean, least and most of each figure over the seeds."""
    values = {figure: [run[figure] for run in runs] for figure in runs[0]}
    return {figure: {"mean": sum(of) / len(of), "least": min(of), "most": max(of)} for figure, of in values.items()}


def attained_along(outcomes: Mapping[str, Sequence[Outcome]], workload: Workload) -> Curves:
    """Share of the requests in time, by policy, along the minutes of the replay."""
    curves: Curves = {}
    for name, each in outcomes.items():
        kept, all_ = [0] * _PARTS, [0] * _PARTS
        for arrival, outcome in zip(workload.arrivals, each, strict=True):
            part = min(int(arrival.at / max(workload.span, 1e-9) * _PARTS), _PARTS - 1)
            all_[part] += 1
            kept[part] += outcome.ending == "answered"
        minutes = workload.span / 60 / _PARTS
        curves[name] = [((at + 0.5) * minutes, kept[at] / all_[at]) for at in range(_PARTS) if all_[at]]
    return curves


def waits(outcomes: Mapping[str, Sequence[Outcome]], workload: Workload) -> Curves:
    """Share of the requests that had a first token within so many seconds, by policy."""
    curves: Curves = {}
    for name, each in outcomes.items():
        ordered = sorted(outcome.ttft for outcome in each if outcome.ttft is not None)
        steps = [round(step / 100 * (len(ordered) - 1)) for step in range(101)] if ordered else []
        curves[name] = [(ordered[at], (at + 1) / len(each)) for at in steps]
        if ordered:
            curves[name].append((workload.deadline, len(ordered) / len(each)))
    return curves
