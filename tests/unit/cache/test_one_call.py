"""With the native embedder a lookup is one call of the core, and answers what its stages would."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import json
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from nearhit import AsyncCache, Cache
from nearhit.embed import NativeEmbedder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from nearhit.cache import Hit, Lookup

PROMPT = "How do I reset the password of my account?"
NEARLY = "How can I reset the password of my account?"
OPPOSITE = "How do I not reset the password of my account?"
LONG = "The train to Lyon leaves at noon; if I miss it, the next one leaves three hours later. " * 14
BODY = {"model": "m", "messages": [{"role": "user", "content": NEARLY}]}


class Staged(NativeEmbedder):
    """Not the native embedder itself, so that the cache asks it in Python and goes stage by stage."""


@pytest.fixture(scope="module")
def native(minilm: Path) -> NativeEmbedder:
    return NativeEmbedder(minilm)


@pytest.fixture(scope="module")
def staged(minilm: Path) -> Staged:
    return Staged(minilm)


@pytest.fixture(scope="module")
def stream(data: Path) -> list[dict[str, Any]]:
    """The prompts of a real stream that share their class with another one: the first 600."""
    with gzip.open(data / "stream_qqp.jsonl.gz", "rt", encoding="utf-8") as lines:
        asked = [json.loads(line) for line in lines]
    sizes = Counter(one["class"] for one in asked)
    classes = set(itertools.islice((number for number, size in sizes.items() if size > 1), 200))
    return [one for one in asked if one["class"] in classes][:600]


def told(hit: Hit | None) -> tuple[Any, ...] | None:
    return hit and (hit.entry_id, hit.kind, hit.similarity, hit.confidence, hit.response)


def refused(lookup: Lookup) -> tuple[Any, ...] | None:
    miss = lookup.near_miss
    return miss and (miss.entry_id, miss.similarity, miss.confidence, miss.reasons)


def counted(cache: Cache) -> dict[str, int]:
    stats = cache.stats()
    names = ("exact_hits", "near_hits", "misses", "near_misses", "stores", "explored", "memo_hits", "bytes_memo")
    return {name: getattr(stats, name) for name in names}


def replayed(cache: Cache, stream: list[dict[str, Any]]) -> Iterator[tuple[Any, ...]]:
    """What a cache says of each prompt of a stream, asked in turn in each of the ways there are."""
    for number, asked in enumerate(stream):
        prompt, label = asked["prompt"], str(asked["class"])
        if number % 3 == 0:
            hit = cache.lookup(prompt)
            yield told(hit), told(cache.lookup(prompt, threshold=0.97))
        elif number % 3 == 1:
            traced = cache.lookup_traced([{"role": "user", "content": prompt}])
            hit = traced.hit
            yield told(hit), refused(traced), list(traced.seconds), traced.truncated
            if hit is None:
                cache.store(traced, label)
                continue
        else:
            hit = cache.lookup({"messages": [{"role": "user", "content": prompt}]}, scope="other")
            explained = cache.explain(prompt)
            yield told(hit), told(explained.hit), explained.reason, [one.entry_id for one in explained.candidates]
        if hit is None:
            cache.store(prompt, label, scope="other" if number % 3 == 2 else None)


@pytest.mark.parametrize("policy", ["static", "guarded", "verified"])
def test_one_call_and_the_stages_say_the_same_of_a_real_stream(
    policy: Any, native: NativeEmbedder, staged: Staged, stream: list[dict[str, Any]]
) -> None:
    options: dict[str, Any] = {"policy": policy, "threshold": 0.85}
    if policy == "verified":
        options |= {"exploration": 0.0, "delta": 0.2}
    whole, stages = Cache(native, **options), Cache(staged, **options)
    for ours, theirs in zip(replayed(whole, stream), replayed(stages, stream), strict=True):
        assert ours == theirs
    assert counted(whole) == counted(stages)
    stats = whole.stats()
    assert (stats.explored if policy == "verified" else stats.near_hits) > 10
    assert policy == "static" or stats.near_misses > 10


def test_only_the_native_embedder_itself_is_called_in_the_core(
    native: NativeEmbedder, staged: Staged, minilm: Path
) -> None:
    patched = NativeEmbedder(minilm)
    seen: list[list[str]] = []

    def encode(texts: Any) -> Any:
        seen.append(list(texts))
        return NativeEmbedder.encode(patched, texts)

    patched.encode = encode  # type: ignore[method-assign]
    caches = [Cache(embedder) for embedder in (native, staged, patched)]
    assert [cache._native for cache in caches] == [True, False, False]
    caches[2].lookup(PROMPT)
    assert seen == [[PROMPT]]


def test_a_lookup_tells_its_stages(native: NativeEmbedder) -> None:
    cache = Cache(native)
    cache.store(PROMPT, "Click.")
    found = cache.lookup_traced(NEARLY)
    assert found.hit is not None
    assert list(found.seconds) == ["exact", "tokenise", "embed", "search", "guard"]
    assert all(seconds > 0 for seconds in found.seconds.values())
    assert found.seconds["embed"] > found.seconds["tokenise"]
    assert found.vector is not None
    np.testing.assert_array_equal(found.vector, native.embed([NEARLY])[0])
    again = cache.lookup_traced(NEARLY)
    assert again.seconds["tokenise"] == again.seconds["embed"] == 0
    refused = cache.lookup_traced(OPPOSITE)
    assert (refused.hit, refused.near_miss and refused.near_miss.entry_id) == (None, found.hit.entry_id)


def test_conversations_bodies_and_scopes(native: NativeEmbedder) -> None:
    cache = Cache(native)
    cache.store({**BODY, "messages": [{"role": "user", "content": PROMPT}]}, "Click.", scope={"tenant": "acme"})
    assert cache.lookup(BODY) is None
    hit = cache.lookup(BODY, scope={"tenant": "acme"})
    assert (hit and hit.kind, hit and hit.scope) == ("near", {"tenant": "acme"})
    assert cache.lookup(BODY, scope={"tenant": "acme"}, threshold=0.9999) is None
    assert cache.lookup({**BODY, "model": "n"}, scope={"tenant": "acme"}) is None
    assert cache.stats().misses == 3


def test_a_prompt_beyond_the_window_is_exact_only(native: NativeEmbedder) -> None:
    cache = Cache(native, policy="static", threshold=0.5)
    cache.store("The train to Lyon leaves at noon", "Hurry.")
    assert cache.lookup_traced(LONG).truncated
    assert cache.lookup(LONG) is None
    cache.store(LONG, "Long.")
    assert cache.lookup(LONG).kind == "exact"  # type: ignore[union-attr]
    assert cache.lookup(LONG[:-2]) is None
    assert cache.explain(LONG[:-2]).reason.startswith("miss: the prompt is longer than the embedder's window")


def test_what_a_miss_has_embedded_the_store_does_not_embed_again(native: NativeEmbedder) -> None:
    cache = Cache(native)
    assert cache.lookup(PROMPT) is None
    cache.store(PROMPT, "Click.")
    assert cache.explain(PROMPT, scope="another").hit is None
    assert cache.stats().memo_hits == 2
    assert cache.lookup(NEARLY).kind == "near"  # type: ignore[union-attr]


@pytest.mark.parametrize("off", [0, None])
def test_a_memo_that_is_off_remembers_nothing(off: int | None, native: NativeEmbedder) -> None:
    cache = Cache(native, embedding_memo=off)
    cache.store(PROMPT, "Click.")
    with ThreadPoolExecutor(4) as pool:
        hits = list(pool.map(lambda _: cache.lookup(NEARLY), range(8)))
    assert {hit and hit.kind for hit in hits} == {"near"}
    stats = cache.stats()
    assert (stats.memo_hits, stats.bytes_memo) == (0, 0)


def test_many_threads_with_one_text_embed_it_once(native: NativeEmbedder) -> None:
    cache = Cache(native)
    cache.store(PROMPT, "Click.")
    together = threading.Barrier(8)

    def look(number: int) -> Hit | None:
        together.wait()
        return cache.lookup(f"{number // 8} {NEARLY}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(look, range(40)))
    assert cache.stats().memo_hits == 5 * 7


def test_the_asynchronous_face(native: NativeEmbedder) -> None:
    async def main() -> tuple[Any, ...]:
        cache = AsyncCache(native)
        await cache.store(PROMPT, "Click.")
        exact = await cache.lookup(PROMPT)
        near = await asyncio.gather(*(cache.lookup(NEARLY) for _ in range(12)))
        traced = await cache.lookup_traced(NEARLY)
        stats = await cache.stats()
        return told(exact), {told(hit) for hit in near}, told(traced.hit), stats

    exact, near, traced, stats = asyncio.run(main())
    assert exact is not None
    assert near == {traced}
    assert stats.memo_hits == 12
    assert (stats.exact_hits, stats.near_hits, stats.misses) == (1, 13, 0)


def test_threads_that_look_up_and_store_at_once(native: NativeEmbedder, stream: list[dict[str, Any]]) -> None:
    cache = Cache(native, policy="static", threshold=0.999, max_entries=100, embedding_memo=16)
    prompts = [asked["prompt"] for asked in stream[:120]]

    def work(seed: int) -> None:
        for turn in range(60):
            prompt = prompts[(seed * 37 + turn * 13) % len(prompts)]
            hit = cache.lookup(prompt)
            assert hit is None or hit.response == prompt
            if hit is None:
                cache.store(prompt, prompt)

    with ThreadPoolExecutor(6) as pool:
        for done in [pool.submit(work, seed) for seed in range(6)]:
            done.result()
    cache._core.validate()
