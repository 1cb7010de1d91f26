"""Tiers: what can answer a request when the cache cannot."""

from __future__ import annotations

from nearhit.tiers.base import Price, Tier
from nearhit.tiers.function import FunctionTier
from nearhit.tiers.openai import OpenAITier
from nearhit.tiers.stream import AsyncTierStream, TierStream
from nearhit.tiers.timing import Timeouts

__all__ = ["AsyncTierStream", "FunctionTier", "OpenAITier", "Price", "Tier", "TierStream", "Timeouts"]
