"""What a tier costs beside the model: the portal, functions, an event stream; and what the default generator gives.

python -m pytest benches/python/test_tiers.py --benchmark-enable --benchmark-sort=name
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from tests.support import chat_server as chat
from tests.support.http_server import Reply, Request, Server

from nearhit import CTranslate2Tier, FunctionTier, OpenAITier, models
from nearhit._portal import portal
from nearhit.tiers.sse import SSEParser

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

EVENTS = 2000
STREAM = b"".join(chat.event(value) for value in chat.pieces([" word"] * EVENTS))


async def nothing() -> str:
    return "x"


async def answer(_: Any) -> str:
    return "x"


def test_portal_round_trip(benchmark: Callable[..., Any]) -> None:
    benchmark(lambda: portal().run(nothing()))


@pytest.mark.parametrize("fn", [answer, lambda _: "x"], ids=["coroutine", "thread"])
def test_function(benchmark: Callable[..., Any], fn: Any) -> None:
    tier = FunctionTier("f", fn)
    benchmark(tier.complete, "hi")


def test_parse_2000_events(benchmark: Callable[..., Any]) -> None:
    def parse() -> int:
        parser = SSEParser()
        return sum(len(parser.feed(STREAM[at : at + 16384])) for at in range(0, len(STREAM), 16384))

    assert benchmark(parse) == EVENTS + 4


async def long_stream(_: Request, reply: Reply) -> None:
    await reply.start_stream()
    for at in range(0, len(STREAM), 16384):
        await reply.part(STREAM[at : at + 16384])
    await reply.end_stream()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(default=long_stream) as running:
        yield running


async def bare(url: str, client: httpx2.AsyncClient) -> AsyncIterator[Any]:
    """The least that any client of a stream does: read lines, parse JSON."""
    async with client.stream("POST", f"{url}/chat/completions", json={"stream": True}) as response:
        async for line in response.aiter_lines():
            if line.startswith("data: ") and line != "data: [DONE]":
                yield json.loads(line[6:])


async def count(stream: AsyncIterator[Any]) -> int:
    return len([None async for _ in stream])


@pytest.mark.parametrize("client", ["bare", "tier"])
def test_read_2000_events(benchmark: Callable[..., Any], server: Server, client: str) -> None:
    with asyncio.Runner() as runner:
        http = httpx2.AsyncClient(trust_env=False)
        tier = OpenAITier("remote", "m", base_url=server.url, trust_env=False)
        make = (lambda: bare(server.url, http)) if client == "bare" else (lambda: tier.astream("hi"))
        assert benchmark(lambda: runner.run(count(make()))) == EVENTS + 3
        runner.run(http.aclose())
        runner.run(tier.aclose())


@pytest.mark.models
@pytest.mark.parametrize("intra_threads", [1, 2])
@pytest.mark.parametrize("max_tokens", [1, 33])
def test_generate(benchmark: Callable[..., Any], intra_threads: int, max_tokens: int) -> None:
    """One token is the time to the first; the difference over 32 is the pace."""
    models.fetch(models.GENERATOR)
    with CTranslate2Tier("small", device="cpu", threads=1, intra_threads=intra_threads) as tier:
        prompt = "Tell me a long story about a dog."
        assert benchmark(lambda: tier.complete(prompt, max_tokens=max_tokens)).usage.completion_tokens == max_tokens


@pytest.mark.models
@pytest.mark.parametrize("threads", [1, 2])
def test_generate_two_at_once(benchmark: Callable[..., Any], threads: int) -> None:
    models.fetch(models.GENERATOR)
    with CTranslate2Tier("small", device="cpu", threads=threads) as tier:

        async def two() -> None:
            await asyncio.gather(*(tier.acomplete("Tell me a long story.", max_tokens=32) for _ in range(2)))

        benchmark(lambda: portal().run(two()))
