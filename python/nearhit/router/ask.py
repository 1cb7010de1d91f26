"""Asking the tiers: decide, call, and what follows where a call fails, is slow or answers badly."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nearhit._errors import DeadlineError, EmbeddingError, Error, NoTierError
from nearhit.router.call import Call
from nearhit.router.cascade import Cascade, Held
from nearhit.router.limits import need_of
from nearhit.router.race import Race
from nearhit.tiers.faults import asked_to_wait, final, passing
from nearhit.tiers.replicas import ReplicaTier
from nearhit.tiers.timing import Stopwatch

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping, Sequence

    from nearhit._core import CallBudget, HeldRules, RouteDecision, RouterCore, RouteRequest
    from nearhit._types import Chunk, Message
    from nearhit.cache._embedding import Embedded
    from nearhit.router.limits import Limits
    from nearhit.router.profile import Answerer
    from nearhit.router.rules import RuleBook
    from nearhit.router.shadow import Watch
    from nearhit.trace import Trace

_LONGEST_WAIT = 30.0
"""Seconds that a request waits for one retry at most, whatever a server asks for."""

_HEDGE_QUANTILE = 0.95
_HEDGE_SAMPLES = 20
"""Calls of the last minutes, of about the prompt's length where there are so many, without which it is a guess."""


_LONGEST_EMBEDDING = 0.5
"""Seconds that a request waits for an embedding that only a rule needs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What a router answers with; shared by all its requests.

    Attributes:
        core: The decision and the tiers' state.
        tiers: The tiers, in the order of the core.
        budget: What may be spent on retries and hedges.
        retries: Retries of one request at most.
        hedge: Whether slow calls are hedged.
        cascade: When an answer is not good enough; None to pass on all.
        book: The rules; None without any.
        head_embedder: Start of the ids of the embedders whose vectors the head understands; "" for none.
        shadow: The second policy; None without one.
    """

    core: RouterCore
    tiers: Sequence[Answerer]
    budget: CallBudget
    retries: int
    hedge: bool
    cascade: Cascade | None
    book: RuleBook | None
    head_embedder: str
    shadow: Watch | None

    def for_head(self, embedded: Embedded, book: RuleBook) -> Any | None:
        """The vector that a rule needed, where the head understands it too."""
        known = book.embedder is not None and self.head_embedder and book.embedder.id.startswith(self.head_embedder)
        return embedded.vector if known and not embedded.truncated else None


