"""The router over local tiers: choice, fallback, deadline, cache, trace."""

from __future__ import annotations

import asyncio
import gc
import json
from typing import TYPE_CHECKING, Any

import pytest

import nearhit
from nearhit import (
    AsyncCache,
    AsyncRouter,
    Cache,
    FunctionTier,
    OptionError,
    RequestError,
    Router,
    TierError,
    TierProfile,
)
from nearhit._types import Chunk, Usage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

EASY = "What is the capital of France?"
HARD = (
    "Prove, step by step, that every finite integral domain is a field; then determine which step fails for infinite "
    "ones, give a counterexample with a justification, and compare the two cases for rings without identity."
)


def says(name: str, text: str = "", **options: Any) -> FunctionTier:
    return FunctionTier(name, lambda messages: text or name, **options)


def fails(name: str, error: Exception) -> FunctionTier:
    def fail(messages: Any) -> str:
        raise error

    return FunctionTier(name, fail)


class Scripted:
    """A tier of our own: any object with a name, a model and `astream` will do."""

    def __init__(self, name: str, script: Callable[[], AsyncIterator[Chunk]]) -> None:
        self.name = name
        self.model = f"{name}-model"
        self._script = script

    def astream(self, messages: Any, **params: Any) -> AsyncIterator[Chunk]:
        return self._script()


def test_complexity_sends_easy_prompts_to_the_weak_tier_and_hard_ones_to_the_strong() -> None:
    router = Router([says("small"), says("large")])
    assert router.complete(EASY).tier == "small"
    assert router.complete(HARD).tier == "large"
    easy, hard = router.decide(EASY), router.decide(HARD)
    assert easy.score > 0.5 > hard.alternatives[0].score
    assert easy.difficulty < hard.difficulty
    assert "small" in easy.reason


def test_a_bare_yes_goes_where_its_conversation_went() -> None:
    router = Router([says("small"), says("large")])
    conversation = [
        {"role": "system", "content": "You are a mathematician."},
        {"role": "user", "content": HARD},
        {"role": "assistant", "content": "Shall I begin?"},
        {"role": "user", "content": "yes, please"},
    ]
    decision = router.decide(conversation)
    assert decision.tier == "large"
    assert decision.inherited
    assert router.decide("yes, please").tier == "small"


def test_stream_and_complete_give_the_same_answer_and_a_trace() -> None:
    router = Router([FunctionTier("only", lambda messages: iter(["one ", "two"]))])
    stream = router.stream(EASY)
    with pytest.raises(TierError, match="not complete"):
        stream.completion()
    text = "".join(chunk.text for chunk in stream)
    completion = router.complete(EASY)
    assert text == completion.text == stream.completion().text == "one two"
    for trace in (stream.trace, completion.trace):
        names = [span.name for span in trace.spans]
        assert {"decide", "ttfb", "ttft", "decode"} <= set(names)
        assert trace.outcome == "bypass"
        assert trace.tier == "only"
        assert 0 < trace.overhead <= trace.total
        json.dumps(trace.to_dict())


def test_another_tier_answers_when_the_first_fails_before_content() -> None:
    router = Router([fails("broken", ValueError("no")), says("sound")])
    completion = router.complete(EASY)
    assert completion.tier == "sound"
    assert [(attempt.tier, attempt.why, attempt.outcome) for attempt in completion.trace.attempts] == [
        ("broken", "chosen", "failed"),
        ("sound", "fallback", "answered"),
    ]
    assert router.state()["broken"]["failures"] == 1


def test_nothing_is_answered_twice_once_content_has_passed() -> None:
    async def cut() -> AsyncIterator[Chunk]:
        yield Chunk("half an ans")
        raise nearhit.TierConnectionError("cut", tier="cut")

    router = Router([Scripted("cut", cut), says("other")])
    stream = router.stream(EASY)
    assert next(stream).text == "half an ans"
    with pytest.raises(nearhit.TierConnectionError):
        list(stream)
    assert len(stream.trace.attempts) == 1
    assert stream.trace.outcome == "error"


def test_start_up_pieces_do_not_commit() -> None:
    async def role_then_fail() -> AsyncIterator[Chunk]:
        yield Chunk("", raw={"choices": [{"delta": {"role": "assistant"}}]})
        raise nearhit.TierProtocolError("malformed", tier="mute")

    pieces = list(Router([Scripted("mute", role_then_fail), says("other")]).stream(EASY))
    assert [piece.text for piece in pieces if piece.text] == ["other"]
    assert all(piece.raw is None for piece in pieces)


