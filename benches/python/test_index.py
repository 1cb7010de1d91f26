"""Speed of the vector index by itself: `pytest benches/python/test_index.py --benchmark-enable`.

Vectors are in groups, as near-duplicate prompts are; `nearhit bench index` measures real embeddings beside peers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from nearhit import VectorIndex

if TYPE_CHECKING:
    from numpy.typing import NDArray

DIM = 384


def grouped(count: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((count // 4 + 1, DIM)) * np.exp(-np.arange(DIM) / 120)
    return (centres[rng.integers(0, len(centres), count)] + 0.2 * rng.standard_normal((count, DIM))).astype(np.float32)


@pytest.mark.parametrize("size", [1_000, 10_000])
@pytest.mark.parametrize("threshold", [0.8, 0.9])
def test_lookup(benchmark: Any, size: int, threshold: float) -> None:
    rows = grouped(size)
    index = VectorIndex(DIM)
    index.add_many(rows)
    query = rows[size // 2]
    assert benchmark(index.search, query, threshold)[0][1] > 0.999


@pytest.mark.parametrize("storage", ["f32", "int8"])
def test_insert(benchmark: Any, storage: Any) -> None:
    index = VectorIndex(DIM, storage=storage)
    index.add_many(grouped(2000))
    row = grouped(4)[1]
    before = len(index)
    benchmark(index.add, row)
    assert len(index) > before


def test_remove(benchmark: Any) -> None:
    index = VectorIndex(DIM)
    ids = iter(index.add_many(grouped(20_000)).tolist())
    assert benchmark.pedantic(index.remove, setup=lambda: ((next(ids),), {}), rounds=2000)


def test_ten_nearest(benchmark: Any) -> None:
    rows = grouped(5000)
    index = VectorIndex(DIM)
    index.add_many(rows)
    assert len(benchmark(index.search, rows[7], -1.0, 10)) == 10
