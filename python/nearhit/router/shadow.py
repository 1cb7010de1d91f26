"""A second policy beside the first: what it would have chosen is counted, and nothing is sent for it."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any

from nearhit._errors import DeadlineError, NoTierError, OptionError
from nearhit.router.heads import RoutingHead
from nearhit.router.rules import RuleBook
from nearhit.tiers.options import check_kind
from nearhit.trace import Shadowed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nearhit._core import Alternative, RouteDecision, RouterCore, RouteRequest
    from nearhit._types import Embedder
    from nearhit.router.limits import Limits
    from nearhit.router.rules import Rule
    from nearhit.trace import Trace

_LOG = logging.getLogger("nearhit.router")
_BETWEEN_LINES = 60.0
"""Seconds between two lines in the log."""
_EXCERPT = 200
"""Characters of a prompt in an example."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shadow:
    """The second policy of a router: `Router(tiers, shadow=Shadow(cost_weight=0.1))`.

    It sees each request that goes to the tiers, decides on the same state of the same tiers, and sends nothing. Where
    it differs, `router.shadow_report()` says how often, from which tier to which, and what it would cost and bring; the
    request's trace has its choice. Its failures are counted and change nothing.

    Its semantic rules hold only where the prompt's embedding is at hand (the cache or a rule of the router has made
    it): for a shadow nothing is embedded.

    Attributes:
        strategy: As for `Router`.
        cost_weight: As for `Router`.
        head: As for `Router`.
        rules: As for `Router`; those of the router do not apply.
        examples: How many of the last disagreements are kept with the beginnings of their prompts, in memory alone; 0
            for none.

    Example:
        >>> from nearhit import FunctionTier, Router
        >>> small, large = FunctionTier("small", lambda messages: "a"), FunctionTier("large", lambda messages: "b")
        >>> router = Router([small, large], shadow=Shadow(strategy="best"))
        >>> router.complete("What is the capital of France?").trace.shadow.tier
        'large'
        >>> router.shadow_report().pairs
        {('small', 'large'): 1}
    """

    strategy: str = "complexity"
    cost_weight: float = 0.3
    head: RoutingHead | str | PathLike[str] | None = None
    rules: Sequence[Rule] = ()
    examples: int = 20

    def __post_init__(self) -> None:
        examples: object = self.examples
        if isinstance(examples, bool) or not isinstance(examples, int) or examples < 0:
            raise OptionError(f"examples={examples!r} is not valid: expected a whole number, 0 or more")


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A request on which the two policies differ.

    Attributes:
        prompt: Its first 200 characters.
        tier: The tier that was chosen.
        reason: Why.
        shadow_tier: The tier that the shadow would have chosen; "" where it would have refused the request.
        shadow_reason: Why.
    """

    prompt: str
    tier: str
    reason: str
    shadow_tier: str
    shadow_reason: str


@dataclass(frozen=True, slots=True)
class ShadowReport:
    """How two policies compare on the same requests.

    Attributes:
        requests: Requests that both decided on.
        disagreed: Of those, requests on which the tiers differ, refusals included.
        refused: Of those, requests that the shadow would have refused.
        failed: Requests on which the shadow failed; they are not among `requests`.
        pairs: Disagreements by (tier, tier of the shadow); "" for a refusal.
        cost_difference: US dollars a request that the shadow would cost more, by prediction; negative for less.
        quality_difference: Probability of a good answer that the shadow would add, by the router's own head, on average
            over all requests.
        shadow_quality_difference: The same by the shadow's head.
        examples: The last disagreements.
    """

    requests: int
    disagreed: int
    refused: int
    failed: int
    pairs: dict[tuple[str, str], int]
    cost_difference: float
    quality_difference: float
    shadow_quality_difference: float
    examples: tuple[Disagreement, ...]

    @property
    def rate(self) -> float:
        """Share of the requests on which the policies differ; 0 before the first."""
        return self.disagreed / self.requests if self.requests else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Returns the report as JSON values, without the examples."""
        counts = ("requests", "disagreed", "refused", "failed", "rate")
        means = ("cost_difference", "quality_difference", "shadow_quality_difference")
        pairs = [{"tier": tier, "shadow": other, "requests": count} for (tier, other), count in self.pairs.items()]
        return {**{name: getattr(self, name) for name in (*counts, *means)}, "pairs": pairs}


