"""The cache as a wrapped client uses it: it may fail, it never fails a call."""

from __future__ import annotations

import asyncio
import contextvars
import hashlib
import logging
import threading
from collections import Counter
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, TypeVar

from nearhit._bound import deadline
from nearhit._config import parse_seconds
from nearhit._core import Hit, Request
from nearhit._errors import InputError, OptionError
from nearhit.answers import Answer, bypass_reason
from nearhit.cache import AsyncCache, Cache, Lookup
from nearhit.cache._base import CacheBase
from nearhit.openai._controls import FIELD, Controls, current
from nearhit.openai._embeddings import Inputs, inputs_of
from nearhit.openai._info import Counts, Info
from nearhit.openai._sharing import Sharing

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Hashable, Mapping

    from nearhit.answers import Call

T = TypeVar("T")

_log: Final = logging.getLogger("nearhit.openai")

CALLS: Final[dict[str, Call]] = {
    "/chat/completions": "chat",
    "/completions": "completions",
    "/responses": "responses",
    "/embeddings": "embeddings",
}
"""The calls that a cache may answer, by the path they are sent to; all others pass."""

_IDENTITY: Final = frozenset({"authorization", "api-key", "openai-organization", "openai-project", "cookie"})
"""Headers of one request that make it somebody else's."""


@dataclass(slots=True)
class Asked:
    """One request on its way.

    Attributes:
        call: Which API it is for.
        request: Its body, as it is sent.
        body: The body as the cache reads it: with where it goes, without what says nothing about the answer.
        controls: What it asks of nearhit.
        stream: Whether the answer shall come as a stream.
        info: The record that will be on the result.
        lookup: What the cache found; None if it was not asked.
        store: Whether the answer may be kept.
        inputs: What an embeddings request wants embedded, where that can be told one by one.
        key: What makes it equal to another request under way; None where it does not share calls.
        made: What it was answered with, for requests that wait for it: an `Answer` or a shared stream.
        chat: Messages and parameters for a tier, where its own are not a chat's.
    """

    call: Call
    request: Mapping[str, Any]
    body: Any
    controls: Controls
    stream: bool
    info: Info = field(default_factory=Info)
    lookup: Lookup | None = None
    store: bool = False
    inputs: Inputs | None = None
    key: Hashable | None = None
    made: Any = None
    chat: tuple[list[dict[str, Any]], dict[str, Any]] | None = None

    @property
    def usage(self) -> bool:
        """Whether the stream shall end with token counts."""
        return bool((self.request.get("stream_options") or {}).get("include_usage"))


