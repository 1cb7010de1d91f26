"""Where a replay takes place, and what every request in it has in common."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from nearhit.bench.replay.clock import Clock
from nearhit.bench.replay.scenario import TRIES
from nearhit.bench.replay.server import Job, Server

if TYPE_CHECKING:
    from nearhit.bench.replay.clock import Timer
    from nearhit.bench.replay.outcome import Outcome
    from nearhit.bench.replay.scenario import Scenario, Workload
    from nearhit.bench.replay.server import Caller


class World:
    """The clock, the tiers and the requests of one replay.

    Args:
        scenario: What is simulated.
        workload: The requests.

    Attributes:
        clock: The time.
        servers: The tiers.
    """

    def __init__(self, scenario: Scenario, workload: Workload) -> None:
        self.scenario = scenario
        self.workload = workload
        self.clock = Clock()
        self.servers = [Server(self.clock, tier) for tier in scenario.tiers]
        if scenario.degraded is not None:
            server, (start, end) = self.servers[scenario.degraded], workload.slowed
            self.clock.at(start, lambda: server.degrade(scenario.factor))
            self.clock.at(end, lambda: server.degrade(1.0))

    def job(self, caller: Caller, number: int, tier: int, attempt: int) -> Job:
        """Makes a request's call of a tier; the same attempt always meets the same chance."""
        scenario, workload = self.scenario, self.workload
        model, arrival = scenario.tiers[tier], workload.arrivals[number]
        at = (number, tier, min(attempt, TRIES - 1))
        before = (model.ttft + model.per_prompt_token * arrival.prompt) * float(workload.ttft[at])
        after = model.tpot * (arrival.output - 1) * float(workload.tpot[at])
        luck = float(workload.luck[at])
        if luck < scenario.errors:
            return Job(caller, 0.1 * before, 0.0, failed=True)
        if luck < scenario.errors + scenario.stalls:
            before += scenario.stall
        return Job(caller, before, after, failed=False)

    def quality(self, number: int, tier: int) -> float:
        """Probability that a tier's answer to a request is good."""
        share = self.scenario.tiers[tier].quality
        return 1.0 / (1.0 + math.exp(float(self.workload.hardness[number]) - math.log(share / (1.0 - share))))


class Visit:
    """One request: it is answered, or given up at its deadline; either way it ends exactly once.

    Args:
        world: Where it takes place.
        number: Number of the request.
        outcome: What became of it.
    """

    def __init__(self, world: World, number: int, outcome: Outcome) -> None:
        self.world = world
        self.number = number
        self.outcome = outcome
        self.arrival = world.workload.arrivals[number]
        self._tries = [0] * len(world.servers)
        self._deadline: Timer | None = None

    def arrive(self) -> None:
        """Begins."""
        self._deadline = self.world.clock.at(self.world.clock.now + self.world.workload.deadline, self.give_up)
        self.begin()

    def begin(self) -> None:
        """Makes the first call."""
        raise NotImplementedError

    def give_up(self) -> None:
        """Ends every call, at the deadline."""
        raise NotImplementedError

    @property
    def elapsed(self) -> float:
        """Seconds since the arrival."""
        return self.world.clock.now - self.arrival.at

    def call(self, tier: int) -> Job:
        """Calls a tier."""
        job = self.world.job(self, self.number, tier, self._tries[tier])
        self._tries[tier] += 1
        self.outcome.calls += 1
        self.world.servers[tier].submit(job)
        return job

    def first_token(self, job: Job) -> None:  # noqa: ARG002 - whichever it was
        """Notes the first token."""
        if self.outcome.ttft is None:
            self.outcome.ttft = self.elapsed

    def ended(self, job: Job) -> None:
        """Goes on after a call has ended."""
        raise NotImplementedError

    def drop(self, tier: int, job: Job) -> None:
        """Gives a call up; what it has done so far is paid for."""
        server = self.world.servers[tier]
        share = server.produced(job)
        server.cancel(job)
        if job.started is not None:
            tokens = 0.0 if job.first is None else 1 + share * (self.arrival.output - 1)
            self._pay(tier, tokens)

    def end(self, ending: str, tier: int = -1) -> None:
        """Ends the request."""
        if self.outcome.ending:
            raise AssertionError(f"request {self.number} has ended twice: {self.outcome.ending}, then {ending}")
        self.outcome.ending, self.outcome.tier, self.outcome.e2e = ending, tier, self.elapsed
        if tier >= 0:
            self._pay(tier, self.arrival.output)
            self.outcome.quality = self.world.quality(self.number, tier)
        if self._deadline is not None:
            self._deadline.cancel()

    def _pay(self, tier: int, tokens: float) -> None:
        model = self.world.scenario.tiers[tier]
        self.outcome.cost += self.arrival.prompt * model.input_cost + tokens * model.output_cost
