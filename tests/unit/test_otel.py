"""Traces as OpenTelemetry spans and metrics, received by the real SDK."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.semconv._incubating.metrics import gen_ai_metrics
from opentelemetry.trace import SpanKind, StatusCode
from tests.support.chat_server import chats, refused_port
from tests.support.hashing_embedder import HashingEmbedder
from tests.support.http_server import Server

from nearhit import Cache, FunctionTier, OpenAITier, ReplicaTier, Router, TierConnectionError
from nearhit._types import Chunk, Usage
from nearhit.otel import OpenTelemetry
from nearhit.tiers import Price

PROMPT = "What is the capital of France?"


class Receiver:
    """An application's telemetry, kept in memory."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.telemetry = OpenTelemetry(
            tracer_provider=self.tracers, meter_provider=MeterProvider(metric_readers=[self.reader])
        )

    def spans(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if span.name == name]

    def points(self, name: str) -> list[Any]:
        data = self.reader.get_metrics_data()
        assert data is not None
        return [
            point
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]


async def speaks(messages: Any) -> Any:
    await asyncio.sleep(0.01)
    yield Chunk("Par")
    yield Chunk("is", finish_reason="stop", usage=Usage(9, 2))


async def gone(messages: Any) -> str:
    raise TierConnectionError("nobody listens")


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


def test_a_request_is_a_span_with_its_stages_and_calls_below(receiver: Receiver) -> None:
    small = FunctionTier("small", gone, model="m-small")
    large = FunctionTier("large", speaks, model="m-large", price=Price(prompt=1e-3, completion=1e-3))
    router = Router([small, large], on_trace=receiver.telemetry, cache=Cache(HashingEmbedder()), strategy="cheapest")
    completion = router.complete(PROMPT)
    (root,) = receiver.spans("chat")
    (failed,), (answered,) = receiver.spans("chat m-small"), receiver.spans("chat m-large")
    assert root.parent is None
    assert root.context is not None
    for call in (failed, answered):
        assert call.kind is SpanKind.CLIENT
        assert call.parent is not None
        assert call.parent.span_id == root.context.span_id
    assert failed.status.status_code is StatusCode.ERROR
    assert failed.attributes is not None
    assert failed.attributes["error.type"] == "TierConnectionError"
    assert answered.attributes is not None
    assert answered.attributes[gen_ai_attributes.GEN_AI_OPERATION_NAME] == "chat"
    assert answered.attributes[gen_ai_attributes.GEN_AI_PROVIDER_NAME] == "nearhit"
    assert answered.attributes[gen_ai_attributes.GEN_AI_REQUEST_MODEL] == "m-large"
    assert answered.attributes[gen_ai_attributes.GEN_AI_USAGE_INPUT_TOKENS] == 9
    assert answered.attributes[gen_ai_attributes.GEN_AI_USAGE_OUTPUT_TOKENS] == 2
    assert answered.attributes[gen_ai_attributes.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK] >= 0.01
    assert answered.attributes["nearhit.why"] == "fallback"
    assert root.attributes is not None
    assert root.attributes[gen_ai_attributes.GEN_AI_RESPONSE_FINISH_REASONS] == ("stop",)
    assert root.attributes["nearhit.overhead"] == completion.trace.overhead
    stages = {span.name for span in receiver.exporter.get_finished_spans()}
    assert {
        "nearhit.exact",
        "nearhit.embed",
        "nearhit.search",
        "nearhit.decide",
        "nearhit.ttft",
        "nearhit.store",
    } <= stages
    (decode,) = receiver.spans("nearhit.decode")
    assert decode.parent is not None
    assert answered.context is not None
    assert decode.parent.span_id == answered.context.span_id
    for span in receiver.exporter.get_finished_spans():
        assert span.start_time is not None
        assert span.end_time is not None
        assert root.start_time is not None
        assert root.end_time is not None
        assert root.start_time <= span.start_time <= span.end_time <= root.end_time + 1_000_000
    assert PROMPT not in str([span.attributes for span in receiver.exporter.get_finished_spans()])


