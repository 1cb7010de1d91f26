"""The router over nearhit's own caches: what is served, stored, refused and traced."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from nearhit import AsyncCache, AsyncRouter, Cache, FunctionTier, Router
from nearhit._types import Chunk

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from nearhit._types import Embedder

QUESTION = "How do I convert 20 miles to kilometres?"


class Counting(FunctionTier):
    """Counts its calls, so that an answer from elsewhere shows."""

    def __init__(self, finish_reason: str = "stop") -> None:
        self.calls = 0

        async def answer(messages: Any, **params: Any) -> AsyncIterator[Chunk]:
            self.calls += 1
            yield Chunk(f"answer {self.calls}", finish_reason=finish_reason)

        super().__init__("only", answer)


@pytest.mark.parametrize("kind", [Cache, AsyncCache])
def test_second_request_is_answered_from_the_cache(kind: type[Cache | AsyncCache]) -> None:
    tier = Counting()
    router = Router([tier], cache=kind())
    first, again = (router.complete(QUESTION, temperature=0) for _ in range(2))
    assert (first.trace.outcome, again.trace.outcome) == ("miss", "exact")
    assert (first.text, again.text, again.tier, again.finish_reason) == ("answer 1", "answer 1", "cache", "stop")
    assert again.trace.lookup.hit.entry_id == first.trace.stored
    assert again.trace.stored is None
    assert [span.name for span in again.trace.spans] == ["exact"]
    assert tier.calls == 1


async def test_asynchronous_router_asks_the_same_cache() -> None:
    tier = Counting()
    cache = Cache()
    router = AsyncRouter([tier], cache=cache)
    assert (await router.complete(QUESTION)).trace.outcome == "miss"
    assert (await router.complete(QUESTION)).trace.outcome == "exact"
    assert len(cache) == 1


@pytest.mark.parametrize(("params", "entries"), [({}, 0), ({"max_tokens": 2}, 1)])
def test_cut_answers_are_stored_only_where_the_request_set_the_limit(params: dict[str, Any], entries: int) -> None:
    cache = Cache()
    completion = Router([Counting("length")], cache=cache).complete(QUESTION, **params)
    assert (completion.trace.stored is not None) == bool(entries)
    assert len(cache) == entries


def test_limits_are_part_of_what_must_match() -> None:
    router = Router([Counting()], cache=Cache())
    assert router.complete(QUESTION, max_tokens=2).trace.outcome == "miss"
    assert router.complete(QUESTION, max_tokens=3).trace.outcome == "miss"
    assert router.complete(QUESTION, max_tokens=3).trace.outcome == "exact"


def test_near_hits_and_refusals_are_traced(embedder: Embedder) -> None:
    router = Router([Counting()], cache=Cache(embedder))
    router.complete(QUESTION)
    near = router.complete("How can I convert 20 miles to kilometres?").trace
    assert near.outcome == "near"
    assert [span.name for span in near.spans] == ["exact", "tokenise", "embed", "search", "guard"]
    assert near.similarity == pytest.approx(near.lookup.hit.similarity)
    refused = router.complete("How do I convert 20 kilometres to miles?").trace
    assert refused.outcome == "miss"
    assert refused.lookup.near_miss.prompt == QUESTION
    assert refused.to_dict()["refused"]["reasons"]
