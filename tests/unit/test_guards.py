"""Guards and verifier through the binding: hostile texts, symmetry, files, the verified policy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearhit._core import PairVerifier, VerifiedPolicy, guard, guard_many
from nearhit._errors import CorruptFileError, OptionError, RequestError, StorageError

TEXT = st.text(st.characters(codec="utf-8"), max_size=200)


@pytest.mark.parametrize(
    ("query", "candidate", "expected"),
    [
        ("Cancel my order", "Don't cancel my order", "negation"),
        ("Is 5 mg safe?", "Is 5 g safe?", "number"),
        ("merge develop into main", "merge main into develop", "order"),
        ("install it on Windows", "install it on Linux", "class"),
        ("What does `foo()` do?", "What does `bar()` do?", "literal"),
    ],
)
def test_refusals_name_the_guard_and_both_pieces(query, candidate, expected):
    found = guard(query, candidate)
    assert expected in [name for name, _, _ in found]
    assert guard_many([(query, candidate), (query, query)]) == [found, []]


@given(TEXT, TEXT)
def test_any_text_is_judged_and_the_order_of_the_two_does_not_matter(query, candidate):
    assert {name for name, _, _ in guard(query, candidate)} == {name for name, _, _ in guard(candidate, query)}
    ((_, _, forth, _),) = PairVerifier().judge_many([(query, candidate)], [0.9])
    ((_, _, back, _),) = PairVerifier().judge_many([(candidate, query)], [0.9])
    assert 0.0 <= forth <= 1.0
    assert forth == pytest.approx(back, abs=1e-5)


@pytest.mark.parametrize(
    "text", ["", " ", "\0" * 1000, "a" * 100_000, "((" * 50_000, "1," * 50_000, "\U0001f600" * 9999]
)
def test_odd_and_huge_texts(text):
    assert guard(text, text) == []
    PairVerifier().judge_many([(text, "How do I reset my password?")], [0.5])


def test_lone_surrogates_are_refused():
    with pytest.raises(RequestError, match="surrogate"):
        guard("\ud800", "x")


def test_a_paraphrase_is_surer_than_a_neighbour():
    verifier = PairVerifier()
    pairs = [
        ("How do I reset my password?", "How can I reset my password?"),
        ("How do I reset my password?", "What is the best way to travel in Peru?"),
    ]
    (_, _, same, accepted), (_, _, other, _) = verifier.judge_many(pairs, [0.97, 0.1])
    assert accepted
    assert same > verifier.threshold
    assert other < 0.1


def test_confidence_rises_with_similarity():
    pair = ("How do I learn to cook?", "How could I start to learn cooking?")
    rising = [PairVerifier().judge_many([pair], [s])[0][2] for s in np.linspace(0.5, 1.0, 11)]
    assert rising == sorted(rising)


def test_damaged_and_missing_files_are_refused(tmp_path):
    with pytest.raises(StorageError):
        PairVerifier(tmp_path / "none")
    shipped = PairVerifier().recalibrated([0.5, 0.5, 0.0, 1.0, 0.0], 0.7)
    good = tmp_path / "good"
    good.write_bytes(shipped)
    assert PairVerifier(good).threshold == pytest.approx(0.7)
    for number, content in enumerate((b"", b"NHVERIF1", shipped[:-1], shipped[:500] + b"\xff" + shipped[501:])):
        bad = tmp_path / str(number)
        bad.write_bytes(content)
        with pytest.raises(CorruptFileError):
            PairVerifier(bad)


def test_verified_policy_serves_the_sure_and_learns():
    with pytest.raises(OptionError, match="delta"):
        VerifiedPolicy(0.0)
    policy = VerifiedPolicy(0.05, exploration=0.0)
    for step in range(2000):
        policy.decide(step, (step % 100) / 100)
    assert policy.decide(1, 0.995)[0]
    assert not policy.decide(1, 0.4)[0]
    risk = policy.decide(2, 0.9)[1]
    policy.learn(2, 0.9, right=False)
    assert policy.decide(2, 0.9)[1] > risk
    assert policy.labels == 1
