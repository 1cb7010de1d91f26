"""Rules of the router: what holds, what they demand, and what is said of it."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.hashing_embedder import HashingEmbedder

import nearhit
from nearhit import AsyncRouter, Cache, EmbeddingError, FunctionTier, NoTierError, OptionError, Router, config
from nearhit.cli import main
from nearhit.router import Cascade, KeywordRule, MetadataRule, RegexRule, Rule, SemanticRule

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

EASY = "What is the capital of France?"


def says(name: str) -> FunctionTier:
    return FunctionTier(name, lambda messages, **params: name)


def fails(name: str) -> FunctionTier:
    def fail(messages: Any, **params: Any) -> str:
        raise ValueError("no")

    return FunctionTier(name, fail)


def router(rules: Sequence[Rule], **options: Any) -> Router:
    return Router([says("small"), says("large")], rules=rules, **options)


def applied(decision: nearhit.Decision) -> list[tuple[str, str, bool]]:
    return [(rule.name, rule.evidence, rule.kept) for rule in decision.rules]


def test_keywords_patterns_and_metadata_choose_the_tier_and_say_so() -> None:
    rules = [
        KeywordRule(["France", "Spain"], only="large", name="countries"),
        RegexRule(r"INV-\d+", exclude="small"),
        MetadataRule(tags="batch", only=["small"], name="batch"),
    ]
    chosen = router(rules)
    decision = chosen.decide(EASY)
    assert decision.tier == "large"
    assert applied(decision) == [("countries", 'keyword "France"', True)]
    assert decision.reason.startswith('rule "countries" (keyword "France") leaves large; difficulty')
    assert decision.alternatives[0].verdict == 'ruled out by rule "countries" (keyword "France")'
    assert not decision.alternatives[0].eligible
    assert not decision.degraded
    assert applied(chosen.decide("Pay INV-20, now.")) == [("rule 2", r'pattern "INV-\\d+"', True)]
    assert chosen.decide("Hello there").rules == []
    assert chosen.decide("Hello there", tags=["batch"]).rules[0].name == "batch"


def test_precedence_is_the_order_and_a_contradiction_is_set_aside() -> None:
    first, second = KeywordRule("france", exclude="large"), KeywordRule("capital", only="large")
    decision = router([first, second]).decide(EASY)
    assert (decision.tier, applied(decision)[1][2]) == ("small", False)
    assert "set aside: no tier that it allows can take the request" in decision.reason
    assert router([second, first]).decide(EASY).tier == "large"


def test_a_least_quality_is_that_of_this_prompt() -> None:
    rule = KeywordRule(["capital", "prove"], min_quality=0.75)
    decision = router([rule], strategy="cheapest").decide(EASY)
    assert decision.score >= 0.75
    unreachable = KeywordRule("prove", min_quality=0.99)
    hard = router([unreachable]).decide("Prove the Riemann hypothesis in full, step by step.")
    assert applied(hard) == [("rule 1", 'keyword "Prove"', False)]


def test_a_failed_tier_is_followed_by_another_unless_the_rule_is_strict() -> None:
    tiers = [fails("small"), says("large")]
    soft = Router(tiers, rules=[KeywordRule("capital", only="small")])
    completion = soft.complete(EASY)
    assert completion.tier == "large"
    assert "rule 1" in completion.trace.reason
    assert "set aside" in completion.trace.reason
    strict = Router(tiers, rules=[KeywordRule("capital", only="small", strict=True)])
    with pytest.raises(nearhit.TierError, match="no"):
        strict.complete(EASY)
    for _ in range(5):
        with pytest.raises(nearhit.Error):
            strict.complete(EASY)
    with pytest.raises(NoTierError, match=r'large: ruled out by rule "rule 1" \(keyword "capital"\)'):
        strict.decide(EASY)


def test_a_strict_rule_binds_before_all_others() -> None:
    rules = [KeywordRule("capital", only="large"), KeywordRule("france", only="small", strict=True)]
    assert [each[0] for each in applied(router(rules).decide(EASY))] == ["rule 2", "rule 1"]
    assert router(rules).decide(EASY).tier == "small"


def test_fields_are_looked_up_in_what_is_known_about_the_request_and_in_its_parameters() -> None:
    rule = MetadataRule(fields={"metadata.plan": ["free", "trial"], "temperature": 0}, only="small")
    chosen = router([rule], strategy="best")
    assert chosen.decide(EASY).tier == "large"
    assert chosen.decide(EASY, about={"metadata": {"plan": "trial"}, "temperature": 0.0}).tier == "small"
    assert chosen.decide(EASY, about={"metadata": {"plan": "paid"}, "temperature": 0}).tier == "large"
    assert chosen.decide(EASY, about={"metadata": "plan", "temperature": 0}).tier == "large"
    answer = chosen.complete(EASY, about={"metadata": {"plan": "free"}}, temperature=0)
    assert answer.tier == "small"


def test_tools_images_tokens_and_language_are_facts_too() -> None:
    def holds(rule: MetadataRule, prompt: Any = EASY, **params: Any) -> bool:
        return bool(router([rule]).decide(prompt, **params).rules)

    picture = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]
    assert holds(MetadataRule(has_tools=True, only="large"), tools=True)
    assert not holds(MetadataRule(has_tools=True, only="large"))
    assert holds(MetadataRule(has_images=True, only="large"), picture)
    assert not holds(MetadataRule(has_images=True, only="large"))
    assert holds(MetadataRule(tokens=(5, 20), only="large"))
    assert holds(MetadataRule(tokens=(500, None), only="large"), "word " * 1000)
    assert not holds(MetadataRule(tokens=(None, 500), only="large"), "word " * 1000)
    german = "Was ist das, und wie kann ich es mit der Hand machen?"
    assert holds(MetadataRule(languages=["de", "fr"], only="large"), german)
    assert not holds(MetadataRule(languages="de", only="large"))
    assert holds(MetadataRule(languages="ja", only="large"), "東京の天気はどうですか")


def test_the_system_prompt_is_a_field_and_a_bare_yes_is_what_it_continues() -> None:
    messages = [
        {"role": "system", "content": "You write headlines."},
        {"role": "user", "content": "Explain my invoice in detail, please."},
        {"role": "assistant", "content": "Shall I?"},
        {"role": "user", "content": "yes"},
    ]
    rules = [KeywordRule("headlines", field="system", only="small"), KeywordRule("invoice", only="small")]
    assert [rule.name for rule in router(rules).decide(messages).rules] == ["rule 1", "rule 2"]


PARCELS = ["Where is my parcel?", "My parcel has not arrived"]


def test_a_semantic_rule_is_told_by_the_nearest_utterance() -> None:
    embedder = HashingEmbedder()
    rule = SemanticRule(PARCELS, only="large", threshold=0.7, name="parcels")
    chosen = router([rule], embedder=embedder, strategy="cheapest")
    near = chosen.decide("Where is my parcel")
    assert near.tier == "large"
    assert near.rules[0].evidence.startswith("similarity 0.9")
    assert chosen.decide(EASY).tier == "small"
    vector = embedder.embed(["Where is my parcel?"])[0]
    assert chosen.decide("?", vector=vector).tier == "large"
    strict_mean = SemanticRule(PARCELS, only="large", threshold=0.99, neighbours=2)
    assert router([strict_mean], embedder=embedder).decide(PARCELS[0]).rules == []


def test_of_several_semantic_rules_the_nearest_holds() -> None:
    refunds = ["Where is my refund?", "My refund has not arrived"]
    rules = [
        SemanticRule(PARCELS, only="large", threshold=0.1, name="parcels"),
        SemanticRule(refunds, only="small", threshold=0.1, name="refunds"),
        SemanticRule(PARCELS, exclude="small", threshold=0.1, strict=True, name="bound"),
    ]
    chosen = router(rules, embedder=HashingEmbedder())
    assert [rule.name for rule in chosen.decide("Where is my refund").rules] == ["bound", "refunds"]
    assert [rule.name for rule in chosen.decide("Where is my parcel").rules] == ["bound", "parcels"]


def test_a_vector_of_the_lookup_is_used_again_and_none_is_made_without_semantic_rules() -> None:
    embedder = HashingEmbedder()
    rules = [SemanticRule(PARCELS, only="large", threshold=0.7)]
    cached = router(rules, cache=Cache(embedder), strategy="cheapest")
    assert cached.complete("Where is my parcel").tier == "large"
    assert sum(texts == ["Where is my parcel"] for texts in embedder.calls) == 1
    plain = HashingEmbedder()
    router([KeywordRule("parcel", only="large")], embedder=plain).complete("Where is my parcel")
    assert plain.calls == []


def test_requests_are_embedded_off_the_event_loop_and_traced() -> None:
    rules = [SemanticRule(PARCELS, only="large", threshold=0.7)]
    asked = AsyncRouter([says("small"), says("large")], rules=rules, embedder=HashingEmbedder(), strategy="cheapest")
    completion = asyncio.run(asked.complete("Where is my parcel"))
    assert completion.tier == "large"
    names = [span.name for span in completion.trace.spans]
    assert names[:3] == ["embed", "rules", "decide"]


class Broken(HashingEmbedder):
    """Embeds the utterances, and nothing after them."""

    def encode(self, texts: Any) -> Any:
        if self.calls:
            raise RuntimeError("out of order")
        return super().encode(texts)


def test_a_failing_embedder_costs_a_soft_rule_and_refuses_under_a_strict_one() -> None:
    soft = router([SemanticRule(PARCELS, only="large")], embedder=Broken(), strategy="cheapest")
    completion = soft.complete("Where is my parcel?")
    assert completion.tier == "small"
    assert any("semantic rules were not applied" in note for note in completion.trace.notes)
    strict = router([SemanticRule(PARCELS, only="large", strict=True)], embedder=Broken())
    with pytest.raises(EmbeddingError, match="strict rule"):
        strict.complete("Where is my parcel?")
    with pytest.raises(EmbeddingError, match="out of order"):
        soft.decide("Where is my parcel?")


def test_neither_escalation_nor_hedge_leaves_what_a_rule_allows() -> None:
    cascade = Cascade(score=lambda messages, answer: 0.0)
    free = Router([says("small"), says("large")], cascade=cascade)
    assert [each.why for each in free.complete(EASY).trace.attempts] == ["chosen", "escalation"]
    bound = Router([says("small"), says("large")], cascade=cascade, rules=[KeywordRule("capital", only="small")])
    completion = bound.complete(EASY)
    assert [each.why for each in completion.trace.attempts] == ["chosen"]
    assert completion.text == "small"


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Rule(only="small"), "says not when it holds"),
        (lambda: KeywordRule([], only="small"), "at least one keyword"),
        (lambda: KeywordRule(["a", " "], only="small"), "none of them blank"),
        (lambda: KeywordRule("a", at_least=2, only="small"), "1 to 1"),
        (lambda: KeywordRule("a", at_least=True, only="small"), "whole number"),
        (lambda: KeywordRule("a"), "demands something"),
        (lambda: KeywordRule("a", only="huge"), r'"huge" \(rule "rule 1"\).*small, large'),
        (lambda: KeywordRule("a", exclude=["small", "large"]), "leaves a tier"),
        (lambda: KeywordRule("a", field="answer", only="small"), "'prompt' or 'system'"),
        (lambda: KeywordRule(3, only="small"), "list of texts"),  # type: ignore[arg-type]
        (lambda: RegexRule("(a", only="small"), "unclosed group"),
        (lambda: RegexRule(r"(?=a)b", only="small"), "look-around"),
        (lambda: RegexRule(r"(a)\1", only="small"), "backreferences"),
        (lambda: MetadataRule(only="small"), "states something"),
        (lambda: MetadataRule(tokens=(9, 3), only="small"), "the least and the most"),
        (lambda: MetadataRule(tokens=9, only="small"), "the least and the most"),  # type: ignore[arg-type]
        (lambda: MetadataRule(languages="tlh", only="small"), "Cyrillic"),
        (lambda: MetadataRule(fields={"user": [None]}, only="small"), "texts, numbers"),
        (lambda: MetadataRule(has_tools="yes", only="small"), "True, False or None"),  # type: ignore[arg-type]
        (lambda: SemanticRule([], only="small"), "at least one"),
        (lambda: SemanticRule(["a"], threshold=2.0, only="small"), "lie in"),
        (lambda: SemanticRule(["a"], neighbours=2, only="small"), "1 to 1"),
        (lambda: SemanticRule(["a"], min_quality=1.5), "lie in"),
    ],
)
def test_rules_without_a_meaning_are_refused_before_anything_is_sent(make: Any, match: str) -> None:
    with pytest.raises(OptionError, match=match):
        router([make()], embedder=HashingEmbedder())


def test_names_lists_embedders_and_facts_are_checked() -> None:
    with pytest.raises(OptionError, match="twice"):
        router([KeywordRule("a", only="small", name="x"), KeywordRule("b", only="small", name="x")])
    with pytest.raises(OptionError, match="expected a list of KeywordRule"):
        router([lambda prompt: "small"])  # type: ignore[list-item]
    with pytest.raises(OptionError, match="semantic rules need one"):
        router([SemanticRule(["a"], only="small")])
    chosen = router([MetadataRule(tags="a", only="small")])
    for wrong in ({"tags": "a"}, {"about": ["user"]}):
        with pytest.raises(OptionError, match="not valid"):
            chosen.decide(EASY, **wrong)  # type: ignore[arg-type]
        with pytest.raises(OptionError, match="not valid"):
            chosen.complete(EASY, **wrong)


def test_hostile_texts_are_matched_in_linear_time() -> None:
    chosen = router([RegexRule(["(a*)*b", "(x+x+)+y"], only="small"), KeywordRule(["a a", "a"], only="small")])
    assert chosen.decide("a" * 200_000 + "x" * 200_000).rules == []


FILE = """
[router]
strategy = "cheapest"

