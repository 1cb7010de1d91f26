"""Small first, more when the answer is not sure."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any

import pytest

from nearhit import AsyncRouter, Cache, FunctionTier, OptionError, Router, TierConnectionError
from nearhit._types import Chunk, Usage
from nearhit.router import Cascade
from nearhit.tiers import Price

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

EASY = "What is the capital of France?"
UNSURE, SURE = math.log(0.3), math.log(0.9)


class Speaks:
    """A function that says its words one by one, each with a log-probability, and notes how far it came."""

    def __init__(self, *words: str, logprobs: Sequence[float] = (), error: Exception | None = None) -> None:
        self.words = words
        self.logprobs = logprobs
        self.error = error
        self.said = 0
        self.calls = 0

    async def __call__(self, messages: Any, **params: Any) -> AsyncIterator[Chunk]:
        self.calls += 1
        for index, word in enumerate(self.words):
            yield Chunk(word, logprobs=(self.logprobs[index],) if self.logprobs else ())
            self.said = index + 1
            await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        yield Chunk(finish_reason="stop", usage=Usage(10, len(self.words)))


def router(small: Speaks, *better: Speaks, **options: Any) -> Router:
    names = ["small", "large", "huge"]
    tiers = [FunctionTier(name, fn) for name, fn in zip(names, [small, *better], strict=False)]
    return Router(tiers, strategy="cheapest", **{"cascade": Cascade(threshold=0.6), **options})


def test_a_sure_answer_passes_and_an_unsure_one_is_asked_elsewhere() -> None:
    large = Speaks("Paris", logprobs=[SURE])
    sure = router(Speaks("Par", "is", logprobs=[SURE, SURE]), large).complete(EASY)
    assert (sure.text, sure.tier, large.calls) == ("Paris", "small", 0)
    assert sure.trace.attempts[0].confidence == pytest.approx(0.9)
    unsure = router(Speaks("Ly", "on", logprobs=[SURE, math.log(0.2)]), large).complete(EASY)
    assert (unsure.text, unsure.tier) == ("Paris", "large")
    told = [(a.tier, a.why, a.outcome) for a in unsure.trace.attempts]
    assert told == [("small", "chosen", "rejected"), ("large", "escalation", "answered")]
    assert unsure.trace.attempts[0].confidence == pytest.approx(math.sqrt(0.9 * 0.2))
    assert unsure.trace.usage == Usage(20, 3)


def test_it_climbs_step_by_step_and_the_last_streams_unjudged() -> None:
    steps = [Speaks("a", logprobs=[UNSURE]), Speaks("b", logprobs=[UNSURE]), Speaks("c", logprobs=[UNSURE])]
    completion = router(*steps).complete(EASY)
    assert completion.text == "c"
    assert [a.outcome for a in completion.trace.attempts] == ["rejected", "rejected", "answered"]


def test_a_stream_shows_nothing_of_what_was_rejected() -> None:
    one = router(Speaks("Ly", "on", logprobs=[UNSURE, UNSURE]), Speaks("Par", "is"))
    assert [chunk.text for chunk in one.stream(EASY) if chunk.text] == ["Par", "is"]


def test_judged_by_its_first_tokens_an_answer_streams_or_is_not_waited_for() -> None:
    early = Cascade(threshold=0.6, hold_tokens=2)
    words = [str(number) for number in range(50)]
    bad = Speaks(*words, logprobs=[UNSURE] * 50)
    completion = router(bad, Speaks("Paris"), cascade=early).complete(EASY)
    assert completion.text == "Paris"
    assert bad.said < 5
    assert completion.trace.attempts[0].outcome == "rejected"
    assert completion.trace.attempts[0].estimated
    good = Speaks(*words, logprobs=[SURE] * 2 + [UNSURE] * 48)

    async def first_pieces() -> int:
        tiers = [FunctionTier("small", good), FunctionTier("large", Speaks("x"))]
        async with AsyncRouter(tiers, strategy="cheapest", cascade=early).stream(EASY) as stream:
            assert (await anext(stream)).text == "0"
            return good.said

    assert asyncio.run(first_pieces()) < 5


def test_a_score_decides_in_place_of_probabilities() -> None:
    seen: list[tuple[str, str]] = []

    async def score(messages: Any, answer: Any) -> float:
        seen.append((messages[-1]["content"], answer.text))
        return 0.0

    judged = router(Speaks("Lyon", logprobs=[SURE]), Speaks("Paris"), cascade=Cascade(score=score)).complete(EASY)
    assert judged.text == "Paris"
    assert seen == [(EASY, "Lyon")]


@pytest.mark.parametrize("score", [lambda messages, answer: 1 / 0, lambda messages, answer: float("nan")])
def test_a_score_that_fails_is_a_note(score: Any) -> None:
    completion = router(Speaks("Paris"), Speaks("x"), cascade=Cascade(score=score)).complete(EASY)
    assert completion.text == "Paris"
    assert "score" in completion.trace.notes[0]


def test_an_answer_of_unknown_confidence_passes() -> None:
    assert router(Speaks("Paris"), Speaks("x")).complete(EASY).tier == "small"


@pytest.mark.parametrize(
    "broken", [Speaks(error=TierConnectionError("gone")), Speaks("Pa", error=TierConnectionError("cut"))]
)
def test_the_first_answer_stands_where_no_better_one_comes(broken: Speaks) -> None:
    cache = Cache()
    # Judged by the score, the middle tier's answer is held back too, so that its failure half-way costs nothing.
    score = Cascade(score=lambda messages, answer: 0.0)
    completion = router(
        Speaks("Lyon"), broken, Speaks(error=TierConnectionError("gone")), cascade=score, cache=cache, retries=0
    ).complete(EASY)
    assert (completion.text, completion.tier) == ("Lyon", "small")
    assert any("stands" in note for note in completion.trace.notes)
    assert len(cache) == 0


def test_a_beginning_that_was_rejected_is_asked_for_again_where_nothing_else_answers() -> None:
    small = Speaks("Ly", "on", "!", logprobs=[UNSURE] * 3)
    early = Cascade(hold_tokens=1)
    completion = router(small, Speaks(error=TierConnectionError("gone")), cascade=early, retries=0).complete(EASY)
    assert completion.text == "Lyon!"
    assert [a.outcome for a in completion.trace.attempts] == ["rejected", "failed", "answered"]


def test_no_better_answer_is_asked_for_beyond_cost_or_deadline() -> None:
    small = FunctionTier("small", Speaks("Lyon", logprobs=[UNSURE]), price=Price(prompt=1e-6, completion=1e-6))
    large = FunctionTier("large", Speaks("Paris"), price=Price(prompt=1.0, completion=1.0))
    one = Router([small, large], strategy="cheapest", cascade=Cascade())
    assert one.complete(EASY, max_cost=0.01).text == "Lyon"
    assert one.complete(EASY).text == "Paris"


@pytest.mark.parametrize(
    "options",
    [{"threshold": 1.5}, {"threshold": None}, {"threshold": "0.5"}, {"score": 3}, {"hold_tokens": 0},
     {"hold_tokens": 3, "score": lambda messages, answer: 1.0}],
)  # fmt: skip
def test_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        Cascade(**options)
