"""The shared tier beside RedisVL's SemanticCache: one server, the same vectors, the vector given.

    python benches/peers/redis_lookup.py [--entries 10000] [--json]

Starts redis-server with its search module from the packages of the `test` extra; needs the extra `bench`. A lookup of
ours is what a cache with nothing held locally does: request, round trip, judging (policy "static", as the peer has no
guards), and taking the answer into the local cache; the local cache is emptied between rounds. Rounds of the peers
alternate.
"""

# ruff: noqa: SLF001, D102, ARG002 - looks inside our own cache; the subjects share one small interface
from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from redisvl.extensions.cache.llm import SemanticCache
from redisvl.utils.vectorize import CustomVectorizer
from tests.support.redis_servers import RedisServer

from nearhit import AsyncCache, Cache
from nearhit.backends import RedisBackend

DIM = 384
ROUNDS = 5
LOOKUPS = 200
TOGETHER = 100


def vectors(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors of low intrinsic dimension, as embeddings have, and queries near some of them."""
    dice = np.random.default_rng(7)
    made = dice.standard_normal((count, 64)) @ dice.standard_normal((64, DIM))
    made += 0.3 * dice.standard_normal((count, DIM))
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    asked = made[dice.choice(count, LOOKUPS, replace=False)] + 0.002 * dice.standard_normal((LOOKUPS, DIM))
    return made.astype(np.float32), (asked / np.linalg.norm(asked, axis=1, keepdims=True)).astype(np.float32)


class Ours:
    """Caches of ours in front of a server."""

    def __init__(self, url: str, **options: Any) -> None:
        backend = RedisBackend(url, deadline=5.0, queue_entries=200_000, queue_bytes="4GiB", **options)
        self.cache = Cache(policy="static", threshold=0.9, backend=backend)
        self.several = AsyncCache.sharing(self.cache)

    def fill(self, made: np.ndarray) -> float:
        started = time.perf_counter()
        for number, vector in enumerate(made):
            self.cache.store(f"stored prompt {number}", "x" * 200, vector=vector)
        self.cache._backend.flush(600)
        return len(made) / (time.perf_counter() - started)

    def check(self, number: int, vector: np.ndarray) -> bool:
        return self.cache.lookup(f"asked prompt {number}", vector=vector) is not None

    async def check_async(self, number: int, vector: np.ndarray) -> bool:
        return await self.several.lookup(f"asked prompt {number}", vector=vector) is not None

    def forget(self) -> None:
        self.cache._core.clear()


class Peer:
    """RedisVL's cache, as its own documentation sets it up, with the vector given."""

    def __init__(self, url: str) -> None:
        vectorizer = CustomVectorizer(lambda _: [0.1] * DIM)
        self.cache = SemanticCache("peer", redis_url=url, distance_threshold=0.1, vectorizer=vectorizer, overwrite=True)

    def fill(self, made: np.ndarray) -> float:
        started = time.perf_counter()
        for number, vector in enumerate(made):
            self.cache.store(f"stored prompt {number}", "x" * 200, vector=vector.tolist())
        return len(made) / (time.perf_counter() - started)

    def check(self, number: int, vector: np.ndarray) -> bool:
        return bool(self.cache.check(vector=vector.tolist()))

    async def check_async(self, number: int, vector: np.ndarray) -> bool:
        return bool(await self.cache.acheck(vector=vector.tolist()))

    def forget(self) -> None:
        """Holds nothing."""


async def _together(subject: Ours | Peer, asked: np.ndarray, gate: int) -> tuple[float, int]:
    room = asyncio.Semaphore(gate)

    async def one(number: int) -> bool:
        async with room:
            return await subject.check_async(number, asked[number % len(asked)])

    started = time.perf_counter()
    found = await asyncio.gather(
        *(one(number) for number in range(len(asked)))
    )  # each once: a second time it is held locally
    return len(found) / (time.perf_counter() - started), sum(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=10_000)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    made, asked = vectors(args.entries)
    loop = asyncio.new_event_loop()
    result: dict[str, Any] = {"entries": args.entries, "dim": DIM}
    with RedisServer("search") as server:
        subjects: dict[str, Ours | Peer] = {
            "nearhit, search": Ours(server.url, namespace="s", engine="search"),
            "nearhit, search flat": Ours(server.url, namespace="f", engine="search", algorithm="flat"),
            "nearhit, vector sets": Ours(server.url, namespace="v", engine="vectorset"),
            "nearhit, vector sets bin": Ours(server.url, namespace="b", engine="vectorset", quantisation="bin"),
            "redisvl": Peer(server.url),
        }
        for name, subject in subjects.items():
            result[name] = {"stores_per_second": round(subject.fill(made))}
        times: dict[str, list[float]] = {name: [] for name in subjects}
        rates: dict[str, list[float]] = {name: [] for name in subjects}
        hits = dict.fromkeys(subjects, 0)
        for _ in range(ROUNDS):
            for name, subject in subjects.items():
                subject.forget()
                for number, vector in enumerate(asked):
                    started = time.perf_counter()
                    hits[name] += subject.check(number, vector)
                    times[name].append(time.perf_counter() - started)
                subject.forget()
                rate, _ = loop.run_until_complete(_together(subject, asked, TOGETHER))
                rates[name].append(rate)
        for name in subjects:
            cuts = statistics.quantiles(times[name], n=100)
            result[name] |= {
                "hits": hits[name] / (ROUNDS * LOOKUPS),
                "p50_ms": round(1e3 * cuts[49], 3),
                "p99_ms": round(1e3 * cuts[98], 3),
                f"lookups_per_second_{TOGETHER}_at_once": round(statistics.median(rates[name])),
            }
        for subject in subjects.values():
            if isinstance(subject, Ours):
                subject.cache.close()
    print(json.dumps(result, indent=None if args.json else 2))


if __name__ == "__main__":
    main()
