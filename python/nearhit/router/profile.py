"""What a tier promises: quality, price, window, abilities, expected latency."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from nearhit._errors import OptionError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from nearhit._types import Chunk, Prompt

_WEAKEST, _STRONGEST = 0.6, 0.9
"""Qualities assumed for the first and the last tier where none is stated; the others lie evenly between."""


class Answerer(Protocol):
    """What the router needs of a tier."""

    @property
    def name(self) -> str:
        """Its name, unique in a router."""
        ...

    @property
    def model(self) -> str:
        """Name of its model."""
        ...

    def astream(self, messages: Prompt, /, **params: Any) -> AsyncIterator[Chunk]:
        """Streams the answer."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TierProfile:
    """What the router assumes of a tier until it has measured it.

    Attributes:
        name: Name of the tier; filled in by the router.
        quality: Share of average prompts that it answers well, in (0, 1). None: by its place in the router's list,
            weakest first.
        input_cost: US dollars per prompt token.
        output_cost: US dollars per answer token.
        context_window: Tokens that prompt and answer may take together; None if unknown.
        images: Whether it reads images.
        tools: Whether it calls tools.
        max_concurrency: Calls that it works on at once; None if unknown.
        ttft: Expected seconds to the first token; None if unknown.
        tpot: Expected seconds per answer token; None if unknown.

    Example:
        >>> TierProfile(quality=0.9, input_cost=2.5e-6, output_cost=10e-6).quality
        0.9
    """

    name: str = ""
    quality: float | None = None
    input_cost: float = 0.0
    output_cost: float = 0.0
    context_window: int | None = None
    images: bool = True
    tools: bool = True
    max_concurrency: int | None = None
    ttft: float | None = None
    tpot: float | None = None


def profile_of(tier: Answerer) -> TierProfile:
    """Reads a tier's own statements: `price`, `quality`, `max_context`, `capabilities`, `limiter`; all optional."""
    price = getattr(tier, "price", None)
    capabilities = getattr(tier, "capabilities", None)
    return TierProfile(
        quality=getattr(tier, "quality", None),
        input_cost=getattr(price, "prompt", 0.0),
        output_cost=getattr(price, "completion", 0.0),
        context_window=getattr(tier, "max_context", None),
        images=capabilities is None or "images" in capabilities,
        tools=capabilities is None or "tools" in capabilities,
        max_concurrency=getattr(getattr(tier, "limiter", None), "slots", None),
    )


def profiles_of(tiers: Sequence[Answerer], stated: Mapping[str, TierProfile] | None = None) -> list[TierProfile]:
    """Returns one complete profile for each tier, in order.

    Args:
        tiers: The tiers, weakest and cheapest first where they state no quality.
        stated: Profiles by name, in place of what a tier says itself.

    Raises:
        OptionError: An object that is not a tier, or a profile of a tier that is not there.
    """
    stated = stated or {}
    for tier in tiers:
        if not isinstance(getattr(tier, "name", None), str) or not callable(getattr(tier, "astream", None)):
            raise OptionError(
                f"{tier!r} is not a tier: it needs a name and an astream method (see nearhit.FunctionTier)"
            )
    if unknown := set(stated) - {tier.name for tier in tiers}:
        raise OptionError(f"profiles name tiers that are not there: {', '.join(sorted(map(repr, unknown)))}")
    last = max(1, len(tiers) - 1)
    complete = []
    for place, tier in enumerate(tiers):
        given = stated.get(tier.name) or profile_of(tier)
        quality = given.quality
        if quality is None:
            quality = _WEAKEST + (_STRONGEST - _WEAKEST) * place / last if len(tiers) > 1 else _STRONGEST
        # A quality of exactly 0 or 1 would be certain of every prompt.
        clipped = min(0.999, max(0.001, quality)) if 0.0 <= quality <= 1.0 else quality
        complete.append(replace(given, name=tier.name, quality=clipped))
    return complete
