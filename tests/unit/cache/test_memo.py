"""Nothing is embedded twice: vectors of the last texts are remembered."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from tests.support.hashing_embedder import HashingEmbedder

from nearhit import AsyncCache, Cache, EmbeddingError, OptionError

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
    second = cache.lookup_traced(PROMPT).vector
    assert second is not None
    np.testing.assert_array_equal(second, kept)
    for vector in (first, second):
        with pytest.raises(ValueError, match="read-only"):
            vector[:] = 0


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


class Slow(HashingEmbedder):
    """Fails as often as it is told to, and takes its time, so that others come meanwhile."""

    def __init__(self, failures: int = 0) -> None:
        super().__init__()
        self.failures = failures

    def encode(self, texts):
        time.sleep(0.05)
        made = super().encode(texts)
        if len(self.calls) <= self.failures:
            raise RuntimeError("as the test wants it")
        return made


@pytest.mark.parametrize("failures", [0, 2])
def test_concurrent_lookups_of_one_text_embed_it_once(failures: int) -> None:
    embedder = Slow(failures)
    cache = Cache(embedder)

    def look(_: int) -> bool:
        try:
            assert cache.lookup(PROMPT) is None
        except EmbeddingError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        answered = list(pool.map(look, range(8)))
    assert answered.count(False) == failures  # each its own
    assert embedder.calls == [[PROMPT]] * (failures + 1)
    assert cache.stats().memo_hits == 7 - failures


def test_tasks_and_threads_wait_for_each_other() -> None:
    embedder = Slow()
    cache = Cache(embedder)
    face = AsyncCache.sharing(cache)

    async def main() -> None:
        tasks = [face.lookup_traced(PROMPT) for _ in range(4)]
        threads = [asyncio.to_thread(cache.lookup_traced, PROMPT) for _ in range(4)]
        found = await asyncio.gather(*tasks, *threads)
        assert all(np.array_equal(one.vector, found[0].vector) for one in found)
        assert sum(one.seconds["embed"] > 0 for one in found) == len(found)

    asyncio.run(main())
    assert embedder.calls == [[PROMPT]]


@pytest.mark.parametrize("off", [0, None])
def test_a_memo_that_is_off_remembers_nothing(off: int | None) -> None:
    embedder = HashingEmbedder()
    cache = Cache(embedder, embedding_memo=off)
    for _ in range(3):
        cache.lookup(PROMPT)
    assert embedder.calls == [[PROMPT]] * 3
    assert (cache.stats().memo_hits, cache.stats().bytes_memo) == (0, 0)


@pytest.mark.parametrize("value", [-1, 1.5, True, "many"])
def test_sizes_that_mean_nothing_are_named(value: object) -> None:
    with pytest.raises(OptionError, match="embedding_memo"):
        Cache(embedding_memo=value)  # type: ignore[arg-type]