class Asking:
    """One request's way through the tiers; `pieces` runs it once.

    A tier that fails before any of its answer was passed on is followed by the next best, at once if that one is at
    least as good. Before a worse one, the same tier is asked again, after a pause that honours what its server wishes.
    All of it happens within one deadline and one cost limit.

    Args:
        means: What to answer with.
        request: The request as the core has read it.
        messages: The messages.
        params: The tier's parameters.
        limits: The request's limits.
        trace: The request's trace.
        vector: Gives the prompt's embedding by an embedder whose id starts so, where there is one.

    Attributes:
        model: Name of the model that answers.
        sure: False where an answer was passed on for want of a better one.
    """

    def __init__(
        self,
        means: Means,
        *,
        request: RouteRequest,
        messages: Sequence[Message],
        params: Mapping[str, Any],
        limits: Limits,
        trace: Trace,
        vector: Callable[[str], Any | None],
    ) -> None:
        self.model = ""
        self.sure = True
        self._means = means
        self._request = request
        self._messages = messages
        self._params = params
        self._limits = limits
        self._need = need_of(limits, params)
        self._trace = trace
        self._vector = vector
        self._cascade = means.cascade
        self._calls: list[Call] = []
        self._failed: set[int] = set()
        self._weak: set[int] = set()
        self._first_error: Error | None = None
        self._retries = 0
        self._committed = False
        self._held: tuple[Held, Call] | None = None
        self._floor: float | None = None
        self._leading: Call | None = None
        self._held_rules: HeldRules | None = None
        self._embedded: Any | None = None
        self._rule_vector: Any | None = None
        self._aside: frozenset[str] | None = None

    async def pieces(self) -> AsyncGenerator[Chunk, None]:
        """Yields the pieces of the answer.

        Raises:
            NoTierError: No tier can take the request.
            DeadlineError: None did in time.
            TierError: What the first tier raised, where every tier tried has failed.
        """
        self._means.budget.arrived()
        if self._means.book is not None:
            await self._apply(self._means.book)
        try:
            async with aclosing(self._tries()) as pieces:
                async for chunk in pieces:
                    self._committed = self._committed or chunk.has_content
                    yield chunk
        except Error as error:
            if self._committed or self._held is None or not self._held[0].whole:
                raise
            held, call = self._held
            self._trace.notes.append(f"the answer of {call.tier.name!r} stands: {error}")
            self.sure = False
            self._lead(call)
            for chunk in held.chunks:
                yield chunk

    async def _apply(self, book: RuleBook) -> None:
        """Finds the rules that hold, once for all decisions about the request.

        Raises:
            EmbeddingError: A strict rule needs an embedding, and there is none to be had.
        """
        vector = None
        if (
            book.embedder is not None and not self._request.inherited
        ):  # a lookup embeds the "yes", not what it continues
            vector = self._vector(book.embedder.id)
        if vector is None and book.embedder is not None:
            embedded = await self._embed(book)
            if embedded is not None:
                vector, self._embedded = embedded.vector, self._means.for_head(embedded, book)
        self._rule_vector = vector
        with self._trace.span("rules"):
            self._held_rules = book.held(
                self._means.core,
                self._request,
                tags=self._limits.tags,
                about=self._limits.about,
                params=self._params,
                vector=vector,
            )

    async def _embed(self, book: RuleBook) -> Embedded | None:
        """Embeds the prompt off the event loop; None where that fails or takes too long, unless a rule is strict."""
        left = self._limits.left(self._trace)
        longest = _LONGEST_EMBEDDING if left is None else min(left, _LONGEST_EMBEDDING)
        try:
            with self._trace.span("embed"):
                return await asyncio.wait_for(asyncio.to_thread(book.embed, self._request), longest)
        except (Error, TimeoutError) as error:
            why = f"the embedder took more than {longest:.1f} s" if isinstance(error, TimeoutError) else str(error)
            if book.strict:
                raise EmbeddingError(f"a strict rule needs the prompt's embedding: {why}") from error
            self._trace.notes.append(f"semantic rules were not applied: {why}")
            return None

    async def _tries(self) -> AsyncGenerator[Chunk, None]:
        decision, why = await self._decide(), "chosen"
        if self._means.shadow is not None:
            self._shadow(self._means.shadow, decision)
        while True:
            call = self._call(decision, why)
            if call is None:  # another request took the breaker's one probe in between
                self._failed.add(decision.index)
                decision, why = await self._decide(), "fallback"
                continue
            try:
                async with aclosing(self._answer(call)) as pieces:
                    async for chunk in pieces:
                        yield chunk
            except Error as error:
                if self._committed or final(error):
                    raise
                decision, why = await self._after(error, call, decision)
                continue
            if call.index not in self._weak:
                return
            self._floor = decision.score
            decision, why = await self._decide(), "escalation"

    def _shadow(self, shadow: Watch, decision: RouteDecision) -> None:
        """Lets the second policy decide beside the first decision, from what is at hand."""
        embedder = shadow.book.embedder
        meant = self._rule_vector
        if meant is None and embedder is not None and not self._request.inherited:
            meant = self._vector(embedder.id)
        known = self._means.head_embedder if shadow.head_embedder is None else shadow.head_embedder
        vector = self._vector(known)
        if vector is None and known == self._means.head_embedder:
            vector = self._embedded
        shadow.see(
            decision,
            self._request,
            limits=self._limits,
            params=self._params,
            need=self._need,
            vector=vector,
            rule_vector=meant,
            trace=self._trace,
        )

    async def _decide(self) -> RouteDecision:
        """Chooses among the tiers that have not failed; waits once for one that rests, if no other can take it."""
        trace = self._trace
        waited = False
        while True:
            try:
                with trace.span("decide") as attributes:
                    decision = self._choose(self._failed | self._weak)
                    attributes["tier"] = decision.tier
                    if self._aside is None and self._held_rules is not None:
                        self._aside = _set_aside(decision)
                    return decision
            except NoTierError as refusal:
                if self._weak and not self._left_whole():
                    # A beginning that was judged too weak is all there is: that tier answers after all.
                    self._weak.clear()
                    self._cascade, self._floor, self.sure = None, None, False
                    continue
                if not waited and not self._calls and (rest := self._rest()) is not None:
                    waited = True
                    await self._pause(rest)
                    continue
                if self._first_error is None:
                    raise
                raise self._first_error from refusal

    def _rest(self) -> float | None:
        """Seconds after which a tier that rests at its server's wish can take the request; None if none can."""
        resting = self._means.core.rested_in()
        if resting is None or not self._time_for(resting[0]):
            return None
        seconds, at = resting
        try:
            self._choose(self._failed | self._weak, now=at + 0.001)
        except NoTierError:
            return None
        return seconds + self._means.budget.pause(0)

    def _left_whole(self) -> bool:
        return self._held is not None and self._held[0].whole

    def _choose(self, excluded: set[int], now: float | None = None) -> RouteDecision:
        """Decides; after an answer that was too weak, only for a tier with a higher score that makes the deadline.

        That tier must keep the rules that the first choice kept: a rule may force the weaker one.
        """
        limits, floor = self._limits, self._floor
        need = {**self._need, "max_cost": self._money_left()}
        left = limits.left(self._trace)
        out = set(excluded)
        while True:
            vector = self._vector(self._means.head_embedder)
            decision = self._means.core.decide(
                self._request,
                deadline=left,
                excluded=sorted(out),
                vector=self._embedded if vector is None else vector,
                held=self._held_rules,
                now=now,
                **need,
            )
            if floor is None:
                return decision
            late = left is not None and decision.predicted_e2e is not None and decision.predicted_e2e > left
            if decision.score > floor and not late and self._keeps_rules(decision):
                return decision
            out.add(decision.index)

    def _keeps_rules(self, decision: RouteDecision) -> bool:
        """Whether no rule is set aside that was kept at first."""
        return self._held_rules is None or _set_aside(decision) <= (self._aside or frozenset())

    def _money_left(self) -> float | None:
        if self._limits.max_cost is None:
            return None
        return max(0.0, self._limits.max_cost - sum(call.may_cost for call in self._calls))

    def _time_for(self, seconds: float) -> bool:
        if seconds > _LONGEST_WAIT:
            return False
        try:
            left = self._limits.left(self._trace)
        except DeadlineError:
            return False
        return left is None or seconds < left

    async def _pause(self, seconds: float) -> None:
        with self._trace.span("pause"), self._trace.waiting():
            await asyncio.sleep(seconds)

    def _call(self, decision: RouteDecision, why: str, avoid: Sequence[str] = ()) -> Call | None:
        core, index = self._means.core, decision.index
        load = core.start(index)
        if not load:
            return None
        tier = self._means.tiers[index]
        cost = decision.predicted_cost
        call = Call(
            core,
            index,
            tier,
            request=self._request,
            trace=self._trace,
            why=why,
            load=load,
            predicted_cost=cost,
            avoid=avoid,
        )
        self._calls.append(call)
        if why != "hedge":
            self._lead(call)
            self._trace.reason = decision.reason
        return call

    def _lead(self, call: Call) -> None:
        self._leading = call
        self._trace.tier, self.model = call.tier.name, call.tier.model

    async def _after(self, error: Error, call: Call, decision: RouteDecision) -> tuple[RouteDecision, str]:
        """Chooses what follows a failure; raises the first one where nothing does."""
        self._first_error = self._first_error or error
        pause = self._retry_in(error, call)
        other = None
        if pause is not None:
            try:
                other = self._choose(self._failed | self._weak | {call.index})
            except NoTierError:
                other = None
            # Upwards at once; before anything worse, the same tier once more.
            if (other is None or other.score < decision.score) and self._means.budget.retry():
                self._retries += 1
                await self._pause(pause)
                try:
                    return self._choose(set(range(len(self._means.tiers))) - {call.index}), "retry"
                except NoTierError:  # set aside in the meantime, or too late
                    pass
        self._failed.add(call.index)
        return await self._decide(), "fallback"

    def _retry_in(self, error: Error, call: Call) -> float | None:
        """Seconds until the same tier may be asked again; None if it is not to be."""
        if self._limits.priority < 0 or self._retries >= self._means.retries or not passing(error):
            return None
        if call.index in self._failed:
            return None
        pause = self._means.budget.pause(self._retries, asked_to_wait(error))
        return pause if self._time_for(pause) else None

    async def _answer(self, call: Call) -> AsyncGenerator[Chunk, None]:
        """Yields a call's answer, or nothing if it is held back as too weak."""
        if self._cascade is None or not self._may_escalate(call):
            async with aclosing(self._race(call)) as pieces:
                async for chunk in pieces:
                    yield chunk
            return
        held, watch = Held(self._cascade), Stopwatch()
        async with (
            aclosing(self._race(call)) as pieces,
            aclosing(held.until_judged(pieces, watch)) as released,
        ):
            async for chunk in released:
                yield chunk
        for piece in await self._judged(held, call, watch):
            yield piece

    async def _judged(self, held: Held, call: Call, watch: Stopwatch) -> Sequence[Chunk]:
        """Returns what of an answer that was held back may be passed on now: all or nothing."""
        winner = self._leading or call
        if held.confidence is None:
            await held.judge(self._messages, winner.tier.name, winner.tier.model, watch)
        self._trace.notes.extend(held.notes)
        winner.attempt.confidence = held.confidence
        if held.released:
            return ()
        if held.good:
            return held.chunks
        winner.attempt.outcome = "rejected"
        self._held = (held, winner)
        self._weak |= {call.index, winner.index}
        return ()

    def _may_escalate(self, call: Call) -> bool:
        """Whether any other tier is left: the last one's answer is passed on as it comes."""
        return len(self._means.tiers) > len(self._failed | self._weak | {call.index})

    async def _race(self, call: Call) -> AsyncGenerator[Chunk, None]:
        """Yields a call's pieces, or those of the hedge that overtakes it."""
        delay = self._hedge_after(call)
        if delay is None:
            async with aclosing(self._run(call)) as pieces:
                async for chunk in pieces:
                    yield chunk
            return
        race = Race(call, self._run, delay=delay, second=lambda: self._hedge(call))
        try:
            async with aclosing(race.pieces()) as pieces:
                async for chunk in pieces:
                    if race.winner is not call:
                        self._lead(race.winner)
                    yield chunk
        finally:
            self._failed |= {each.index for each in race.failed if each is not call}

    def _run(self, call: Call) -> AsyncGenerator[Chunk, None]:
        return call.run(self._messages, self._params, self._limits)

    def _hedge_after(self, call: Call) -> float | None:
        means = self._means
        if not means.hedge or self._limits.priority < 0:
            return None
        if len(means.tiers) == 1 and not isinstance(call.tier, ReplicaTier):
            return None
        return means.core.ttft_quantile(call.index, _HEDGE_QUANTILE, _HEDGE_SAMPLES, tokens=self._request.tokens)

    def _hedge(self, call: Call) -> Call | None:
        """Starts a second call: of another replica of the same tier, else of the next best tier that is in time."""
        excluded: set[int] = self._failed | self._weak | {call.index}
        avoid: tuple[str, ...] = ()
        if isinstance(call.tier, ReplicaTier) and call.replica is not None and call.tier.others(call.replica):
            excluded, avoid = set(range(len(self._means.tiers))) - {call.index}, (call.replica,)
        try:
            decision = self._choose(excluded)
            left = self._limits.left(self._trace)
        except NoTierError:
            return None
        if left is not None and decision.predicted_ttft is not None and decision.predicted_ttft >= left:
            return None
        if not self._keeps_rules(decision):
            return None
        return self._call(decision, "hedge", avoid) if self._means.budget.hedge() else None


def _set_aside(decision: RouteDecision) -> frozenset[str]:
    return frozenset(rule.name for rule in decision.rules if not rule.kept)
