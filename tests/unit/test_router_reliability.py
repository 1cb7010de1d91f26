"""Retries, hedges, priorities and budgets of the router, over tiers that fail as told."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from nearhit import (
    AsyncRouter,
    DeadlineError,
    FunctionTier,
    NoTierError,
    OptionError,
    ReplicaTier,
    Router,
    TierBusyError,
    TierConnectionError,
    TierProfile,
    TierRateLimitError,
    TierStatusError,
    Trace,
)
from nearhit._core import CallBudget
from nearhit._types import Chunk, Usage
from nearhit.tiers import Price

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

EASY = "What is the capital of France?"
HARD = "Prove, step by step, that every finite integral domain is a field, and justify each step with a theorem."


class Flaky:
    """A function that raises the given errors first, one a call, and then answers."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls = 0

    async def __call__(self, messages: Any, **params: Any) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "answer"


def down() -> TierConnectionError:
    return TierConnectionError("nobody listens")


def told(trace: Trace) -> list[tuple[str, str, str]]:
    return [(attempt.tier, attempt.why, attempt.outcome) for attempt in trace.attempts]


def test_the_only_tier_is_asked_again_with_a_pause() -> None:
    flaky = Flaky(down(), down())
    completion = Router([FunctionTier("only", flaky)]).complete(EASY)
    assert completion.text == "answer"
    assert told(completion.trace) == [
        ("only", "chosen", "failed"), ("only", "retry", "failed"), ("only", "retry", "answered")
    ]  # fmt: skip
    first, second = [span.duration for span in completion.trace.spans if span.name == "pause"]
    assert first >= 0.05
    assert second >= 0.1
    assert completion.trace.overhead < completion.trace.total - first - second + 1e-6


def test_upwards_at_once_and_once_more_before_anything_worse() -> None:
    small, large = Flaky(down()), Flaky(down())
    router = Router([FunctionTier("small", small), FunctionTier("large", large)])
    up = router.complete(EASY)
    assert told(up.trace) == [
        ("small", "chosen", "failed"),
        ("large", "fallback", "failed"),
        ("large", "retry", "answered"),
    ]
    small.errors, large.errors = [], [down(), down(), down()]
    last = router.complete(HARD)
    assert [why for _, why, _ in told(last.trace)] == ["chosen", "retry", "retry", "fallback"]
    assert last.tier == "small"


@pytest.mark.parametrize(
    ("error", "calls"),
    [(down(), 2), (TierStatusError("x", status=503), 2), (TierRateLimitError("x", status=429), 2),
     (TierStatusError("x", status=401), 1), (TierStatusError("x", status=400), 1), (TierBusyError("x"), 1)],
)  # fmt: skip
def test_only_what_may_pass_is_asked_again(error: Exception, calls: int) -> None:
    flaky = Flaky(error)
    router = Router([FunctionTier("only", flaky)])
    if calls == 1:
        with pytest.raises(type(error)):
            router.complete(EASY)
    else:
        router.complete(EASY)
    assert flaky.calls == calls


def test_a_server_that_asks_for_a_wait_gets_it_from_all_requests() -> None:
    flaky = Flaky(TierRateLimitError("slow down", status=429, retry_after=0.2))
    router = Router([FunctionTier("only", flaky)])
    completion = router.complete(EASY)
    assert completion.trace.seconds("pause") >= 0.2
    flaky.errors = [TierRateLimitError("slow down", status=429, retry_after=0.2)]
    with pytest.raises(TierRateLimitError):
        router.complete(EASY, priority=-1)
    assert 0 < router.state()["only"]["down_for"] <= 0.2
    waited = router.complete(EASY)
    assert told(waited.trace) == [("only", "chosen", "answered")]
    assert waited.trace.seconds("pause") > 0


def test_a_request_that_no_tier_can_take_does_not_wait_for_one_that_rests() -> None:
    flaky = Flaky(TierRateLimitError("slow down", status=429, retry_after=20.0))
    router = Router([FunctionTier("only", flaky, price=Price(prompt=1.0, completion=1.0), capabilities=[])], retries=0)
    with pytest.raises(TierRateLimitError):
        router.complete(EASY)
    for needs in ({"max_cost": 1e-6}, {"tools": [{"type": "function"}]}, {"deadline": 5.0}):
        with pytest.raises(NoTierError):
            router.complete(EASY, **needs)
    assert flaky.calls == 1


def test_a_wait_longer_than_the_deadline_is_not_begun() -> None:
    flaky = Flaky(TierRateLimitError("slow down", status=429, retry_after=5.0))
    start = time.perf_counter()
    with pytest.raises(TierRateLimitError):
        Router([FunctionTier("only", flaky)]).complete(EASY, deadline=1.0)
    assert time.perf_counter() - start < 1.0
    assert flaky.calls == 1


