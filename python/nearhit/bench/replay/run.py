"""Runs policies over one workload."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nearhit.bench.replay.balanced import BalancedVisit
from nearhit.bench.replay.balancers import LeastBusy, LowestMeanLatency, Random, RoundRobin
from nearhit.bench.replay.clairvoyant import ClairvoyantVisit, FirstTokenVisit
from nearhit.bench.replay.outcome import Outcome
from nearhit.bench.replay.routed import Policy, RoutedVisit
from nearhit.bench.replay.world import World

if TYPE_CHECKING:
    from collections.abc import Callable

    from nearhit.bench.replay.balancers import Balancer
    from nearhit.bench.replay.scenario import Scenario, Workload
    from nearhit.bench.replay.world import Visit

    Maker = Callable[[World], Callable[[int, Outcome], Visit]]


def _balanced(balancer: Callable[[World], Balancer]) -> Maker:
    def make(world: World) -> Callable[[int, Outcome], Visit]:
        shared = balancer(world)
        return lambda number, outcome: BalancedVisit(world, number, outcome, shared)

    return make


def _routed(world: World) -> Callable[[int, Outcome], Visit]:
    policy = Policy(world)
    return lambda number, outcome: RoutedVisit(world, number, outcome, policy)


def _clairvoyant(visit: type[ClairvoyantVisit]) -> Maker:
    return lambda world: lambda number, outcome: visit(world, number, outcome)


POLICIES: dict[str, Maker] = {
    "random": _balanced(lambda world: Random(world.scenario.seed)),
    "round-robin": _balanced(lambda _: RoundRobin()),
    "least-busy": _balanced(lambda world: LeastBusy(world.servers, world.scenario.seed)),
    "lowest-mean-latency": _balanced(lambda world: LowestMeanLatency(len(world.servers), world.scenario.seed)),
    "nearhit": _routed,
    "clairvoyant": _clairvoyant(ClairvoyantVisit),
    "first token": _clairvoyant(FirstTokenVisit),
}
"""What is compared, by name; the last two know everything, cannot be built and show how much room there is."""


def replay(policy: str, scenario: Scenario, workload: Workload, *, world: World | None = None) -> list[Outcome]:
    """Replays a workload; the same arguments give the same result.

    Args:
        policy: One of `POLICIES`.
        scenario: What is simulated.
        workload: The requests, as `prepare` made them of this scenario.
        world: Where it takes place, for who wants to look at it afterwards; None for a new one.

    Returns:
        What became of each request, in their order.
    """
    world = world or World(scenario, workload)
    make = POLICIES[policy](world)
    outcomes = [Outcome() for _ in workload.arrivals]

    def arrive(number: int) -> None:
        if number + 1 < len(outcomes):
            world.clock.at(workload.arrivals[number + 1].at, lambda: arrive(number + 1))
        make(number, outcomes[number]).arrive()

    world.clock.at(workload.arrivals[0].at, lambda: arrive(0))
    world.clock.run()
    return outcomes
