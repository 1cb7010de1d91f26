"""A simulated tier: slots with a queue in front, and a processor that all slots share."""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nearhit.bench.replay.clock import Clock, Timer


@dataclass(frozen=True, slots=True, kw_only=True)
class TierModel:
    """What a simulated tier is like.

    Attributes:
        name: Its name.
        quality: Share of average prompts that it answers well.
        input_cost: US dollars per prompt token.
        output_cost: US dollars per answer token.
        slots: Calls that it works on at once; others wait in line.
        stated: Whether the router is told of the slots and queues in front of them itself, as for a local model. Else
            the line is at the server, and its wait looks like a slow first token.
        ttft: Median seconds to the first token of an empty prompt, alone on the tier.
        per_prompt_token: Median seconds more for each prompt token.
        tpot: Median seconds per answer token after the first, alone on the tier.
        ttft_spread: Standard deviation of the logarithm of the time to first token (lognormal).
        tpot_spread: The same of the time per answer token, drawn once a call.
        slowdown: How much longer everything takes with all slots at work than alone: 1.0 is twice as long.
    """

    name: str
    quality: float
    input_cost: float
    output_cost: float
    slots: int
    stated: bool
    ttft: float
    per_prompt_token: float
    tpot: float
    ttft_spread: float = 0.4
    tpot_spread: float = 0.2
    slowdown: float = 1.0

    def alone(self, prompt: float, output: float) -> float:
        """Median seconds of a call that has the tier to itself."""
        return self.ttft + self.per_prompt_token * prompt + self.tpot * max(output - 1, 0)


class Caller(Protocol):
    """Who is told how a call goes."""

    def first_token(self, job: Job) -> None:
        """The first token has come."""

    def ended(self, job: Job) -> None:
        """The answer is complete, or the call has failed: `job.failed` says which."""


class Job:
    """One call of a tier.

    Args:
        caller: Who is told.
        before: Seconds of work until the first token, or until the failure.
        after: Seconds of work from the first token to the end.
        failed: Whether it fails in place of a first token.

    Attributes:
        submitted: When it came.
        started: When it got its slot; None while it waits.
        first: When its first token came; None before.
        running: True while it has a slot.
    """

    __slots__ = ("after", "before", "caller", "failed", "first", "first_work", "running", "started", "submitted")

    def __init__(self, caller: Caller, before: float, after: float, *, failed: bool) -> None:
        self.caller = caller
        self.before = before
        self.after = after
        self.failed = failed
        self.submitted = 0.0
        self.started: float | None = None
        self.first: float | None = None
        self.first_work = 0.0
        self.running = False


class Server:
    """Serves jobs first come, first served; what runs shares the processor evenly.

    Each running job advances by the same virtual work per second, so that the next one to finish is always the one with
    the least work left: one timer for the whole server is exact, whatever the load does in between.

    Args:
        clock: The time.
        model: What the tier is like.
    """

    def __init__(self, clock: Clock, model: TierModel) -> None:
        self.model = model
        self.factor = 1.0
        self._clock = clock
        self._queue: deque[Job] = deque()
        self._waiting = 0
        self._running = 0
        self._due: list[tuple[float, int, Job]] = []
        self._pushed = 0
        self._work = 0.0
        self._since = 0.0
        self._speed = 1.0
        self._timer: Timer | None = None

    @property
    def in_flight(self) -> int:
        """Calls running or waiting."""
        return self._running + self._waiting

    @property
    def running(self) -> int:
        """Calls that have a slot."""
        return self._running

    def degrade(self, factor: float) -> None:
        """Makes everything take `factor` times as long from now on."""
        self._advance()
        self.factor = factor
        self._next()

    def finishes_in(self, job: Job) -> float:
        """Seconds until a call that came now would end, were the load to stay as it will be with it."""
        self._advance()
        work = job.before + job.after
        if self._running >= self.model.slots:
            ends = [due - self._work + (other.after if other.first is None else 0.0) for due, _, other in self._live()]
            heapq.heapify(ends)
            for other in self._queue:
                heapq.heapreplace(ends, ends[0] + other.before + other.after)
            work += ends[0]
        return work / self._pace(min(self._running + 1, self.model.slots))

    def submit(self, job: Job) -> None:
        """Takes a call in."""
        job.submitted = self._clock.now
        self._queue.append(job)
        self._waiting += 1
        self._admit()

    def cancel(self, job: Job) -> None:
        """Gives a call up; one that has ended is left as it is."""
        if job.running:
            self._advance()
            job.running = False
            self._running -= 1
            self._admit()
        elif job.started is None and job in self._queue:
            self._queue.remove(job)
            self._waiting -= 1

    def produced(self, job: Job) -> float:
        """Share of the answer after its first token that a running call has given so far."""
        if job.first is None:
            return 0.0
        self._advance()
        return min(1.0, (self._work - job.first_work) / job.after) if job.after > 0 else 1.0

    def _live(self) -> Iterator[tuple[float, int, Job]]:
        return (entry for entry in self._due if entry[2].running)

    def _pace(self, running: int) -> float:
        """Seconds of work that each of so many calls gets done in a second."""
        share = (running - 1) / max(self.model.slots - 1, 1)
        return 1.0 / (self.factor * (1.0 + self.model.slowdown * share))

    def _advance(self) -> None:
        now = self._clock.now
        self._work += (now - self._since) * self._speed
        self._since = now

    def _admit(self) -> None:
        """Gives free slots to those who wait, and finds out what is due next."""
        self._advance()
        while self._queue and self._running < self.model.slots:
            job = self._queue.popleft()
            self._waiting -= 1
            self._running += 1
            job.running, job.started = True, self._clock.now
            self._push(job, job.before)
        self._next()

    def _push(self, job: Job, work: float) -> None:
        heapq.heappush(self._due, (self._work + work, self._pushed, job))
        self._pushed += 1

    def _next(self) -> None:
        while self._due and not self._due[0][2].running:
            heapq.heappop(self._due)
        self._speed = self._pace(max(self._running, 1))
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._due:
            left = max(self._due[0][0] - self._work, 0.0)
            self._timer = self._clock.at(self._clock.now + left / self._speed, self._reach)

    def _reach(self) -> None:
        """The next job has done its work up to the first token, or to its end."""
        self._advance()
        work, _, job = heapq.heappop(self._due)
        self._work = work  # exactly, where the sum of many steps is off by a rounding error
        if job.first is None and not job.failed:
            job.first, job.first_work = self._clock.now, work
            self._push(job, job.after)
            self._next()
            job.caller.first_token(job)
            return
        job.running = False
        self._running -= 1
        self._admit()
        job.caller.ended(job)
