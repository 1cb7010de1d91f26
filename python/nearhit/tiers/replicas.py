"""One tier made of several that give the same answer."""

from __future__ import annotations

import hashlib
import time
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from nearhit._core import ReplicaCore
from nearhit._errors import Error, OptionError, TierError
from nearhit.tiers.base import Tier
from nearhit.tiers.faults import asked_to_wait, final, harms, late
from nearhit.tiers.options import check_kind, check_number, check_whole
from nearhit.tiers.stream import AsyncTierStream
from nearhit.tiers.timing import Timeouts

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Collection, Mapping, Sequence

    from nearhit._types import Chunk, Message, Prompt
    from nearhit.tiers.limits import Slot
    from nearhit.tiers.timing import Stopwatch

_PREFIX_CHARACTERS = 2_000
"""Of each message that a conversation begins with: enough to tell conversations apart."""


@dataclass(frozen=True, slots=True)
class FailedReplica:
    """A replica that failed before any content, so that another one was asked.

    Attributes:
        replica: Its name.
        start: Seconds after the request's start.
        duration: Seconds to its failure.
        error: The error, as text.
    """

    replica: str
    start: float
    duration: float
    error: str


class ReplicaStream(AsyncTierStream):
    """The pieces of one answer, and which replica gives it.

    Attributes:
        replica: Name of the replica at work; None before the first was chosen.
        failed_replicas: Those that failed before any content.
    """

    replica: str | None = None
    failed_replicas: tuple[FailedReplica, ...] = ()


