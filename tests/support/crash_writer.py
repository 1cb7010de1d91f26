"""Kills writers of a durable cache at random moments, and checks what each had been told is safe.

Run as a script: `crash_writer.py FOLDER DURABILITY ROUNDS SEED`. Prints one line for each round and fails on the first
broken promise. It stands alone because it forks, which a process with threads should not.
"""

from __future__ import annotations

import os
import random
import select
import signal
import sys
import time
from array import array
from pathlib import Path

from nearhit.cache import Cache

PROMISE = 1.0  # seconds that "async" may lose


def answer(number: int) -> str:
    return f"answer {number} " * (1 + number % 40)


def write(path: Path, durability: str, start: int, out: int) -> None:
    """Stores, replaces and removes for ever; tells each thing done after it was acknowledged."""
    cache = Cache(path=path, durability=durability, policy="static")
    for number in range(start, start + 100_000):
        vector = array("f", [1.0, number % 7, number % 11, number % 13])
        cache.store(f"prompt {number}", answer(number), vector=vector, tags=[f"tag {number % 5}"])
        os.write(out, f"{number} stored\n".encode())
        if number % 10 == 9:
            os.write(out, f"{number - 5} unsure\n".encode())
            cache.invalidate(prompt=f"prompt {number - 5}")
            os.write(out, f"{number - 5} removed\n".encode())


def watch(source: int, until: float) -> tuple[list[tuple[float, str]], bytes]:
    """What the writer said until then, with the times at which it was heard."""
    heard, rest = [], b""
    while (left := until - time.monotonic()) > 0:
        if not select.select([source], [], [], left)[0]:
            break
        *lines, rest = (rest + os.read(source, 65536)).split(b"\n")
        heard += [(time.monotonic(), line.decode()) for line in lines]
    return heard, rest


def play(path: Path, durability: str, known: dict[int, str], dice: random.Random) -> int:
    """One writer from its start to its death; returns the number of acknowledgements that count."""
    source, out = os.pipe()
    start = max(known, default=-1) + 1000
    child = os.fork()
    if child == 0:
        os.close(source)
        write(path, durability, start, out)
        os._exit(1)
    os.close(out)
    select.select([source], [], [], 30)
    life = dice.uniform(0.0, 0.06) if durability == "sync" else PROMISE + dice.uniform(0.05, 0.4)
    heard, rest = watch(source, time.monotonic() + life)
    os.kill(child, signal.SIGKILL)
    killed = time.monotonic()
    os.waitpid(child, 0)
    with os.fdopen(source, "rb") as left:  # what it had said and nobody had listened to
        lines = (rest + left.read()).decode().split("\n")
    heard += [(killed, line) for line in lines[:-1]]
    counted = 0
    for at, line in heard:
        number, what = line.split()
        if what != "unsure" and (durability == "sync" or at < killed - PROMISE):
            known[int(number)] = what
            counted += 1
        else:  # under way, or within the second that may be lost: either outcome is right
            known.pop(int(number), None)
    return counted


def check(path: Path, known: dict[int, str]) -> None:
    with Cache(path=path, policy="static") as cache:
        cache._core.validate()
        for number, what in known.items():
            hit = cache.lookup(f"prompt {number}")
            if what == "removed":
                assert hit is None, f"{number} was removed and came back"
            else:
                assert hit is not None, f"{number} was acknowledged and is lost"
                assert hit.response == answer(number), f"{number} has another answer"


def main(folder: str, durability: str, rounds: str, seed: str) -> None:
    dice = random.Random(seed)
    path = Path(folder) / "cache.db"
    known: dict[int, str] = {}
    total = 0
    for round_ in range(int(rounds)):
        if round_ % 25 == 0:  # a fresh file now and then: dying while it is made counts too
            path, known = Path(folder) / f"cache-{round_}.db", {}
        total += play(path, durability, known, dice)
        check(path, known)
    print(f"{rounds} writers killed, {total} acknowledgements kept")  # noqa: T201 - the script's result


if __name__ == "__main__":
    main(*sys.argv[1:])
