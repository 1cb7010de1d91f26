from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from nearhit import VectorIndex


@settings(max_examples=60, deadline=None)
@given(
    dim=st.integers(1, 300),
    count=st.integers(1, 900),
    shared=st.floats(0, 3),
    threshold=st.floats(-1, 1, width=32),
    storage=st.sampled_from(["f32", "f16", "int8"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_finds_what_brute_force_finds(
    *, dim: int, count: int, shared: float, threshold: float, storage: Any, seed: int
) -> None:
    """Whatever the dimension, the number, the mean that all vectors share, and how they are kept."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((count, dim)) + shared
    rows[count // 2 :] = rows[: count - count // 2] + 0.1 * rng.standard_normal((count - count // 2, dim))
    index = VectorIndex(dim, storage=storage)
    ids = index.add_many(rows)
    removed = set(ids[:: rng.integers(2, 9)].tolist())
    assert all(index.remove(id_) for id_ in removed)
    query = rows[rng.integers(0, count)]
    scores = index.similarities(query, ids.tolist())
    expected = {
        id_ for id_, score in zip(ids.tolist(), scores, strict=True) if score is not None and score >= threshold
    }
    assert {id_ for id_, _ in index.search(query, threshold, count)} == expected
    exact = (rows @ query) / (np.linalg.norm(rows, axis=1) * np.linalg.norm(query))
    bound = {"f32": 1e-6, "f16": 5e-4, "int8": 0.02}[storage]
    assert all(score is None or abs(score - true) <= bound for score, true in zip(scores, exact, strict=True))


@settings(max_examples=40, deadline=None)
@given(count=st.integers(64, 700), gap=st.sampled_from([1e-7, 1e-6, 1e-5, 1e-4]), seed=st.integers(0, 2**32 - 1))
def test_near_ties_at_the_threshold_are_decided_by_the_similarity(count: int, gap: float, seed: int) -> None:
    """Many vectors at almost the same angle to the query, on both sides of the threshold."""
    rng = np.random.default_rng(seed)
    query = np.zeros(128)
    query[0] = 1.0
    rest = rng.standard_normal((count, 127))
    rest /= np.linalg.norm(rest, axis=1, keepdims=True)
    cosine = 0.9 + gap * rng.uniform(-3, 3, (count, 1))
    rows = np.concatenate([cosine, np.sqrt(1 - cosine**2) * rest], axis=1)
    index = VectorIndex(128)
    index.add_many(np.repeat(rows, 2, axis=0))
    scores = index.similarities(query, list(range(2 * count)))
    expected = [id_ for id_, score in enumerate(scores) if score is not None and score >= np.float32(0.9)]
    assert sorted(id_ for id_, _ in index.search(query, 0.9, 2 * count)) == expected
