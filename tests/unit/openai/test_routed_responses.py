"""Responses that are chats in another form are routed; all else passes, and says why."""

from __future__ import annotations

import json

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import BaseModel, TypeAdapter
from tests.support.chat_server import answers, body, piece, serves_all, streams
from tests.support.http_server import Server

from nearhit import Cache, FunctionTier, OpenAITier, Router
from nearhit._types import Chunk, Usage
from nearhit.openai import counts, info, wrap
from nearhit.openai._translate import UntranslatableError, as_chat


@pytest.fixture
def server():
    with Server(default=serves_all()) as running:
        yield running


@pytest.fixture
def bare(server):
    with OpenAI(api_key="sk-test", base_url=server.url, max_retries=0) as client:
        yield client


def words(_messages, **_params):
    yield Chunk("Hello")
    yield Chunk(" there")
    yield Chunk(finish_reason="stop", usage=Usage(7, 2))


@pytest.fixture
def client(bare):
    return wrap(bare, cache=Cache(), router=Router([FunctionTier("small", words)]))


def ask(client, given="Say hello", **options):
    return client.responses.create(**{"model": "m", "input": given, "store": False, **options})


def test_a_response_is_answered_by_a_tier(server, client):
    first = ask(client, instructions="Be brief.", temperature=0.5)
    assert isinstance(first, Response)
    assert Response.model_validate(first.to_dict()) == first
    assert (first.output_text, first.status, info(first).tier) == ("Hello there", "completed", "small")
    assert (first.usage.input_tokens, first.usage.output_tokens, first.temperature) == (7, 2, 0.5)
    again = ask(client, instructions="Be brief.", temperature=0.5)
    assert (again, info(again).outcome) == (first, "exact")
    assert (server.requests, counts(client).routed) == ([], 1)


def test_a_stream_is_one_of_responses(server, client):
    known = TypeAdapter(ResponseStreamEvent)
    stream = ask(client, stream=True)
    events = [known.validate_python(each.to_dict()) for each in stream]
    assert [each.type.removeprefix("response.") for each in events] == [
        "created", "in_progress", "output_item.added", "content_part.added", "output_text.delta", "output_text.delta",
        "output_text.done", "content_part.done", "output_item.done", "completed",
    ]  # fmt: skip
    assert [each.sequence_number for each in events] == list(range(len(events)))
    assert (events[-1].response.output_text, events[-3].part.text) == ("Hello there", "Hello there")
    assert info(stream).tier == "small"
    replayed = ask(client, stream=True)
    assert [each.to_dict() for each in replayed] == [each.to_dict() for each in events]
    assert (info(replayed).outcome, info(ask(client)).outcome) == ("exact", "exact")
    with client.responses.stream(model="m", input="Other", store=False) as helper:
        helper.until_done()
        assert helper.get_final_response().output_text == "Hello there"
    assert server.requests == []


class Person(BaseModel):
    name: str
    age: int


def test_what_reaches_the_tiers_server_is_a_chat(bare, server):
    tool = {"type": "function", "name": "look", "parameters": {"type": "object", "properties": {}}, "strict": True}
    call = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    with Server() as upstream:
        tier = OpenAITier("large", "model-of-the-tier", base_url=upstream.url)
        client = wrap(bare, cache=Cache(), router=Router([tier]))
        upstream.then(answers(body(None, finish="tool_calls", tool_calls=[call])))
        first = ask(client, tools=[tool], tool_choice={"type": "function", "name": "look"}, max_output_tokens=9)
        (item,) = first.output
        assert (item.type, item.call_id, item.name, item.arguments) == ("function_call", "call_1", "look", "{}")
        upstream.then(answers(body("It is there.")))
        turns = [
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "input_text", "text": "Look at this"},
                                         {"type": "input_image", "image_url": "https://x/1.png", "detail": "low"}]},
            item.to_dict(),
            {"type": "function_call_output", "call_id": "call_1", "output": "42"},
        ]  # fmt: skip
        assert ask(client, turns, tools=[tool], reasoning={"effort": "low"}).output_text == "It is there."
        upstream.then(answers(body('{"name": "Ada", "age": 36}')))
        parsed = client.responses.parse(model="m", input="Who?", store=False, text_format=Person)
        assert parsed.output_parsed == Person(name="Ada", age=36)
        one, two, three = (request.json for request in upstream.requests)
        tier.close()
    assert (one["model"], one["max_tokens"]) == ("model-of-the-tier", 9)
    function = {name: value for name, value in tool.items() if name != "type"}
    assert one["tools"] == [{"type": "function", "function": function}]
    assert one["tool_choice"] == {"type": "function", "function": {"name": "look"}}
    assert [message["role"] for message in two["messages"]] == ["system", "user", "assistant", "tool"]
    assert two["messages"][1]["content"][1] == {
        "type": "image_url", "image_url": {"url": "https://x/1.png", "detail": "low"}
    }  # fmt: skip
    assert two["messages"][2]["tool_calls"] == [call]
    assert two["reasoning_effort"] == "low"
    assert three["response_format"]["json_schema"]["schema"]["required"] == ["name", "age"]
    assert server.requests == []


