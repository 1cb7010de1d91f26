"""Lookups: exact, near, refused, explained."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest
from tests.support.hashing_embedder import HashingEmbedder

import nearhit
from nearhit import AsyncCache, Cache

PROMPT = "How do I reset the password of my account?"
NEARLY = "How do I reset the password of my account"


@pytest.fixture
def cache() -> Cache:
    return Cache(HashingEmbedder(), threshold=0.85)


def test_exact_hit_tells_everything(cache: Cache) -> None:
    entry_id = cache.store(PROMPT, "Click.", scope="acme", model="m", tokens=(9, 2))
    hit = cache.lookup(PROMPT, scope="acme")
    assert hit is not None
    assert (hit.response, hit.kind, hit.similarity, hit.confidence) == ("Click.", "exact", 1.0, 1.0)
    assert (hit.entry_id, hit.scope, hit.prompt, hit.model, hit.tokens) == (entry_id, "acme", PROMPT, "m", (9, 2))
    assert 0 <= hit.age < 60


def test_near_hit_needs_the_threshold(cache: Cache) -> None:
    cache.store(PROMPT, "Click.")
    hit = cache.lookup(NEARLY)
    assert hit is not None
    assert hit.kind == "near"
    assert 0.85 <= hit.similarity < 1
    assert hit.confidence is not None
    assert 0.5 < hit.confidence < 1
    assert cache.lookup(NEARLY, threshold=1.0) is None
    assert cache.lookup("What is the weather like in Lisbon today?") is None


def test_guards_refuse_what_only_looks_alike() -> None:
    asked = "How do I enable two-factor authentication on my phone?"
    opposite = "How do I disable two-factor authentication on my phone?"
    guarded, static = (Cache(HashingEmbedder(), threshold=0.7, policy=policy) for policy in ("guarded", "static"))
    for cache in (guarded, static):
        cache.store(asked, "Open the settings.")
    assert static.lookup(opposite) is not None
    lookup = guarded.lookup_traced(opposite)
    assert lookup.hit is None
    assert lookup.near_miss is not None
    assert any("disable" in reason for reason in lookup.near_miss.reasons)
    explanation = guarded.explain(opposite)
    assert explanation.near_miss is not None
    assert "disable" in explanation.reason
    stats = guarded.stats()
    assert (stats.near_misses, stats.misses) == (1, 1)


def test_call_threshold_only_tightens(cache: Cache) -> None:
    cache.store(PROMPT, "Click.")
    assert cache.lookup("How do I reset the colour of my kitchen?", threshold=-1.0) is None
    assert cache.lookup(NEARLY, threshold=0.0) is not None


@pytest.mark.parametrize("threshold", [1.1, -1.1, float("nan"), float("inf")])
def test_bad_threshold_is_refused_even_on_an_exact_hit(cache: Cache, threshold: float) -> None:
    cache.store(PROMPT, "Click.")
    with pytest.raises(nearhit.ThresholdError, match="cosine"):
        cache.lookup(PROMPT, threshold=threshold)
    with pytest.raises(nearhit.ThresholdError):
        cache.lookup("something else", threshold=threshold)
    with pytest.raises(nearhit.ThresholdError):
        Cache(threshold=threshold)


def test_scopes_never_see_each_other(cache: Cache) -> None:
    cache.store(PROMPT, "Click.", scope="acme")
    for scope in (None, "other", {"tenant": "acme"}, ["acme"], 1):
        assert cache.lookup(PROMPT, scope=scope) is None
        assert cache.lookup(NEARLY, scope=scope) is None
    system = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": PROMPT}]
    assert cache.lookup(system, scope="acme") is None


def test_lone_user_message_equals_the_prompt(cache: Cache) -> None:
    cache.store([{"role": "user", "content": PROMPT}], "Click.")
    hit = cache.lookup(PROMPT)
    assert hit is not None
    assert hit.kind == "exact"


def test_truncated_prompt_is_exact_only() -> None:
    cache = Cache(HashingEmbedder(window=40), threshold=0.5)
    long = PROMPT + " " + "x" * 100
    assert cache.lookup_traced(long).truncated
    cache.store(long, "Click.")
    hit = cache.lookup(long)
    assert hit is not None
    assert hit.kind == "exact"
    assert cache.lookup(PROMPT[:40]) is None  # what the embedder saw of the long one is the same text
    assert "window" in cache.explain(long + "y").reason


def test_lookup_record_spares_the_second_embedding(cache: Cache) -> None:
    embedder = cache.embedder
    assert isinstance(embedder, HashingEmbedder)
    lookup = cache.lookup_traced(PROMPT, scope="acme")
    assert lookup.hit is None
    assert set(lookup.seconds) == {"exact", "tokenise", "embed", "search", "guard"}
    cache.store(lookup, "Click.")
    assert embedder.calls == [[PROMPT]]
    near = cache.lookup(NEARLY, scope="acme")
    assert near is not None
    exact = cache.lookup_traced(PROMPT, scope="acme")
    assert exact.hit is not None
    assert set(exact.seconds) == {"exact"}


def test_vector_given_by_the_caller() -> None:
    cache = Cache(policy="static")
    vector = np.zeros(8, dtype=np.float32)
    vector[0] = 2.0
    cache.store("first", "1", vector=vector)
    for form in (vector, vector.astype(np.float64), vector.tolist(), tuple(vector), memoryview(vector)):
        hit = cache.lookup("second", vector=form)
        assert hit is not None
        assert hit.kind == "near"
        assert hit.similarity == pytest.approx(1.0)
    assert cache.lookup("second") is None


@pytest.mark.parametrize(
    ("vector", "error"),
    [
        (np.ones(7, dtype=np.float32), nearhit.DimensionError),
        (np.zeros(8, dtype=np.float32), nearhit.ZeroVectorError),
        (np.full(8, np.nan, dtype=np.float32), nearhit.NotFiniteError),
        (np.full(8, np.inf, dtype=np.float32), nearhit.NotFiniteError),
        (np.ones((2, 4), dtype=np.float32), nearhit.DimensionError),
        (["a"] * 8, nearhit.InputError),
        ("abcdefgh", nearhit.InputError),
        (3.0, nearhit.InputError),
        ([], nearhit.DimensionError),
    ],
)
def test_bad_vectors_leave_everything_as_it_was(vector: object, error: type[Exception]) -> None:
    cache = Cache()
    cache.store("first", "1", vector=np.ones(8, dtype=np.float32))
    with pytest.raises(error):
        cache.lookup("second", vector=vector)
    with pytest.raises(error):
        cache.store("second", "2", vector=vector)
    assert len(cache) == 1
    cache._core.validate()


@pytest.mark.parametrize("prompt", ["", "  \n\t ", [{"role": "user", "content": " "}]])
def test_empty_prompts_are_refused(cache: Cache, prompt: object) -> None:
    with pytest.raises(nearhit.EmptyPromptError):
        cache.lookup(prompt)  # type: ignore[arg-type]
    with pytest.raises(nearhit.EmptyPromptError):
        cache.store(prompt, "x")  # type: ignore[arg-type]


@pytest.mark.parametrize("prompt", [None, 3, b"bytes", object(), "\ud83d alone", [{"role": "user", "content": 3}]])
def test_unreadable_prompts_are_refused(cache: Cache, prompt: object) -> None:
    with pytest.raises(nearhit.RequestError):
        cache.lookup(prompt)  # type: ignore[arg-type]


@pytest.mark.parametrize("prompt", ["a" * 100_000, "nul\0inside", "Как дела?", "😀" * 50, "e\u0301tude"])
def test_unusual_prompts_work(cache: Cache, prompt: str) -> None:
    cache.store(prompt, prompt)
    hit = cache.lookup(prompt)
    assert hit is not None
    assert hit.response == prompt


def test_explain_names_the_candidates_and_the_reason(cache: Cache) -> None:
    assert "nothing was stored" in cache.explain(PROMPT).reason
    cache.store(PROMPT, "Click.")
    cache.store("What is the weather like in Lisbon today?", "Sunny.")
    near = cache.explain(NEARLY)
    assert near.reason.startswith("near hit")
    assert near.hit is not None
    assert near.hit.response == "Click."
    assert [candidate.accepted for candidate in near.candidates] == [True, False]
    assert near.candidates[0].similarity > near.candidates[1].similarity
    far = cache.explain("Where can I buy a yellow submarine?")
    assert far.hit is None
    assert far.near_miss is None
    assert "below the threshold" in far.reason
    exact = cache.explain(PROMPT)
    assert exact.reason.startswith("exact hit")
    assert cache.stats().lookups == 0  # explaining is not looking up
    assert "no embedder" in Cache().explain("hi").reason


async def test_async_cache_does_the_same() -> None:
    cache = AsyncCache(HashingEmbedder(), threshold=0.85)
    entry_id = await cache.store(PROMPT, {"answer": ["Click."]}, scope="acme", tags=["help"])
    exact = await cache.lookup(PROMPT, scope="acme")
    near = await cache.lookup(NEARLY, scope="acme")
    assert exact is not None
    assert near is not None
    assert exact.entry_id == near.entry_id == entry_id
    assert near.response == {"answer": ["Click."]}
    lookup = await cache.lookup_traced("And what about Mondays?", scope="acme")
    assert lookup.hit is None
    assert lookup.vector is not None
    assert (await cache.explain(NEARLY, scope="acme")).hit is not None
    assert await cache.invalidate(tag="help") == 1
    await cache.clear()
    assert (await cache.stats()).entries == 0


async def test_async_face_of_a_cache_shares_its_entries(cache: Cache) -> None:
    cache.store(PROMPT, "Click.")
    hit = await AsyncCache.sharing(cache).lookup(NEARLY)
    assert hit is not None
    assert hit.response == "Click."


def test_failing_embedder_is_an_embedding_error() -> None:
    class Broken(HashingEmbedder):
        def encode(self, texts):
            raise RuntimeError("no more memory")

    class Wrong(HashingEmbedder):
        def encode(self, texts):
            return np.ones((len(texts), self.dim + 1), dtype=np.float32)

    for embedder in (Broken(), Wrong()):
        cache = Cache(embedder)
        with pytest.raises(nearhit.EmbeddingError, match="hashing"):
            cache.lookup(PROMPT)
        with pytest.raises(nearhit.EmbeddingError):
            cache.store(PROMPT, "x")
        assert len(cache) == 0


@pytest.mark.parametrize(
    "options",
    [
        {"embedder": object()},
        {"policy": "unknown"},
        {"max_entries": 0},
        {"max_entries": 1.5},
        {"max_entries": True},
        {"max_bytes": "a lot"},
        {"max_bytes": -1},
        {"max_bytes": "0"},
        {"scope_bytes": []},
        {"ttl": 0},
        {"ttl": float("nan")},
        {"ttl": "1h"},
        {"durability": "maybe"},
        {"backend": 7},
    ],
)
def test_bad_options_are_named(options: dict[str, object]) -> None:
    with pytest.raises(nearhit.OptionError, match=next(iter(options))):
        Cache(**options)  # type: ignore[arg-type]


def test_sizes_and_times_have_readable_forms() -> None:
    Cache(max_bytes="64 MiB", scope_bytes="1.5mb", ttl=timedelta(minutes=5))
    Cache(max_bytes=None)
