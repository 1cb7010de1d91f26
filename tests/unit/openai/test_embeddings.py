"""Embeddings through a wrapped client: each input is asked for once, and the answer is the server's all the same."""

from __future__ import annotations

import base64
import json
import struct

import numpy as np
import pytest
from openai import AsyncOpenAI, OpenAI
from tests.support.chat_server import answers, fails
from tests.support.http_server import Server

from nearhit import Cache
from nearhit.openai import counts, info, wrap


def tokens(text):
    return len(text) if isinstance(text, list) else len(text.split())


def vector(text, dimensions):
    seed = text if isinstance(text, list) else list(text.encode())
    return [float(np.float32(0.5 + (sum(seed) * (place + 1)) % 97 / 97)) for place in range(dimensions)]


def embeds(sent=None):
    """A server of embeddings: a vector for each input, as floats or base64; token counts of them all."""

    async def handle(request, reply):
        asked = request.json
        given = asked["input"]
        one = isinstance(given, str) or (isinstance(given, list) and isinstance(given[0], int))
        texts = [given] if one else given
        data = []
        for index, text in enumerate(texts):
            numbers = vector(text, asked.get("dimensions", 3))
            packed = base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()
            coded = packed if asked.get("encoding_format") == "base64" else numbers
            data.append({"object": "embedding", "index": index, "embedding": coded})
        total = sum(map(tokens, texts))
        usage = {"prompt_tokens": total, "total_tokens": total}
        whole = {"object": "list", "data": data[::-1] if sent == "reversed" else data, "model": "m", "usage": usage}
        await reply.body(200, json.dumps(whole).encode(), {"x-request-id": "req_1"})

    return handle


@pytest.fixture
def server():
    with Server(default=embeds()) as running:
        yield running


@pytest.fixture
def bare(server):
    with OpenAI(api_key="sk-test", base_url=server.url, max_retries=0) as client:
        yield client


@pytest.fixture
def client(bare):
    return wrap(bare, cache=Cache())


def asked(server):
    return [request.json["input"] for request in server.requests]


def create(client, given, **options):
    return client.embeddings.create(model="m", input=given, **options)


@pytest.mark.parametrize(
    "options", [{}, {"encoding_format": "float"}, {"encoding_format": "base64"}, {"dimensions": 5}]
)
def test_only_new_inputs_are_asked_for_and_the_answer_is_the_servers(server, bare, client, options):
    want = create(bare, ["a b", "c", "d e f", "c"], **options)
    create(client, ["c", "x"], **options)
    got = create(client, ["a b", "c", "d e f", "c"], **options)
    assert got == want
    assert [each.index for each in got.data] == [0, 1, 2, 3]
    assert asked(server)[1:] == [["c", "x"], ["a b", "d e f"]]
    assert (info(got).outcome, info(got).reason) == ("miss", "1 of 4 inputs were known")
    again = create(client, ["d e f", "a b"], **options)
    assert info(again).outcome == "exact"
    assert again.data[0].embedding == want.data[2].embedding
    assert len(server.requests) == 3


def test_a_text_and_a_list_of_it_are_the_same_input(server, bare, client):
    first = create(client, "a b c")
    assert asked(server) == ["a b c"]  # sent as it was given
    assert create(client, ["a b c"]) == create(bare, ["a b c"])
    assert info(create(client, "a b c")).entry_id == info(first).stored
    assert first.usage.prompt_tokens == 3


def test_tokens_are_inputs_too(server, bare, client):
    assert create(client, [1, 2, 3]) == create(bare, [1, 2, 3])
    want = create(bare, [[1, 2, 3], [4, 5]])
    assert create(client, [[1, 2, 3], [4, 5]]) == want
    assert asked(server)[-1] == [[4, 5]]
    assert want.usage.prompt_tokens == 5
    assert info(create(client, [[4, 5], [1, 2, 3]])).outcome == "exact"


def test_counts_of_inputs_asked_for_together_add_up(server, bare, client):
    inputs = ["one", "two words", "three small words"]
    want = create(bare, inputs).usage
    create(client, inputs)
    assert create(client, inputs).usage == want
    parts = [create(client, each).usage.total_tokens for each in inputs]
    assert (sum(parts), len(server.requests)) == (want.total_tokens, 2)


def test_other_options_are_other_inputs(server, client):
    for options in ({}, {"dimensions": 2}, {"dimensions": 4}, {"encoding_format": "float"}):
        create(client, ["a"], **options)
    create(client.with_options(base_url=server.url.replace("127.0.0.1", "localhost")), ["a"])
    assert len(server.requests) == 5


def test_an_answer_in_another_order_is_put_in_order(server, bare, client):
    server.then(embeds("reversed"))
    got = create(client, ["a", "b", "c"])
    assert {each.index: each.embedding for each in got.data} == {
        each.index: each.embedding for each in create(bare, ["a", "b", "c"]).data
    }
    assert create(client, ["c"]).data[0].embedding == create(bare, ["c"]).data[0].embedding


def test_controls(server, client):
    def control(given, **controls):
        return info(create(client, given, extra_body={"nearhit": controls}))

    assert control(["a"], no_store=True).stored is None
    assert control(["a"], tags=["t"]).outcome == "miss"
    assert control(["a", "b"], no_store=True).reason == "1 of 2 inputs were known"
    assert control(["a", "b"], no_cache=True).outcome == "bypass"
    assert asked(server) == [["a"], ["a"], ["b"], ["a", "b"]]
    assert control(["b", "a"], only_if_cached=True).outcome == "exact"
    assert control(["a"], tenant="b").outcome == "miss"


def test_raw_and_streaming_responses(server, bare, client):
    create(client, ["a"])
    raw = client.embeddings.with_raw_response.create(model="m", input=["a", "b"])
    assert (raw.headers["x-request-id"], len(raw.parse().data), asked(server)[-1]) == ("req_1", 2, ["b"])
    with client.embeddings.with_streaming_response.create(model="m", input=["a", "c"]) as response:
        assert len(response.parse().data) == 2
    assert asked(server)[-1] == ["a", "c"]  # passes as it comes, so that nothing can be put into it


def test_an_answer_that_leaves_one_out_is_asked_for_again_as_it_was(server, bare, client):
    create(client, ["a"])
    item = {"object": "embedding", "index": 0, "embedding": [0.5]}
    server.then(answers({"object": "list", "data": [item], "model": "m"}))
    got = create(client, ["a", "b", "c"])
    assert got == create(bare, ["a", "b", "c"])
    assert asked(server)[1:3] == [["b", "c"], ["a", "b", "c"]]
    assert counts(client).failures == {"replay": 1}


def test_errors_are_the_clients_own(server, client):
    create(client, ["a"])
    server.then(fails(400))
    with pytest.raises(Exception, match="overloaded") as caught:
        create(client, ["a", "b"])
    assert type(caught.value).__name__ == "BadRequestError"
    assert info(create(client, ["a", "b"])).reason == "1 of 2 inputs were known"


async def test_the_asynchronous_client_does_the_same(server):
    async with AsyncOpenAI(api_key="sk-test", base_url=server.url) as bare:
        client = wrap(bare, cache=Cache())
        await client.embeddings.create(model="m", input=["a", "b"])
        got = await client.embeddings.create(model="m", input=["c", "a"])
        assert got == await bare.embeddings.create(model="m", input=["c", "a"])
        assert asked(server)[1] == ["c"]
        assert info(await client.embeddings.create(model="m", input="c")).outcome == "exact"
