"""Whole answers taken apart into streams: events that the openai package itself accepts, and puts together again."""

from __future__ import annotations

import pytest
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter
from tests.support.chat_server import USAGE, body, completion_body, response_body

from nearhit.answers import Answer, Recorder
from nearhit.answers.apart import taken_apart

TEXT = {
    "type": "output_text",
    "text": "See the page.",
    "annotations": [{"type": "url_citation", "url": "https://x", "title": "x", "start_index": 0, "end_index": 3}],
    "logprobs": [{"token": "See", "logprob": -0.5, "bytes": [83], "top_logprobs": []}],
}
ITEMS = {
    "message": {"type": "message", "id": "m1", "role": "assistant", "status": "completed", "content": [TEXT, TEXT]},
    "function call": {
        "type": "function_call", "id": "f1", "call_id": "c1", "name": "look", "arguments": '{"a": 1}',
        "status": "completed",
    },
    "function call without id": {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"},
    "reasoning": {
        "type": "reasoning",
        "id": "r1",
        "summary": [{"type": "summary_text", "text": "First this."}, {"type": "summary_text", "text": "Then that."}],
        "content": [{"type": "reasoning_text", "text": "Hm."}],
        "status": "completed",
    },
    "custom tool": {"type": "custom_tool_call", "id": "t1", "call_id": "c2", "name": "sql", "input": "SELECT 1"},
    "web search": {
        "type": "web_search_call", "id": "w1", "status": "completed", "action": {"type": "search", "query": "x"}
    },
}  # fmt: skip


def whole_response(*items):
    return {**response_body(), "output": list(items), "completed_at": 2}


@pytest.mark.parametrize("item", ITEMS.values(), ids=ITEMS)
def test_items_of_a_response_become_events_that_the_package_knows(item):
    whole = whole_response(ITEMS["message"], item)
    events = taken_apart("responses", whole, usage=False)
    known = TypeAdapter(ResponseStreamEvent)
    read = [known.validate_python(event) for event in events]
    assert [each.sequence_number for each in read] == list(range(len(read)))
    assert [each.type for each in read[:2]] == ["response.created", "response.in_progress"]
    assert (read[0].response.status, read[0].response.output, read[0].response.usage) == ("in_progress", [], None)
    added = [each for each in read if each.type == "response.output_item.added"]
    done = [each for each in read if each.type == "response.output_item.done"]
    assert [each.output_index for each in added] == [each.output_index for each in done] == [0, 1]
    assert [event["item"] for event in events if event["type"] == "response.output_item.done"] == whole["output"]
    assert read[-1].response == Response.model_validate(whole)
    assert all(each.item_id for each in read if hasattr(each, "item_id"))


def test_the_text_of_the_deltas_is_that_of_the_answer():
    events = taken_apart("responses", whole_response(ITEMS["message"], ITEMS["function call"]), usage=False)
    texts = [each["delta"] for each in events if each["type"] == "response.output_text.delta"]
    assert texts == ["See the page."] * 2
    (arguments,) = [each["delta"] for each in events if each["type"] == "response.function_call_arguments.delta"]
    assert arguments == '{"a": 1}'
    names = [each["type"] for each in events]
    assert names.index("response.output_text.annotation.added") < names.index("response.output_text.done")


def test_what_was_taken_apart_is_recorded_as_what_it_was():
    for call, whole in (("responses", whole_response(*ITEMS.values())), ("completions", completion_body())):
        recorder = Recorder(call, {})
        recorder.feed(Answer(call, whole).sse())
        kept = recorder.finish(ended=True)
        assert {key: kept.body()[key] for key in ("id", "model")} == {key: whole[key] for key in ("id", "model")}
        assert kept.body().get("output", kept.body().get("choices")) == whole.get("output", whole.get("choices"))


def test_a_chat_completion_is_put_together_again_by_the_package():
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    whole = body(None, finish="tool_calls", tool_calls=[call])
    state = ChatCompletionStreamState()
    for event in taken_apart("chat", whole, usage=True):
        state.handle_chunk(ChatCompletionChunk.model_validate(event))
    again = state.get_final_completion()
    want = ChatCompletion.model_validate(whole).choices[0]
    assert again.choices[0].finish_reason == "tool_calls"
    assert again.choices[0].message.tool_calls[0].function.arguments == want.message.tool_calls[0].function.arguments
    assert again.usage.total_tokens == USAGE["total_tokens"]


def test_a_completion_with_two_choices_and_counts():
    first = {"index": 0, "text": "a", "finish_reason": "stop", "logprobs": {"tokens": ["a"]}}
    second = {"index": 1, "text": "b", "finish_reason": "length", "logprobs": None}
    whole = {**completion_body(), "choices": [first, second], "usage": USAGE}
    events = taken_apart("completions", whole, usage=True)
    assert [Completion.model_validate(event).object for event in events] == ["text_completion"] * 3
    assert [event["choices"][0]["finish_reason"] for event in events[:-1]] == ["stop", "length"]
    assert (events[0]["choices"][0]["logprobs"], events[-1]["usage"]) == ({"tokens": ["a"]}, USAGE)


@pytest.mark.parametrize(
    ("call", "whole"),
    [
        ("chat", {"choices": []}),
        ("chat", {"choices": "x", "usage": USAGE}),
        ("embeddings", {"data": []}),
        ("responses", {"output": "x"}),
    ],
)
def test_what_cannot_be_taken_apart_is_not(call, whole):
    assert taken_apart(call, whole, usage=True) is None