def test_retries_end_with_their_budget() -> None:
    flaky = Flaky(*[down() for _ in range(100)])
    router = Router([FunctionTier("only", flaky)], retries=1, retry_share=0.01, breaker_failures=1000)

    async def ask(router: AsyncRouter) -> list[Any]:
        return await asyncio.gather(*(router.complete(EASY) for _ in range(30)), return_exceptions=True)

    answers = asyncio.run(ask(AsyncRouter(router.tiers, retries=1, retry_share=0.01, breaker_failures=1000)))
    assert all(isinstance(answer, TierConnectionError) for answer in answers)
    assert 40 <= flaky.calls <= 41
    none = Flaky(down())
    with pytest.raises(TierConnectionError):
        Router([FunctionTier("only", none)], retries=0).complete(EASY)
    assert none.calls == 1


def test_the_cost_limit_holds_for_the_whole_chain() -> None:
    async def breaks(messages: Any) -> AsyncIterator[Chunk]:
        yield Chunk(usage=Usage(100, 900))
        raise down()

    dear = Price(prompt=1e-3, completion=1e-3)
    tiers = [FunctionTier("a", breaks, price=dear, quality=0.6), FunctionTier("b", Flaky(), price=dear, quality=0.9)]
    assert Router(tiers, retries=0, strategy="cheapest").complete(EASY, max_cost=10.0).tier == "b"
    router = Router(tiers, retries=0, strategy="cheapest")
    with pytest.raises(TierConnectionError):
        router.complete(EASY, max_cost=1.001)


class Paced:
    """A function that takes as long as told to its first content, and notes who went away."""

    def __init__(self, name: str, seconds: float = 0.001) -> None:
        self.name = name
        self.seconds = seconds
        self.events: Counter[str] = Counter()
        self.started = asyncio.Event()

    async def __call__(self, messages: Any, **params: Any) -> AsyncIterator[str]:
        self.events["started"] += 1
        self.started.set()
        try:
            await asyncio.sleep(self.seconds)
            yield self.name
            yield "!"
        except BaseException:
            self.events["cancelled"] += 1
            raise
        self.events["answered"] += 1


async def test_a_slow_call_is_hedged_and_the_loser_cancelled_and_counted() -> None:
    slow, other = Paced("slow"), Paced("other")
    cheap, dear = Price(prompt=1e-6, completion=1e-6), Price(prompt=1e-5, completion=1e-5)
    tiers = [FunctionTier("slow", slow, price=cheap), FunctionTier("other", other, price=dear)]
    router = AsyncRouter(tiers, hedge_share=0.05)
    for _ in range(25):
        assert (await router.complete(EASY)).tier == "slow"
    slow.seconds = 5.0
    before = len(asyncio.all_tasks())
    completion = await router.complete(EASY)
    assert completion.text == "other!"
    assert told(completion.trace) == [("slow", "chosen", "cancelled"), ("other", "hedge", "answered")]
    assert "ttft other (hedge)" in completion.trace.waterfall()
    loser = completion.trace.attempts[0]
    assert loser.estimated
    assert loser.cost is not None
    assert loser.cost > 0
    assert slow.events == Counter(started=26, answered=25, cancelled=1)
    assert len(asyncio.all_tasks()) == before
    assert router.state()["slow"]["in_flight"] == 0
    assert completion.trace.waited <= completion.trace.total


async def test_a_hedge_waits_as_long_as_prompts_of_its_length_do() -> None:
    slow, other = Paced("slow", 5.0), Paced("other")
    cheap, dear = Price(prompt=1e-6, completion=1e-6), Price(prompt=1e-5, completion=1e-5)
    tiers = [FunctionTier("slow", slow, price=cheap), FunctionTier("other", other, price=dear)]
    router = AsyncRouter(tiers, hedge_share=0.5, strategy="cheapest")
    core, long = router._core, "word " * 8_000
    for _ in range(25):
        for tokens, ttft in ((8.0, 0.01), (10_000.0, 30.0)):
            assert core.start(0)
            core.answered(0, tokens, ttft, 0.0, 1)
    completion = await router.complete(EASY)
    assert told(completion.trace) == [("slow", "chosen", "cancelled"), ("other", "hedge", "answered")]
    assert completion.trace.total < 4.0, "p95 of all lengths together is 30 s"
    assert core.ttft_quantile(0, 0.95, 20, tokens=core.read(long).tokens) > 25.0
    assert core.ttft_quantile(0, 0.95, 20) > 25.0


