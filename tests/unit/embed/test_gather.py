"""Callers that come while the model is at work share its next pass."""

from __future__ import annotations

import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pytest

from nearhit import EmbedderBusyError, EmbeddingError, EmbeddingTimeoutError
from nearhit._bound import Bound
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


def idle(gatherer: Gatherer) -> None:
    assert (len(gatherer._waiting), len(gatherer._leading)) == (0, 0)


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
    idle(gatherer)


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
    gatherer = Gatherer("model", model, queue=1)
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(gatherer.run, [1])
        assert model.entered.acquire(timeout=20)
        second = pool.submit(gatherer.run, [2], Bound(0.3))
        waiting(gatherer, 1)
        with pytest.raises(EmbedderBusyError, match="1 texts wait already"):
            gatherer.run([3])
        with pytest.raises(EmbeddingTimeoutError, match=r"did not embed within 0\.3 s"):
            second.result(20)
        third = pool.submit(gatherer.run, [4])
        waiting(gatherer, 1)
        model.leave.release(2)
        assert (first.result(20), third.result(20)) == (1, 4)
    assert model.passes == [[1], [1]]
    idle(gatherer)


def test_a_caller_whose_time_is_over_does_not_begin() -> None:
    gatherer = Gatherer("model", Model())
    with pytest.raises(EmbeddingTimeoutError):
        gatherer.run([1], Bound(1e-9))
    idle(gatherer)


def test_a_caller_leaves_at_its_deadline_though_its_pass_has_begun_and_its_mates_do_not_notice() -> None:
    model = Model()
    gatherer = Gatherer("model", model)
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(gatherer.run, [1])
        assert model.entered.acquire(timeout=20)
        leader = pool.submit(gatherer.run, [2, 2])
        waiting(gatherer, 1)
        hurried = pool.submit(gatherer.run, [3, 3], Bound(0.5))
        waiting(gatherer, 2)
        model.leave.release()
        assert model.entered.acquire(timeout=20)
        with pytest.raises(EmbeddingTimeoutError):
            hurried.result(20)
        assert not leader.done()
        model.leave.release()
        assert (first.result(20), leader.result(20)) == (1, 4)
    assert model.passes == [[1], [2, 2]]
    idle(gatherer)


def test_a_caller_that_is_called_off_leaves_the_queue() -> None:
    model = Model()
    gatherer = Gatherer("model", model)
    bound = Bound()
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(gatherer.run, [1])
        assert model.entered.acquire(timeout=20)
        gone = pool.submit(gatherer.run, [2], bound)
        waiting(gatherer, 1)
        other = pool.submit(gatherer.run, [3])
        waiting(gatherer, 2)
        bound.call_off()
        with pytest.raises(EmbeddingError, match="called off"):
            gone.result(20)
        waiting(gatherer, 1)
        model.leave.release(2)
        assert (first.result(20), other.result(20)) == (1, 3)
        with pytest.raises(EmbeddingError, match="called off"):
            gatherer.run([4], bound)
    assert model.passes == [[1], [1]]
    idle(gatherer)


@pytest.mark.usefixtures("interruptible")
def interrupt_main_when(condition: threading.Semaphore | None, gatherer: Gatherer, count: int) -> threading.Thread:
    """Ctrl-C in the main thread, once that many wait or the model is entered."""

    def interrupt() -> None:
        if condition is None:
            waiting(gatherer, count)
        else:
            assert condition.acquire(timeout=20)
        time.sleep(0.05)  # into the wait itself
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    return thread


def test_an_interrupted_waiter_leaves_the_queue_and_the_others_get_theirs() -> None:
    model = Model()
    gatherer = Gatherer("model", model)
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(gatherer.run, [1])
        assert model.entered.acquire(timeout=20)
        other = pool.submit(gatherer.run, [2])
        waiting(gatherer, 1)
        interrupting = interrupt_main_when(None, gatherer, 2)
        with pytest.raises(KeyboardInterrupt):
            gatherer.run([3])
        interrupting.join(20)
        waiting(gatherer, 1)
        model.leave.release(2)
        assert (first.result(20), other.result(20)) == (1, 2)
    assert model.passes == [[1], [1]]
    idle(gatherer)


def test_when_the_leader_of_a_pass_is_interrupted_one_of_its_mates_runs_it_for_the_others() -> None:
    entered, leave = threading.Semaphore(0), threading.Event()
    passes: list[list[int]] = []

    def forward(texts: list[list[int]]) -> list[NDArray[np.float32]]:
        passes.append([ids[0] for ids in texts])
        entered.release()
        assert leave.wait(20)
        return [np.float32([sum(ids)]) for ids in texts]

    gatherer = Gatherer("model", forward)
    results: list[object] = []

    def main_part() -> None:
        """Leads the second pass, in the main thread, and is interrupted in it."""
        interrupting = interrupt_main_when(entered, gatherer, 0)
        with pytest.raises(KeyboardInterrupt):
            gatherer.run([2])
        interrupting.join(20)

    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(gatherer.run, [1])
        assert entered.acquire(timeout=20)

        def come_later() -> None:
            waiting(gatherer, 1)  # the main thread is first in the queue
            for number in (3, 4):
                results.append(pool.submit(gatherer.run, [number]))
                waiting(gatherer, 1 + len(results))
            leave.set()  # ends the first pass; the next one, which the main thread leads, has to stand still
            leave.clear()

        later = threading.Thread(target=come_later)
        later.start()
        main_part()
        later.join(20)
        leave.set()
        assert first.result(20) == 1
        assert [float(one.result(20)[0]) for one in results] == [3, 4]  # type: ignore[attr-defined]
    assert passes == [[1], [2, 3, 4], [3, 4]]
    idle(gatherer)


def test_a_text_that_fails_fails_alone() -> None:
    model = Model()
    gatherer = Gatherer("model", model)
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(gatherer.run, [1])
        assert model.entered.acquire(timeout=20)
        others = []
        for place, ids in enumerate(([13], [7])):
            others.append(pool.submit(gatherer.run, ids))
            waiting(gatherer, place + 1)
        model.leave.release(4)
        assert first.result(20) == 1
        with pytest.raises(RuntimeError, match="unlucky"):
            others[0].result(20)
        assert others[1].result(20) == 7
    assert model.passes == [[1], [1, 1], [1], [1]]
    model.leave.release()
    assert gatherer.run([5]) == 5
    idle(gatherer)


def test_many_callers_each_get_their_own() -> None:
    gatherer = Gatherer("model", lambda texts: [np.float32([sum(ids)]) for ids in texts], lanes=2)
    texts = [[number] * (1 + number % 7) for number in range(500)]
    with ThreadPoolExecutor(16) as pool:
        found = [float(vector[0]) for vector in pool.map(gatherer.run, texts)]
    assert found == [float(sum(ids)) for ids in texts]
    idle(gatherer)


def test_callers_that_give_up_at_any_moment_leave_nothing_behind() -> None:
    gatherer = Gatherer("model", lambda texts: time.sleep(0.001) or [np.float32([sum(ids)]) for ids in texts], lanes=2)

    def call(number: int) -> float | None:
        bound = Bound(0.0005 * (number % 13)) if number % 2 and number % 13 else Bound()
        if number % 5 == 0:
            threading.Timer(0.0007 * (number % 7), bound.call_off).start()
        try:
            return float(gatherer.run([number], bound)[0])
        except EmbeddingError:
            return None

    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(call, range(600)))
    assert all(value in (None, number) for number, value in enumerate(found))
    assert sum(value is not None for value in found) > 200
    idle(gatherer)
