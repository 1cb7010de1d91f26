"""Routing quality: the metrics as published, the fits, the files, the command."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from nearhit import CorruptFileError, OptionError, StorageError
from nearhit.cli import main
from nearhit.evaluate.items import fit_items, minimise
from nearhit.evaluate.outcomes import read_outcomes
from nearhit.evaluate.router import evaluate_router, knn_quality, read_prompts
from nearhit.evaluate.routing import curve, frontier, interval, sweep

if TYPE_CHECKING:
    from pathlib import Path


def _pair(n: int = 400) -> tuple[Any, Any, Any]:
    random = np.random.default_rng(0)
    hardness = random.random(n)
    weak = (random.random(n) > hardness).astype(float)
    strong = (random.random(n) > 0.5 * hardness).astype(float)
    return hardness, weak, strong


def _routellm(score: Any, weak: Any, strong: Any) -> tuple[float, float]:
    """APGR and CPT50 step by step as in RouteLLM's evaluate.py: qcut edges, last threshold exclusive, trapezoids."""
    edges = np.quantile(score, np.linspace(0, 1, 11))
    points = []
    for at, edge in enumerate(edges):
        asked = score > edge if at == len(edges) - 1 else score >= edge
        points.append((asked.mean() * 100, np.where(asked, strong, weak).mean()))
    points.sort()
    percent, quality = map(np.array, zip(*points, strict=True))
    area = np.trapezoid(quality, percent / 100)
    wanted = 0.5 * (strong.mean() - weak.mean()) + weak.mean()
    return (area - weak.mean()) / (strong.mean() - weak.mean()), float(np.interp(wanted, quality, percent))


def test_apgr_and_cpt_are_routellms() -> None:
    score, weak, strong = _pair()
    found = curve(score, weak, strong)
    apgr, cpt50 = _routellm(score, weak, strong)
    assert found.apgr == pytest.approx(apgr, abs=1e-9)
    assert found.cpt[50] == pytest.approx(cpt50, abs=1e-6)
    assert found.strong_percent[0] == 0
    assert found.strong_percent[-1] == 100


def test_a_good_score_beats_chance_and_the_oracle_beats_all() -> None:
    score, weak, strong = _pair()
    random = curve(np.random.default_rng(1).random(len(score)), weak, strong).apgr
    assert curve(-score, weak, strong).apgr < random < curve(score, weak, strong).apgr
    assert curve(strong - weak, weak, strong).apgr > 1
    low, high = interval(score, weak, strong, resamples=50)
    assert low < curve(score, weak, strong).apgr < high


def test_ties_and_constants_are_broken_by_jitter() -> None:
    _, weak, strong = _pair()
    assert 0.3 < curve(np.zeros(len(weak)), weak, strong).apgr < 0.7


def test_curves_without_meaning_are_refused() -> None:
    score, weak, _ = _pair()
    with pytest.raises(OptionError, match="equally good"):
        curve(score, weak, weak)
    with pytest.raises(OptionError, match="finite"):
        curve(score * np.nan, weak, 1 - weak)
    with pytest.raises(OptionError):
        curve(score[:1], weak[:1], weak[:1])


def test_the_frontier_is_the_hull_and_credits_nothing_unbought() -> None:
    points = np.array([[1.0, 0.4], [2.0, 0.5], [3.0, 0.9], [2.5, 0.3]])
    found = frontier(points, 1.0, 3.0)
    assert found.cost.tolist() == [1.0, 3.0]
    assert found.aiq == pytest.approx((0.4 + 0.9) / 2)
    assert frontier(points[2:3], 1.0, 3.0).aiq < 0.5
    with pytest.raises(OptionError):
        frontier(points, 2.0, 2.0)


def test_an_oracle_buys_more_quality_than_any_single_model() -> None:
    random = np.random.default_rng(0)
    quality = (random.random((300, 3)) < [0.4, 0.6, 0.8]).astype(float)
    cost = np.broadcast_to([1.0, 2.0, 8.0], quality.shape)
    points = sweep(quality, cost, quality, cost)
    assert points[:, 1].max() > quality.mean(axis=0).max()
    assert points[-1].tolist() == pytest.approx([1.0, quality[:, 0].mean()])


def test_item_models_find_difficulty_ability_and_give_the_same_as_one_sum() -> None:
    random = np.random.default_rng(0)
    features = random.normal(size=(2000, 3))
    ability = np.array([-0.5, 0.5, 2.0])
    truth = 1 / (1 + np.exp(-(ability[None, :] - 1.5 * features[:, :1])))
    outcomes = (random.random(truth.shape) < truth).astype(float)
    outcomes[random.random(truth.shape) < 0.3] = np.nan
    vectors = random.normal(size=(2000, 8))
    fitted = fit_items(features, vectors, outcomes, ("a", "b", "c"), np.zeros(2000, int))
    predicted = fitted.predict(features, vectors)
    assert np.abs(predicted - truth).mean() < 0.08
    assert (np.diff(fitted.ability) > 0.4).all()
    bias, weights, embedding = fitted.linear("c", 3)
    logit = bias + features @ np.array(weights) + vectors @ np.array(embedding)
    assert 1 / (1 + np.exp(-logit)) == pytest.approx(predicted[:, 2], abs=1e-9)
    with pytest.raises(OptionError, match="too few"):
        fit_items(features[:5], vectors[:5], outcomes[:5], ("a", "b", "c"), np.zeros(5, int))


