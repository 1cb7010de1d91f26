"""Speed, agreement and quality of embedding engines, measured in one run.

Engines take turns in short rounds, so that whatever else the machine does hits all of them alike; each figure is a
median, and the ratios within one run are what to read. A round is a few calls of one engine, as a server would
make them: its weights are in the cache after the first.
"""

from __future__ import annotations

import gzip
import json
import statistics
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from nearhit.bench.embed_engines import Engine

REFERENCE = "ctranslate2 float32"
BASELINE = "ctranslate2 int8"
LENGTHS = (9, 17, 65, 257)
BATCH = 32
CALLERS = 16

_CALLS_PER_ROUND = 5
_WORDS = "what is the best way to learn how a computer program works in the real world when you have little time for it"


def text_of(tokens: int) -> str:
    """A text of common English words, one token each, `tokens` long with its two special tokens."""
    words = _WORDS.split()
    return " ".join(words[i % len(words)] for i in range(tokens - 2))


def latency(engines: dict[str, Engine], rounds: int, tell: Callable[[], None]) -> dict[str, dict[str, float]]:
    """Median seconds for one text, by engine and tokens (beyond the model's window it is cut there)."""
    found: dict[str, dict[str, float]] = {name: {} for name in engines}
    for tokens in LENGTHS:
        texts = [text_of(tokens)]
        times = _take_turns(engines, texts, max(1, rounds * 17 // (17 + tokens)), tell)
        for name, values in times.items():
            found[name][str(tokens)] = statistics.median(values)
    return found


def throughput(engines: dict[str, Engine], rounds: int, tell: Callable[[], None]) -> dict[str, float]:
    """Texts a second in batches of 32 of mixed length (5 to 67 tokens, most of them short)."""
    texts = [text_of(5 + (i * i) % 63) for i in range(BATCH)]
    times = _take_turns(engines, texts, max(1, rounds // 6), tell)
    return {name: BATCH / statistics.median(values) for name, values in times.items()}


def _take_turns(
    engines: dict[str, Engine], texts: list[str], rounds: int, tell: Callable[[], None]
) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in engines}
    for engine in engines.values():
        engine(texts)
    for _ in range(rounds):
        for name, engine in engines.items():
            for _ in range(_CALLS_PER_ROUND):
                start = time.perf_counter()
                engine(texts)
                times[name].append(time.perf_counter() - start)
        tell()
    return times


def concurrency(engine: Engine, seconds: float) -> dict[str, float]:
    """One caller against sixteen on the same engine: texts a second, and the latencies of the sixteen."""
    texts = [text_of(17)]
    alone = _callers(engine, texts, 1, seconds)
    many = _callers(engine, texts, CALLERS, seconds)
    return {
        "alone_per_second": len(alone) / seconds,
        "together_per_second": len(many) / seconds,
        "gain": len(many) / len(alone),
        "mean_ms": float(np.mean(many)) * 1e3,
        "p99_ms": float(np.quantile(many, 0.99)) * 1e3,
        "p99_over_mean": float(np.quantile(many, 0.99) / np.mean(many)),
    }


def _callers(engine: Engine, texts: list[str], callers: int, seconds: float) -> list[float]:
    taken: list[list[float]] = [[] for _ in range(callers)]
    barrier = threading.Barrier(callers)

    def call(mine: list[float]) -> None:
        barrier.wait()
        end = time.perf_counter() + seconds
        while (start := time.perf_counter()) < end:
            engine(texts)
            mine.append(time.perf_counter() - start)

    threads = [threading.Thread(target=call, args=(mine,)) for mine in taken]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [value for mine in taken for value in mine]


def agreement(vectors: NDArray[np.float32], reference: NDArray[np.float32]) -> dict[str, float]:
    """Mean and least cosine of vectors with those in float32."""
    cosines = np.einsum("ij,ij->i", vectors, reference)
    return {"mean": float(cosines.mean()), "min": float(cosines.min())}


def auc(scores: NDArray[np.float32], labels: NDArray[np.bool_]) -> float:
    """Area under the ROC curve: how often a true pair scores above a false one (ties count half)."""
    positive = _ranks(scores)[labels]
    n, m = len(positive), len(labels) - len(positive)
    return float((positive.sum() - n * (n - 1) / 2) / (n * m))


def spearman(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Rank correlation."""
    return float(np.corrcoef(_ranks(a), _ranks(b))[0, 1])


def _ranks(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """Ranks from 0, ties shared."""
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray(last - (counts + 1) / 2)[group]


def rows(file: Path, most: int) -> Iterator[dict[str, Any]]:
    """The first rows of a gzipped JSON-lines file."""
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        for _, line in zip(range(most), lines, strict=False):
            yield json.loads(line)


def quality(engine: Engine, pairs: list[dict[str, Any]], label: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Cosines and labels of pairs."""
    texts = list(dict.fromkeys(text for pair in pairs for text in (pair["a"], pair["b"])))
    place = {text: i for i, text in enumerate(texts)}
    vectors = np.concatenate([engine(texts[i : i + BATCH]) for i in range(0, len(texts), BATCH)])
    a, b = (vectors[[place[pair[side]] for pair in pairs]] for side in ("a", "b"))
    return np.einsum("ij,ij->i", a, b), np.array([pair[label] for pair in pairs], np.float32)
