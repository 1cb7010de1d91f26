"""`nearhit tune` on outcomes and preferences: heads for any number of tiers, judged on prompts not seen."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tests.support.hashing_embedder import HashingEmbedder

from nearhit import CorruptFileError, FunctionTier, OptionError, Router, embed
from nearhit.cli import main
from nearhit.evaluate.head_tuning import tune_head
from nearhit.evaluate.outcomes import read_outcomes
from nearhit.evaluate.preferences import fit_preferences, read_preferences
from nearhit.router import RoutingHead

if TYPE_CHECKING:
    from pathlib import Path

KINDS = {
    "poet": "Write a poem about the number {}.",
    "prover": "Prove theorem {} step by step.",
    "coder": "Write a Python function that adds {} to a list.",
}


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


@pytest.fixture
def outcomes(tmp_path: Path) -> Path:
    """Three tiers, each of which answers one kind of prompt."""
    rows = []
    for number in range(300):
        kind = list(KINDS)[number % 3]
        cost = dict.fromkeys(KINDS, 0.001)
        good = {tier: int(tier == kind) for tier in KINDS}
        rows.append({"prompt": KINDS[kind].format(number), "outcomes": good, "cost": cost})
    return write(tmp_path / "outcomes.jsonl", rows)


def preferences(count: int = 600, *, noise: float = 0.0, first: float = 0.0) -> list[dict[str, Any]]:
    """Pairs of three tiers: the one whose kind the prompt is wins, two others tie; at times the first is favoured."""
    random = np.random.default_rng(0)
    rows = []
    for number in range(count):
        kind = list(KINDS)[number % 3]
        a, b = random.choice(list(KINDS), 2, replace=False)
        winner = "a" if a == kind else "b" if b == kind else "tie"
        if random.random() < noise:
            winner = "b" if winner == "a" else "a"
        if random.random() < first:
            winner = "a"
        rows.append({"prompt": KINDS[kind].format(number), "a": str(a), "b": str(b), "winner": winner})
    return rows


def routes_right(head: Any) -> bool:
    tiers = [FunctionTier(name, lambda messages: "x") for name in ("coder", "poet", "prover")]
    router = Router(tiers, head=head, cost_weight=0.0)
    return all(router.decide(prompt.format(7)).tier == kind for kind, prompt in KINDS.items())


@pytest.mark.parametrize("rows", ["outcomes", "preferences"])
def test_the_command_fits_a_head_for_three_tiers_that_the_router_loads(
    rows: str, outcomes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = outcomes if rows == "outcomes" else write(tmp_path / "preferences.jsonl", preferences())
    out = tmp_path / "head.json"
    assert main(["tune", str(file), "--no-embedding", "--out", str(out), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["kind"] == rows
    assert set(report["tiers"]) == set(KINDS)
    assert 0.1 < report["held_out"] / report["rows"] < 0.3
    assert routes_right(out)
    if rows == "outcomes":
        for figures in report["by_tier"].values():
            assert figures["log_loss"] < 0.5 * figures["log_loss_of_mean"]
    else:
        assert report["head"]["accuracy"] > 0.95 > report["ranking"]["accuracy"] + 0.2
        assert report["head"]["log_loss"] < report["ranking"]["log_loss"]
        assert 0.2 < report["ties"] < 0.5
    assert main(["tune", str(file), "--no-embedding"]) == 0
    printed = capsys.readouterr().out
    assert "log loss" in printed
    assert "held out" in printed


def test_embeddings_are_used_and_named(
    outcomes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    embedder = HashingEmbedder()
    monkeypatch.setattr(embed, "load", lambda name, **options: embedder)
    for number, file in enumerate((outcomes, write(tmp_path / "p.jsonl", preferences()))):
        out = tmp_path / f"{number}.json"
        assert main(["tune", str(file), "--out", str(out), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["embedder"] == embedder.id
        head = RoutingHead.load(out)
        assert (head.embedder, len(head.embedded)) == (embedder.id, 3)
        assert all(
            {64} == {len(axis) for axis in (weights[2], *(way for _, way in weights[3])) if axis}
            for weights in head.embedded
        )
        router = Router([FunctionTier(name, lambda messages: "x") for name in KINDS], head=head, cost_weight=0.0)
        vector = embedder.embed([KINDS["prover"].format(5)])[0]
        assert router.decide(KINDS["prover"].format(5), vector=vector).tier == "prover"


def test_the_pair_of_the_worst_and_the_best_tier_has_its_apgr(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    rows = []
    for number in range(400):
        hard = number % 2
        prompt = ("Prove in detail, step by step, that {} is prime." if hard else "Say hello {} times.").format(number)
        weak = int(random.random() < (0.1 if hard else 0.95))
        rows.append({"prompt": prompt, "outcomes": {"weak": weak, "strong": int(random.random() < 0.97)}})
    read = read_outcomes(write(tmp_path / "rows.jsonl", rows))
    report, head = tune_head(read)
    assert (report["pair"]["weak"], report["pair"]["strong"]) == ("weak", "strong")
    assert report["pair"]["apgr"] > 0.65
    assert report["pair"]["apgr_95"][0] < report["pair"]["apgr"] < report["pair"]["apgr_95"][1]
    assert head.tiers == ("weak", "strong")
    some, alone = tune_head(read, tiers=["strong"])
    assert (alone.tiers, some.get("pair")) == (("strong",), None)
    with pytest.raises(OptionError, match="no outcomes of huge"):
        tune_head(read, tiers=["huge"])


def test_merits_are_recovered_with_ties_noise_and_a_favoured_first_place(tmp_path: Path) -> None:
    fair = read_preferences(write(tmp_path / "fair", preferences(3000, noise=0.1)))
    biased = read_preferences(write(tmp_path / "biased", preferences(3000, noise=0.1, first=0.4)))
    heads = [RoutingHead.fit_preferences(rows) for rows in (fair, biased)]
    assert all(map(routes_right, heads))
    nothing = np.zeros((3000, 0))
    assert abs(fit_preferences(nothing, nothing, fair).first) < 0.2
    assert fit_preferences(nothing, nothing, biased).first > 0.5


def test_without_features_the_merits_are_bradley_and_terrys(tmp_path: Path) -> None:
    wins = {("x", "y"): (60, 20), ("y", "z"): (50, 30), ("x", "z"): (70, 10)}
    rows = []
    for (a, b), (won, lost) in wins.items():
        for at in range(won + lost):
            winner, shown = at < won, at % 2
            pair = (a, b) if shown else (b, a)
            rows.append(
                {"prompt": f"p{len(rows)}", "a": pair[0], "b": pair[1], "winner": "a" if winner == bool(shown) else "b"}
            )
    read = read_preferences(write(tmp_path / "rows", rows))
    nothing = np.zeros((len(rows), 0))
    model = fit_preferences(nothing, nothing, read, ridge=0.0)
    merit = dict(zip(read.tiers, model.merit[:, 0], strict=True))
    assert read.tiers[model.best] == "x"
    # The maximum of the likelihood: expected wins of each tier equal its wins.
    for tier in "xyz":
        won = sum(w if a == tier else lo for (a, b), (w, lo) in wins.items() if tier in (a, b))
        expected = sum(
            80 / (1 + math.exp(merit[b if a == tier else a] - merit[tier])) for a, b in wins if tier in (a, b)
        )
        assert expected == pytest.approx(won, abs=0.7)
    bias, _, _ = model.linear(model.best, 0)
    assert 1 / (1 + math.exp(-bias)) == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("row", "match"),
    [
        ({"prompt": "", "a": "x", "b": "y", "winner": "a"}, "row 1 has no prompt"),
        ({"prompt": "p", "a": "x", "b": "x", "winner": "a"}, "two different tiers"),
        ({"prompt": "p", "a": "x", "winner": "a"}, "two different tiers"),
        ({"prompt": "p", "a": "x", "b": "y", "winner": "x"}, "winner='x'"),
    ],
)
def test_rows_that_are_no_preferences_are_named(row: dict[str, Any], match: str, tmp_path: Path) -> None:
    with pytest.raises(CorruptFileError, match=match):
        read_preferences(write(tmp_path / "rows", [row]))


def test_too_few_or_unconnected_rows_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = write(tmp_path / "few", preferences(10))
    with pytest.raises(OptionError, match="10 preferences are too few"):
        RoutingHead.fit_preferences(few)
    apart = [
        {"prompt": f"p{number}", "a": a, "b": b, "winner": "a"}
        for number in range(30)
        for a, b in (("x", "y"), ("u", "v"))
    ]
    with pytest.raises(OptionError, match="no comparison connects u, v with x, y"):
        RoutingHead.fit_preferences(write(tmp_path / "apart", apart))
    rows = write(tmp_path / "rows", preferences())
    with pytest.raises(OptionError, match="no row compares huge"):
        RoutingHead.fit_preferences(rows, tiers=["huge"])
    one = write(tmp_path / "one", [{"prompt": "p", "outcomes": {"x": 1}}])
    assert main(["tune", str(one), "--no-embedding"]) == 2
    assert "too few" in capsys.readouterr().err
    assert main(["tune", str(tmp_path / "missing"), "--no-embedding"]) == 1
