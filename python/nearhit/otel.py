"""Traces as OpenTelemetry spans and metrics, under the names of its conventions for generative AI.

Needs `pip install "nearhit[otel]"`; nothing is sent anywhere unless the application has configured an exporter.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from nearhit import _core
from nearhit._errors import MissingDependencyError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import Span as OtelSpan
    from opentelemetry.trace import TracerProvider

    from nearhit._types import Span, Usage
    from nearhit.trace import Attempt, Trace

# Advised by the conventions, so that histograms of different libraries can be added up.
_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_TOKENS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)
# What nearhit takes itself lies far below a model's times.
_OVERHEAD = (1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1)


class OpenTelemetry:
    """Exports each request of a router: `Router(tiers, on_trace=OpenTelemetry())`.

    A request becomes one span `chat` with a child for each stage (`nearhit.embed`, `nearhit.decide`...) and, of kind
    CLIENT, for each call of a tier, retries, hedges and cancelled ones included, with their own stages below. They
    carry `gen_ai.*` attributes, and `nearhit.*` ones for what the conventions do not name: outcome, reason, similarity,
    overhead, cost. Texts of prompts and answers are never exported.

    Metrics: `gen_ai.client.operation.duration`, `gen_ai.client.operation.time_to_first_chunk` and
    `gen_ai.client.token.usage` by call of a tier; `nearhit.request.duration`, `nearhit.request.overhead` (the duration
    without waiting for tiers and for the caller) and `nearhit.request.cost` by request.

    Args:
        tracer_provider: Where spans go; the application's own by default.
        meter_provider: Where metrics go; the application's own by default.

    Raises:
        MissingDependencyError: OpenTelemetry's API is not installed.

    Example:
        >>> from nearhit import FunctionTier, Router
        >>> from nearhit.otel import OpenTelemetry
        >>> router = Router([FunctionTier("echo", lambda messages: "Paris.")], on_trace=OpenTelemetry())
        >>> router.complete("What is the capital of France?").text
        'Paris.'
    """

    def __init__(
        self, *, tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None
    ) -> None:
        try:
            from opentelemetry import metrics, trace  # noqa: PLC0415 - an optional dependency
        except ImportError as error:
            raise MissingDependencyError(
                'exporting traces needs OpenTelemetry\'s API: pip install "nearhit[otel]"'
            ) from error
        self._api = trace
        self._tracer = trace.get_tracer("nearhit", _core.__version__, tracer_provider)
        meter = metrics.get_meter("nearhit", _core.__version__, meter_provider)

        def histogram(name: str, unit: str, bounds: tuple[float, ...], words: str) -> Any:
            return meter.create_histogram(name, unit, words, explicit_bucket_boundaries_advisory=bounds)

        self._duration = histogram("gen_ai.client.operation.duration", "s", _SECONDS, "Duration of a call of a model.")
        self._first = histogram(
            "gen_ai.client.operation.time_to_first_chunk", "s", _SECONDS, "Time to the first content of a call."
        )
        self._tokens = histogram("gen_ai.client.token.usage", "{token}", _TOKENS, "Tokens of a call.")
        self._request = histogram("nearhit.request.duration", "s", _SECONDS, "Duration of a request.")
        self._overhead = histogram("nearhit.request.overhead", "s", _OVERHEAD, "What nearhit itself took of it.")
        self._cost = meter.create_counter("nearhit.request.cost", "{USD}", "What requests cost.")

    def __call__(self, trace: Trace) -> None:
        """Exports the trace of a request that has ended."""
        zero = time.time_ns() - int(trace.elapsed * 1e9)
        root = self._tracer.start_span("chat", start_time=zero, attributes=_of_request(trace))
        below = self._api.set_span_in_context(root)
        calls: list[tuple[Attempt, OtelSpan]] = []
        for attempt in trace.attempts:
            kind = self._api.SpanKind.CLIENT
            name, start = f"chat {attempt.model}".strip(), zero + int(attempt.start * 1e9)
            calls.append((attempt, self._tracer.start_span(name, below, kind, _of_attempt(attempt), start_time=start)))
        for stage in trace.spans:
            parent = next((span for attempt, span in calls if _belongs(stage, attempt)), root)
            start = zero + int(stage.start * 1e9)
            attributes = {f"nearhit.{key}": _plain(value) for key, value in stage.attributes.items()}
            self._tracer.start_span(
                f"nearhit.{stage.name}", self._api.set_span_in_context(parent), attributes=attributes, start_time=start
            ).end(start + int(stage.duration * 1e9))
        for attempt, span in calls:
            self._end(span, attempt.error, zero + int((attempt.start + attempt.duration) * 1e9))
            self._measure(attempt)
        self._end(root, trace.error, zero + int(trace.total * 1e9))
        labels = {"nearhit.outcome": trace.outcome, "nearhit.tier": trace.tier}
        self._request.record(trace.total, labels)
        self._overhead.record(trace.overhead, labels)
        if trace.cost:
            self._cost.add(trace.cost, labels)

    def _end(self, span: OtelSpan, error: str | None, at: int) -> None:
        if error is not None:
            kind, _, words = error.partition(": ")
            span.set_attribute("error.type", kind)
            span.set_status(self._api.Status(self._api.StatusCode.ERROR, words or kind))
        span.end(at)

    def _measure(self, attempt: Attempt) -> None:
        labels = {**_labels(attempt), "nearhit.tier": attempt.tier}
        if attempt.error is not None:
            labels["error.type"] = attempt.error.partition(":")[0]
        self._duration.record(attempt.duration, labels)
        if attempt.ttft is not None:
            self._first.record(attempt.ttft, labels)
        if attempt.usage is not None and not attempt.estimated:
            self._tokens.record(attempt.usage.prompt_tokens, {**labels, "gen_ai.token.type": "input"})
            self._tokens.record(attempt.usage.completion_tokens, {**labels, "gen_ai.token.type": "output"})


def _labels(attempt: Attempt) -> dict[str, str | int]:
    found: dict[str, str | int] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": attempt.provider,
        "gen_ai.request.model": attempt.model,
    }
    if attempt.address is not None and attempt.port is not None:
        found |= {"server.address": attempt.address, "server.port": attempt.port}
    return found


def _of_request(trace: Trace) -> Mapping[str, Any]:
    found: dict[str, Any] = {
        "gen_ai.operation.name": "chat",
        "nearhit.outcome": trace.outcome,
        "nearhit.tier": trace.tier,
        "nearhit.reason": trace.reason,
        "nearhit.similarity": trace.similarity,
        "nearhit.shadow.tier": None if trace.shadow is None else trace.shadow.tier,
        "nearhit.shadow.agrees": None if trace.shadow is None else trace.shadow.agrees,
        "nearhit.overhead": trace.overhead,
        "nearhit.waited": trace.waited,
        "nearhit.cost": trace.cost,
        "gen_ai.response.finish_reasons": None if trace.finish_reason is None else [trace.finish_reason],
        **_of_usage(trace.usage if trace.attempts else None),
    }
    return {key: value for key, value in found.items() if value is not None}


def _of_attempt(attempt: Attempt) -> Mapping[str, Any]:
    found: dict[str, Any] = {
        **_labels(attempt),
        "gen_ai.response.time_to_first_chunk": attempt.ttft,
        "nearhit.tier": attempt.tier,
        "nearhit.replica": attempt.replica,
        "nearhit.why": attempt.why,
        "nearhit.outcome": attempt.outcome,
        "nearhit.confidence": attempt.confidence,
        "nearhit.cost": attempt.cost,
        "nearhit.estimated": attempt.estimated or None,
        **_of_usage(attempt.usage),
    }
    return {key: value for key, value in found.items() if value is not None}


def _of_usage(usage: Usage | None) -> dict[str, int]:
    if usage is None:
        return {}
    found = {
        "gen_ai.usage.input_tokens": usage.prompt_tokens,
        "gen_ai.usage.output_tokens": usage.completion_tokens,
    }
    if usage.cached_prompt_tokens:
        found["gen_ai.usage.cache_read.input_tokens"] = usage.cached_prompt_tokens
    if usage.reasoning_tokens:
        found["gen_ai.usage.reasoning.output_tokens"] = usage.reasoning_tokens
    return found


def _belongs(stage: Span, attempt: Attempt) -> bool:
    """Whether a stage is one of a call's: they name their tier and lie within its time."""
    end = attempt.start + attempt.duration
    named = stage.attributes.get("tier") == attempt.tier or stage.name == "replica"
    return named and stage.name != "decide" and attempt.start <= stage.start <= end


def _plain(value: object) -> str | bool | int | float:
    return value if isinstance(value, str | bool | int | float) else str(value)
