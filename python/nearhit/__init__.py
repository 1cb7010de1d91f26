"""Answer LLM requests from a semantic cache when that is safe, and route the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nearhit._core import __version__
from nearhit._errors import (
    BackendWarning,
    ContextLengthError,
    CorruptFileError,
    DeadlineError,
    DimensionError,
    EmbedderBusyError,
    EmbeddingError,
    EmbeddingTimeoutError,
    EmptyPromptError,
    Error,
    InputError,
    MissingDependencyError,
    ModelError,
    ModelFormatError,
    ModelNotFoundError,
    NotFiniteError,
    NoTierError,
    OptionError,
    ReentrancyError,
    RequestError,
    StorageError,
    StorageInUseError,
    StorageWarning,
    StreamBrokenError,
    ThresholdError,
    TierBusyError,
    TierCancelledError,
    TierClosedError,
    TierConnectionError,
    TierError,
    TierProtocolError,
    TierRateLimitError,
    TierStatusError,
    TierTimeoutError,
    TierUnsupportedError,
    TooLargeError,
    UnknownOptionError,
    ZeroVectorError,
)
from nearhit._index import VectorIndex

if TYPE_CHECKING:
    from nearhit import backends, cache, config, embed, models, router, tiers, trace
    from nearhit._core import Hit
    from nearhit.cache import AsyncCache, Cache
    from nearhit.router import AsyncRouter, Decision, Router, TierProfile
    from nearhit.tiers import CTranslate2Tier, FunctionTier, OpenAITier, ReplicaTier
    from nearhit.trace import Trace

__all__ = [
    "AsyncCache",
    "AsyncRouter",
    "BackendWarning",
    "CTranslate2Tier",
    "Cache",
    "ContextLengthError",
    "CorruptFileError",
    "DeadlineError",
    "Decision",
    "DimensionError",
    "EmbedderBusyError",
    "EmbeddingError",
    "EmbeddingTimeoutError",
    "EmptyPromptError",
    "Error",
    "FunctionTier",
    "Hit",
    "InputError",
    "MissingDependencyError",
    "ModelError",
    "ModelFormatError",
    "ModelNotFoundError",
    "NoTierError",
    "NotFiniteError",
    "OpenAITier",
    "OptionError",
    "ReentrancyError",
    "ReplicaTier",
    "RequestError",
    "Router",
    "StorageError",
    "StorageInUseError",
    "StorageWarning",
    "StreamBrokenError",
    "ThresholdError",
    "TierBusyError",
    "TierCancelledError",
    "TierClosedError",
    "TierConnectionError",
    "TierError",
    "TierProfile",
    "TierProtocolError",
    "TierRateLimitError",
    "TierStatusError",
    "TierTimeoutError",
    "TierUnsupportedError",
    "TooLargeError",
    "Trace",
    "UnknownOptionError",
    "VectorIndex",
    "ZeroVectorError",
    "__version__",
    "backends",
    "cache",
    "config",
    "embed",
    "models",
    "router",
    "tiers",
    "trace",
]

_LAZY = {
    "AsyncRouter": "nearhit.router",
    "CTranslate2Tier": "nearhit.tiers",
    "Decision": "nearhit.router",
    "Router": "nearhit.router",
    "TierProfile": "nearhit.router",
    "Trace": "nearhit.trace",
    "AsyncCache": "nearhit.cache",
    "Cache": "nearhit.cache",
    "FunctionTier": "nearhit.tiers",
    "Hit": "nearhit._core",
    "OpenAITier": "nearhit.tiers",
    "ReplicaTier": "nearhit.tiers",
}
"""Names whose modules take longer to load than `import nearhit` may; they load with their first use."""


_LAZY_MODULES = frozenset({"backends", "cache", "config", "embed", "models", "router", "tiers", "trace"})
"""Modules that `import nearhit` makes reachable, so that `nearhit.embed.load()` works, and that load when used."""


def __getattr__(name: str) -> object:
    from importlib import import_module  # noqa: PLC0415 - only the first use of a lazy name needs it

    if name in _LAZY_MODULES:
        return import_module(f"nearhit.{name}")
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module 'nearhit' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(module), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY, *_LAZY_MODULES})