def test_the_minimiser_finds_the_bottom_of_a_valley() -> None:
    def rosenbrock(point: Any) -> tuple[float, Any]:
        x, y = point
        gradient = np.array([-400 * x * (y - x * x) - 2 * (1 - x), 200 * (y - x * x)])
        return float(100 * (y - x * x) ** 2 + (1 - x) ** 2), gradient

    assert minimise(rosenbrock, np.array([-1.2, 1.0]), steps=200) == pytest.approx([1.0, 1.0], abs=1e-3)


def _write(path: Path, rows: list[Any]) -> Path:
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), encoding="utf-8")
    return path


def _rows(n: int = 120) -> list[dict[str, Any]]:
    random = np.random.default_rng(0)
    rows = []
    for number in range(n):
        hard = number % 2
        prompt = f"Prove theorem {number} step by step." if hard else f"Say hello to guest {number}."
        outcomes = {"weak": float(random.random() > 0.8 * hard), "strong": float(random.random() > 0.2)}
        rows.append(
            {"prompt": prompt, "task": "ab"[hard], "outcomes": outcomes, "cost": {"weak": 1e-5, "strong": 1e-3}}
        )
    return rows


def test_files_are_read_and_models_of_all_are_columns(tmp_path: Path) -> None:
    first = _write(tmp_path / "a.jsonl", [{"prompt": "p", "outcomes": {"x": 1, "y": None}}, ""])
    second = tmp_path / "b.jsonl.gz"
    second.write_bytes(gzip.compress(b'{"prompt": "q", "outcomes": {"z": 0.5}, "cost": {"z": 0.1}}\n'))
    read = read_outcomes([first, second])
    assert read.models == ("x", "z")
    assert read.quality.shape == (2, 2)
    assert np.isnan(read.quality[1, 0])
    assert read.cost is not None
    assert read_outcomes(first).cost is None
    with pytest.raises(OptionError, match="x, z"):
        read.column("w")


@pytest.mark.parametrize(
    "line",
    ["{", "[]", "{}", '{"prompt": ""}', '{"prompt": "p"}', '{"prompt": "p", "outcomes": {"x": "good"}}',
     '{"prompt": "p", "outcomes": {"x": NaN}}', '{"prompt": "p", "outcomes": {"x": 1}, "cost": 3}'],
)  # fmt: skip
def test_damaged_lines_are_named(tmp_path: Path, line: str) -> None:
    path = _write(tmp_path / "bad.jsonl", [{"prompt": "p", "outcomes": {"x": 1}}, line])
    with pytest.raises(CorruptFileError, match="line 2"):
        read_outcomes(path)
    with pytest.raises(StorageError):
        read_outcomes(tmp_path / "absent")


def test_heads_learn_from_rows_that_are_not_in_the_test(tmp_path: Path) -> None:
    rows = _rows(240)
    train, test = (
        read_outcomes(_write(tmp_path / name, part)) for name, part in (("a", rows[:120]), ("b", rows[110:]))
    )
    report = evaluate_router(
        test,
        read_prompts(test.prompts, None),
        train=train,
        train_prompts=read_prompts(train.prompts, None),
        weak="weak",
        strong="strong",
    )
    assert report.dropped == 10
    apgr = {score.name: score.curve.apgr for score in report.pair}
    assert apgr["linear"] > apgr["random"] + 0.2
    assert apgr["default, text only"] > apgr["random"] + 0.2
    assert {"length", "task oracle", "prompt oracle"} <= set(apgr)
    assert report.aiq["best single model"] < report.aiq["linear"] <= report.aiq["prompt oracle"]
    json.dumps(report.to_dict())


def test_neighbours_predict_and_far_prompts_get_the_mean(tmp_path: Path) -> None:
    rows = [{"prompt": str(at), "outcomes": {"m": float(at < 20)}} for at in range(40)]
    outcomes = read_outcomes(_write(tmp_path / "rows", rows))
    axes = np.zeros((40, 4), np.float32)
    axes[np.arange(40), (np.arange(40) >= 20).astype(int)] = 1.0
    asked = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]], np.float32)
    predicted = knn_quality(read_prompts(("x", "y", "z"), asked), read_prompts(outcomes.prompts, axes), outcomes, k=20)
    assert predicted[0, 0] > 0.95
    assert predicted[1, 0] < 0.05
    assert 0.2 < predicted[2, 0] < 0.8


def test_the_command_prints_json_and_refuses_what_has_no_meaning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    test = str(_write(tmp_path / "test.jsonl", _rows()[:60]))
    train = str(_write(tmp_path / "train.jsonl", _rows()[60:]))
    assert main(["eval", "router", test, "--train", train, "--head", "all", "--no-embedding", "--json"]) == 0
    scorers = json.loads(capsys.readouterr().out)["scorers"]
    assert {"random", "length", "default, text only", "linear"} <= set(scorers)
    assert main(["eval", "router", test, "--head", "default", "--no-embedding"]) == 0
    assert "APGR" in capsys.readouterr().out
    assert main(["eval", "router", test, "--head", "knn"]) == 2
    assert main(["eval", "router", test, "--no-embedding", "--weak", "nobody"]) == 2
    assert main(["eval", "router", str(tmp_path / "absent"), "--no-embedding"]) == 1


def test_route_explains_without_sending(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["route", "Say hello.", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tier"] == "small"
    assert main(["route", "Say hello.", "--tier", "a:0.5", "--tier", "b:0.9:1:2"]) == 0
    assert "answers well" in capsys.readouterr().out
    assert main(["route", "", "--json"]) == 2
    assert main(["route", "hi", "--tier", "nonsense"]) == 2
