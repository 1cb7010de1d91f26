"""Figures of merit of scores against labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Curve", "auc", "calibration_error", "curve", "reliability"]


@dataclass(frozen=True, slots=True)
class Curve:
    """Precision and recall as the threshold falls.

    Attributes:
        thresholds: Scores, falling, each once; float64 of shape [n].
        precision: Share of right pairs among those at or above each threshold.
        recall: Share of all right pairs at or above each threshold.
        accepted: Share of all pairs at or above each threshold.
    """

    thresholds: NDArray[np.float64]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    accepted: NDArray[np.float64]

    @property
    def average_precision(self) -> float:
        """Area under the precision-recall curve, as the sum of precision times the step in recall."""
        return float(np.sum(self.precision * np.diff(self.recall, prepend=0.0)))

    def recall_at(self, precision: float) -> float:
        """Greatest recall at which the precision is at least this; 0 if it is never reached."""
        reached = self.recall[self.precision >= precision]
        return float(reached.max()) if reached.size else 0.0

    def threshold_at(self, precision: float) -> float | None:
        """Lowest threshold at which the precision is at least this; None if it is never reached."""
        reached = self.thresholds[self.precision >= precision]
        return float(reached.min()) if reached.size else None


def curve(labels: NDArray[np.int64], scores: NDArray[np.float64], weights: NDArray[np.float64] | None = None) -> Curve:
    """The precision-recall curve; equal scores fall together."""
    order = np.argsort(-scores, kind="stable")
    ranked, weight = labels[order], np.ones(len(labels)) if weights is None else weights[order]
    last = np.flatnonzero(np.diff(scores[order], append=-np.inf))
    right, all_ = np.cumsum(ranked * weight)[last], np.cumsum(weight)[last]
    return Curve(
        thresholds=scores[order][last].astype(np.float64),
        precision=right / all_,
        recall=right / max(float(right[-1]) if right.size else 0.0, 1e-12),
        accepted=all_ / max(float(weight.sum()), 1e-12),
    )


def auc(labels: NDArray[np.int64], scores: NDArray[np.float64]) -> float:
    """Probability that a right pair scores above a wrong one, ties counting half; NaN without both kinds."""
    right, wrong = np.sort(scores[labels == 1]), np.sort(scores[labels == 0])
    if not right.size or not wrong.size:
        return float("nan")
    below = np.searchsorted(wrong, right, "left") + np.searchsorted(wrong, right, "right")
    return float(below.sum() / (2.0 * right.size * wrong.size))


def reliability(
    labels: NDArray[np.int64], confidences: NDArray[np.float64], bins: int = 10
) -> list[tuple[float, float, int]]:
    """For each equal-width bin that is not empty: mean confidence, share of right pairs, number of pairs."""
    place = np.minimum((confidences * bins).astype(int), bins - 1)
    rows = []
    for number in range(bins):
        inside = place == number
        if inside.any():
            rows.append((float(confidences[inside].mean()), float(labels[inside].mean()), int(inside.sum())))
    return rows


def calibration_error(labels: NDArray[np.int64], confidences: NDArray[np.float64], bins: int = 10) -> float:
    """Expected calibration error: mean distance of confidence and share of right pairs, weighted by bin size."""
    rows = reliability(labels, confidences, bins)
    total = sum(count for _, _, count in rows)
    return sum(abs(mean - share) * count for mean, share, count in rows) / max(total, 1)
