"""Fitting routing heads: an item-response model whose items are described by features.

P(model m answers prompt x well) = sigmoid(ability_m * (1 + discrimination(x)) - difficulty(x) + strength_m(x)), all but
the abilities linear in the prompt's features and in the leading principal components of its embedding. What one model's
outcomes teach about prompts serves all (Birnbaum's two-parameter model; with features: De Boeck and Wilson, 2004).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nearhit._errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]

COMPONENTS = 24
"""Principal components of the embedding; 48 and 64 were no better on held-out MMLU (.724 and .65-.72 against .722)."""

_RIDGE = 1e-3
_OWN_RIDGE = 4e-3
_SCALE = 0.3  # of standardised inputs, so that one ridge suits all
_MEMORY = 8
FEWEST = 20


@dataclass(frozen=True, slots=True)
class ItemModel:
    """A fitted model.

    Attributes:
        models: Names of the models.
        ability: Shape [m].
        difficulty: Bias, then feature weights, then embedding weights; shape [1 + f + d].
        discrimination: Likewise, so that the slope is 1 + this.
        strength: Each model's own advantage, shape [m, 1 + f + d]; held near 0, so that it only says what the shared
            terms cannot.
    """

    models: tuple[str, ...]
    ability: Numbers
    difficulty: Numbers
    discrimination: Numbers
    strength: Numbers

    def predict(self, features: Numbers, vectors: Numbers) -> Numbers:
        """Returns the probability that each model answers well, shape [n, m].

        Args:
            features: Standardised features, shape [n, f].
            vectors: Embeddings, shape [n, d]; d is 0 for a model fitted without.
        """
        inputs = np.hstack([np.ones((len(features), 1)), features, vectors])
        slope = 1.0 + inputs @ self.discrimination
        shared = slope[:, None] * self.ability[None, :] - (inputs @ self.difficulty)[:, None]
        return _sigmoid(shared + inputs @ self.strength.T)

    def linear(self, model: str, features: int) -> tuple[float, list[float], list[float]]:
        """Returns one model's logit as bias, feature weights and embedding weights, as `RouterCore` takes them."""
        place = self.models.index(model)
        ability = self.ability[place]
        weights = ability * self.discrimination - self.difficulty + self.strength[place]
        bias = float(ability + weights[0])
        return bias, weights[1 : 1 + features].tolist(), weights[1 + features :].tolist()


def fit_items(
    features: Numbers, vectors: Numbers, quality: Numbers, models: tuple[str, ...], groups: NDArray[np.intp]
) -> ItemModel:
    """Fits abilities, difficulty and discrimination together.

    Args:
        features: Standardised features, shape [n, f].
        vectors: Embeddings, shape [n, d]; d may be 0.
        quality: Outcomes in [0, 1], shape [n, m]; NaN where a model was not asked.
        models: Names of the models.
        groups: Task of each row; large tasks are weighted down so that none drowns the others.

    Raises:
        OptionError: Fewer than 20 rows.
    """
    if len(features) < FEWEST:
        raise OptionError(f"{len(features)} rows are too few to fit a head: give at least {FEWEST}")
    centre, basis = _components(vectors)
    inputs = np.hstack([np.ones((len(features), 1)), features * _SCALE, (vectors - centre) @ basis])
    known = np.isfinite(quality)
    target = np.where(known, np.clip(quality, 0.0, 1.0), 0.5)
    sizes = np.bincount(groups)[groups]
    weight = known * (sizes**-0.4 / np.maximum(known.sum(axis=1), 1))[:, None]
    weight /= weight.sum()
    share = np.clip((weight * target).sum(axis=0) / np.maximum(weight.sum(axis=0), 1e-12), 0.03, 0.97)
    start_ability = np.log(share / (1.0 - share))
    width, count = inputs.shape[1], len(models)

    def loss(point: Numbers) -> tuple[float, Numbers]:
        difficulty, discrimination = point[:width], point[width : 2 * width]
        ability, strength = point[2 * width : 2 * width + count], point[2 * width + count :].reshape(count, width)
        slope = 1.0 + inputs @ discrimination
        shared = slope[:, None] * ability[None, :] - (inputs @ difficulty)[:, None]
        chance = _sigmoid(shared + inputs @ strength.T)
        floor = 1e-9
        fit = weight * (target * np.log(chance + floor) + (1.0 - target) * np.log(1.0 - chance + floor))
        error = weight * (chance - target)
        drift = ability - start_ability
        value = (
            -fit.sum()
            + _RIDGE * (difficulty @ difficulty)
            + 2.0 * _RIDGE * (discrimination @ discrimination)
            + 1e-5 * (drift @ drift)
            + _OWN_RIDGE * (strength * strength).sum()
        )
        gradient = np.concatenate(
            [
                -inputs.T @ error.sum(axis=1) + 2.0 * _RIDGE * difficulty,
                inputs.T @ (error @ ability) + 4.0 * _RIDGE * discrimination,
                error.T @ slope + 2e-5 * drift,
                (error.T @ inputs + 2.0 * _OWN_RIDGE * strength).ravel(),
            ]
        )
        return float(value), gradient

    best = minimise(loss, np.concatenate([np.zeros(2 * width), start_ability, np.zeros(count * width)]))
    strength = best[2 * width + count :].reshape(count, width)
    features_count = features.shape[1]

    def unfold(weights: Numbers) -> Numbers:
        embedding = basis @ weights[1 + features_count :]
        own = weights[1 : 1 + features_count] * _SCALE
        return np.concatenate([[weights[0] - centre @ embedding], own, embedding])

    return ItemModel(
        models,
        best[2 * width : 2 * width + count],
        unfold(best[:width]),
        unfold(best[width : 2 * width]),
        np.array([unfold(weights) for weights in strength]),
    )