class ReplicaTier(Tier):
    """Answers with one of several tiers that are equal: the same model on several servers.

    Each request goes to the better of two replicas drawn by chance, by their measured times to the first token and the
    calls under way. With affinity, a conversation stays with one replica, where its prompt is still in the cache of
    the server: by `session` if the request names one, else by how the conversation begins. Its replica is passed over
    while it is down, full while others are not, or predicted to be slower than the best by more than `load_gate`.
    A replica that fails in a row is set aside and probed; one that fails before any content is followed by another.

    Args:
        name: How logs, decisions and errors call this tier.
        tiers: The replicas; each needs a name of its own.
        affinity: "session" (by the request's `session` alone), "prefix" (by session or the conversation's beginning)
            or None.
        load_gate: Seconds by which a conversation's own replica may be slower than the best other one.
        breaker_failures: Failures in a row after which a replica is set aside.
        breaker_cooldown: Seconds until one probe; doubles with each failed probe.
        **options: As for `Tier`; by default what the replicas state themselves, the least of each.

    Raises:
        OptionError: No replicas, a name twice, or an option out of its range.

    Example:
        >>> from nearhit import FunctionTier, ReplicaTier
        >>> east = FunctionTier("east", lambda messages: "Paris.")
        >>> west = FunctionTier("west", lambda messages: "Paris.")
        >>> ReplicaTier("large", [east, west]).complete("What is the capital of France?").text
        'Paris.'
    """

    def __init__(
        self,
        name: str,
        tiers: Sequence[Tier],
        *,
        affinity: Literal["session", "prefix"] | None = "prefix",
        load_gate: float = 1.0,
        breaker_failures: int = 5,
        breaker_cooldown: float = 5.0,
        **options: Any,
    ) -> None:
        if not isinstance(tiers, list | tuple) or not tiers:
            raise OptionError(f"replicas of tier {name!r} must be a list of tiers that is not empty, not {tiers!r}")
        for tier in tiers:
            if tier is None or isinstance(tier, ReplicaTier):
                raise OptionError(f"a replica of tier {name!r} must be a single tier, not {tier!r}")
            check_kind(f"a replica of tier {name!r}", tier, Tier)
        names = [tier.name for tier in tiers]
        if len(set(names)) < len(names):
            raise OptionError(f"replicas of tier {name!r} need a different name each, not {names}")
        if affinity not in (None, "session", "prefix"):
            raise OptionError(f"affinity={affinity!r} is not valid: expected 'session', 'prefix' or None")
        check_number("load_gate", load_gate, least=0.0)
        check_whole("breaker_failures", breaker_failures, least=1)
        slots = [tier.limiter.slots for tier in tiers]
        known = [tier.capabilities for tier in tiers if tier.capabilities is not None]
        options.setdefault("price", tiers[0].price)
        options.setdefault("quality", tiers[0].quality)
        options.setdefault(
            "max_context", min((t.max_context for t in tiers if t.max_context is not None), default=None)
        )
        options.setdefault("capabilities", frozenset.intersection(*known) if known else None)
        options.setdefault("max_concurrency", sum(s or 0 for s in slots) if all(slots) else None)
        super().__init__(name, options.pop("model", tiers[0].model), **options)
        self._tiers: tuple[Tier, ...] = tuple(tiers)
        self._affinity = affinity
        self._core = ReplicaCore(slots, load_gate=load_gate, failures=breaker_failures, cooldown=breaker_cooldown)

    @property
    def replicas(self) -> tuple[Tier, ...]:
        """The replicas, in the order given."""
        return self._tiers

    @property
    def provider(self) -> str:
        """The first replica's."""
        return self._tiers[0].provider

    def replica(self, name: str) -> Tier:
        """One of the replicas by its name."""
        return next(tier for tier in self._tiers if tier.name == name)

    def others(self, replica: str) -> bool:
        """Whether another replica than this one is up."""
        states = zip(self._tiers, map(self._core.state, range(len(self._tiers))), strict=True)
        return any(tier.name != replica and state[3] <= 0.0 for tier, state in states)

    def state(self) -> dict[str, dict[str, float]]:
        """Returns, by replica: calls, failures, calls under way, and seconds until a failing one is tried again."""
        names = ("calls", "failures", "in_flight", "down_for")
        return {
            tier.name: dict(zip(names, self._core.state(index), strict=True)) for index, tier in enumerate(self._tiers)
        }

    def count_tokens(self, messages: Prompt) -> int | None:
        """Returns how many tokens the messages are to the model; None where only the server could tell."""
        return self._tiers[0].count_tokens(messages)

    def astream(
        self,
        messages: Prompt,
        *,
        timeouts: Timeouts | None = None,
        priority: int = 0,
        within: float | None = None,
        session: str | None = None,
        avoid: Collection[str] = (),
        **params: Any,
    ) -> ReplicaStream:
        """As for `Tier.astream`; limits hold for each replica, the total one for all together.

        Args:
            messages: A prompt, or messages in the OpenAI form.
            timeouts: Limits of this request, in place of the replicas'.
            priority: As for `Tier.astream`.
            within: As for `Tier.astream`, of each replica's queue.
            session: Requests of one session go to the same replica, as long as it is not overloaded.
            avoid: Names of replicas that are not to be asked.
            **params: Parameters of the request in the OpenAI form.
        """
        check_kind("timeouts", timeouts, Timeouts)
        read = self._accept(messages, params)
        total = (timeouts or self.timeouts).total
        way = _Way(
            self,
            read,
            params,
            timeouts=timeouts,
            priority=priority,
            within=within,
            key=self._key(read, session),
            avoid=avoid,
        )
        stream = ReplicaStream(self, way.pieces, Timeouts(total=total), priority=priority)
        way.stream = stream
        return stream

    def _key(self, messages: Sequence[Message], session: str | None) -> int | None:
        if self._affinity is None:
            return None
        if session is not None:
            return _hash(f"s{session}")
        return _hash("p" + _beginning(messages)) if self._affinity == "prefix" else None

    async def aclose(self) -> None:
        """Closes every replica."""
        await super().aclose()
        for tier in self._tiers:
            await tier.aclose()

    def _open(
        self, messages: Sequence[Message], params: Mapping[str, Any], watch: Stopwatch, slot: Slot, timeouts: Timeouts
    ) -> AsyncGenerator[Chunk, None]:
        key = self._key(messages, None)
        return _Way(self, list(messages), params, timeouts=timeouts, key=key).pieces(watch, slot)


