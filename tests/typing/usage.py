"""What a type checker makes of nearhit in a user's code; checked by mypy, never run."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_type

import nearhit
from nearhit import embed
from nearhit._types import Chunk, Completion, DetailedEmbedder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    import numpy as np
    from numpy.typing import NDArray

    from nearhit._types import Embedder


class OwnEmbedder:
    """The least an embedder needs."""

    dim = 3
    id = "own"

    def embed(self, texts: list[str], /) -> NDArray[np.float32]:
        raise NotImplementedError


def caches(cache: nearhit.Cache, own: OwnEmbedder) -> None:
    embedder: Embedder = own
    nearhit.Cache(embedder, threshold=0.9, max_bytes="1GiB", ttl=60)
    nearhit.Cache(own, policy="lenient")  # type: ignore[arg-type]
    assert_type(embed.load(), DetailedEmbedder)
    assert_type(cache.lookup("question"), nearhit.Hit | None)
    assert_type(cache.lookup([{"role": "user", "content": "question"}], scope={"tenant": 7}), nearhit.Hit | None)
    assert_type(cache.store("question", {"answer": 1}, tags=("a",)), str)
    assert_type(cache.invalidate(tag="a"), int)
    assert_type(cache.explain("question").reason, str)
    cache.lookup(7)  # type: ignore[arg-type]


async def asynchronous(cache: nearhit.AsyncCache, router: nearhit.AsyncRouter) -> None:
    assert_type(await cache.lookup("question"), nearhit.Hit | None)
    assert_type(await router.complete("question", max_tokens=8), Completion)
    async for chunk in router.stream("question"):
        assert_type(chunk, Chunk)


def routers(cache: nearhit.Cache) -> None:
    small = nearhit.CTranslate2Tier("small", "smollm2-135m-instruct")
    large = nearhit.OpenAITier("large", "gpt-4o", base_url="https://api.openai.com/v1", api_key="sk-")
    router = nearhit.Router([small, large], cache=cache)
    assert_type(router.decide("question", deadline=2.0), nearhit.Decision)
    assert_type(router.decide("question").tier, str)
    assert_type(router.complete("question").timings.ttft, float | None)
    for chunk in router.stream("question"):
        assert_type(chunk, Chunk)
    assert_type(small.complete("question"), Completion)


@nearhit.Cache().memoize()
def memoised(prompt: str) -> str:
    return prompt


assert_type(memoised("question"), str)


@nearhit.Cache().memoize
async def bare(prompt: str, *, temperature: float = 0.0) -> list[int]:
    return [len(prompt)]


@nearhit.Cache().memoize(key=("temperature",))
def pieces(prompt: str, temperature: float = 0.0) -> Iterator[str]:
    yield prompt


assert_type(pieces("question"), "Iterator[str]")
pieces(7)  # type: ignore[arg-type]


@nearhit.AsyncCache().memoize
async def async_pieces(prompt: str) -> AsyncIterator[str]:
    yield prompt


class Client:
    @nearhit.Cache().memoize(prompt="question")
    def ask(self, question: str, *, temperature: float = 0.0) -> str:
        return question


assert_type(Client().ask("question", temperature=1.0), str)
Client().ask("question", heat=1.0)  # type: ignore[call-arg]


async def calls() -> None:
    async for piece in async_pieces("question"):
        assert_type(piece, str)
    assert_type(await bare("question", temperature=1.0), list[int])
    await bare(temperature=1.0)  # type: ignore[call-arg]
