"""The record of a request."""

from __future__ import annotations

import json
import time

from nearhit import Trace
from nearhit._types import Usage


def _recorded() -> Trace:
    trace = Trace()
    with trace.span("decide") as attributes:
        attributes["tier"] = "small"
    attempt = trace.attempt("small", "chosen")
    attempt.usage, attempt.cost = Usage(7, 3), 0.25
    trace.add("ttft", 0.1, 0.5, tier="small")
    trace.waited = 0.0
    return trace


def test_time_stops_at_the_end_and_excludes_waiting() -> None:
    trace = Trace()
    time.sleep(0.002)
    trace.waited = 0.001
    trace.finish("miss")
    total = trace.total
    time.sleep(0.002)
    trace.finish("error")
    assert trace.total == total >= 0.002
    assert trace.outcome == "miss"
    assert trace.overhead == total - 0.001


def test_attempts_add_up() -> None:
    trace = _recorded()
    trace.attempt("large", "fallback").usage = Usage(7, 10)
    assert trace.usage == Usage(14, 13)
    assert trace.cost == 0.25
    assert Trace().cost == 0
    unpriced = Trace()
    unpriced.attempt("small", "chosen")
    assert unpriced.cost is None


def test_dict_is_json_and_complete() -> None:
    record = json.loads(json.dumps(_recorded().to_dict()))
    assert [span["name"] for span in record["spans"]] == ["decide", "ttft"]
    assert record["spans"][0]["tier"] == "small"
    assert record["attempts"][0]["usage"]["prompt_tokens"] == 7


def test_waterfall_fits_its_width_and_shows_every_stage() -> None:
    trace = _recorded()
    trace.tier = "small"
    trace.finish("miss")
    for width in (0, 40, 120):
        lines = trace.waterfall(width).splitlines()
        assert len(lines) == 3
        assert all(len(line) <= max(40, width) for line in lines[:-1])
    assert lines[0].startswith("decide small")
    assert "miss from small" in lines[-1]
    assert Trace().waterfall()
