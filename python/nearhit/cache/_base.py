"""What `Cache` and `AsyncCache` share: everything but who waits for the embedder.

Each operation that may need a vector or an answer from the backend is a *plan*: a generator that yields texts to embed,
or an errand to wait for, and is sent the results. One driver embeds and waits in place, the other embeds in a worker
thread and awaits; the plan knows nothing of either.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from itertools import islice
from pathlib import Path
from time import monotonic, perf_counter, time
from typing import TYPE_CHECKING, Any, Final, Literal, Never, Self, TypeAlias, TypeVar

from nearhit._config import parse_bytes, parse_count, parse_seconds, refuse_unknown
from nearhit._core import CacheCore, Hit, Request
from nearhit._errors import EmbedderBusyError, EmbeddingTimeoutError, OptionError, StorageWarning
from nearhit._types import Embedder
from nearhit.cache._embedding import Unembedded
from nearhit.cache._judge import Judging
from nearhit.cache._lifecycle import keep_until_exit
from nearhit.cache._records import Candidate, Explanation, Judgement, Lookup, Stats
from nearhit.cache._vectors import Seek, Vectors, native_encoder

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
    from os import PathLike

    from nearhit._types import Prompt
    from nearhit.backends._log import Kind
    from nearhit.backends._mail import Awaited
    from nearhit.backends.redis import RedisBackend
    from nearhit.cache._judge import JudgeOption
    from nearhit.cache.portable import Record

Sampling: TypeAlias = Literal["share", "exact", "fresh"]
Policy: TypeAlias = Literal["static", "guarded", "verified"]
T = TypeVar("T")
Plan: TypeAlias = "Generator[list[str] | Seek | Awaited[Any], Any, T]"

_BATCH: Final = 64  # texts embedded at once by an import


class CacheBase:
    """State and plans of a cache; see `Cache` for the options."""

    def __init__(
        self,
        embedder: Embedder | None = None,
        *,
        threshold: float | None = 0.9,
        policy: Policy = "guarded",
        verifier: str | PathLike[str] | None = None,
        confidence: float | None = None,
        delta: float = 0.02,
        exploration: float = 0.02,
        judge: JudgeOption | None = None,
        judge_budget: int | None = None,
        sampling: Sampling = "share",
        embedding_memo: int | None = 1024,
        max_entries: int | None = None,
        max_bytes: int | str | None = "1GiB",
        scope_bytes: int | str | None = None,
        ttl: float | None = None,
        path: str | PathLike[str] | None = None,
        durability: Literal["async", "sync"] = "async",
        read_only: bool = False,
        backend: RedisBackend | str | None = None,
        **unknown: Never,
    ) -> None:
        refuse_unknown(type(self), unknown)
        if embedder is not None and not isinstance(embedder, Embedder):
            kind = type(embedder).__name__
            raise OptionError(f"option embedder={kind} is not an embedder: it needs dim, id and embed(list[str])")
        if durability not in ("async", "sync"):
            raise OptionError(f'option durability={durability!r} is not valid: expected "async" or "sync"')
        if read_only and path is None:
            raise OptionError("option read_only=True needs the path of a file to read")
        if backend is not None and path is not None:
            raise OptionError(
                "options path and backend exclude each other: what a file kept over a restart cannot be proven fresh"
            )
        self._embedder = embedder
        self._unembedded = Unembedded()
        self._made = monotonic()
        self._waits_for_disk = path is not None and durability == "sync" and not read_only
        encoder = native_encoder(embedder)
        remembered = parse_count("embedding_memo", embedding_memo, least=0) or 0
        self._core = CacheCore(
            threshold=threshold,
            policy=policy,
            verifier=None if verifier is None else Path(verifier).expanduser(),
            confidence=None if confidence is None else _share("confidence", confidence),
            delta=_share("delta", delta),
            exploration=_share("exploration", exploration),
            sampling=str(sampling),
            max_entries=parse_count("max_entries", max_entries),
            max_bytes=parse_bytes("max_bytes", max_bytes),
            scope_bytes=parse_bytes("scope_bytes", scope_bytes),
            ttl=parse_seconds("ttl", ttl),
            embedder=None if embedder is None else (embedder.id, embedder.dim),
            encoder=encoder,
            memo=remembered,
            path=None if path is None else Path(path).expanduser(),
            durability=durability,
            read_only=read_only,
        )
        if path is not None:
            keep_until_exit(self._core)
            _report(path, self._core.opened)
        self._backend = None if backend is None else _bound(backend, self._core, embedder, parse_seconds("ttl", ttl))
        self._judging = _judging(policy, self._core, embedder, judge, judge_budget)
        slow = self._judging is not None and self._judging.waits
        self._blocks = self._waits_for_disk or backend is not None or slow
        self._native = encoder is not None
        self._vectors = Vectors(self._core, embedder, native=self._native, remembers=remembered > 0)
        self._find = self._core.find  # one attribute look-up less on the way of every hit
        # A whole lookup in one call; where a backend comes after the core, the way there is a plan.
        self._ask = self._core.lookup if backend is None else None

    @classmethod
    def from_config(cls, path: str | PathLike[str] | None = None, **options: Any) -> Self:
        """A cache as `nearhit.toml` and the `NEARHIT_*` variables describe it; see `nearhit.config`.

        Args:
            path: The file; None for NEARHIT_CONFIG, else `nearhit.toml` in the working folder, if it is there.
            **options: Options that win over both.

        Raises:
            OptionError: A value that is not valid, or an option that is unknown.
        """
        from nearhit import config  # noqa: PLC0415 - nobody else needs it

        found = config.load(path)
        given = {**found.cache_options(without=options), **options}
        if "embedder" not in given:
            given["embedder"] = found.make_embedder()
        return cls(**given)

    @classmethod
    def sharing(cls, cache: CacheBase) -> Self:
        """A face of this class on an existing cache: both hold the same entries."""
        face = cls.__new__(cls)
        face.__dict__.update(cache.__dict__)
        return face

    @property
    def embedder(self) -> Embedder | None:
        """The embedder, or None for a cache of exact hits and of vectors given by the caller."""
        return self._embedder

    def __len__(self) -> int:
        return len(self._core)

    def __repr__(self) -> str:
        embedder = self._embedder.id if self._embedder else None
        return f"<{type(self).__name__} {len(self)} entries, embedder={embedder!r}>"

    def _lookup(self, prompt: Prompt, scope: Any, threshold: float | None, vector: Any) -> Plan[Lookup]:
        started = perf_counter()
        found = self._find(prompt, scope)
        seconds = {"exact": perf_counter() - started}
        if isinstance(found, Hit):
            self._core.threshold(threshold)
            return Lookup(found, Request(prompt, scope), seconds=seconds)
        return (yield from self._near(found, threshold, vector, seconds))

    def _near(self, request: Request, threshold: float | None, vector: Any, seconds: dict[str, float]) -> Plan[Lookup]:
        """The part of a lookup after the exact map had nothing."""
        self._core.threshold(threshold)
        near, truncated, unembedded = None, False, None
        if not self._core.compares(request):
            vector = None
        elif vector is None and self._native:
            near = yield Seek(self._core, request, threshold)
            vector, truncated = near.vector, near.truncated
            seconds["tokenise"], seconds["embed"] = near.tokenise_seconds, near.embed_seconds
        elif vector is None and request.text is not None and self._embedder is not None:
            try:
                ((vector, truncated, seconds["tokenise"], seconds["embed"]),) = yield [request.text]
            except (EmbedderBusyError, EmbeddingTimeoutError) as error:
                self._unembedded.count(error)
                unembedded = error
        hit, near_miss = None, None
        if vector is not None and not truncated:
            near = near or self._core.near(request, vector, threshold)
            seconds["search"], seconds["guard"] = near.search_seconds, near.judge_seconds
            hit = near.hit
            near_miss = None if near.near_miss is None else Candidate.of(near.near_miss)
        if hit is None and self._backend is not None and self._core.shares(request):
            hit, refused = yield from self._shared(request, None if truncated else vector, threshold, seconds)
            near_miss = near_miss or refused
        if hit is None:
            self._core.count_miss()
        return Lookup(hit, request, vector, truncated, near_miss, seconds, unembedded=unembedded)

    def _shared(
        self, request: Request, vector: Any, threshold: float | None, seconds: dict[str, float]
    ) -> Plan[tuple[Hit | None, Candidate | None]]:
        """The part of a lookup after everything local had nothing: one question to the backend."""
        assert self._backend is not None  # noqa: S101 - looked at by the caller
        least = self._core.threshold(threshold)
        errand = self._backend.find(request, vector, least)
        if errand is None:
            return None, None
        started = perf_counter()
        replies = yield errand
        asked = perf_counter()
        self._backend.waited(asked - started)
        hit, refused = self._backend.judge(errand, request, threshold, least, replies)
        seconds["remote"], seconds["remote_guard"] = asked - started, perf_counter() - asked
        return hit, None if refused is None else Candidate.of(refused)

    def _lead(self, lookup: Lookup, patience: float) -> Plan[Lookup]:
        """After a miss: waits for the right to make the answer, or for the replica that is making it."""
        backend = self._backend
        errand = None if backend is None or not backend.single_flight else backend.claim(lookup.request, patience)
        if lookup.hit is not None or errand is None:
            return lookup
        flight = yield errand
        if flight is not None and flight[0]:
            return replace(lookup, flight=flight)
        hit, _ = yield from self._shared(lookup.request, None, None, {})
        return replace(lookup, hit=hit)

    def _give_up(self, lookup: Lookup) -> None:
        """The answer that others may be waiting for will not come."""
        if self._backend is not None and lookup.flight is not None:
            self._backend.release(lookup.request, lookup.flight[1])

    def _explain(self, prompt: Prompt, scope: Any, threshold: float | None, vector: Any, k: int) -> Plan[Explanation]:
        least = self._core.threshold(threshold)
        request = Request(prompt, scope)
        exact = self._core.peek(request) if self._core.shares(request) else None
        truncated = False
        compared = self._core.compares(request)
        if not compared:
            vector = None
        elif vector is None and request.text is not None and self._embedder is not None:
            ((vector, truncated, _, _),) = yield [request.text]
        candidates: tuple[Candidate, ...] = ()
        most, compared_by = parse_count("k", k) or 1, None if truncated else vector
        if compared_by is not None:
            found = self._core.candidates(request, compared_by, threshold, most)
            candidates = tuple(Candidate.of(fields) for fields in found)
        if exact is None and self._core.shares(request):
            others = yield from self._others(request, compared_by, threshold)
            if not any(one.accepted for one in candidates):  # as in a lookup: what is near here goes before equal there
                exact = self._core.peek(request)
            own = {one.entry_id for one in candidates}
            candidates += tuple(one for one in others if one.entry_id not in own)
            candidates = tuple(sorted(candidates, key=lambda one: -one.similarity)[:most])
        hit = exact
        if hit is None:
            accepted = next((one for one in candidates if one.accepted), None)
            hit = (
                None
                if accepted is None
                else self._core.peek_near(request, accepted.entry_id, accepted.similarity, accepted.confidence)
            )
        reason = _reason(
            request, exact, candidates, compared=compared, truncated=truncated, has_vector=vector is not None
        )
        return Explanation(request.text, hit, candidates, least, reason)

    def _others(self, request: Request, vector: Any, threshold: float | None) -> Plan[list[Candidate]]:
        """Candidates that the backend's servers hold."""
        question = None if self._backend is None else self._backend.find(request, vector, -1.0)
        if self._backend is None or question is None:
            return []
        return [Candidate.of(one) for one in self._backend.examine(question, request, threshold, (yield question))]

    def _store(
        self, prompt: Prompt | Lookup, response: Any, scope: Any, vector: Any, options: Mapping[str, Any]
    ) -> Plan[str]:
        if isinstance(prompt, Lookup):
            request, truncated = prompt.request, prompt.truncated
            vector = prompt.vector if vector is None else vector
        else:
            request, truncated = Request(prompt, scope), False
        if not self._core.shares(request):
            return request.fingerprint
        if not self._core.compares(request):
            vector, truncated = None, True
        if vector is None and not truncated and request.text is not None and self._embedder is not None:
            try:
                ((vector, truncated, _, _),) = yield [request.text]
            except (EmbedderBusyError, EmbeddingTimeoutError) as error:
                self._unembedded.count(error)  # equal requests are answered all the same
        kept = None if truncated else vector
        if self._judging is not None:
            self._judging.answered(request, response)
        backend = self._backend
        if backend is None:
            return self._core.store(request, response, vector=kept, **options)
        moment = backend.moment()
        entry_id = self._core.store(request, response, vector=kept, **options)
        flight = prompt.flight if isinstance(prompt, Lookup) else None
        backend.put(request, response, kept, options, moment=moment, token=0 if flight is None else flight[0])
        if flight is not None:
            backend.release(request, flight[1])
        return entry_id

    def _invalidate(
        self, entry_id: str | None, tag: str | None, scope: Any, older_than: float | None, prompt: Prompt | None
    ) -> int:
        given = [
            name for name, value in (("id", entry_id), ("tag", tag), ("older_than", older_than)) if value is not None
        ]
        if prompt is not None:
            given.append("prompt")
        elif scope is not None:
            given.append("scope")
        if len(given) != 1:
            chosen = ", ".join(given) or "nothing"
            raise OptionError(f"invalidate takes exactly one of id, tag, scope, older_than and prompt, got {chosen}")
        if prompt is not None:
            entry_id = Request(prompt, scope).fingerprint
        kind: Kind
        if entry_id is not None:
            kind, argument, count = "id", entry_id, int(self._core.invalidate_id(entry_id))
        elif tag is not None:
            kind, argument, count = "tag", tag, self._core.invalidate_tag(tag)
        elif older_than is not None:
            count = self._core.invalidate_older_than(older_than)
            kind, argument = "older", f"{time() - older_than:.3f}"
        else:
            count = self._core.invalidate_scope(scope)
            kind, argument = "scope", Request.from_parts("0" * 32, "0" * 32, None, scope).caller
        return self._everywhere(kind, argument, count)

    def _everywhere(self, kind: Kind, argument: str, count: int) -> int:
        """Tells the backend of a removal; returns how many entries there were, here or there."""
        return count if self._backend is None else max(count, self._backend.invalidate(kind, argument))

    def _clear(self) -> None:
        self._core.clear()
        self._everywhere("clear", "", 0)

    def _feedback(self, hit: Hit, correct: bool) -> None:  # noqa: FBT001 - as in `feedback`
        self._core.feedback(hit, correct)
        if not correct:
            self._everywhere("id" if hit.kind == "exact" else "demote", hit.entry_id, 0)

    def _flush(self) -> None:
        if self._judging is not None:
            self._judging.flush()
        self._core.flush()
        if self._backend is not None:
            self._backend.flush()

    def _close(self) -> None:
        if self._judging is not None:
            self._judging.close()
        self._core.close()
        if self._backend is not None:
            self._backend.close()

    def _judgements(self) -> list[Judgement]:
        return [
            Judgement(query, candidate, int(correct), similarity, time)
            for query, candidate, correct, similarity, time in self._core.judgements()
        ]

    def _stats(self) -> Stats:
        figures = {
            "uptime": monotonic() - self._made,
            "storage_failure": self._core.storage_failure,
            "embedder_busy": self._unembedded.busy,
            "embedder_late": self._unembedded.late,
            "unjudged": 0 if self._judging is None else self._judging.unjudged,
            "backend": None if self._backend is None else self._backend.stats(),
        }
        return Stats.of({**self._core.stats(), **figures})

    def _reembed(self, progress: Callable[[int, int], None] | None) -> Plan[int]:
        """Embeds what was embedded by another embedder, in batches."""
        waiting = [] if self._embedder is None else self._core.awaiting_vectors()
        done = 0
        for start in range(0, len(waiting), _BATCH):
            batch = waiting[start : start + _BATCH]
            made = yield [request.text or "" for request in batch]
            for request, found in zip(batch, made, strict=True):
                done += self._core.give_vector(request, None if found.truncated else found.vector)
            if progress is not None:
                progress(start + len(batch), len(waiting))
        return done

    def _import(self, records: Iterator[Record], progress: Callable[[int], None] | None) -> Plan[int]:
        """Stores records in batches, so that the embedder sees many texts at once."""
        count = 0
        while batch := list(islice(records, _BATCH)):
            texts = [
                record.request.text for record in batch if record.request.text is not None and record.vector is None
            ]
            made = iter((yield texts) if texts and self._embedder is not None else [])
            for record in batch:
                vector = record.vector
                if vector is None and record.request.text is not None:
                    found = next(made, None)
                    vector = None if found is None or found.truncated else found.vector
                moment = (-1, "") if self._backend is None else self._backend.moment()
                self._core.store(record.request, record.response, vector=vector, **record.options)
                if self._backend is not None:
                    self._backend.put(record.request, record.response, vector, record.options, moment=moment)
                count += 1
            errand = None if self._backend is None else self._backend.room()
            if errand is not None:
                yield errand
            if progress is not None:
                progress(count)
        return count


