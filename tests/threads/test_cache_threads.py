"""Many threads, and forks, on one cache."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from tests.support.hashing_embedder import HashingEmbedder

from nearhit import Cache

if TYPE_CHECKING:
    from pathlib import Path


def test_readers_and_writers_see_only_what_was_stored() -> None:
    cache = Cache(HashingEmbedder(dim=1024), threshold=0.999, policy="static", max_entries=60)
    stop = threading.Event()
    failures: list[str] = []

    def read(seed: int) -> None:
        number = seed
        while not stop.is_set():
            number = (number * 31 + 7) % 100
            hit = cache.lookup(f"prompt {number}", scope=str(number % 3))
            if hit is not None and hit.response != f"answer {number}":
                failures.append(f"{number}: {hit!r}")

    now_and_then = {50: lambda: cache.invalidate(tag="t1"), 199: cache.clear, 97: cache.stats}

    def write(seed: int) -> None:
        for turn in range(600):
            number = (seed * 37 + turn * 13) % 100
            cache.store(f"prompt {number}", f"answer {number}", scope=str(number % 3), tags=[f"t{number % 7}"])
            for every, call in now_and_then.items():
                if turn % every == 0:
                    call()

    with ThreadPoolExecutor(6) as pool:
        readers = [pool.submit(read, seed) for seed in range(3)]
        writers = [pool.submit(write, seed) for seed in range(3)]
        for writer in writers:
            writer.result()
        stop.set()
        for reader in readers:
            reader.result()
    assert not failures
    cache._core.validate()
    assert len(cache) <= 60


def test_forks_amid_detached_calls_never_hang() -> None:
    code = """
import os, threading, time
from nearhit import Cache
cache = Cache(max_entries=2000)
stop = threading.Event()
def work():
    turn = 0
    while not stop.is_set():
        turn += 1
        cache.store(f"prompt {turn % 3000}", "x", tags=[str(turn % 5)])
        if turn % 20 == 0:
            cache.invalidate(tag=str(turn % 5))
            cache.stats()
threads = [threading.Thread(target=work) for _ in range(3)]
[thread.start() for thread in threads]
for _ in range(40):
    child = os.fork()
    if child == 0:
        cache.store("child", "y")
        ok = cache.lookup("child") is not None
        cache.invalidate(tag="0")
        cache._core.validate()
        os._exit(0 if ok else 1)
    deadline = time.monotonic() + 30
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            assert status == 0, status
            break
        assert time.monotonic() < deadline, "the child hangs"
        time.sleep(0.002)
stop.set()
[thread.join() for thread in threads]
cache._core.validate()
"""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
    assert done.returncode == 0, done.stderr


def test_forks_amid_embedding_never_hang(minilm: Path) -> None:
    code = f"""
import os, threading, time
from nearhit import Cache
from nearhit.embed import NativeEmbedder
cache = Cache(NativeEmbedder({str(minilm)!r}), embedding_memo=16)
cache.store("How do I reset the password of my account?", "Click.")
stop = threading.Event()
def work():
    turn = 0
    while not stop.is_set():
        turn += 1
        cache.lookup(f"How do I reset the password of my account {{turn % 40}}?")
threads = [threading.Thread(target=work) for _ in range(4)]
[thread.start() for thread in threads]
for number in range(12):
    time.sleep(0.01)
    child = os.fork()
    if child == 0:
        # A text that a thread of the parent was embedding, or that its threads waited for.
        found = [cache.lookup(f"How do I reset the password of my account {{turn}}?") for turn in range(40)]
        cache._core.validate()
        os._exit(0 if len(found) == 40 else 1)
    deadline = time.monotonic() + 60
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            assert status == 0, status
            break
        assert time.monotonic() < deadline, "the child hangs"
        time.sleep(0.002)
stop.set()
[thread.join() for thread in threads]
cache._core.validate()
"""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
    assert done.returncode == 0, done.stderr
