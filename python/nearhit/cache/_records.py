"""What the cache tells about a lookup and about itself. Times are seconds, similarities cosines in [-1, 1]."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from nearhit._core import Hit, Request
    from nearhit._errors import EmbeddingError
    from nearhit.backends import BackendStats


@dataclass(frozen=True, slots=True)
class Candidate:
    """An entry that a near lookup looked at.

    Attributes:
        entry_id: The entry.
        prompt: The text it answers.
        similarity: Cosine of the two prompts.
        confidence: Probability that its answer fits; the similarity under a policy that estimates none.
        accepted: Whether it may answer.
        reasons: Why not, in words; empty if it may.
        response: Its answer.
        age: Seconds since it was stored.
        source: "local", or "remote" if only the backend's servers held it.
    """

    entry_id: str
    prompt: str
    similarity: float
    confidence: float
    reasons: tuple[str, ...]
    response: Any
    age: float
    source: Literal["local", "remote"] = "local"

    @property
    def accepted(self) -> bool:
        """Whether it may answer."""
        return not self.reasons

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Candidate:
        """From the core's description."""
        return cls(**{**fields, "reasons": tuple(fields["reasons"])})


@dataclass(frozen=True, slots=True)
class Lookup:
    """One lookup, with what the rest of the request can use again.

    Pass it to `Cache.store` in place of the prompt, and nothing is hashed or embedded twice.

    Attributes:
        hit: The answer, or None.
        request: The canonical request.
        vector: The prompt's vector, if it was made or given; None after an exact hit or for an exact-only request.
        truncated: The embedder cut the prompt, so that only an equal one may be answered.
        near_miss: The best candidate that was near enough and was refused.
        seconds: Time by stage: "exact", "tokenise", "embed", "search", "guard", "remote", "remote_guard"; stages that
            did not run are absent.
        flight: Fencing token and name of the right to make the answer, if all replicas share one call.
        unembedded: Why the prompt was not embedded, if the embedder was too busy or too late: only an equal request
            could be found.
    """

    hit: Hit | None
    request: Request
    vector: NDArray[np.float32] | None = None
    truncated: bool = False
    near_miss: Candidate | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    flight: tuple[int, str] | None = None
    unembedded: EmbeddingError | None = None


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a request is or is not answered from the cache.

    Attributes:
        prompt: The text that may be compared by meaning; None if only an equal request may be answered.
        hit: The answer a lookup would give now, or None.
        candidates: The nearest entries of the scope, best first, whatever their similarity.
        threshold: The least similarity that counted.
        reason: The outcome in one sentence.
    """

    prompt: str | None
    hit: Hit | None
    candidates: tuple[Candidate, ...]
    threshold: float
    reason: str

    @property
    def near_miss(self) -> Candidate | None:
        """The best candidate that was near enough and was refused."""
        refused = (one for one in self.candidates if not one.accepted and one.similarity >= self.threshold)
        return next(refused, None)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What `feedback` said of a near hit: a labelled pair, in the form that `nearhit tune` reads.

    Attributes:
        a: What was asked.
        b: The prompt whose answer was given.
        label: 1 if the answer was right, else 0.
        similarity: Cosine of the two.
        time: When it was judged, in seconds since 1970.
    """

    a: str
    b: str
    label: int
    similarity: float
    time: float


@dataclass(frozen=True, slots=True)
class ScopeStats:
    """What one caller's scope holds, and its hits since it last was empty.

    Attributes:
        scope: The scope as it was given; None for the shared one.
        entries: Entries held.
        bytes: Bytes held, vectors not counted.
        exact_hits: Hits by an equal request.
        near_hits: Hits by a request that means the same.
        risk_limit: Greatest risk that the verified policy serves it at present; None before it was asked.
    """

    scope: Any
    entries: int
    bytes: int
    exact_hits: int
    near_hits: int
    risk_limit: float | None = None


