"""How well it could go at all: a request that knows its answer's length, its luck, and what each tier has to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nearhit.bench.replay.world import Visit

if TYPE_CHECKING:
    from nearhit.bench.replay.server import Job


class ClairvoyantVisit(Visit):
    """One request, sent where it will end first; refused where that is too late, so that it is in nobody's way.

    It looks after itself alone and not after those who come later, so that it is a mark to measure by, not a bound.
    """

    _tier = -1
    _job: Job | None = None

    def begin(self) -> None:
        """Calls the tier that will be done first."""
        world = self.world
        left = world.workload.deadline - self.elapsed
        best = left
        self._tier = -1
        for tier, server in enumerate(world.servers):
            job = world.job(self, self.number, tier, self._tries[tier])
            seconds = server.finishes_in(job)
            if not job.failed and seconds <= best:
                best, self._tier = seconds, tier
        if self._tier < 0:
            self.end("refused")
            return
        self._job = self.call(self._tier)

    def ended(self, job: Job) -> None:  # noqa: ARG002 - the one it made
        """Passes the answer on."""
        self.end("answered", self._tier)

    def give_up(self) -> None:
        """Ends the call: those who came later have slowed it down."""
        if self._job is not None:
            self.drop(self._tier, self._job)
        self.end("late")
