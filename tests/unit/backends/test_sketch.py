"""Sketches keep what is near near."""

from __future__ import annotations

import numpy as np
import pytest

from nearhit.backends._sketch import SKETCH, sketch, unit, width


@pytest.mark.parametrize("dim", [200, 384, 1536])
@pytest.mark.parametrize("cosine", [0.8, 0.9, 0.97])
def test_the_distance_of_near_vectors_is_kept(dim: int, cosine: float) -> None:
    dice = np.random.default_rng(3)
    errors = []
    for _ in range(300):
        one, other = dice.standard_normal((2, dim))
        one /= np.linalg.norm(one)
        other -= (other @ one) * one
        other = cosine * one + np.sqrt(1 - cosine**2) * other / np.linalg.norm(other)
        apart = sketch(one.astype(np.float32)) - sketch(other.astype(np.float32))
        errors.append(1 - float(apart @ apart) / 2 - cosine)
    assert abs(float(np.mean(errors))) < 0.2 * (1 - cosine) * np.sqrt(2 / SKETCH)  # as often too much as too little
    assert float(np.std(errors)) < 1.2 * (1 - cosine) * np.sqrt(2 / SKETCH)


def test_short_vectors_stand_for_themselves_at_unit_length() -> None:
    np.testing.assert_allclose(unit([3.0, 4.0]), [0.6, 0.8], rtol=1e-6)
    np.testing.assert_allclose(sketch(unit([3.0, 4.0])), [0.6, 0.8], rtol=1e-6)
    assert (width(2), width(SKETCH), width(1000)) == (2, SKETCH, SKETCH)
    assert unit(np.zeros(4)).tolist() == [0.0] * 4


def test_every_machine_has_the_same_signs() -> None:
    """Written out, for others would make the entries of other replicas unreachable."""
    found = np.concatenate([sketch(row)[:8] for row in np.eye(384, dtype=np.float32)[:8]]).reshape(8, 8)
    assert "".join("+" if value > 0 else "-" for value in found.diagonal()) == "--++-+--"
    assert np.count_nonzero(found) == 8
    np.testing.assert_array_equal(abs(sketch(np.ones(384, np.float32))) % 2, 1)  # three signs each


def test_what_is_of_unit_length_already_is_copied() -> None:
    """Its owner may go on to write over it while the answer is waited for."""
    given = np.array([0.6, 0.8], np.float32)
    found = unit(given)
    given[:] = 0
    np.testing.assert_allclose(found, [0.6, 0.8], rtol=1e-6)
