"""Measures vector indexes on real embeddings, on one thread, side by side in one run.

Queries are vectors that are not in the index. Every figure is a median (p50) or a 99th percentile over queries, and
indexes take turns query by query, so that a disturbance meets all of them. Recall counts the queries that have a
neighbour at or above the threshold and got one.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nearhit._errors import OptionError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from nearhit.cli import Subparsers
    from nearhit.cli._bench_peers import Peer

_THRESHOLDS = (0.8, 0.9, 0.95)
_CHURN_THRESHOLD = 0.9
_OTHERS = ("10-NN p50", "10-NN p99", "10-NN recall", "build", "insert p50", "insert mean", "remove p50")
_FIELDS = ("a", "b", "q", "prompt", "text")


def register(subparsers: Subparsers) -> None:
    """Adds the part and its options."""
    parser = subparsers.add_parser("index", help="vector indexes side by side", description=__doc__)
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--vectors", type=Path, metavar="FILE", help="float32 matrix of unit vectors (.npy)")
    source.add_argument(
        "--texts",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="JSON lines (.gz) whose texts are embedded once with the default model "
        "(default: pairs_qqp and queries_web in NEARHIT_DATA)",
    )
    parser.add_argument("--sizes", default="1000,10000,100000", help="numbers of vectors (default: %(default)s)")
    parser.add_argument("--queries", type=int, default=500, help="queries for each measurement (default: %(default)s)")
    parser.add_argument("--peers", help="names to measure, comma-separated (default: every one installed)")
    parser.add_argument("--churn", type=int, default=0, metavar="N", help="operations of the churn run (default: none)")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw latency against size (needs matplotlib)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    """Measures and prints."""
    from nearhit.cli import _output

    # One thread for everyone; numpy's library reads this when it is loaded.
    os.environ.update(OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1", OMP_NUM_THREADS="1")
    vectors = _vectors(args)
    sizes = _sizes(args.sizes)
    results: list[dict[str, Any]] = []
    churn: list[dict[str, Any]] = []
    # A long run that is cut short still reports what it has measured.
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        for size in sizes:
            results += _measure(vectors, size, args)
        if args.churn:
            for row in _churn(vectors, sizes[-1], args):
                churn.append(row)
                _output.note(f"churn: {row['index']} is done")
    finally:
        signal.signal(signal.SIGTERM, before)
        if results:
            _report(vectors.shape[1], results, churn, args)
    return 0


def _report(dim: int, results: list[dict[str, Any]], churn: list[dict[str, Any]], args: argparse.Namespace) -> None:
    from nearhit.cli import _output

    if args.plot:
        _plot(results, args.plot)
    if args.json:
        _output.emit_json({"lookups": results, "churn": churn})
        return
    lookups = [{name: value for name, value in row.items() if name not in _OTHERS} for row in results]
    others = [{name: row.get(name) for name in ("index", "vectors", *_OTHERS)} for row in results]
    _table(lookups, f"one thread, {dim} dimensions, {args.queries} queries; times in µs")
    _table(others, "nearest neighbours and changes; times in µs")
    if churn:
        _table(churn, f"{args.churn} operations: 90 % lookups at .9, 5 % inserts, 5 % removals; times in µs")


def _sizes(text: str) -> list[int]:
    try:
        sizes = [int(part) for part in text.split(",")]
    except ValueError:
        sizes = []
    if not sizes or min(sizes) < 1:
        raise OptionError(f"option --sizes={text} is not valid: expected positive numbers, comma-separated")
    return sizes


def _vectors(args: argparse.Namespace) -> NDArray[np.float32]:
    """The given matrix, or the texts' vectors, embedded once and kept in the cache folder."""
    import numpy as np

    if args.vectors:
        matrix: NDArray[np.float32] = np.load(args.vectors)
        return matrix
    folder = Path(os.environ.get("NEARHIT_DATA", "../shared/data"))
    files = args.texts or [folder / "pairs_qqp.jsonl.gz", folder / "queries_web.jsonl.gz"]
    missing = [str(file) for file in files if not file.exists()]
    if missing:
        raise OptionError(f"no file {missing[0]}: name texts with --texts, or vectors with --vectors")
    texts = list(dict.fromkeys(text for file in files for text in _texts(file)))
    from hashlib import sha256

    from nearhit.cli import _output
    from nearhit.embed import CTranslate2Embedder
    from nearhit.models.home import home

    embedder = CTranslate2Embedder()
    name = sha256("\0".join([embedder.id, *texts]).encode(errors="surrogatepass")).hexdigest()[:16]
    kept = home() / "bench" / f"{name}.npy"
    if not kept.exists():
        with _output.progress() as bar:
            batches = bar.track(range(0, len(texts), 1024), description="embedding, once")
            matrix = np.concatenate([embedder.embed(texts[at : at + 1024]) for at in batches])
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.save(kept, matrix)
    kept_matrix: NDArray[np.float32] = np.load(kept)
    return kept_matrix


