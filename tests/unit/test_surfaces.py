"""Surfaces: the closed form, the choice of the kernel, squares, and the head's file as the core reads it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nearhit._core import RouterCore, feature_names, prompt_features
from nearhit.evaluate.head_file import STRONG, WEAK, head_text, level_item, pair_item
from nearhit.evaluate.surfaces import Surface, chances, fit_surfaces, fit_weights
from nearhit.router.profile import TierProfile

WIDTH = 4


def _units(count: int, seed: int = 0) -> Any:
    raw = np.random.default_rng(seed).normal(size=(count, WIDTH))
    return raw / np.linalg.norm(raw, axis=1, keepdims=True)


def _matrix() -> Any:
    """Two directions that count, one for and one against."""
    axes = np.linalg.qr(np.random.default_rng(7).normal(size=(WIDTH, WIDTH)))[0]
    return 0.9 * np.outer(axes[0], axes[0]) - 0.6 * np.outer(axes[1], axes[1])


def _drawn(count: int, seed: int) -> tuple[Any, Any, Any]:
    """Features that say nothing, embeddings, and outcomes that a quadratic form of these decides."""
    vectors = _units(count, seed)
    chance = np.clip(0.5 + ((vectors @ _matrix()) * vectors).sum(axis=1), 0.0, 1.0)
    random = np.random.default_rng(seed + 100)
    return random.normal(size=(count, 5)), vectors, np.stack([chance, random.random(count) < chance], axis=1)


def test_a_quadratic_form_is_found_from_noisy_outcomes() -> None:
    features, vectors, outcomes = _drawn(400, 1)
    surface = fit_surfaces(features, vectors, outcomes[:, 1:])[0]
    others, asked, truth = _drawn(400, 2)
    assert np.corrcoef(surface.predict(others, asked), truth[:, 0])[0, 1] > 0.9


def test_features_are_used_where_they_tell_and_left_where_they_do_not() -> None:
    features, vectors, outcomes = _drawn(300, 3)
    told = outcomes[:, :1] + 0.1 * features[:, :1]
    surface = fit_surfaces(features, vectors, told)[0]
    assert surface.weights[0] > 5 * np.abs(surface.weights[1:]).max()
    without = fit_surfaces(features, vectors, told, weights=(0.0,))[0]
    assert not without.weights.any()


def test_leaving_out_one_row_is_what_the_closed_form_says() -> None:
    features, vectors, outcomes = _drawn(40, 4)
    kernel = (vectors @ vectors.T) ** 2
    target = outcomes[:, 1] - outcomes[:, 1].mean()
    errors = {}
    for noise in (0.01, 1.0, 100.0):
        left = [
            target[row]
            - kernel[row, rest] @ np.linalg.solve(kernel[np.ix_(rest, rest)] + noise * np.eye(39), target[rest])
            for row in range(40)
            for rest in [np.flatnonzero(np.arange(40) != row)]
        ]
        errors[noise] = float(np.mean(np.square(left)))
    best = min(errors, key=lambda noise: errors[noise])
    chosen = fit_surfaces(features, vectors, outcomes[:, 1:], weights=(0.0,), noises=tuple(errors))[0]
    alone = fit_surfaces(features, vectors, outcomes[:, 1:], weights=(0.0,), noises=(best,))[0]
    np.testing.assert_allclose(chosen.matrix, alone.matrix)


def test_many_rows_are_fitted_over_some_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    features, vectors, outcomes = _drawn(400, 5)
    whole = fit_surfaces(features, vectors, outcomes[:, 1:])[0].predict(features, vectors)
    monkeypatch.setattr("nearhit.evaluate.surfaces.CENTRES", 150)
    part = fit_surfaces(features, vectors, outcomes[:, 1:])[0].predict(features, vectors)
    assert np.corrcoef(whole, part)[0, 1] > 0.98


def test_a_model_that_was_asked_on_some_rows_only_is_fitted_on_these() -> None:
    features, vectors, outcomes = _drawn(300, 6)
    outcomes[::2, 1] = np.nan
    both = fit_surfaces(features, vectors, outcomes, weights=(0.0,), noises=(1.0,))
    alone = fit_surfaces(features[1::2], vectors[1::2], outcomes[1::2, 1:], weights=(0.0,), noises=(1.0,))
    np.testing.assert_allclose(both[1].matrix, alone[0].matrix)
    nothing = np.full((300, 1), np.nan)
    assert fit_surfaces(features, vectors, np.hstack([outcomes, nothing]))[2].mean == 0.5


def test_squares_say_what_the_matrix_says() -> None:
    surface = Surface(0.4, np.zeros(5), _matrix())
    vectors = _units(50)
    expected = surface.predict(np.zeros((50, 5)), vectors)
    squares = surface.squares(2)
    assert [round(weight, 6) for weight, _ in squares] == [0.9, -0.6]
    found = 0.4 + sum(weight * (vectors @ axis) ** 2 for weight, axis in squares)
    np.testing.assert_allclose(found, expected)


def test_weights_stand_for_the_outcomes_near_their_mean() -> None:
    surface = Surface(0.7, np.array([0.02, -0.01]), 0.05 * _matrix())
    features, vectors = np.random.default_rng(0).normal(size=(60, 2)), _units(60)
    found = chances([surface.log_odds().as_weights()], features, vectors)[:, 0]
    np.testing.assert_allclose(found, surface.predict(features, vectors), atol=5e-3)


def test_models_asked_on_rows_of_their_own_share_what_they_teach() -> None:
    features, vectors, outcomes = _drawn(400, 8)
    quality = np.full((400, 4), np.nan)
    quality[np.arange(400), np.arange(400) % 4] = outcomes[:, 1]
    groups = np.zeros(400, np.intp)
    names = ("a", "b", "c", "d")
    assert all(
        embedding and not squares for *_, embedding, squares in fit_weights(features, vectors, quality, names, groups)
    )
    full = np.repeat(outcomes[:, 1:], 4, axis=1)
    assert all(
        squares and not embedding for *_, embedding, squares in fit_weights(features, vectors, full, names, groups)
    )


def test_the_core_computes_what_was_fitted() -> None:
    names = feature_names()
    weights = np.random.default_rng(0).normal(size=len(names)) * 0.02
    surfaces = [Surface(mean, weights * sign, sign * 0.3 * _matrix()) for mean, sign in ((0.6, 1.0), (0.8, -1.0))]
    heads = [each.log_odds().as_weights() for each in surfaces]
    profiles = [TierProfile(name="weak", quality=WEAK), TierProfile(name="strong", quality=STRONG)]
    core = RouterCore(
        profiles, strategy="best", cost_weight=0.0, failures=1, cooldown=1.0, heads=heads, embedded_heads=heads
    )
    text = "Explain how a hash map works."
    for vector in _units(20):
        decision = core.decide(text, vector=vector.astype(np.float32))
        scores = {each.tier: each.score for each in (decision.choice, *decision.alternatives)}
        expected = chances(heads, np.array([prompt_features(text)]), vector[None])[0]
        assert (scores["weak"], scores["strong"]) == pytest.approx(tuple(expected), abs=1e-5)


def test_an_item_gives_the_two_qualities_the_outcomes_it_was_made_of() -> None:
    flat = np.zeros(len(feature_names()))
    weak, strong = Surface(0.6, flat, 0.05 * _matrix()), Surface(0.8, flat, 0.1 * _matrix())
    vectors = _units(30)
    features = np.zeros((30, len(flat)))
    item = pair_item(weak, strong, ranks=(WIDTH, WIDTH))
    expected = strong.predict(features, vectors) - weak.predict(features, vectors)
    np.testing.assert_allclose(item.gap(features, vectors), expected, atol=0.01)


def test_the_file_names_features_and_writes_directions_in_bytes() -> None:
    names = feature_names()
    weights = np.zeros(len(names))
    weights[names.index("reason")] = 0.25
    text = head_text(
        (np.zeros(len(names)), np.ones(len(names))),
        {"open": level_item(Surface(-0.5, weights, np.diag([0.0, -2.0])), rank=1)},
    )
    assert "[open]\nbias -0.5000 0.0000\nreason 0.2500 0.0000\nsquare -2 0 007f\n" in text.replace("0081", "007f")
    assert text.count("\n") == 4 + 1 + len(names) + 4
