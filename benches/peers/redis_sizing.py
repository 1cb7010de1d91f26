"""What an entry takes on a server, and what a server in trouble does to local hits.

    python benches/peers/redis_sizing.py [--entries 5000]

Bytes are the growth of the server's `used_memory`, everything counted: entry, vector, index, ledger. Local hits are
exact ones of 1,000 held entries; rounds with the server well, paused and gone alternate with rounds of a cache without
a backend.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
import warnings
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from benches.peers.redis_lookup import Ours, vectors
from tests.support.redis_servers import RedisServer

from nearhit import BackendWarning, Cache
from nearhit.backends._keys import FORMAT

WAYS: dict[str, dict[str, Any]] = {
    "exact": {"engine": "exact"},
    "search, hnsw": {"engine": "search"},
    "search, flat": {"engine": "search", "algorithm": "flat"},
    "vector set, f32": {"engine": "vectorset", "quantisation": "f32"},
    "vector set, q8": {"engine": "vectorset", "quantisation": "q8"},
    "vector set, bin": {"engine": "vectorset", "quantisation": "bin"},
}
HELD = 1_000
ROUNDS = 7


def sizes(count: int) -> dict[str, dict[str, float]]:
    made, _ = vectors(count)
    found = {}
    for name, options in WAYS.items():
        with RedisServer("search") as server, server.client() as client:
            ours = Ours(server.url, **options)
            before = client.info("memory")["used_memory"]
            rate = ours.fill(made)
            used = client.info("memory")["used_memory"] - before
            key = next(client.scan_iter(f"nearhit:{FORMAT}:*:e:*"))
            found[name] = {
                "bytes_an_entry": round(used / count),
                "of_these_the_hash": client.memory_usage(key, samples=0),
                "stores_per_second": round(rate),
            }
            ours.cache.close()
    return found


def percentiles(cache: Cache) -> tuple[float, float]:
    times = []
    for _ in range(20):
        for number in range(HELD):
            prompt = f"held {number}"
            started = time.perf_counter()
            hit = cache.lookup(prompt)
            times.append(time.perf_counter() - started)
            assert hit is not None
    cuts = statistics.quantiles(times, n=100)
    return 1e6 * cuts[49], 1e6 * cuts[98]


def local() -> dict[str, dict[str, float]]:
    alone = Cache()
    with RedisServer("vectorset") as server:
        shared = Ours(server.url).cache
        for cache in (alone, shared):
            for number in range(HELD):
                cache.store(f"held {number}", "x" * 200)
        shared.flush()
        times: dict[str, list[tuple[float, float]]] = {}
        for state in ("well", "paused", "gone"):
            if state == "paused":
                server.pause()
            elif state == "gone":
                server.kill()
                time.sleep(0.5)
            for _ in range(ROUNDS):
                times.setdefault("no backend", []).append(percentiles(alone))
                times.setdefault(f"server {state}", []).append(percentiles(shared))
        warnings.simplefilter("ignore", BackendWarning)
        shared.close()
    return {
        name: {
            "p50_us": round(statistics.median(one for one, _ in some), 3),
            "p99_us": round(statistics.median(two for _, two in some), 3),
        }
        for name, some in times.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=5_000)
    args = parser.parse_args()
    print(json.dumps({"sizes": sizes(args.entries), "local exact hits": local()}, indent=2))


if __name__ == "__main__":
    main()