def _texts(file: Path) -> list[str]:
    import gzip

    opener: Any = gzip.open if file.suffix == ".gz" else open
    with opener(file, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines if line.strip()]
    return [row[field] for row in rows for field in _FIELDS if isinstance(row.get(field), str) and row[field].strip()]


def _split(
    vectors: NDArray[np.float32], size: int, queries: int
) -> tuple[NDArray[np.float32], NDArray[np.float32], bool]:
    """Rows to hold and rows to ask with, in random order; beyond the real rows, disturbed copies of them."""
    import numpy as np

    rng = np.random.default_rng(0)
    order = rng.permutation(len(vectors))
    asked, rest = vectors[order[:queries]], vectors[order[queries:]]
    if size <= len(rest):
        return rest[:size], asked, False
    copies = rest[rng.integers(0, len(rest), size - len(rest))]
    for start in range(0, len(copies), 65536):
        part = copies[start : start + 65536]
        # Moved by the difference of two real vectors, so that the spectrum stays that of embeddings, and as far as the
        # vector is long: a copy has a cosine of about .7 to its original.
        first, second = rest[rng.integers(0, len(rest), (2, len(part)))]
        moves = first - second
        part += moves / np.linalg.norm(moves, axis=1, keepdims=True).clip(1e-9)
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return np.concatenate([rest, copies]), asked, True


def _measure(vectors: NDArray[np.float32], size: int, args: argparse.Namespace) -> list[dict[str, Any]]:
    import numpy as np

    held, asked, copies = _split(vectors, size, args.queries)
    indexes, rows = {}, {}
    for name, make in _makers(held, args).items():
        index = make()
        start = time.perf_counter()
        for at in range(0, size, 1000):
            index.add(np.arange(at, min(at + 1000, size)), held[at : at + 1000])
        rows[name] = {"index": name, "vectors": size, "with copies": copies}
        rows[name]["build"] = (time.perf_counter() - start) / size * 1e6
        indexes[name] = index
    truth = np.concatenate([asked @ held[at : at + 65536].T for at in range(0, size, 65536)], axis=1)
    for threshold in _THRESHOLDS:
        near = truth >= threshold
        times, found = _ask(indexes, asked, threshold, 1)
        for name, row in rows.items():
            row[f"p50 {threshold}"], row[f"p99 {threshold}"] = np.percentile(times[name], [50, 99]).tolist()
            hits = sum(bool(answer) and bool(near[q, answer[0][0]]) for q, answer in enumerate(found[name]))
            total = int(near.any(axis=1).sum())
            row[f"recall {threshold}"] = hits / total if total else None
    times, found = _ask(indexes, asked, -1.0, 10)
    best = -np.sort(-truth, axis=1)[:, : min(10, size)]
    for name, row in rows.items():
        row["10-NN p50"], row["10-NN p99"] = np.percentile(times[name], [50, 99]).tolist()
        good = sum(truth[q, id_] >= best[q, -1] - 1e-6 for q, answer in enumerate(found[name]) for id_, _ in answer)
        row["10-NN recall"] = float(good / best.size)
        row.update(_changes(indexes[name], asked, size))
    return list(rows.values())


def _makers(held: NDArray[np.float32], args: argparse.Namespace) -> dict[str, Any]:
    from nearhit.cli._bench_peers import peers

    makers = peers(held.shape[1], len(held) + args.queries)
    chosen = [name.strip() for name in args.peers.split(",")] if args.peers else list(makers)
    unknown = [name for name in chosen if name not in makers]
    if unknown:
        raise OptionError(f"option --peers={unknown[0]} is not valid: expected some of {', '.join(makers)}")
    return {name: makers[name] for name in chosen}


