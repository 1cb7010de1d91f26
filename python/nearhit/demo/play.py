"""Plays requests through a router, one by one, and records what happened to each."""

from __future__ import annotations

import time
from statistics import median
from typing import TYPE_CHECKING, Any

from nearhit.demo.record import Record, Refusal
from nearhit.demo.summary import Micro

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from nearhit import Cache, Router
    from nearhit.demo.script import Request

_SAMPLES, _BATCH, _NEAR_SAMPLES = 200, 25, 100


class Player:
    """Plays requests through a router whose cache starts empty.

    Args:
        router: The router, with its cache.
        params: Parameters of every request, such as `max_tokens`.
    """

    def __init__(self, router: Router, *, params: Mapping[str, Any]) -> None:
        self._router = router
        self._params = dict(params)
        self._made: dict[str, Record] = {}
        self._classes: set[str] = set()

    def play(self, requests: Iterable[Request]) -> Iterator[Record]:
        """Sends the requests in order, each after the answer to the one before.

        Args:
            requests: What to send.

        Yields:
            One record a request, as soon as its answer is complete.

        Raises:
            TierError: No tier could answer.
        """
        for number, request in enumerate(requests, 1):
            start = time.perf_counter()
            completion = self._router.complete(request.prompt, **self._params)
            seconds = time.perf_counter() - start
            yield self._record(number, request, completion, seconds)

    def _record(self, number: int, request: Request, completion: Any, seconds: float) -> Record:
        trace = completion.trace
        answer_class = request.answer_class
        answerable = None if answer_class is None else answer_class in self._classes
        common = {"answerable": answerable, "spans": tuple(trace.spans), "answer": completion.text}
        hit = trace.lookup.hit
        if hit is not None:
            made = self._made.get(hit.entry_id)
            return Record(
                number,
                request,
                hit.kind,
                seconds,
                hit.similarity,
                source=made.number if made else None,
                source_class=made.request.answer_class if made else None,
                saved_seconds=made.seconds - seconds if made else 0.0,
                saved_tokens=made.usage.total_tokens if made else 0,
                **common,
            )
        refused = trace.lookup.near_miss
        record = Record(
            number,
            request,
            "miss",
            seconds,
            tier=completion.tier,
            ttft=completion.timings.ttft,
            usage=completion.usage,
            refusal=Refusal(refused.prompt, refused.similarity, "; ".join(refused.reasons)) if refused else None,
            **common,
        )
        if trace.stored is not None:
            self._made[trace.stored] = record
            if answer_class is not None:
                self._classes.add(answer_class)
        return record


_QUESTION, _PARAPHRASE = "How do I reset my password?", "How can I reset my password?"


def time_alone(router: Router, cache: Cache) -> Micro:
    """Times what the play shows only once at a time, in loops on one thread.

    Args:
        router: Its `decide` is timed.
        cache: Its exact and near hits are timed; it gets one more entry.
    """
    cache.store(_QUESTION, "An answer of a common length: one sentence, as a help desk gives it.")
    return Micro(
        exact_lookup=_seconds_a_call(lambda: cache.lookup(_QUESTION)),
        decide=_seconds_a_call(lambda: router.decide(_QUESTION)),
        **_near(cache),
    )


def _near(cache: Cache) -> dict[str, Any]:
    """Times near hits and their stages; nothing if the cache's threshold lets none through."""
    total: list[float] = []
    stages: dict[str, list[float]] = {}
    for number in range(_NEAR_SAMPLES):
        asked = _spaced(_PARAPHRASE, number)  # a text that was met before would not be embedded again
        start = time.perf_counter()
        lookup = cache.lookup_traced(asked)
        total.append(time.perf_counter() - start)
        for stage, seconds in lookup.seconds.items():
            stages.setdefault(stage, []).append(seconds)
    if lookup.hit is None:
        return {}
    return {"near_lookup": median(total), "near_stages": {stage: median(times) for stage, times in stages.items()}}


def _spaced(text: str, number: int) -> str:
    """The text with the gaps between its words widened: other bytes, the same tokens, for each number another one."""
    first, *words = text.split()
    for word in words:
        number, wider = divmod(number, 4)
        first += " " * (1 + wider) + word
    return first


def _seconds_a_call(call: Callable[[], object]) -> float:
    samples = []
    for _ in range(_SAMPLES):
        start = time.perf_counter()
        for _ in range(_BATCH):
            call()
        samples.append((time.perf_counter() - start) / _BATCH)
    return median(samples)