def test_tool_calls_of_a_stream(bare):
    first = {"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": ""}}
    rest = {"index": 0, "function": {"arguments": '{"a": 1}'}}
    events = [piece({"tool_calls": [first]}), piece({"tool_calls": [rest]}), piece({}, finish="tool_calls"), "[DONE]"]
    with Server() as upstream:
        upstream.then(streams(events))
        tier = OpenAITier("large", "m", base_url=upstream.url)
        stream = ask(wrap(bare, router=Router([tier])), stream=True)
        found = [each.to_dict() for each in stream]
        tier.close()
    assert found[-1]["response"]["output"][0]["arguments"] == '{"a": 1}'
    assert [each["type"] for each in found][2:6] == [
        "response.output_item.added", "response.function_call_arguments.delta",
        "response.function_call_arguments.done", "response.output_item.done",
    ]  # fmt: skip


def test_an_answer_that_was_cut_is_incomplete(bare):
    def cut(_messages, **_params):
        yield Chunk("Hel", finish_reason="length")

    client = wrap(bare, cache=Cache(), router=Router([FunctionTier("small", cut)]))
    answer = ask(client)
    assert (answer.status, answer.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert info(answer).stored is None
    assert [each.type for each in ask(client, stream=True)][-1] == "response.incomplete"


UNROUTED = {
    "store": {"store": None},
    "previous_response_id": {"previous_response_id": "resp_0"},
    "web_search": {"tools": [{"type": "web_search"}]},
    "input_file": {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]},
    "item_reference": {"input": [{"type": "item_reference", "id": "x"}]},
    "include": {"include": ["reasoning.encrypted_content"]},
    "cannot be read": {"input": [{"type": "function_call", "id": "x"}]},
}


@pytest.mark.parametrize("name", UNROUTED)
def test_what_is_no_chat_passes_and_says_why(server, client, name):
    answer = ask(client, **UNROUTED[name])
    assert (answer.output_text, info(answer).tier) == ("Hello, world", "upstream")
    assert name in info(answer).unrouted
    assert len(server.requests) == 1
    assert counts(client).failures == {}


def test_completions_and_embeddings_pass(server, client):
    assert "continued" in info(client.completions.create(model="m", prompt="Once")).unrouted
    assert "embeddings" in info(client.embeddings.create(model="m", input="Once")).unrouted
    assert info(client.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}])).unrouted == ""
    assert len(server.requests) == 2


def test_a_named_tier_is_the_only_one_here_too(server, client):
    extra = {"extra_body": {"nearhit": {"tier": "small"}}}
    assert info(ask(client, **extra)).tier == "small"
    with pytest.raises(openai.APIConnectionError, match="previous_response_id"):
        ask(client, previous_response_id="resp_0", **extra)
    with pytest.raises(openai.APIConnectionError, match="continued"):
        client.completions.create(model="m", prompt="Once", **extra)
    assert server.requests == []


async def test_asynchronous(server):
    async with AsyncOpenAI(api_key="sk-test", base_url=server.url) as bare:
        client = wrap(bare, cache=Cache(), router=Router([FunctionTier("small", words)]))
        assert (await ask(client)).output_text == "Hello there"
        stream = await ask(client, "Other", stream=True)
        assert [each.type async for each in stream][-1] == "response.completed"
        assert info(await ask(client, "Other")).outcome == "exact"


def test_the_forms_of_texts():
    for wanted, given in (({"type": "text"}, None), ({"type": "json_object"}, {"type": "json_object"})):
        _, params = as_chat({"input": "x", "store": False, "text": {"format": wanted}})
        assert params.get("response_format") == given
    messages, _ = as_chat(
        {"input": [{"role": "user", "content": [{"type": "input_text", "text": "a"}]}], "store": False}
    )
    assert messages == json.loads('[{"role": "user", "content": "a"}]')
    with pytest.raises(UntranslatableError, match="file_search"):
        as_chat({"input": "x", "store": False, "tool_choice": {"type": "file_search"}})
