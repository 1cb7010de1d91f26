"""Tiers: what can answer a request when the cache cannot."""

from __future__ import annotations

from nearhit.tiers.base import Price, Tier
from nearhit.tiers.ct2 import CTranslate2Tier
from nearhit.tiers.function import FunctionTier
from nearhit.tiers.openai import OpenAITier
from nearhit.tiers.replicas import ReplicaTier
from nearhit.tiers.stream import AsyncTierStream, TierStream
from nearhit.tiers.timing import Timeouts

__all__ = [
    "AsyncTierStream",
    "CTranslate2Tier",
    "FunctionTier",
    "OpenAITier",
    "Price",
    "ReplicaTier",
    "Tier",
    "TierStream",
    "Timeouts",
]
