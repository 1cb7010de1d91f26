"""What one replica has learned the others know: exact and near, judged alike, and never across a boundary."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time

import pytest
from tests.support.hashing_embedder import HashingEmbedder
from tests.support.waiting import until

import nearhit
from nearhit import AsyncCache, BackendWarning, Cache, OptionError
from nearhit._core import Request
from nearhit.backends import RedisBackend, _scripts

PROMPT = "How do I reset the password of my account?"
NEARLY = "How do I reset the password of my account"
WORDS = ("alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel", "india", "juliett", "kilo", "lima")
OPPOSITE = "How do I not reset the password of my account?"


@pytest.mark.parametrize("protocol", [2, 3])
def test_exact_and_near_hits_come_from_another_replica(server, replica, protocol):
    writer = replica(server.url, protocol=protocol)
    writer.store(PROMPT, "Click.", scope={"tenant": "acme"}, tags=["a"], cost=2.5, model="m", tokens=(9, 2), ttl=100)
    writer.store("json", {"a": [1, None, "é"]})
    writer.store("bytes", b"\x00\xff")
    writer.flush()
    reader = replica(server.url, protocol=protocol)
    found = reader.lookup_traced(NEARLY, scope={"tenant": "acme"})
    near = found.hit
    assert near is not None
    assert (near.kind, near.response, near.model, near.tokens, near.scope) == (
        *("near", "Click.", "m", (9, 2)),
        {"tenant": "acme"},
    )
    expected = writer.lookup(NEARLY, scope={"tenant": "acme"})
    assert expected is not None
    assert near.similarity == pytest.approx(expected.similarity, abs=1e-6)
    assert near.confidence == pytest.approx(expected.confidence, abs=1e-6)
    assert "remote" in found.seconds
    asked = reader._backend.stats()
    assert reader.lookup(PROMPT, scope={"tenant": "acme"}).kind == "exact"  # it is held locally now
    assert reader._backend.stats() == asked
    assert reader.lookup("json").response == {"a": [1, None, "é"]}
    assert reader.lookup("bytes").response == b"\x00\xff"
    stats = reader.stats()
    assert (stats.near_hits, stats.exact_hits) == (1, 3)
    assert reader._backend.stats().exact_hits == 2


@pytest.mark.parametrize("quantisation", ["f32", "q8", "bin"])
def test_quantised_vectors_lose_no_near_hit(server, replica, quantisation):
    writer = replica(server.url, quantisation=quantisation, cache={"policy": "static"})
    prompts = [f"{word} {word} is the word that everybody looks for" for word in WORDS]
    for prompt in prompts:
        writer.store(prompt, prompt)
    writer.flush()
    reader = replica(server.url, quantisation=quantisation, cache={"policy": "static"})
    for prompt in prompts:
        asked = prompt.replace("everybody", "anybody")
        expected, found = writer.lookup(asked), reader.lookup(asked)
        assert (found and found.response) == (expected and expected.response)
    assert reader._backend.stats().near_hits == len(WORDS)


def test_a_remote_candidate_is_judged_like_a_local_one(server, replica):
    writer = replica(server.url)
    writer.store(PROMPT, "Click.")
    writer.flush()
    reader = replica(server.url)
    found = reader.lookup_traced(OPPOSITE)
    assert found.hit is None
    assert found.near_miss is not None
    own = writer.lookup_traced(OPPOSITE).near_miss
    assert (found.near_miss.reasons, found.near_miss.entry_id) == (own.reasons, own.entry_id)
    assert reader.lookup(NEARLY, threshold=0.999) is None


def test_explain_tells_of_what_the_servers_hold(server, replica):
    writer = replica(server.url)
    writer.store(PROMPT, "Click.")
    writer.store("What does the premium plan cost per month?", "5")
    writer.flush()
    reader = replica(server.url)
    refused = reader.explain(OPPOSITE)
    assert refused.hit is None
    (near, *_) = refused.candidates
    assert (near.source, near.prompt, near.response) == ("remote", PROMPT, "Click.")
    assert near.reasons == writer.explain(OPPOSITE).candidates[0].reasons
    assert "was refused" in refused.reason
    stats = reader.stats()
    assert (stats.hits, stats.misses, stats.backend.misses) == (0, 0, 0)  # nothing was looked up
    assert len(reader) == 0
    accepted = reader.explain(NEARLY)
    assert (accepted.hit.kind, accepted.hit.response) == ("near", "Click.")
    assert accepted.candidates[0].source == "remote"
    assert "held by the server" in accepted.reason
    again = reader.explain(NEARLY)
    assert [one.source for one in again.candidates if one.entry_id == near.entry_id] == ["local"]
    exact = replica(server.url).explain(PROMPT)
    assert (exact.hit.kind, exact.hit.response) == ("exact", "Click.")


def test_stats_tell_of_the_servers(own_server, replica):
    cache = replica(own_server.url, deadline=0.1)
    assert cache.stats().backend.latency_p50 is None
    cache.store(PROMPT, "Click.")
    cache.flush()
    for number in range(10):
        cache.lookup(f"{number} bottles of beer on the wall")
    told = cache.stats().backend
    assert told == cache._backend.stats()
    assert 0 < told.latency_p50 <= told.latency_p95 <= told.latency_p99 < 0.5
    assert (told.breaker, told.lag, told.misses) == ("closed", 0.0, 10)
    own_server.pause()
    for number in range(10):
        cache.lookup(f"{number} bottles of wine on the wall")
    until(lambda: cache.stats().backend.breaker == "open")
    own_server.resume()
    own_server.kill()
    until(lambda: not cache.stats().backend.connected)
    cache.store("a question that waits", "x")
    time.sleep(0.05)
    told = cache.stats().backend
    assert told.waiting == 1
    assert 0.05 <= told.lag < 10
    own_server.start()
    until(lambda: cache.stats().backend.lag == 0)
    assert Cache().stats().backend is None


def test_no_boundary_is_crossed(server, replica):
    """Two tenants, two embedders, two namespaces, and another version of the format."""
    writer = replica(server.url)
    writer.store(PROMPT, "Click.", scope="acme")
    writer.flush()
    for other in (replica(server.url, HashingEmbedder(128)), replica(server.url, namespace="elsewhere")):
        assert other.lookup(PROMPT, scope="acme") is None
        assert other.lookup(NEARLY, scope="acme") is None
    same = replica(server.url)
    for scope in ("other", None, {"tenant": "acme"}):
        assert same.lookup(PROMPT, scope=scope) is None
        assert same.lookup(NEARLY, scope=scope) is None
    with server.client() as client:  # an entry of a version to come
        (key,) = client.keys("nearhit:3:*:e:*")
        fields = client.hgetall(key)
        client.hset(key.replace(b"nearhit:3:", b"nearhit:3:"), mapping=fields)
        client.delete(key)
    assert same.lookup(PROMPT, scope="acme") is None


def test_replicas_of_two_formats_share_invalidations_and_nothing_else(server, replica):
    """A rolling upgrade: an older replica keeps its entries under its own number, and tells of what it invalidates."""
    new = replica(server.url)
    new.store(PROMPT, "Click.", tags=["t"])
    new.flush()
    with server.client() as client:
        (key,) = client.keys("nearhit:3:*:e:*")
        old = key.replace(b"nearhit:3:", b"nearhit:1:")
        written = {"i": "0" * 32, "s": "0" * 32, "c": "1", "r": "an older replica's"}
        client.hset(old, mapping=written)
        told = ["nearhit:1:{log}:stream", "nearhit:1:{log}:state", "older:log", "tag", "t", "older", "10000"]
        client.eval(_scripts.TELL.body, 2, *told)
        until(lambda: new.lookup(PROMPT) is None)  # and neither here nor there is it served any more
        assert replica(server.url).lookup(PROMPT) is None
        new.store("something else", "stored")
        new.flush()
        assert replica(server.url).lookup("something else").response == "stored"
        new.clear()
        assert client.hgetall(old) == {name.encode(): value.encode() for name, value in written.items()}


def test_two_versions_of_an_embedder_live_side_by_side(server, replica):
    old, new = HashingEmbedder(64), HashingEmbedder(96)
    for embedder, answer in ((old, "old"), (new, "new")):
        cache = replica(server.url, embedder)
        cache.store(PROMPT, answer)
        cache.flush()
    for embedder, answer in ((old, "old"), (new, "new")):
        fresh = replica(server.url, embedder)
        assert fresh.lookup(NEARLY).response == answer
        assert fresh.lookup(PROMPT).response == answer


def test_a_server_without_vectors_shares_exact_answers_and_says_so(plain_server, replica):
    with pytest.warns(BackendWarning, match="no vector search"):
        writer = replica(plain_server.url)
    writer.store(PROMPT, "Click.")
    writer.flush()
    reader = replica(plain_server.url, engine="exact")  # meant so: no warning
    assert reader.lookup(NEARLY) is None
    assert reader.lookup(PROMPT).response == "Click."
    assert reader.lookup(NEARLY).kind == "near"  # its vector came along, so near hits are local from now on
    assert reader._backend.stats().engine == "exact"


def test_vectors_of_the_caller_need_no_embedder(server):
    backends = [RedisBackend(server.url, deadline=2.0) for _ in range(2)]
    writer, reader = (Cache(backend=backend, threshold=0.8) for backend in backends)
    vector = HashingEmbedder().embed([PROMPT])[0]
    writer.store(PROMPT, "Click.", vector=3 * vector)
    writer.flush()
    assert reader.lookup(NEARLY, vector=HashingEmbedder().embed([NEARLY])[0]).kind == "near"
    reader.close()
    writer.close()


def test_writing_again_changes_nothing_and_a_later_answer_wins(server, replica):
    one, two = replica(server.url), replica(server.url)
    one.store(PROMPT, "first")
    one.flush()
    time.sleep(0.002)
    two.store(PROMPT, "second")
    two.flush()
    one._backend.put(*_late(one), {"created": time.time() - 60, "expires": None}, moment=one._backend.moment())
    one.flush()
    assert replica(server.url).lookup(PROMPT).response == "second"


def _late(cache: Cache):
    request = nearhit.cache.Request(PROMPT)
    return request, "too late", cache.embedder.embed([PROMPT])[0]


def test_an_answer_ends_on_the_server_too_and_leaves_nothing_behind(server, replica):
    writer, reader = replica(server.url), replica(server.url)
    writer.store(PROMPT, "Click.", ttl=0.3)
    writer.store("another question entirely", "kept")
    writer.flush()
    assert reader.lookup(NEARLY) is not None
    with server.client() as client:
        until(lambda: len(client.keys("nearhit:3:*:e:*")) == 1)
        assert reader.lookup(NEARLY) is None
        assert reader.lookup(PROMPT) is None
        writer._backend.sweep()
        assert [client.zcard(key) for key in client.keys("nearhit:3:*:l:*")] == [1]
        for key in client.keys("nearhit:3:*:v64:*"):
            assert client.execute_command("VCARD", key) == 1


def test_the_number_of_entries_is_bounded_without_orphans(server, replica):
    writer = replica(server.url, max_scope_entries=20)
    for number in range(100):
        writer.store(f"question number {number} of many", str(number))
    writer.flush()
    with server.client() as client:
        assert len(client.keys("nearhit:3:*:e:*")) == 20
        for key in client.keys("nearhit:3:*:v64:*"):
            assert client.execute_command("VCARD", key) == 20
    assert replica(server.url).lookup("question number 99 of many").response == "99"


def test_shards_of_a_scope_are_searched_together(server, replica):
    writer = replica(server.url, shards=4)
    prompts = [
        f"{word} is a word that stands alone" for word in ("alpha", "bravo", "charlie", "delta", "echo", "foxtrot")
    ]
    for prompt in prompts:
        writer.store(prompt, prompt)
    writer.flush()
    reader = replica(server.url, shards=4)
    for prompt in prompts:
        assert reader.lookup(f"{prompt}.").response == prompt


async def test_the_asynchronous_face_does_the_same(server):
    def cache():
        return AsyncCache(HashingEmbedder(), threshold=0.8, backend=RedisBackend(server.url, deadline=2.0))

    async with cache() as writer, cache() as reader:
        for number in range(50):
            await writer.store(f"{number} bottles of beer on the wall", str(number), tags=["song"])
        await writer.flush()
        hits = await asyncio.gather(*(reader.lookup(f"{number} bottles of beer on the wall") for number in range(50)))
        assert [hit.response for hit in hits] == [str(number) for number in range(50)]
        assert await reader.invalidate(tag="song") == 50
        assert await reader.lookup("7 bottles of beer on the wall") is None


def test_concurrent_lookups_share_one_connection(server, replica):
    writer = replica(server.url)
    for number in range(40):
        writer.store(f"{number} bottles of beer on the wall", str(number))
    writer.flush()
    reader = replica(server.url)
    with server.client() as client:
        before = client.info("stats")["total_connections_received"]
        answers: dict[int, str] = {}

        def look(number: int) -> None:
            answers[number] = reader.lookup(f"{number} bottles of beer on the wall").response

        threads = [threading.Thread(target=look, args=(number,)) for number in range(40)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert client.info("stats")["total_connections_received"] == before
    assert answers == {number: str(number) for number in range(40)}


def test_followers_hold_new_entries_before_they_are_asked(server, replica):
    follower = replica(server.url, follow=["acme"])
    writer = replica(server.url)
    with server.client() as client:
        until(lambda: client.execute_command("PUBSUB", "CHANNELS", "nearhit:3:*"))
    writer.store(PROMPT, "Click.", scope="acme")
    writer.store(PROMPT, "not followed", scope="other")
    writer.flush()
    until(lambda: len(follower) == 1)
    assert follower.lookup(NEARLY, scope="acme").response == "Click."
    assert follower._backend.stats().exact_hits + follower._backend.stats().near_hits == 0


def test_one_call_among_all_replicas(server, replica):
    calls = []

    def memoized(cache: Cache):
        @cache.memoize
        def answer(prompt: str) -> str:
            calls.append(prompt)
            time.sleep(0.2)
            return prompt.upper()

        return answer

    functions = [memoized(replica(server.url, single_flight=True)) for _ in range(3)]
    results: list[str] = []
    threads = [threading.Thread(target=lambda f=f: results.append(f("the same question"))) for f in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == ["THE SAME QUESTION"] * 3
    assert len(calls) == 1


def test_who_gets_the_right_when_the_answer_has_come_since_gives_it_back(server, replica):
    writer, other = (replica(server.url, single_flight=True) for _ in range(2))
    writer.store("asked by two", "answered by one")
    writer.flush()
    request = Request("asked by two")
    token, _ = other._backend.claim(request, 1.0).wait()
    with server.client() as client:
        assert (token, client.keys("*:k:*")) == (0, [])
    fresh = Request("asked by one")
    token, holder = other._backend.claim(fresh, 1.0).wait()
    with server.client() as client:
        assert token > 0
        assert len(client.keys("*:k:*")) == 1
    other._backend.release(fresh, holder)


def test_others_go_on_when_the_leader_fails_or_its_lock_ends(server, replica):
    caches = [replica(server.url, single_flight=True, flight_seconds=0.3) for _ in range(2)]
    attempts = []

    def memoized(cache: Cache):
        @cache.memoize
        def answer(prompt: str) -> str:
            attempts.append(prompt)
            if len(attempts) == 1:
                raise ValueError("no answer")
            return "fine"

        return answer

    first, second = (memoized(cache) for cache in caches)
    with pytest.raises(ValueError, match="no answer"):
        first("a question")
    assert second("a question") == "fine"


def test_an_answer_made_under_a_lost_lock_does_not_replace_its_successor(server, replica):
    cache = replica(server.url)
    request, vector = nearhit.cache.Request(PROMPT), cache.embedder.embed([PROMPT])[0]
    moment = cache._backend.moment()
    cache._backend.put(request, "by the second holder", vector, {}, moment=moment, token=2)
    cache.flush()
    cache._backend.put(request, "by the first holder", vector, {}, moment=moment, token=1)
    cache.flush()
    assert replica(server.url).lookup(PROMPT).response == "by the second holder"


def test_one_backend_serves_one_cache(server):
    backend = RedisBackend(server.url)
    with Cache(backend=backend), pytest.raises(OptionError, match="another cache"):
        Cache(backend=backend)
    with pytest.raises(OptionError, match="exclude"):
        Cache(path="x.db", backend=server.url)
    with pytest.raises(OptionError, match="backend=7"):
        Cache(backend=7)


def test_exit_without_close_writes_what_is_left(server, replica):
    code = f"""
from nearhit import Cache
from nearhit._core import Request
from nearhit.backends import RedisBackend, _scripts
cache = Cache(backend=RedisBackend({server.url!r}))
for number in range(500):
    cache.store(f"prompt {{number}}", "answer")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    with server.client() as client:
        assert len(client.keys("nearhit:3:none:e:*")) == 500


def test_a_forked_child_has_connections_of_its_own(server):
    code = f"""
import os
from nearhit import Cache
from nearhit._core import Request
from nearhit.backends import RedisBackend, _scripts
cache = Cache(backend=RedisBackend({server.url!r}, deadline=5.0))
cache.store("parent", "1")
cache.flush()
child = os.fork()
if child == 0:
    cache.store("child", "2")
    cache.flush()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert cache.lookup("child").response == "2"
cache.store("parent again", "3")
cache.flush()
"""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    with server.client() as client:
        assert len(client.keys("nearhit:3:none:e:*")) == 3
