"""The watchdog: each wait ends in time, nobody else's cancellation is taken for its own, one timer serves all."""

from __future__ import annotations

import asyncio

import pytest

from nearhit.tiers.watchdog import Watchdog


async def test_a_wait_ends_in_time_and_its_work_is_cancelled():
    dog, loop = Watchdog(), asyncio.get_running_loop()
    ended = []

    async def hang():
        try:
            await asyncio.sleep(1000)
        finally:
            ended.append(True)

    with pytest.raises(TimeoutError):
        await dog.wait(hang(), loop.time() + 0.01)
    assert dog.expired
    assert ended == [True]
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    assert await dog.wait(asyncio.sleep(0, "next"), loop.time() + 10) == "next"
    assert not dog.expired
    dog.close()


async def test_a_time_that_has_passed():
    dog = Watchdog()
    with pytest.raises(TimeoutError):
        await dog.wait(asyncio.sleep(1000), asyncio.get_running_loop().time() - 1)
    dog.close()


async def test_waits_share_one_timer():
    dog, loop = Watchdog(), asyncio.get_running_loop()
    await dog.wait(asyncio.sleep(0), loop.time() + 10)
    timer = dog._timer
    for later in range(100):
        await dog.wait(asyncio.sleep(0), loop.time() + 10 + later)
    assert dog._timer is timer
    with pytest.raises(TimeoutError):  # sooner than the timer was set
        await dog.wait(asyncio.sleep(1000), loop.time() + 0.01)
    await dog.wait(asyncio.sleep(0.05), None)
    dog.close()
    assert dog._timer is None


async def test_a_timer_that_fires_early_sleeps_on():
    dog, loop = Watchdog(), asyncio.get_running_loop()
    await dog.wait(asyncio.sleep(0), loop.time() + 0.02)
    with pytest.raises(TimeoutError):
        await dog.wait(asyncio.sleep(1000), loop.time() + 0.08)
    dog.close()


async def test_a_cancellation_from_outside_stays_one():
    dog, loop = Watchdog(), asyncio.get_running_loop()
    task = asyncio.create_task(dog.wait(asyncio.sleep(1000), loop.time() + 1000))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not dog.expired
    dog.close()


async def test_both_at_once_is_a_cancellation():
    dog, loop = Watchdog(), asyncio.get_running_loop()

    async def stubborn():
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            task.cancel()
            raise

    task = asyncio.create_task(dog.wait(stubborn(), loop.time() + 0.01))
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()
    dog.close()


async def test_an_outer_limit_keeps_its_meaning():
    dog, loop = Watchdog(), asyncio.get_running_loop()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01) as outer:
            await dog.wait(asyncio.sleep(1000), loop.time() + 1000)
    assert outer.expired()
    assert not dog.expired
    dog.close()


async def test_an_error_or_result_of_the_work_passes_through():
    dog, loop = Watchdog(), asyncio.get_running_loop()

    async def fail():
        raise TimeoutError("its own")

    with pytest.raises(TimeoutError, match="its own"):
        await dog.wait(fail(), loop.time() + 1000)
    assert not dog.expired
    dog.close()
