"""Policies as evaluation sees them: a name, and a threshold on one score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from nearhit._core import PairVerifier

__all__ = ["NAMES", "Judged", "judge"]

NAMES = ("static", "guards", "verifier", "guarded", "verified")
"""The policies of the cache, and the two parts of "guarded" on their own."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What is known of pairs before a policy decides.

    Attributes:
        similarity: Cosine, float64 of shape [n].
        confidence: The verifier's probability that one answer serves both, float64 of shape [n].
        accepted: Whether the lexical guards accept, bool of shape [n].
    """

    similarity: NDArray[np.float64]
    confidence: NDArray[np.float64]
    accepted: NDArray[np.bool_]

    def score(self, policy: str) -> NDArray[np.float64]:
        """What the policy ranks pairs by; what the guards refuse ranks below everything.

        The guards alone rank by similarity.
        """
        if policy == "static":
            return self.similarity
        if policy == "verifier":
            return self.confidence
        ranked = self.similarity if policy == "guards" else self.confidence
        return np.where(self.accepted, ranked, -1.0)


def judge(
    verifier: PairVerifier,
    texts: Sequence[tuple[str, str]],
    a: NDArray[np.float32],
    b: NDArray[np.float32],
    *,
    batch: int = 4096,
) -> Judged:
    """Asks guards and verifier about pairs.

    Args:
        verifier: The verifier.
        texts: Two texts a pair.
        a: Unit vectors of the first, shape [n, dim].
        b: Unit vectors of the second.
        batch: Pairs a call of the core.
    """
    similarity = np.einsum("ij,ij->i", a, b, dtype=np.float64) if len(a) else np.zeros(0)
    known = len(a) > 0 and a.shape[1] == verifier.dim
    rows: list[tuple[float, bool]] = []
    for start in range(0, len(texts), batch):
        part = slice(start, start + batch)
        vectors = (a[part], b[part]) if known else None
        found = verifier.judge_many(texts[part], similarity[part].tolist(), vectors)
        rows += [(confidence, accepted) for _, _, confidence, accepted in found]
    table = np.array(rows, np.float64).reshape(-1, 2)
    return Judged(similarity, table[:, 0], table[:, 1] > 0)