def test_the_first_error_is_raised_when_all_tiers_fail() -> None:
    with pytest.raises(TierError, match="first"):
        Router([fails("a", ValueError("first")), fails("b", ValueError("second"))]).complete(EASY)


def test_a_deadline_ends_the_wait_and_names_the_tier() -> None:
    async def never() -> AsyncIterator[Chunk]:
        await asyncio.sleep(60)
        yield Chunk("late")

    router = Router([Scripted("slow", never)], deadline=0.05)
    with pytest.raises(nearhit.DeadlineError, match="slow"):
        router.complete(EASY)
    assert router.state()["slow"]["in_flight"] == 0
    # What was waited for in vain is known from now on, and refused before anything is sent.
    with pytest.raises(nearhit.DeadlineError, match="fast enough"):
        router.decide(EASY, deadline=0.01)


def test_a_failing_tier_is_set_aside_and_probed_again() -> None:
    router = Router([fails("broken", ValueError("no")), says("sound")], breaker_failures=2, breaker_cooldown=60)
    for _ in range(3):
        assert router.complete(EASY).tier == "sound"
    assert router.state()["broken"]["calls"] == 2
    assert router.state()["broken"]["down_for"] > 0
    assert "set aside" in router.decide(EASY).alternatives[0].verdict


def test_what_tiers_learn_shows_in_decisions() -> None:
    router = Router([says("only")])
    assert router.decide(EASY).predicted_ttft is None
    router.complete(EASY)
    predicted = router.decide(EASY).predicted_ttft
    assert predicted is not None
    assert 0 < predicted < 5


def test_cost_is_predicted_limited_and_counted() -> None:
    async def counted() -> AsyncIterator[Chunk]:
        yield Chunk("answer", finish_reason="stop", usage=Usage(100, 10))

    tier = Scripted("paid", counted)
    tier.cost = lambda usage: usage.prompt_tokens * 1e-6 + usage.completion_tokens * 2e-6  # type: ignore[attr-defined]
    router = Router([tier], profiles={"paid": TierProfile(input_cost=1e-6, output_cost=2e-6)})
    assert router.decide(EASY).predicted_cost > 0
    with pytest.raises(nearhit.NoTierError, match="max_cost"):
        router.complete(EASY, max_cost=1e-9)
    assert router.complete(EASY).trace.cost == pytest.approx(1.2e-4)


def test_requests_a_tier_cannot_take_go_to_one_that_can() -> None:
    router = Router([says("text", capabilities=[]), says("vision", capabilities=["images", "tools"])])
    picture = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": "data:,"}}]
    assert router.decide([{"role": "user", "content": picture}]).tier == "vision"
    assert router.decide(EASY, tools=True).tier == "vision"
    assert "images" in router.decide([{"role": "user", "content": picture}]).alternatives[0].verdict


