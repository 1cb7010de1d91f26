"""The RedisVL facade, beside RedisVL itself: the same names and arguments, the same units."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from redisvl.extensions.cache.llm import SemanticCache as Theirs
from redisvl.query.filter import Tag
from redisvl.utils.vectorize import CustomVectorizer
from tests.support.hashing_embedder import HashingEmbedder
from tests.support.waiting import until

import nearhit
from nearhit import Cache
from nearhit.integrations.redisvl import SemanticCache as Ours

METHODS = [
    "check", "acheck", "store", "astore", "drop", "adrop", "clear", "aclear", "delete", "adelete",
    "set_threshold", "set_ttl", "disconnect", "adisconnect", "update", "aupdate", "expire", "aexpire",
]  # fmt: skip
QUESTION, NEAR = "What is the capital of France, please?", "what is the capital of France, please?"


def parameters(function):
    """Names, defaults and kinds, without what only one of both has by keyword."""
    listed = inspect.signature(function).parameters.values()
    named = [each for each in listed if each.kind not in (each.VAR_KEYWORD, each.KEYWORD_ONLY)]
    return [(each.name, each.default) for each in named]


@pytest.mark.parametrize("name", ["__init__", *METHODS])
def test_signatures_are_theirs(name):
    assert parameters(getattr(Ours, name)) == parameters(getattr(Theirs, name))


def test_properties_are_theirs():
    for name in ("distance_threshold", "ttl"):
        assert isinstance(getattr(Ours, name), property)
        assert isinstance(getattr(Theirs, name), property)


@pytest.fixture
def cache():
    return Ours("faq", distance_threshold=0.1, vectorizer=HashingEmbedder(), policy="static")


def test_an_entry_comes_back_in_their_form(cache):
    key = cache.store(QUESTION, "Paris.", metadata={"source": "atlas"})
    (found,) = cache.check(prompt=NEAR)
    assert found["key"] == key == f"faq:{found['entry_id']}"
    assert (found["prompt"], found["response"], found["metadata"]) == (QUESTION, "Paris.", {"source": "atlas"})
    assert 0 <= found["vector_distance"] < 0.1
    assert found["inserted_at"] == found["updated_at"]
    assert set(cache.check(QUESTION, return_fields=["response"])[0]) == {"key", "response"}
    assert cache.check(QUESTION)[0]["vector_distance"] == 0


def test_a_distance_is_one_minus_the_cosine(cache):
    embedder = HashingEmbedder()
    first, second = embedder.embed([QUESTION, "What is the capital of Spain, please?"])
    distance = 1 - float(first @ second)
    cache.store(QUESTION, "Paris.")
    for threshold, hits in ((distance + 0.001, 1), (distance - 0.001, 0)):
        assert len(cache.check("What is the capital of Spain, please?", distance_threshold=threshold)) == hits
    cache.set_threshold(distance + 0.001)
    assert cache.check("What is the capital of Spain, please?")[0]["vector_distance"] == pytest.approx(
        distance, abs=1e-5
    )


def test_several_results_best_first(cache):
    for text in (QUESTION, NEAR + "!", "Entirely unrelated words here"):
        cache.store(text, text)
    found = cache.check(NEAR, num_results=5, distance_threshold=0.5)
    assert len(found) == 2
    assert found[0]["vector_distance"] <= found[1]["vector_distance"]


def test_vectors_of_the_callers_own(cache):
    vector = HashingEmbedder().embed(["something else"])[0] * 3
    cache.store(QUESTION, "Paris.", vector=vector.tolist())
    assert cache.check(vector=vector.tolist())[0]["response"] == "Paris."


def test_their_vectorizers_work():
    inner = HashingEmbedder()
    vectorizer = CustomVectorizer(
        embed=lambda text, **_: (inner.embed([text])[0] * 2).tolist(),
        embed_many=lambda texts, **_: (inner.embed(texts) * 2).tolist(),
    )
    cache = Ours("faq", vectorizer=vectorizer, policy="static")
    cache.store(QUESTION, "Paris.")
    assert cache.check(NEAR)[0]["response"] == "Paris."


def test_update_changes_what_is_answered_and_nothing_else(cache):
    key = cache.store(QUESTION, "Lyon.", metadata={"source": "hearsay"})
    (before,) = cache.check(prompt=QUESTION)
    cache.update(key, response="Paris.", metadata={"source": "atlas"})
    (after,) = cache.check(prompt=NEAR)
    assert (after["key"], after["response"], after["metadata"]) == (key, "Paris.", {"source": "atlas"})
    assert (after["prompt"], after["inserted_at"]) == (before["prompt"], before["inserted_at"])
    assert after["updated_at"] > before["updated_at"]
    with pytest.raises(nearhit.OptionError, match="prompt"):
        cache.update(key, prompt="What is the capital of Italy?")
    cache.drop(keys=[key])
    with pytest.raises(KeyError, match="faq:"):
        cache.update(key, response="Nice.")


async def test_expire_ends_an_entry_and_update_starts_its_time_anew(cache):
    key = cache.store(QUESTION, "Paris.")
    cache.expire(key, 1)
    (found,) = cache.check(prompt=QUESTION)
    assert found["updated_at"] == found["inserted_at"]
    await cache.aupdate(key, response="Paris, France.")
    await cache.aexpire(key, 1)
    until(lambda: not cache.check(prompt=QUESTION))
    with pytest.raises(KeyError):
        await cache.aexpire(key, 1)


def test_filters_keep_entries_apart():
    cache = Ours("faq", vectorizer=HashingEmbedder(), filterable_fields=[{"name": "user", "type": "tag"}])
    cache.store(QUESTION, "For a.", filters={"user": "a-1"})
    assert cache.check(QUESTION) == []
    assert cache.check(QUESTION, filter_expression=Tag("user") == "b") == []
    (found,) = cache.check(QUESTION, filter_expression=Tag("user") == "a-1")
    assert (found["response"], found["user"]) == ("For a.", "a-1")
    with pytest.raises(nearhit.OptionError, match="filter_expression"):
        cache.check(QUESTION, filter_expression=Tag("user") != "a-1")
    with pytest.raises(nearhit.OptionError, match="'team'"):
        cache.store(QUESTION, "x", filters={"team": "a"})


def test_names_keep_entries_apart_in_one_cache():
    shared = Cache()
    first, second = Ours("one", cache=shared), Ours("two", cache=shared)
    first.store("a", "1")
    second.store("a", "2")
    assert second.check("a")[0]["response"] == "2"
    first.clear()
    assert (first.check("a"), len(second.check("a"))) == ([], 1)


def test_drop_and_delete(cache):
    first, second = cache.store("first prompt", "1"), cache.store("second prompt", "2")
    cache.drop(keys=[first])
    cache.drop(ids=[second.removeprefix("faq:")])
    assert cache.check("first prompt") == cache.check("second prompt") == []
    cache.store("x", "y")
    cache.delete()
    assert cache.check("x") == []
    with pytest.raises(ValueError, match="create_index"):
        Ours("faq", cache=Cache(), create_index=False).delete()


async def test_asynchronous(cache):
    key = await cache.astore(QUESTION, "Paris.", ttl=60)
    assert (await cache.acheck(NEAR))[0]["key"] == key
    assert len(await cache.acheck(NEAR, num_results=3)) == 1
    await cache.adrop(keys=[key])
    await cache.aclear()
    assert await cache.acheck(QUESTION) == []


def test_a_file_keeps_them(tmp_path):
    with Ours("faq", vectorizer=HashingEmbedder(), path=tmp_path / "faq.db") as cache:
        cache.store(QUESTION, "Paris.")
    with Ours("faq", vectorizer=HashingEmbedder(), path=tmp_path / "faq.db") as cache:
        assert cache.check(QUESTION)[0]["response"] == "Paris."


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"distance_threshold": 2.5}, ValueError),
        ({"distance_threshold": -0.1}, ValueError),
        ({"ttl": 1.5}, TypeError),
        ({"vectorizer": object()}, TypeError),
        ({"filterable_fields": [{"name": "prompt", "type": "tag"}]}, ValueError),
        ({"overwrite": True, "create_index": False}, ValueError),
    ],
)
def test_their_errors(options, error):
    with pytest.raises(error):
        Ours("faq", **{"vectorizer": HashingEmbedder(), **options})
    with pytest.raises(ValueError, match="prompt or vector"):
        Ours("faq", cache=Cache()).check()
    assert np.isclose(Ours("faq", cache=Cache()).distance_threshold, 0.1)
