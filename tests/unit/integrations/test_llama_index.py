"""The LlamaIndex LLM and embedding model, in LlamaIndex itself."""

from __future__ import annotations

import numpy as np
import pytest
from llama_index.core.base.llms.types import ChatMessage, MessageRole
from llama_index.core.llms import MockLLM
from tests.support.hashing_embedder import HashingEmbedder

from nearhit import Cache
from nearhit.integrations.llama_index import NearhitEmbedding, NearhitLLM

PROMPT = "What is the capital of France, please?"
NEAR = "what is the capital of France, please?"


class Counting(MockLLM):
    """LlamaIndex's own model without a model, which counts how often it was asked."""

    asked: int = 0

    @classmethod
    def class_name(cls):
        return "counting"

    def complete(self, prompt, formatted=False, **kwargs):  # noqa: FBT002 - LlamaIndex's signature
        self.asked += 1
        return super().complete(prompt, formatted=formatted, **kwargs)

    def stream_complete(self, prompt, formatted=False, **kwargs):  # noqa: FBT002 - LlamaIndex's signature
        self.asked += 1
        return super().stream_complete(prompt, formatted=formatted, **kwargs)


@pytest.fixture
def model():
    return Counting(max_tokens=5)


@pytest.fixture
def cache():
    return Cache(HashingEmbedder(), policy="static")


@pytest.fixture
def llm(model, cache):
    return NearhitLLM(model, cache)


def test_completions(model, llm):
    first = llm.complete(PROMPT)
    assert first.text == " ".join(["text"] * 5)
    assert llm.complete(PROMPT).text == llm.complete(NEAR).text == first.text
    assert model.asked == 1


def test_conversations(model, llm):
    turns = [ChatMessage("Be brief.", role="system"), ChatMessage(PROMPT)]
    first = llm.chat(turns)
    again = llm.chat([turns[0], ChatMessage(NEAR)])
    assert again.message.content == first.message.content
    assert again.message.role is MessageRole.ASSISTANT
    llm.chat([ChatMessage("Be verbose.", role="system"), ChatMessage(PROMPT)])
    assert model.asked == 2


def test_streams_are_replayed_piece_by_piece(model, llm):
    first = [(piece.delta, piece.text) for piece in llm.stream_complete(PROMPT)]
    again = [(piece.delta, piece.text) for piece in llm.stream_complete(PROMPT)]
    assert again == first
    assert len(first) > 1
    assert model.asked == 1
    talk = [ChatMessage(PROMPT)]
    pieces = [piece.delta for piece in llm.stream_chat(talk)]
    assert [piece.delta for piece in llm.stream_chat(talk)] == pieces


def test_a_stream_that_is_left_is_not_kept(cache, llm):
    stream = llm.stream_complete(PROMPT)
    next(stream)
    stream.close()
    assert len(cache) == 0


async def test_asynchronous(model, llm):
    assert (await llm.acomplete(PROMPT)).text == (await llm.acomplete(NEAR)).text
    assert (await llm.achat([ChatMessage(PROMPT)])).message == (await llm.achat([ChatMessage(PROMPT)])).message
    first = [piece.delta async for piece in await llm.astream_complete(PROMPT)]
    assert [piece.delta async for piece in await llm.astream_complete(PROMPT)] == first
    talk = [ChatMessage(PROMPT)]
    pieces = [piece.delta async for piece in await llm.astream_chat(talk)]
    assert [piece.delta async for piece in await llm.astream_chat(talk)] == pieces
    assert model.asked == 4


def test_other_models_and_parameters_have_answers_of_their_own(model, cache, llm):
    llm.complete(PROMPT)
    assert NearhitLLM(Counting(max_tokens=3), cache).complete(PROMPT).text == "text text text"
    llm.complete(PROMPT, temperature=1)
    assert model.asked == 2


def test_the_model_behind_is_described(model, llm):
    assert llm.metadata == model.metadata
    assert llm.failures == {}


async def test_embeddings():
    inner = HashingEmbedder()
    model = NearhitEmbedding(inner)
    assert np.allclose(model.get_text_embedding("x"), inner.embed(["x"])[0])
    assert np.allclose(model.get_text_embedding_batch(["x", "y"]), inner.embed(["x", "y"]))
    assert np.allclose(model.get_query_embedding("x"), await model.aget_query_embedding("x"))