class _Way:
    """One request's way through the replicas."""

    def __init__(
        self,
        tier: ReplicaTier,
        messages: list[Message],
        params: Mapping[str, Any],
        *,
        timeouts: Timeouts | None,
        priority: int = 0,
        within: float | None = None,
        key: int | None = None,
        avoid: Collection[str] = (),
    ) -> None:
        self._tier = tier
        self._within = within
        self._core = tier._core  # noqa: SLF001 - one class in two parts
        self._messages = messages
        self._params = params
        self._timeouts = timeouts
        self._priority = priority
        self._key = key
        self._avoid = avoid
        self._tokens = sum(len(_text(message)) for message in messages) / 4 + 1
        self.stream: ReplicaStream | None = None

    async def pieces(self, watch: Stopwatch, _slot: Slot) -> AsyncGenerator[Chunk, None]:
        """Yields the answer of the first replica that gives content."""
        replicas = self._tier.replicas
        out = [at for at, tier in enumerate(replicas) if tier.name in self._avoid]
        first_error: Error | None = None
        while (chosen := self._core.start(self._tokens, key=self._key, avoid=out)) is not None:
            at, _ = chosen
            begun = watch.elapsed
            if self.stream is not None:
                self.stream.replica = replicas[at].name
            call = _ReplicaCall(self._core, at, self._tokens)
            limits: dict[str, Any] = {"priority": self._priority}
            if self._timeouts is not None:
                limits["timeouts"] = self._timeouts
            if self._within is not None:
                limits["within"] = self._within - begun
            try:
                pieces = replicas[at].astream(self._messages, **limits, **self._params)
                async with aclosing(call.run(pieces)) as chunks:
                    async for chunk in chunks:
                        yield chunk
            except Error as error:
                if call.ttft is not None or final(error):
                    raise
                first_error = first_error or error
                out.append(at)
                self._note(FailedReplica(replicas[at].name, begun, watch.elapsed - begun, _words(error)))
                continue
            watch.connect = pieces.timings.connect
            return
        if first_error is not None:
            raise first_error
        name = self._tier.name
        raise TierError(f"tier {name!r}: every replica is set aside after failures", tier=name)

    def _note(self, failed: FailedReplica) -> None:
        if self.stream is not None:
            self.stream.failed_replicas = (*self.stream.failed_replicas, failed)


class _ReplicaCall:
    """A call of a replica, reported to its state exactly once."""

    def __init__(self, core: ReplicaCore, at: int, tokens: float) -> None:
        self._core = core
        self._at = at
        self._tokens = tokens
        self.ttft: float | None = None

    async def run(self, stream: AsyncTierStream) -> AsyncGenerator[Chunk, None]:
        start = time.perf_counter()
        pieces, usage = 0, 0
        try:
            async with aclosing(stream) as chunks:
                async for chunk in chunks:
                    if chunk.has_content:
                        pieces += 1
                        self.ttft = self.ttft or time.perf_counter() - start
                    if chunk.usage is not None:
                        usage = chunk.usage.completion_tokens
                    yield chunk
        except Exception as error:
            self._failed(error, time.perf_counter() - start - stream.timings.queue, queueing=stream.queueing)
            raise
        except BaseException:
            waited = None
            if self.ttft is None and not stream.queueing:  # what was given up in the queue says nothing of the server
                waited = max(0.0, time.perf_counter() - start - stream.timings.queue)
            self._core.cancelled(self._at, self._tokens, waited)
            raise
        whole = time.perf_counter() - start
        decode = 0.0 if self.ttft is None else whole - self.ttft
        ttft = None if self.ttft is None else max(0.0, self.ttft - stream.timings.queue)
        self._core.answered(self._at, self._tokens, ttft, decode, usage or pieces)

    def _failed(self, error: Exception, seconds: float, *, queueing: bool) -> None:
        waited = max(0.0, seconds) if late(error) and self.ttft is None and not queueing else None
        if harms(error):
            self._core.failed(self._at, self._tokens, waited)
        else:
            self._core.cancelled(self._at, self._tokens, waited)
        if isinstance(error, Error) and (rest := asked_to_wait(error)) is not None:
            self._core.rest(self._at, rest)


def _words(error: Error) -> str:
    return f"{type(error).__name__}: {error}"


def _text(message: Message) -> str:
    content = message.get("content")
    if isinstance(content, str):
        return content
    return "".join(str(part.get("text", "")) for part in content or ())


def _beginning(messages: Sequence[Message]) -> str:
    """What a conversation begins with: instructions and the first thing said; later turns change nothing of it."""
    found = []
    for message in messages:
        found.append(f"{message['role']}\n{_text(message)[:_PREFIX_CHARACTERS]}")
        if message["role"] not in ("system", "developer"):
            break
    return "\n".join(found)


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(errors="replace"), digest_size=8).digest())
