"""Calibration: the cost weight for a target, measured against what decisions really come to."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.hashing_embedder import HashingEmbedder

from nearhit import Cache, FunctionTier, OptionError, Router, TierProfile
from nearhit._core import feature_names
from nearhit.cli import main
from nearhit.router import KeywordRule, RoutingHead, SemanticRule

if TYPE_CHECKING:
    from pathlib import Path

WORDS = ["France", "Spain", "Portugal", "Italy", "Greece", "Turkey", "Poland", "Norway", "Sweden", "Latvia"]
PROMPTS = [
    *(f"What is the capital of {' and of '.join(WORDS[: number + 1])}?" for number in range(10)),
    *(
        f"Prove, step by step, that {'7' * number} is not a square, and derive a general theorem."
        for number in range(1, 7)
    ),
    *(f"Write a function in Python that sorts lists and {'then ' * number}analyse it." for number in range(4)),
    "Hi!",
    "Translate 'good morning' to French.",
]  # no two of them look the same to the head, so that there are no ties
PRICES = {"large": (1e-5, 4e-5), "small": (1e-7, 4e-7), "middle": (1e-6, 4e-6)}
QUALITY = {"large": 0.9, "small": 0.6, "middle": 0.78}


def router(*names: str, **options: Any) -> Router:
    profiles = {
        name: TierProfile(quality=QUALITY[name], input_cost=PRICES[name][0], output_cost=PRICES[name][1])
        for name in names
    }
    return Router([FunctionTier(name, lambda messages: "x") for name in names], profiles=profiles, **options)


def measured(asked: Router, prompts: list[Any]) -> tuple[dict[str, float], float, float]:
    decisions = [asked.decide(prompt) for prompt in prompts]
    shares = {tier.name: sum(each.tier == tier.name for each in decisions) / len(decisions) for tier in asked.tiers}
    cost = sum(each.predicted_cost for each in decisions) / len(decisions)
    return shares, cost, sum(each.score for each in decisions) / len(decisions)


@pytest.mark.parametrize("names", [("small", "large"), ("large", "small"), ("large", "small", "middle")])
def test_a_target_is_met_by_the_decisions_themselves(names: tuple[str, ...]) -> None:
    asked = router(*names)
    for target in ({"strong_share": 0.3}, {"cost": 4e-4}, {"quality": 0.8}):
        found = asked.calibrate(PROMPTS, **target)
        shares, cost, quality = measured(router(*names, cost_weight=found.cost_weight), PROMPTS)
        assert found.strong == "large"
        assert shares == pytest.approx(found.shares)
        assert shares["large"] == pytest.approx(found.strong_share)
        assert (cost, quality) == pytest.approx((found.cost, found.quality))
    assert abs(asked.calibrate(PROMPTS, strong_share=0.3).strong_share - 0.3) <= 0.5 / len(PROMPTS) + 1e-9
    assert asked.calibrate(PROMPTS, cost=4e-4).cost <= 4e-4
    assert asked.calibrate(PROMPTS, quality=0.8).quality >= 0.8


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.floats(0, 1), min_size=2, max_size=6))
def test_more_strong_calls_never_cost_a_higher_weight(shares: list[float]) -> None:
    asked = router("large", "small", "middle")
    found = [asked.calibrate(PROMPTS, strong_share=share) for share in sorted(shares)]
    assert [each.cost_weight for each in found] == sorted((each.cost_weight for each in found), reverse=True)
    assert [each.cost for each in found] == sorted(each.cost for each in found)
    assert [each.quality for each in found] == sorted(each.quality for each in found)


def test_rules_embeddings_and_another_strong_tier_count() -> None:
    forced = router("small", "large", rules=[KeywordRule("capital", only="large")])
    found = forced.calibrate(PROMPTS, strong_share=0.5)
    assert found.strong_share >= 10 / len(PROMPTS)
    with pytest.raises(OptionError, match=r"strong_share=0.1 is not valid: expected a share from 0\.45"):
        forced.calibrate(PROMPTS, strong_share=0.1)
    embedder = HashingEmbedder()
    semantic = router("small", "large", rules=[SemanticRule(["Hi!"], only="small", threshold=0.9)], embedder=embedder)
    seen: list[tuple[int, int]] = []
    semantic.calibrate(PROMPTS, strong_share=0.5, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(len(PROMPTS), len(PROMPTS))]
    weights = (0.0, [0.0] * len(feature_names()), [], [])
    strong = (0.0, weights[1], [40.0] * 64, [])
    names = ("small", "large")
    weak = (0.0, weights[1], [0.0] * 64, [])
    head = RoutingHead(names, (weights, weights), (weak, strong), embedder.id, tuple(feature_names()))
    blind = router(*names, head=head).calibrate(PROMPTS, quality=0.5)
    sees = router(*names, head=head, cache=Cache(embedder)).calibrate(PROMPTS, quality=0.53)
    assert blind.quality == pytest.approx(0.5)
    assert sees.quality >= 0.53
    assert router("large", "small", "middle").calibrate(PROMPTS, strong_share=1.0, strong="small").strong == "small"


def test_targets_without_a_meaning_are_refused_with_the_range() -> None:
    asked = router("small", "large")
    for targets in ({}, {"cost": 1.0, "quality": 0.5}):
        with pytest.raises(OptionError, match="state one of strong_share, cost, quality"):
            asked.calibrate(PROMPTS, **targets)
    with pytest.raises(
        OptionError, match=r"quality=0.99.*a mean probability from 0\.\d+ to 0\.\d+, what these prompts"
    ):
        asked.calibrate(PROMPTS, quality=0.99)
    with pytest.raises(OptionError, match="US dollars a prompt from"):
        asked.calibrate(PROMPTS, cost=0.0)
    with pytest.raises(OptionError, match="at least one prompt"):
        asked.calibrate([], quality=0.5)
    with pytest.raises(OptionError, match="tiers are small, large"):
        asked.calibrate(PROMPTS, strong_share=0.5, strong="huge")
    with pytest.raises(OptionError, match="expected a number"):
        asked.calibrate(PROMPTS, strong_share="half")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="complexity"):
        router("small", "large", strategy="best").calibrate(PROMPTS, strong_share=0.5)
    free = Router([FunctionTier("a", lambda messages: "x"), FunctionTier("b", lambda messages: "y")])
    with pytest.raises(OptionError, match="none has one"):
        free.calibrate(PROMPTS, cost=1.0)
    assert free.calibrate(PROMPTS, strong_share=0.5).strong == "b"


def test_the_interval_of_the_share_narrows_with_the_sample() -> None:
    asked = router("small", "large")
    low, high = asked.calibrate(PROMPTS, strong_share=0.5).strong_share_interval
    closer = asked.calibrate(PROMPTS * 20, strong_share=0.5).strong_share_interval
    assert 0 <= low < 0.5 < high <= 1
    assert low < closer[0] < closer[1] < high


def test_the_command_calibrates_on_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = tmp_path / "prompts.jsonl.gz"
    messages = {"messages": [{"role": "user", "content": "Hi there"}]}
    lines = [json.dumps({"prompt": prompt}) for prompt in PROMPTS] + [json.dumps(messages)]
    rows.write_bytes(gzip.compress("\n".join(lines).encode()))
    assert main(["route", "--calibrate", str(rows), "--strong-share", "0.3", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["prompts"] == len(PROMPTS) + 1
    assert abs(found["strong_share"] - 0.3) < 0.05
    plain = tmp_path / "prompts.txt"
    plain.write_text("\n".join(PROMPTS), encoding="utf-8")
    assert main(["route", "--calibrate", str(plain), "--quality", "0.7"]) == 0
    assert "cost weight" in capsys.readouterr().out
    for wrong in (["--calibrate", str(plain)], ["hi", "--calibrate", str(plain), "--cost", "1"], []):
        assert main(["route", *wrong]) == 2
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"text": "x"}', encoding="utf-8")
    assert main(["route", "--calibrate", str(bad), "--cost", "1"]) == 1
    assert "row 1" in capsys.readouterr().err
