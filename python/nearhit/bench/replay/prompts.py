"""Prompts for requests of which a trace knows the length alone."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from nearhit._core import RouterCore

if TYPE_CHECKING:
    from nearhit._core import RouteRequest
    from nearhit.bench.replay.scenario import Workload

_TEXTS = (
    "Hi there!",
    "What is the capital of France?",
    "Translate 'good morning' to Spanish.",
    "Write a short birthday wish for my aunt.",
    "Summarise the following meeting notes in two sentences.",
    "What is the difference between a list and a tuple in Python?",
    "Write a function that merges two sorted lists, with tests.",
    "A train leaves at 14:10 and covers 240 km in 2.5 hours. How fast is it, and when does it arrive?",
    "Compare three ways to shard a relational database, and say when each of them fails.",
    "Explain step by step why quicksort is O(n log n) on average but O(n^2) at worst, with a derivation.",
    "Prove that there are infinitely many primes congruent to 3 modulo 4, and explain each step of the proof.",
    "Given the recurrence T(n) = 3T(n/4) + n log n, derive a tight bound and prove it by induction; check n = 64.",
)
_INSIGHT = 0.6
"""Correlation between how hard a prompt is and which text stands for it."""
_STEP = math.log(1.05)
"""Lengths within 5 % are read once."""


class Prompts:
    """Gives each request a prompt of its recorded length that looks about as hard as it is.

    A text's place in the order of the difficulty that the router reads in it goes with the request's true hardness, but
    only with a correlation of 0.6: a head that could see all of it does not exist.

    Args:
        core: Reads the texts.
        workload: The requests.
        seed: Of the chance.
    """

    def __init__(self, core: RouterCore, workload: Workload, seed: int) -> None:
        self._texts = sorted(_TEXTS, key=lambda text: core.decide(text, now=0.0).difficulty)
        noise = np.random.default_rng((seed, 1)).standard_normal(len(workload.arrivals))
        looks = _INSIGHT * workload.hardness + math.sqrt(1 - _INSIGHT**2) * noise
        ranks = np.argsort(np.argsort(looks, kind="stable"), kind="stable")
        self._places = ranks * len(_TEXTS) // len(looks)
        self._lengths = [arrival.prompt for arrival in workload.arrivals]
        self._read: dict[tuple[int, int], RouteRequest] = {}

    def of(self, number: int) -> RouteRequest:
        """Returns a request's prompt as the router reads it."""
        step = round(math.log(max(self._lengths[number], 1)) / _STEP)
        key = (int(self._places[number]), step)
        if key not in self._read:
            text = self._texts[key[0]]
            # Four bytes a token; a system message counts by its length alone.
            bytes_left = round(4 * math.exp(step * _STEP)) - len(text)
            system = [{"role": "system", "content": "x" * bytes_left}] if bytes_left > 0 else []
            self._read[key] = RouterCore.read([*system, {"role": "user", "content": text}])
        return self._read[key]
