"""Recalibration of a verifier on pairs of the user's own; numpy is enough for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nearhit._errors import InputError
from nearhit.evaluate.data import split_of
from nearhit.evaluate.fit import logistic
from nearhit.evaluate.metrics import calibration_error, curve

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from nearhit._core import PairVerifier
    from nearhit.evaluate.data import Pair
    from nearhit.evaluate.vectors import VectorTable

__all__ = ["tune"]

FITTED = 0.8
LEAST = 20
"""Pairs of each label that a calibration needs to mean anything."""
PENALTY = 1.0
"""Of the logistic regression: with few pairs the calibration stays near even weights."""


def tune(
    pairs: Sequence[Pair], vectors: VectorTable, verifier: PairVerifier, precision: float
) -> tuple[dict[str, Any], bytes]:
    """Calibrates on four fifths of the pairs and reports on the rest.

    Args:
        pairs: Labelled pairs.
        vectors: Their vectors.
        verifier: The verifier to start from.
        precision: Precision that the threshold is chosen for.

    Returns:
        The report, and the content of the tuned verifier's file.

    Raises:
        InputError: Too few pairs of one label.
    """
    labels = np.array([pair.label for pair in pairs])
    numbers = np.array(split_of([(pair.a, pair.b) for pair in pairs]))
    fitted = numbers < FITTED
    for label in (0, 1):
        count = int(np.count_nonzero(fitted & (labels == label)))
        if count < LEAST:
            raise InputError(f"{count} pairs with label {label} to calibrate on; at least {LEAST} are needed")
    a, b = vectors.of(pair.a for pair in pairs), vectors.of(pair.b for pair in pairs)
    similarity = np.einsum("ij,ij->i", a, b)
    known = a.shape[1] == verifier.dim
    texts = [(pair.a, pair.b) for pair in pairs]
    rows = verifier.judge_many(texts, similarity.tolist(), (a, b) if known else None)
    trees = np.array([row[0] for row in rows], np.float64)
    network = np.array([row[1] if row[1] is not None else 0.0 for row in rows], np.float64)
    before = np.array([row[2] for row in rows], np.float64)
    accepted = np.array([row[3] for row in rows])
    weights = np.ones(len(labels))
    both = logistic(np.stack([trees, network], axis=1)[fitted], labels[fitted], weights[fitted], PENALTY)
    alone = logistic(trees[fitted][:, None], labels[fitted], weights[fitted], PENALTY)
    after = 1.0 / (1.0 + np.exp(-(both[0] * trees + both[1] * network + both[2])))
    line = curve(labels[fitted & accepted], after[fitted & accepted])
    chosen = line.threshold_at(precision)
    threshold = 1.0 if chosen is None else float(np.floor(chosen * 1000) / 1000)
    held = ~fitted
    report = {
        "pairs": len(labels),
        "held_out": int(held.sum()),
        "precision": precision,
        "threshold": threshold,
        "reached": chosen is not None,
        "before": _figures(labels[held], before[held], accepted[held], verifier.threshold),
        "after": _figures(labels[held], after[held], accepted[held], threshold),
    }
    return report, verifier.recalibrated([*both, *alone], threshold)


def _figures(
    labels: NDArray[np.int64], confidence: NDArray[np.float64], accepted: NDArray[np.bool_], threshold: float
) -> dict[str, Any]:
    served = accepted & (confidence >= threshold)
    right = labels == 1
    return {
        "threshold": threshold,
        "hits": float(served.mean()) if len(served) else 0.0,
        "recall": float(served[right].mean()) if right.any() else 0.0,
        "precision": float(right[served].mean()) if served.any() else None,
        "calibration_error": calibration_error(labels, confidence),
    }