async def test_a_wait_for_a_slot_that_is_given_up_does_not_make_the_tier_look_slow() -> None:
    only = Paced("only", 0.02)
    router = AsyncRouter([FunctionTier("only", only, max_concurrency=1)])
    await router.complete(EASY)
    only.seconds = 1.0
    busy = asyncio.create_task(router.complete(EASY))
    await asyncio.sleep(0.1)
    for _ in range(3):
        with pytest.raises(DeadlineError):
            await router.complete(EASY, deadline=0.1)
    assert only.events["started"] == 2
    await busy
    assert router._core.ttft_quantile(0, 0.5, 1) < 1.5
    assert router._core.ttft_quantile(0, 1.0, 2) is not None
    assert router._core.ttft_quantile(0, 1.0, 3) is None, "the two that had a slot are all that was learned"


def test_an_answer_given_up_midway_shows_the_pace_and_decisions_say_so() -> None:
    profiles = {name: TierProfile(quality=quality) for name, quality in (("quick", 0.6), ("strong", 0.9))}
    tiers = [FunctionTier(name, lambda messages: "answer") for name in profiles]
    router = Router(tiers, profiles=profiles, strategy="best", deadline=5.0)
    core = router._core
    for _ in range(10):
        for tier, decode in ((0, 1.0), (1, 10.0)):
            load = core.start(tier, now=0.0)
            assert load == 1
            core.stopped(tier, 8.0, 0.1, decode, 101, load=load, now=0.0)
    decision = core.decide(EASY, deadline=5.0, now=0.0)
    assert decision.tier == "quick"
    assert decision.choice.in_time > 0.9
    assert decision.alternatives[0].in_time < 0.2
    assert core.decide(EASY, now=0.0).tier == "strong"
    assert core.decide(EASY, now=0.0).choice.in_time == 1.0
    likely = core.decide(EASY, deadline=11.0, now=0.0)
    assert likely.tier == "quick"
    assert "is in time with probability" in likely.reason


async def test_the_first_call_may_still_win_and_hedges_end_with_their_budget() -> None:
    first, other = Paced("first"), Paced("other", 1.0)
    router = AsyncRouter([FunctionTier("first", first), FunctionTier("other", other)], hedge_share=0.001)
    for _ in range(20):
        await router.complete(EASY)
    first.seconds = 0.1
    answers = [await router.complete(EASY) for _ in range(8)]
    assert {answer.text for answer in answers} == {"first!"}
    assert [len(answer.trace.attempts) for answer in answers].count(2) <= 5
    assert other.events["started"] == other.events["cancelled"] > 0


async def test_a_hedge_that_fails_is_no_loss_and_an_unimportant_request_has_none() -> None:
    first = Paced("first")
    failing = Flaky(*[down() for _ in range(9)])
    router = AsyncRouter([FunctionTier("first", first), FunctionTier("failing", failing)], hedge_share=0.1)
    for _ in range(20):
        await router.complete(EASY)
    first.seconds = 0.1
    completion = await router.complete(EASY)
    assert completion.text == "first!"
    assert [outcome for _, _, outcome in told(completion.trace)] == ["answered", "failed"]
    assert len((await router.complete(EASY, priority=-1)).trace.attempts) == 1


async def test_a_caller_that_goes_away_in_a_race_leaves_nothing_behind() -> None:
    first, other = Paced("first"), Paced("other")
    router = AsyncRouter([FunctionTier("first", first), FunctionTier("other", other)], hedge_share=0.1)
    for _ in range(20):
        await router.complete(EASY)
    first.seconds = other.seconds = 5.0
    before = len(asyncio.all_tasks())
    task = asyncio.ensure_future(router.complete(EASY))
    await other.started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert first.events["cancelled"] == other.events["cancelled"] == 1
    assert len(asyncio.all_tasks()) == before
    assert all(state["in_flight"] == 0 for state in router.state().values())


async def test_replicas_of_one_tier_hedge_each_other() -> None:
    east, west = Paced("east"), Paced("west")
    tier = ReplicaTier("only", [FunctionTier("east", east), FunctionTier("west", west)], affinity=None)
    router = AsyncRouter([tier], hedge_share=0.1)
    for _ in range(25):
        await router.complete(EASY)
    assert min(east.events["answered"], west.events["answered"]) > 0
    slow, quick = (east, west)
    slow.seconds = 5.0
    answers = [await router.complete(EASY, deadline=4.0) for _ in range(6)]
    assert {answer.text for answer in answers} == {"west!"}
    hedged = [answer.trace.attempts for answer in answers if len(answer.trace.attempts) == 2]
    assert all({a.replica for a in attempts} == {"east", "west"} for attempts in hedged)
    assert slow.events["cancelled"] == len(hedged) <= 2
    assert quick.events["started"] > 25 - slow.events["answered"]


