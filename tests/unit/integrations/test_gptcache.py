"""The GPTCache facade, beside GPTCache itself: the same names and arguments, the same units."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from tests.support.hashing_embedder import HashingEmbedder

import nearhit
from nearhit.integrations import gptcache as ours

QUESTION, NEAR = "What is the capital of France, please?", "what is the capital of France, please?"


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """GPTCache itself, imported in a folder of its own, for importing it writes files where one stands."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("gptcache"))
        import gptcache  # noqa: PLC0415 - see above
        import gptcache.similarity_evaluation.distance  # noqa: PLC0415 - see above

    return gptcache


def names(function):
    listed = inspect.signature(function).parameters.values()
    return [each.name for each in listed if each.kind not in (each.VAR_KEYWORD, each.KEYWORD_ONLY)]


def test_signatures_are_theirs(theirs):
    assert names(ours.Config.__init__) == names(theirs.Config.__init__)
    assert names(ours.Cache.init) == names(theirs.Cache.init)
    assert names(ours.Cache.import_data) == names(theirs.Cache.import_data)
    assert names(ours.Cache.flush) == names(theirs.Cache.flush)
    assert vars(ours.Config()) == vars(theirs.Config())


@pytest.mark.parametrize("threshold", [0.5, 0.8, 0.95, 1.0])
def test_a_threshold_asks_for_the_cosine_that_theirs_asks_for(theirs, threshold):
    """Their score of two unit vectors, from the squared distance of their vector store, against their limit."""
    evaluation = theirs.similarity_evaluation.distance.SearchDistanceEvaluation()
    least, greatest = evaluation.range()
    cosine = ours.Config(similarity_threshold=threshold).cosine
    score = evaluation.evaluation({}, {"search_result": (2 - 2 * cosine, None)})
    assert score == pytest.approx((greatest - least) * threshold)


def embed(text, **_):
    return HashingEmbedder().embed([text])[0] * 5


def test_put_and_get_by_meaning():
    cache = ours.Cache()
    cache.init(embedding_func=embed, config=ours.Config(similarity_threshold=0.9), policy="static")
    ours.put(QUESTION, "Paris.", cache_obj=cache)
    assert ours.get(NEAR, cache_obj=cache) == "Paris."
    assert ours.get("Entirely unrelated words", cache_obj=cache) is None


def test_without_an_embedding_only_equal_prompts_hit():
    ours.cache.init()
    ours.put(QUESTION, "Paris.")
    assert (ours.get(QUESTION), ours.get(NEAR)) == ("Paris.", None)


def test_a_similar_cache_in_a_folder(tmp_path):
    class Embedding:
        dimension = 64

        def to_embeddings(self, text, **_):
            return embed(text)

    for number in range(2):
        cache = ours.Cache()
        ours.init_similar_cache(str(tmp_path / "data"), cache_obj=cache, embedding=Embedding(), policy="static")
        if number == 0:
            cache.import_data([QUESTION], ["Paris."])
            cache.flush()
        assert cache.get(NEAR) == "Paris."
        cache._cache.close()


def test_hooks_of_theirs():
    second = ours.Cache()
    second.init()
    second.put("only here", "second")
    first = ours.Cache()
    first.init(
        cache_enable_func=lambda prompt, **_: not prompt.startswith("!"),
        pre_func=lambda data: data["prompt"].upper(),
        next_cache=second,
    )
    first.put("hello", "answer")
    first.put("!no", "x")
    assert (first.get("HELLO"), first.get("!no"), first.get("only here")) == ("answer", None, "second")


def test_what_is_wrong_is_named():
    with pytest.raises(nearhit.OptionError, match=r"similarity_threshold=1\.5"):
        ours.Config(similarity_threshold=1.5)
    with pytest.raises(nearhit.OptionError, match="init"):
        ours.Cache().get("x")
    embedder = ours.FunctionEmbedder(embed)
    assert embedder.dim == 64
    assert np.allclose(np.linalg.norm(embedder.embed(["a", "b"]), axis=1), 1)
