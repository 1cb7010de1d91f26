"""The cache for synchronous code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from nearhit._core import Hit
from nearhit.cache._base import CacheBase, store_options
from nearhit.cache._memoize import MemoizeMixin
from nearhit.cache.portable import export, read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from os import PathLike

    from nearhit._types import Prompt
    from nearhit.cache._records import Explanation, Judgement, Lookup, Stats


class Cache(MemoizeMixin, CacheBase):
    """Answers requests that were answered before, and requests that mean the same.

    Safe to use from many threads. Lookups take no lock.

    Args:
        embedder: Turns prompts into vectors; without one only equal requests hit, unless `vector=` is given.
        threshold: Least cosine similarity of a near hit; None for the policy's own, 0.9 for "static" and 0.8 for
            the others, where every candidate is judged. A lookup may ask for more, never for less.
        policy: "static" (the threshold alone), "guarded" (and lexical guards and pair verifier) or "verified": what
            the guards let pass is served as long as the wrong hits expected of it stay within `delta`. What is not
            served is learned from: the judge compares the model's answer with the one that was kept.
        verifier: A pair verifier that `nearhit tune --out FILE` wrote, in place of the one that comes with the library.
        confidence: Least confidence of a near hit, in place of the verifier's own; more of it means fewer wrong hits.
        delta: Greatest share of a caller's near lookups that may end in a wrong hit under "verified".
        exploration: Share of what "verified" would serve that is asked anew, so that a change of the traffic is seen.
        judge: How "verified" compares answers: "exact" (the default; fit for short answers), "embedding" (cosine of the
            answers at least 0.95), or a function of a `nearhit.cache.Trial` that returns a bool, or None for "cannot
            tell", such as `nearhit.cache.TierJudge(tier)`. All but "exact" run in a thread of their own.
        sampling: What may answer a request that states a temperature above 0: "share" (whatever may answer any other;
            the temperature is part of what must match), "exact" (an equal request only) or "fresh" (nothing, and its
            answer is not kept).
        judge_budget: Most answers judged a minute; None for no bound.
        embedding_memo: Texts whose vectors are remembered, so that a repeat and the store after a miss embed nothing,
            and concurrent lookups of one text embed it once; 0 or None for none. They take a sixteenth of `max_bytes`
            at most, and count as part of it.
        max_entries: Most entries held; None for no bound.
        max_bytes: Most bytes held, everything counted: a number or a size like "512MiB"; None for no bound.
        scope_bytes: Most bytes of one caller's scope, so that no tenant can flush the others.
        ttl: Seconds an answer lives unless it says otherwise; a hit never extends it.
        path: File that the entries are kept in (SQLite); one process at a time. None keeps them in memory only.
        durability: "async" returns at once and loses at most the last second in a crash; "sync" waits for the disk.
        read_only: Only read the file at `path`, which another process may be writing: the cache begins with what is in
            it now, sees nothing of what is written to it later, and keeps to itself what is stored here.
        backend: A tier shared between processes and machines: a `nearhit.backends.RedisBackend`, or its URL.

    Raises:
        OptionError: An option that is unknown or out of range.
        StorageError: The file at `path` cannot be opened; StorageInUseError: another process writes it.
        ThresholdError: A threshold outside [-1, 1].

    Example:
        >>> cache = Cache(max_bytes="64MiB", ttl=3600)
        >>> entry_id = cache.store("What is 2 + 2?", "4", tags=["maths"])
        >>> cache.lookup("What is 2 + 2?").response
        '4'
        >>> cache.invalidate(tag="maths")
        1
    """

    def lookup(
        self, prompt: Prompt, *, scope: Any = None, threshold: float | None = None, vector: Any = None
    ) -> Hit | None:
        """The answer to an equal request, else to the nearest one that may answer, else None.

        An embedder that is too busy, or slower than `nearhit.embed.deadline` allows, makes it a miss.

        Args:
            prompt: A prompt, a conversation's messages, or the body of an OpenAI request.
            scope: The caller's own scope (tenant, user...): a string or any JSON value. Scopes never see each other.
            threshold: Least similarity for this lookup; counts only where it is stricter than the cache's.
            vector: The prompt's vector, float32 of shape [dim], if the caller has it already.

        Raises:
            InputError: An empty prompt, a request that cannot be read, a bad threshold or vector.
            EmbeddingError: The embedder failed.
        """
        if vector is None and self._ask is not None:
            found = self._ask(prompt, scope, threshold)
            if found is None or isinstance(found, Hit):
                return found
        else:
            found = self._find(prompt, scope)
            if isinstance(found, Hit):
                self._core.threshold(threshold)
                return found
        return self._run_plan(self._near(found, threshold, vector, {})).hit

    def lookup_traced(
        self, prompt: Prompt, *, scope: Any = None, threshold: float | None = None, vector: Any = None
    ) -> Lookup:
        """Like `lookup`, with the request, its vector and the time of each stage."""
        return self._run_plan(self._lookup(prompt, scope, threshold, vector))

    def explain(
        self, prompt: Prompt, *, scope: Any = None, threshold: float | None = None, vector: Any = None, k: int = 10
    ) -> Explanation:
        """What a lookup would do and why: every candidate with its similarity and the reasons against it.

        Args:
            prompt: As in `lookup`.
            scope: As in `lookup`.
            threshold: As in `lookup`.
            vector: As in `lookup`.
            k: Most candidates told.
        """
        return self._run_plan(self._explain(prompt, scope, threshold, vector, k))

    def store(
        self,
        prompt: Prompt | Lookup,
        response: Any,
        *,
        scope: Any = None,
        ttl: float | None = None,
        tags: Iterable[str] = (),
        cost: float | None = None,
        vector: Any = None,
        model: str | None = None,
        tokens: tuple[int, int] | None = None,
    ) -> str:
        """Stores an answer, in place of an earlier one to the same request.

        Args:
            prompt: As in `lookup`; or the `Lookup` that found nothing, which spares embedding again.
            response: str, bytes, or a JSON value (its tuples come back as lists).
            scope: As in `lookup`; not used with a `Lookup`, which has its own.
            ttl: Seconds until the answer ends; None for the cache's default.
            tags: Labels for `invalidate`.
            cost: What the answer saves when it is found, in any one unit; dear answers are kept longer.
            vector: As in `lookup`.
            model: Model that gave the answer.
            tokens: Tokens of the prompt and of the answer.

        Returns:
            The entry's id: the request's fingerprint.

        Raises:
            InputError: As in `lookup`; a response that is none of the three; one larger than the cache.
            EmbeddingError: The embedder failed; nothing was stored. One that was only too busy or too slow raises
                nothing: the answer is then kept for equal requests.
        """
        options = store_options(ttl=ttl, tags=tags, cost=cost, model=model, tokens=tokens)
        return self._run_plan(self._store(prompt, response, scope, vector, options))

    def invalidate(
        self,
        *,
        id: str | None = None,  # noqa: A002 - the name users know from everywhere else
        tag: str | None = None,
        scope: Any = None,
        older_than: float | None = None,
        prompt: Prompt | None = None,
    ) -> int:
        """Removes entries by exactly one of these; `scope` may accompany `prompt`.

        Args:
            id: The entry with this id.
            tag: Every entry with this tag.
            scope: Every entry of this caller's scope, whatever its system prompt or parameters.
            older_than: Every entry made more than so many seconds ago.
            prompt: The entry of exactly this request.

        Returns:
            How many were removed.
        """
        return self._invalidate(id, tag, scope, older_than, prompt)

    def stats(self) -> Stats:
        """What the cache has done so far, and what it holds."""
        return self._stats()

    def clear(self) -> None:
        """Removes everything, judgements too; readers see an empty cache from one moment to the next."""
        self._clear()

    def feedback(self, hit: Hit, correct: bool) -> None:  # noqa: FBT001 - the contract's signature reads well
        """Says whether a hit was right.

        A wrong near hit makes its entry exact-only: the answer may be right for its own prompt. A wrong exact hit
        removes its entry. If the entry has been replaced since, its successor is left alone. The two prompts of a
        near hit are remembered with what was said of them: see `judgements`.
        """
        self._feedback(hit, correct)

    def judgements(self) -> list[Judgement]:
        """What `feedback` said of near hits, oldest first: the latest 10,000, each pair of prompts once.

        They are kept with the entries where there is a `path`, and go when their scope or everything is removed.
        `nearhit cache export --judgements` writes them in the form that `nearhit tune` reads.
        """
        return self._judgements()

    def reembed(self, *, progress: Callable[[int, int], None] | None = None) -> int:
        """Embeds the entries whose vectors are of another embedder, which answer only equal requests until then.

        Args:
            progress: Called with the number of entries done and of all.

        Returns:
            How many have a vector of the present embedder now.
        """
        return self._run_plan(self._reembed(progress))

    def flush(self) -> None:
        """Waits until everything stored so far is in the file; at once without a `path`.

        Raises:
            StorageError: The disk refuses it; it is tried again.
        """
        self._flush()

    def close(self) -> None:
        """Writes what is left and lets another process have the file. Entries stored later are in memory only."""
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def export(self, path: str | PathLike[str]) -> int:
        """Writes every entry as one JSON line; see `nearhit.cache.portable` for the form. Returns how many."""
        return export(self._core, path)

    def import_(self, path: str | PathLike[str], *, progress: Callable[[int], None] | None = None) -> int:
        """Reads what `export` wrote, question/answer JSON lines or CSV, a GPTCache's sqlite file, or a RedisVL cache.

        Args:
            path: The file; or a URL such as "redis://localhost:6379?name=llmcache" for RedisVL's.
            progress: Called now and then with the number of entries read so far.

        Returns:
            How many were read.

        Raises:
            CorruptFileError: A line that cannot be read; the entries before it have been taken.
        """
        return self._run_plan(self._import(read(path), progress))
