"""The GPTCache facade, beside GPTCache itself: the same names and arguments, the same units."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import openai
import pytest
from tests.support.chat_server import answers, body, fails, pieces, serves_all, streams
from tests.support.hashing_embedder import HashingEmbedder
from tests.support.http_server import Server

import nearhit
from nearhit.integrations import gptcache as ours
from nearhit.integrations.gptcache import embedding, manager, similarity_evaluation
from nearhit.integrations.gptcache.adapter import api
from nearhit.integrations.gptcache.adapter import openai as adapter
from nearhit.integrations.gptcache.processor import post, pre
from nearhit.integrations.gptcache.session import Session

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


def defined(theirs, module, *path):
    """Parameters of a function in a source file of theirs, which cannot be imported beside the openai of today."""
    found = ast.parse((Path(theirs.__file__).parent / module).read_text(encoding="utf-8"))
    for name in path:
        found = next(each for each in found.body if getattr(each, "name", None) == name)
    listed = [each.arg for each in (*found.args.posonlyargs, *found.args.args) if each.arg not in ("self", "cls")]
    variable = [each.arg for each in (found.args.vararg, found.args.kwarg) if each is not None]
    return listed + variable


def of_ours(function):
    return [name for name in inspect.signature(function).parameters if name not in ("self", "cls")]


def test_the_adapters_of_openai_have_their_signatures(theirs):
    for name in ("ChatCompletion", "Completion"):
        for method in ("create", "acreate"):
            ours_ = of_ours(getattr(getattr(adapter, name), method))
            assert ours_ == defined(theirs, "adapter/openai.py", name, method)
    assert of_ours(adapter.ChatCompletion.fill_base_args) == defined(
        theirs, "adapter/base.py", "BaseCacheLLM", "fill_base_args"
    )
    for name in ("put", "get"):
        assert of_ours(getattr(api, name)) == defined(theirs, "adapter/api.py", name)
    assert names(api.init_similar_cache) == defined(theirs, "adapter/api.py", "init_similar_cache")
    for name in ("manager_factory", "get_data_manager"):
        assert of_ours(getattr(manager, name)) == defined(theirs, "manager/factory.py", name)
    for name in ("Onnx", "SBERT", "Huggingface"):
        assert of_ours(getattr(embedding, name)) == defined(theirs, "embedding/__init__.py", name)
    assert names(Session.__init__) == ["self", *defined(theirs, "session.py", "Session", "__init__")]
    assert names(similarity_evaluation.SearchDistanceEvaluation.__init__)[1:] == defined(
        theirs, "similarity_evaluation/distance.py", "SearchDistanceEvaluation", "__init__"
    )


TURNS = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "tell me a joke about cats"}]


@pytest.mark.parametrize(
    ("name", "data", "config"),
    [
        ("last_content", {"messages": TURNS}, {}),
        ("get_messages_last_content", {"messages": [SimpleNamespace(content="of LangChain")]}, {}),
        ("last_content_without_prompt", {"messages": TURNS}, {"prompts": ["tell me a ", "cats"]}),
        ("last_content_without_template", {"messages": TURNS}, {"template": "tell me a {what} about {subject}"}),
        ("all_content", {"messages": TURNS}, {}),
        ("concat_all_queries", {"messages": TURNS * 3}, {"context_len": 2, "skip_list": []}),
        ("nop", {"a": 1}, {}),
        ("get_prompt", {"prompt": "foo"}, {}),
        ("get_inputs", {"inputs": "hello"}, {}),
        ("get_openai_moderation_input", {"input": ["hello"]}, {}),
    ],
)
def test_what_is_compared_is_what_theirs_compares(theirs, name, data, config):
    import gptcache.processor.pre as their_pre  # noqa: PLC0415 - imported in a folder of its own

    given = {"prompts": config.get("prompts"), "cache_config": theirs.Config(**config)}
    our_config = {"prompts": config.get("prompts"), "cache_config": ours.Config(**config)}
    assert getattr(pre, name)(data, **our_config) == getattr(their_pre, name)(data, **given)


def test_a_smaller_greatest_distance_is_a_stricter_threshold(theirs):
    for distance in (1.0, 2.0, 4.0):
        evaluation = theirs.similarity_evaluation.distance.SearchDistanceEvaluation(max_distance=distance)
        cosine = ours.Config(similarity_threshold=0.9).cosine_within(distance)
        score = evaluation.evaluation({}, {"search_result": (2 - 2 * cosine, None)})
        assert score == pytest.approx(evaluation.range()[1] * 0.9)


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
        cache.nearhit.close()


def test_hooks_of_theirs():
    second = ours.Cache()
    second.init()
    second.put("only here", "second")
    first = ours.Cache()
    first.init(
        cache_enable_func=lambda prompt, **_: not prompt.startswith("!"),
        pre_func=lambda data, **_: data["prompt"].upper(),
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


# The adapter of openai, against a real server


@pytest.fixture
def server(monkeypatch):
    with Server(default=serves_all()) as running:
        monkeypatch.setattr(openai, "api_key", "sk-test")
        monkeypatch.setattr(openai, "base_url", running.url)
        yield running


@pytest.fixture
def store():
    found = ours.Cache()
    found.init(embedding_func=embed, config=ours.Config(similarity_threshold=0.95), policy="static")
    return found


def chat(store, text=QUESTION, **options):
    return adapter.ChatCompletion.create(
        model="test-model", messages=[{"role": "user", "content": text}], cache_obj=store, **options
    )


def test_a_chat_is_answered_once(server, store):
    first, again, near = chat(store), chat(store), chat(store, NEAR)
    assert len(server.requests) == 1
    assert first["choices"][0]["message"]["content"] == first.choices[0].message.content == "Hello, world"
    assert "gptcache" not in first
    for hit in (again, near):
        assert (hit["gptcache"], hit.saved_token, hit.usage.total_tokens) == (True, [7, 3], 0)
        assert hit.choices[0].message.content == "Hello, world"
        assert (hit.choices[0].finish_reason, hit.object) == ("stop", "chat.completion")


def test_what_bears_on_the_answer_must_match(server, store):
    chat(store)
    chat(store, temperature=0.5)
    chat(store, tools=[{"type": "function", "function": {"name": "f"}}])
    turns = [{"role": "system", "content": "Other."}, {"role": "user", "content": QUESTION}]
    adapter.ChatCompletion.create(model="test-model", messages=turns, cache_obj=store)
    adapter.ChatCompletion.create(model="other", messages=turns, cache_obj=store)
    assert len(server.requests) == 5
    loose = ours.Cache()
    loose.init(scope=lambda kwargs: {})
    chat(loose)
    adapter.ChatCompletion.create(model="other", messages=turns, cache_obj=loose)
    assert len(server.requests) == 6
    loose.import_data(["Imported?"], ["Yes."])
    assert chat(loose, "Imported?").choices[0].message.content == "Yes."


def test_a_stream_is_kept_and_given_again(server, store):
    def read(**options):
        return list(chat(store, stream=True, **options))

    want = pieces(usage=False)[:-1]
    assert read() == want
    again = read()
    assert len(server.requests) == 1
    text = "".join(piece["choices"][0]["delta"].get("content") or "" for piece in again)
    assert (text, again[-1]["gptcache"], again[-1].choices[0].finish_reason) == ("Hello, world", True, "stop")
    assert again[0]["choices"][0]["delta"]["role"] == "assistant"
    assert chat(store)["gptcache"] is True  # and serves a call that does not stream


def test_what_is_not_whole_is_not_kept(server, store):
    server.then(answers(body(finish="length")), streams([*pieces()[:2], "[DONE]"]), fails(400))
    chat(store)
    list(chat(store, stream=True))
    with pytest.raises(openai.BadRequestError):
        chat(store)
    assert "gptcache" not in chat(store)


def test_controls_of_theirs(server, store):
    heard = []
    assert chat(store, search_only=True) is None
    chat(store)
    assert "gptcache" not in chat(store, cache_skip=True)
    assert "gptcache" not in chat(store, session="b")
    assert chat(store, session=Session("b", cache_obj=store))["gptcache"]
    Session("b", cache_obj=store).drop()
    assert chat(store, session="b", search_only=True) is None
    assert chat(store, hit_callback=heard.extend)["gptcache"]
    assert heard == [(QUESTION, 1.0)]
    loose = ours.Cache()
    loose.init(embedding_func=embed, config=ours.Config(similarity_threshold=0.6), policy="static")
    chat(loose)
    assert chat(loose, "What is the capital of Spain, please?")["gptcache"]
    assert chat(loose, "What is the capital of Spain, please?", cache_factor=1.6, search_only=True) is None
    assert len(server.requests) == 4


def test_another_function_in_place_of_the_api(store, monkeypatch):
    calls = []

    def llm(**kwargs):
        calls.append(kwargs)
        return body("Mine.")

    monkeypatch.setattr(adapter.ChatCompletion, "llm", staticmethod(llm))
    monkeypatch.setattr(adapter.ChatCompletion, "cache_args", {"cache_obj": store})
    turns = [{"role": "user", "content": "Hi"}]
    for _ in range(2):
        answer = adapter.ChatCompletion.create(model="m", messages=turns)
    assert (answer.choices[0].message.content, calls) == ("Mine.", [{"model": "m", "messages": turns}])


def test_completions(server, store):
    def create(**options):
        return adapter.Completion.create(model="test-model", prompt="Say hello", cache_obj=store, **options)

    assert create().choices[0].text == create()["choices"][0]["text"] == "Hello, world"
    assert [piece["choices"][0]["text"] for piece in create(stream=True)] == ["Hello, world"]
    assert len(server.requests) == 1


async def test_asynchronous(server, store):
    turns = [{"role": "user", "content": QUESTION}]

    async def create(**options):
        return await adapter.ChatCompletion.acreate(model="test-model", messages=turns, cache_obj=store, **options)

    first, again = await create(), await create()
    assert (again["gptcache"], again.choices[0].message) == (True, first.choices[0].message)
    assert [piece["choices"][0]["delta"] async for piece in await create(stream=True)][-1] == {}
    other = [{"role": "user", "content": "Another"}]
    for _ in range(2):
        stream = await adapter.ChatCompletion.acreate(model="m", messages=other, cache_obj=store, stream=True)
        pieces_ = [piece async for piece in stream]
    assert (pieces_[-1]["gptcache"], len(server.requests)) == (True, 2)
    for client in adapter._clients.pop(asyncio.get_running_loop()).values():
        await client.close()


def test_addresses_of_a_call_and_of_the_module(server, store, monkeypatch):
    with Server(default=answers(body("Elsewhere."))) as other:
        answer = chat(store, api_key="sk-other", api_base=other.url, request_timeout=5, headers={"x-mine": "1"})
        assert answer.choices[0].message.content == "Elsewhere."
        assert other.requests[0].headers["authorization"] == "Bearer sk-other"
        assert other.requests[0].headers["x-mine"] == "1"
        monkeypatch.setattr(adapter, "api_base", other.url)
        chat(store, "Something else")
        assert len(other.requests) == 2
    with pytest.raises(AttributeError, match="Image"):
        adapter.Image  # noqa: B018 - reading it is the test


def test_a_cache_that_is_not_ready_says_so(server):
    with pytest.raises(nearhit.OptionError, match="init"):
        chat(ours.Cache())


BEFORE = """
from gptcache import cache, Config
from gptcache.adapter import openai
from gptcache.adapter.api import get, put
from gptcache.manager import CacheBase, VectorBase, get_data_manager
from gptcache.processor.post import temperature_softmax
from gptcache.processor.pre import get_prompt, last_content
from gptcache.similarity_evaluation import SearchDistanceEvaluation
from gptcache.similarity_evaluation.exact_match import ExactMatchEvaluation

