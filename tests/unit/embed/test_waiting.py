"""Callers of the real model who wait, give up, are refused or go away; and who they were batched with."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tests.support.waiting import until

from nearhit import AsyncCache, Cache, EmbedderBusyError, EmbeddingTimeoutError, OptionError, embed
from nearhit.embed import CTranslate2Embedder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

TEXTS = [f"question {number} about " + "a long and winding road " * (number % 4) for number in range(48)]


class Gate:
    """Stands before the real model: lets each pass in when it is told to."""

    def __init__(self, embedder: CTranslate2Embedder) -> None:
        self.gatherer = embedder._callers.get()
        self._forward = self.gatherer._forward
        self.passes: list[int] = []
        self.entered = threading.Semaphore(0)
        self.open = threading.Event()
        self.gatherer._forward = self  # type: ignore[method-assign,assignment]

    def __call__(self, texts: list[list[int]]) -> list[NDArray[np.float32]]:
        self.passes.append(len(texts))
        self.entered.release()
        assert self.open.wait(30)
        return self._forward(texts)

    def wait_for(self, count: int) -> None:
        until(lambda: len(self.gatherer._waiting) == count)

    def assert_idle(self) -> None:
        until(lambda: not self.gatherer._waiting and not self.gatherer._leading)


@pytest.fixture
def single(minilm: Path) -> CTranslate2Embedder:
    return CTranslate2Embedder(minilm, device="cpu", threads=1, queue=40)


@pytest.fixture
def gate(single: CTranslate2Embedder) -> Iterator[Gate]:
    gate = Gate(single)
    yield gate
    gate.open.set()
    gate.assert_idle()


def alone(single: CTranslate2Embedder, texts: list[str]) -> NDArray[np.float32]:
    return np.stack([single.embed([text])[0] for text in texts])


def assert_same(vectors: NDArray[np.float32], expected: NDArray[np.float32], within: float = 1e-3) -> None:
    """By default within what one float rounded otherwise does to the bytes of CTranslate2's int8: 3.4e-4 was seen."""
    np.testing.assert_allclose(np.einsum("ij,ij->i", vectors, expected), 1, atol=within)


@pytest.mark.parametrize(("compute_type", "within"), [("float32", 2e-6), ("int8", 1e-3)])
def test_vectors_do_not_depend_on_who_shares_the_pass(minilm: Path, compute_type: str, within: float) -> None:
    single = CTranslate2Embedder(minilm, device="cpu", threads=1, compute_type=compute_type)
    expected = alone(single, TEXTS)
    gate = Gate(single)
    with ThreadPoolExecutor(40) as pool:
        waiting = [pool.submit(single.embed, [text]) for text in TEXTS[:40]]
        gate.wait_for(39)
        gate.open.set()
        together = np.concatenate([one.result(30) for one in waiting])
    assert max(gate.passes) > 8
    assert_same(together, expected[:40], within)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupted_waiter_and_an_impatient_one_disturb_nobody(single: CTranslate2Embedder) -> None:
    expected = alone(single, TEXTS[:9])
    gate = Gate(single)

    def interrupt() -> None:
        gate.wait_for(10)
        time.sleep(0.05)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    with ThreadPoolExecutor(12) as pool:
        others = [pool.submit(single.embed, [text]) for text in TEXTS[:9]]
        gate.wait_for(8)
        hurried = pool.submit(single.embed, ["in a hurry"], deadline=1.0)
        gate.wait_for(9)
        interrupting = threading.Thread(target=interrupt)
        interrupting.start()
        with pytest.raises(KeyboardInterrupt):
            single.embed(["a text whose caller is interrupted"])
        interrupting.join(30)
        with pytest.raises(EmbeddingTimeoutError, match=r"did not embed within 1\.0 s"):
            hurried.result(30)
        gate.wait_for(8)
        gate.open.set()
        vectors = np.concatenate([one.result(30) for one in others])
    assert sum(gate.passes) == 9
    assert_same(vectors, expected)
    gate.assert_idle()


def test_a_full_queue_has_its_own_error(single: CTranslate2Embedder, gate: Gate) -> None:
    with ThreadPoolExecutor(41) as pool:
        waiting = [pool.submit(single.embed, [text]) for text in TEXTS[:41]]
        gate.wait_for(40)
        with pytest.raises(EmbedderBusyError, match="40 texts wait already"):
            single.embed(["one more"])
        gate.open.set()
        assert all(one.result(30).shape == (1, 384) for one in waiting)


@pytest.mark.parametrize("deadline", [0, -1.0, float("nan"), "soon"])
def test_a_deadline_that_means_nothing_is_named(single: CTranslate2Embedder, deadline: object) -> None:
    with pytest.raises(OptionError, match="deadline"):
        single.embed(["a text"], deadline=deadline)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="seconds"), embed.deadline(deadline):  # type: ignore[arg-type]
        pass


