"""Routing quality on prompts with known outcomes, beside the baselines that every claim must beat."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from nearhit import VectorIndex
from nearhit._core import RouterCore, prompt_features, prompt_focus
from nearhit._errors import OptionError
from nearhit.evaluate.routing import Curve, curve, frontier, interval, sweep
from nearhit.evaluate.surfaces import chances, fit_weights
from nearhit.router.profile import TierProfile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from nearhit.evaluate.outcomes import Outcomes

    Numbers = NDArray[np.float64]

HEADS = ("default", "knn", "linear")

_WEAK, _STRONG = 0.6, 0.9  # the qualities that a router of two tiers assumes
_NEIGHBOURS = 80  # APGR in four folds of 1,500 MMLU rows with 40, 80, 160: .724, .728, .723; unweighted: .689
_SHARPNESS = 8.0
_PRIOR_NEIGHBOURS, _PRIOR_COSINE = 5.0, 0.3
_RANDOM_DRAWS = 10
_OPTIONS = re.compile(r"^\(?[A-Za-z][.)]", re.MULTILINE)
_ENOUGH = 300  # training rows of a prompt's own kind, below which all rows are used


@dataclass(frozen=True, slots=True)
class PairScore:
    """One scorer on a pair of models.

    Attributes:
        name: Of the scorer.
        curve: Quality against the share of strong calls.
        interval: 95 % bootstrap interval of the APGR; None for oracles and random.
    """

    name: str
    curve: Curve
    interval: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class RouterReport:
    """What `evaluate_router` found.

    Attributes:
        rows: Prompts on which both models of the pair were asked.
        weak: Name of the weak model.
        strong: Name of the strong model.
        weak_quality: Its mean quality.
        strong_quality: Its mean quality.
        dropped: Training rows left out because their prompt is in the test.
        pair: Scorers on the pair.
        aiq: By scorer, mean quality over the range of costs; empty without costs.
        priced_rows: Prompts with outcome and cost of every model.
    """

    rows: int
    weak: str
    strong: str
    weak_quality: float
    strong_quality: float
    dropped: int
    pair: list[PairScore] = field(default_factory=list)
    aiq: dict[str, float] = field(default_factory=dict)
    priced_rows: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Returns the report as JSON values."""
        return {
            "rows": self.rows,
            "weak": {"model": self.weak, "quality": self.weak_quality},
            "strong": {"model": self.strong, "quality": self.strong_quality},
            "training_rows_dropped": self.dropped,
            "scorers": {
                score.name: {
                    "apgr": score.curve.apgr,
                    "apgr_95": score.interval,
                    **{f"cpt{share}": value for share, value in score.curve.cpt.items()},
                    "strong_percent": score.curve.strong_percent.tolist(),
                    "quality": score.curve.quality.tolist(),
                }
                for score in self.pair
            },
            "aiq": self.aiq,
            "priced_rows": self.priced_rows,
        }


@dataclass(frozen=True, slots=True)
class Prompts:
    """Prompts with what heads see of them.

    Attributes:
        texts: The prompts.
        features: Standardised features, float64 of shape [n, f].
        vectors: Embeddings, float32 of shape [n, d]; d is 0 without an embedder.
    """

    texts: tuple[str, ...]
    features: Numbers
    vectors: NDArray[np.float32]


def embedded_text(prompt: str) -> str:
    """Returns what is embedded of a prompt: its last question."""
    return prompt_focus(prompt)


def read_prompts(texts: Sequence[str], vectors: NDArray[np.float32] | None) -> Prompts:
    """Computes the features of prompts."""
    features = np.array([prompt_features(text) for text in texts], np.float64).reshape(len(texts), -1)
    return Prompts(tuple(texts), features, np.zeros((len(texts), 0), np.float32) if vectors is None else vectors)


def choose_pair(test: Outcomes, weak: str | None, strong: str | None) -> tuple[str, str]:
    """Returns the weak and the strong model: those named, else the worst and the best by mean quality."""
    means = {model: float(np.nanmean(test.column(model))) for model in test.models}
    if len(means) < 2:  # noqa: PLR2004 - a pair
        raise OptionError(f"routing needs outcomes of at least two models, not only {', '.join(means)}")
    for name in (weak, strong):
        if name is not None:
            test.column(name)
    strong = strong or max((model for model in means if model != weak), key=lambda model: means[model])
    weak = weak or min((model for model in means if model != strong), key=lambda model: means[model])
    if weak == strong:
        raise OptionError(f"the weak and the strong model are both {weak!r}: name two different ones")
    return weak, strong


def default_gap(prompts: Prompts, *, embedding: bool) -> Numbers:
    """Returns how much likelier the shipped head finds a good answer from the strong tier, shape [n]."""
    profiles = [TierProfile(name="weak", quality=_WEAK), TierProfile(name="strong", quality=_STRONG)]
    core = RouterCore(profiles, strategy="best", cost_weight=0.0, failures=1, cooldown=1.0)
    vectors = prompts.vectors if embedding and prompts.vectors.shape[1] else [None] * len(prompts.texts)
    gaps = []
    for text, vector in zip(prompts.texts, vectors, strict=True):
        decision = core.decide(text, vector=vector)
        scores = {each.tier: each.score for each in (decision.choice, *decision.alternatives)}
        gaps.append(scores["strong"] - scores["weak"])
    return np.array(gaps)