def test_calls_carry_the_address_of_their_server(receiver: Receiver) -> None:
    with Server(chats()) as east, Server(chats()) as west:
        replicas = [
            OpenAITier(name, "m", base_url=server.url, api_key="k") for name, server in (("east", east), ("west", west))
        ]
        tiers = [OpenAITier("first", "m-first", base_url=f"http://127.0.0.1:{refused_port()}/v1", api_key="k")]
        router = Router([*tiers, ReplicaTier("second", replicas)], on_trace=receiver.telemetry, retries=0)
        completion = router.complete(PROMPT)
        for tier in router.tiers:
            tier.close()
        ports = {"east": int(east.url.split(":")[2].split("/")[0]), "west": int(west.url.split(":")[2].split("/")[0])}
    (answered,) = receiver.spans("chat m")
    assert answered.attributes is not None
    assert answered.attributes["server.address"] == "127.0.0.1"
    assert answered.attributes["server.port"] == ports[answered.attributes["nearhit.replica"]]
    (failed,) = receiver.spans("chat m-first")
    assert failed.attributes is not None
    assert failed.attributes["server.port"] not in ports.values()
    assert completion.trace.attempts[0].address == "127.0.0.1"
    durations = receiver.points(gen_ai_metrics.GEN_AI_CLIENT_OPERATION_DURATION)
    assert {point.attributes["server.port"] for point in durations} == {
        failed.attributes["server.port"],
        answered.attributes["server.port"],
    }
    assert OpenAITier("a", "m", base_url="https://[::1]/v1", api_key="k").address == ("::1", 443)
    assert FunctionTier("a", speaks).address is None


def test_it_lies_below_the_span_in_which_the_caller_asked(receiver: Receiver) -> None:
    router = Router([FunctionTier("only", speaks)], on_trace=receiver.telemetry)
    with receiver.tracers.get_tracer("app").start_as_current_span("request") as outer:
        router.complete(PROMPT)
        list(router.stream(PROMPT))
    parents = [span.parent.span_id for span in receiver.spans("chat") if span.parent is not None]
    assert parents == [outer.get_span_context().span_id] * 2


def test_metrics_have_the_conventions_names_and_count_what_happened(receiver: Receiver) -> None:
    tier = FunctionTier("only", speaks, model="m", price=Price(prompt=1e-3, completion=1e-3))
    router = Router([tier], on_trace=receiver.telemetry, cache=Cache())
    for _ in range(3):
        router.complete(PROMPT)
    (duration,) = receiver.points(gen_ai_metrics.GEN_AI_CLIENT_OPERATION_DURATION)
    assert duration.count == 1
    assert duration.sum >= 0.01
    (first,) = receiver.points(gen_ai_metrics.GEN_AI_CLIENT_OPERATION_TIME_TO_FIRST_CHUNK)
    assert first.attributes["gen_ai.request.model"] == "m"
    tokens = receiver.points(gen_ai_metrics.GEN_AI_CLIENT_TOKEN_USAGE)
    assert {point.attributes["gen_ai.token.type"]: point.sum for point in tokens} == {"input": 9, "output": 2}
    requests = receiver.points("nearhit.request.duration")
    assert {point.attributes["nearhit.outcome"]: point.count for point in requests} == {"miss": 1, "exact": 2}
    assert sum(point.count for point in receiver.points("nearhit.request.overhead")) == 3
    (cost,) = receiver.points("nearhit.request.cost")
    assert cost.value == pytest.approx(0.011)


def test_a_request_that_fails_is_an_error(receiver: Receiver) -> None:
    router = Router([FunctionTier("only", gone)], on_trace=receiver.telemetry, retries=0)
    with pytest.raises(TierConnectionError):
        router.complete(PROMPT)
    (root,) = receiver.spans("chat")
    assert root.status.status_code is StatusCode.ERROR
    assert root.attributes is not None
    assert root.attributes["error.type"] == "TierConnectionError"


def test_without_the_dependency_the_message_names_the_extra() -> None:
    code = "import sys; sys.modules['opentelemetry'] = None; import nearhit.otel; nearhit.otel.OpenTelemetry()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "MissingDependencyError" in done.stderr
    assert "nearhit[otel]" in done.stderr
