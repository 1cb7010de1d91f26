"""Single-flight for streams: one call for all who listen, whoever leaves, fails or dawdles."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from typing import TYPE_CHECKING

import pytest

import nearhit
from nearhit import AsyncCache, Cache
from nearhit.cache._stream import AsyncStreams, Streams

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator

LETTERS = list("abcdef")


def test_threads_read_one_call_while_it_goes_on() -> None:
    cache = Cache()
    calls: list[str] = []
    together = threading.Barrier(6)

    @cache.memoize
    def stream(prompt: str) -> Iterator[str]:
        calls.append(prompt)
        yield from LETTERS

    def listen(_: int) -> list[str]:
        heard = stream("hi")
        first = next(heard)
        together.wait(10)  # everybody has the first item before anybody has the last
        return [first, *heard]

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(listen, range(6))) == [LETTERS] * 6
    assert calls == ["hi"]
    assert list(stream("hi")) == LETTERS
    assert (cache.stats().stores, cache.stats().exact_hits) == (1, 1)


def test_a_departed_or_dawdling_leader_holds_up_nobody() -> None:
    streams = Streams(patience=10)
    closed: list[str] = []

    def make() -> Generator[str, None, None]:
        try:
            yield from LETTERS
        finally:
            closed.append("closed")

    leader, dawdler, follower = (streams.follow("key", make) for _ in range(3))
    assert [next(leader), next(leader), next(dawdler), next(follower)] == ["a", "b", "a", "a"]
    leader.close()  # type: ignore[attr-defined]
    assert list(follower) == LETTERS[1:]
    assert closed == ["closed"]
    assert list(dawdler) == LETTERS[1:]
    assert len(streams) == 0


def test_the_call_is_given_up_with_its_last_listener() -> None:
    streams = Streams(patience=10)
    closed: list[str] = []

    def make() -> Generator[str, None, None]:
        try:
            yield from LETTERS
        finally:
            closed.append("closed")

    first, second = streams.follow("key", make), streams.follow("key", make)
    assert next(first) == next(second) == "a"
    first.close()  # type: ignore[attr-defined]
    assert (closed, len(streams)) == ([], 1)
    second.close()  # type: ignore[attr-defined]
    assert (closed, len(streams)) == (["closed"], 0)


def test_a_failed_call_is_made_again_by_one_listener_at_a_time() -> None:
    cache = Cache()
    lock = threading.Lock()
    made = running = most = 0
    together = threading.Barrier(6)

    @cache.memoize
    def stream(prompt: str) -> Iterator[str]:
        nonlocal made, running, most
        with lock:
            made += 1
            running += 1
            turn, most = made, max(most, running)
        time.sleep(0.02)
        with lock:
            running -= 1
        if turn <= 3:
            raise RuntimeError(f"turn {turn}")
        yield from LETTERS

    def listen(_: int) -> str:
        together.wait(10)
        try:
            return "".join(stream("hi"))
        except RuntimeError as error:
            return str(error)

    with ThreadPoolExecutor(6) as pool:
        outcomes = sorted(pool.map(listen, range(6)))
    assert outcomes == ["abcdef"] * 3 + ["turn 1", "turn 2", "turn 3"]
    assert (made, most) == (4, 1)


def test_listeners_in_the_middle_of_a_failed_stream_are_told() -> None:
    streams = Streams(patience=10)
    outcomes = iter([ConnectionError("gone"), KeyboardInterrupt()])

    def make() -> Generator[str, None, None]:
        yield "a"
        raise next(outcomes)

    for expected in (ConnectionError, KeyboardInterrupt):
        leader, follower = streams.follow("key", make), streams.follow("key", make)
        assert next(leader) == next(follower) == "a"
        with pytest.raises(expected):
            next(leader)
        with pytest.raises(ConnectionError if expected is ConnectionError else nearhit.StreamBrokenError):
            next(follower)
    assert len(streams) == 0


def test_waiting_for_an_item_is_bounded() -> None:
    streams = Streams(patience=0.02)
    release, stuck = threading.Event(), threading.Event()

    def make() -> Generator[str, None, None]:
        yield "a"
        stuck.set()
        release.wait(10)
        yield "b"

    begun = streams.follow("key", make)
    leader = streams.follow("key", make)
    assert next(begun) == next(leader) == "a"
    with ThreadPoolExecutor(1) as pool:
        rest = pool.submit(list, leader)
        stuck.wait(10)
        with pytest.raises(nearhit.StreamBrokenError, match=r"0\.02 s"):
            next(begun)
        fresh = streams.follow("key", lambda: (item for item in "xyz"))
        assert next(fresh) == "a"  # what is there is passed on
        release.set()
        assert rest.result() == ["b"]
    assert list(fresh) == ["b"]
    assert len(streams) == 0


def test_a_call_that_asks_for_itself_does_not_wait_for_itself() -> None:
    cache = Cache()
    depth: list[int] = []

    @cache.memoize
    def stream(prompt: str) -> Iterator[str]:
        depth.append(1)
        yield from stream(prompt) if len(depth) == 1 else LETTERS

    @cache.memoize
    def value(prompt: str) -> str:
        depth.append(1)
        return value(prompt) if len(depth) == 1 else "done"

    assert list(stream("hi")) == LETTERS
    depth.clear()
    assert value("hi") == "done"


async def test_a_coroutine_that_asks_for_itself_does_not_wait_for_itself() -> None:
    cache = AsyncCache()
    depth: list[int] = []

    @cache.memoize
    async def stream(prompt: str) -> AsyncIterator[str]:
        depth.append(1)
        if len(depth) == 1:
            async for item in stream(prompt):
                yield item
        else:
            yield "done"

    @cache.memoize
    async def value(prompt: str) -> str:
        depth.append(1)
        return await value(prompt) if len(depth) == 1 else "done"

    assert [item async for item in stream("hi")] == ["done"]
    depth.clear()
    assert await asyncio.wait_for(value("hi"), 10) == "done"


async def test_tasks_read_one_call_and_it_is_made_as_they_ask() -> None:
    cache = AsyncCache()
    calls: list[str] = []
    yielded: list[str] = []

    @cache.memoize
    async def stream(prompt: str) -> AsyncIterator[str]:
        calls.append(prompt)
        async with asyncio.timeout(10):  # bound to one task from its begin to its end
            for letter in LETTERS:
                yielded.append(letter)
                yield letter

    async with aclosing(stream("hi")) as early:  # type: ignore[type-var]
        assert await anext(early) == "a"
        assert yielded == ["a"]
        heard = await asyncio.gather(*(_collect(stream("hi")) for _ in range(5)))
        assert heard == [LETTERS] * 5
        assert [item async for item in early] == LETTERS[1:]
    assert calls == ["hi"]
    assert await _collect(stream("hi")) == LETTERS
    stats = await cache.stats()
    assert (stats.stores, stats.exact_hits) == (1, 1)


async def _collect(stream: AsyncIterator[str]) -> list[str]:
    return [item async for item in stream]


async def test_a_cancelled_leader_leaves_the_call_to_its_followers() -> None:
    streams = AsyncStreams(patience=10)
    gate = asyncio.Event()
    made = 0

    async def make() -> AsyncGenerator[str, None]:
        nonlocal made
        made += 1
        yield "a"
        await gate.wait()
        yield "b"

    tasks = [asyncio.create_task(_collect(streams.follow("key", make))) for _ in range(4)]
    await asyncio.sleep(0.01)
    tasks[0].cancel()
    tasks[2].cancel()
    await asyncio.sleep(0)
    gate.set()
    outcomes = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)
    assert [outcomes[1], outcomes[3]] == [["a", "b"]] * 2
    assert [type(outcomes[at]) for at in (0, 2)] == [asyncio.CancelledError] * 2
    assert (made, len(streams)) == (1, 0)


async def test_an_async_call_is_given_up_with_its_last_listener() -> None:
    streams = AsyncStreams(patience=10)
    closed: list[str] = []

    async def make() -> AsyncGenerator[str, None]:
        try:
            yield "a"
            await asyncio.sleep(60)
        finally:
            closed.append("closed")

    first, second = streams.follow("key", make), streams.follow("key", make)
    assert await anext(first) == await anext(second) == "a"
    await first.aclose()
    assert (closed, len(streams)) == ([], 1)
    waiting = asyncio.create_task(anext(second))  # type: ignore[arg-type]
    await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (closed, len(streams)) == (["closed"], 0)


async def test_a_failed_async_call_is_made_again_by_one_listener_at_a_time() -> None:
    streams = AsyncStreams(patience=10)
    made = running = most = 0

    async def make() -> AsyncGenerator[str, None]:
        nonlocal made, running, most
        made, running = made + 1, running + 1
        turn, most = made, max(most, running)
        await asyncio.sleep(0.01)
        running -= 1
        if turn <= 3:
            raise RuntimeError(f"turn {turn}")
        for letter in LETTERS:
            yield letter

    async def listen() -> str:
        try:
            return "".join(await _collect(streams.follow("key", make)))
        except RuntimeError as error:
            return str(error)

    outcomes = await asyncio.wait_for(asyncio.gather(*(listen() for _ in range(6))), 10)
    assert sorted(outcomes) == ["abcdef"] * 3 + ["turn 1", "turn 2", "turn 3"]
    assert (made, most, len(streams)) == (4, 1, 0)


async def test_waiting_for_an_async_item_is_bounded() -> None:
    streams = AsyncStreams(patience=0.02)
    gate = asyncio.Event()

    async def stuck() -> AsyncGenerator[str, None]:
        await gate.wait()
        yield "a"

    async def own() -> AsyncGenerator[str, None]:
        yield "own"

    leader = asyncio.create_task(_collect(streams.follow("key", stuck)))
    await asyncio.sleep(0)
    assert await _collect(streams.follow("key", own)) == ["own"]
    gate.set()
    assert await leader == ["a"]  # the leader waits for its own call as long as it takes
    assert len(streams) == 0


def test_tasks_of_two_event_loops_share_a_call_and_outlive_its_loop() -> None:
    streams = AsyncStreams(patience=10)
    begun, joined = threading.Event(), threading.Event()
    made: list[str] = []

    async def make() -> AsyncGenerator[str, None]:
        made.append("call")
        if len(made) == 1:
            begun.set()
            await asyncio.sleep(60)
        yield "a"
        yield "b"

    async def lead() -> None:
        task = asyncio.create_task(_collect(streams.follow("key", make)))
        await asyncio.to_thread(joined.wait, 10)
        assert not task.done()  # the loop ends here, and takes the call with it

    async def follow() -> list[str]:
        task = asyncio.create_task(_collect(streams.follow("key", make)))
        await asyncio.sleep(0.01)
        joined.set()
        return await asyncio.wait_for(task, 10)

    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(asyncio.run, lead())
        assert begun.wait(10)
        assert asyncio.run(follow()) == ["a", "b"]
        other.result()
    assert made == ["call", "call"]
    assert len(streams) == 0


def test_tasks_of_two_event_loops_read_the_same_items() -> None:
    streams = AsyncStreams(patience=10)
    calls: list[int] = []
    together = threading.Barrier(3)

    async def make() -> AsyncGenerator[str, None]:
        calls.append(1)
        await asyncio.sleep(0.05)
        for letter in LETTERS:
            yield letter

    def listen(_: int) -> list[str]:
        together.wait(10)
        return asyncio.run(_collect(streams.follow("key", make)))

    with ThreadPoolExecutor(3) as pool:
        heard = list(pool.map(listen, range(3)))
    assert all(items == LETTERS for items in heard)
    assert len(streams) == 0


def test_a_forked_child_makes_its_own_calls() -> None:
    code = """
import os, threading
from nearhit import Cache
cache = Cache()
release, begun = threading.Event(), threading.Event()
parent = os.getpid()

@cache.memoize
def value(prompt: str) -> str:
    if os.getpid() == parent:
        begun.set()
        release.wait(30)
    return "value"

@cache.memoize
def stream(prompt: str):
    if os.getpid() == parent:
        begun.set()
        release.wait(30)
    yield "item"

for call in (lambda: value("hi"), lambda: list(stream("hi"))):
    begun.clear()
    release.clear()
    leader = threading.Thread(target=call)
    leader.start()
    begun.wait(30)
    child = os.fork()
    if child == 0:
        os._exit(0 if call() in ("value", ["item"]) else 1)
    assert os.waitpid(child, 0)[1] == 0
    release.set()
    leader.join()
"""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ, timeout=50)
    assert done.returncode == 0, done.stderr
