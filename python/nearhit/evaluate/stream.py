"""Replay of a request stream through a cache's policy.

The protocol is vCache's: requests come one by one; a hit is wrong if the class of the entry served differs from that of
the request; error = wrong hits / all requests. A miss is answered and stored. Requests repeated word for word are hits
of the exact tier under every policy and are counted apart.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from nearhit._core import VectorIndex, VerifiedPolicy, canonical
from nearhit.evaluate.policies import Judged, judge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from nearhit._core import PairVerifier
    from nearhit.evaluate.data import Request
    from nearhit.evaluate.vectors import VectorTable

__all__ = ["Neighbourhood", "Outcome", "Replay", "neighbourhood", "replay_threshold", "replay_verified"]

FLOOR = 0.7
"""Least similarity of a candidate that any policy but "static" considers."""
NEIGHBOURS = 64
TRIED = 16
"""Candidates a lookup tries before it gives up, as in the cache."""
STEP = 8192
"""Pairs judged between two signs of life."""


@dataclass(frozen=True, slots=True)
class Neighbourhood:
    """Which requests of a stream are near which, whatever their order.

    Attributes:
        near: For each request the rows of others by falling similarity.
        pair: For each of these the row in `judged`.
        judged: What similarity, guards and verifier say of each pair.
        same: Whether the two of each pair may share an answer.
        first: For each request the number of its text: equal texts have equal numbers.
        answers: For each request the number of its class.
    """

    near: list[NDArray[np.int64]]
    pair: list[NDArray[np.int64]]
    judged: Judged
    same: NDArray[np.bool_]
    first: NDArray[np.int64]
    answers: NDArray[np.int64]


@dataclass(slots=True)
class Outcome:
    """What a policy made of a stream.

    Attributes:
        requests: All requests.
        exact: Requests repeated word for word.
        hits: Near hits.
        wrong: Near hits of another class.
        explored: Requests asked of the model although a candidate would have been served, or could be judged.
        trail: (requests, near hits, wrong hits) along the stream.
    """

    requests: int = 0
    exact: int = 0
    hits: int = 0
    wrong: int = 0
    explored: int = 0
    trail: list[tuple[int, int, int]] = field(default_factory=list)

    @property
    def hit_rate(self) -> float:
        """Hits among all requests, exact repeats included."""
        return (self.hits + self.exact) / max(self.requests, 1)

    @property
    def error(self) -> float:
        """Wrong hits among all requests."""
        return self.wrong / max(self.requests, 1)

    @property
    def error_of_hits(self) -> float:
        """Wrong hits among near hits."""
        return self.wrong / max(self.hits, 1)


def neighbourhood(
    stream: Sequence[Request],
    vectors: VectorTable,
    verifier: PairVerifier,
    *,
    floor: float = FLOOR,
    advance: Callable[[int, int], None] = lambda _done, _total: None,
) -> Neighbourhood:
    """Finds and judges all pairs of requests that a policy could confuse or unite."""
    texts = [request.prompt for request in stream]
    rows = vectors.of(texts)
    index = VectorIndex(rows.shape[1])
    index.add_many(rows)
    ids, scores = index.search_many(rows, threshold=floor, k=NEIGHBOURS)
    numbers: dict[str, int] = {}
    first = np.array([numbers.setdefault(canonical(text).fingerprint, len(numbers)) for text in texts])
    names: dict[str, int] = {}
    answers = np.array([names.setdefault(request.answer, len(names)) for request in stream])
    pairs: dict[tuple[int, int], int] = {}
    near, pair = [], []
    for row in range(len(texts)):
        found = [int(other) for other in ids[row][scores[row] >= floor] if other >= 0 and other != row]
        near.append(np.array(found, np.int64))
        keys = [(min(row, other), max(row, other)) for other in found]
        pair.append(np.array([pairs.setdefault(key, len(pairs)) for key in keys], np.int64))
    left = np.array([key[0] for key in pairs], np.int64)
    right = np.array([key[1] for key in pairs], np.int64)
    parts = []
    for start in range(0, len(left), STEP):
        part = slice(start, start + STEP)
        together = [(texts[i], texts[j]) for i, j in zip(left[part], right[part], strict=True)]
        parts.append(judge(verifier, together, rows[left[part]], rows[right[part]]))
        advance(min(start + STEP, len(left)), len(left))
    nothing = np.zeros(0)
    judged = Judged(
        np.concatenate([part.similarity for part in parts] or [nothing]),
        np.concatenate([part.confidence for part in parts] or [nothing]),
        np.concatenate([part.accepted for part in parts] or [nothing.astype(np.bool_)]),
    )
    return Neighbourhood(near, pair, judged, answers[left] == answers[right], first, answers)


class Replay:
    """Requests in an order, and what the cache holds meanwhile."""

    def __init__(self, hood: Neighbourhood, order: NDArray[np.int64], points: int = 100) -> None:
        self.hood = hood
        self.order = order
        self.held = np.zeros(len(order), np.bool_)
        self.seen: set[int] = set()
        self.outcome = Outcome()
        self._every = max(len(order) // points, 1)

    def requests(self) -> Iterator[int]:
        """Rows of the requests that are no exact repeats; those are counted on the way."""
        outcome = self.outcome
        for row in self.order.tolist():
            outcome.requests += 1
            if int(self.hood.first[row]) in self.seen:
                outcome.exact += 1
            else:
                yield row
            if outcome.requests % self._every == 0 or outcome.requests == len(self.order):
                outcome.trail.append((outcome.requests, outcome.hits, outcome.wrong))

    def candidates(self, row: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Entries near a request and their pairs, nearest first."""
        held = self.held[self.hood.near[row]]
        return self.hood.near[row][held][:TRIED], self.hood.pair[row][held][:TRIED]

    def hit(self, pair: int) -> None:
        """Counts a near hit."""
        self.outcome.hits += 1
        self.outcome.wrong += not self.hood.same[pair]

    def store(self, row: int) -> None:
        """Keeps the answer to a request."""
        self.held[row] = True
        self.seen.add(int(self.hood.first[row]))


