"""Code that uses a wrapped client: the very types of the bare one, for mypy and for pyright. Checked, not run."""

from __future__ import annotations

from typing import assert_type

from openai import AsyncOpenAI, AsyncStream, OpenAI, Stream
from openai.types import CreateEmbeddingResponse
from openai.types.chat import ChatCompletion, ChatCompletionChunk, ParsedChatCompletion
from openai.types.responses import Response
from pydantic import BaseModel

from nearhit import AsyncCache, Cache
from nearhit.openai import Controls, Counts, Info, controls, counts, info, wrap


class Person(BaseModel):
    name: str


class MyClient(OpenAI):
    mine: int = 1


def synchronous() -> None:
    client = wrap(OpenAI(), cache=Cache(), defaults={"tenant": "acme", "ttl": 60})
    assert_type(client, OpenAI)
    assert_type(client.with_options(timeout=3), OpenAI)
    assert_type(wrap(MyClient(), cache=Cache()).mine, int)
    answer = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}])
    assert_type(answer, ChatCompletion)
    stream = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}], stream=True)
    assert_type(stream, Stream[ChatCompletionChunk])
    parsed = client.chat.completions.parse(
        model="m", messages=[{"role": "user", "content": "Hi"}], response_format=Person
    )
    assert_type(parsed, ParsedChatCompletion[Person])
    assert_type(client.responses.create(model="m", input="Hi"), Response)
    assert_type(client.embeddings.create(model="m", input="Hi"), CreateEmbeddingResponse)
    raw = client.chat.completions.with_raw_response.create(model="m", messages=[{"role": "user", "content": "Hi"}])
    assert_type(raw.parse(), ChatCompletion)
    assert_type(info(answer), Info | None)
    assert_type(counts(client), Counts)
    assert_type(counts(client).shared, int)
    assert_type(client.embeddings.create(model="m", input=["Hi", "there"]).data[0].embedding, list[float])
    assert_type(wrap(OpenAI(), single_flight=False), OpenAI)
    with controls(no_store=True, tags=["a"]):
        chosen: Controls = {"ttl": 3, "single_flight": False}
        client.completions.create(model="m", prompt="Hi", extra_body={"nearhit": chosen})


async def asynchronous() -> None:
    client = wrap(AsyncOpenAI(), cache=AsyncCache())
    assert_type(client, AsyncOpenAI)
    answer = await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}])
    assert_type(answer, ChatCompletion)
    stream = await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}], stream=True)
    assert_type(stream, AsyncStream[ChatCompletionChunk])