@pytest.mark.parametrize(
    ("tiers", "options"),
    [
        ([], {}),
        ([says("a"), says("a")], {}),
        (["a"], {}),
        ("a", {}),
        ([says("a")], {"strategy": "magic"}),
        ([says("a")], {"deadline": 0}),
        ([says("a")], {"deadline": float("nan")}),
        ([says("a")], {"max_cost": -1.0}),
        ([says("a")], {"cost_weight": -0.1}),
        ([says("a")], {"cache": object()}),
        ([says("a")], {"profiles": {"b": TierProfile()}}),
        ([says("a")], {"profiles": {"a": TierProfile(quality=1.5)}}),
        ([says("a")], {"profiles": {"a": TierProfile(input_cost=-1.0)}}),
        ([says("a")], {"breaker_failures": 0}),
    ],
)
def test_options_without_meaning_are_refused(tiers: Any, options: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        Router(tiers, **options)


@pytest.mark.parametrize(
    "messages",
    [
        [],
        {},
        7,
        None,
        [1],
        [{}],
        [{"role": "user"}],
        [{"role": "wizard", "content": "hi"}],
        [{"role": 5, "content": "hi"}],
        [{"role": "assistant", "content": "hi"}],
        [{"role": "user", "content": 5}],
        [{"role": "user", "content": [5]}],
        "",
        " \n",
    ],
)
def test_malformed_messages_are_refused_before_anything_is_sent(messages: Any) -> None:
    called = []
    router = Router([FunctionTier("only", lambda messages: called.append(1) or "x")])
    for ask in (router.decide, router.complete, router.stream):
        with pytest.raises((RequestError, nearhit.EmptyPromptError)):
            ask(messages)
    assert not called


@pytest.mark.parametrize("text", ["\0", "\ud800 lone", "a" * 100_000, "日本語の質問", "👩‍🔬", "café\u0301"])
def test_any_text_gets_a_decision(text: str) -> None:
    decision = Router([says("small"), says("large")]).decide(text)
    assert decision.tier in {"small", "large"}
    assert 0 < decision.score < 1


@pytest.mark.parametrize("limits", [{"deadline": 0}, {"deadline": -1}, {"max_cost": -1}, {"max_tokens": 0}])
def test_limits_without_meaning_are_refused(limits: dict[str, Any]) -> None:
    router = Router([says("only")])
    with pytest.raises(OptionError):
        router.complete(EASY, **limits)
    with pytest.raises(OptionError):
        router.decide(EASY, **limits)


async def test_async_router_runs_on_the_callers_loop() -> None:
    loops = []

    async def script() -> AsyncIterator[Chunk]:
        loops.append(asyncio.get_running_loop())
        yield Chunk("hello", finish_reason="stop")

    router = AsyncRouter([Scripted("only", script)])
    assert (await router.complete(EASY)).text == "hello"
    async with router.stream(EASY) as stream:
        assert [chunk.text async for chunk in stream] == ["hello"]
    assert loops == [asyncio.get_running_loop()] * 2


async def test_a_caller_that_goes_away_cancels_the_tier() -> None:
    ended = asyncio.Event()

    async def endless() -> AsyncIterator[Chunk]:
        try:
            while True:
                yield Chunk("x")
                await asyncio.sleep(0)
        finally:
            ended.set()

    router = AsyncRouter([Scripted("endless", endless)])
    stream = router.stream(EASY)
    await anext(stream)
    await stream.aclose()
    assert ended.is_set()
    assert stream.trace.attempts[0].outcome == "cancelled"
    task = asyncio.create_task(router.complete(EASY))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    gc.collect()
    assert router.state()["endless"]["in_flight"] == 0
    assert router.state()["endless"]["failures"] == 0


def test_answers_are_stored_and_served_again_in_their_scope() -> None:
    calls = []
    tier = FunctionTier("only", lambda messages, **params: calls.append(1) or "answer")
    router = Router([tier], cache=Cache())
    first = router.complete(EASY, scope="alice")
    again = router.complete(EASY, scope="alice")
    assert (first.trace.outcome, again.trace.outcome) == ("miss", "exact")
    assert again.text == first.text == "answer"
    assert again.tier == "cache"
    assert again.trace.cost == 0
    assert "store" in [span.name for span in first.trace.spans]
    assert [span.name for span in again.trace.spans] == ["exact"]
    assert next(iter(router.stream(EASY, scope="alice"))).text == "answer"
    assert len(calls) == 1
    assert router.complete(EASY, scope="bob").trace.outcome == "miss"
    assert router.complete(EASY, scope="alice", temperature=0.5).trace.outcome == "miss"
    assert router.complete(EASY, scope="alice", cache=False).trace.outcome == "bypass"


async def test_an_asynchronous_cache_and_answers_of_others_are_served() -> None:
    cache = AsyncCache()
    for prompt, answer in (("a", "text"), ("b", b"bytes"), ("c", {"any": "JSON"})):
        await cache.store(prompt, answer)
    router = AsyncRouter([says("only")], cache=cache)
    texts = [(await router.complete(prompt)).text for prompt in "abc"]
    assert texts == ["text", "bytes", '{"any": "JSON"}']


class BrokenEmbedder:
    """An embedder that fails."""

    dim = 4
    id = "broken"

    def embed(self, texts: list[str]) -> Any:
        raise OSError("disk is gone")


def test_a_broken_embedder_costs_a_note_and_nothing_else() -> None:
    router = Router([says("only")], cache=Cache(BrokenEmbedder()))
    completion = router.complete(EASY)
    assert completion.text == "only"
    assert completion.trace.outcome == "miss"
    assert "lookup" in completion.trace.notes[0]


@pytest.mark.parametrize("finish", ["length", "content_filter", None])
def test_only_whole_answers_are_stored(finish: str | None) -> None:
    async def cut() -> AsyncIterator[Chunk]:
        yield Chunk("part", finish_reason=finish)

    cache = Cache()
    Router([Scripted("only", cut)], cache=cache).complete(EASY)
    assert len(cache) == 0
