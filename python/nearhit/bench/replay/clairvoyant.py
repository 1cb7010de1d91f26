"""How well it could go at all: a request that knows its answer's length, its luck, and what each tier has to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nearhit.bench.replay.server import Job
from nearhit.bench.replay.world import Visit

if TYPE_CHECKING:
    from collections.abc import Iterator


class ClairvoyantVisit(Visit):
    """One request, sent where it will end first; refused where that is too late, so that it is in nobody's way.

    It looks after itself alone and not after those who come later, so that it is a mark to measure by, not a bound.
    """

    _tier = -1
    _job: Job | None = None

    def begin(self) -> None:
        """Calls the tier that will be done first."""
        left = self.world.workload.deadline - self.elapsed
        in_time = [(ends, tier) for tier, _, ends in self._outlook() if ends <= left]
        self._call(min(in_time, default=None))

    def _outlook(self) -> Iterator[tuple[int, float, float]]:
        """The tiers that will answer, with the seconds to the first token and to the end."""
        for tier, server in enumerate(self.world.servers):
            job = self.world.job(self, self.number, tier, self._tries[tier])
            if not job.failed:
                head = Job(self, job.before, 0.0, failed=False)
                yield tier, server.finishes_in(head), server.finishes_in(job)

    def _call(self, best: tuple[float, int] | None) -> None:
        if best is None:
            self.end("refused")
            return
        self._tier = best[1]
        self._job = self.call(self._tier)

    def ended(self, job: Job) -> None:  # noqa: ARG002 - the one it made
        """Passes the answer on."""
        self.end("answered", self._tier)

    def give_up(self) -> None:
        """Ends the call: those who came later have slowed it down."""
        if self._job is not None:
            self.drop(self._tier, self._job)
        self.end("late")


class FirstTokenVisit(ClairvoyantVisit):
    """One that is sent where its first token will come first, to tiers that will be done in time if there are any."""

    def begin(self) -> None:
        """Calls the tier that will begin first."""
        left = self.world.workload.deadline - self.elapsed
        outlook = list(self._outlook())
        in_time = [(first, tier) for tier, first, ends in outlook if ends <= left]
        self._call(min(in_time or [(first, tier) for tier, first, _ in outlook], default=None))
