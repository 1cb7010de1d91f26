"""GPTCache's evaluations: what a `similarity_threshold` is a share of.

`SearchDistanceEvaluation` sets the unit of the threshold; `ExactMatchEvaluation` lets only equal texts hit. The others
are models of GPTCache's own: nearhit's guards and verifier judge in their place.
"""

from __future__ import annotations

from nearhit.integrations.gptcache.similarity_evaluation.distance import SearchDistanceEvaluation
from nearhit.integrations.gptcache.similarity_evaluation.exact_match import ExactMatchEvaluation

__all__ = ["ExactMatchEvaluation", "SearchDistanceEvaluation"]