class Watch:
    """Runs the second policy and counts; safe to use from many threads.

    Args:
        shadow: The policy.
        core: The router's own core, whose tiers it shares.
        tiers: Names of the tiers.
        embedder: The embedder of its semantic rules.

    Raises:
        OptionError: Something in the policy has no meaning.
    """

    def __init__(self, shadow: Shadow, core: RouterCore, tiers: Sequence[str], embedder: Embedder | None) -> None:
        head = shadow.head
        fitted = RoutingHead.load(head) if isinstance(head, str | PathLike) else head
        check_kind("head", fitted, RoutingHead)
        heads, embedded = (None, None) if fitted is None else fitted.arranged(tiers)
        self.book = RuleBook(shadow.rules, embedder)
        self.core = core.beside(
            strategy=str(shadow.strategy),
            cost_weight=shadow.cost_weight,
            heads=heads,
            embedded_heads=embedded,
            rules=self.book.fields,
        )
        self.head_embedder = None if fitted is None else fitted.embedder
        self._lock = threading.Lock()
        self._requests = self._disagreed = self._refused = self._failed = 0
        self._pairs: Counter[tuple[str, str]] = Counter()
        self._cost = self._quality = self._shadow_quality = 0.0
        self._examples: deque[Disagreement] = deque(maxlen=shadow.examples)
        self._next_line = time.monotonic() + _BETWEEN_LINES

    def see(
        self,
        decision: RouteDecision,
        request: RouteRequest,
        *,
        limits: Limits,
        params: Mapping[str, Any],
        need: Mapping[str, Any],
        vector: Any | None,
        rule_vector: Any | None,
        trace: Trace,
    ) -> None:
        """Lets the shadow decide on a request beside `decision`; never raises.

        Args:
            decision: What the router has decided.
            request: The request.
            limits: Its tags and what else is known about it.
            params: Its parameters.
            need: What `RouterCore.decide` was given beside the request and the deadline.
            vector: The prompt's embedding for the head.
            rule_vector: The prompt's embedding for semantic rules.
            trace: Told of the shadow's choice.
        """
        try:
            held = None
            if self.book.fields:
                held = self.book.held(
                    self.core, request, tags=limits.tags, about=limits.about, params=params, vector=rule_vector
                )
            try:
                other = self.core.decide(request, deadline=limits.left(trace), vector=vector, held=held, **need)
            except (NoTierError, DeadlineError) as refusal:
                trace.shadow = self._differ(decision, request, None, str(refusal))
            else:
                if other.index == decision.index:
                    self._agree()
                    trace.shadow = Shadowed(other.tier, agrees=True, reason=other.reason)
                else:
                    trace.shadow = self._differ(decision, request, other, other.reason)
        except Exception as error:  # noqa: BLE001 - who only watches must not fail a request
            with self._lock:
                self._failed += 1
            trace.notes.append(f"the shadow policy failed: {type(error).__name__}: {error}")
        self._log()

    def _agree(self) -> None:
        with self._lock:
            self._requests += 1

    def _differ(
        self, decision: RouteDecision, request: RouteRequest, other: RouteDecision | None, reason: str
    ) -> Shadowed:
        cost = quality = shadow_quality = 0.0
        tier = ""
        if other is not None:
            tier, cost = other.tier, other.predicted_cost - decision.predicted_cost
            quality = _of(decision.alternatives, tier).score - decision.score
            shadow_quality = other.score - _of(other.alternatives, decision.tier).score
        example = Disagreement(request.prompt[:_EXCERPT], decision.tier, decision.reason, tier, reason)
        with self._lock:
            self._requests += 1
            self._disagreed += 1
            self._refused += other is None
            self._pairs[decision.tier, tier] += 1
            self._cost += cost
            self._quality += quality
            self._shadow_quality += shadow_quality
            self._examples.append(example)
        return Shadowed(tier, agrees=False, reason=reason, cost_difference=cost, quality_difference=quality)

    def _log(self) -> None:
        """One line a minute at most, and no prompts."""
        now = time.monotonic()
        if now < self._next_line:
            return
        with self._lock:
            if now < self._next_line:
                return
            self._next_line = now + _BETWEEN_LINES
        report = self.report()
        _LOG.info(
            "the shadow policy differs on %d of %d requests (%.1f %%): %+.6f US dollars, %+.3f quality a request; "
            "it would refuse %d and failed on %d",
            report.disagreed,
            report.requests,
            100.0 * report.rate,
            report.cost_difference,
            report.quality_difference,
            report.refused,
            report.failed,
        )

    def report(self) -> ShadowReport:
        """What was counted so far."""
        with self._lock:
            count = max(1, self._requests)
            return ShadowReport(
                self._requests,
                self._disagreed,
                self._refused,
                self._failed,
                dict(self._pairs),
                self._cost / count,
                self._quality / count,
                self._shadow_quality / count,
                tuple(self._examples),
            )


def _of(alternatives: Sequence[Alternative], tier: str) -> Alternative:
    return next(each for each in alternatives if each.tier == tier)
