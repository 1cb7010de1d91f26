"""Recording, judging and replaying of whole answers, whatever the network does to their bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.chat_server import body, event, piece, pieces, response_body, response_events

from nearhit.answers import Answer, Recorder, bypass_reason, is_complete

words = st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8), min_size=1, max_size=6)


def record(data, *, cuts=(), ended=True, call="chat", **request):
    recorder = Recorder(call, request)
    for start, stop in zip((0, *cuts), (*cuts, len(data)), strict=True):
        recorder.feed(data[start:stop])
    return recorder.finish(ended=ended)


@given(words, st.data(), st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_a_stream_cut_anywhere_is_replayed_as_it_was(said, data, newline, usage):
    sent = b"".join(event(value, newline=newline) for value in pieces(said))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=5)))
    answer = record(sent, cuts=cuts)
    want = pieces(said, usage=usage)[:-1]
    assert answer.events(usage=usage) == want
    again = record(answer.sse(usage=usage))
    assert again.events(usage=False) == answer.events(usage=False)
    assert answer.body()["choices"][0]["message"]["content"] == "".join(said)
    assert answer.facts["usage"]["total_tokens"] == 10


@given(words, st.data())
def test_a_stream_that_breaks_off_is_no_answer(said, data):
    events = [event(value) for value in pieces(said)]
    stop = data.draw(st.integers(0, len(events) - 3))  # before the finish reason
    assert record(b"".join(events[:stop])) is None


def test_only_the_mark_tells_that_a_stream_which_was_left_is_whole():
    sent = b"".join(event(value) for value in pieces())
    assert record(sent, ended=False) is not None
    assert record(sent.replace(event("[DONE]"), b""), ended=False) is None
    assert record(sent.replace(event("[DONE]"), b"")) is not None


def test_a_whole_answer_taken_apart_and_put_together_again():
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    whole = body("Hello", finish="tool_calls", tool_calls=[call])
    sent = Answer("chat", whole).sse(usage=True)
    again = record(sent).body()
    assert again == whole


def test_what_cannot_be_had_is_none():
    assert Answer("responses", {"output": "x"}).sse() is None
    assert Answer("chat", {**body(), "usage": None}).sse(usage=True) is None
    for foreign in ("text", 3, None, b"text", b": nearhit responses 0 0\n\n"):
        answer = Answer("chat", foreign)
        assert not answer.gives(stream=True)
        assert answer.body() is answer.events() is answer.sse() is None


def test_streams_of_the_responses_api():
    answer = record(response_events(), call="responses")
    assert answer.body() == response_body()
    assert answer.sse().startswith(b"event: response.created\ndata: {")
    assert record(answer.sse(), call="responses").events() == answer.events()
    assert record(response_events(status="incomplete"), call="responses") is None


@pytest.mark.parametrize("stored", ["first", "last"])
def test_counts_that_come_with_content_are_kept_in_place(stored):
    events = [piece({"content": "x"}), piece({}, finish="stop")]
    events[0 if stored == "first" else 1]["usage"] = {"total_tokens": 3}
    answer = record(b"".join(map(event, events)))
    assert answer.events(usage=True) == answer.events(usage=False) == events


def test_what_may_be_asked_and_kept():
    assert bypass_reason("chat", {"messages": []}) is None
    assert "audio" in bypass_reason("chat", {"modalities": ["audio"]})
    assert is_complete("embeddings", {"data": [1]}, {})
    assert not is_complete("embeddings", {"data": []}, {})
    refusal = response_body()
    refusal["output"][0]["content"] = [{"type": "refusal", "refusal": "No."}]
    assert not is_complete("responses", refusal, {})