class Engine:
    """Looks up, stores, counts, and passes over every failure on the way.

    Args:
        cache: A `Cache` or `AsyncCache`; None for none.
        embedding_deadline: Seconds after which a lookup that is still embedding counts as a miss; None for no limit.
        defaults: Controls of every request that does not say otherwise.
        single_flight: Whether equal requests under way at the same time make one call.

    Attributes:
        defaults: As given.
        sharing: The calls under way.
    """

    def __init__(
        self, cache: Any, *, embedding_deadline: float | None, defaults: Controls, single_flight: bool = True
    ) -> None:
        if cache is not None and not isinstance(cache, CacheBase):
            raise OptionError(f"option cache={cache!r} is not valid: expected a nearhit.Cache or nearhit.AsyncCache")
        self.defaults = defaults
        self.sharing = Sharing()
        self._single_flight = single_flight
        self._deadline = parse_seconds("embedding_deadline", embedding_deadline)
        self._sync = None if cache is None else Cache.sharing(cache)
        self._async = None if cache is None else AsyncCache.sharing(cache)
        self._counter: Counter[str] = Counter()
        self._failures: Counter[str] = Counter()
        self._logged: set[tuple[str, str]] = set()
        self._lock = threading.Lock()

    def counts(self) -> Counts:
        """What was done so far."""
        with self._lock:
            return Counts.of(self._counter, self._failures)

    def count(self, name: str) -> None:
        """Counts one more of something."""
        with self._lock:
            self._counter[name] += 1

    def failed(self, stage: str, error: BaseException, info: Info) -> None:
        """Notes a failure that is passed over: counted always, logged the first time it happens."""
        words = f"{stage} failed: {type(error).__name__}: {error}"
        info.notes.append(words)
        kind = (stage, type(error).__name__)
        with self._lock:
            self._failures[stage] += 1
            known = kind in self._logged
            self._logged.add(kind)
        if not known:
            _log.warning("%s; the request goes on without it, and this is not said again", words)

    def ask(
        self,
        request: Mapping[str, Any],
        *,
        path: str,
        base_url: str,
        extra: Mapping[str, Any] | None,
        headers: Mapping[str, Any] | None,
        query: Mapping[str, Any] | None,
        stream: bool,
    ) -> Asked:
        """Reads a request.

        Raises:
            OptionError: A control that does not exist or has no meaning.
        """
        given = None if extra is None else extra.get(FIELD)
        controls = current(given)
        if self.defaults:
            controls = Controls(**{**self.defaults, **controls})
        if extra:
            request = {**request, **{name: value for name, value in extra.items() if name != FIELD}}
        call = CALLS[path]
        place: dict[str, Any] = {"endpoint": base_url + path}
        if query:
            place["query"] = dict(query)
        if headers:
            who = sorted((name.lower(), str(value)) for name, value in headers.items() if name.lower() in _IDENTITY)
            if who:
                place["identity"] = hashlib.blake2b(repr(who).encode(), digest_size=16).hexdigest()
        body = {**request, FIELD: place}
        if call != "embeddings":
            return Asked(call, request, body, controls, stream)
        wanted = body.pop("input", None)
        given = None if extra and "input" in extra else inputs_of(request)
        inputs = None if given is None else Inputs(given, dict(body))
        # Read as a list of prompts, which is never compared by meaning: the vectors of near texts differ.
        return Asked(call, request, {**body, "prompt": ["embedding of", wanted]}, controls, stream, inputs=inputs)

    def exact(self, asked: Asked) -> Answer | None:
        """The answer to an equal request, not counted yet. Embeds nothing; a failure is None."""
        if self._sync is None or asked.controls.get("no_cache"):
            return None
        start = perf_counter()
        try:
            found = self._sync._find(asked.body, asked.controls.get("tenant"))  # noqa: SLF001 - our own cache
        except Exception:  # noqa: BLE001 - the full lookup, which comes next, tells what is wrong
            return None
        if not isinstance(found, Hit):
            return None
        asked.info.lookup_seconds = perf_counter() - start
        return self._hit(asked, found)

    def skips(self, asked: Asked) -> bool:
        """Whether the cache is not asked about a request at all; the record says why."""
        info = asked.info
        if self._sync is None:
            info.reason = "no cache"
        elif (why := bypass_reason(asked.call, asked.request)) is not None:
            info.reason = why
        else:
            try:
                request = Request(asked.body, asked.controls.get("tenant"))
            except InputError as error:
                info.reason = str(error)
            else:
                asked.lookup = Lookup(None, request, truncated=True)
                asked.store = not asked.controls.get("no_store")
                if not asked.controls.get("no_cache"):
                    return False
                asked.lookup = Lookup(None, request)  # not looked up, so that storing makes the vector
                if asked.inputs is not None:
                    _each(asked.inputs.find(), lambda body: Lookup(None, Request(body, asked.controls.get("tenant"))))
                info.reason = "no_cache was asked for"
        self.count("bypass")
        return True

    def seek(self, asked: Asked) -> Answer | None:
        """The cache's answer, exact or near, or None; waits no longer than the embedding's deadline."""
        cache = self._sync
        if cache is None or self.skips(asked):
            return None
        start = perf_counter()
        try:
            if asked.inputs is not None:
                options = self._options(asked)
                found = _each(asked.inputs.find(), lambda body: cache.lookup_traced(body, **options))
                return self._found_inputs(asked, found, start)
            if not self._embeds(asked):
                lookup = cache.lookup_traced(asked.body, **self._options(asked))
            else:
                with deadline(self._deadline):
                    lookup = _limited(lambda: cache.lookup_traced(asked.body, **self._options(asked)), self._deadline)
        except Exception as error:  # noqa: BLE001 - whatever the cache does, the request goes on
            self._missed(asked, start, error)
            return None
        return self._found(asked, lookup, start)

    async def seek_async(self, asked: Asked) -> Answer | None:
        """`seek`, without holding up the event loop."""
        cache = self._async
        if cache is None or self.skips(asked):
            return None
        start = perf_counter()
        try:
            if asked.inputs is not None:
                options = self._options(asked)
                found = await _each_async(asked.inputs.find(), lambda body: cache.lookup_traced(body, **options))
                return self._found_inputs(asked, found, start)
            pending = cache.lookup_traced(asked.body, **self._options(asked))
            lookup = await (asyncio.wait_for(pending, self._deadline) if self._embeds(asked) else pending)
        except Exception as error:  # noqa: BLE001 - whatever the cache does, the request goes on
            self._missed(asked, start, error)
            return None
        return self._found(asked, lookup, start)

    def keep(self, asked: Asked, answer: Answer, *, model: str | None = None) -> None:
        """Stores a whole answer."""
        if self._sync is None or not asked.store or asked.lookup is None:
            return
        try:
            asked.info.stored = self._sync.store(asked.lookup, answer.stored, **_kept_as(asked, answer, model))
            self.count("stored")
        except Exception as error:  # noqa: BLE001 - the answer is there; losing the entry costs nobody anything
            self.failed("store", error, asked.info)

    async def keep_async(self, asked: Asked, answer: Answer, *, model: str | None = None) -> None:
        """`keep`, without holding up the event loop."""
        if self._async is None or not asked.store or asked.lookup is None:
            return
        try:
            asked.info.stored = await self._async.store(asked.lookup, answer.stored, **_kept_as(asked, answer, model))
            self.count("stored")
        except Exception as error:  # noqa: BLE001 - the answer is there; losing the entry costs nobody anything
            self.failed("store", error, asked.info)

    def keep_inputs(self, asked: Asked, answers: list[tuple[Lookup, dict[str, Any]]]) -> None:
        """Stores the answers to inputs that nobody had asked for."""
        if self._sync is None or not asked.store:
            return
        try:
            for lookup, body in answers:
                options = _kept_as(asked, Answer("embeddings", body), None)
                self._stored_input(asked, self._sync.store(lookup, body, **options))
        except Exception as error:  # noqa: BLE001 - as in `keep`
            self.failed("store", error, asked.info)

    async def keep_inputs_async(self, asked: Asked, answers: list[tuple[Lookup, dict[str, Any]]]) -> None:
        """`keep_inputs`, without holding up the event loop."""
        if self._async is None or not asked.store:
            return
        try:
            for lookup, body in answers:
                options = _kept_as(asked, Answer("embeddings", body), None)
                self._stored_input(asked, await self._async.store(lookup, body, **options))
        except Exception as error:  # noqa: BLE001 - as in `keep`
            self.failed("store", error, asked.info)

    def _stored_input(self, asked: Asked, entry_id: str) -> None:
        self.count("stored")
        if asked.inputs is not None and len(asked.inputs) == 1:
            asked.info.stored = entry_id

    def shares(self, asked: Asked) -> None:
        """Finds out whether a request that the cache has no answer to may share another one's, and its key."""
        if self._sync is None or not asked.store or asked.lookup is None or asked.info.outcome != "miss":
            return
        if not asked.controls.get("single_flight", self._single_flight):
            return
        try:
            if self._sync._core.shares(asked.lookup.request):  # noqa: SLF001 - our own cache
                request, tier = asked.lookup.request, asked.controls.get("tier")
                asked.key = (request.fingerprint, asked.stream, asked.usage, tier)
        except Exception as error:  # noqa: BLE001 - whatever the cache does, the request goes on
            self.failed("lookup", error, asked.info)

    def shared(self, asked: Asked, of: Info) -> None:
        """Notes that a request was answered with the answer to another one, whose record is given."""
        asked.info.outcome, asked.info.tier, asked.info.entry_id = "shared", of.tier, of.stored
        asked.store = False
        self.count("shared")

    def _options(self, asked: Asked) -> dict[str, Any]:
        return {"scope": asked.controls.get("tenant"), "threshold": asked.controls.get("threshold")}

    def _embeds(self, asked: Asked) -> bool:
        """Whether a lookup may have to wait for the embedder."""
        return (
            self._deadline is not None
            and self._sync is not None
            and self._sync.embedder is not None
            and asked.lookup is not None
            and asked.lookup.request.text is not None
        )

    def _found_inputs(self, asked: Asked, body: dict[str, Any] | None, start: float) -> Answer | None:
        """The answer to an embeddings request all of whose inputs are known."""
        info, inputs = asked.info, asked.inputs
        info.lookup_seconds = perf_counter() - start
        assert inputs is not None  # noqa: S101 - looked at by the callers
        if body is None:
            info.outcome = "miss"
            if inputs.known:
                info.reason = f"{inputs.known} of {len(inputs)} inputs were known"
            self.count("miss")
            return None
        info.outcome, info.tier = "exact", "cache"
        if len(inputs) == 1 and inputs.hit is not None:
            info.similarity, info.entry_id, info.age = inputs.hit.similarity, inputs.hit.entry_id, inputs.hit.age
        asked.store = False
        self.count("exact")
        return Answer("embeddings", body)

    def _found(self, asked: Asked, lookup: Lookup, start: float) -> Answer | None:
        asked.info.lookup_seconds = perf_counter() - start
        asked.lookup = lookup
        if lookup.unembedded is not None:
            asked.lookup = replace(lookup, truncated=True)  # kept for equal requests: the embedder gets no second try
            self.failed(_stage(lookup.unembedded), lookup.unembedded, asked.info)
        if lookup.hit is not None:
            answer = self._hit(asked, lookup.hit)
            if answer is not None:
                self.count(lookup.hit.kind)
                asked.store = False
                return answer
            asked.lookup = Lookup(None, lookup.request, lookup.vector, truncated=lookup.vector is None)
        asked.info.outcome = "miss"
        if lookup.near_miss is not None:
            asked.info.reason = "; ".join(lookup.near_miss.reasons)
        self.count("miss")
        return None

    def _missed(self, asked: Asked, start: float, error: Exception) -> None:
        """A lookup that failed: the answer may still be kept, for equal requests."""
        asked.inputs = None
        asked.info.lookup_seconds = perf_counter() - start
        asked.info.outcome = "miss"
        self.count("miss")
        if isinstance(error, InputError):
            asked.info.reason = str(error)
        self.failed(_stage(error), error, asked.info)

    def _hit(self, asked: Asked, hit: Hit) -> Answer | None:
        """The answer of an entry in the form that the request asks for; None if it cannot be had from it."""
        answer = Answer(asked.call, hit.response)
        if not answer.gives(stream=asked.stream, usage=asked.usage):
            return None
        info = asked.info
        info.outcome, info.tier = hit.kind, "cache"
        info.similarity, info.confidence = hit.similarity, hit.confidence
        info.entry_id, info.age = hit.entry_id, hit.age
        return answer


