"""What the screens print, for records as the player makes them."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from nearhit._types import Span, Usage
from nearhit.demo import screens
from nearhit.demo.record import Record, Refusal
from nearhit.demo.script import Request
from nearhit.demo.summary import Micro, summarise

REQUEST = Request("How do I turn off\ntwo-factor authentication?", "2fa-off", level="easy")
SPANS = (Span("tokenise", 0.00001, 0.0001), Span("embed", 0.0002, 0.004), Span("decode", 0.1, 0.9))
MISS = Record(
    2,
    REQUEST,
    "miss",
    1.0,
    answerable=False,
    tier="small",
    ttft=0.1,
    usage=Usage(12, 24),
    refusal=Refusal("How do I turn on two-factor authentication?", 0.962, "polarity: on against off"),
    spans=SPANS,
)
FALSE = Record(3, REQUEST, "near", 0.0042, 0.913, source=1, source_class="2fa-on", answerable=False, spans=SPANS[:2])


def printed(renderable: object, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(renderable)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_miss_shows_tier_time_and_the_refused_candidate() -> None:
    first, second = printed(screens.line(MISS, width=100)).splitlines()
    assert first.split()[:5] == ["2", "miss", "small", "1.00", "s"]
    assert "How do I turn off two-factor authentication?" in first
    assert "refused 0.962: polarity: on against off" in second
    assert "How do I turn on" in second


def test_false_hit_is_called_wrong() -> None:
    text = printed(screens.line(FALSE, width=100))
    assert "0.913" in text
    assert "✗" in text
    assert "wrong: this is the answer to request 1" in text


def test_earlier_turns_are_shown() -> None:
    turns = tuple({"role": role, "content": "And for Windows?"} for role in ("user", "assistant", "user"))
    assert "[2 earlier] And for Windows?" in printed(screens.line(Record(1, Request(turns), "miss", 1.0), width=100))


@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_lines_keep_to_the_width(width: int) -> None:
    record = Record(1, Request("long prompt " * 10_000), "miss", 1.0, refusal=Refusal("x" * 10_000, 0.9, "y" * 10_000))
    lines = str(screens.line(record, width=width)).splitlines()
    assert len(lines) == 2
    assert all(cell_len(line) <= width for line in lines)


def test_closing_screen_tells_everything() -> None:
    exact = Record(
        4, REQUEST, "exact", 0.000004, 1.0, 2, "2fa-off", answerable=True, saved_seconds=0.999996, saved_tokens=36
    )
    summary = summarise(
        [MISS, FALSE, exact], large="large", seconds=1.5, micro=Micro(9e-7, 3e-6, 4e-3, {"embed": 3.8e-3})
    )
    text = printed(screens.closing(summary))
    assert "2 of 3 requests (67%): 1 exact, 1 near" in text
    assert "1 of 2" in text
    assert "0 of 1 whose answer was there" in text
    assert "1.00 s and 36 tokens" in text
    assert "an exact hit 0.90 µs, a routing decision 3.00 µs, a near hit 4.00 ms" in text
    assert "tokenise 0.0%, embed 95.0%, search 0.0%, everything else 5.0%" in text
    for stage in ("tokenise", "embed", "decode"):
        assert stage in text


def test_closing_screen_of_unlabelled_prompts_claims_no_verdict() -> None:
    record = Record(1, Request("What is DNS?"), "near", 0.004, 0.95, 1)
    text = printed(screens.closing(summarise([record], large="large", seconds=1.0)))
    assert "false hits" not in text
    assert "routing" not in text
    assert "in a loop" not in text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0.00 µs"),
        (1.234e-6, "1.23 µs"),
        (0.0000456, "45.6 µs"),
        (0.000789, "789 µs"),
        (0.00321, "3.21 ms"),
        (0.9999, "1.00 s"),
        (61.5, "61.5 s"),
        (1234.0, "1234 s"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert screens.duration(seconds) == text


@given(st.floats(0, 1), st.floats(0, 1), st.integers(1, 80))
def test_bars_stay_inside_and_show_at_least_a_sliver(start: float, length: float, width: int) -> None:
    bar = screens.bar(start, min(length, 1.0 - start), 1.0, width=width)
    assert 1 <= len(bar) <= width
    assert bar.strip()
    assert bar.rstrip() == bar


def test_bar_of_nothing_is_empty() -> None:
    assert screens.bar(0.0, 0.0, 0.0) == ""


@given(st.text(), st.integers(1, 50))
def test_elided_text_is_one_printable_line(text: str, room: int) -> None:
    flat = screens.elide(text, room)
    assert cell_len(flat) <= room
    assert flat.isprintable()
