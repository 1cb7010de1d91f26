"""Lookups ask by themselves where they can, and lose nothing where they cannot."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import contextmanager

import pytest
from tests.support.hashing_embedder import HashingEmbedder
from tests.support.waiting import until

from nearhit import AsyncCache
from nearhit._portal import portal
from nearhit.backends import RedisBackend

PROMPTS = [f"{number} bottles of beer on the wall" for number in range(60)]


@contextmanager
def io_thread_busy(seconds: float = 1.0):
    """The I/O thread does nothing for a while: what is answered meanwhile went by itself."""
    held, ended = threading.Event(), threading.Event()

    def hold() -> None:
        held.set()
        ended.wait(seconds)

    portal().loop.call_soon_threadsafe(hold)
    held.wait()
    try:
        yield
    finally:
        ended.set()


def filled(replica, url: str) -> None:
    writer = replica(url)
    for prompt in PROMPTS:
        writer.store(prompt, prompt)
    writer.flush()


def lookup_connections(server) -> list[int]:
    """Ids of connections that have asked for an entry."""
    with server.client() as client:
        asked = ("hmget", "evalsha", "FT.SEARCH", "ft.search")
        return [int(one["id"]) for one in client.client_list() if one["cmd"] in asked]


def test_a_lone_caller_needs_no_other_thread(server, replica):
    filled(replica, server.url)
    reader = replica(server.url)
    with io_thread_busy():
        for prompt in PROMPTS:
            assert reader.lookup(prompt, threshold=1.0).response == prompt
    assert reader._backend.stats().exact_hits == len(PROMPTS)


def test_a_lost_connection_costs_no_answer_and_comes_back(server, replica):
    filled(replica, server.url)
    reader = replica(server.url)
    assert reader.lookup(PROMPTS[0]) is not None
    with server.client() as client:
        for number in lookup_connections(server):
            client.client_kill_filter(_id=number)
    for prompt in PROMPTS[1:30]:
        until(lambda prompt=prompt: reader.lookup(prompt, threshold=1.0) is not None)
        assert reader.lookup(prompt, threshold=1.0).response == prompt
    link = reader._backend._session.fleet.first
    until(lambda: link.lanes.direct() is not None)
    with io_thread_busy():
        assert reader.lookup(PROMPTS[40], threshold=1.0).response == PROMPTS[40]


def test_a_late_reply_is_not_taken_for_the_next_ones(own_server, replica):
    filled(replica, own_server.url)
    reader = replica(own_server.url, deadline=0.1)
    assert reader.lookup(PROMPTS[0], threshold=1.0) is not None
    own_server.pause()
    started = time.monotonic()
    assert reader.lookup(PROMPTS[1], threshold=1.0) is None
    assert 0.05 < time.monotonic() - started < 0.6
    assert reader.lookup(PROMPTS[2], threshold=1.0) is None
    own_server.resume()
    for prompt in PROMPTS[3:]:
        until(lambda prompt=prompt: reader.lookup(prompt, threshold=1.0) is not None)
        assert reader.lookup(prompt, threshold=1.0).response == prompt
    assert reader._backend.stats().late >= 2


def shared(server, **options) -> AsyncCache:
    return AsyncCache(HashingEmbedder(), threshold=0.8, backend=RedisBackend(server.url, **options))


async def beginning(cache: AsyncCache) -> None:
    """Asks often enough for the loop to have a connection of its own."""
    lanes = cache._backend._session.fleet.first.lanes
    for number in range(1000):
        await cache.lookup(f"something else {number}", threshold=1.0)
        if lanes.of(asyncio.get_running_loop()) is not None:
            return
        await asyncio.sleep(0.001 if number > 20 else 0)
    raise AssertionError("no connection")


async def test_lookups_of_a_loop_need_no_other_thread(server, replica):
    filled(replica, server.url)
    async with shared(server, deadline=2.0) as cache:
        await beginning(cache)
        with io_thread_busy():
            hits = await asyncio.gather(*(cache.lookup(prompt, threshold=1.0) for prompt in PROMPTS))
        assert [hit.response for hit in hits] == PROMPTS


async def test_a_loop_that_loses_its_connection_goes_the_other_way(server, replica):
    filled(replica, server.url)
    async with shared(server, deadline=2.0) as cache:
        await beginning(cache)
        lane = cache._backend._session.fleet.first.lanes.of(asyncio.get_running_loop())
        host, port = lane._socket.getsockname()
        with server.client() as client:
            assert client.client_kill_filter(addr=f"{host}:{port}") == 1
        hits = await asyncio.gather(*(cache.lookup(prompt, threshold=1.0) for prompt in PROMPTS))
        assert [hit.response for hit in hits] == PROMPTS
        await beginning(cache)


async def test_a_late_reply_to_a_loop_is_not_taken_for_the_next_ones(own_server, replica):
    filled(replica, own_server.url)
    async with shared(own_server, deadline=0.1) as cache:
        await beginning(cache)
        own_server.pause()
        waiting = [asyncio.create_task(cache.lookup(prompt, threshold=1.0)) for prompt in PROMPTS[:4]]
        await asyncio.sleep(0)
        waiting[3].cancel()
        assert await asyncio.gather(*waiting[:3]) == [None] * 3
        own_server.resume()
        await asyncio.sleep(0.05)
        hits = await asyncio.gather(*(cache.lookup(prompt, threshold=1.0) for prompt in PROMPTS[10:]))
        assert [hit.response for hit in hits] == PROMPTS[10:]


@pytest.mark.parametrize("lookups", [1, 40])
def test_loops_that_come_and_go_leave_nothing_open(server, replica, lookups):
    filled(replica, server.url)
    cache = shared(server, deadline=2.0)
    before = len(lookup_connections(server))

    async def some() -> None:
        for prompt in PROMPTS[:lookups]:
            assert (await cache.lookup(prompt, threshold=1.0)).response == prompt
            await asyncio.sleep(0.002)
        cache._core.clear()

    for _ in range(10):
        asyncio.run(some())
    lanes = cache._backend._session.fleet.first.lanes
    assert len(lanes._loops) <= 2
    assert len(lookup_connections(server)) <= before + 4
    asyncio.run(cache.close())
