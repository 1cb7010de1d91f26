"""The cache side by side with installed peers: exact hits, stores, near lookups; or a soak under churn.

All exact caches take turns in one loop, so that what else the machine does meets them alike; medians are compared to a
bare dict. Near lookups and stores are given their vectors. Peers that are not installed are left out.
"""

from __future__ import annotations

from importlib.util import find_spec
from time import perf_counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from nearhit.cache import Cache
    from nearhit.cli import Subparsers

_CALLS = 2_000
_PROMPT = "How do I reset the password of my account on the web site?"
_DIM = 384
_TURN = 2_000  # stores between two looks at the clock
_WARM_TURNS = 20
_SAMPLED = 0.25  # seconds between two looks at a soak's memory


def register(subparsers: Subparsers) -> None:
    """Adds `nearhit bench cache`."""
    parser = subparsers.add_parser("cache", help="exact hits, stores, near lookups", description=__doc__)
    parser.add_argument(
        "--entries", type=int, default=10_000, help="entries of the near lookups (default: %(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=30, help="turns of each cache (default: %(default)s)")
    parser.add_argument("--soak", type=float, metavar="SECONDS", help="churn for so long instead, and watch the memory")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    """Runs `nearhit bench cache`."""
    from nearhit._errors import OptionError
    from nearhit.cli import _output

    for name in ("entries", "rounds"):
        if getattr(args, name) < 1:
            raise OptionError(f"--{name} {getattr(args, name)}: expected a positive number")
    result = _soak(args.soak) if args.soak else {**_exact(args.rounds), **_near(args.entries, args.rounds)}
    if args.json:
        _output.emit_json(result)
    else:
        _show(result)
    return 0


def _peers() -> dict[str, Callable[[], Any]]:
    """One lookup each of the prompt that every cache holds."""
    from nearhit import Cache

    cache = Cache()
    cache.store(_PROMPT, "Click on the link.")
    plain = {_PROMPT: "Click on the link."}
    find = cache._core.find  # noqa: SLF001 - the core handle, measured apart from the Python method
    calls: dict[str, Callable[[], Any]] = {
        "dict": lambda: plain[_PROMPT],
        "nearhit Cache.lookup": lambda: cache.lookup(_PROMPT),
        "nearhit core find": lambda: find(_PROMPT),
    }
    if find_spec("cachebox"):
        import cachebox

        box: Any = cachebox.LRUCache(1000)
        box[_PROMPT] = "Click on the link."
        calls["cachebox LRU"] = lambda: box.get(_PROMPT)
    if find_spec("moka_py"):
        import moka_py

        moka: Any = moka_py.Moka(1000)
        moka.set(_PROMPT, "Click on the link.")
        calls["moka-py"] = lambda: moka.get(_PROMPT)
    if find_spec("cachetools"):
        import cachetools

        tools: Any = cachetools.LRUCache(1000)
        tools[_PROMPT] = "Click on the link."
        calls["cachetools LRU"] = lambda: tools.get(_PROMPT)
    return calls


def _exact(rounds: int) -> dict[str, Any]:
    from statistics import median

    calls = _peers()
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            started = perf_counter()
            for _ in range(_CALLS):
                call()
            times[name].append((perf_counter() - started) / _CALLS)
    return {"exact_seconds": {name: median(taken) for name, taken in times.items()}}


def _filled(entries: int) -> tuple[Cache, NDArray[np.float32], list[float]]:
    """A cache of random vectors, and the time of each store."""
    import numpy as np

    from nearhit import Cache

    vectors = np.random.default_rng(7).standard_normal((entries, _DIM)).astype(np.float32)
    cache = Cache(policy="static", max_bytes=None)
    taken = []
    for number, vector in enumerate(vectors):
        prompt, answer = f"prompt {number} of the benchmark's own", "an answer of usual length " * 12
        started = perf_counter()
        cache.store(prompt, answer, vector=vector)
        taken.append(perf_counter() - started)
    return cache, vectors, taken


def _near(entries: int, rounds: int) -> dict[str, Any]:
    import numpy as np

    cache, vectors, stores = _filled(entries)
    hits: list[float] = []
    misses: list[float] = []
    for number in range(rounds * 10):
        vector = vectors[number * 7919 % entries]
        for sign, taken in ((1, hits), (-1, misses)):
            query = np.ascontiguousarray(sign * vector)
            started = perf_counter()
            cache.lookup("another prompt", vector=query)
            taken.append(perf_counter() - started)
    groups = {"store": stores, "near hit": hits, "near miss": misses}
    quantiles = {name: np.quantile(taken, (0.5, 0.99, 1.0)).tolist() for name, taken in groups.items()}
    return {
        "entries": entries,
        "seconds": {n: dict(zip(("p50", "p99", "max"), q, strict=True)) for n, q in quantiles.items()},
    }


def _churn(cache: Cache, vectors: NDArray[np.float32], start: int) -> None:
    """Some stores and lookups, and now and then a tag that is withdrawn."""
    for number in range(start, start + _TURN):
        answer = "an answer " * (number % 97)
        cache.store(f"prompt {number % 70_000}", answer, vector=vectors[number % 4000], tags=[str(number % 50)])
        cache.lookup(f"prompt {number * 7919 % 70_000}")
    if (start + _TURN) % 50_000 == 0:
        cache.invalidate(tag=str((start + _TURN) % 50))


def _soak(seconds: float) -> dict[str, Any]:
    """Stores, hits, misses and removals under a byte bound; the process's memory beside the cache's own figure.

    What the process holds beforehand is taken off, once a small cache has seen the same for a while: the code that runs
    and the interpreter's own room are no part of a cache.
    """
    import numpy as np

    from nearhit import Cache
    from nearhit.cli import _output

    vectors = np.random.default_rng(7).standard_normal((4000, _DIM)).astype(np.float32)
    warm = Cache(policy="static", max_bytes=1 << 20)
    for turn in range(_WARM_TURNS):
        _churn(warm, vectors, turn * _TURN)
    del warm
    bound = 64 << 20
    cache = Cache(policy="static", max_bytes=bound)
    before, started, number = _resident(), perf_counter(), 0
    samples: list[tuple[int, int]] = []
    with _output.progress() as bar:
        task = bar.add_task("soaking", total=seconds)
        while (elapsed := perf_counter() - started) < seconds:
            _churn(cache, vectors, number)
            number += _TURN
            if elapsed >= len(samples) * _SAMPLED:  # not each time: the samples are a part of the process's memory
                samples.append((cache.stats().bytes, _resident() - before))
                bar.update(task, completed=elapsed)
    cache._core.validate()  # noqa: SLF001 - same package
    counted, resident = zip(*samples[len(samples) // 2 :], strict=True)
    return {
        "operations": 2 * number,
        "bound_bytes": bound,
        "most_counted_bytes": max(counted for counted, _ in samples),
        "counted_bytes": float(np.median(counted)),
        "resident_bytes": float(np.median(resident)),
    }


def _resident() -> int:
    """Bytes of this process in memory."""
    from pathlib import Path
    from resource import getpagesize

    return int(Path("/proc/self/statm").read_text().split()[1]) * getpagesize()


def _show(result: dict[str, Any]) -> None:
    from rich.table import Table

    from nearhit.cli import _output

    if "exact_seconds" not in result:
        for name, value in result.items():
            print(f"{name.replace('_', ' ')}: {value:,.0f}")
        print(f"resident by counted: {result['resident_bytes'] / result['counted_bytes']:.3f}")
        return
    table = Table("one exact hit", "ns", "against a dict", title="exact hits, in turns")
    least = result["exact_seconds"]["dict"]
    for name, seconds in sorted(result["exact_seconds"].items(), key=lambda pair: pair[1]):
        table.add_row(name, f"{seconds * 1e9:.0f}", f"{seconds / least:.1f}")
    _output.results().print(table)
    table = Table("operation", "p50 µs", "p99 µs", "max µs", title=f"vector given, {result['entries']} entries")
    for name, row in result["seconds"].items():
        table.add_row(name, *(f"{row[part] * 1e6:.1f}" for part in ("p50", "p99", "max")))
    _output.results().print(table)
