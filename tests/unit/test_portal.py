"""The portal: results and errors come through, callers that go away cancel, forks and exits do no harm."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from nearhit import ReentrancyError
from nearhit._portal import Portal, portal


def test_results_and_errors_come_through():
    async def double(x):
        await asyncio.sleep(0)
        return 2 * x

    async def fail():
        raise KeyError("x")

    assert portal().run(double(21)) == 42
    with pytest.raises(KeyError, match="x"):
        portal().run(fail())
    assert portal() is portal()


def test_an_exit_raised_inside_reaches_the_caller_and_not_the_loop():
    async def leave():
        raise SystemExit(3)

    async def fine():
        return 1

    with pytest.raises(SystemExit):
        portal().run(leave())
    assert portal().run(fine()) == 1


def test_the_callers_context_travels():
    name = contextvars.ContextVar("name", default="nobody")

    async def read():
        return name.get()

    async def stream():
        yield name.get()

    name.set("ann")
    assert portal().run(read()) == "ann"
    assert list(portal().iterate(stream)) == ["ann"]


def test_a_call_from_the_portals_own_loop_is_refused():
    async def outer():
        async def inner():
            return 1

        with pytest.raises(ReentrancyError, match="await the asynchronous method"):
            portal().run(inner())
        with pytest.raises(ReentrancyError):
            next(portal().iterate(numbers))
        return "ok"

    assert portal().run(outer()) == "ok"


async def numbers():
    for number in range(1000):
        yield number


def test_an_iterator_gives_every_item_in_order_once():
    assert list(portal().iterate(numbers)) == list(range(1000))


def test_an_iterators_error_comes_after_its_items():
    async def broken():
        yield 1
        raise KeyError("late")

    iterator = portal().iterate(broken)
    assert next(iterator) == 1
    with pytest.raises(KeyError, match="late"):
        next(iterator)
    assert list(iterator) == []


def test_a_slow_consumer_holds_the_producer_back():
    made = []

    async def source():
        for number in range(1000):
            made.append(number)
            yield number

    iterator = portal().iterate(source)
    assert next(iterator) == 0
    settle(lambda: len(made) >= 4)
    time.sleep(0.05)
    assert len(made) <= 6
    assert list(iterator) == list(range(1, 1000))


def settle(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.mark.parametrize("way", ["close", "with", "forget"])
def test_leaving_an_iterator_cancels_what_runs_below(way):
    ended = threading.Event()

    async def endless():
        try:
            yield 1
            await asyncio.sleep(1000)
        finally:
            ended.set()

    iterator = portal().iterate(endless)
    assert next(iterator) == 1
    if way == "close":
        iterator.close()
        assert ended.is_set()
        iterator.close()
    elif way == "with":
        with iterator:
            pass
        assert ended.is_set()
    else:
        del iterator
        gc.collect()
    assert ended.wait(10)


def test_an_iterator_that_never_started_has_nothing_to_close():
    started = []

    async def source():
        started.append(1)
        yield 1

    iterator = portal().iterate(source)
    iterator.close()
    assert list(iterator) == []
    assert started == []


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs POSIX timers")
@pytest.mark.parametrize("streaming", [False, True])
def test_an_interrupt_leaves_at_once_and_cancels_the_work(streaming):
    ended = threading.Event()

    async def hang():
        try:
            await asyncio.sleep(1000)
        finally:
            ended.set()

    async def hang_stream():
        await hang()
        yield 1

    def interrupt(*_):
        raise KeyboardInterrupt

    def wait():
        return next(portal().iterate(hang_stream)) if streaming else portal().run(hang())

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        with pytest.raises(KeyboardInterrupt):
            wait()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert ended.wait(10)


def test_threads_share_it_without_mixing_answers():
    async def echo(x):
        await asyncio.sleep(0.0001)
        return x

    wrong = []

    def work(base):
        wrong.extend(x for x in range(base, base + 100) if portal().run(echo(x)) != x)

    threads = [threading.Thread(target=work, args=(base,)) for base in range(0, 800, 100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_stopped_portal_fails_its_callers_and_refuses_new_ones():
    own = Portal()
    caught = []

    async def hang():
        await asyncio.sleep(1000)

    def call():
        try:
            own.run(hang())
        except Exception as error:  # noqa: BLE001 - whatever comes is looked at below
            caught.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    settle(lambda: len(asyncio.all_tasks(own.loop)) == 1)
    own.stop()
    thread.join(10)
    assert "cancelled" in str(caught[0])
    with pytest.raises(Exception, match="stopped"):
        own.run(hang())
    own.stop()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_starts_its_own():
    script = """
import os, sys
from nearhit._portal import portal
async def double(x): return 2 * x
assert portal().run(double(1)) == 2
pid = os.fork()
if pid == 0:
    assert portal().run(double(4)) == 8
    sys.exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
assert portal().run(double(2)) == 4
"""
    run_clean(script)


def test_leaving_the_interpreter_with_work_under_way_is_quiet():
    script = """
import asyncio
from nearhit._portal import portal
async def endless():
    while True:
        yield 1
        await asyncio.sleep(0.001)
iterator = portal().iterate(endless)
next(iterator)
"""
    run_clean(script)


def run_clean(script):
    # Python 3.12 and later warn of any fork beside threads; that is what is being tried here.
    command = [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
