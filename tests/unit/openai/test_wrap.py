"""A wrapped OpenAI client against a real server here: what it answers itself, and that all else is as it was."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import time

import openai
import pytest
from openai import AsyncOpenAI, OpenAI, Stream
from openai.types.chat import ChatCompletion
from pydantic import BaseModel
from tests.support.chat_server import (
    USAGE,
    answers,
    body,
    completion_body,
    cuts,
    event,
    fails,
    hangs,
    piece,
    pieces,
    response_body,
    response_events,
    sends,
    serves_all,
    streams,
)
from tests.support.hashing_embedder import HashingEmbedder
from tests.support.http_server import Server

import nearhit
from nearhit import AsyncCache, Cache, FunctionTier, Router
from nearhit.openai import controls, counts, info, wrap

HELLO = [{"role": "user", "content": "Say hello to the whole wide world"}]
NEAR = [{"role": "user", "content": "say hello to the whole wide world"}]


@pytest.fixture
def server():
    with Server(default=serves_all()) as running:
        yield running


@pytest.fixture
def bare(server):
    with OpenAI(api_key="sk-test", base_url=server.url, max_retries=0) as client:
        yield client


@pytest.fixture
def client(bare):
    return wrap(bare, cache=Cache(HashingEmbedder(), policy="static"))


def ask(client, messages=HELLO, **options):
    return client.chat.completions.create(model="test-model", messages=messages, **options)


def told(stream):
    return [chunk.to_dict() for chunk in stream]


def test_a_wrapped_client_is_one_of_its_class(bare, client):
    assert isinstance(client, OpenAI)
    assert type(client).__name__ == "OpenAI"
    assert client is not bare
    assert not hasattr(bare, "_nearhit_state")
    assert client._client is bare._client


def test_an_equal_request_is_answered_without_the_server(server, bare, client):
    fresh = ask(client)
    again = ask(client)
    assert type(again) is ChatCompletion
    assert again == fresh == ask(bare)
    assert again.model_dump_json() == fresh.model_dump_json()
    assert len(server.requests) == 2  # the fresh one, and the bare client's
    assert (info(fresh).outcome, info(again).outcome) == ("miss", "exact")
    assert info(fresh).stored == info(again).entry_id
    assert again._nearhit.tier == "cache"


def test_a_request_that_means_the_same_is_a_near_hit(server, client):
    ask(client)
    near = info(ask(client, NEAR))
    assert (near.outcome, near.tier) == ("near", "cache")
    assert near.similarity > 0.9
    assert len(server.requests) == 1


def test_the_body_sent_is_the_bare_clients(server, bare, client):
    extra = {"extra_headers": {"x-mine": "1"}, "extra_body": {"top_k": 5}}
    ask(bare, temperature=0.5, **extra)
    ask(client, temperature=0.5, **{**extra, "extra_body": {"top_k": 5, "nearhit": {"ttl": 60}}})
    first, second = server.requests
    assert first.body == second.body
    left_out = {"x-stainless-retry-count", "idempotency-key"}
    assert {k: v for k, v in first.headers.items() if k not in left_out} == {
        k: v for k, v in second.headers.items() if k not in left_out
    }


def test_other_parameters_are_another_request(server, client):
    for options in ({}, {"seed": 1}, {"n": 1}, {"logprobs": True}, {"temperature": 0.1}, {"extra_body": {"top_k": 1}}):
        assert info(ask(client, **options)).outcome == "miss"
    assert len(server.requests) == 6


def test_images_match_exactly_only(server, client):
    def look(text, url):
        parts = [{"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": url}}]
        return ask(client, [{"role": "user", "content": parts}])

    assert info(look("What is it?", "https://x/1.png")).outcome == "miss"
    assert info(look("What is it?", "https://x/2.png")).outcome == "miss"
    assert info(look("what is it?", "https://x/1.png")).outcome == "miss"
    assert info(look("What is it?", "https://x/1.png")).outcome == "exact"


def test_every_choice_is_replayed_with_its_probabilities(server, client):
    both = body("one")
    probability = {"token": "one", "logprob": -0.5, "bytes": None, "top_logprobs": []}
    both["choices"][0]["logprobs"] = {"content": [probability], "refusal": None}
    both["choices"].append({**body("two")["choices"][0], "index": 1})
    server.then(answers(both))
    first = ask(client, n=2, logprobs=True)
    again = ask(client, n=2, logprobs=True)
    assert again == first
    assert [choice.message.content for choice in again.choices] == ["one", "two"]
    assert again.choices[0].logprobs.content[0].logprob == -0.5


def test_fewer_choices_than_asked_for_are_not_kept(server, client):
    assert info(ask(client, n=2)).stored is None


@pytest.mark.parametrize(
    "answer",
    [
        body(finish="length"),
        body(finish="content_filter"),
        body(finish=None),
        body("", refusal="I will not."),
        {**body(), "error": {"message": "half"}},
        {**body(), "choices": []},
    ],
)
def test_what_is_not_whole_is_not_kept(server, client, answer):
    server.then(answers(answer))
    assert info(ask(client)).stored is None
    assert info(ask(client)).outcome == "miss"


def test_an_answer_cut_by_the_requests_own_limit_is_kept(server, client):
    server.then(answers(body(finish="length")))
    ask(client, max_tokens=3)
    assert info(ask(client, max_tokens=3)).outcome == "exact"


def test_tools_match_exactly_only(server, client):
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
    call = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    server.then(answers(body(None, finish="tool_calls", tool_calls=[call])))
    first = ask(client, tools=[tool])
    again = ask(client, tools=[tool])
    assert info(again).outcome == "exact"
    assert again == first
    assert again.choices[0].message.tool_calls[0].function.name == "look"
    assert info(ask(client, NEAR, tools=[tool])).outcome == "miss"


def test_messages_made_of_the_packages_own_objects(server, client):
    reply = ask(client).choices[0].message
    turns = [*HELLO, reply, {"role": "user", "content": "And again?"}]
    assert info(ask(client, turns)).outcome == "miss"
    assert info(ask(client, turns)).outcome == "exact"
    assert info(ask(client, iter(turns))).outcome == "exact"


# Streams


@pytest.mark.parametrize("usage", [False, True])
def test_a_stream_is_recorded_and_replayed_event_by_event(server, bare, client, usage):
    options = {"stream": True, "stream_options": {"include_usage": True}} if usage else {"stream": True}
    want = told(ask(bare, **options))
    stream = ask(client, **options)
    assert told(stream) == want
    assert info(stream).stored
    again = ask(client, **options)
    assert isinstance(again, Stream)
    assert told(again) == want
    assert info(again).outcome == "exact"
    assert len(server.requests) == 2


def test_whole_answers_and_streams_serve_each_other(server, client):
    text = ask(client).choices[0].message.content
    stream = ask(client, stream=True, stream_options={"include_usage": True})
    chunks = list(stream)
    assert info(stream).outcome == "exact"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == text
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].usage.model_dump(exclude_none=True) == USAGE
    list(ask(client, [{"role": "user", "content": "Something else"}], stream=True))
    whole = ask(client, [{"role": "user", "content": "Something else"}])
    assert (info(whole).outcome, whole.choices[0].message.content) == ("exact", "Hello, world")
    assert whole.object == "chat.completion"


def test_usage_that_was_not_recorded_is_asked_for(server, client):
    list(ask(client, stream=True))
    stream = ask(client, stream=True, stream_options={"include_usage": True})
    assert list(stream)[-1].usage.total_tokens == 10
    assert info(stream).outcome == "miss"
    silent = ask(client, stream=True)
    assert all(chunk.usage is None for chunk in silent)
    assert info(silent).outcome == "exact"


TOOL_STREAM = [
    piece({"role": "assistant", "content": None}),
    piece({"tool_calls": [{"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": ""}}]}),
    piece({"tool_calls": [{"index": 0, "function": {"arguments": '{"a"'}}]}),
    piece({"tool_calls": [{"index": 0, "function": {"arguments": ": 1}"}}]}),
    piece({}, finish="tool_calls"),
    "[DONE]",
]


def test_tool_call_deltas_are_replayed_as_they_came(server, client):
    server.then(streams(TOOL_STREAM))
    want = told(ask(client, stream=True))
    again = ask(client, stream=True)
    assert told(again) == want == [{**value} for value in TOOL_STREAM[:-1]]
    whole = ask(client).choices[0].message.tool_calls[0]
    assert (whole.id, whole.function.arguments) == ("c1", '{"a": 1}')


def stream_bytes(words=("Grüße, ", "Welt"), newline="\n"):
    return b"".join(event(value, newline=newline) for value in pieces(words))


SPLIT = stream_bytes().index("ü".encode()) + 1
PECULIAR = {
    "keep-alive comments": (b": ping\n\n" + stream_bytes().replace(b"\n\n", b"\n\n: still here\n\n"),),
    "CRLF": (stream_bytes(newline="\r\n"),),
    "a character cut in two": (stream_bytes()[:SPLIT], stream_bytes()[SPLIT:]),
    "byte by byte": tuple(bytes([byte]) for byte in stream_bytes(("Grüße, Welt",))),
}


@pytest.mark.parametrize("parts", PECULIAR.values(), ids=PECULIAR)
def test_what_servers_do_to_streams(server, client, parts):
    server.then(sends(*parts))
    options = {"stream": True, "stream_options": {"include_usage": True}}
    want = told(ask(client, **options))
    again = ask(client, **options)
    assert told(again) == want
    assert info(again).outcome == "exact"
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in want if chunk["choices"])
    assert text == "Grüße, Welt"


def test_a_compressed_stream(server, client):
    async def compressed(request, reply):
        await reply.start_stream({"content-encoding": "gzip"})
        await reply.part(gzip.compress(stream_bytes()))
        await reply.end_stream()

    server.then(compressed)
    want = told(ask(client, stream=True))
    assert told(ask(client, stream=True)) == want[:-1]  # usage, which nobody asked for
    assert len(server.requests) == 1


FAILED = {"error": {"message": "overloaded", "type": "server_error", "code": None}}


@pytest.mark.parametrize(
    "handler",
    [
        sends(*(event(value) for value in pieces()[:3]), event(FAILED)),
        cuts(after=3),
        sends(*(event(value) for value in pieces()[:3])),
        sends(event(piece({"content": "x"})), b"data: {broken\n\n"),
    ],
    ids=["error in a 200 stream", "cut", "ended too early", "broken JSON"],
)
def test_a_failed_stream_is_not_kept_and_fails_as_before(server, bare, client, handler):
    server.then(handler, handler)
    failures = []
    for each in (bare, client):
        try:
            told(ask(each, stream=True))
            failures.append(None)
        except Exception as error:  # noqa: BLE001 - whatever it is, both clients shall raise it
            failures.append(type(error))
    assert failures[0] is failures[1]
    assert counts(client).stored == 0
    assert info(ask(client, stream=True)).outcome == "miss"


def test_a_stream_that_its_reader_leaves_is_not_kept(server, client):
    stream = ask(client, stream=True)
    next(stream)
    stream.close()
    assert info(stream).stored is None
    with ask(client, stream=True) as stream:
        told(stream)
    assert info(stream).stored


def test_the_stream_helper(server, bare, client):
    def events(one):
        with one.chat.completions.stream(model="test-model", messages=HELLO) as stream:
            found = [(each.type, each.to_dict() if hasattr(each, "to_dict") else None) for each in stream]
            return found, stream.get_final_completion(), info(stream)

    want = events(bare)
    first, again = events(client), events(client)
    assert [kind for kind, _ in first[0]] == [kind for kind, _ in want[0]]
    assert again[:2] == first[:2]
    assert (first[2].outcome, again[2].outcome) == ("miss", "exact")


# Structured output, raw responses, options


class Person(BaseModel):
    name: str
    age: int


def test_structured_output_is_parsed_again(server, client):
    server.then(answers(body('{"name": "Ada", "age": 36}')))

    def parse():
        return client.chat.completions.parse(model="test-model", messages=HELLO, response_format=Person)

    first, again = parse(), parse()
    assert again.choices[0].message.parsed == first.choices[0].message.parsed == Person(name="Ada", age=36)
    assert (info(first).outcome, info(again).outcome) == ("miss", "exact")


def test_raw_and_streaming_responses(server, client):
    def raw():
        return client.chat.completions.with_raw_response.create(model="test-model", messages=HELLO)

    first, again = raw(), raw()
    assert again.parse() == first.parse()
    assert again.headers["content-type"] == "application/json"
    assert json.loads(again.text) == json.loads(first.text)
    assert info(again).outcome == "exact"
    other = [{"role": "user", "content": "Other"}]
    for outcome in ("miss", "exact"):
        with client.chat.completions.with_streaming_response.create(model="test-model", messages=other) as response:
            assert response.parse().choices[0].message.content == "Hello, world"
            assert info(response).outcome == outcome
    with client.chat.completions.with_streaming_response.create(
        model="test-model", messages=other, stream=True
    ) as response:
        lines = list(response.iter_lines())
    assert lines[-2] == "data: [DONE]"
    assert len(server.requests) == 2


def test_with_options_stays_wrapped_and_shares_the_cache(server, client):
    ask(client)
    other = client.with_options(timeout=3, max_retries=1)
    assert (other.timeout, other.max_retries) == (3, 1)
    assert isinstance(other, OpenAI)
    assert info(ask(other)).outcome == "exact"
    assert info(ask(client.copy(api_key="sk-other"))).outcome == "exact"
    assert counts(other) == counts(client)


def test_another_server_has_answers_of_its_own(server, client):
    ask(client)
    with Server(default=serves_all()) as second:
        assert info(ask(client.with_options(base_url=second.url))).outcome == "miss"


def test_a_key_given_with_one_request_is_another_caller(server, client):
    ask(client)
    headers = {"Authorization": "Bearer sk-somebody-else"}
    assert info(ask(client, extra_headers=headers)).outcome == "miss"
    assert info(ask(client, extra_headers={"x-trace": "1"})).outcome == "exact"


def test_errors_are_the_clients_own(server, client):
    server.then(fails(503), fails(429), answers({"error": {"message": "no"}}, status=400))
    for kind in (openai.InternalServerError, openai.RateLimitError, openai.BadRequestError):
        with pytest.raises(kind):
            ask(client)
    with pytest.raises(TypeError, match="model"):
        client.chat.completions.create(messages=HELLO)
    assert counts(client).stored == 0


def test_retries_are_the_clients_own(server, bare):
    client = wrap(bare.with_options(max_retries=1), cache=Cache())
    server.then(fails(503))
    assert info(ask(client)).stored
    assert len(server.requests) == 2


# Other calls


def test_responses(server, bare, client):
    def create(one, **options):
        return one.responses.create(model="test-model", input="Say hello", **options)

    want = create(bare)
    assert create(client) == want
    again = create(client)
    assert (again, again.output_text) == (want, "Hello, world")
    assert info(again).outcome == "exact"
    # A whole answer is replayed as a stream,
    stream = create(client, stream=True)
    replayed = told(stream)
    assert info(stream).outcome == "exact"
    assert [each["sequence_number"] for each in replayed] == list(range(len(replayed)))
    assert [each["type"].removeprefix("response.") for each in replayed] == [
        "created", "in_progress", "output_item.added", "content_part.added", "output_text.delta", "output_text.done",
        "content_part.done", "output_item.done", "completed",
    ]  # fmt: skip
    assert replayed[-1]["response"] == want.to_dict()
    with client.responses.stream(model="test-model", input="Say hello") as helper:
        assert [each.type for each in helper][-1] == "response.completed"
        assert helper.get_final_response().output_text == "Hello, world"
    # and a stream that was recorded as it came, and as a whole.
    events = told(bare.responses.create(model="test-model", input="Another", stream=True))
    for outcome in ("miss", "exact"):
        stream = client.responses.create(model="test-model", input="Another", stream=True)
        assert (told(stream), info(stream).outcome) == (events, outcome)
    assert client.responses.create(model="test-model", input="Another") == want
    assert len(server.requests) == 4


@pytest.mark.parametrize("status", ["incomplete", "failed"])
def test_responses_that_did_not_complete_are_not_kept(server, client, status):
    server.then(answers(response_body(status=status)), sends(response_events(status=status)))
    assert info(client.responses.create(model="m", input="Hi")).stored is None
    stream = client.responses.create(model="m", input="Hi", stream=True)
    assert told(stream)
    assert info(stream).stored is None


@pytest.mark.parametrize("options", [{"background": True}, {"conversation": "conv_1"}, {"prompt": {"id": "pmpt_1"}}])
def test_responses_that_depend_on_the_server_pass(server, client, options):
    for _ in range(2):
        assert info(client.responses.create(model="m", input="Hi", **options)).outcome == "bypass"
    assert len(server.requests) == 2


def test_chats_that_depend_on_the_server_pass(server, client):
    for options in ({"modalities": ["text", "audio"]}, {"web_search_options": {}}):
        assert info(ask(client, **options)).outcome == info(ask(client, **options)).outcome == "bypass"
    assert len(server.requests) == 4


def test_completions(server, client):
    def create(**options):
        return client.completions.create(model="test-model", prompt="Say hello", **options)

    assert create() == create()
    assert len(server.requests) == 1
    assert told(create(stream=True)) == [completion_body()]
    assert len(server.requests) == 1
    other = {"model": "test-model", "prompt": "Another"}
    assert told(client.completions.create(**other, stream=True)) == [completion_body()]
    whole = client.completions.create(**other)
    assert (info(whole).outcome, whole.choices[0].text) == ("exact", "Hello, world")


def test_embeddings_are_remembered(server, bare, client):
    def create(one, text="Hello"):
        return one.embeddings.create(model="test-model", input=text)

    assert create(client) == create(client) == create(bare)
    assert create(client).data[0].embedding == [0.5, -0.25]
    assert info(create(client)).outcome == "exact"
    assert len(server.requests) == 2
    assert info(create(client, "hello")).outcome == "miss"  # never by meaning


def test_everything_else_passes(server, client):
    assert list(client.models.list()) == []
    assert info(client.models.list()) is None
    client.moderations.create(input="x", extra_body={"nearhit": {"ttl": 1}})
    assert server.requests[-1].json == {"input": "x"}


# Controls


def test_controls_of_one_request(server, client):
    def control(**given):
        return info(ask(client, extra_body={"nearhit": given}))

    assert control(no_store=True).stored is None
    assert control(tags=["t"], ttl=60).stored
    assert control(no_cache=True).outcome == "bypass"
    assert control(tenant="b").outcome == "miss"
    assert control(only_if_cached=True).outcome == "exact"
    assert all("nearhit" not in request.json for request in server.requests)


def test_controls_of_a_block(server, client):
    with controls(tenant="acme"):
        assert info(ask(client)).outcome == "miss"
        with controls(no_store=True):
            assert info(ask(client, [{"role": "user", "content": "x"}])).stored is None
        assert info(ask(client)).outcome == "exact"
    assert info(ask(client)).outcome == "miss"


def test_defaults_are_controls_of_every_request(server, bare):
    cache = Cache()
    ask(wrap(bare, cache=cache, defaults={"tenant": "acme", "tags": ["t"]}))
    assert cache.invalidate(scope="acme") == 1


def test_only_if_cached_is_an_error_of_the_client(server, client):
    with pytest.raises(openai.InternalServerError, match="only_if_cached") as caught:
        ask(client, extra_body={"nearhit": {"only_if_cached": True}})
    assert caught.value.status_code == 504
    assert server.requests == []


def test_a_fresh_answer_replaces_the_cached_one(server, client):
    ask(client)
    server.then(answers(body("Fresh")))
    ask(client, extra_body={"nearhit": {"no_cache": True}})
    assert ask(client).choices[0].message.content == "Fresh"
    assert info(ask(client, NEAR)).outcome == "near"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"tenent": "a"}, "did you mean tenant"),
        ({"ttl": "60"}, "ttl='60'"),
        ({"ttl": -1}, "ttl=-1"),
        ({"no_store": 1}, "no_store=1"),
        ({"tags": [1]}, "tags"),
        ("no-store", "no-store"),
    ],
)
def test_controls_that_mean_nothing_are_named(server, client, given, message):
    with pytest.raises(nearhit.OptionError, match=message):
        ask(client, extra_body={"nearhit": given})
    assert server.requests == []


def test_a_deadline_is_the_clients_timeout(server, client):
    server.then(hangs())
    with pytest.raises(openai.APITimeoutError):
        ask(client, extra_body={"nearhit": {"deadline": 0.1}})


# Failures


class Broken(HashingEmbedder):
    def encode(self, texts):
        raise RuntimeError("out of memory")


class Slow(HashingEmbedder):
    def encode(self, texts):
        time.sleep(0.4)
        return super().encode(texts)


def test_a_failing_embedder_fails_no_call(server, bare, caplog):
    client = wrap(bare, cache=Cache(Broken()))
    with caplog.at_level(logging.WARNING, "nearhit.openai"):
        first, _ = ask(client), ask(client, NEAR)
    assert "out of memory" in info(first).notes[0]
    assert len(caplog.records) == 1
    assert counts(client).failures["lookup"] == 2
    assert info(ask(client)).outcome == "exact"  # equal requests need no embedder


def test_an_embedding_past_its_deadline_is_a_miss(server, bare):
    client = wrap(bare, cache=Cache(Slow()), embedding_deadline=0.02)
    start = time.perf_counter()
    record = info(ask(client))
    assert time.perf_counter() - start < 0.4
    assert (record.outcome, counts(client).failures) == ("miss", {"deadline": 1})
    assert info(ask(client)).outcome == "exact"


def test_a_failing_cache_fails_no_call(server, bare):
    client = wrap(bare, cache=Cache(max_bytes=200))  # nothing fits
    assert info(ask(client)).stored is None
    assert counts(client).failures == {"store": 1}
    assert told(ask(client, stream=True))


# Asynchronous


async def test_the_asynchronous_client_does_the_same(server):
    async with AsyncOpenAI(api_key="sk-test", base_url=server.url, max_retries=0) as bare:
        client = wrap(bare, cache=AsyncCache(HashingEmbedder(), policy="static"))
        assert isinstance(client, AsyncOpenAI)

        async def create(messages=HELLO, **options):
            return await client.chat.completions.create(model="test-model", messages=messages, **options)

        first, again, near = await create(), await create(), await create(NEAR)
        assert again == first
        assert [info(each).outcome for each in (first, again, near)] == ["miss", "exact", "near"]
        other = [{"role": "user", "content": "Other"}]
        for outcome in ("miss", "exact"):
            stream = await create(other, stream=True)
            assert isinstance(stream, openai.AsyncStream)
            chunks = [chunk.to_dict() async for chunk in stream]
            assert chunks == pieces(usage=False)[:-1]
            assert info(stream).outcome == outcome
        async with client.chat.completions.stream(model="test-model", messages=other) as helper:
            kinds = [each.type async for each in helper]
        assert (kinds[-1], info(helper).outcome) == ("content.done", "exact")
        raw = await client.with_options(timeout=9).chat.completions.with_raw_response.create(
            model="test-model", messages=HELLO
        )
        assert (raw.parse(), info(raw).outcome) == (first, "exact")
        assert (await client.responses.create(model="m", input="x")).output_text == "Hello, world"
        assert info(await client.responses.create(model="m", input="x")).outcome == "exact"
        assert (await client.embeddings.create(model="m", input="x")).data[0].embedding == [0.5, -0.25]
        assert info(await client.embeddings.create(model="m", input="x")).outcome == "exact"


async def test_an_asynchronous_stream_that_is_left_is_not_kept(server):
    async with AsyncOpenAI(api_key="sk-test", base_url=server.url) as bare:
        client = wrap(bare, cache=Cache())
        stream = await client.chat.completions.create(model="m", messages=HELLO, stream=True)
        await anext(stream)
        await stream.close()
        assert counts(client).stored == 0


async def test_a_slow_embedder_does_not_hold_the_event_loop(server):
    async with AsyncOpenAI(api_key="sk-test", base_url=server.url) as bare:
        client = wrap(bare, cache=Cache(Slow()), embedding_deadline=0.05)
        ticks = 0

        async def tick():
            nonlocal ticks
            while True:
                await asyncio.sleep(0.005)
                ticks += 1

        task = asyncio.create_task(tick())
        await client.chat.completions.create(model="m", messages=HELLO)
        task.cancel()
        assert ticks >= 3
        assert counts(client).failures == {"deadline": 1}


# Router


def echo(name, text="routed", **options):
    return FunctionTier(name, lambda _: text, **options)


def refuses(name):
    def call(_messages):
        raise RuntimeError("no model")

    return FunctionTier(name, call)


def test_a_router_answers_what_the_cache_does_not(server, bare):
    client = wrap(bare, cache=Cache(), router=Router([echo("small"), echo("large", "large")]))
    first, again = ask(client), ask(client)
    assert type(first) is ChatCompletion
    assert (first.choices[0].message.content, info(first).tier) == ("routed", "small")
    assert (again, info(again).outcome) == (first, "exact")
    other = [{"role": "user", "content": "Other"}]
    stream = ask(client, other, stream=True, stream_options={"include_usage": True})
    chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "routed"
    assert info(stream).tier == "small"
    assert info(ask(client, other)).outcome == "exact"
    assert info(ask(client, NEAR, extra_body={"nearhit": {"tier": "large"}})).tier == "large"
    assert server.requests == []
    assert counts(client).routed == 3


def test_a_failing_router_lets_the_request_go_where_it_went_before(server, bare):
    client = wrap(bare, router=Router([refuses("only")]))
    assert ask(client).choices[0].message.content == "Hello, world"
    assert info(ask(client)).tier == "upstream"
    assert told(ask(client, stream=True)) == pieces(usage=False)[:-1]
    assert counts(client).failures["router"] == 3


def test_a_tier_asked_for_by_name_is_the_only_one(server, bare):
    client = wrap(bare, router=Router([refuses("only")]))
    for name in ("only", "nobody"):
        with pytest.raises(openai.APIConnectionError, match=name):
            ask(client, extra_body={"nearhit": {"tier": name}})
    assert server.requests == []


async def test_a_router_behind_the_asynchronous_client(server):
    async with AsyncOpenAI(api_key="sk-test", base_url=server.url) as bare:
        client = wrap(bare, cache=Cache(), router=Router([echo("small")]))
        first = await client.chat.completions.create(model="m", messages=HELLO)
        assert (first.choices[0].message.content, info(first).tier) == ("routed", "small")
        stream = await client.chat.completions.create(model="m", messages=NEAR, stream=True)
        assert "routed" in [chunk.choices[0].delta.content async for chunk in stream]
        assert info(stream).stored


# What cannot be wrapped


@pytest.mark.parametrize("thing", [None, "client", object()])
def test_what_cannot_be_wrapped_is_named(thing):
    with pytest.raises(nearhit.OptionError, match=r"cannot wrap .*openai 2 or 3"):
        wrap(thing)


def test_another_major_version_is_refused(bare, monkeypatch):
    monkeypatch.setattr(openai, "__version__", "1.99.0")
    with pytest.raises(nearhit.OptionError, match=r"openai 1\.99\.0.*openai 2 or 3"):
        wrap(bare)


def test_options_of_the_wrong_kind_are_named(bare):
    with pytest.raises(nearhit.OptionError, match="cache"):
        wrap(bare, cache={})
    with pytest.raises(nearhit.OptionError, match="router"):
        wrap(bare, router=[])
    with pytest.raises(nearhit.OptionError, match="not wrapped"):
        counts(bare)


def test_wrapping_again_replaces_the_cache(server, client):
    ask(client)
    assert info(ask(wrap(client, cache=Cache()))).outcome == "miss"
