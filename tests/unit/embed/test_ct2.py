"""CTranslate2Embedder on the real default model."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from nearhit._errors import ModelNotFoundError, OptionError, RequestError
from nearhit._types import DetailedEmbedder
from nearhit.embed import CTranslate2Embedder


def test_is_a_detailed_embedder_with_the_models_facts(embedder: CTranslate2Embedder) -> None:
    assert isinstance(embedder, DetailedEmbedder)
    assert embedder.dim == 384
    assert embedder.max_tokens == 256
    assert embedder.id.startswith("all-MiniLM-L6-v2@")
    assert embedder.id.endswith("/mean")


def test_vectors_are_unit_float32_and_meaning_orders_them(embedder: CTranslate2Embedder) -> None:
    vectors = embedder.embed(["How do I reset my password?", "I forgot my password", "Best pizza in Naples"])
    assert vectors.dtype == np.float32
    assert vectors.shape == (3, 384)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    scores = vectors @ vectors.T
    assert scores[0, 1] > 0.6
    assert scores[0, 2] < 0.2


def test_no_texts_give_no_vectors(embedder: CTranslate2Embedder) -> None:
    result = embedder.encode([])
    assert result.vectors.shape == (0, 384)
    assert result.truncated.shape == result.tokens.shape == (0,)


def test_a_text_does_not_feel_its_neighbours_in_a_batch(embedder: CTranslate2Embedder) -> None:
    texts = [f"question {i} about " + "word " * (i * 7 % 60) for i in range(75)]
    together = embedder.encode(texts)
    for i in (0, 1, 31, 32, 74):
        alone = embedder.encode([texts[i]])
        assert float(alone.vectors[0] @ together.vectors[i]) == pytest.approx(1, abs=1e-5)
        assert alone.tokens[0] == together.tokens[i]


@pytest.mark.parametrize(
    ("words", "truncated", "tokens"), [(1, False, 3), (254, False, 256), (255, True, 256), (100_000, True, 256)]
)
def test_truncation_is_visible_and_exact(
    embedder: CTranslate2Embedder,
    words: int,
    truncated: bool,  # noqa: FBT001 - a parametrised value
    tokens: int,
) -> None:
    result = embedder.encode(["cat " * words])
    assert result.truncated.tolist() == [truncated]
    assert result.tokens.tolist() == [tokens]


@pytest.mark.parametrize(
    "text",
    [
        "The quick brown fox, jumps over 13 lazy dogs. " * 3000,
        "x" * 100_000,
        "短い文章です。" * 15_000,
        "a" + " " * 100_000 + "b",
        "word\n" * 20_000,
        "🙂 " * 50_000,
    ],
)
def test_a_huge_text_is_cut_to_what_its_whole_tokenisation_begins_with(
    embedder: CTranslate2Embedder, text: str
) -> None:
    whole = embedder._tokeniser._tokenizer.encode(text)
    result = embedder._tokeniser.encode_all([text])[0]
    assert result.ids == whole.ids
    assert result.truncated == bool(whole.overflowing)


@pytest.mark.parametrize("text", ["", " ", "\0", "a\0b", "\n\t", "🙂", "naïve café", "日本語", "\u202e\u200b"])
def test_odd_texts_get_a_unit_vector(embedder: CTranslate2Embedder, text: str) -> None:
    vector = embedder.embed([text])[0]
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)


def test_a_lone_surrogate_is_named_with_its_place(embedder: CTranslate2Embedder) -> None:
    with pytest.raises(RequestError, match=r"text 1 holds a lone surrogate \(U\+D83D at 3\)"):
        embedder.embed(["fine", "abc\ud83d"])


@pytest.mark.parametrize("texts", ["one text", b"bytes", [1], [None], [["nested"]], [b"bytes"]])
def test_anything_but_a_list_of_texts_is_refused(embedder: CTranslate2Embedder, texts: object) -> None:
    with pytest.raises(RequestError):
        embedder.embed(texts)  # type: ignore[arg-type]


def test_many_threads_get_the_same_vectors(embedder: CTranslate2Embedder) -> None:
    texts = [f"thread text number {i}" for i in range(16)]
    expected = embedder.embed(texts)
    barrier = threading.Barrier(8)

    def work(_: int) -> np.ndarray:
        barrier.wait()
        return np.stack([embedder.embed([text])[0] for text in texts])

    with ThreadPoolExecutor(8) as pool:
        for vectors in pool.map(work, range(8)):
            np.testing.assert_allclose(vectors, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "tpu"}, "unknown device 'tpu'"),
        ({"compute_type": "int3"}, "unknown compute_type 'int3'"),
        ({"threads": 0}, "threads = 0"),
        ({"intra_threads": -1}, "intra_threads = -1"),
    ],
)
def test_options_are_checked_and_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        CTranslate2Embedder(**options)  # type: ignore[arg-type]


def test_a_missing_model_says_how_to_fetch_it() -> None:
    with pytest.raises(ModelNotFoundError, match="nearhit models fetch no-such-model"):
        CTranslate2Embedder("no-such-model")