def knn_quality(test: Prompts, train: Prompts, outcomes: Outcomes, *, k: int = _NEIGHBOURS) -> Numbers:
    """Returns the mean outcome of each model over a prompt's nearest labelled neighbours, shape [n, m].

    Neighbours weigh exp(8 * cosine); the general mean weighs as much as five of them at cosine .3, so that a prompt
    far from all that is labelled, or a model without labels nearby, gets the general mean.
    """
    index = VectorIndex(train.vectors.shape[1])
    ids = index.add_many(np.ascontiguousarray(train.vectors))
    place = {int(identity): row for row, identity in enumerate(ids)}
    found, similarity = index.search_many(np.ascontiguousarray(test.vectors), k=min(k, len(train.texts)))
    general = np.nanmean(outcomes.quality, axis=0)
    prior = _PRIOR_NEIGHBOURS * np.exp(_SHARPNESS * _PRIOR_COSINE)
    predicted = np.empty((len(test.texts), len(outcomes.models)))
    for row, (near, cosines) in enumerate(zip(found, similarity, strict=True)):
        real = near >= 0
        labels = outcomes.quality[[place[int(identity)] for identity in near[real]]]
        weight = np.exp(_SHARPNESS * cosines[real].astype(np.float64))[:, None] * np.isfinite(labels)
        total = (weight * np.nan_to_num(labels)).sum(axis=0) + prior * general
        predicted[row] = total / (weight.sum(axis=0) + prior)
    return predicted


def linear_quality(test: Prompts, train: Prompts, outcomes: Outcomes) -> Numbers:
    """Returns the quality that the weights of a head fitted on the training rows predict, shape [n, m].

    From text alone, multiple-choice questions and others are fitted apart, where there are enough rows of each.
    """
    tasks = {task: number for number, task in enumerate(dict.fromkeys(outcomes.tasks))}
    groups = np.array([tasks[task] for task in outcomes.tasks])
    kinds, wanted = _choices(train.texts), _choices(test.texts)
    if train.vectors.shape[1]:
        kinds, wanted = np.zeros_like(kinds), np.zeros_like(wanted)
    predicted = np.empty((len(test.texts), len(outcomes.models)))
    for kind in np.unique(wanted):
        rows = kinds == kind if (kinds == kind).sum() >= _ENOUGH else np.ones(len(kinds), bool)
        weights = fit_weights(
            train.features[rows],
            train.vectors[rows].astype(np.float64),
            outcomes.quality[rows],
            outcomes.models,
            groups[rows],
        )
        ask = wanted == kind
        predicted[ask] = chances(weights, test.features[ask], test.vectors[ask].astype(np.float64))
    return predicted


def _choices(texts: Sequence[str]) -> NDArray[np.bool_]:
    return np.array([len(_OPTIONS.findall(prompt_focus(text))) >= 3 for text in texts])  # noqa: PLR2004 - A, B, C


def evaluate_router(
    test: Outcomes,
    test_prompts: Prompts,
    *,
    train: Outcomes | None = None,
    train_prompts: Prompts | None = None,
    heads: Sequence[str] = HEADS,
    weak: str | None = None,
    strong: str | None = None,
) -> RouterReport:
    """Measures heads and baselines on outcome rows.

    Args:
        test: The rows to judge on.
        test_prompts: Their prompts.
        train: Rows to fit heads on; those whose prompt is in the test are left out.
        train_prompts: Their prompts.
        heads: Of "default" (as shipped), "knn" and "linear" (fitted on `train`).
        weak: Weak model of the pair; the worst by default.
        strong: Strong model of the pair; the best by default.

    Raises:
        OptionError: Unknown models or heads, or a head to fit without rows to fit it on.
    """
    weak, strong = choose_pair(test, weak, strong)
    fitted: dict[str, Numbers] = {}
    dropped = 0
    models: tuple[str, ...] = ()
    if train is not None and train_prompts is not None:
        seen = {_key(text) for text in test.prompts}
        keep = np.array([_key(text) not in seen for text in train.prompts])
        dropped = int((~keep).sum())
        train, train_prompts = train.select(keep), _select(train_prompts, keep)
        models = train.models
        if "linear" in heads:
            fitted["linear"] = linear_quality(test_prompts, train_prompts, train)
        if "knn" in heads and train_prompts.vectors.shape[1]:
            asked = _asked(train, test.models)
            fitted["knn"] = knn_quality(test_prompts, _select(train_prompts, asked), train.select(asked))
        if len(fitted) > 1:
            fitted["linear + knn"] = (fitted["linear"] + fitted["knn"]) / 2.0
    both = np.isfinite(test.column(weak)) & np.isfinite(test.column(strong))
    low, high = test.column(weak)[both], test.column(strong)[both]
    report = RouterReport(int(both.sum()), weak, strong, float(low.mean()), float(high.mean()), dropped)
    report.pair.extend(_baselines(test, both, low, high))
    scores: dict[str, Numbers] = {}
    if "default" in heads:
        if test_prompts.vectors.shape[1]:
            scores["default"] = default_gap(test_prompts, embedding=True)
        scores["default, text only"] = default_gap(test_prompts, embedding=False)
    for name, predicted in fitted.items():
        scores[name] = _gap(predicted, models, weak, strong)
    report.pair.extend(
        PairScore(name, curve(score[both], low, high), interval(score[both], low, high))
        for name, score in scores.items()
    )
    if test.cost is None:
        return report
    aiq, priced = _aiq(test, fitted, models)
    return RouterReport(
        report.rows, weak, strong, report.weak_quality, report.strong_quality, dropped, report.pair, aiq, priced
    )