def _components(vectors: Numbers) -> tuple[Numbers, Numbers]:
    """Returns the mean, and the basis of scaled principal components, shape [d, at most 24]."""
    centre = vectors.mean(axis=0) if vectors.shape[1] else np.zeros(0)
    count = min(COMPONENTS, vectors.shape[1], len(vectors) - 1)
    if count == 0:
        return centre, np.zeros((vectors.shape[1], 0))
    centred = vectors - centre
    variance, axes = np.linalg.eigh(centred.T @ centred / len(vectors))
    kept = np.argsort(variance)[::-1][:count]
    return centre, axes[:, kept] / np.sqrt(np.maximum(variance[kept], 1e-12)) * _SCALE


def minimise(loss: Callable[[Numbers], tuple[float, Numbers]], start: Numbers, *, steps: int = 60) -> Numbers:
    """Minimises a smooth function by L-BFGS (Nocedal and Wright, algorithm 7.5) with a backtracking line search.

    Args:
        loss: Returns value and gradient.
        start: Where to begin.
        steps: Most steps; the fits above change little after 40.
    """
    point = start
    value, gradient = loss(point)
    history: list[tuple[Numbers, Numbers]] = []
    for _ in range(steps):
        direction = -_curved(gradient, history)
        slope = float(direction @ gradient)
        if slope > -1e-12:  # noqa: PLR2004 - no way down is left
            break
        size = 1.0 if history else min(1.0, 1.0 / float(np.linalg.norm(gradient)))
        while size > 1e-8:  # noqa: PLR2004 - below that the step is rounding
            trial = point + size * direction
            trial_value, trial_gradient = loss(trial)
            if trial_value <= value + 1e-4 * size * slope:
                break
            size *= 0.5
        else:
            break
        moved, turned = trial - point, trial_gradient - gradient
        if float(moved @ turned) > 1e-12:  # noqa: PLR2004 - curvature must be positive
            history = [*history[-_MEMORY + 1 :], (moved, turned)]
        point, value, gradient = trial, trial_value, trial_gradient
    return point


def _curved(gradient: Numbers, history: list[tuple[Numbers, Numbers]]) -> Numbers:
    """Returns the inverse-Hessian product by the two-loop recursion."""
    result = gradient.copy()
    factors = []
    for moved, turned in reversed(history):
        factor = float(moved @ result) / float(moved @ turned)
        factors.append(factor)
        result -= factor * turned
    if history:
        moved, turned = history[-1]
        result *= float(moved @ turned) / float(turned @ turned)
    for (moved, turned), factor in zip(history, reversed(factors), strict=True):
        result += moved * (factor - float(turned @ result) / float(moved @ turned))
    return result


def _sigmoid(logit: Numbers) -> Numbers:
    return 1.0 / (1.0 + np.exp(-np.clip(logit, -40.0, 40.0)))
