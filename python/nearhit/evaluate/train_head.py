"""Fits the routing head that nearhit ships.

    python -m nearhit.evaluate.train_head DATA_DIR OUT [--vectors FILE]

DATA_DIR holds the rows named in `SOURCES`. The head that is written is fitted on all of them. The report on stdout, as
JSON, is of heads fitted in the same way on four fifths, judged on the other fifth, once with whole questions held out
and once with all questions that begin alike; rows of a held-out question under other models are left out of the fit,
too. All is computed from the data alone, in a fixed order.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from nearhit._core import feature_names, prompt_features, prompt_focus, prompt_kind
from nearhit.evaluate.data import read_rows, rows_file
from nearhit.evaluate.head_file import head_text, level_item, pair_item
from nearhit.evaluate.outcomes import read_outcomes
from nearhit.evaluate.prompt_levels import PROMPTS, QUERIES, SETS, STATED, STATED_LEVELS, STATED_OTHERWISE
from nearhit.evaluate.routing import curve
from nearhit.evaluate.surfaces import Surface, fit_surfaces
from nearhit.evaluate.vectors import embed_all, tell_embedded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from nearhit.evaluate.head_file import Item
    from nearhit.evaluate.outcomes import Outcomes
    from nearhit.evaluate.vectors import VectorTable

    Numbers = NDArray[np.float64]

Row = TypeVar("Row")

SOURCES = ("router_mmlu_train", "router_small7", "router_open9", "router_bench11", "prompts_mixed", "queries_web")
PAIR = ("mistralai/Mixtral-8x7B-Instruct-v0.1", "gpt-4-1106-preview")
"""The weak and the strong model of the multiple-choice rows."""
WORD_PROBLEMS = ("gsm8k-train", "MATH_prealgebra")
OPEN9_TASKS = ((0, "houses"), (150, ""), (840, "trivia"), (1340, "reading"), (1840, "gpqa"), (2287, "mbpp"),
               (2787, "humaneval"), (2947, "gsm8k"), (3447, ""), (3947, "maths"), (4447, ""))  # fmt: skip
"""Where the tasks of router_open9, which names none, begin. Its 40 word problems before row 190 are not used: they may
be of GSM8K's test set. Those from 2947 on are of its training set, as 52 of them are in router_small7's rows of it."""
OPEN9_LEVELS = {"houses": 0.9, "trivia": 0.15, "reading": 0.25, "gpqa": 0.8, "mbpp": 0.75, "maths": 0.95}
_PER_SET = 250  # prompts of each set with a level, so that none drowns the others
_TABLE_TIMES = 6
"""How often the prompts that were levelled one by one count. From text alone, rank correlations on parts of the table,
vicuna, WizardLM and arena-hard-v2 held out of .62, .53, .60, .43; once, .60, .50, .61, .39; ten times, .64, .55, .59,
.45."""
_PER_FILE = 1000  # prompts of each file that the features are standardised over
_CLIP = 4.0
_CHOICE_RANKS = (16, 32)
_LENGTH_TRUST, _TEXT_NOISE = 6.0, 300.0
"""How much larger the length's weight may be than another feature's, from text alone: APGR on questions, openings and
subjects held out of .65, .57, .55, against .65, .53, .51 with all alike."""
_OPEN_RANK = 24
_OPEN_NOISE = 10.0
"""Of 1 to 30, what ranked the levels of sets held out best on the whole."""
_OPEN_TEXT = 0.25
"""What the text's features count beside the embedding, fitted apart: rank correlations on the table, vicuna, WizardLM,
arena-hard-v2 and router_open9 of .83, .70, .74, .74, .50 without, .83, .70, .75, .68, .55 so; in one kernel .57 on
arena-hard-v2."""
_OPEN_MEAN, _OPEN_SPREAD = 0.0, 0.8
"""Of the difficulties of the prompts fitted on: up to 1.3 a harder prompt widens the gap between the tiers."""
_CHOICE_MEANS, _QUANTITY_MEANS = (0.5, 0.8), (0.54, 0.97)
"""How often tiers of .6 and of .9 answer an average prompt of these kinds well: what 7-8B models reach on MMLU and on
GSM8K (router_small7: .40 to .56, and .54 in the mean), and what gpt-4 does. The rows fitted on say which prompts of a
kind are harder, but are of other models for each kind: by their own means the kinds would not be on one scale. Over all
pairs of router_small7 on its rows of other tasks, without Chinese, text only: APGR .571 so, .495 by their own means,
.545 by length."""
WEAK_ON_PROBLEMS = (
    "cognitivecomputations/dolphin-2.6-mistral-7b",
    "cognitivecomputations/dolphin-2.9-llama3-8b",
    "meta-math/MetaMath-Mistral-7B",
)
_FOLDS = 5
_SEEDS = 3
_STEM_WORDS = 4


@dataclass(frozen=True, slots=True)
class Seen:
    """Prompts as heads see them.

    Attributes:
        texts: n of them.
        features: Standardised, shape [n, f].
        vectors: Embeddings of their last questions, shape [n, d].
    """

    texts: tuple[str, ...]
    features: Numbers
    vectors: Numbers

    def take(self, rows: NDArray[Any]) -> Seen:
        """Some of them."""
        places = np.arange(len(self.texts))[rows]
        return Seen(tuple(self.texts[at] for at in places), self.features[rows], self.vectors[rows])

    def blind(self) -> Seen:
        """The same without embeddings."""
        return Seen(self.texts, self.features, self.vectors[:, :0])


@dataclass(frozen=True, slots=True)
class Labelled:
    """Prompts with a number each.

    Attributes:
        texts: The prompts.
        values: A level or an outcome, shape [n].
        sets: Where each prompt is from.
    """

    texts: list[str]
    values: Numbers
    sets: list[str]

    def take(self, rows: NDArray[Any]) -> Labelled:
        """Some of them."""
        places = np.arange(len(self.texts))[rows]
        return Labelled([self.texts[at] for at in places], self.values[rows], [self.sets[at] for at in places])


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command."""
    parser = argparse.ArgumentParser(prog="python -m nearhit.evaluate.train_head", description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--vectors", type=Path, help="file that keeps the vectors between runs")
    args = parser.parse_args(argv)
    from nearhit import embed  # noqa: PLC0415 - loads ctranslate2

    files = {name: rows_file(args.data, name) for name in SOURCES}
    choice = read_outcomes(files["router_mmlu_train"])
    problems = word_problems(read_outcomes(files["router_small7"]), read_outcomes(files["router_open9"]))
    levelled = read_levels(files)
    texts = [prompt_focus(text) for text in (*choice.prompts, *levelled.texts)]
    table = embed_all(texts, embed.load(engine="ctranslate2"), store=args.vectors, advance=tell_embedded)
    scale = scale_of(files)
    look = Looker(scale, table)
    items = fit_choice(look(choice.prompts), choice)
    items["quantity"] = fit_quantity(look(problems.texts, blind=True), problems)
    items |= fit_open(look(levelled.texts), levelled)
    args.out.write_text(head_text(scale, items), encoding="utf-8")
    report = {
        "bytes": args.out.stat().st_size,
        "choice": choice_report(look(choice.prompts), choice),
        "quantity": quantity_report(look(problems.texts, blind=True), problems, files),
        "open": open_report(look(levelled.texts), levelled),
    }
    json.dump(report, sys.stdout, indent=2)
    sys.stdout.write("\n")
    return 0


class Looker:
    """Turns texts into what heads see of them."""

    def __init__(self, scale: tuple[Numbers, Numbers], table: VectorTable) -> None:
        self._mean, self._width = scale
        self._table = table

    def __call__(self, texts: Sequence[str], *, blind: bool = False) -> Seen:
        """What is seen of texts; without embeddings if `blind`."""
        raw = np.array([prompt_features(text, raw=True) for text in texts], np.float64)
        features = np.clip((raw - self._mean) / self._width, -_CLIP, _CLIP)
        vectors = np.zeros((len(texts), 0)) if blind else self._table.of(map(prompt_focus, texts)).astype(np.float64)
        return Seen(tuple(texts), features, vectors)


def scale_of(files: dict[str, Path]) -> tuple[Numbers, Numbers]:
    """Means and deviations of the raw features over as many prompts of each file."""
    rows = []
    for path in files.values():
        texts = [str(row.get("prompt", row.get("q"))) for row in read_rows(path)]
        rows += [prompt_features(text, raw=True) for text in _spread(texts, _PER_FILE)]
    raw = np.array(rows, np.float64)
    return raw.mean(axis=0), np.maximum(raw.std(axis=0), 0.01)


def fit_choice(seen: Seen, rows: Outcomes) -> dict[str, Item]:
    """Multiple choice: the outcomes of the two models, from text and with the embedding.

    The embedding goes without the features: with them APGR on questions held out was .722, and .618 on openings held
    out, against .735 and .655.
    """
    weak, strong = (rows.models.index(model) for model in PAIR)

    pair = rows.quality[:, [weak, strong]]
    trust = np.where(np.array(feature_names()) == "log_chars", _LENGTH_TRUST, 1.0)
    text = fit_surfaces(seen.features * trust, seen.vectors[:, :0], pair, noises=(_TEXT_NOISE,))
    text = [Surface(mean, each.weights * trust, each.matrix) for mean, each in zip(_CHOICE_MEANS, text, strict=True)]
    vectors = fit_surfaces(seen.features, seen.vectors, pair, weights=(0.0,))
    vectors = [replace(each, mean=mean) for mean, each in zip(_CHOICE_MEANS, vectors, strict=True)]
    return {
        "choice": pair_item(text[0], text[1], ranks=(0, 0)),
        "choice embedded": pair_item(vectors[0], vectors[1], ranks=_CHOICE_RANKS),
    }


def word_problems(small: Outcomes, open9: Outcomes) -> Labelled:
    """How far the models' mean outcome on a problem is from their mean on all problems of its task."""
    tasks = np.array(small.tasks)
    blocks = np.array(_open9_tasks(len(open9)))
    parts = [(name, small.select(tasks == name)) for name in WORD_PROBLEMS]
    parts.append(("gsm8k", open9.select(blocks == "gsm8k")))
    texts: list[str] = []
    sets: list[str] = []
    values: list[float] = []
    for name, rows in parts:
        mean = np.nanmean(rows.quality, axis=1)
        for text, value in zip(rows.prompts, mean - mean.mean(), strict=True):
            if prompt_kind(text) == "quantity":
                texts.append(text)
                sets.append(name)
                values.append(float(value))
    return Labelled(texts, np.array(values), sets)


def fit_quantity(seen: Seen, rows: Labelled) -> Item:
    """Word problems: what models found hard, from text alone; the strong tier is as often right on all of them."""
    found = fit_surfaces(seen.features, seen.vectors, rows.values[:, None])[0]
    weak, strong = _QUANTITY_MEANS
    flat = Surface(strong, np.zeros_like(found.weights), np.zeros_like(found.matrix))
    return pair_item(replace(found, mean=weak), flat, ranks=(0, 0))


def read_levels(files: dict[str, Path]) -> Labelled:
    """Open prompts with levels, at most so many of each set."""
    found: dict[str, list[tuple[str, float]]] = {}
    for row in read_rows(files["prompts_mixed"]):
        name, text = str(row["set"]), str(row["prompt"])
        if name == STATED:
            stated = (
                0.7 * STATED_LEVELS.get(row["cat"], STATED_OTHERWISE) + 0.3 * (float(row["difficulty"]) - 1.0) / 9.0
            )
            found.setdefault(name, []).append((text, stated))
            continue
        level = SETS.get((name, row.get("cat")), SETS.get((name, None)))
        if level is not None:
            found.setdefault(f"{name} {row['cat']}" if (name, None) not in SETS else name, []).append((text, level))
    open9 = read_outcomes(files["router_open9"])
    for text, task in zip(open9.prompts, _open9_tasks(len(open9)), strict=True):
        if task in OPEN9_LEVELS:
            found.setdefault(task, []).append((text, OPEN9_LEVELS[task]))
    found["queries"] = [(str(row["q"]), QUERIES) for row in read_rows(files["queries_web"])]
    found["table"] = [(text, level) for level, text in PROMPTS]
    kept = [(name, *row) for name, rows in found.items() for row in _spread(rows, _PER_SET)]
    kept = [row for row in kept if prompt_kind(row[1]) == "open" or row[0] == "table"]
    kept += [row for row in kept if row[0] == "table"] * (_TABLE_TIMES - 1)
    return Labelled([text for _, text, _ in kept], np.array([level for *_, level in kept]), [name for name, *_ in kept])


def fit_open(seen: Seen, rows: Labelled) -> dict[str, Item]:
    """All other prompts: the levels, from text and with the embedding."""
    levels = rows.values[:, None]
    text = fit_surfaces(seen.features, seen.vectors[:, :0], levels)[0]
    vectors = fit_surfaces(seen.features, seen.vectors, levels, weights=(0.0,), noises=(_OPEN_NOISE,))[0]
    words = Surface(text.mean, text.weights, np.zeros_like(vectors.matrix))
    both = _stretched(vectors, seen, 1.0).mixed(1.0, _stretched(words, seen, 1.0), _OPEN_TEXT)
    return {
        "open": level_item(_stretched(text, seen.blind(), _OPEN_SPREAD), rank=0),
        "open embedded": level_item(_stretched(both, seen, _OPEN_SPREAD), rank=_OPEN_RANK),
    }


def _stretched(surface: Surface, seen: Seen, spread: float) -> Surface:
    """The surface with this spread, and the mean of open difficulties, over what is seen."""
    fitted = surface.predict(seen.features, seen.vectors)
    stretch = spread / float(fitted.std())
    bias = Surface(_OPEN_MEAN - stretch * float(fitted.mean()), np.zeros_like(surface.weights), 0.0 * surface.matrix)
    return bias.mixed(1.0, surface, stretch)


def choice_report(seen: Seen, rows: Outcomes) -> dict[str, Any]:
    """APGR on questions held out, in folds of whole questions, of openings and of tasks."""
    weak, strong = (rows.column(model) for model in PAIR)
    length = np.array([float(len(text)) for text in rows.prompts])
    report: dict[str, Any] = {"rows": len(rows)}
    for name, groups in (
        ("questions", [_key(text) for text in rows.prompts]),
        ("openings", [_stem(text) for text in rows.prompts]),
        ("tasks", list(rows.tasks)),
    ):
        apgr: dict[str, list[float]] = {"length": [], "text": [], "embedding": []}
        for seed in range(_SEEDS):
            folds = _folds(groups, seed)
            scores = {"length": length, "text": np.zeros(len(rows)), "embedding": np.zeros(len(rows))}
            for fold in range(_FOLDS):
                held = folds == fold
                items = fit_choice(seen.take(~held), rows.select(~held))
                asked = seen.take(held)
                scores["text"][held] = items["choice"].gap(asked.features, asked.vectors)
                scores["embedding"][held] = items["choice embedded"].gap(asked.features, asked.vectors)
            for which, score in scores.items():
                apgr[which].append(curve(_within(score, folds), weak, strong).apgr)
        report[name] = {which: [round(value, 3) for value in values] for which, values in apgr.items()}
    return report


def quantity_report(seen: Seen, rows: Labelled, files: dict[str, Path]) -> dict[str, Any]:
    """APGR on word problems held out, of each weak model against one that is right 97 % of the time."""
    folds = _folds([_key(text) for text in rows.texts], 0)
    score = np.zeros(len(rows.texts))
    for fold in range(_FOLDS):
        held = folds == fold
        asked = seen.take(held)
        score[held] = fit_quantity(seen.take(~held), rows.take(~held)).gap(asked.features, asked.vectors)
    length = np.array([float(len(text)) for text in rows.texts])
    small = read_outcomes(files["router_small7"])
    place = {text: row for row, text in enumerate(small.prompts)}
    mine = np.flatnonzero([name == WORD_PROBLEMS[0] for name in rows.sets])
    report: dict[str, Any] = {"rows": len(mine)}
    for model in WEAK_ON_PROBLEMS:
        low = small.column(model)[[place[rows.texts[row]] for row in mine]]
        high = np.full(len(mine), _QUANTITY_MEANS[1])
        report[model] = {
            name: round(curve(_within(values[mine], folds[mine]), low, high).apgr, 3)
            for name, values in (("length", length), ("text", score))
        }
    return report


def open_report(seen: Seen, rows: Labelled) -> dict[str, Any]:
    """How well levels are ranked in sets that the fit has not seen, by rank correlation."""
    report: dict[str, Any] = {"rows": len(rows.texts)}
    sets = np.array(rows.sets)
    for name, held in (
        ("the table", sets == "table"),
        ("vicuna", np.char.startswith(sets, "vicuna")),
        (STATED, sets == STATED),
        ("arena-hard-v2", np.char.startswith(sets, "arena-hard-v2")),
    ):
        items = fit_open(seen.take(~held), rows.take(~held))
        asked = seen.take(held)
        length = np.array([float(len(text)) for text in asked.texts])
        report[name] = {"prompts": len(set(asked.texts)), "length": _rank_correlation(length, rows.values[held])}
        for which, item in (("text", items["open"]), ("embedding", items["open embedded"])):
            score = item.gap(asked.features, asked.vectors)
            report[name][which] = _rank_correlation(score, rows.values[held])
    return report


def _open9_tasks(count: int) -> list[str]:
    ends = [start for start, _ in OPEN9_TASKS[1:]] + [count]
    return [name for (start, name), end in zip(OPEN9_TASKS, ends, strict=True) for _ in range(start, end)]


def _spread(rows: Sequence[Row], most: int) -> list[Row]:
    return [rows[place] for place in np.unique(np.linspace(0, len(rows) - 1, min(len(rows), most)).astype(int))]


def _key(text: str) -> str:
    return re.sub(r"\W+", "", prompt_focus(text)).lower()


def _stem(text: str) -> str:
    """How a question begins."""
    return " ".join(re.findall(r"\w+", prompt_focus(text).lower())[:_STEM_WORDS])


def _folds(groups: Sequence[str], seed: int) -> NDArray[np.intp]:
    """The fold of each row, whole groups together."""
    different = list(dict.fromkeys(groups))
    order = np.random.default_rng(seed).permutation(len(different)) % _FOLDS
    fold = dict(zip(different, order, strict=True))
    return np.array([fold[group] for group in groups])


def _within(score: Numbers, folds: NDArray[np.intp]) -> Numbers:
    """Ranks within each fold, from 0 to 1: heads of different folds are not on one scale."""
    ranks = np.zeros(len(score))
    for fold in np.unique(folds):
        rows = np.flatnonzero(folds == fold)
        ranks[rows] = np.argsort(np.argsort(score[rows], kind="stable"), kind="stable") / len(rows)
    return ranks


def _rank_correlation(score: Numbers, level: Numbers) -> float:
    """Spearman's, equal levels at their mean rank."""
    order = np.argsort(np.argsort(score, kind="stable"), kind="stable").astype(np.float64)
    ranks = np.argsort(np.argsort(level, kind="stable"), kind="stable").astype(np.float64)
    for value in np.unique(level):
        ranks[level == value] = ranks[level == value].mean()
    return round(float(np.corrcoef(order, ranks)[0, 1]), 3)


if __name__ == "__main__":
    raise SystemExit(main())
