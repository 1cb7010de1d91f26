"""The verified policy in the cache: it serves what the budget allows, tries the rest, and learns from the answers."""

import asyncio
import threading
from typing import Any

import numpy as np
import pytest

from nearhit import AsyncCache, Cache, FunctionTier, OptionError
from nearhit.cache import TierJudge, Trial

PROMPT, PARAPHRASE = "How do I reset my password?", "how do i reset my password"


def vector(*values: float) -> np.ndarray:
    made = np.array([*values, *[0.0] * (8 - len(values))], dtype=np.float32)
    return made / np.linalg.norm(made)


A, NEAR_A = vector(1.0), vector(1.0, 0.3)


def strict(**options: Any) -> Cache:
    """A cache that has to learn before it serves anything: hardly any error is allowed."""
    return Cache(policy="verified", delta=1e-6, exploration=0.0, threshold=0.8, **options)


def ask(cache: Cache, number: int, answer: str = "Click on 'Forgot'.") -> None:
    prompt = f"{PARAPHRASE}{'!' * (number + 1)}"
    if cache.lookup(prompt, vector=NEAR_A) is None:
        cache.store(prompt, answer, vector=NEAR_A)


def test_a_trial_is_judged_when_its_request_is_answered() -> None:
    trials: list[Trial] = []

    def judge(trial: Trial) -> bool:
        trials.append(trial)
        return True

    cache = strict(judge=judge)
    cache.store(PROMPT, "Click on 'Forgot'.", vector=A)
    assert cache.lookup(PARAPHRASE, vector=NEAR_A) is None
    cache.store(PARAPHRASE, "Use the link.", vector=NEAR_A)
    cache.flush()
    (trial,) = trials
    assert (trial.prompt, trial.candidate) == (PARAPHRASE, PROMPT)
    assert (trial.answer, trial.candidate_answer) == ("Use the link.", "Click on 'Forgot'.")
    assert trial.similarity == pytest.approx(float(A @ NEAR_A), abs=1e-5)
    assert 0 < trial.confidence <= 1
    stats = cache.stats()
    assert (stats.explored, stats.labels, stats.unjudged, stats.near_hits) == (1, 1, 0, 0)
    assert [(one.a, one.b, one.label) for one in cache.judgements()] == [(PARAPHRASE, PROMPT, 1)]
    cache.store(PARAPHRASE, "Use the link.", vector=NEAR_A)  # nothing was tried for this one
    assert cache.stats().labels == 1


def test_the_exact_judge_goes_by_equal_answers() -> None:
    cache = strict()
    cache.store(PROMPT, "Click on  'Forgot'", vector=A)
    ask(cache, 0, "click on 'forgot'.")
    ask(cache, 1, "Ask your administrator.")
    assert [one.label for one in cache.judgements()] == [1, 0]


def test_right_answers_lower_the_risk_and_wrong_ones_raise_it() -> None:
    def risk(cache: Cache) -> float:
        (candidate,) = cache.explain(PARAPHRASE, vector=NEAR_A).candidates
        (reason,) = candidate.reasons
        assert "verified: risk " in reason
        return float(reason.split("risk ")[1].split()[0])

    right, wrong = strict(), strict()
    for cache, answer in ((right, "yes"), (wrong, "no")):
        cache.store(PROMPT, "yes", vector=A)
        before = risk(cache)
        for number in range(6):
            # Each stands in a scope that its own store does not enter, so that the first entry stays the candidate.
            request = f"{PARAPHRASE}{'?' * (number + 1)}"
            assert cache.lookup(request, vector=NEAR_A) is None
            entry = cache.store(request, answer, vector=NEAR_A)
            cache.invalidate(id=entry)
        assert cache.stats().labels == 6
        assert (risk(cache) < before) == (cache is right), (before, risk(cache))


def test_a_known_entry_is_served_within_the_bound() -> None:
    cache = Cache(policy="verified", delta=0.2, exploration=0.0, threshold=0.8)
    cache.store(PROMPT, "Click.", vector=A)
    hits = 0
    for number in range(200):
        hit = cache.lookup(f"{PARAPHRASE}{'!' * (number + 1)}", vector=NEAR_A)
        hits += hit is not None
        if hit is None:
            request = f"{PARAPHRASE}{'!' * (number + 1)}"
            cache.invalidate(id=cache.store(request, "Click.", vector=NEAR_A))
    assert hits > 50
    (scope,) = cache.stats().scopes
    assert scope.risk_limit is not None


