"""Sketches keep what is near near."""

from __future__ import annotations

import numpy as np
import pytest

from nearhit.backends._sketch import SKETCH, sketch, width


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
    np.testing.assert_allclose(sketch(np.array([3.0, 4.0], np.float32)), [0.6, 0.8], rtol=1e-6)
    assert (width(2), width(SKETCH), width(1000)) == (2, SKETCH, SKETCH)
    assert sketch(np.zeros(4, np.float32)).tolist() == [0.0] * 4


def test_every_machine_has_the_same_projection() -> None:
    """Written out, for another one would make the entries of other replicas unreachable."""
    found = sketch(np.eye(1, 384, dtype=np.float32)[0])
    signs = "".join("+" if value > 0 else "-" for value in found[:32])
    assert signs == "--+---+-+---++--+++--+-+-++---+-"
    assert np.allclose(abs(found), SKETCH**-0.5)
