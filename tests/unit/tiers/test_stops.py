"""Stop strings: the same text comes through however the tokens are cut."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nearhit.tiers.stops import StopMatcher


def run(pieces, stops):
    matcher = StopMatcher(stops)
    shown = "".join(matcher.feed(piece) for piece in pieces)
    return (shown if matcher.stopped else shown + matcher.finish()), matcher.stopped


@given(
    pieces=st.lists(st.text(alphabet="ab", max_size=4), max_size=12),
    stops=st.lists(st.text(alphabet="ab", min_size=1, max_size=4), max_size=3),
)
def test_text_ends_before_a_stop_string_and_never_shows_one(pieces, stops):
    text = "".join(pieces)
    shown, stopped = run(pieces, stops)
    assert stopped == any(stop in text for stop in stops)
    assert not any(stop in shown for stop in stops)
    if stopped:
        assert text.startswith(shown)
        assert any(text.startswith(stop, len(shown)) for stop in stops)
    else:
        assert shown == text


@given(pieces=st.lists(st.text(alphabet="xyz", max_size=4), max_size=12))
def test_nothing_is_held_back_without_need(pieces):
    matcher = StopMatcher(["ab"])
    assert [matcher.feed(piece) for piece in pieces] == pieces


def test_nothing_comes_after_a_stop():
    matcher = StopMatcher(["."])
    assert [matcher.feed(piece) for piece in ("a.b", "c")] == ["a", ""]
    assert matcher.finish() == ""