async def test_a_full_queue_takes_the_more_important_first() -> None:
    order: list[str] = []
    gate = asyncio.Event()

    async def work(messages: Any) -> str:
        if messages[-1]["content"] == "first":
            await gate.wait()
        order.append(messages[-1]["content"])
        return "done"

    router = AsyncRouter([FunctionTier("only", work, max_concurrency=1, max_queue=2)])
    tasks = {"first": asyncio.ensure_future(router.complete("first"))}
    for text, priority in [("low", -1), ("plain", 0), ("urgent", 5)]:
        await asyncio.sleep(0.01)
        tasks[text] = asyncio.ensure_future(router.complete(text, priority=priority))
    with pytest.raises(TierBusyError):
        await tasks["low"]
    with pytest.raises(TierBusyError):
        await router.complete("late", priority=-1)
    gate.set()
    await asyncio.gather(tasks["first"], tasks["plain"], tasks["urgent"])
    assert order == ["first", "urgent", "plain"]


async def test_a_queue_that_is_too_long_for_a_deadline_is_not_joined() -> None:
    """The other tier is asked at once, not when the time is over."""

    async def slow(messages: Any) -> str:
        await asyncio.sleep(0.2)
        return "slow"

    small = FunctionTier("small", slow, max_concurrency=1, quality=0.9)
    for _ in range(4):
        await small.acomplete("learn how long it takes")
    waiting = [asyncio.ensure_future(small.acomplete("ahead")) for _ in range(30)]
    while small.limiter.waiting < 29:  # noqa: ASYNC110 - the limiter has no event to wait for
        await asyncio.sleep(0.001)
    router = AsyncRouter([small, FunctionTier("other", lambda messages: "at once", quality=0.5)])
    answer = await router.complete(EASY, deadline=5.0)
    assert answer.text == "at once"
    first, second = answer.trace.attempts
    assert (first.tier, first.outcome, second.tier) == ("small", "failed", "other")
    assert "waiting go first" in (first.error or "")
    for one in waiting:
        one.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


@pytest.mark.parametrize(
    "options",
    [{"retries": -1}, {"retries": 1.5}, {"retry_share": 2.0}, {"hedge_share": -0.1}, {"hedge_share": float("nan")},
     {"cascade": 0.5}, {"on_trace": 3}],
)  # fmt: skip
def test_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        Router([FunctionTier("only", Flaky())], **options)


@pytest.mark.parametrize("limits", [{"priority": 1.5}, {"priority": True}, {"session": 3}])
def test_limits_of_a_request_out_of_range_are_refused(limits: dict[str, Any]) -> None:
    flaky = Flaky()
    with pytest.raises(OptionError):
        Router([FunctionTier("only", flaky)]).complete(EASY, **limits)
    assert flaky.calls == 0


def test_a_deadline_during_a_pause_is_kept() -> None:
    flaky = Flaky(*[down() for _ in range(9)])
    start = time.perf_counter()
    with pytest.raises((TierConnectionError, DeadlineError)):
        Router([FunctionTier("only", flaky)], retries=9).complete(EASY, deadline=0.3)
    assert time.perf_counter() - start < 2.0


def test_the_trace_is_told_at_the_end_and_a_broken_listener_is_a_note() -> None:
    heard: list[Trace] = []
    router = Router([FunctionTier("only", Flaky())], on_trace=heard.append)
    completion = router.complete(EASY)
    assert heard == [completion.trace]
    assert completion.trace.finish_reason == "stop"
    broken = Router([FunctionTier("only", Flaky())], on_trace=lambda trace: 1 / 0)
    assert "ZeroDivisionError" in broken.complete(EASY).trace.notes[0]
    failed = Router([FunctionTier("only", Flaky(TierStatusError("x", status=401)))], on_trace=heard.append)
    with pytest.raises(TierStatusError):
        failed.complete(EASY)
    assert heard[-1].error == "TierStatusError"
    assert heard[-1].outcome == "error"


def test_budgets_by_a_clock_of_ones_own() -> None:
    budget = CallBudget(retry_share=0.5, hedge_share=0.25)
    while budget.hedge(now=0.0):
        pass
    for _ in range(4):
        budget.arrived(now=0.0)
    assert budget.hedge(now=0.0)
    assert not budget.hedge(now=1e6)
    assert budget.left(now=0.0)[1] == 0.0
