"""The balancers that ours is compared with: which tier takes the next call."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nearhit.bench.replay.server import Server


class Balancer(Protocol):
    """Chooses among tiers that are numbered from 0."""

    def choose(self, allowed: Sequence[int]) -> int:
        """Returns one of the tiers allowed, of which there is at least one."""

    def answered(self, tier: int, seconds: float, tokens: int) -> None:
        """Learns of an answer."""

    def timed_out(self, tier: int) -> None:
        """Learns of a call that was given up."""


class _Unlearned:
    """Learns nothing."""

    def answered(self, tier: int, seconds: float, tokens: int) -> None:
        """Learns nothing of an answer."""

    def timed_out(self, tier: int) -> None:
        """Learns nothing of a call that was given up."""


class Random(_Unlearned):
    """Any of them.

    Args:
        seed: Of the chance.
    """

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)  # noqa: S311 - spreads load, keeps no secret

    def choose(self, allowed: Sequence[int]) -> int:
        """Returns any of the tiers allowed."""
        return self._chance.choice(allowed)


class RoundRobin(_Unlearned):
    """One after the other."""

    def __init__(self) -> None:
        self._last = -1

    def choose(self, allowed: Sequence[int]) -> int:
        """Returns the first tier allowed after the last one chosen, and begins again at the end."""
        self._last = min((tier for tier in allowed if tier > self._last), default=min(allowed))
        return self._last


class LeastBusy(_Unlearned):
    """The one with the fewest calls in flight; of several, any.

    Args:
        servers: The tiers.
        seed: Of the chance.
    """

    def __init__(self, servers: Sequence[Server], seed: int) -> None:
        self._servers = servers
        self._chance = random.Random(seed)  # noqa: S311 - spreads load, keeps no secret

    def choose(self, allowed: Sequence[int]) -> int:
        """Returns the tier with the fewest calls in flight."""
        least = min(self._servers[tier].in_flight for tier in allowed)
        return self._chance.choice([tier for tier in allowed if self._servers[tier].in_flight == least])


class LowestMeanLatency:
    """The lowest mean of the last latencies, as LiteLLM's lowest-latency routing computes it.

    Its ways are kept: seconds per answer token of whole answers; ten samples, and once there are ten, a new one
    replaces the newest of them, so that the nine oldest stay; a call that timed out counts 1,000; a tier without
    samples counts 0 and so is tried first; of several lowest, any.

    Args:
        tiers: Number of tiers.
        seed: Of the chance.
    """

    _SAMPLES = 10
    _TIMED_OUT = 1000.0

    def __init__(self, tiers: int, seed: int) -> None:
        self._latencies: list[list[float]] = [[] for _ in range(tiers)]
        self._chance = random.Random(seed)  # noqa: S311 - spreads load, keeps no secret

    def choose(self, allowed: Sequence[int]) -> int:
        """Returns the tier with the lowest mean."""
        means = {tier: sum(self._latencies[tier]) / max(len(self._latencies[tier]), 1) for tier in allowed}
        least = min(means.values())
        return self._chance.choice([tier for tier in allowed if means[tier] == least])

    def answered(self, tier: int, seconds: float, tokens: int) -> None:
        """Adds an answer's seconds per token."""
        self._add(tier, seconds / max(tokens, 1))

    def timed_out(self, tier: int) -> None:
        """Adds the penalty."""
        self._add(tier, self._TIMED_OUT)

    def _add(self, tier: int, value: float) -> None:
        kept = self._latencies[tier][: self._SAMPLES - 1]
        self._latencies[tier] = [*kept, value]
