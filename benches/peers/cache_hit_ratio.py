"""Hit ratio on public traces, side by side with moka-py, cachebox and cachetools.

Each cache may hold 1 %, 5 % or 10 % of a trace's distinct keys. A request is looked up, and stored after a miss.

Usage: python benches/peers/cache_hit_ratio.py [TRACES] [--plot FILE.png] [--json FILE]
"""

from __future__ import annotations

import argparse
import gzip
import json
import lzma
import os
import struct
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import cachebox
import cachetools
import matplotlib.pyplot as plt
import moka_py

from nearhit import Cache

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SHARES = (0.01, 0.05, 0.10)
MOST = 400_000  # requests of one trace that are played


def integers(path: Path) -> list[int]:
    """The keys of a trace: one a line, big-endian int32, or the block hashes of an LLM service."""
    if path.suffix == ".xz":
        data = lzma.decompress(path.read_bytes())[: 4 * MOST]
        return [key for (key,) in struct.iter_unpack(">i", data)]
    lines = gzip.decompress(path.read_bytes()).decode().split("\n")
    if path.name.startswith("mooncake"):
        return list(chain.from_iterable(json.loads(line)["hash_ids"] for line in lines if line))[:MOST]
    return [int(line) for line in lines if line.strip().lstrip("-").isdigit()][:MOST]


def nearhit(keys: Sequence[int], size: int) -> int:
    cache = Cache(max_entries=size, max_bytes=None)
    hits = 0
    for key in map(str, keys):
        if cache.lookup(key) is not None:
            hits += 1
        else:
            cache.store(key, "")
    return hits


def mapping(make: Callable[[int], object]) -> Callable[[Sequence[int], int], int]:
    """Plays a trace on a cache with `get` and item assignment."""

    def play(keys: Sequence[int], size: int) -> int:
        cache = make(size)
        hits = 0
        for key in keys:
            if cache.get(key) is not None:  # type: ignore[attr-defined]
                hits += 1
            else:
                cache[key] = True  # type: ignore[index]
        return hits

    return play


def moka(policy: str) -> Callable[[Sequence[int], int], int]:
    def play(keys: Sequence[int], size: int) -> int:
        cache = moka_py.Moka(size, policy=policy)
        hits = 0
        for key in keys:
            if cache.get(key) is not None:
                hits += 1
            else:
                cache.set(key, True)
        return hits

    return play


PLAYERS: dict[str, Callable[[Sequence[int], int], int]] = {
    "nearhit": nearhit,
    "moka-py tiny_lfu": moka("tiny_lfu"),
    "cachebox LFU": mapping(cachebox.LFUCache),
    "cachebox LRU": mapping(cachebox.LRUCache),
    "cachetools LRU": mapping(cachetools.LRUCache),
    "cachetools LFU": mapping(cachetools.LFUCache),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    shared = Path(__file__).parents[3] / "shared" / "data"
    parser.add_argument("traces", nargs="?", type=Path, default=Path(os.environ.get("NEARHIT_DATA", shared)) / "traces")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows = []
    for path in sorted(path for path in args.traces.iterdir() if not path.name.startswith("azure")):
        keys = integers(path)
        distinct = len(set(keys))
        for share in SHARES:
            size = max(1, round(distinct * share))
            row = {"trace": path.name.split(".")[0], "requests": len(keys), "keys": distinct, "size": size}
            row |= {name: round(100 * play(keys, size) / len(keys), 2) for name, play in PLAYERS.items()}
            rows.append(row | {"share": share})
            print(row)
    means = {name: round(sum(row[name] for row in rows) / len(rows), 2) for name in PLAYERS}
    print("mean hit ratio:", means)
    if args.json:
        args.json.write_text(json.dumps({"rows": rows, "means": means}, indent=1) + "\n")
    if args.plot:
        plot(rows, args.plot)


def plot(rows: list[dict[str, float | str]], path: Path) -> None:
    traces = sorted({str(row["trace"]) for row in rows})
    figure, axes = plt.subplots(1, len(traces), figsize=(3.2 * len(traces), 3.4), sharey=True)
    for axis, trace in zip(axes, traces, strict=True):
        of_trace = [row for row in rows if row["trace"] == trace]
        for name in PLAYERS:
            width = 2.4 if name == "nearhit" else 1.0
            axis.plot(
                [100 * float(row["share"]) for row in of_trace], [row[name] for row in of_trace], label=name, lw=width
            )
        axis.set_title(trace, fontsize=9)
        axis.set_xlabel("size, % of keys")
    axes[0].set_ylabel("hit ratio, %")
    axes[-1].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