def test_guards_come_first() -> None:
    cache = Cache(policy="verified", delta=0.5, exploration=0.0, threshold=0.8)
    cache.store("Please cancel my order", "Cancelled.", vector=A)
    assert cache.lookup("Please don't cancel my order", vector=NEAR_A) is None
    assert cache.stats().explored == 0
    (candidate,) = cache.explain("Please don't cancel my order", vector=NEAR_A).candidates
    assert any("negation" in reason for reason in candidate.reasons)


def test_feedback_is_a_label() -> None:
    cache = Cache(policy="verified", delta=0.9, exploration=0.0, threshold=0.8)
    cache.store(PROMPT, "Click.", vector=A)
    hit = cache.lookup(PARAPHRASE, vector=NEAR_A)
    assert hit is not None
    assert hit.kind == "near"
    cache.feedback(hit, correct=True)
    assert cache.stats().labels == 1


def test_what_was_learned_outlives_the_process(tmp_path: Any) -> None:
    path = tmp_path / "cache.db"
    with strict(path=path) as cache:
        cache.store(PROMPT, "Click.", vector=A)
        for number in range(4):
            ask(cache, number, "Something else.")
        before = cache.explain(PROMPT + "?", vector=NEAR_A).candidates
        assert cache.stats().labels == 4
    with strict(path=path) as again:
        assert again.stats().labels == 4
        after = again.explain(PROMPT + "?", vector=NEAR_A).candidates
        assert [one.reasons for one in after] == [one.reasons for one in before]


def test_a_judge_that_fails_costs_the_label_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    def judge(trial: Trial) -> bool:
        raise RuntimeError("no network")

    cache = strict(judge=judge)
    cache.store(PROMPT, "Click.", vector=A)
    for number in range(3):
        ask(cache, number)
    cache.flush()
    stats = cache.stats()
    assert (stats.explored, stats.labels, stats.unjudged) == (3, 0, 3)
    assert caplog.text.count("the judge failed") == 1


def test_a_slow_judge_holds_nobody_up_and_has_a_budget() -> None:
    go, judged = threading.Event(), []

    def judge(trial: Trial) -> None:
        go.wait(10)
        judged.append(trial)

    cache = strict(judge=judge, judge_budget=2)
    cache.store(PROMPT, "Click.", vector=A)
    for number in range(5):
        ask(cache, number)
    assert cache.stats().unjudged == 3
    go.set()
    cache.flush()
    assert len(judged) == 2
    assert cache.stats().unjudged == 5  # it could not tell
    cache.close()


def test_a_tier_can_judge() -> None:
    asked: list[Any] = []

    def answer(messages: Any) -> str:
        asked.append(messages[-1]["content"])
        return "No, it would not." if "administrator" in asked[-1] else "Yes."

    cache = strict(judge=TierJudge(FunctionTier("judge", answer)))
    cache.store(PROMPT, "Click.", vector=A)
    ask(cache, 0, "Follow the link.")
    ask(cache, 1, "Ask your administrator.")
    cache.flush()
    assert sorted(one.label for one in cache.judgements()) == [0, 1]
    assert PROMPT in asked[0]
    with pytest.raises(OptionError, match="complete"):
        TierJudge(object())


def test_the_asynchronous_face_and_memoize_learn_too() -> None:
    async def main() -> tuple[int, int]:
        cache = AsyncCache(policy="verified", delta=1e-6, exploration=0.0, threshold=0.8)
        await cache.store(PROMPT, "Click.", vector=A)
        assert await cache.lookup(PARAPHRASE, vector=NEAR_A) is None
        await cache.store(PARAPHRASE, "Click.", vector=NEAR_A)
        stats = await cache.stats()
        return stats.explored, stats.labels

    assert asyncio.run(main()) == (1, 1)


def test_scopes_learn_apart_in_their_budgets_and_never_see_each_other() -> None:
    cache = strict()
    cache.store(PROMPT, "Click.", vector=A, scope="a")
    assert cache.lookup(PARAPHRASE, vector=NEAR_A, scope="b") is None
    cache.store(PARAPHRASE, "Click.", vector=NEAR_A, scope="b")
    assert cache.stats().explored == 0


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"delta": 0}, "delta"),
        ({"delta": 1.5}, "delta"),
        ({"delta": "1 %"}, "delta"),
        ({"exploration": 1}, "exploration"),
        ({"exploration": True}, "exploration"),
        ({"judge": "vibes"}, "judge"),
        ({"judge": "embedding"}, "embedder"),
        ({"judge_budget": 0}, "judge_budget"),
    ],
)
def test_options_that_mean_nothing_are_refused(options: dict[str, Any], named: str) -> None:
    with pytest.raises(OptionError, match=named):
        Cache(policy="verified", **options)


def test_a_judge_without_the_policy_is_refused() -> None:
    with pytest.raises(OptionError, match="verified"):
        Cache(judge="exact")
