"""Trains the verifier that nearhit ships.

    python -m nearhit.evaluate.train DATA_DIR OUT [--vectors FILE]

DATA_DIR holds the labelled pairs named in `SOURCES` and a file of plain queries for word frequencies. Rows are split by
connected texts (70 % to fit on, 10 % to calibrate and choose the threshold on, 20 % only to report on), so no text of a
reported row was ever seen. The report goes to stdout as JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nearhit._core import VectorIndex
from nearhit.evaluate import fit as fitting
from nearhit.evaluate.data import Pair, Request, read_pairs, read_rows, read_stream, rows_file, split_of
from nearhit.evaluate.metrics import auc, calibration_error, curve, reliability
from nearhit.evaluate.vectors import embed_all, tell_embedded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from nearhit.evaluate.vectors import VectorTable
    from nearhit.evaluate.verifier_file import Calibration

FIT, CALIBRATE = 0.7, 0.8
"""Where the numbers of `split_of` are cut."""
PRECISION = 0.85
THRESHOLD_FROM = "pairs_qqp"
"""The shipped threshold is the lowest with this precision on the calibration rows of this source."""


STREAM = "stream_qqp"
"""Read as pairs: each request with what a cache would find near it, right if of one class. Crafted pairs alone say
nothing of how rarely a neighbour is a duplicate."""
NEAR, NEIGHBOURS = 0.6, 16


@dataclass(frozen=True, slots=True)
class Source:
    """A file of pairs, and how much its rows count when fitting.

    Weights balance the labels of each source and keep questions, which caches see, in front of statements.
    """

    name: str
    wrong: float
    right: float


SOURCES = (
    Source("pairs_qqp", 1.0, 1.0),
    Source("pairs_negation", 0.06, 0.4),
    Source("pairs_paws", 1.5, 1.5),
    Source("pairs_mrpc", 0.3, 0.15),
    Source("pairs_parade", 0.2, 0.2),
    Source("pairs_stsb", 0.2, 0.3),
    Source("pairs_gptcache_mock", 0.0, 0.3),
    Source(STREAM, 0.3, 0.3),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command."""
    parser = argparse.ArgumentParser(prog="python -m nearhit.evaluate.train", description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--vectors", type=Path, help="file that keeps the vectors between runs")
    args = parser.parse_args(argv)
    from nearhit import embed  # noqa: PLC0415 - loads ctranslate2

    pairs = {source.name: read_pairs(rows_file(args.data, source.name)) for source in SOURCES if source.name != STREAM}
    stream = read_stream(rows_file(args.data, STREAM))
    splits, of_prompt = _splits(pairs, stream)
    queries = [str(row["q"]) for row in read_rows(rows_file(args.data, "queries_web"))]
    texts = [text for rows in pairs.values() for pair in rows for text in (pair.a, pair.b)]
    texts += [request.prompt for request in stream]
    vectors = embed_all(texts, embed.load(engine="ctranslate2"), store=args.vectors, advance=tell_embedded)
    pairs[STREAM], splits[STREAM] = near_pairs(stream, of_prompt, vectors)
    report = train(pairs, splits, queries, vectors, args.out)
    json.dump(report, sys.stdout, indent=2)
    sys.stdout.write("\n")
    return 0


def train(
    pairs: dict[str, list[Pair]],
    splits: dict[str, NDArray[np.float64]],
    queries: list[str],
    vectors: VectorTable,
    out: Path,
    *,
    options: fitting.Options = fitting.Options(),  # noqa: B008 - frozen
) -> dict[str, Any]:
    """Fits, calibrates, writes and reports."""
    known = [pair for pair, split in zip(pairs["pairs_qqp"], splits["pairs_qqp"], strict=True) if split < FIT]
    rarity = fitting.rarity_of([*queries, *dict.fromkeys(text for pair in known for text in (pair.a, pair.b))])
    rows = {
        source.name: fitting.rows_of(
            pairs[source.name],
            vectors,
            rarity,
            np.array([source.right if pair.label else source.wrong for pair in pairs[source.name]]),
        )
        for source in SOURCES
    }

    def part(low: float, high: float) -> fitting.Rows:
        chosen = [rows[name].take((splits[name] >= low) & (splits[name] < high)) for name in rows]
        return _stack(chosen)

    # Calibrated on rows the models were not fitted on; then fitted again with those rows, too.
    first = fitting.fit(part(0.0, FIT), rarity, options)
    held = part(FIT, CALIBRATE)
    trees, network = first.outputs(held)
    calibration = fitting.calibrate(trees, network, held.labels, held.weights)
    chosen = rows[THRESHOLD_FROM].take(part_of(splits[THRESHOLD_FROM]) == 1)
    confidence = _confidence(calibration, *first.outputs(chosen))
    threshold = curve(chosen.labels, confidence).threshold_at(PRECISION) or 1.0
    final = fitting.fit(part(0.0, CALIBRATE), rarity, options)
    name = vectors.embedder.split("@")[0]
    file = fitting.assemble(
        final, calibration, embedder=name, dim=vectors.vectors.shape[1], threshold=round(threshold, 3)
    )
    file.write(out)
    report: dict[str, Any] = {"threshold": file.threshold, "bytes": out.stat().st_size, "test": {}}
    for source in SOURCES:
        test = rows[source.name].take(splits[source.name] >= CALIBRATE)
        if test.labels.min() == test.labels.max():
            continue
        trees, network = final.outputs(test)
        both = _confidence(calibration, trees, network)
        alone = 1.0 / (1.0 + np.exp(-(calibration.alone_trees * trees + calibration.alone_bias)))
        report["test"][source.name] = {
            "rows": len(test.labels),
            "right": round(float(test.labels.mean()), 3),
            "cosine": _figures(test.labels, test.features[:, 0].astype(np.float64)),
            "trees": _figures(test.labels, alone),
            "network": _figures(test.labels, network),
            "verifier": _figures(test.labels, both)
            | {"calibration_error": round(calibration_error(test.labels, both), 4)},
            "reliability": reliability(test.labels, both),
        }
    return report


def _confidence(fit: Calibration, trees: NDArray[np.float64], network: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-(fit.trees * trees + fit.network * network + fit.bias)))


