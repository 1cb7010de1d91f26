"""int8 against float32 on 200 sentences: hand-made ones that are always there, and real questions where the data is."""

from __future__ import annotations

import gzip
import itertools
import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from nearhit.embed import CTranslate2Embedder

if TYPE_CHECKING:
    from pathlib import Path

SUBJECTS = [
    "my password", "the invoice of March 2024", "a parcel that never arrived", "two-factor authentication",
    "the Rust borrow checker", "photosynthesis", "a mortgage with a fixed rate", "the train to Lyon",
    "a sourdough starter", "the Treaty of Westphalia", "a leaking tap", "my 5-year-old's fever",
    "the standard deviation of a sample", "a refund of $129.90", "Kubernetes pods that restart",
    "the plural of octopus", "Beethoven's seventh symphony", "a visa for Japan", "an unbalanced binary tree", "GDPR",
]  # fmt: skip
QUESTIONS = [
    "How do I deal with {}?",
    "Explain {} to a child.",
    "I have a problem with {}; it started yesterday and nothing I tried has helped so far. What should I check first?",
    "Is {} dangerous?",
    "What is the difference between {} and its alternatives?",
    "{}",
    "Please don't change anything about {}.",
    "Write a short, polite email about {} to somebody I have never met.",
    "Why does everybody talk about {} these days, and who was the first?",
    "Cancel {} now!",
]
HAND_MADE = [question.format(subject) for subject, question in itertools.product(SUBJECTS, QUESTIONS)]


@pytest.fixture(scope="module")
def exact(minilm: Path) -> CTranslate2Embedder:
    return CTranslate2Embedder(minilm, device="cpu", compute_type="float32")


def assert_agreement(small: CTranslate2Embedder, exact: CTranslate2Embedder, sentences: list[str]) -> None:
    assert len(set(sentences)) == 200
    a, b = small.embed(sentences), exact.embed(sentences)
    cosines = (a * b).sum(axis=1)
    assert cosines.mean() >= 0.995
    assert cosines.min() >= 0.985
    # What a threshold is compared with: cosines of pairs.
    pairs = np.triu_indices(200, 1)
    assert np.abs((a @ a.T)[pairs] - (b @ b.T)[pairs]).mean() <= 0.01


def test_int8_agrees_with_float32_on_hand_made_sentences(
    embedder: CTranslate2Embedder, exact: CTranslate2Embedder
) -> None:
    assert embedder.id != exact.id
    assert_agreement(embedder, exact, HAND_MADE)


def test_int8_agrees_with_float32_on_real_questions(
    embedder: CTranslate2Embedder, exact: CTranslate2Embedder, data: Path
) -> None:
    with gzip.open(data / "pairs_qqp.jsonl.gz", "rt", encoding="utf-8") as lines:
        questions = dict.fromkeys(json.loads(line)["a"] for line in itertools.islice(lines, 400))
    assert_agreement(embedder, exact, list(questions)[:200])
