"""The LiteLLM cache and routing strategy, in LiteLLM itself, against a real server."""

from __future__ import annotations

import os

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # no look at the network for prices

import asyncio
import gc
import warnings

import litellm
import pytest
from tests.support.chat_server import answers, body, pieces, serves_all, streams
from tests.support.hashing_embedder import HashingEmbedder
from tests.support.http_server import Server

import nearhit
from nearhit import Cache
from nearhit.integrations.litellm import NearhitCache, NearhitStrategy, route

HELLO = [{"role": "user", "content": "Say hello to the whole wide world"}]
NEAR = [{"role": "user", "content": "say hello to the whole wide world"}]
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:litellm"),
    pytest.mark.filterwarnings("ignore:.*ReadOnly. qualifier:UserWarning"),
    pytest.mark.filterwarnings("ignore:Pydantic serializer warnings:UserWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # LiteLLM keeps its HTTP clients open
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module", autouse=True)
def nothing_left_open():
    """LiteLLM's clients go here, and not under a later test, which would be told of their sockets."""
    yield
    litellm.in_memory_llm_clients_cache.flush_cache()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()


@pytest.fixture
def server():
    with Server(default=serves_all()) as running:
        yield running


@pytest.fixture
def cache():
    store = Cache(HashingEmbedder(), policy="static")
    litellm.cache = NearhitCache(store)
    yield store
    litellm.cache = None


def ask(server, messages=HELLO, **options):
    return litellm.completion(
        model="openai/test-model", messages=messages, api_base=server.url, api_key="sk-test", caching=True, **options
    )


def wait_for(cache, entries):
    """LiteLLM stores in a thread of its own."""
    for _ in range(200):
        if len(cache) >= entries:
            return
        asyncio.run(asyncio.sleep(0.01))
    pytest.fail(f"{len(cache)} entries, not {entries}")


def test_completions(server, cache):
    first = ask(server)
    wait_for(cache, 1)
    assert ask(server).choices[0].message.content == first.choices[0].message.content == "Hello, world"
    assert ask(server, NEAR).choices[0].message.content == "Hello, world"
    assert len(server.requests) == 1
    ask(server, temperature=0.7)
    assert len(server.requests) == 2


async def test_asynchronous(server, cache):
    async def create(messages):
        return await litellm.acompletion(
            model="openai/test-model", messages=messages, api_base=server.url, api_key="sk-test", caching=True
        )

    await create(HELLO)
    for _ in range(200):
        if len(cache):
            break
        await asyncio.sleep(0.01)
    assert (await create(NEAR)).choices[0].message.content == "Hello, world"
    assert len(server.requests) == 1


def read(chunks):
    """The text of a stream, its finish reasons, and the classes of its chunks."""
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    finish = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices and chunk.choices[0].finish_reason]
    return text, finish, {type(chunk).__name__ for chunk in chunks}


STREAM = ("Hello, world", ["stop"], {"ModelResponseStream"})


def test_a_stream_is_kept_and_replayed_as_one(server, cache):
    assert read(list(ask(server, stream=True))) == STREAM
    wait_for(cache, 1)
    assert read(list(ask(server, stream=True)))[:2] == STREAM[:2]
    assert read(list(ask(server, NEAR, stream=True)))[:2] == STREAM[:2]
    assert len(server.requests) == 1


def test_streams_and_whole_answers_are_kept_apart(server, cache):
    """LiteLLM's own key counts `stream` among the parameters."""
    for _ in range(2):
        list(ask(server, stream=True))
        wait_for(cache, 1)
        whole = ask(server)
        wait_for(cache, 2)
    assert (whole.choices[0].message.content, type(whole).__name__) == ("Hello, world", "ModelResponse")
    assert [request.json.get("stream", False) for request in server.requests] == [True, False]


def test_a_stream_with_token_counts(server, cache):
    options = {"stream": True, "stream_options": {"include_usage": True}}
    counted = [chunk.usage for chunk in ask(server, **options) if getattr(chunk, "usage", None)]
    assert counted[-1].total_tokens == 10
    wait_for(cache, 1)
    assert read(list(ask(server, **options)))[:2] == STREAM[:2]
    assert len(server.requests) == 1


def test_a_stream_that_its_reader_leaves_is_not_kept(server, cache):
    stream = ask(server, stream=True)
    next(stream)
    del stream
    ask(server, [{"role": "user", "content": "Something else"}])
    wait_for(cache, 1)
    assert len(cache) == 1


def test_a_stream_that_was_cut_is_not_kept(server, cache):
    server.then(streams(pieces(finish="length")))
    list(ask(server, stream=True))
    ask(server, [{"role": "user", "content": "Something else"}])
    wait_for(cache, 1)
    assert len(cache) == 1


async def test_asynchronous_streams(server, cache):
    async def stream(messages):
        chunks = await litellm.acompletion(
            model="openai/test-model",
            messages=messages,
            api_base=server.url,
            api_key="sk-test",
            caching=True,
            stream=True,
        )
        return [chunk async for chunk in chunks]

    assert read(await stream(HELLO)) == STREAM
    for _ in range(200):
        if len(cache):
            break
        await asyncio.sleep(0.01)
    for messages in (HELLO, NEAR):
        assert read(await stream(messages))[:2] == STREAM[:2]
    assert len(server.requests) == 1


def test_answers_that_were_cut_are_not_kept(server, cache):
    server.then(answers(body(finish="length")))
    ask(server)
    ask(server, [{"role": "user", "content": "Something else"}])
    wait_for(cache, 1)
    assert len(cache) == 1


def test_a_strategy_chooses_by_the_prompt(server):
    deployments = [
        {
            "model_name": "group",
            "litellm_params": {"model": f"openai/{name}", "api_base": server.url, "api_key": "sk-test"},
        }
        for name in ("small", "large")
    ]
    router = route(litellm.Router(model_list=deployments))
    router.completion(model="group", messages=[{"role": "user", "content": "What is the capital of Spain?"}])
    hard = "Prove that there are infinitely many primes of the form 4k+3 and write a Python program in O(n log n)."
    router.completion(model="group", messages=[{"role": "user", "content": hard}])
    assert [request.json["model"] for request in server.requests] == ["small", "large"]


def test_a_strategy_names_a_group_that_is_not_there():
    router = litellm.Router(model_list=[{"model_name": "group", "litellm_params": {"model": "openai/x"}}])
    with pytest.raises(nearhit.OptionError, match=r"'other'.*group"):
        NearhitStrategy(router, {}).get_available_deployment("other")