def _figures(labels: NDArray[np.int64], scores: NDArray[np.float64]) -> dict[str, float]:
    found = curve(labels, scores)
    figures = {"pr_auc": found.average_precision, "auc": auc(labels, scores)}
    figures |= {f"recall_at_{at:.2f}": found.recall_at(at) for at in (0.8, 0.85, 0.9)}
    return {name: round(value, 3) for name, value in figures.items()}


def _stack(parts: list[fitting.Rows]) -> fitting.Rows:
    from scipy import sparse  # noqa: PLC0415 - comes with scikit-learn

    stacked = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("features", "a", "b", "labels", "weights")
    }
    words = {name: sparse.vstack([getattr(part, name) for part in parts]).tocsr() for name in ("only", "both")}
    return fitting.Rows(**stacked, **words)


def _splits(
    pairs: dict[str, list[Pair]], stream: list[Request]
) -> tuple[dict[str, NDArray[np.float64]], NDArray[np.float64]]:
    """One number for each pair of each source, and for each request; prompts of one class stay together."""
    classes: dict[str, list[str]] = {}
    for request in stream:
        classes.setdefault(request.answer, []).append(request.prompt)
    groups = [[pair.a, pair.b] for rows in pairs.values() for pair in rows]
    numbers = np.array(split_of([*groups, *classes.values()]))
    ends = np.cumsum([len(rows) for rows in pairs.values()])
    of_class = dict(zip(classes, numbers[ends[-1] :], strict=True))
    of_pairs = dict(zip(pairs, np.split(numbers[: ends[-1]], ends[:-1]), strict=True))
    return of_pairs, np.array([of_class[request.answer] for request in stream])


def part_of(numbers: NDArray[np.float64]) -> NDArray[np.int64]:
    """0 for what is fitted on, 1 for what is calibrated on, 2 for what is only reported on."""
    return np.asarray((numbers >= FIT).astype(np.int64) + (numbers >= CALIBRATE))


def near_pairs(
    stream: list[Request], numbers: NDArray[np.float64], vectors: VectorTable
) -> tuple[list[Pair], NDArray[np.float64]]:
    """The pairs of near requests of one part of the split, each pair once."""
    rows = vectors.of(request.prompt for request in stream)
    parts = part_of(numbers)
    pairs, splits = [], []
    for part in range(3):
        members = np.flatnonzero(parts == part)
        index = VectorIndex(rows.shape[1])
        index.add_many(rows[members])
        ids, scores = index.search_many(rows[members], threshold=NEAR, k=NEIGHBOURS + 1)
        found = {
            (min(i, int(j)), max(i, int(j)))
            for i, (near, close) in enumerate(zip(ids, scores, strict=True))
            for j in near[close >= NEAR]
            if j not in (i, -1)
        }
        for i, j in sorted(found):
            a, b = stream[members[i]], stream[members[j]]
            pairs.append(Pair(a.prompt, b.prompt, int(a.answer == b.answer)))
            splits.append(numbers[members[i]])
    return pairs, np.array(splits)


if __name__ == "__main__":
    raise SystemExit(main())
