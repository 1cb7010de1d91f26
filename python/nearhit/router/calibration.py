"""Choosing the cost weight for what it comes to on prompts of one's own."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from nearhit._errors import OptionError
from nearhit.cache._embedding import embed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from nearhit._core import HeldRules, RouterCore, RouteRequest
    from nearhit._types import Embedder, Prompt
    from nearhit.router.rules import RuleBook

_BATCH = 64


@dataclass(frozen=True, slots=True)
class Calibration:
    """A cost weight, and what it comes to on the prompts that it was chosen for.

    Attributes:
        cost_weight: To be given to `Router(cost_weight=...)`.
        prompts: Number of prompts.
        strong: Name of the strong tier.
        strong_share: Share of prompts that go to it, or to a tier as dear.
        cost: Predicted US dollars a prompt, on average.
        quality: Probability of a good answer, on average.
        shares: Share of prompts by tier.
    """

    cost_weight: float
    prompts: int
    strong: str
    strong_share: float
    cost: float
    quality: float
    shares: dict[str, float]

    @property
    def strong_share_interval(self) -> tuple[float, float]:
        """Where the share lies on other prompts of the same kind, with 95 % confidence (Wilson, 1927)."""
        share, count, z = self.strong_share, self.prompts, 1.959964
        middle = (share + z * z / (2 * count)) / (1 + z * z / count)
        half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count)) / (1 + z * z / count)
        return max(0.0, middle - half), min(1.0, middle + half)


def calibrate(
    core: RouterCore,
    tiers: Sequence[str],
    prompts: Iterable[Prompt],
    *,
    strong: str,
    targets: dict[str, float | None],
    book: RuleBook | None,
    embedder: Embedder | None,
    for_head: bool,
    advance: Callable[[int, int], None] | None,
) -> Calibration:
    """`Router.calibrate` with all that it needs.

    Args:
        core: The router's core.
        tiers: Names of its tiers.
        prompts: The prompts.
        strong: Name of the strong tier.
        targets: By name; all but one None.
        book: The router's rules.
        embedder: Embeds the prompts; None where nothing needs it.
        for_head: Whether the head understands those vectors.
        advance: Told (done, total) while prompts are embedded.
    """
    given = [(name, value) for name, value in targets.items() if value is not None]
    if len(given) != 1:
        raise OptionError(f"{len(given)} targets are given: state one of {', '.join(targets)}")
    ((name, value),) = given
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise OptionError(f"{name}={value!r} is not valid: expected a number")
    if strong not in tiers:
        raise OptionError(f"strong={strong!r} is not valid: the router's tiers are {', '.join(tiers)}")
    requests = [core.read(prompt) for prompt in prompts]
    asked: list[tuple[RouteRequest, Any, HeldRules | None]] = []
    for request, vector in zip(requests, _vectors(requests, embedder, advance), strict=True):
        held = None
        if book is not None:
            meant = vector if book.embedder is not None else None
            held = book.held(core, request, tags=(), about={}, params={}, vector=meant)
        asked.append((request, vector if for_head else None, held))
    found = core.calibrate(asked, tiers.index(strong), name.replace("_", " "), float(value))
    cost_weight, strong_share, cost, quality, shares = found
    by_tier = dict(zip(tiers, shares, strict=True))
    return Calibration(cost_weight, len(asked), strong, strong_share, cost, quality, by_tier)


def _vectors(
    requests: Sequence[RouteRequest], embedder: Embedder | None, advance: Callable[[int, int], None] | None
) -> list[Any]:
    if embedder is None:
        return [None] * len(requests)
    made: list[Any] = []
    texts = iter([request.prompt for request in requests])
    while batch := list(islice(texts, _BATCH)):
        spoken = [text for text in batch if text]
        vectors = iter([each.vector for each in embed(embedder, spoken)] if spoken else [])
        made += [next(vectors) if text else None for text in batch]  # images alone have no text
        if advance is not None:
            advance(len(made), len(requests))
    return made
