"""Putting pieces together: texts joined, tool calls by index, bodies as they would have come unstreamed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearhit._types import Chunk, Timings, Usage
from nearhit.tiers.collect import Collector

TIMES = Timings(0, 0, 0)


def collect(*chunks):
    collector = Collector()
    for chunk in chunks:
        collector.add(chunk)
    return collector.completion(tier="t", model="m", timings=TIMES)


def raw(delta, *, index=0, finish=None, **more):
    choice = {"index": index, "delta": delta, "finish_reason": finish, **more.pop("choice", {})}
    return Chunk(raw={"id": "1", "object": "chat.completion.chunk", "choices": [choice], **more})


@given(st.lists(st.text(max_size=5), max_size=20))
def test_texts_are_joined_in_order(texts):
    answer = collect(*(Chunk(text) for text in texts), Chunk(finish_reason="stop", usage=Usage(1, 2)))
    assert (answer.text, answer.finish_reason, answer.usage, answer.raw) == ("".join(texts), "stop", Usage(1, 2), None)


def test_nothing_at_all():
    answer = collect()
    assert (answer.text, answer.finish_reason, answer.usage, answer.tool_calls) == ("", None, Usage(), ())


def test_bodies_of_several_choices_with_logprobs():
    def tokens(*words):
        return {"logprobs": {"content": [{"token": word, "logprob": -1.0} for word in words]}}

    answer = collect(
        raw({"role": "assistant", "content": "a"}, choice=tokens("a")),
        raw({"role": "assistant", "content": "x"}, index=1),
        raw({"content": "b", "refusal": None}, choice=tokens("b", "c")),
        raw({}, finish="stop", system_fingerprint="f"),
        raw({}, index=1, finish="length", system_fingerprint=None),
        Chunk(raw={"id": "1", "object": "chat.completion.chunk", "choices": [], "usage": {"prompt_tokens": 1}}),
    )
    message = {"role": "assistant", "content": "ab", "refusal": None}
    logprobs = {"content": [{"token": word, "logprob": -1.0} for word in "abc"]}
    assert answer.raw == {
        "id": "1",
        "object": "chat.completion",
        "system_fingerprint": "f",
        "usage": {"prompt_tokens": 1},
        "choices": [
            {"index": 0, "message": message, "finish_reason": "stop", "logprobs": logprobs},
            {"index": 1, "message": {"role": "assistant", "content": "x"}, "finish_reason": "length"},
        ],
    }


@pytest.mark.parametrize("repeats", [False, True])
def test_tool_calls_whose_name_and_id_come_once_or_every_time(repeats):
    head = {"id": "c", "type": "function"}
    first = {"index": 0, **head, "function": {"name": "f", "arguments": '{"x'}}
    again = {**head, "function": {"name": "f", "arguments": '":1}'}} if repeats else {"function": {"arguments": '":1}'}}
    second = {"index": 0, **again}
    answer = collect(
        Chunk(tool_calls=(first,), raw=raw({"tool_calls": [first]}).raw),
        Chunk(tool_calls=(second,), raw=raw({"tool_calls": [second]}).raw),
    )
    call = {**head, "function": {"name": "f", "arguments": '{"x":1}'}}
    assert answer.tool_calls == (call,)
    assert answer.raw is not None
    assert answer.raw["choices"][0]["message"] == {"tool_calls": [call], "role": "assistant", "content": None}


@pytest.mark.parametrize("body", [{"mine": 1}, {"choices": 3}, {"choices": [3, {"index": {}}]}, {}])
def test_a_body_of_any_other_shape_is_left_alone(body):
    answer = collect(Chunk("x", raw=body))
    assert answer.text == "x"
    assert answer.raw is not None
    assert {key: value for key, value in answer.raw.items() if key != "choices"} == {
        key: value for key, value in body.items() if key != "choices"
    }
    assert ("choices" in answer.raw) == isinstance(body.get("choices"), list)


def test_the_pieces_are_not_changed():
    delta = {"tool_calls": [{"index": 0, "function": {"arguments": "a"}}]}
    first, second = raw(delta), raw({"tool_calls": [{"index": 0, "function": {"arguments": "b"}}]})
    collect(first, second)
    assert delta == {"tool_calls": [{"index": 0, "function": {"arguments": "a"}}]}


def test_a_long_answer_costs_no_more_a_piece():
    collector = Collector()
    chunk = raw({"content": "word " * 20})
    for _ in range(20_000):
        collector.add(chunk)
    body = collector.body()
    assert body is not None
    assert len(body["choices"][0]["message"]["content"]) == 2_000_000
