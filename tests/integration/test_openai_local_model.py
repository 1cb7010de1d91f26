"""A wrapped OpenAI client in front of a real model, served over HTTP, with the real embedder in the cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from openai import OpenAI
from tests.support.chat_server import serves
from tests.support.http_server import Server

from nearhit import Cache, CTranslate2Tier
from nearhit.openai import info, wrap

if TYPE_CHECKING:
    from pathlib import Path

    from nearhit.embed import CTranslate2Embedder

pytestmark = pytest.mark.timeout(900)  # fetches and converts the models on first use


def test_a_real_model_is_asked_once(smollm: Path, embedder: CTranslate2Embedder) -> None:
    def ask(text: str, **options: object) -> object:
        turns = [{"role": "user", "content": text}]
        return client.chat.completions.create(model="smollm", messages=turns, max_tokens=12, temperature=0, **options)

    with CTranslate2Tier("local", smollm, device="cpu") as tier, Server(default=serves(tier)) as server:
        client = wrap(OpenAI(api_key="sk-test", base_url=server.url), cache=Cache(embedder))
        first = ask("What is the capital of Portugal?")
        near = ask("Which city is the capital of Portugal?")
        assert first.choices[0].message.content
        assert (info(first).outcome, info(near).outcome) == ("miss", "near")
        assert near.choices[0].message == first.choices[0].message
        assert info(ask("What is the capital of Spain?")).outcome == "miss"
        options = {"stream": True, "stream_options": {"include_usage": True}}
        stream = list(ask("Count from one to five.", **options))
        replayed = ask("Count from one to five.", **options)
        assert [chunk.to_dict() for chunk in replayed] == [chunk.to_dict() for chunk in stream]
        assert info(replayed).outcome == "exact"
        assert len(server.requests) == 3
