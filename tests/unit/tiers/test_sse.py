"""The event parser, against the standard's rules and every way of cutting the bytes."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearhit.tiers.sse import MAX_EVENT_BYTES, Event, SSEError, SSEParser


def parse(data: bytes, cuts: list[int] | None = None) -> list[Event]:
    parser = SSEParser()
    edges = [0, *sorted(cuts or []), len(data)]
    events = [event for a, b in pairwise(edges) for event in parser.feed(data[a:b])]
    return events + parser.finish()


@pytest.mark.parametrize(
    ("data", "events"),
    [
        (b"data: a\n\n", [Event("a")]),
        (b"data:a\n\ndata: b\n\n", [Event("a"), Event("b")]),
        (b"data:  two spaces\n\n", [Event(" two spaces")]),
        (b"data: a\ndata: b\n\n", [Event("a\nb")]),
        (b"data\n\n", [Event("")]),
        (b"event: error\ndata: x\n\n", [Event("x", "error")]),
        (b"event: lost\n\ndata: x\n\n", [Event("x")]),
        (b": comment\n\n:\n\ndata: x\n\n", [Event("x")]),
        (b"id: 1\nretry: 5\nunknown: y\ndata: x\n\n", [Event("x")]),
        (b"\xef\xbb\xbfdata: bom\n\n", [Event("bom")]),
        (b"data: x\r\n\r\n", [Event("x")]),
        (b"data: x\r\r", [Event("x")]),
        (b"data: a:b\n\n", [Event("a:b")]),
        ("data: a\u2028b\x85c\x0bd\n\n".encode(), [Event("a\u2028b\x85c\x0bd")]),
        (b"data: unfinished", [Event("unfinished")]),
        (b"\n\n\n", []),
        (b"", []),
    ],
)
def test_the_standards_cases(data, events):
    assert parse(data) == events


line = st.text(alphabet=st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=20)


@given(
    texts=st.lists(st.lists(line, min_size=1, max_size=3), max_size=5),
    end=st.sampled_from([b"\n", b"\r\n", b"\r"]),
    data=st.data(),
)
def test_no_cut_changes_the_events(texts, end, data):
    stream = b"".join(
        b"".join(b"data: " + part.encode() + end for part in parts) + b": keep alive" + end + end for parts in texts
    )
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=12))
    assert parse(stream, cuts) == [Event("\n".join(parts)) for parts in texts]


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=5))
def test_any_bytes_are_events_or_a_typed_error(data, cuts):
    try:
        whole = parse(data)
    except SSEError:
        with pytest.raises(SSEError):
            parse(data, [c for c in cuts if c <= len(data)])
        return
    assert parse(data, [c for c in cuts if c <= len(data)]) == whole


def test_an_event_comes_with_its_last_byte():
    parser = SSEParser()
    assert parser.feed(b"data: x\r") == []
    assert parser.feed(b"\r") == [Event("x")]
    parser = SSEParser()
    assert parser.feed(b"data: x\r\n\r") == [Event("x")]
    assert parser.feed(b"\ndata: y\n\n") == [Event("y")]


def test_an_endless_event_is_refused():
    parser = SSEParser()
    for _ in range(MAX_EVENT_BYTES // (1 << 20)):
        parser.feed(b"x" * (1 << 20))
    with pytest.raises(SSEError, match="longer"):
        parser.feed(b"x")
