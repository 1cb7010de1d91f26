"""Stores, bounds, expiry, invalidation, figures."""

from __future__ import annotations

import os
import time

import pytest
from tests.support.hashing_embedder import HashingEmbedder

import nearhit
from nearhit import Cache

VALUES = [
    "text",
    "",
    b"bytes\x00\xff",
    b"",
    None,
    True,
    0,
    -(2**70),
    1.5,
    1e300,
    [],
    {},
    [1, "two", None, [3.0, {"four": False}]],
    {"a": {"b": ["é", "😀", "\0", '"\\\n']}},
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_values_come_back_as_they_were(value: object) -> None:
    cache = Cache()
    cache.store("prompt", value)
    hit = cache.lookup("prompt")
    assert hit is not None
    assert hit.response == value
    assert type(hit.response) is type(value)


@pytest.mark.parametrize(
    "value", [{1, 2}, object(), float("nan"), [float("inf")], {1: "a"}, "\ud83d", ["\ud83d"], bytearray(b"x")], ids=repr
)
def test_other_values_are_refused(value: object) -> None:
    cache = Cache()
    with pytest.raises(nearhit.RequestError):
        cache.store("prompt", value)
    assert len(cache) == 0


def test_a_store_replaces_the_answer_to_the_same_request() -> None:
    cache = Cache(HashingEmbedder())
    first = cache.store("prompt", "old")
    assert cache.store("prompt", "new") == first
    hit = cache.lookup("prompt")
    assert hit is not None
    assert hit.response == "new"
    assert len(cache) == 1
    assert cache.stats().replaced == 1
    cache._core.validate()


def test_expiry_is_absolute() -> None:
    cache = Cache(HashingEmbedder(), ttl=0.05)
    cache.store("short", "1")
    cache.store("long", "2", ttl=60)
    deadline = time.monotonic() + 5
    while cache.lookup("short") is not None:
        assert time.monotonic() < deadline, "hits must not extend an entry's life"
        time.sleep(0.01)
    assert cache.lookup("long") is not None
    stats = cache.stats()
    assert (stats.entries, stats.expired) == (1, 1)
    cache._core.validate()


def test_max_entries_holds() -> None:
    cache = Cache(max_entries=10)
    for number in range(100):
        cache.store(f"prompt {number}", "x")
        assert len(cache) <= 10
    assert cache.stats().evicted_entries == 90
    cache._core.validate()


def test_max_bytes_holds() -> None:
    bound = 200_000
    cache = Cache(HashingEmbedder(), max_bytes=bound)
    for number in range(500):
        cache.store(f"prompt {number}", "x" * (number % 7) * 500)
        assert cache.stats().bytes <= bound
    assert cache.stats().evicted_bytes > 0
    assert len(cache) > 10
    cache._core.validate()


def test_an_answer_larger_than_the_cache_is_refused() -> None:
    cache = Cache(max_bytes="64KiB")
    cache.store("prompt", "small")
    with pytest.raises(nearhit.TooLargeError, match="65536"):
        cache.store("prompt", os.urandom(70_000))
    hit = cache.lookup("prompt")
    assert hit is not None
    assert hit.response == "small"
    cache._core.validate()


def test_hit_entries_outlive_others() -> None:
    cache = Cache(max_entries=50)
    for number in range(10):
        cache.store(f"hot {number}", "x")
    for number in range(1000):
        cache.store(f"cold {number}", "x")
        for hot in range(10):
            cache.lookup(f"hot {hot}")
    assert all(cache.lookup(f"hot {number}") for number in range(10))


def test_dear_entries_outlive_cheap_ones() -> None:
    cache = Cache(max_entries=100)
    for number in range(40):
        cache.store(f"dear {number}", "x", cost=50.0)
        cache.store(f"cheap {number}", "x", cost=0.1)
    for number in range(80):
        cache.store(f"new {number}", "x", cost=0.1)
    dear = sum(cache.lookup(f"dear {number}") is not None for number in range(40))
    cheap = sum(cache.lookup(f"cheap {number}") is not None for number in range(40))
    assert dear > cheap


def test_a_scope_cannot_flush_the_others() -> None:
    cache = Cache(max_bytes="1MiB", scope_bytes="100KiB")
    for number in range(20):
        cache.store(f"prompt {number}", "x", scope="quiet")
    for number in range(5000):
        cache.store(f"prompt {number}", "x" * 100, scope="loud")
    assert all(cache.lookup(f"prompt {number}", scope="quiet") for number in range(20))
    stats = cache.stats()
    assert stats.evicted_quota > 0
    loud = next(scope for scope in stats.scopes if scope.scope == "loud")
    assert loud.bytes <= 102_400


def test_invalidation_removes_what_it_names() -> None:
    cache = Cache(HashingEmbedder())
    first = cache.store("one", "1", tags=["odd"], scope="a")
    cache.store("two", "2", tags=["even"], scope="a")
    cache.store("three", "3", tags=["odd", "prime"], scope={"tenant": "b"})
    cache.store([{"role": "system", "content": "s"}, {"role": "user", "content": "four"}], "4", scope="a")
    assert cache.invalidate(id=first) == 1
    assert cache.invalidate(id=first) == 0
    assert cache.invalidate(tag="odd") == 1
    assert cache.invalidate(tag="odd") == 0
    assert cache.invalidate(prompt="two", scope="other") == 0
    assert cache.invalidate(prompt="two", scope="a") == 1
    assert cache.invalidate(scope="a") == 1
    assert len(cache) == 0
    cache._core.validate()


def test_invalidation_by_age() -> None:
    cache = Cache()
    cache.store("old", "1")
    time.sleep(0.03)
    cache.store("new", "2")
    assert cache.invalidate(older_than=0.015) == 1
    assert cache.lookup("old") is None
    assert cache.lookup("new") is not None


@pytest.mark.parametrize("options", [{}, {"id": "0" * 32, "tag": "x"}, {"id": "short"}, {"older_than": -1.0}])
def test_invalidate_wants_exactly_one_valid_choice(options: dict[str, object]) -> None:
    with pytest.raises(nearhit.OptionError):
        Cache().invalidate(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options", [{"tags": "single"}, {"ttl": -1}, {"cost": float("nan")}, {"cost": -1.0}, {"ttl": 1e-9}]
)
def test_bad_store_options_are_named(options: dict[str, object]) -> None:
    with pytest.raises(nearhit.OptionError, match=next(iter(options))):
        Cache().store("prompt", "x", **options)  # type: ignore[arg-type]


def test_clear_empties_everything() -> None:
    cache = Cache(HashingEmbedder())
    for number in range(50):
        cache.store(f"prompt {number}", "x", tags=["t"], scope=str(number % 3))
    cache.clear()
    assert len(cache) == 0
    assert cache.lookup("prompt 1", scope="1") is None
    assert cache.invalidate(tag="t") == 0
    cache.store("prompt 1", "y", scope="1")
    assert cache.lookup("prompt 1", scope="1") is not None
    cache._core.validate()


def test_feedback_demotes_a_near_hit_and_removes_an_exact_one() -> None:
    cache = Cache(HashingEmbedder(), threshold=0.8)
    prompt, nearly = "How do I reset the password of my account?", "How do I reset the password of my account"
    cache.store(prompt, "Click.", tags=["kept"])
    near = cache.lookup(nearly)
    assert near is not None
    assert near.kind == "near"
    cache.feedback(near, correct=True)
    assert cache.lookup(nearly) is not None
    cache.feedback(near, correct=False)
    assert cache.lookup(nearly) is None
    exact = cache.lookup(prompt)
    assert exact is not None
    cache.feedback(exact, correct=False)
    assert cache.lookup(prompt) is None
    cache.store(prompt, "Better.")
    cache.feedback(exact, correct=False)  # the answer it judged is gone already
    assert cache.lookup(prompt) is not None
    stats = cache.stats()
    assert (stats.judged_correct, stats.judged_wrong) == (1, 3)
    cache._core.validate()


def test_figures_add_up() -> None:
    cache = Cache(HashingEmbedder(), threshold=0.8)
    cache.store("How do I reset the password of my account?", "Click.", scope="acme")
    cache.lookup("How do I reset the password of my account?", scope="acme")
    cache.lookup("How do I reset the password of my account", scope="acme")
    cache.lookup("Something else entirely", scope="acme")
    cache.lookup("Something else entirely", vector=None, scope="nobody")
    stats = cache.stats()
    assert (stats.exact_hits, stats.near_hits, stats.misses, stats.stores) == (1, 1, 2, 1)
    assert (stats.hits, stats.lookups, stats.hit_rate) == (2, 4, 0.5)
    assert stats.bytes == stats.bytes_entries + stats.bytes_vectors + stats.bytes_bookkeeping
    (scope,) = stats.scopes
    assert (scope.scope, scope.entries, scope.exact_hits, scope.near_hits) == ("acme", 1, 1, 1)
