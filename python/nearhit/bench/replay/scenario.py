"""What is simulated: the tiers, their faults, the load, and every draw of chance."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nearhit._errors import OptionError
from nearhit.bench.replay.server import TierModel
from nearhit.bench.replay.traces import Arrival

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

TIERS = (
    TierModel(
        name="small",
        quality=0.6,
        input_cost=0.1e-6,
        output_cost=0.2e-6,
        slots=16,
        stated=True,
        ttft=0.05,
        per_prompt_token=1e-4,
        tpot=0.010,
    ),
    TierModel(
        name="medium",
        quality=0.75,
        input_cost=0.6e-6,
        output_cost=0.8e-6,
        slots=32,
        stated=False,
        ttft=0.2,
        per_prompt_token=1.5e-4,
        tpot=0.020,
    ),
    TierModel(
        name="large",
        quality=0.9,
        input_cost=2.5e-6,
        output_cost=10e-6,
        slots=48,
        stated=False,
        ttft=0.5,
        per_prompt_token=2e-4,
        tpot=0.025,
    ),
)
"""A small model on a machine of one's own, and two larger ones on servers of about its capacity in requests."""

TRIES = 4
"""Calls of one tier for one request whose draws differ; further ones repeat the last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A load on tiers with faults.

    Attributes:
        tiers: The tiers.
        load: Work that arrives, as a share of what all tiers can do while one is degraded. The trace's own ups and
            downs are kept: its busiest minutes bring more than that.
        degraded: Number of the tier that is degraded; None for none.
        factor: How many times as long it takes then.
        window: When, as shares of the trace's length.
        errors: Share of calls that fail in place of a first token, after a tenth of the time to it.
        stalls: Share of calls whose first token takes `stall` seconds more of work.
        stall: Those seconds.
        deadline: Seconds for each whole answer, after which the caller gives up. None: `patience` times what an
            average request takes alone on the slowest tier.
        patience: See there.
        seed: Of all chance.
    """

    tiers: tuple[TierModel, ...] = TIERS
    load: float = 0.8
    degraded: int | None = 1
    factor: float = 4.0
    window: tuple[float, float] = (0.25, 0.75)
    errors: float = 0.01
    stalls: float = 0.005
    stall: float = 30.0
    deadline: float | None = None
    patience: float = 2.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("load", "factor", "deadline", "patience"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise OptionError(f"{name}={value!r} is not valid: expected a number above 0")
        if self.degraded is not None and not 0 <= self.degraded < len(self.tiers):
            raise OptionError(f"degraded={self.degraded!r} is not valid: there are tiers 0 to {len(self.tiers) - 1}")


@dataclass(frozen=True, slots=True)
class Workload:
    """Requests with times, a deadline and all the chance they meet: the same for every policy.

    Attributes:
        arrivals: The requests, in time as scaled to the load.
        deadline: Seconds for each whole answer.
        span: Seconds from the first arrival to the last.
        slowed: From when to when a tier is degraded, in seconds.
        ttft: Factors on the time to first token, by request, tier and try.
        tpot: Factors on the time per token, likewise.
        luck: Numbers in [0, 1) that decide on faults, likewise.
        hardness: How hard each prompt is, in logits; no policy sees it.
    """

    arrivals: Sequence[Arrival]
    deadline: float
    span: float
    slowed: tuple[float, float]
    ttft: NDArray[np.float64]
    tpot: NDArray[np.float64]
    luck: NDArray[np.float64]
    hardness: NDArray[np.float64]


def capacity(scenario: Scenario, trace: Sequence[Arrival]) -> float:
    """Requests like the trace's that all tiers together can answer each second while one is degraded."""
    prompt = sum(arrival.prompt for arrival in trace) / len(trace)
    output = sum(max(arrival.output, 1) for arrival in trace) / len(trace)
    total = 0.0
    for number, tier in enumerate(scenario.tiers):
        first = (tier.ttft + tier.per_prompt_token * prompt) * math.exp(tier.ttft_spread**2 / 2)
        rest = tier.tpot * (output - 1) * math.exp(tier.tpot_spread**2 / 2)
        stalled = scenario.stalls * scenario.stall
        busy = (first + stalled + rest) * (1 - scenario.errors) + 0.1 * first * scenario.errors
        factor = scenario.factor if number == scenario.degraded else 1.0
        total += tier.slots / (busy * (1.0 + tier.slowdown) * factor)
    return total


def prepare(scenario: Scenario, trace: Sequence[Arrival]) -> Workload:
    """Scales a trace to the load and draws all chance."""
    length = trace[-1].at - trace[0].at
    span = len(trace) / (scenario.load * capacity(scenario, trace))
    scale = span / length if length > 0 else 0.0
    arrivals = [Arrival(arrival.at * scale, arrival.prompt, max(arrival.output, 1)) for arrival in trace]
    deadline = scenario.deadline
    if deadline is None:
        prompt = sum(arrival.prompt for arrival in arrivals) / len(arrivals)
        output = sum(arrival.output for arrival in arrivals) / len(arrivals)
        deadline = scenario.patience * max(tier.alone(prompt, output) for tier in scenario.tiers)
    chance = np.random.default_rng(scenario.seed)
    shape = (len(arrivals), len(scenario.tiers), TRIES)
    spread = np.array([[tier.ttft_spread, tier.tpot_spread] for tier in scenario.tiers])
    return Workload(
        arrivals=arrivals,
        deadline=deadline,
        span=span,
        slowed=(scenario.window[0] * span, scenario.window[1] * span),
        ttft=np.exp(chance.standard_normal(shape) * spread[:, 0, None]),
        tpot=np.exp(chance.standard_normal(shape) * spread[:, 1, None]),
        luck=chance.random(shape),
        hardness=chance.standard_normal(len(arrivals)),
    )
