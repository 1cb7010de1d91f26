"""The script that fits the shipped head: folds, labels, and that the shipped file is what it writes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nearhit._core import feature_names, prompt_kind
from nearhit.evaluate import train_head
from nearhit.evaluate.head_file import head_text
from nearhit.evaluate.outcomes import Outcomes, read_outcomes
from nearhit.evaluate.prompt_levels import PROMPTS, SETS
from nearhit.evaluate.routing import curve
from nearhit.evaluate.vectors import VectorTable

SHIPPED = Path(__file__).parents[2] / "rust" / "core" / "src" / "route" / "default_head.txt"


def test_whole_groups_are_held_out_together() -> None:
    groups = [f"g{number % 40}" for number in range(400)]
    folds = train_head._folds(groups, 0)
    assert all(len(set(folds[[each == group for each in groups]])) == 1 for group in set(groups))
    assert np.bincount(folds).tolist() == [80] * 5
    assert folds.tolist() != train_head._folds(groups, 1).tolist()


def test_heads_of_different_folds_are_compared_within_each() -> None:
    random = np.random.default_rng(0)
    gain = random.random(400)
    weak, strong = (random.random(400) > gain).astype(float), np.ones(400)
    folds = np.arange(400) % 2
    shifted = gain + 5.0 * folds
    assert curve(shifted, weak, strong).apgr < curve(gain, weak, strong).apgr - 0.05
    assert abs(curve(train_head._within(shifted, folds), weak, strong).apgr - curve(gain, weak, strong).apgr) < 0.02


def test_equal_levels_share_a_rank() -> None:
    assert train_head._rank_correlation(np.array([1.0, 2.0, 3.0, 4.0]), np.array([0.0, 0.0, 1.0, 1.0])) == 0.894
    assert train_head._rank_correlation(np.array([4.0, 3.0, 2.0, 1.0]), np.array([0.0, 1.0, 2.0, 3.0])) == -1.0


def test_openings_are_the_first_words_of_the_question_asked() -> None:
    shots = "Why not?\nAnswer:\nA\n\n" * 2
    assert train_head._stem(shots + "Which of the following is (a) metal?\nA. x\nAnswer:") == "which of the following"


def test_multiple_choice_is_learned_from_the_pair_and_text_and_embedding_apart() -> None:
    random = np.random.default_rng(0)
    easy, hard = np.eye(4)[0], np.eye(4)[1]
    side = np.arange(400) % 2 == 1
    vectors = np.where(side[:, None], hard, easy) + 0.1 * random.normal(size=(400, 4))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    weak = np.where(side, random.random(400) < 0.3, random.random(400) < 0.9).astype(float)
    strong = (random.random(400) < 0.9).astype(float)
    rows = Outcomes(("q",) * 400, train_head.PAIR, np.stack([weak, strong], axis=1), None, ("",) * 400)
    seen = train_head.Seen(("q",) * 400, np.zeros((400, len(feature_names()))), vectors)
    items = train_head.fit_choice(seen, rows)
    gap = items["choice embedded"].gap(seen.features, vectors)
    assert abs(gap[side].mean() - 0.6) < 0.1
    assert abs(gap[~side].mean()) < 0.1
    assert np.ptp(items["choice"].gap(seen.features, vectors[:, :0])) < 1e-9


def test_an_average_prompt_of_a_kind_is_what_the_two_tiers_are_said_to_make_of_it() -> None:
    random = np.random.default_rng(0)
    outcomes = (random.random((300, 2)) < (0.2, 0.6)).astype(float)
    rows = Outcomes(("q",) * 300, train_head.PAIR, outcomes, None, ("",) * 300)
    features = random.normal(size=(300, len(feature_names())))
    seen = train_head.Seen(("q",) * 300, features, random.normal(size=(300, 4)))
    problems = train_head.Labelled(["q"] * 300, 0.1 * random.normal(size=300), ["gsm8k"] * 300)
    average, none = np.zeros((1, features.shape[1])), np.zeros((1, 0))
    for item, means in (
        (train_head.fit_choice(seen, rows)["choice"], train_head._CHOICE_MEANS),
        (train_head.fit_quantity(seen.blind(), problems), train_head._QUANTITY_MEANS),
    ):
        assert abs(float(item.gap(average, none)[0]) - (means[1] - means[0])) < 1e-6


def test_levels_are_between_0_and_1_and_no_prompt_stands_twice() -> None:
    assert all(0.0 <= level <= 1.0 for level in (*SETS.values(), *(level for level, _ in PROMPTS)))
    assert len({text for _, text in PROMPTS}) == len(PROMPTS)


def test_the_shipped_scale_and_word_problems_are_what_the_script_fits(data: Path) -> None:
    files = {name: data / f"{name}.jsonl.gz" for name in train_head.SOURCES}
    scale = train_head.scale_of(files)
    look = train_head.Looker(scale, VectorTable([], np.zeros((0, 384), np.float32), ""))
    problems = train_head.word_problems(read_outcomes(files["router_small7"]), read_outcomes(files["router_open9"]))
    assert {prompt_kind(text) for text in problems.texts} == {"quantity"}
    item = train_head.fit_quantity(look(problems.texts, blind=True), problems)
    written = _numbers(head_text(scale, {"quantity": item}))
    shipped = _numbers(SHIPPED.read_text(encoding="utf-8"))
    for section in ("[scale]", "[quantity]"):
        assert written[section].keys() == shipped[section].keys()
        for name, values in written[section].items():
            np.testing.assert_allclose(shipped[section][name], values, rtol=1e-3, atol=2e-4, err_msg=name)
    assert SHIPPED.stat().st_size < 100_000


def _numbers(text: str) -> dict[str, dict[str, list[float]]]:
    found: dict[str, dict[str, list[float]]] = {}
    for line in text.splitlines():
        if line.startswith("["):
            section = found.setdefault(line, {})
        elif not line.startswith(("#", "square")):
            name, *values = line.split()
            section[name] = [float(value) for value in values]
    return found
