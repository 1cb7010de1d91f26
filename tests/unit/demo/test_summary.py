"""Verdicts and sums, against values worked out by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearhit._types import Span, Usage
from nearhit.demo.record import Record
from nearhit.demo.script import Request
from nearhit.demo.summary import anatomy, quantiles, summarise

EASY = Request("What is DNS?", "dns", level="easy")
HARD = Request("Prove it.", "proof", level="hard")
RECORDS = [
    Record(1, EASY, "miss", 0.5, answerable=False, tier="small", ttft=0.1, usage=Usage(10, 20)),
    Record(2, HARD, "miss", 2.0, answerable=False, tier="large", ttft=0.4, usage=Usage(5, 20)),
    Record(3, EASY, "exact", 0.001, 1.0, 1, "dns", answerable=True, saved_seconds=0.499, saved_tokens=30),
    Record(4, HARD, "near", 0.004, 0.95, 1, "dns", answerable=True, saved_seconds=0.496, saved_tokens=30),
    Record(5, EASY, "miss", 0.7, answerable=True, tier="large", ttft=0.3, usage=Usage(10, 10)),
    Record(6, Request("unlabelled"), "near", 0.005, 0.95, 5),
]


def test_verdicts() -> None:
    assert [record.verdict for record in RECORDS] == ["right", "right", "right", "false hit", "missed hit", None]


def test_summary_adds_up() -> None:
    summary = summarise(RECORDS, large="large", seconds=3.21)
    assert (summary.requests, summary.exact, summary.near, summary.misses, summary.hits) == (6, 1, 2, 3, 3)
    assert (summary.judged, summary.answerable, summary.false_hits, summary.missed_hits) == (5, 3, 1, 1)
    assert (summary.hard, summary.hard_to_large, summary.easy, summary.easy_to_small) == (1, 1, 2, 1)
    assert (summary.saved_tokens, summary.spent_tokens) == (60, 75)
    assert summary.saved_seconds == pytest.approx(0.995)
    assert [row.label for row in summary.latencies] == ["exact hit", "near hit", "small tier", "large tier"]
    assert summary.to_json()["hit_rate"] == 0.5


def test_nothing_played_sums_to_nothing() -> None:
    summary = summarise([], large="large", seconds=0.0)
    assert summary.requests == 0
    assert summary.latencies == ()
    assert summary.to_json()["hit_rate"] is None


@given(st.lists(st.floats(0, 1e6), min_size=1))
def test_quantiles_are_times_that_occurred(times: list[float]) -> None:
    row = quantiles("any", times)
    assert {row.p50, row.p95, row.p99} <= set(times)
    assert row.p50 <= row.p95 <= row.p99 <= max(times)
    assert sum(time <= row.p50 for time in times) * 2 >= len(times)
    assert sum(time < row.p50 for time in times) * 2 <= len(times)


def test_anatomy_takes_medians_and_leaves_rare_stages_out() -> None:
    def record(embed: float, *more: Span) -> Record:
        return Record(1, EASY, "near", embed + 1.0, spans=(Span("embed", 0.5, embed), *more))

    result = anatomy("near hit", [record(1.0), record(3.0, Span("retry", 9.0, 1.0)), record(2.0)])
    assert (result.total, result.rest) == (3.0, 1.0)
    assert [(stage.name, stage.start, stage.seconds, stage.n) for stage in result.stages] == [("embed", 0.5, 2.0, 3)]


def test_stage_that_occurs_twice_counts_once_with_both_durations() -> None:
    spans = (Span("connect", 1.0, 0.25), Span("connect", 4.0, 0.5))
    (stage,) = anatomy("miss", [Record(1, EASY, "miss", 5.0, spans=spans)]).stages
    assert (stage.start, stage.seconds) == (1.0, 0.75)


def test_the_rest_counts_overlapping_stages_once() -> None:
    spans = (Span("ttft", 1.0, 2.0), Span("ttfb", 1.0, 1.5), Span("decode", 3.0, 1.0))
    assert anatomy("miss", [Record(1, EASY, "miss", 5.0, spans=spans)]).rest == 2.0
