"""The parts on stage: embedder, cache, two tiers and the router between them."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import nearhit
from nearhit import embed
from nearhit.demo import prepare

if TYPE_CHECKING:
    from collections.abc import Iterator

SMALL, LARGE = "small", "large"

_COST_WEIGHT = 0.3
"""What the last of two unpriced tiers is taken to add on a prompt of average difficulty (0.9 - 0.6); harder ones go to
it."""


@dataclass(frozen=True, slots=True)
class Remote:
    """A server as the large tier.

    Attributes:
        base_url: Where its OpenAI-compatible API begins.
        model: The model's name on that server.
        api_key: Its key; None for none.
    """

    base_url: str
    model: str
    api_key: str | None = None


@dataclass(frozen=True, slots=True)
class Stage:
    """What the requests are played on.

    Attributes:
        router: Two tiers behind one cache.
        cache: The router's cache, empty.
        facts: What is on stage, in words: pairs of a name and a description.
    """

    router: nearhit.Router
    cache: nearhit.Cache
    facts: tuple[tuple[str, str], ...]


@contextmanager
def build(*, remote: Remote | None = None, threshold: float | None = None) -> Iterator[Stage]:
    """Loads the models, and warms each up with one request, so that the first record shows no loading.

    Args:
        remote: A server as the large tier; None for the small tier's model in float32.
        threshold: Least similarity of a near hit; None for the cache's default.

    Raises:
        ModelError: A model is missing or unusable.
        TierError: A tier does not answer.
    """
    embedder = embed.load(prepare.EMBEDDER[0])
    small = nearhit.CTranslate2Tier(SMALL, prepare.SMALL[0], compute_type=prepare.SMALL[1])
    large: nearhit.CTranslate2Tier | nearhit.OpenAITier
    if remote is None:
        large = nearhit.CTranslate2Tier(LARGE, prepare.LARGE[0], compute_type=prepare.LARGE[1])
    else:
        large = nearhit.OpenAITier(LARGE, remote.model, base_url=remote.base_url, api_key=remote.api_key)
    cache = nearhit.Cache(embedder) if threshold is None else nearhit.Cache(embedder, threshold=threshold)
    router = nearhit.Router([small, large], cache=cache, cost_weight=_COST_WEIGHT)
    with small, large:
        embedder.embed(["Warm up."])
        for tier in (small, large):
            tier.complete("Warm up.", max_tokens=2)
        place = f"at {remote.base_url}" if remote else f"{prepare.LARGE[1]}, on this machine"
        facts = (
            ("embedder", embedder.id),
            (SMALL, f"{small.model}, {prepare.SMALL[1]}, on this machine"),
            (LARGE, f"{large.model}, {place}"),
        )
        yield Stage(router, cache, facts)
