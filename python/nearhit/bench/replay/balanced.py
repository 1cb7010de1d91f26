"""A request in front of a balancer: called where it says, and after a failure once more elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nearhit.bench.replay.world import Visit

if TYPE_CHECKING:
    from nearhit.bench.replay.balancers import Balancer
    from nearhit.bench.replay.outcome import Outcome
    from nearhit.bench.replay.server import Job
    from nearhit.bench.replay.world import World

_RETRIES = 2
"""What LiteLLM's router does by default."""


class BalancedVisit(Visit):
    """One request, sent where a balancer says.

    Args:
        world: Where it takes place.
        number: Number of the request.
        outcome: What became of it.
        balancer: Says where.
    """

    def __init__(self, world: World, number: int, outcome: Outcome, balancer: Balancer) -> None:
        super().__init__(world, number, outcome)
        self._balancer = balancer
        self._failed: set[int] = set()
        self._tier = -1
        self._job: Job | None = None

    def begin(self) -> None:
        """Calls a tier that has not failed this request."""
        tiers = range(len(self.world.servers))
        self._tier = self._balancer.choose([tier for tier in tiers if tier not in self._failed] or list(tiers))
        self._job = self.call(self._tier)

    def ended(self, job: Job) -> None:
        """Passes an answer on, or tries again."""
        if not job.failed:
            self._balancer.answered(self._tier, self.world.clock.now - job.submitted, self.arrival.output)
            self.end("answered", self._tier)
        elif self.outcome.calls <= _RETRIES:
            self._failed.add(self._tier)
            self.begin()
        else:
            self.end("failed")

    def give_up(self) -> None:
        """Ends the call, at the deadline."""
        if self._job is not None:
            self.drop(self._tier, self._job)
        self._balancer.timed_out(self._tier)
        self.end("late")
