"""Speed of the embedder on the default model: one text by length, a batch, and starting up.

pytest benches/python/test_embed.py --benchmark-enable --benchmark-sort=name
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from nearhit import models
from nearhit.embed import CTranslate2Embedder

if TYPE_CHECKING:
    from collections.abc import Callable

SENTENCE = (
    "how do i reset the password of my account when i no longer have access to the phone number that was used before"
)
WORDS = SENTENCE.split()


def text_of(tokens: int) -> str:
    """A text that the default model sees as so many tokens, the two special ones included."""
    return " ".join(WORDS[i % len(WORDS)] for i in range(tokens - 2))


@pytest.fixture(scope="module", params=["int8", "float32"])
def embedder(request: pytest.FixtureRequest) -> CTranslate2Embedder:
    models.fetch(models.EMBEDDER)
    return CTranslate2Embedder(device="cpu", compute_type=request.param)


@pytest.mark.parametrize("tokens", [8, 16, 32, 64, 128, 256])
def test_one_text(benchmark: Callable[..., Any], embedder: CTranslate2Embedder, tokens: int) -> None:
    text = text_of(tokens)
    assert embedder.encode([text]).tokens[0] == tokens
    benchmark(embedder.embed, [text])


@pytest.mark.parametrize("threads", [1, 2])
def test_320_texts_of_16_tokens(benchmark: Callable[..., Any], threads: int) -> None:
    embedder = CTranslate2Embedder(device="cpu", threads=threads)
    texts = [f"{text_of(15)} {i}" for i in range(320)]
    benchmark(embedder.embed, texts)


def test_start(benchmark: Callable[..., Any]) -> None:
    models.converted(models.EMBEDDER)
    benchmark(CTranslate2Embedder, device="cpu")
