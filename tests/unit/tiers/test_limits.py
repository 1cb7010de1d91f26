"""The limiter: never more at work than slots, first come first served, nothing lost when waiters go away."""

from __future__ import annotations

import asyncio
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nearhit
from nearhit import FunctionTier
from nearhit.tiers import Timeouts
from nearhit.tiers.limits import HopelessError, Limiter, QueueFullError


async def test_first_come_first_served():
    limiter = Limiter(1)
    order = []

    async def work(number):
        await limiter.acquire()
        order.append(number)
        await asyncio.sleep(0)
        limiter.release()

    await asyncio.gather(*(work(number) for number in range(10)))
    assert order == list(range(10))
    assert (limiter.active, limiter.waiting) == (0, 0)


async def test_a_full_queue_refuses_at_once():
    limiter = Limiter(1, 1)
    await limiter.acquire()
    waiter = asyncio.create_task(limiter.acquire())
    await asyncio.sleep(0)
    with pytest.raises(QueueFullError):
        await limiter.acquire()
    limiter.release()
    await waiter
    limiter.release()
    assert limiter.active == 0


async def learned(slots: int, seconds: float) -> Limiter:
    """A limiter whose slots were held for so long, a few times."""
    limiter = Limiter(slots)
    for _ in range(4):
        await limiter.acquire()
        limiter.release(seconds)
    return limiter


async def test_who_cannot_have_his_turn_in_time_is_refused_at_once():
    limiter = await learned(2, 3.0)
    for _ in range(2):
        await limiter.acquire(within=0.1)  # a free slot is free whatever was learned
    waiting = [asyncio.create_task(limiter.acquire()) for _ in range(4)]
    await asyncio.sleep(0)
    with pytest.raises(HopelessError) as caught:
        await limiter.acquire(within=5.9)
    assert (caught.value.ahead, caught.value.seconds) == (4, pytest.approx(6.0))
    assert limiter.waiting == 4
    in_time = [
        asyncio.create_task(limiter.acquire(within=6.1)),
        asyncio.create_task(limiter.acquire(priority=1, within=0.1)),  # it goes before all of them
        asyncio.create_task(limiter.acquire()),
    ]
    await asyncio.sleep(0)
    assert limiter.waiting == 7
    for _ in range(7):
        limiter.release()
    await asyncio.gather(*waiting, *in_time)
    limiter.release()
    limiter.release()
    assert (limiter.active, limiter.waiting) == (0, 0)


async def test_nobody_is_refused_for_his_time_before_times_are_known():
    limiter = Limiter(1)
    for _ in range(3):
        await limiter.acquire()
        limiter.release(1000.0)
    await limiter.acquire()
    waiting = [asyncio.create_task(limiter.acquire(within=0.001)) for _ in range(3)]
    await asyncio.sleep(0)
    assert limiter.waiting == 3
    for _ in range(3):
        limiter.release()
    await asyncio.gather(*waiting)


async def test_a_waiter_cancelled_while_its_slot_is_on_the_way_passes_it_on():
    limiter = Limiter(1)
    await limiter.acquire()
    first = asyncio.create_task(limiter.acquire())
    second = asyncio.create_task(limiter.acquire())
    await asyncio.sleep(0)
    limiter.release()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    await asyncio.wait_for(second, 5)
    limiter.release()
    assert (limiter.active, limiter.waiting) == (0, 0)


def test_a_waiter_whose_loop_is_gone_is_passed_over():
    limiter = Limiter(1)
    asyncio.run(limiter.acquire())

    loop = asyncio.new_event_loop()
    task = loop.create_task(limiter.acquire())
    loop.run_until_complete(asyncio.sleep(0))
    assert limiter.waiting == 1
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    limiter.release()
    assert (limiter.active, limiter.waiting) == (0, 0)
    task._log_destroy_pending = False  # closed over on purpose


