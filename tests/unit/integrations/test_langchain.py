"""The LangChain cache and embeddings, in LangChain itself."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.globals import set_llm_cache
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.language_models.fake import FakeListLLM
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.outputs import ChatGeneration
from tests.support.hashing_embedder import HashingEmbedder

from nearhit import AsyncCache, Cache
from nearhit.integrations.langchain import LangChainEmbedder, NearhitCache, NearhitEmbeddings


@pytest.fixture
def cache():
    return Cache(HashingEmbedder(), policy="static")


@pytest.fixture(autouse=True)
def adapter(cache):
    made = NearhitCache(cache)
    set_llm_cache(made)
    yield made
    set_llm_cache(None)


def chat(*answers):
    return GenericFakeChatModel(messages=iter([AIMessage(each) if isinstance(each, str) else each for each in answers]))


def test_a_chat_model_is_asked_once(cache):
    model = chat("first", "second")
    question = [SystemMessage("Be brief."), HumanMessage("What is the capital of France?")]
    assert model.invoke(question).content == "first"
    assert model.invoke(question).content == "first"
    assert model.invoke([question[0], HumanMessage("what is the capital of France?")]).content == "first"
    assert (cache.stats().exact_hits, cache.stats().near_hits) == (1, 1)
    other = [SystemMessage("Be verbose."), question[1]]
    assert model.invoke(other).content == "second"


def test_a_plain_model_and_its_parameters(cache):
    model = FakeListLLM(responses=["first", "second", "third"])
    assert model.invoke("Hello there, model") == model.invoke("hello there, model") == "first"
    assert model.invoke("Hello there, model", stop=["x"]) == "second"


async def test_asynchronous(cache):
    set_llm_cache(NearhitCache(AsyncCache.sharing(cache)))
    model = chat("first", "second")
    assert (await model.ainvoke("Hello there, model")).content == "first"
    assert (await model.ainvoke("Hello there, model")).content == "first"
    assert (await model.ainvoke("hello there, model")).content == "first"


def test_streams_of_a_model_that_streams_only_are_answered_as_wholes(cache):
    model = chat("one two")
    assert "".join(chunk.content for chunk in model.stream("Count")) == "one two"


def test_earlier_turns_must_match(cache):
    model = chat("a", "b", "c")
    last = HumanMessage("And what about tomorrow?")
    assert model.invoke([HumanMessage("Rain?"), AIMessage("No."), last]).content == "a"
    assert model.invoke([HumanMessage("Snow?"), AIMessage("No."), last]).content == "b"


@pytest.mark.parametrize(
    "answer",
    [
        AIMessage("cut", response_metadata={"finish_reason": "length"}),
        AIMessage("", tool_calls=[{"name": "f", "args": {}, "id": "1"}]),
        AIMessage("filtered", response_metadata={"finish_reason": "content_filter"}),
    ],
)
def test_what_is_not_a_whole_answer_is_not_kept(cache, answer):
    chat(answer).invoke("Hello")
    assert len(cache) == 0


def test_clear_leaves_other_entries_alone(cache, adapter):
    chat("a").invoke("Hello")
    cache.store("other", "entry")
    adapter.clear()
    assert len(cache) == 1


def test_scopes(cache):
    set_llm_cache(NearhitCache(cache, scope="a"))
    model = chat("for a", "for b")
    model.invoke("Hello")
    set_llm_cache(NearhitCache(cache, scope="b"))
    assert model.invoke("Hello").content == "for b"


def test_a_failing_embedder_fails_no_call(caplog):
    class Broken(HashingEmbedder):
        def encode(self, texts):
            raise RuntimeError("out of memory")

    broken = NearhitCache(Cache(Broken()))
    set_llm_cache(broken)
    with caplog.at_level(logging.WARNING, "nearhit.integrations.langchain"):
        assert chat("a").invoke("Hello").content == "a"
        assert chat("b").invoke("Hello").content == "b"
    assert broken.failures == {"lookup": 2, "store": 2}
    assert len(caplog.records) == 2


def test_entries_of_somebody_else_are_misses(cache, adapter):
    for foreign in ("text", [{"text": "x"}], [{"text": "x", "info": None, "message": {"type": "tool"}}], {"a": 1}):
        cache.store({"messages": [{"role": "user", "content": "p"}], "langchain": "m"}, foreign)
        assert adapter.lookup("p", "m") is None


def test_everything_about_a_message_comes_back(adapter):
    usage = {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}
    message = AIMessage("x", response_metadata={"finish_reason": "stop"}, usage_metadata=usage, id="1")
    given = [ChatGeneration(message=message, generation_info={"finish_reason": "stop"})]
    adapter.update("p", "m", given)
    assert adapter.lookup("p", "m") == given


async def test_embeddings_both_ways():
    inner = HashingEmbedder()
    embeddings = NearhitEmbeddings(inner)
    assert np.allclose(embeddings.embed_query("x"), inner.embed(["x"])[0])
    assert embeddings.embed_documents([]) == []
    assert np.allclose(await embeddings.aembed_documents(["x", "y"]), inner.embed(["x", "y"]))
    outer = LangChainEmbedder(DeterministicFakeEmbedding(size=16), id="fake-16")
    cache = Cache(outer, policy="static")
    cache.store("Hello", "x")
    assert (outer.dim, cache.lookup("Hello").response) == (16, "x")
    assert np.allclose(np.linalg.norm(outer.embed(["a", "b"]), axis=1), 1)