def _share(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise OptionError(f"option {name}={value!r} is not valid: expected a share between 0 and 1, such as 0.02")
    return float(value)


def _judging(
    policy: Policy, core: CacheCore, embedder: Embedder | None, judge: JudgeOption | None, budget: int | None
) -> Judging | None:
    """What judges the trials of the verified policy; nothing under another one."""
    if policy == "verified":
        return Judging(core, embedder, judge or "exact", budget)
    if judge is not None or budget is not None:
        raise OptionError(f'options judge and judge_budget need policy="verified", got policy={policy!r}')
    return None


def _bound(backend: RedisBackend | str, core: CacheCore, embedder: Embedder | None, ttl: float | None) -> RedisBackend:
    """The backend, at work for this cache."""
    from nearhit.backends import RedisBackend  # noqa: PLC0415 - an extra

    if isinstance(backend, str):
        backend = RedisBackend(backend)
    elif not isinstance(backend, RedisBackend):
        raise OptionError(f"option backend={backend!r} is not valid: expected a RedisBackend, or the URL of one")
    backend.bind(core, embedder, ttl)
    return backend


def _report(path: str | PathLike[str], opened: tuple[int, int, int, str | None, Path | None]) -> None:
    """Warns of what opening a file brought to light."""
    entries, foreign, damaged, broken, set_aside = opened
    if broken is not None:
        kept = f"{entries} entries that could be read were kept"
        where = f"it was set aside as {set_aside}, and {kept}" if set_aside else kept
        warnings.warn(f"{path} is damaged ({broken}): {where}", StorageWarning, stacklevel=4)
    elif damaged:
        warnings.warn(f"{path}: {damaged} damaged entries were dropped, {entries} kept", StorageWarning, stacklevel=4)
    if foreign:
        warnings.warn(
            f"{path}: {foreign} of {entries} entries were embedded by another embedder, and answer only equal requests "
            "until reembed() is called",
            StorageWarning,
            stacklevel=4,
        )


def store_options(
    *,
    ttl: float | None = None,
    tags: Iterable[str] = (),
    cost: float | None = None,
    model: str | None = None,
    tokens: tuple[int, int] | None = None,
) -> dict[str, Any]:
    """Checks what a store may say about an answer.

    Raises:
        OptionError: A single string for `tags`, a `ttl` that is not positive, a cost that is not a number.
    """
    if isinstance(tags, str):
        raise OptionError(f"option tags={tags!r} is not valid: expected a sequence of strings such as [{tags!r}]")
    if cost is not None and not 0 <= cost < float("inf"):
        raise OptionError(f"option cost={cost!r} is not valid: expected a number of at least 0")
    return {"ttl": parse_seconds("ttl", ttl), "tags": list(tags), "cost": cost, "model": model, "tokens": tokens}


def _reason(
    request: Request,
    exact: Hit | None,
    candidates: tuple[Candidate, ...],
    *,
    compared: bool,
    truncated: bool,
    has_vector: bool,
) -> str:
    accepted = next((one for one in candidates if one.accepted), None)
    if exact is not None:
        reason = "exact hit: the very same request was answered before"
    elif request.text is not None and not compared:
        reason = (
            f"miss: the request asks for chance (temperature {request.temperature}), and the cache's sampling obeys"
        )
    elif request.text is None:
        reason = "miss: the request has parts that cannot be compared by meaning, and no equal one was answered"
    elif truncated:
        reason = "miss: the prompt is longer than the embedder's window, so only an equal one could answer"
    elif not has_vector:
        reason = "miss: no equal request, and there is no embedder or vector to compare by meaning"
    elif accepted is not None:
        where = ", held by the server" if accepted.source == "remote" else ""
        reason = f"near hit: similarity {accepted.similarity:.4f} to {accepted.prompt!r}{where}"
    elif candidates:
        best = candidates[0]
        reason = f"miss: the nearest entry, {best.prompt!r}, was refused: {'; '.join(best.reasons)}"
    else:
        reason = "miss: nothing was stored in this scope"
    return reason
