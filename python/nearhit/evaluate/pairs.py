"""Policies on labelled pairs: what each would serve, and how often that is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nearhit.evaluate.metrics import Curve, auc, calibration_error, curve, reliability

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from nearhit.evaluate.policies import Judged

__all__ = ["Setting", "evaluate"]

PRECISIONS = (0.8, 0.85, 0.9, 0.95)


@dataclass(frozen=True, slots=True)
class Setting:
    """The default setting of a policy: what it serves.

    Attributes:
        similarity: Least similarity.
        score: Least score, as `Judged.score` defines it.
    """

    similarity: float
    score: float

    @classmethod
    def of(cls, policy: str, confidence: float) -> Setting:
        """The cache's own setting for a policy.

        Args:
            policy: One of `policies.NAMES`.
            confidence: The verifier's threshold.
        """
        if policy == "static":
            return cls(0.9, -1.0)
        if policy == "guards":
            return cls(0.9, 0.0)
        return cls(0.8, confidence)

    def served(self, judged: Judged, policy: str) -> NDArray[np.bool_]:
        """Which pairs the policy would serve."""
        return (judged.similarity >= self.similarity) & (judged.score(policy) >= self.score)


def evaluate(
    judged: Judged, labels: NDArray[np.int64], confidence: float, policies: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Figures of each policy.

    "pr_auc" and "recall_at_P" rank by the policy's score. For "guarded" and "verified" that is the verifier's
    confidence, which has seen what the guards saw; refusals of the guards count in "default", where the policy's own
    setting decides.

    Args:
        judged: What is known of the pairs.
        labels: 1 where one answer serves both.
        confidence: The verifier's threshold.
        policies: Names out of `policies.NAMES`.
    """
    found = {}
    for policy in policies:
        ranking = ranking_of(judged, policy)
        line = curve(labels, ranking)
        served = Setting.of(policy, confidence).served(judged, policy)
        right, wrong = labels == 1, labels == 0
        found[policy] = {
            "pr_auc": line.average_precision,
            "auc": auc(labels, ranking),
            "recall_at_precision": {f"{at:.2f}": line.recall_at(at) for at in PRECISIONS},
            "default": {
                "hits": _share(served, np.ones_like(right)),
                "recall": _share(served, right),
                "false_hits": _share(served, wrong),
                "precision": _share(right, served),
            },
        }
        if policy not in ("static", "guards"):
            found[policy]["calibration_error"] = calibration_error(labels, judged.confidence)
            found[policy]["reliability"] = reliability(labels, judged.confidence)
    return found


def ranking_of(judged: Judged, policy: str) -> NDArray[np.float64]:
    """What a policy ranks pairs by when a threshold is moved."""
    return judged.confidence if policy in ("guarded", "verified") else judged.score(policy)


def lines(judged: Judged, labels: NDArray[np.int64], policies: Sequence[str]) -> dict[str, Curve]:
    """The precision-recall curve of each policy."""
    return {policy: curve(labels, ranking_of(judged, policy)) for policy in policies}


def _share(part: NDArray[np.bool_], whole: NDArray[np.bool_]) -> float | None:
    count = int(np.count_nonzero(whole))
    return float(np.count_nonzero(part & whole) / count) if count else None