@dataclass(frozen=True, slots=True)
class Latency:
    """How long an operation takes in the core, in seconds; embedding is not included.

    Attributes:
        count: Measurements: every near lookup and store, one exact hit in 32.
        p50: Median.
        p95: 95 % took at most this.
        p99: 99 % took at most this.
    """

    count: int
    p50: float
    p95: float
    p99: float


@dataclass(frozen=True, slots=True)
class Stats:
    """What a cache has done since it was made, and what it holds.

    Attributes:
        exact_hits: Lookups answered by an equal request.
        near_hits: Lookups answered by a request that means the same.
        misses: Lookups that found nothing.
        near_misses: Misses among them that had a near candidate, which was refused.
        stores: Answers stored.
        replaced: Stores that replaced an answer to the same request.
        evicted_bytes: Entries given up for `max_bytes`.
        evicted_entries: Entries given up for `max_entries`.
        evicted_quota: Entries given up for their scope's quota.
        expired: Entries whose time was over.
        invalidated: Entries removed on demand.
        judged_correct: Hits that `feedback` called right.
        judged_wrong: Hits that `feedback` called wrong.
        explored: Near lookups whose best candidate was tried on the model under the verified policy, not served.
        labels: Judged answers that the verified policy has learned from.
        memo_hits: Texts that were not embedded because their vectors were remembered, or being made by another caller.
        bytes_memo: Bytes of the vectors remembered, beside `bytes`.
        embedder_busy: Texts that were not embedded because the embedder's queue was full: lookups that became misses,
            and answers kept for equal requests only.
        embedder_late: Likewise, because the embedder took longer than `nearhit.embed.deadline` or its patience.
        unjudged: Trials whose answers could not be compared: no budget, a judge that failed or could not tell.
        entries: Entries held.
        bytes: Bytes held, everything counted.
        bytes_entries: Of these, entries: texts, answers, labels and their places in the maps.
        bytes_vectors: Of these, vector indexes.
        bytes_bookkeeping: Of these, queues, expiry and age order, tag lists.
        scopes: Per caller's scope.
        exact_latency: Time of exact hits.
        near_latency: Time of near lookups: search and judging.
        store_latency: Time of stores, waiting for the disk included where they do.
        uptime: Seconds since the cache was made.
        storage_failure: Why the last attempt to write the file failed, if it did; it is tried again.
        backend: What the backend has done, and how it is; None without one.
    """

    exact_hits: int
    near_hits: int
    misses: int
    near_misses: int
    stores: int
    replaced: int
    evicted_bytes: int
    evicted_entries: int
    evicted_quota: int
    expired: int
    invalidated: int
    judged_correct: int
    judged_wrong: int
    explored: int
    labels: int
    memo_hits: int
    bytes_memo: int
    embedder_busy: int
    embedder_late: int
    unjudged: int
    entries: int
    bytes: int
    bytes_entries: int
    bytes_vectors: int
    bytes_bookkeeping: int
    scopes: tuple[ScopeStats, ...]
    exact_latency: Latency
    near_latency: Latency
    store_latency: Latency
    uptime: float
    storage_failure: str | None = None
    backend: BackendStats | None = None

    @property
    def hits(self) -> int:
        """Exact and near hits."""
        return self.exact_hits + self.near_hits

    @property
    def lookups(self) -> int:
        """Hits and misses."""
        return self.hits + self.misses

    @property
    def hit_rate(self) -> float:
        """Hits by lookups; 0 before the first one."""
        return self.hits / self.lookups if self.lookups else 0.0

    @property
    def lookups_per_second(self) -> float:
        """Mean over the cache's life."""
        return self.lookups / self.uptime if self.uptime > 0 else 0.0

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Stats:
        """From the core's figures."""
        scopes = tuple(ScopeStats(**scope) for scope in fields["scopes"])
        latencies = {name: Latency(*values) for name, values in fields.items() if name.endswith("_latency")}
        return cls(**{**fields, **latencies, "scopes": scopes})