def test_the_tightest_of_patience_deadline_and_block_counts(minilm: Path) -> None:
    embedder = CTranslate2Embedder(minilm, device="cpu", threads=1, patience=0.2)
    gate = Gate(embedder)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(embedder.embed, ["first"], deadline=60.0)
        assert gate.entered.acquire(timeout=30)
        with pytest.raises(EmbeddingTimeoutError, match=r"0\.2 s"):
            embedder.embed(["second"])
        with pytest.raises(EmbeddingTimeoutError, match=r"0\.05 s"), embed.deadline(60), embed.deadline(0.05):
            embedder.embed(["second"])
        with pytest.raises(EmbeddingTimeoutError, match=r"0\.07 s"), embed.deadline(0.07), embed.deadline(None):
            embedder.embed(["second"], deadline=60.0)
        gate.open.set()
        assert first.result(30).shape == (1, 384)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_long_list_is_given_up_between_batches(minilm: Path, threads: int) -> None:
    embedder = CTranslate2Embedder(minilm, device="cpu", threads=threads)
    texts = ["many words " * 120] * 800
    start = time.perf_counter()
    with pytest.raises(EmbeddingTimeoutError):
        embedder.embed(texts, deadline=0.1)
    assert time.perf_counter() - start < 20  # all of it takes a minute
    assert embedder.embed(texts[:20]).shape == (20, 384)


def test_a_cancelled_task_leaves_the_queue(single: CTranslate2Embedder, gate: Gate) -> None:
    cache = AsyncCache(single, policy="static")

    async def main() -> None:
        first = asyncio.create_task(cache.lookup("first"))
        await asyncio.to_thread(gate.entered.acquire)
        second, third = (asyncio.create_task(cache.lookup(text)) for text in ("second", "third"))
        await asyncio.to_thread(gate.wait_for, 2)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        await asyncio.to_thread(gate.wait_for, 1)
        gate.open.set()
        assert await asyncio.gather(first, third) == [None, None]

    asyncio.run(main())
    assert gate.passes == [1, 1]
    stats = cache._stats()
    assert (stats.misses, stats.embedder_busy, stats.embedder_late) == (2, 0, 0)


def test_a_busy_or_late_embedder_makes_a_lookup_a_miss(minilm: Path) -> None:
    embedder = CTranslate2Embedder(minilm, device="cpu", threads=1, queue=1)
    cache = Cache(embedder, embedding_memo=None)
    gate = Gate(embedder)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(cache.lookup, "first")
        assert gate.entered.acquire(timeout=30)
        with embed.deadline(0.05):
            assert cache.lookup("late") is None
        second = pool.submit(cache.lookup, "second")
        gate.wait_for(1)
        traced = cache.lookup_traced("busy")
        assert (traced.hit, traced.vector, traced.truncated) == (None, None, False)
        assert isinstance(traced.unembedded, EmbedderBusyError)
        cache.store("busy", "kept for equal requests")
        gate.open.set()
        assert (first.result(30), second.result(30)) == (None, None)
    hit = cache.lookup("busy")
    assert hit is not None
    assert (hit.kind, hit.response) == ("exact", "kept for equal requests")
    stats = cache.stats()
    assert (stats.misses, stats.embedder_busy, stats.embedder_late) == (4, 2, 1)


def test_a_memoised_function_answers_though_the_embedder_has_no_time(minilm: Path) -> None:
    embedder = CTranslate2Embedder(minilm, device="cpu", threads=1, patience=0.05)
    cache = Cache(embedder)
    gate = Gate(embedder)
    calls: list[str] = []

    @cache.memoize
    def answer(prompt: str) -> str:
        calls.append(prompt)
        return prompt.upper()

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(embedder.embed, ["first"], deadline=60.0)
        assert gate.entered.acquire(timeout=30)
        assert [answer("hello"), answer("hello")] == ["HELLO", "HELLO"]
        gate.open.set()
        first.result(30)
    assert calls == ["hello"]
    assert cache.stats().embedder_late == 2  # of the lookup, and of the store


def has_gpu() -> bool:
    import ctranslate2  # noqa: PLC0415 - only here

    return bool(ctranslate2.get_cuda_device_count())


@pytest.mark.skipif(has_gpu(), reason="this machine has a GPU")
def test_without_a_gpu_asking_for_one_is_refused_clearly(minilm: Path) -> None:
    with pytest.raises(OptionError, match=r"device 'cuda': CTranslate2 finds no CUDA device.*device='auto' or 'cpu'"):
        CTranslate2Embedder(minilm, device="cuda")
    with pytest.raises(OptionError, match="finds no CUDA device"):
        embed.load(minilm, device="cuda")
    assert CTranslate2Embedder(minilm, device="auto").device == "cpu"


@pytest.mark.skipif(not has_gpu(), reason="this machine has no GPU that CTranslate2 can use")
@pytest.mark.parametrize("compute_type", ["float16", "int8_float16"])
def test_on_a_gpu_vectors_agree_with_those_of_the_cpu(minilm: Path, compute_type: str) -> None:
    on_gpu = CTranslate2Embedder(minilm, device="cuda", compute_type=compute_type)
    assert on_gpu.device == "cuda"
    expected = CTranslate2Embedder(minilm, device="cpu", compute_type="float32").embed(TEXTS)
    for vectors in (on_gpu.embed(TEXTS), alone(on_gpu, TEXTS)):
        assert np.einsum("ij,ij->i", vectors, expected).min() > 0.98