data_manager = get_data_manager(CacheBase("sqlite"), VectorBase("faiss", dimension=64), max_size=100)
cache.init(
    pre_embedding_func=last_content,
    embedding_func=embed,
    data_manager=data_manager,
    similarity_evaluation=SearchDistanceEvaluation(max_distance=4.0),
    post_process_messages_func=temperature_softmax,
    config=Config(similarity_threshold=0.95),
)
cache.set_openai_key()
found = []
for question in questions:
    answer = openai.ChatCompletion.create(model="test-model", messages=[{"role": "user", "content": question}])
    found.append((answer["choices"][0]["message"]["content"], answer.get("gptcache", False)))
cache.flush()
cache.init(pre_embedding_func=get_prompt, similarity_evaluation=ExactMatchEvaluation())
put("hello", "foo")
found.append((get("hello"), get("Hello")))
"""


def test_import_lines_are_all_that_changes(server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-environment")
    after = re.sub(r"^from gptcache", "from nearhit.integrations.gptcache", BEFORE, flags=re.MULTILINE)
    scope = {"embed": embed, "questions": [QUESTION, QUESTION, "Entirely unrelated words"]}
    try:
        exec(compile(after, "migrated.py", "exec"), scope)  # noqa: S102 - the text above
    finally:
        ours.cache.nearhit.close()
    assert scope["found"] == [
        ("Hello, world", False), ("Hello, world", True), ("Hello, world", False), ("foo", None)
    ]  # fmt: skip
    assert server.requests[0].headers["authorization"] == "Bearer sk-environment"
    assert (tmp_path / "sqlite.nearhit.sqlite").is_file()


def test_data_managers(tmp_path):
    made = manager.manager_factory("sqlite,faiss", data_dir=str(tmp_path / "w"), max_size=7)
    assert (made.path, made.max_size) == (tmp_path / "w" / "nearhit.sqlite", 7)
    url = f"sqlite:///{tmp_path}/mine.db"
    assert manager.get_data_manager(manager.CacheBase("sqlite", sql_url=url)).path == tmp_path / "mine.nearhit.sqlite"
    with pytest.raises(nearhit.OptionError, match=r"mysql.*backend"):
        manager.get_data_manager("mysql", "milvus")
    cache = ours.Cache()
    cache.init(data_manager=made)
    for number in range(20):
        cache.put(f"question {number}", "x")
    assert len(cache.nearhit) <= 7
    cache.nearhit.close()


def test_answers_are_chosen():
    assert post.first(["a", "b"]) == "a"
    assert post.random_one(["a"]) == "a"
    assert post.nop(["a"]) == ["a"]
    assert post.temperature_softmax(["a", "b"], [0.1, 0.2]) == "b"
    with pytest.raises(nearhit.OptionError, match="positive"):
        similarity_evaluation.SearchDistanceEvaluation(positive=True)
