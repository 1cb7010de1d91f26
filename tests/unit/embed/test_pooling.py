"""Pooling over the real tokens, and vectors without a direction."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nearhit._errors import EmbeddingError
from nearhit.embed.ct2 import _batches
from nearhit.embed.pooling import pool_unit

HIDDEN = np.array([[3.0, 0.0], [0.0, 1.0], [0.0, 2.0]], np.float32)


def test_mean_is_the_direction_of_the_tokens_mean() -> None:
    out = np.empty(2, np.float32)
    pool_unit(HIDDEN, "mean", out)
    np.testing.assert_allclose(out, np.array([1, 1]) / np.sqrt(2), atol=1e-6)


def test_cls_is_the_direction_of_the_first_token() -> None:
    out = np.empty(2, np.float32)
    pool_unit(HIDDEN, "cls", out)
    np.testing.assert_allclose(out, [1, 0])


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_a_vector_without_direction_is_an_error(value: float, pooling: str) -> None:
    with pytest.raises(EmbeddingError, match="no direction"):
        pool_unit(np.full((3, 4), value, np.float32), pooling, np.empty(4, np.float32))  # type: ignore[arg-type]


@given(arrays(np.float32, (5, 8), elements=st.floats(-100, 100, width=32)))
def test_pooled_vectors_have_length_one(hidden: np.ndarray) -> None:
    hidden[0] += 1000
    out = np.empty(8, np.float32)
    pool_unit(hidden, "mean", out)
    assert np.linalg.norm(out) == pytest.approx(1, abs=1e-5)


@given(st.lists(st.integers(1, 512), max_size=200))
def test_batches_hold_every_text_once_longest_first_and_within_bounds(lengths: list[int]) -> None:
    batches = _batches(lengths)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    order = [lengths[row] for batch in batches for row in batch]
    assert order == sorted(order, reverse=True)
    for batch in batches:
        assert len(batch) * max(lengths[row] for row in batch) <= 4096
