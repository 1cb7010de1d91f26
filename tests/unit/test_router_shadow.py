"""The shadow policy: it decides beside the router's own, is compared with it, and changes nothing."""

from __future__ import annotations

import json
import logging
import threading
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.hashing_embedder import HashingEmbedder

from nearhit import Cache, FunctionTier, OptionError, Router, config
from nearhit.router import KeywordRule, SemanticRule, Shadow
from nearhit.router import shadow as module
from nearhit.tiers import Price

if TYPE_CHECKING:
    from pathlib import Path

EASY = "What is the capital of France?"
HARD = (
    "Prove, step by step, that every finite integral domain is a field; then determine which step fails for infinite "
    "ones, give a counterexample with a justification, and compare the two cases for rings without identity."
)


class Counting:
    """A tier's function that counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, messages: Any, **params: Any) -> str:
        self.calls += 1
        return "answer"


def router(shadow: Shadow, **options: Any) -> tuple[Router, dict[str, Counting]]:
    answers = {"small": Counting(), "large": Counting()}
    prices = {"small": Price(1e-7, 4e-7), "large": Price(1e-5, 4e-5)}
    tiers = [FunctionTier(name, answer, price=prices[name]) for name, answer in answers.items()]
    return Router(tiers, shadow=shadow, **options), answers


def test_what_the_shadow_would_have_done_is_counted_and_not_sent() -> None:
    chosen, answers = router(Shadow(strategy="best"))
    assert chosen.shadow_report().rate == 0.0
    easy = [chosen.complete(EASY) for _ in range(3)][-1]
    hard = chosen.complete(HARD)
    assert (answers["small"].calls, answers["large"].calls) == (3, 1)
    report = chosen.shadow_report()
    assert (report.requests, report.disagreed, report.refused, report.failed, report.rate) == (4, 3, 0, 0, 0.75)
    assert report.pairs == {("small", "large"): 3}
    decision = chosen.decide(EASY)
    (large,) = decision.alternatives
    assert report.quality_difference == pytest.approx((large.score - decision.score) * 0.75)
    assert report.shadow_quality_difference == pytest.approx(report.quality_difference)
    assert report.cost_difference > 0
    assert easy.trace.shadow.tier == "large"
    assert not easy.trace.shadow.agrees
    assert easy.trace.shadow.quality_difference == pytest.approx(large.score - decision.score)
    assert hard.trace.shadow.agrees
    assert report.examples[0].prompt == EASY
    assert report.examples[0].shadow_reason == easy.trace.shadow.reason
    assert json.loads(json.dumps(report.to_dict()))["pairs"] == [{"tier": "small", "shadow": "large", "requests": 3}]
    assert json.dumps(easy.trace.to_dict()["shadow"])


def test_the_shadow_has_rules_of_its_own_and_may_refuse() -> None:
    rule = KeywordRule("France", only="large")
    assert router(Shadow(rules=[rule]))[0].complete(EASY).trace.shadow.tier == "large"
    both, _ = router(Shadow(strategy="cheapest"), rules=[rule])
    completion = both.complete(EASY)
    assert (completion.tier, completion.trace.shadow.tier) == ("large", "small")
    strict, answers = router(Shadow(rules=[KeywordRule("France", min_quality=0.999, strict=True)]))
    assert strict.complete(EASY).trace.shadow.tier == ""
    report = strict.shadow_report()
    assert (report.refused, report.pairs) == (1, {("small", ""): 1})
    assert answers["small"].calls == 1


def test_nothing_is_embedded_for_a_shadow_but_what_is_at_hand_is_used() -> None:
    rule = SemanticRule(["Where is my parcel?"], only="large", threshold=0.7)
    embedder = HashingEmbedder()
    plain, _ = router(Shadow(rules=[rule]), embedder=embedder)
    assert plain.complete("Where is my parcel").trace.shadow.tier == "small"
    assert len(embedder.calls) == 1, "the utterances"
    cached, _ = router(Shadow(rules=[rule]), cache=Cache(HashingEmbedder()))
    assert cached.complete("Where is my parcel").trace.shadow.tier == "large"
    beside, _ = router(Shadow(rules=[rule]), embedder=HashingEmbedder(), rules=[rule])
    completion = beside.complete("Where is my parcel")
    assert (completion.tier, completion.trace.shadow.tier) == ("large", "large")


def test_a_failing_shadow_costs_the_request_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen, answers = router(Shadow(rules=[KeywordRule("France", only="large")]))

    monkeypatch.setattr(chosen._means.shadow.book, "_paths", None)
    completion = chosen.complete(EASY)
    assert completion.text == "answer"
    assert answers["small"].calls == 1
    assert completion.trace.shadow is None
    assert any("the shadow policy failed" in note for note in completion.trace.notes)
    assert (chosen.shadow_report().failed, chosen.shadow_report().requests) == (1, 0)


def test_examples_are_bounded_and_cut() -> None:
    chosen, _ = router(Shadow(strategy="best", examples=3), strategy="cheapest")
    for number in range(10):
        chosen.complete(f"{number} is a number. " + "Say hello. " * 100)
    examples = chosen.shadow_report().examples
    assert [example.prompt[0] for example in examples] == ["7", "8", "9"]
    assert all(len(example.prompt) == 200 for example in examples)
    none, _ = router(Shadow(strategy="best", examples=0))
    none.complete(EASY)
    assert none.shadow_report().examples == ()
    assert none.shadow_report().disagreed == 1


def test_one_line_a_while_is_logged_and_it_holds_no_prompt(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    chosen, _ = router(Shadow(strategy="best"))
    watch = chosen._means.shadow
    request = chosen._core.read(EASY)
    decision = chosen._core.decide(request)
    caplog.set_level(logging.INFO, logger="nearhit.router")
    for _ in range(500):
        now[0] += 1.0
        watch._differ(decision, request, None, "refused")
        watch._log()
    lines = [record.getMessage() for record in caplog.records if record.name == "nearhit.router"]
    assert len(lines) == 8
    assert "differs on 60 of 60 requests (100.0 %)" in lines[0]
    assert not any("France" in line for line in lines)


def test_counts_of_many_threads_add_up() -> None:
    chosen, _ = router(Shadow(strategy="best"))
    threads = [threading.Thread(target=lambda: [chosen.complete(EASY) for _ in range(20)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    report = chosen.shadow_report()
    assert (report.requests, report.disagreed, report.pairs) == (80, 80, {("small", "large"): 80})


def test_a_shadow_without_a_meaning_is_refused_and_none_has_no_report(tmp_path: Path) -> None:
    for wrong in (Shadow(strategy="magic"), Shadow(cost_weight=-1.0), Shadow(rules=[KeywordRule("a", only="huge")])):
        with pytest.raises(OptionError):
            router(wrong)
    with pytest.raises(OptionError, match="examples=-1"):
        Shadow(examples=-1)
    with pytest.raises(OptionError, match="shadow must be"):
        router("best")  # type: ignore[arg-type]
    assert Router([FunctionTier("only", lambda messages: "x")]).shadow_report() is None
    path = tmp_path / "nearhit.toml"
    text = (
        '[router.shadow]\ncost_weight = 0.1\n[[router.shadow.rules]]\ntype = "regex"\npatterns = "x"\nonly = "small"\n'
    )
    path.write_text(text, encoding="utf-8")
    made = config.load(path).router_options()["shadow"]
    assert made == Shadow(cost_weight=0.1, rules=made.rules)
    assert made.rules[0].patterns == ("x",)