def _stage(error: Exception) -> str:
    """What a lookup's failure is counted as."""
    return "deadline" if isinstance(error, TimeoutError) else "lookup"


def _kept_as(asked: Asked, answer: Answer, model: str | None) -> dict[str, Any]:
    facts = answer.facts
    usage = facts.get("usage") or {}
    sent = usage.get("prompt_tokens", usage.get("input_tokens"))
    made = usage.get("completion_tokens", usage.get("output_tokens", 0))
    counted = isinstance(sent, int) and isinstance(made, int)
    return {
        "ttl": asked.controls.get("ttl"),
        "tags": asked.controls.get("tags", ()),
        "model": model or facts.get("model"),
        "tokens": (sent, made) if counted else None,
    }


def _each(plan: Generator[Any, Lookup, T], look_up: Callable[[Any], Lookup]) -> T:
    """Drives a plan that asks for one input after the other."""
    try:
        body = next(plan)
        while True:
            body = plan.send(look_up(body))
    except StopIteration as done:
        value: T = done.value
        return value


async def _each_async(plan: Generator[Any, Lookup, T], look_up: Callable[[Any], Awaitable[Lookup]]) -> T:
    try:
        body = next(plan)
        while True:
            body = plan.send(await look_up(body))
    except StopIteration as done:
        value: T = done.value
        return value


def _limited(call: Callable[[], Lookup], seconds: float | None) -> Lookup:
    """Calls in a thread of its own and waits for so long; what comes later is dropped.

    The thread is a daemon and not one of a pool: an embedder that hangs takes nothing with it.

    Raises:
        TimeoutError: It took longer.
    """
    future: Future[Lookup] = Future()
    context = contextvars.copy_context()

    def run() -> None:
        try:
            future.set_result(context.run(call))
        except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
            future.set_exception(error)

    threading.Thread(target=run, name="nearhit-lookup", daemon=True).start()
    try:
        return future.result(seconds)
    except FutureTimeoutError:
        raise TimeoutError(f"the lookup took longer than {seconds} s") from None
