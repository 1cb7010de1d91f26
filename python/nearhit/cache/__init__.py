"""The semantic cache: exact hits in under a microsecond, near hits that have been checked.

Example:
    >>> from nearhit.cache import Cache
    >>> cache = Cache()
    >>> _ = cache.store("What is the capital of France?", "Paris.")
    >>> cache.lookup("What is the capital of France?").response
    'Paris.'
"""

from __future__ import annotations

from nearhit._core import Hit, Request
from nearhit.cache._async import AsyncCache
from nearhit.cache._judge import TierJudge, Trial
from nearhit.cache._records import Candidate, Explanation, Judgement, Latency, Lookup, ScopeStats, Stats
from nearhit.cache._sync import Cache

__all__ = [
    "AsyncCache",
    "Cache",
    "Candidate",
    "Explanation",
    "Hit",
    "Judgement",
    "Latency",
    "Lookup",
    "Request",
    "ScopeStats",
    "Stats",
    "TierJudge",
    "Trial",
]