def _ask(
    indexes: dict[str, Peer], asked: NDArray[np.float32], threshold: float, k: int
) -> tuple[dict[str, list[float]], dict[str, list[list[tuple[int, float]]]]]:
    """Each query to each index in turn, a few queries at a time; µs and answers."""
    times: dict[str, list[float]] = {name: [] for name in indexes}
    found: dict[str, list[list[tuple[int, float]]]] = {name: [] for name in indexes}
    for start in range(0, len(asked), 25):
        for name, index in indexes.items():
            # One question to begin with: each index finds the caches as its own last query left them.
            index.search(asked[start], threshold, k)
            for query in asked[start : start + 25]:
                begin = time.perf_counter()
                answer = index.search(query, threshold, k)
                times[name].append((time.perf_counter() - begin) * 1e6)
                found[name].append(answer)
    return times, found


def _changes(index: Peer, rows: NDArray[np.float32], size: int) -> dict[str, float | None]:
    """Time of single insertions and removals."""
    import numpy as np

    inserts, removals = [], []
    for number in range(len(rows)):
        begin = time.perf_counter()
        index.add(np.array([size + number]), rows[number : number + 1])
        inserts.append((time.perf_counter() - begin) * 1e6)
    try:
        for number in range(len(rows)):
            begin = time.perf_counter()
            index.remove(size + number)
            removals.append((time.perf_counter() - begin) * 1e6)
    except NotImplementedError:
        removals = []
    return {
        "insert p50": float(np.percentile(inserts, 50)),
        "insert mean": float(np.mean(inserts)),
        "remove p50": float(np.percentile(removals, 50)) if removals else None,
    }


def _churn(vectors: NDArray[np.float32], size: int, args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A long run at constant size: lookups, with the oldest vector leaving for each that comes."""
    import numpy as np

    size = min(size, 10_000)
    for name, make in _makers(vectors[:size], args).items():
        rng = np.random.default_rng(1)
        index = make()
        index.add(np.arange(size), vectors[:size])
        place = {id_: id_ for id_ in range(size)}
        times, next_id = [], size
        try:
            for _ in range(args.churn // 20):
                for query in vectors[rng.integers(0, len(vectors), 18)]:
                    begin = time.perf_counter()
                    index.search(query, _CHURN_THRESHOLD, 1)
                    times.append((time.perf_counter() - begin) * 1e6)
                victim = next(iter(place))
                index.remove(victim)
                del place[victim]
                row = int(rng.integers(0, len(vectors)))
                index.add(np.array([next_id]), vectors[row : row + 1])
                place[next_id] = row
                next_id += 1
        except (NotImplementedError, RuntimeError) as cause:
            yield {"index": name, "vectors": size, "lookup p50": None, "failed": type(cause).__name__}
            continue
        yield {"index": name, "vectors": size} | _after(index, vectors, place, times)


def _after(index: Peer, vectors: NDArray[np.float32], place: dict[int, int], times: list[float]) -> dict[str, float]:
    """What the churn run left: latency, and recall among what is held at its end."""
    import numpy as np

    held = vectors[list(place.values())]
    hits = total = 0
    for query in vectors[:1000]:
        if (held @ query).max() >= _CHURN_THRESHOLD:
            total += 1
            answer = index.search(query, _CHURN_THRESHOLD, 1)
            hits += (
                bool(answer)
                and answer[0][0] in place
                and float(vectors[place[answer[0][0]]] @ query) >= _CHURN_THRESHOLD - 1e-6
            )
    p50, p99 = np.percentile(times, [50, 99]).tolist()
    return {"lookup p50": p50, "lookup p99": p99, "recall at the end": hits / max(total, 1)}


def _table(rows: list[dict[str, Any]], title: str) -> None:
    from rich.table import Table

    from nearhit.cli import _output

    names = [name for name in rows[0] if name != "with copies"]
    table = Table(title=title)
    for name in names:
        table.add_column(name, justify="left" if name == "index" else "right")
    for row in rows:
        table.add_row(*(_cell(name, row.get(name)) for name in names))
    _output.results().print(table)


def _cell(name: str, value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.3f}" if "recall" in name else f"{value:.1f}"
    return str(value)


def _plot(rows: list[dict[str, Any]], file: Path) -> None:
    """Lookup latency at .9 against size."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.5))
    for name in dict.fromkeys(row["index"] for row in rows):
        points = [(row["vectors"], row["p50 0.9"]) for row in rows if row["index"] == name]
        axes.loglog(*zip(*points, strict=True), marker="o", label=name, lw=2.5 if name == "nearhit" else 1.2)
    axes.set(xlabel="vectors", ylabel="lookup p50 at cosine .9, µs", title="One thread")
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()
    figure.savefig(file, bbox_inches="tight")