def _key(text: str) -> str:
    """Prompts are the same if they differ in spaces, case and a trailing "Answer:" only."""
    return re.sub(r"\W+", "", re.sub(r"Answer:?\s*$", "", prompt_focus(text).strip())).lower()


def _asked(train: Outcomes, models: Sequence[str]) -> NDArray[np.bool_]:
    """Rows on which a model of the test was asked; all rows where none ever was.

    Neighbours without a label of the models in question only take places: APGR .650 with them, .728 without.
    """
    columns = [place for place, model in enumerate(train.models) if model in models]
    asked = np.asarray(np.isfinite(train.quality[:, columns]).any(axis=1), np.bool_)
    return asked if asked.any() else np.ones(len(train), bool)


def _select(prompts: Prompts, keep: NDArray[np.bool_]) -> Prompts:
    texts = tuple(text for text, kept in zip(prompts.texts, keep, strict=True) if kept)
    return Prompts(texts, prompts.features[keep], prompts.vectors[keep])


def _gap(predicted: Numbers, models: tuple[str, ...], weak: str, strong: str) -> Numbers:
    """Returns the strong model's advantage; a model that was not trained on is stood for by the trained ones."""
    mean: Numbers = predicted.mean(axis=1)

    def column(model: str, stand_in: Numbers) -> Numbers:
        return np.asarray(predicted[:, models.index(model)]) if model in models else stand_in

    if weak not in models and strong not in models:
        return -mean  # nothing is known of either: the harder, the stronger
    return column(strong, np.ones_like(mean)) - column(weak, mean)


def _baselines(test: Outcomes, both: NDArray[np.bool_], low: Numbers, high: Numbers) -> list[PairScore]:
    rows = np.flatnonzero(both)
    draws = [curve(np.random.default_rng(seed).random(len(rows)), low, high) for seed in range(_RANDOM_DRAWS)]
    shares = draws[0].cpt
    random = Curve(
        draws[0].strong_percent,
        np.mean([draw.quality for draw in draws], axis=0),
        float(np.mean([draw.apgr for draw in draws])),
        {share: float(np.mean([draw.cpt[share] for draw in draws])) for share in shares},
    )
    length = np.array([float(len(test.prompts[row])) for row in rows])
    found = [PairScore("random", random), PairScore("length", curve(length, low, high), interval(length, low, high))]
    tasks = np.array([test.tasks[row] for row in rows])
    if len(set(tasks)) > 1:
        gains = {task: float((high - low)[tasks == task].mean()) for task in set(tasks)}
        found.append(PairScore("task oracle", curve(np.array([gains[task] for task in tasks]), low, high)))
    found.append(PairScore("prompt oracle", curve(high - low, low, high)))
    return found


def _aiq(test: Outcomes, fitted: dict[str, Numbers], models: tuple[str, ...]) -> tuple[dict[str, float], int]:
    """Returns AIQ by scorer over the rows with every model's outcome and cost, and the number of those rows."""
    assert test.cost is not None  # noqa: S101 - asked before
    rows = np.isfinite(test.quality).all(axis=1) & np.isfinite(test.cost).all(axis=1)
    if rows.sum() < 2:  # noqa: PLR2004 - nothing to average
        return {}, int(rows.sum())
    quality, cost = test.quality[rows], test.cost[rows]
    single = np.stack([cost.mean(axis=0), quality.mean(axis=0)], axis=1)
    lowest, highest = float(single[:, 0].min()), float(single[:, 0].max())
    expected_cost = np.broadcast_to(cost.mean(axis=0), cost.shape)
    best = single[int(np.argmax(single[:, 1]))][None, :]
    found = {
        "best single model": frontier(best, lowest, highest).aiq,
        "mixtures of single models": frontier(single, lowest, highest).aiq,
    }
    for name, predicted in fitted.items():
        if set(test.models) <= set(models):
            columns = predicted[rows][:, [models.index(model) for model in test.models]]
            points = np.vstack([sweep(columns, expected_cost, quality, cost), single])
            found[name] = frontier(points, lowest, highest).aiq
    found["prompt oracle"] = frontier(sweep(quality, cost, quality, cost), lowest, highest).aiq
    return found, int(rows.sum())
