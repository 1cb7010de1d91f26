"""Callers that come while the model is at work share its next pass."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pytest

from nearhit import EmbeddingError
from nearhit.embed.gather import Gatherer

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Model:
    """Waits for leave to go on, then answers with each text's sum."""

    def __init__(self) -> None:
        self.passes: list[list[int]] = []
        self.entered = threading.Semaphore(0)
        self.leave = threading.Semaphore(0)

    def __call__(self, texts: list[list[int]]) -> list[NDArray[np.float32]]:
        self.passes.append([len(ids) for ids in texts])
        self.entered.release()
        assert self.leave.acquire(timeout=20)
        if [13] in texts:
            raise RuntimeError("an unlucky text")
        return [np.float32([sum(ids)]) for ids in texts]


def waiting(gatherer: Gatherer, count: int) -> None:
    end = time.monotonic() + 20
    while len(gatherer._waiting) != count:
        assert time.monotonic() < end
        time.sleep(0.001)


def test_those_who_come_meanwhile_go_together_by_length() -> None:
    model = Model()
    gatherer = Gatherer("model", model)
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(gatherer.run, [1])
        assert model.entered.acquire(timeout=20)
        others = []
        for place, ids in enumerate(([2] * 4, [3] * 8, [4] * 100, [5] * 5)):
            others.append(pool.submit(gatherer.run, ids))
            waiting(gatherer, place + 1)
        model.leave.release(3)
        assert first.result(20) == 1
        assert [float(other.result(20)[0]) for other in others] == [8, 24, 400, 25]
    assert model.passes == [[1], [4, 8, 5], [100]]
    assert gatherer._running == 0


def test_an_idle_model_is_used_at_once_and_in_all_its_lanes() -> None:
    model = Model()
    gatherer = Gatherer("model", model, lanes=2)
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(gatherer.run, [number]) for number in (1, 2)]
        assert model.entered.acquire(timeout=20)
        assert model.entered.acquire(timeout=20)
        model.leave.release(2)
        assert sorted(float(one.result(20)[0]) for one in both) == [1, 2]
    assert model.passes == [[1], [1]]


def test_a_full_queue_refuses_and_an_impatient_caller_leaves_it() -> None:
    model = Model()
    gatherer = Gatherer("model", model, queue=1, patience=0.05)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(gatherer.run, [1])
        assert model.entered.acquire(timeout=20)
        second = pool.submit(gatherer.run, [2])
        with pytest.raises(EmbeddingError, match=r"within 0\.05 s|1 texts wait"):
            gatherer.run([3])
        with pytest.raises(EmbeddingError, match=r"within 0\.05 s"):
            second.result(20)
        model.leave.release()
        assert first.result(20) == 1
    assert (len(gatherer._waiting), gatherer._running) == (0, 0)


def test_a_failed_pass_is_told_to_all_in_it_and_the_next_goes_on() -> None:
    model = Model()
    gatherer = Gatherer("model", model)
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(gatherer.run, [1])
        assert model.entered.acquire(timeout=20)
        doomed = []
        for place, ids in enumerate(([13], [7])):
            doomed.append(pool.submit(gatherer.run, ids))
            waiting(gatherer, place + 1)
        model.leave.release(2)
        assert first.result(20) == 1
        for one in doomed:
            with pytest.raises(RuntimeError, match="unlucky"):
                one.result(20)
    model.leave.release()
    assert gatherer.run([5]) == 5


def test_many_callers_each_get_their_own() -> None:
    gatherer = Gatherer("model", lambda texts: [np.float32([sum(ids)]) for ids in texts], lanes=2)
    texts = [[number] * (1 + number % 7) for number in range(500)]
    with ThreadPoolExecutor(16) as pool:
        found = [float(vector[0]) for vector in pool.map(gatherer.run, texts)]
    assert found == [float(sum(ids)) for ids in texts]
    assert (len(gatherer._waiting), gatherer._running) == (0, 0)
