"""A request in front of our router: its compiled decision core, told the virtual time.

`nearhit.router.ask.Asking` says the same for servers that exist; what it does between two awaits is here what happens
at one event.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nearhit._core import CallBudget, RouterCore
from nearhit._errors import DeadlineError, NoTierError
from nearhit.bench.replay.prompts import Prompts
from nearhit.bench.replay.world import Visit
from nearhit.router import TierProfile

if TYPE_CHECKING:
    from collections.abc import Collection

    from nearhit._core import RouteDecision
    from nearhit.bench.replay.clock import Timer
    from nearhit.bench.replay.outcome import Outcome
    from nearhit.bench.replay.server import Job
    from nearhit.bench.replay.world import World

_RETRIES = 2
_RETRY_SHARE = 0.2
_HEDGE_SHARE = 0.03
_HEDGE_QUANTILE = 0.95
_HEDGE_SAMPLES = 20


class Policy:
    """Our router over simulated tiers: what all of its requests share.

    Args:
        world: Where it takes place.
    """

    def __init__(self, world: World) -> None:
        tiers, seed = world.scenario.tiers, world.scenario.seed
        profiles = [
            TierProfile(
                name=tier.name,
                quality=tier.quality,
                input_cost=tier.input_cost,
                output_cost=tier.output_cost,
                max_concurrency=tier.slots if tier.stated else None,
            )
            for tier in tiers
        ]
        self.core = RouterCore(profiles, strategy="complexity", cost_weight=0.3, failures=5, cooldown=5.0)
        self.budget = CallBudget(retry_share=_RETRY_SHARE, hedge_share=_HEDGE_SHARE, seed=seed)
        self.prompts = Prompts(self.core, world.workload, seed)


@dataclass(slots=True)
class _Flight:
    """A call under way."""

    tier: int
    job: Job
    score: float
    load: int


class RoutedVisit(Visit):
    """One request, answered by our router.

    Args:
        world: Where it takes place.
        number: Number of the request.
        outcome: What became of it.
        policy: The router.
    """

    def __init__(self, world: World, number: int, outcome: Outcome, policy: Policy) -> None:
        super().__init__(world, number, outcome)
        self._policy = policy
        self._request = policy.prompts.of(number)
        self._failed: set[int] = set()
        self._flights: list[_Flight] = []
        self._retries = 0
        self._timer: Timer | None = None

    @property
    def _left(self) -> float:
        return self.world.workload.deadline - self.elapsed

    def _choose(self, excluded: Collection[int]) -> RouteDecision:
        now = self.world.clock.now
        return self._policy.core.decide(self._request, deadline=self._left, excluded=sorted(excluded), now=now)

    def begin(self) -> None:
        """Chooses and calls."""
        self._policy.budget.arrived(now=self.world.clock.now)
        self._go_on()

    def _go_on(self) -> None:
        """Calls the tier that is best among those that have not failed; ends the request where there is none."""
        while True:
            try:
                decision = self._choose(self._failed)
            except (NoTierError, DeadlineError):
                self.end("failed" if self.outcome.calls else "refused")
                return
            if self._fly(decision):
                return
            self._failed.add(decision.index)

    def _fly(self, decision: RouteDecision) -> bool:
        """Starts a call and, unless it is a second one, the timer of its hedge."""
        core, clock, tier = self._policy.core, self.world.clock, decision.index
        load = core.start(tier, now=clock.now)
        if not load:
            return False
        self._flights.append(_Flight(tier, self.call(tier), decision.score, load))
        if len(self._flights) == 1:
            tokens = self._request.tokens
            delay = core.ttft_quantile(tier, _HEDGE_QUANTILE, _HEDGE_SAMPLES, tokens=tokens, now=clock.now)
            if delay is not None:
                self._timer = clock.at(clock.now + delay, self._hedge)
        return True

    def _hedge(self) -> None:
        """Starts a second call beside one that has not given a token by now."""
        try:
            decision = self._choose(self._failed | {flight.tier for flight in self._flights})
        except (NoTierError, DeadlineError):
            return
        if decision.predicted_ttft is not None and decision.predicted_ttft >= self._left:
            return
        if self._policy.budget.hedge(now=self.world.clock.now) and self._fly(decision):
            self.outcome.hedges += 1

    def _of(self, job: Job) -> _Flight:
        return next(flight for flight in self._flights if flight.job is job)

    def _unhedge(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def first_token(self, job: Job) -> None:
        """The call goes on, any other is given up."""
        super().first_token(job)
        self._unhedge()
        for other in [flight for flight in self._flights if flight.job is not job]:
            self._cancel(other)

    def _cancel(self, flight: _Flight) -> None:
        tier, job, now = flight.tier, flight.job, self.world.clock.now
        core, tokens = self._policy.core, self._request.tokens
        came = 1 + int(self.world.servers[tier].produced(job) * (self.arrival.output - 1))
        self.drop(tier, job)
        self._flights.remove(flight)
        if job.first is None:
            core.cancelled(tier, tokens, self._waited(flight), load=flight.load, now=now)
        else:
            ttft, decode = job.first - self._begun(flight), now - job.first
            core.stopped(tier, tokens, ttft, decode, came, load=flight.load, now=now)

    def _waited(self, flight: _Flight) -> float:
        """Seconds that the tier took so far, net of a line that the router sees."""
        return max(self.world.clock.now - self._begun(flight), 0.0)

    def _begun(self, flight: _Flight) -> float:
        if not self.world.servers[flight.tier].model.stated:
            return flight.job.submitted
        return self.world.clock.now if flight.job.started is None else flight.job.started

    def ended(self, job: Job) -> None:
        """Passes an answer on, or falls back."""
        flight, core, now = self._of(job), self._policy.core, self.world.clock.now
        self._flights.remove(flight)
        tokens = self._request.tokens
        if job.first is not None:
            ttft, decode = job.first - self._begun(flight), now - job.first
            core.answered(flight.tier, tokens, ttft, decode, self.arrival.output, load=flight.load, now=now)
            self.end("answered", flight.tier)
            return
        core.failed(flight.tier, tokens, load=flight.load, now=now)
        if self._flights:
            self._failed.add(flight.tier)
            return
        self._unhedge()
        self._fall_back(flight)

    def _fall_back(self, flight: _Flight) -> None:
        """Upwards at once; before a worse tier, the same one is asked once more."""
        budget, now = self._policy.budget, self.world.clock.now
        if self._retries < _RETRIES and flight.tier not in self._failed:
            pause = budget.pause(self._retries)
            try:
                other = self._choose(self._failed | {flight.tier})
            except (NoTierError, DeadlineError):
                other = None
            if pause < self._left and (other is None or other.score < flight.score) and budget.retry(now=now):
                self._retries += 1
                self._timer = self.world.clock.at(now + pause, lambda: self._retry(flight.tier))
                return
        self._failed.add(flight.tier)
        self._go_on()

    def _retry(self, tier: int) -> None:
        self._timer = None
        try:
            decision = self._choose(set(range(len(self.world.servers))) - {tier})
        except (NoTierError, DeadlineError):
            decision = None
        if decision is None or not self._fly(decision):
            self._failed.add(tier)
            self._go_on()

    def give_up(self) -> None:
        """Ends every call, at the deadline."""
        self._unhedge()
        for flight in list(self._flights):
            self._cancel(flight)
        self.end("late")