[[tiers]]
type = "openai"
name = "small"
model = "s"
base_url = "http://127.0.0.1:9/v1"
api_key = "k"

[[tiers]]
type = "openai"
name = "large"
model = "l"
base_url = "http://127.0.0.1:9/v1"
api_key = "k"
price = { prompt = 1e-6, completion = 2e-6 }

[[router.rules]]
type = "keywords"
name = "payments"
keywords = ["refund", "chargeback"]
only = "large"

[[router.rules]]
type = "regex"
patterns = '\\d{16}'
only = "large"
strict = true

[[router.rules]]
type = "metadata"
fields = { "metadata.plan" = "free" }
tokens = [0, 100]
exclude = ["large"]
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "nearhit.toml"
    path.write_text(FILE, encoding="utf-8")
    return str(path)


def test_the_file_configures_rules(file: str) -> None:
    chosen = Router.from_config(file)
    assert chosen.decide("I want a refund").tier == "large"
    assert chosen.decide("Hello").tier == "small"
    assert [rule.name for rule in chosen.decide("1234567812345678").rules] == ["rule 2"]
    assert config.load(file).sources["router.rules"] == file


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ('[[router.rules]]\ntype = "magic"', r"router\.rules\.type='magic'.*\"keywords\" or \"regex\""),
        ('[[router.rules]]\ntype = "keywords"\nkeywrods = ["a"]', "did you mean keywords"),
        ('[[router.rules]]\ntype = "keywords"\nkeywords = 3', r"router\.rules\.keywords=3.*expected str or list"),
        ('[[router.rules]]\ntype = "keywords"\nonly = "small"', r"\[router\.rules\].*keywords"),
        ('[router]\nrules = "all"', r"router\.rules='all'"),
    ],
)
def test_wrong_rules_of_the_file_are_refused_by_place(tmp_path: Path, text: str, match: str) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(OptionError, match=match):
        config.load(path).router_options()


def test_the_command_shows_the_rule_that_acted(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["route", "A refund, please", "--config", file, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["tier"] == "large"
    assert shown["rules"] == [{"name": "payments", "evidence": 'keyword "refund"', "kept": True}]
    assert main(["route", "A refund, please", "--config", file, "--about", "metadata.plan=free"]) == 0
    printed = capsys.readouterr().out
    assert "rule payments: keyword" in printed
    assert "set aside" in printed
    assert main(["route", "x", "--config", file, "--about", "plan"]) == 2
    assert "NAME=VALUE" in capsys.readouterr().err
