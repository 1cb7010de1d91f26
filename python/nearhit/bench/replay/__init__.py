"""A discrete-event replay: recorded arrivals over simulated tiers, answered by our router and by others' balancers.

The clock is virtual, so that an hour of traffic takes seconds and a seed gives the same result every time. Our router
is the compiled decision core that serves, told the virtual time; only what the asyncio code around it does (retries,
hedges, the deadline) is said again in events.
"""

from nearhit.bench.replay.outcome import Outcome, figures
from nearhit.bench.replay.report import attained_along, compare, waits
from nearhit.bench.replay.run import POLICIES, replay
from nearhit.bench.replay.scenario import Scenario, Workload, prepare
from nearhit.bench.replay.server import TierModel
from nearhit.bench.replay.traces import Arrival, read_trace

__all__ = [
    "POLICIES",
    "Arrival",
    "Outcome",
    "Scenario",
    "TierModel",
    "Workload",
    "attained_along",
    "compare",
    "figures",
    "prepare",
    "read_trace",
    "replay",
    "waits",
]