def test_slots_hold_across_threads_and_loops():
    limiter = Limiter(3)
    lock = threading.Lock()
    seen = []
    now = 0

    async def work():
        nonlocal now
        await limiter.acquire()
        try:
            with lock:
                now += 1
                seen.append(now)
            await asyncio.sleep(0.0005)
            with lock:
                now -= 1
        finally:
            limiter.release()

    async def many():
        await asyncio.gather(*(work() for _ in range(40)))

    threads = [threading.Thread(target=asyncio.run, args=(many(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(seen) == 160
    assert max(seen) <= 3
    assert (limiter.active, limiter.waiting) == (0, 0)


@settings(max_examples=50, deadline=None)
@given(
    slots=st.integers(1, 4),
    places=st.integers(0, 4),
    steps=st.lists(st.tuples(st.sampled_from(["start", "finish", "cancel", "turn"]), st.integers(0, 20)), max_size=60),
)
def test_whatever_happens_no_slot_is_lost_or_doubled(slots, places, steps):
    async def main():
        limiter = Limiter(slots, places)
        tasks: list[asyncio.Task[None]] = []
        gates: list[asyncio.Event] = []
        working = 0

        async def work(gate):
            nonlocal working
            try:
                await limiter.acquire()
            except QueueFullError:
                return
            try:
                working += 1
                assert working <= slots
                await gate.wait()
            finally:
                working -= 1
                limiter.release()

        for step, which in steps:
            if step == "start":
                gates.append(asyncio.Event())
                tasks.append(asyncio.create_task(work(gates[-1])))
            elif step == "turn":
                await asyncio.sleep(0)
            elif tasks and step == "finish":
                gates[which % len(tasks)].set()
            elif tasks:
                tasks[which % len(tasks)].cancel()
            assert limiter.active <= slots
            assert limiter.waiting <= places
        for gate in gates:
            gate.set()
        await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)
        assert (limiter.active, limiter.waiting, working) == (0, 0, 0)

    asyncio.run(main())


def test_a_busy_tier_refuses_early_and_queues_in_time():
    started, release = threading.Event(), threading.Event()

    def fn(_):
        started.set()
        release.wait(30)
        return "x"

    tier = FunctionTier("f", fn, max_concurrency=1, max_queue=1)

    async def main():
        first = asyncio.create_task(tier.acomplete("a"))
        await asyncio.to_thread(started.wait, 10)
        late = asyncio.create_task(tier.acomplete("b", timeouts=Timeouts(total=0.05)))
        await asyncio.sleep(0)
        with pytest.raises(nearhit.TierBusyError, match="1 requests at work and 1 waiting"):
            await tier.acomplete("c")
        with pytest.raises(nearhit.TierTimeoutError) as caught:
            await late
        assert caught.value.phase == "queue"
        waiting = asyncio.create_task(tier.acomplete("d"))
        await asyncio.sleep(0.02)
        release.set()
        await first
        return await waiting

    answer = asyncio.run(main())
    assert answer.timings.queue >= 0.02
    assert answer.timings.ttft is not None
    assert answer.timings.ttft >= answer.timings.queue


def test_a_request_in_the_queue_of_a_tier_that_closes_is_refused():
    release = threading.Event()
    tier = FunctionTier("f", lambda _: release.wait(30) and "x", max_concurrency=1)

    async def main():
        first = asyncio.create_task(tier.acomplete("a"))
        second = asyncio.create_task(tier.acomplete("b"))
        while tier.limiter.waiting == 0:  # noqa: ASYNC110 - the limiter has no event to wait for
            await asyncio.sleep(0.001)
        await tier.aclose()
        release.set()
        await first
        with pytest.raises(nearhit.TierClosedError):
            await second

    asyncio.run(main())


@pytest.mark.parametrize(("slots", "places"), [(0, None), (-1, None), (1.5, None), (True, None), (None, -1), ("4", 1)])
def test_bad_limits(slots, places):
    with pytest.raises(nearhit.OptionError):
        Limiter(slots, places)
