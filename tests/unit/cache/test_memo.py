"""Nothing is embedded twice: vectors of the last texts are remembered."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from tests.support.hashing_embedder import HashingEmbedder

from nearhit import AsyncCache, Cache, OptionError

PROMPT = "How do I reset the password of my account?"


def test_the_store_after_a_miss_and_a_repeat_embed_nothing() -> None:
    embedder = HashingEmbedder()
    cache = Cache(embedder)
    assert cache.lookup(PROMPT) is None
    cache.store(PROMPT, "Click.")
    cache.invalidate(prompt=PROMPT)
    assert cache.lookup(PROMPT, scope="another") is None
    assert cache.explain(PROMPT, scope="another").hit is None
    assert embedder.calls == [[PROMPT]]
    stats = cache.stats()
    assert stats.memo_hits == 3
    assert 0 < stats.bytes_memo < 4096


def test_a_remembered_vector_finds_what_a_fresh_one_finds() -> None:
    with_memo, without = (
        Cache(HashingEmbedder(), threshold=0.8),
        Cache(HashingEmbedder(), threshold=0.8, embedding_memo=None),
    )
    for cache in (with_memo, without):
        cache.store(PROMPT, "Click.")
        cache.lookup(PROMPT[:-1])
    remembered, fresh = with_memo.lookup(PROMPT[:-1]), without.lookup(PROMPT[:-1])
    assert remembered is not None
    assert fresh is not None
    assert (remembered.kind, remembered.similarity) == (fresh.kind, fresh.similarity)
    assert without.stats().memo_hits == 0


def test_a_cut_text_stays_known_as_cut() -> None:
    embedder = HashingEmbedder(window=20)
    cache = Cache(embedder, policy="static", threshold=0.5)
    for _ in range(2):
        assert cache.lookup_traced(PROMPT).truncated
    assert len(embedder.calls) == 1


def test_the_least_recently_used_text_leaves() -> None:
    embedder = HashingEmbedder()
    cache = Cache(embedder, embedding_memo=2)
    for text in ("a", "b", "a", "c", "a", "b"):
        cache.lookup(text)
    assert embedder.calls == [["a"], ["b"], ["c"], ["b"]]


def test_the_memo_is_part_of_the_bound() -> None:
    embedder = HashingEmbedder()
    cache = Cache(embedder, max_bytes="64KiB", embedding_memo=10_000)
    for number in range(200):
        cache.lookup(f"text {number}")
    assert cache.stats().bytes_memo <= 65_536 / 16
    tiny = Cache(embedder, max_bytes=4096)
    for _ in range(2):
        tiny.lookup("a")
    assert tiny.stats().bytes_memo == 0


def test_nobody_can_change_what_is_remembered() -> None:
    cache = Cache(HashingEmbedder())
    first = cache.lookup_traced(PROMPT).vector
    assert first is not None
    kept = first.copy()
    first[:] = 0
    second = cache.lookup_traced(PROMPT).vector
    assert second is not None
    np.testing.assert_array_equal(second, kept)
    with pytest.raises(ValueError, match="read-only"):
        second[:] = 0


def test_a_failed_embedding_is_not_remembered() -> None:
    class Flaky(HashingEmbedder):
        def encode(self, texts):
            if not self.calls:
                self.calls.append(list(texts))
                raise RuntimeError("once")
            return super().encode(texts)

    cache = Cache(Flaky())
    with pytest.raises(Exception, match="once"):
        cache.lookup(PROMPT)
    assert cache.lookup(PROMPT) is None


def test_the_asynchronous_face_shares_it() -> None:
    embedder = HashingEmbedder()

    async def main() -> None:
        cache = AsyncCache.sharing(Cache(embedder))
        await cache.lookup(PROMPT)
        await cache.store(PROMPT, "Click.")

    asyncio.run(main())
    assert embedder.calls == [[PROMPT]]


def test_many_threads() -> None:
    cache = Cache(HashingEmbedder(), embedding_memo=8)
    texts = [f"text {number % 12}" for number in range(600)]
    with ThreadPoolExecutor(4) as pool:
        vectors = list(pool.map(lambda text: cache.lookup_traced(text).vector, texts))
    expected = HashingEmbedder().embed(texts)
    np.testing.assert_allclose(np.stack(vectors), expected)


@pytest.mark.parametrize("value", [0, -1, 1.5, "many"])
def test_sizes_that_mean_nothing_are_named(value: object) -> None:
    with pytest.raises(OptionError, match="embedding_memo"):
        Cache(embedding_memo=value)  # type: ignore[arg-type]
