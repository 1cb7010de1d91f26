"""`Router` and `AsyncRouter`: two faces of one pipeline."""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING, Any, Never, Self

from nearhit._config import refuse_unknown
from nearhit._core import CallBudget, RouterCore
from nearhit._errors import OptionError
from nearhit._portal import portal
from nearhit.router.ask import Means
from nearhit.router.caching import SHIPPED_EMBEDDER, CacheSide
from nearhit.router.calibration import Calibration, calibrate
from nearhit.router.cascade import Cascade
from nearhit.router.heads import RoutingHead
from nearhit.router.limits import Limits, check_facts
from nearhit.router.pipeline import Pipeline
from nearhit.router.profile import profiles_of
from nearhit.router.rules import RuleBook, SemanticRule
from nearhit.router.shadow import Shadow, ShadowReport, Watch
from nearhit.router.stream import AsyncRouterStream, RouterStream
from nearhit.tiers.options import check_kind, check_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from nearhit._core import RouteDecision, RouteRequest
    from nearhit._types import Completion, Embedder, Message, Prompt
    from nearhit.router.profile import Answerer, TierProfile
    from nearhit.router.rules import Rule
    from nearhit.trace import Trace


class _Base:
    """What both faces share: options, the decision, and the making of a pipeline."""

    def __init__(
        self,
        tiers: list[Any] | tuple[Any, ...],
        *,
        cache: Any = None,
        strategy: str = "complexity",
        deadline: float | None = None,
        max_cost: float | None = None,
        cost_weight: float = 0.3,
        profiles: Mapping[str, TierProfile] | None = None,
        head: RoutingHead | str | PathLike[str] | None = None,
        rules: Sequence[Rule] = (),
        embedder: Embedder | None = None,
        shadow: Shadow | None = None,
        breaker_failures: int = 5,
        breaker_cooldown: float = 5.0,
        retries: int = 2,
        retry_share: float = 0.2,
        hedge_share: float = 0.0,
        cascade: Cascade | None = None,
        on_trace: Callable[[Trace], object] | None = None,
        **unknown: Never,
    ) -> None:
        refuse_unknown(type(self), unknown)
        if not isinstance(tiers, list | tuple):
            raise OptionError(f"tiers={tiers!r} is not valid: expected a list of tiers")
        if cache is not None and not (hasattr(cache, "lookup") and hasattr(cache, "store")):
            raise OptionError(f"cache={cache!r} is not valid: expected a nearhit.Cache or None")
        self._tiers: tuple[Answerer, ...] = tuple(tiers)
        self._limits = Limits(deadline=deadline, max_cost=max_cost)
        complete = profiles_of(self._tiers, profiles)
        names = [tier.name for tier in self._tiers]
        fitted = RoutingHead.load(head) if isinstance(head, str | PathLike) else head
        check_kind("head", fitted, RoutingHead)
        heads, embedded = (None, None) if fitted is None else fitted.arranged(names)
        embedder = getattr(cache, "embedder", None) if embedder is None else embedder
        book = RuleBook(rules, embedder)
        self._core = RouterCore(
            complete,
            strategy=str(strategy),
            cost_weight=cost_weight,
            failures=breaker_failures,
            cooldown=breaker_cooldown,
            heads=heads,
            embedded_heads=embedded,
            rules=book.fields,
        )
        self._book = book if book.fields else None
        self._strategy = str(strategy)
        self._embedder = embedder
        self._strongest = max(complete, key=lambda profile: profile.quality or 0.0).name
        check_kind("cascade", cascade, Cascade)
        check_kind("shadow", shadow, Shadow)
        check_whole("retries", retries, least=0)
        if on_trace is not None and not callable(on_trace):
            raise OptionError(f"on_trace={on_trace!r} is not valid: expected a function of a trace, or None")
        self._on_trace = on_trace
        self._means = Means(
            core=self._core,
            tiers=self._tiers,
            budget=CallBudget(retry_share=retry_share, hedge_share=hedge_share),
            retries=retries,
            hedge=hedge_share > 0,
            cascade=cascade,
            book=self._book,
            head_embedder=SHIPPED_EMBEDDER if fitted is None else fitted.embedder,
            shadow=None if shadow is None else Watch(shadow, self._core, names, embedder),
        )
        self._side = None if cache is None else CacheSide(cache)

    @classmethod
    def from_config(cls, path: str | PathLike[str] | None = None, **options: Any) -> Self:
        """A router as `nearhit.toml` and the `NEARHIT_*` variables describe it; see `nearhit.config`.

        Args:
            path: The file; None for NEARHIT_CONFIG, else `nearhit.toml` in the working folder, if it is there.
            **options: Options that win over both; `tiers` in place of the configured ones, `cache` for a cache.

        Raises:
            OptionError: A value that is not valid, or an option that is unknown.
        """
        from nearhit import config  # noqa: PLC0415 - nobody else needs it

        found = config.load(path)
        given = {"tiers": None, **found.router_options(without=options), **options}
        semantic = any(isinstance(rule, SemanticRule) for rule in given.get("rules", ()))
        if semantic and given.get("cache") is None and "embedder" not in given:
            given["embedder"] = found.make_embedder()
        tiers = given.pop("tiers")
        return cls(found.make_tiers() if tiers is None else tiers, **given)

    @classmethod
    def sharing(cls, router: _Base) -> Self:
        """A face of this class on an existing router: both have the same tiers, in the same state."""
        face = cls.__new__(cls)
        face.__dict__.update(router.__dict__)
        return face

    @property
    def tiers(self) -> tuple[Answerer, ...]:
        """The tiers, in the order given."""
        return self._tiers

    def decide(
        self,
        prompt: Prompt,
        *,
        deadline: float | None = None,
        max_cost: float | None = None,
        max_tokens: int | None = None,
        tools: bool = False,
        vector: NDArray[np.float32] | None = None,
        tags: Sequence[str] = (),
        about: Mapping[str, Any] | None = None,
    ) -> RouteDecision:
        """Chooses a tier; sends nothing and changes nothing.

        Takes microseconds; with a `SemanticRule` and without `vector` the prompt is embedded, which takes milliseconds.

        Args:
            prompt: A prompt, or messages in the OpenAI form.
            deadline: Seconds for the whole answer; the router's own by default.
            max_cost: US dollars that it may cost; the router's own by default.
            max_tokens: Longest answer asked for, in tokens.
            tools: Whether tools are given.
            vector: The prompt's embedding, float32 of shape [dim], where one is at hand.
            tags: What a `MetadataRule` asks for.
            about: Facts by name for its `fields`, among them any of the request's parameters.

        Returns:
            The decision: tier, score (the probability that this tier answers well), reason, alternatives, predictions,
            and the rules that hold.

        Raises:
            InputError: A prompt that cannot be read, or a limit without a meaning.
            EmbeddingError: The prompt has to be embedded, and the embedder failed.
            NoTierError: No tier can take the request.
            DeadlineError: No tier has ever been fast enough.
        """
        request: Prompt | RouteRequest = prompt
        held = None
        if self._book is not None:
            request = self._core.read(prompt)
            about = {} if about is None else about
            check_facts(tags, about)
            embedded = self._book.embed(request) if vector is None else None
            meant = vector if embedded is None else embedded.vector
            params = {"tools": tools}
            held = self._book.held(self._core, request, tags=tags, about=about, params=params, vector=meant)
            if embedded is not None:
                vector = self._means.for_head(embedded, self._book)
        return self._core.decide(
            request,
            deadline=self._limits.deadline if deadline is None else deadline,
            max_cost=self._limits.max_cost if max_cost is None else max_cost,
            max_tokens=max_tokens,
            tools=tools,
            vector=vector,
            held=held,
        )

    def state(self) -> dict[str, dict[str, float]]:
        """Returns, by tier: calls, failures, calls under way, and seconds until a failing tier is tried again."""
        names = ("calls", "failures", "in_flight", "down_for")
        return {
            tier.name: dict(zip(names, self._core.state(index), strict=True)) for index, tier in enumerate(self._tiers)
        }

    def calibrate(
        self,
        prompts: Iterable[Prompt],
        *,
        strong_share: float | None = None,
        cost: float | None = None,
        quality: float | None = None,
        strong: str | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Calibration:
        """Finds the `cost_weight` that meets a target on prompts of your own; changes nothing.

        What a cost weight comes to on the prompts is computed exactly, at every value where a prompt changes its tier,
        under the router's rules and without deadline or cost limit; a tier that is down counts as up. Predictions are
        the router's: costs follow the answer lengths that it has measured so far. Where the head would see embeddings
        (the router has a cache whose embedder it was fitted on, or a semantic rule), the prompts are embedded.

        Args:
            prompts: Prompts, or messages in the OpenAI form: a sample of what will be asked.
            strong_share: Share of prompts for the strong tier; the nearest that can be met is.
            cost: US dollars a prompt; the most quality that costs no more.
            quality: Mean probability of a good answer; the least cost that has no less.
            strong: Name of the tier that `strong_share` is about; by default the one of the highest quality. Calls of
                tiers as dear count too, so that the share never rises with the cost weight.
            progress: Told (done, total) while prompts are embedded.

        Raises:
            OptionError: Not exactly one target, or one that these prompts do not attain: the message has the range; no
                prompts; another strategy than "complexity", to which the cost weight means nothing.
            InputError: A prompt that cannot be read.
            NoTierError: A prompt that no tier can take.

        Example:
            >>> from nearhit import FunctionTier, Router
            >>> small, large = FunctionTier("small", lambda messages: "a"), FunctionTier("large", lambda messages: "b")
            >>> prompts = ["Hi!", "What is 2 + 2?", "Prove that there are infinitely many primes.", "Name a colour."]
            >>> found = Router([small, large]).calibrate(prompts, strong_share=0.25)
            >>> found.strong_share, Router([small, large], cost_weight=found.cost_weight).decide(prompts[2]).tier
            (0.25, 'large')
        """
        if self._strategy != "complexity":
            raise OptionError(f'strategy={self._strategy!r} has no cost weight: calibrate a router of "complexity"')
        means, book, embedder = self._means, self._book, self._embedder
        semantic = book is not None and book.embedder is not None
        known = embedder is not None and bool(means.head_embedder) and embedder.id.startswith(means.head_embedder)
        for_head = known and (semantic or self._side is not None)
        return calibrate(
            self._core,
            [tier.name for tier in self._tiers],
            prompts,
            strong=self._strongest if strong is None else strong,
            targets={"strong_share": strong_share, "cost": cost, "quality": quality},
            book=book,
            embedder=embedder if semantic or for_head else None,
            for_head=for_head,
            advance=progress,
        )

    def shadow_report(self) -> ShadowReport | None:
        """How the shadow policy compares with the router's own on the requests so far; None without a shadow."""
        return None if self._means.shadow is None else self._means.shadow.report()

    def _pipeline(
        self,
        messages: Prompt,
        *,
        deadline: float | None = None,
        max_cost: float | None = None,
        scope: Any = None,
        cache: bool = True,
        priority: int = 0,
        session: str | None = None,
        tags: Sequence[str] = (),
        about: Mapping[str, Any] | None = None,
        **params: Any,
    ) -> Pipeline:
        request = self._core.read(messages)
        limits = Limits(
            deadline=self._limits.deadline if deadline is None else deadline,
            max_cost=self._limits.max_cost if max_cost is None else max_cost,
            scope=scope,
            cache=cache,
            priority=priority,
            session=session,
            tags=tags,
            about={} if about is None else about,
        )
        listed: list[Message] = [{"role": "user", "content": messages}] if isinstance(messages, str) else list(messages)
        return Pipeline(
            self._means,
            self._side,
            request=request,
            messages=listed,
            params=params,
            limits=limits,
            on_trace=self._on_trace,
        )


class Router(_Base):
    """Answers from the cache where it can, else from the tier that is worth it.

    Args:
        tiers: What can answer, cheapest and weakest first where they state neither quality nor price.
        cache: A `nearhit.Cache`; None for none. Its failures never fail a request.
        strategy: "complexity" (quality against cost, by the prompt), "best", "cheapest" or "fastest".
        deadline: Seconds for each whole answer, fallbacks included; None for no limit.
        max_cost: US dollars that a request may cost by prediction; None for no limit.
        cost_weight: Quality that the dearest tier must add to be worth its price (lambda in quality - lambda * cost,
            cost relative to the dearest tier).
        profiles: What to assume of tiers, by name, in place of what they state themselves.
        head: A `RoutingHead` fitted on outcomes of these tiers, or its file; None for the shipped one.
        rules: `KeywordRule`, `RegexRule`, `MetadataRule` and `SemanticRule` of `nearhit.router`, the first taking
            precedence: which tiers a request may go to, whatever its difficulty.
        embedder: Embeds for semantic rules; the cache's by default.
        shadow: A `nearhit.router.Shadow`: a second policy that decides beside the first on every request, sends
            nothing, and is compared with it by `shadow_report()`.
        breaker_failures: Failures in a row after which a tier is set aside.
        breaker_cooldown: Seconds until one probe; doubles with each failed probe.
        retries: Times that one request asks the same tier once more, at most. A failed tier is asked again only
            where no other is at least as good: upwards the router falls back at once.
        retry_share: Retries that may be made, as a share of all requests; beyond it, failures are passed on at once.
        hedge_share: Hedges that may be made, as a share of all requests; 0 for none. A call without content after its
            tier's p95 of the last minutes for prompts of about this length (from 20 calls on) gets a second one beside
            it, of another replica or the next best tier; the first content wins, the other call is cancelled, and the
            trace has both.
        cascade: A `Cascade`: when an answer is not good enough and a better tier is asked; None to pass on all.
        on_trace: Called with each request's trace at its end, for example `nearhit.otel.OpenTelemetry()`.

    Raises:
        OptionError: No tiers, a name twice, an unknown strategy, a value out of its range; a rule that names a tier
            which is not there, or a pattern that is not valid.
        EmbeddingError: The utterances of a semantic rule cannot be embedded.

    Example:
        >>> from nearhit import FunctionTier, Router
        >>> small = FunctionTier("small", lambda messages: "Paris.")
        >>> large = FunctionTier("large", lambda messages: "Let us see...")
        >>> router = Router([small, large])
        >>> router.complete("What is the capital of France?").text
        'Paris.'
    """

    def complete(self, messages: Prompt, **params: Any) -> Completion:
        """Returns the whole answer, with its `.trace`.

        Args:
            messages: A prompt, or messages in the OpenAI form.
            **params: `deadline`, `max_cost`, `scope` (the caller's scope in the cache), `cache=False`, `priority` (a
                whole number: higher ones leave a tier's queue first, those below 0 are neither retried nor hedged),
                `session` (a text: its requests go to the same replica), `tags` and `about` (what a `MetadataRule` asks
                for) are the router's; all others go to the tier: temperature, max_tokens, tools...

        Raises:
            InputError: Messages or parameters that cannot be read.
            NoTierError: No tier can take the request.
            DeadlineError: None answered in time.
            TierError: The tiers tried have failed; it is the first one's error.
        """
        pipeline = self._pipeline(messages, **params)
        return pipeline.from_cache() or portal().run(pipeline.run())

    def stream(self, messages: Prompt, **params: Any) -> RouterStream:
        """Returns the answer as an iterator of pieces with a `.trace`; arguments and errors as for `complete`."""
        return RouterStream(portal(), AsyncRouterStream(self._pipeline(messages, **params)))


class AsyncRouter(_Base):
    """`Router` for asynchronous callers; the same arguments and methods, `complete` awaitable, `decide` immediate.

    Example:
        >>> import asyncio
        >>> from nearhit import AsyncRouter, FunctionTier
        >>> router = AsyncRouter([FunctionTier("only", lambda messages: "Paris.")])
        >>> asyncio.run(router.complete("What is the capital of France?")).text
        'Paris.'
    """

    async def complete(self, messages: Prompt, **params: Any) -> Completion:
        """Returns the whole answer, with its `.trace`; arguments and errors as for `Router.complete`."""
        return await self._pipeline(messages, **params).run()

    def stream(self, messages: Prompt, **params: Any) -> AsyncRouterStream:
        """Returns the answer as an asynchronous iterator of pieces with a `.trace`."""
        return AsyncRouterStream(self._pipeline(messages, **params))
