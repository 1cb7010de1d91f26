"""The router: an answer from the cache where there is one, else from the tier that is worth it."""

from __future__ import annotations

from nearhit._core import Alternative, AppliedRule
from nearhit._core import RouteDecision as Decision
from nearhit.router.calibration import Calibration
from nearhit.router.cascade import Cascade
from nearhit.router.facade import AsyncRouter, Router
from nearhit.router.heads import RoutingHead
from nearhit.router.profile import TierProfile
from nearhit.router.rules import KeywordRule, MetadataRule, RegexRule, Rule, SemanticRule
from nearhit.router.shadow import Disagreement, Shadow, ShadowReport
from nearhit.router.stream import AsyncRouterStream, RouterStream

__all__ = [
    "Alternative",
    "AppliedRule",
    "AsyncRouter",
    "AsyncRouterStream",
    "Calibration",
    "Cascade",
    "Decision",
    "Disagreement",
    "KeywordRule",
    "MetadataRule",
    "RegexRule",
    "Router",
    "RouterStream",
    "RoutingHead",
    "Rule",
    "SemanticRule",
    "Shadow",
    "ShadowReport",
    "TierProfile",
]