def replay_threshold(
    hood: Neighbourhood, order: NDArray[np.int64], policy: str, threshold: float, floor: float = -1.0
) -> Outcome:
    """Replays a stream under a policy that serves the nearest entry whose score reaches a threshold.

    Args:
        hood: The stream.
        order: Rows of the requests in the order they come.
        policy: "static", "guards", "verifier" or "guarded".
        threshold: Least score, as `Judged.score` defines it for the policy.
        floor: Least similarity.
    """
    fits = (hood.judged.score(policy) >= threshold) & (hood.judged.similarity >= floor)
    replay = Replay(hood, order)
    for row in replay.requests():
        _, pairs = replay.candidates(row)
        served = pairs[fits[pairs]]
        if served.size:
            replay.hit(int(served[0]))
        else:
            replay.store(row)
    return replay.outcome


def replay_verified(hood: Neighbourhood, order: NDArray[np.int64], delta: float, *, seed: int = 0) -> Outcome:
    """Replays a stream under the verified policy; explored requests are judged by their class.

    Args:
        hood: The stream.
        order: Rows of the requests in the order they come.
        delta: Greatest share of wrong hits among all requests.
        seed: Of the exploration.
    """
    policy = VerifiedPolicy(delta, seed=seed)
    score = hood.judged.score("guarded")
    replay = Replay(hood, order)
    for row in replay.requests():
        entries, pairs = replay.candidates(row)
        fit = score[pairs] >= 0
        if not fit.any():
            policy.pass_()
            replay.store(row)
            continue
        best = int(np.argmax(np.where(fit, score[pairs], -1.0)))
        entry, pair = int(entries[best]), int(pairs[best])
        serve, _, _ = policy.decide(entry, float(score[pair]))
        if serve:
            replay.hit(pair)
            continue
        replay.outcome.explored += 1
        policy.learn(entry, float(score[pair]), bool(hood.same[pair]))
        replay.store(row)
    return replay.outcome
