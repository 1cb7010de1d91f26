"""How good a router's scores are: PGR curves as RouteLLM draws them, AIQ as RouterBench does.

Sources: RouteLLM, arXiv 2406.18665 and its `evals/evaluate.py`; RouterBench, arXiv 2403.12031.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nearhit._errors import OptionError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]

_JITTER = 1e-9
_QUANTILES = 10


@dataclass(frozen=True, slots=True)
class Curve:
    """Quality against the share of calls that go to the strong model.

    Attributes:
        strong_percent: Share of strong calls at each threshold, ascending, in percent.
        quality: Mean quality there.
        apgr: Area under the curve, 0 for the weak model alone and 1 for the strong one alone (an oracle exceeds 1).
        cpt: Least percent of strong calls that recovers 20, 50 and 80 percent of the gap, by that percent.
    """

    strong_percent: Numbers
    quality: Numbers
    apgr: float
    cpt: dict[int, float]


def curve(score: Numbers, weak: Numbers, strong: Numbers, *, seed: int = 0) -> Curve:
    """Draws the curve of a score that is high where the strong model should be asked.

    The thresholds are the score's deciles, as in RouteLLM; ties are broken by a jitter of up to 1e-9 times the score's
    spread, since `qcut`, used there, refuses tied edges.

    Args:
        score: Of each prompt, shape [n].
        weak: Quality of the weak model, shape [n].
        strong: Quality of the strong model, shape [n].
        seed: Seed of the jitter.

    Raises:
        OptionError: Fewer than two prompts, a score that is not finite, or models that are equally good.
    """
    if len(score) < 2 or not np.isfinite(score).all():  # noqa: PLR2004 - one prompt makes no curve
        raise OptionError(f"{len(score)} scores make no curve: give at least 2 prompts and finite scores")
    gap = float(strong.mean() - weak.mean())
    if gap == 0.0:
        raise OptionError("both models are equally good on these prompts, so there is no gap to recover: choose others")
    spread = float(np.ptp(score)) or 1.0
    broken = score + np.random.default_rng(seed).uniform(0.0, _JITTER * spread, len(score))
    edges = np.quantile(broken, np.linspace(0.0, 1.0, _QUANTILES + 1))
    chosen = [broken >= edge for edge in edges[:-1]] + [broken > edges[-1]]
    percent = np.array([mask.mean() * 100.0 for mask in chosen])[::-1]
    quality = np.array([np.where(mask, strong, weak).mean() for mask in chosen])[::-1]
    apgr = (float(np.trapezoid(quality, percent / 100.0)) - float(weak.mean())) / gap
    wanted = {share: weak.mean() + gap * share / 100.0 for share in (20, 50, 80)}
    cpt = {share: float(np.interp(level, quality, percent)) for share, level in wanted.items()}
    return Curve(percent, quality, apgr, cpt)


def interval(score: Numbers, weak: Numbers, strong: Numbers, *, resamples: int = 200) -> tuple[float, float]:
    """Returns the 95 % bootstrap interval of the APGR over prompts."""
    random = np.random.default_rng(0)
    found = []
    for _ in range(resamples):
        rows = random.integers(0, len(score), len(score))
        if strong[rows].mean() != weak[rows].mean():
            found.append(curve(score[rows], weak[rows], strong[rows]).apgr)
    low, high = np.quantile(found, [0.025, 0.975]) if found else (np.nan, np.nan)
    return float(low), float(high)


@dataclass(frozen=True, slots=True)
class Frontier:
    """What a router gets for its money, over all trade-offs.

    Attributes:
        cost: Mean cost of a prompt at each point of the non-decreasing convex hull, ascending.
        quality: Mean quality there.
        aiq: Mean quality of the hull over the range of costs from the cheapest to the dearest model.
    """

    cost: Numbers
    quality: Numbers
    aiq: float


def frontier(points: Numbers, lowest: float, highest: float) -> Frontier:
    """Returns the non-decreasing convex hull of (cost, quality) points, and its mean between two costs.

    Args:
        points: Shape [k, 2].
        lowest: Cost of the cheapest single model; to its left nothing is bought.
        highest: Cost of the dearest single model.

    Raises:
        OptionError: No range of costs.
    """
    if not highest > lowest:
        raise OptionError(f"all models cost the same ({lowest}), so there is no trade-off to draw")
    hull: list[tuple[float, float]] = []
    for cost, quality in sorted(map(tuple, points), key=lambda point: (point[0], -point[1])):
        if hull and quality <= hull[-1][1]:
            continue
        while len(hull) > 1 and _below(hull[-2], hull[-1], (cost, quality)):
            hull.pop()
        hull.append((cost, quality))
    x, y = (np.array(axis) for axis in zip(*hull, strict=True))
    grid = np.unique(np.clip(np.concatenate([x, np.array([lowest, highest])]), lowest, highest))
    # Left of the hull nothing can be bought, so its first quality stands there at most: none is credited.
    height = np.interp(grid, x, y, left=0.0)
    return Frontier(x, y, float(np.trapezoid(height, grid)) / (highest - lowest))


def _below(first: tuple[float, float], middle: tuple[float, float], last: tuple[float, float]) -> bool:
    """Whether the middle point lies on or below the line between the others."""
    rise = (last[1] - first[1]) * (middle[0] - first[0])
    return (middle[1] - first[1]) * (last[0] - first[0]) <= rise


def sweep(predicted: Numbers, predicted_cost: Numbers, quality: Numbers, cost: Numbers, *, steps: int = 60) -> Numbers:
    """Routes by quality - lambda * cost for many lambdas (RouterBench's willingness to pay).

    Args:
        predicted: Predicted quality, shape [n, m].
        predicted_cost: Predicted cost, shape [n, m].
        quality: Quality, shape [n, m].
        cost: Cost in US dollars, shape [n, m].
        steps: Number of lambdas, from free to miserly.

    Returns:
        Mean (cost, quality) at each lambda, shape [steps + 2, 2].
    """
    scale = float(np.mean(predicted_cost)) or 1.0
    weights = np.concatenate([[0.0], np.logspace(-3.0, 3.0, steps), [1e9]]) / scale
    rows = np.arange(len(quality))
    points = []
    for weight in weights:
        choice = np.argmax(predicted - weight * predicted_cost, axis=1)
        points.append((cost[rows, choice].mean(), quality[rows, choice].mean()))
    return np.array(points)
