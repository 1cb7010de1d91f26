"""Whatever happens to the server: requests are answered, nothing wrong is served, memory is bounded, and it heals."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager

import pytest
from tests.support.redis_servers import RedisServer
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiting import until

from nearhit import BackendWarning, StorageError
from nearhit.backends._entry import FIELDS, decode

PROMPT = "How do I reset the password of my account?"
NEARLY = "How do I reset the password of my account"


@contextmanager
def traffic(cache):
    """Requests that go on in the background; every answer must be the prompt's own."""
    wrong, count, stop = [], [0], threading.Event()

    def work(number: int) -> None:
        while not stop.is_set():
            count[0] += 1
            prompt = f"{number} {count[0] % 300} bottles of beer on the wall"
            try:
                hit = cache.lookup(prompt, threshold=1.0)
                if hit is None:
                    cache.store(prompt, prompt)
                elif hit.response != prompt:
                    wrong.append((prompt, hit))
            except Exception as error:  # noqa: BLE001 - none may come
                wrong.append((prompt, error))
            time.sleep(0.001)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    try:
        yield count
        before = count[0]
        until(lambda: count[0] > before + 10)  # still being answered
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert wrong == []


def works(cache, replica, url: str) -> bool:
    """Whether what one stores another finds."""
    cache.store(PROMPT, "Click.")
    cache.flush()
    hit = replica(url).lookup(NEARLY)
    return hit is not None and hit.response == "Click."


def heals(cache, replica, url: str) -> None:
    until(lambda: cache._backend.stats().connected)
    assert works(cache, replica, url)
    stats = cache._backend.stats()
    assert stats.failure is None
    assert stats.waiting == 0


@pytest.mark.parametrize("keep_data", [True, False])
def test_kill_and_restart(own_server, replica, keep_data):
    cache = replica(own_server.url)
    with traffic(cache):
        time.sleep(0.2)
        own_server.kill()
        until(lambda: not cache._backend.stats().connected)
        time.sleep(0.3)
        if not keep_data:
            for file in own_server.folder.rglob("appendonly*"):
                if file.is_file():
                    file.unlink()
        own_server.start()
        until(lambda: cache._backend.stats().connected)
    cache.flush()
    assert cache._backend.stats().drops == (0 if keep_data else 1)
    heals(cache, replica, own_server.url)


def test_a_paused_server_opens_the_breaker(own_server, replica):
    cache = replica(own_server.url, deadline=0.05)
    with traffic(cache):
        own_server.pause()
        until(lambda: not cache._backend.stats().connected)
        late = cache._backend.stats().late
        started = time.monotonic()
        asked = 0
        while time.monotonic() - started < 0.5:
            assert cache.lookup(f"something new {asked}", threshold=1.0) is None
            asked += 1
        assert asked > 50  # they did not wait for their deadlines
        assert cache._backend.stats().late <= late + 20
        own_server.resume()
    heals(cache, replica, own_server.url)


def test_a_slow_network_costs_a_few_deadlines_then_nothing(own_server, replica):
    with TcpProxy(own_server.port) as proxy:
        cache = replica(f"redis://127.0.0.1:{proxy.port}", deadline=0.02)
        proxy.delay = 0.2
        with traffic(cache):
            until(lambda: not cache._backend.stats().connected)
        proxy.delay = 0.0
        heals(cache, replica, own_server.url)


@pytest.mark.parametrize("how", ["cut", "black hole"])
def test_a_cut_network(own_server, replica, how):
    with TcpProxy(own_server.port) as proxy:
        cache = replica(f"redis://127.0.0.1:{proxy.port}", deadline=0.1)
        with traffic(cache):
            if how == "cut":
                proxy.refusing = True
                proxy.cut()
            else:
                proxy.black_hole = True
            until(lambda: not cache._backend.stats().connected)
            time.sleep(0.3)
            proxy.refusing = proxy.black_hole = False
            if how == "black hole":
                proxy.cut()
        heals(cache, replica, own_server.url)


def test_the_queue_is_bounded_while_nobody_takes_it(own_server, replica):
    cache = replica(own_server.url, queue_entries=100, queue_bytes="1MiB")
    own_server.kill()
    until(lambda: not cache._backend.stats().connected)
    for number in range(300):
        cache.store(f"question {number}", "x")
    for number in range(300):
        cache.store(f"large question {number}", "x" * 100_000)
    stats = cache._backend.stats()
    assert stats.waiting <= 100
    assert stats.waiting_bytes <= 2**20
    assert stats.dropped >= 400
    assert cache.lookup("large question 299").response == "x" * 100_000
    with pytest.raises(StorageError, match="are not written"):
        cache._backend.flush(0.1)


def test_a_server_that_was_never_there(replica):
    with RedisServer() as server:
        server.kill()
        with pytest.warns(BackendWarning, match="cannot be reached"):
            cache = replica(server.url)
        cache.store(PROMPT, "Click.")
        assert cache.lookup(NEARLY).response == "Click."
        server.start()
        until(lambda: cache._backend.stats().connected)
        cache.flush()
        assert replica(server.url).lookup(NEARLY).response == "Click."  # what was stored before the first contact


@pytest.mark.parametrize("policy", ["noeviction", "allkeys-lru", "allkeys-random", "volatile-lru"])
def test_a_full_server(replica, policy):
    with RedisServer("vectorset", "--maxmemory", "8mb", "--maxmemory-policy", policy) as server:
        cache = replica(server.url, cache={"ttl": 3600})
        with traffic(cache):
            for number in range(400):
                cache.store(f"question {number} of very many", "x" * 40_000)
                assert cache.lookup(f"question {number} of very many").response == "x" * 40_000
            until(lambda: cache._backend.stats().waiting == 0 or cache._backend.stats().failure, 30)
        stats = cache._backend.stats()
        with server.client() as client:
            # A batch that is refused has been read first, into buffers that count.
            until(lambda: client.info("memory")["used_memory"] < 16 * 2**20)
            assert client.info("stats")["evicted_keys"] if policy != "noeviction" else "OOM" in stats.failure
        reader = replica(server.url)
        for number in range(400):
            hit = reader.lookup(f"question {number} of very many", threshold=1.0)
            assert hit is None or hit.response == "x" * 40_000
        with server.client() as client:
            client.config_set("maxmemory", "200mb")
        until(lambda: cache._backend.stats().connected)
        cache.flush()
        # The log may have been evicted: the new one is found within a second.
        until(lambda: works(cache, replica, server.url))


def test_evicted_books_do_not_let_stale_entries_through(replica):
    """The server throws away what finds entries by their tag, and then the tag is invalidated."""
    with RedisServer("vectorset", "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru") as server:
        cache = replica(server.url)
        cache.store(PROMPT, "stale", tags=["t"])
        cache.flush()
        with server.client() as client:
            client.delete(*client.keys("nearhit:3:t:*"))
        cache.invalidate(tag="t")
        with server.client() as client:
            assert client.keys("nearhit:3:*:e:*")  # it could not be found
            assert replica(server.url).lookup(PROMPT) is None
            client.xtrim("nearhit:1:{log}:stream", maxlen=0, approximate=False)
            client.delete("nearhit:1:{log}:stream")  # evicted as well
        assert replica(server.url).lookup(PROMPT) is None


def test_keys_of_the_wrong_type_and_foreign_keys(server, replica):
    cache = replica(server.url)
    cache.store(PROMPT, "Click.")
    cache.store("something else", "other")
    cache.flush()
    with server.client() as client:
        by_prompt = {decode(client.hmget(key, *FIELDS), 64).prompt: key for key in client.keys("nearhit:3:*:e:*")}
        key, other = by_prompt[PROMPT], by_prompt["something else"]
        fields = client.hgetall(other)
        prefix = key.rpartition(b":")[0] + b":"
        client.delete(key)
        client.set(key, "not a hash")  # the wrong type where an entry was
        client.hset(prefix + b"f" * 32, mapping=fields)  # another entry's content under a foreign name
        client.hset(prefix + b"0" * 32, mapping={"s": fields[b"s"], "hello": "world"})  # no entry at all
        damaged = fields[b"e"][:-1] + bytes([fields[b"e"][-1] ^ 1])
        for number, name in enumerate((b"e", b"n")):
            for kind, value in enumerate((b"", b"short", fields[name][:-1], damaged, fields[b"e"] + b"x")):
                where = prefix + f"{number}{kind}".encode() + b"1" * 30
                client.hset(where, mapping={**fields, name: value})
        client.set("nearhit:3:scopes:mine", "x")
    reader = replica(server.url)
    assert reader.lookup(PROMPT) is None
    assert reader.lookup(NEARLY) is None
    assert reader.lookup("something else").response == "other"
    cache.store(PROMPT, "again")
    cache.flush()
    assert cache._backend.stats().refused == 1
    assert "WRONGTYPE" in cache._backend.stats().failure
    with server.client() as client:
        assert client.get(key) == b"not a hash"  # other people's data is left alone
    assert cache.lookup(NEARLY).response == "again"
    with server.client() as client:
        for books in client.keys("nearhit:3:*:l:*"):
            client.delete(books)
            client.set(books, "x")
    for number in range(3):
        cache.store(f"a question with a broken ledger {number}", "x")
    cache.flush()
    assert replica(server.url).lookup("a question with a broken ledger 1") is None
    assert reader.lookup("something else").response == "other"


def test_what_cannot_be_noted_is_not_left_there(server, replica):
    """Without its place in the books an entry could not be invalidated."""
    cache = replica(server.url)
    with server.client() as client:
        client.set("nearhit:3:scopes", "not a set")
        for number in range(300):
            cache.store(f"{number} bottles of beer on the wall", str(number))
        until(lambda: "noting" in (cache._backend.stats().failure or ""))
        until(lambda: not client.keys("nearhit:3:*:e:*"))
        assert cache._backend.stats().written == 0
        client.delete("nearhit:3:scopes")
        cache.flush()
        assert len(client.keys("nearhit:3:*:e:*")) == 300
    stats = cache._backend.stats()
    assert (stats.written, stats.waiting, stats.waiting_bytes, stats.failure) == (300, 0, 0, None)


def test_a_vector_set_of_the_wrong_type_leaves_exact_answers(replica, own_server):
    cache = replica(own_server.url)
    cache.store(PROMPT, "Click.")
    cache.flush()
    with own_server.client() as client:
        (key,) = client.keys("nearhit:3:*:v64:*")
        client.delete(key)
        client.set(key, "x")
    reader = replica(own_server.url)
    assert reader.lookup(NEARLY) is None
    assert reader.lookup(PROMPT).response == "Click."


def test_a_lost_search_index_is_made_again(servers, replica):
    with RedisServer("search") as server:
        cache = replica(server.url)
        cache.store(PROMPT, "Click.")
        cache.flush()
        with server.client() as client:
            (index,) = client.execute_command("FT._LIST")
            client.execute_command("FT.DROPINDEX", index)
        assert replica(server.url).lookup(PROMPT) is not None
        fresh = replica(server.url)
        until(lambda: fresh.lookup(NEARLY) is not None)


def test_lost_scripts_are_loaded_again(server, replica):
    cache = replica(server.url)
    with server.client() as client:
        client.script_flush()
    cache.store(PROMPT, "Click.")
    cache.flush()
    reader = replica(server.url)
    with server.client() as client:
        client.script_flush()
    until(lambda: reader.lookup(NEARLY) is not None)


def test_a_wrong_password_and_users_with_few_rights(replica):
    with RedisServer("vectorset") as server:
        with server.client() as client:
            client.execute_command("ACL", "SETUSER", "app", "on", ">secret", "~nearhit:*", "&nearhit:*", "+@all")
            rights = ("~nearhit:*", "&*", "+@all", "-hset", "-del")
            client.execute_command("ACL", "SETUSER", "reader", "on", ">secret", *rights)
        app = server.url.replace("://", "://app:secret@")
        cache = replica(app)
        assert works(cache, replica, app)
        assert "secret" not in repr(cache._backend)
        with pytest.warns(BackendWarning, match="WRONGPASS") as caught:
            wrong = replica(server.url.replace("://", "://app:guess@"))
        assert "guess" not in str(caught[0].message)
        wrong.store(PROMPT, "mine")
        assert wrong.lookup(PROMPT).response == "mine"
        with server.client() as client:  # the password is put right: it heals by itself
            client.execute_command("ACL", "SETUSER", "app", ">guess")
        until(lambda: wrong._backend.stats().connected)
        reader = replica(server.url.replace("://", "://reader:secret@"))
        assert reader.lookup(NEARLY).response in ("Click.", "mine")
        reader.store("what the server refuses", "is still answered")
        reader.flush()
        assert reader._backend.stats().refused == 1
        assert reader.lookup("what the server refuses") is not None


def test_a_user_who_may_not_aggregate_finds_by_the_other_command(replica):
    with RedisServer("search") as server:
        with server.client() as client:
            rights = ("~*", "&*", "+@all", "-ft.aggregate")
            client.execute_command("ACL", "SETUSER", "app", "on", ">secret", *rights)
        writer = replica(server.url)
        writer.store(PROMPT, "Click.")
        writer.flush()
        reader = replica(server.url.replace("://", "://app:secret@"))
        until(lambda: reader.lookup(NEARLY) is not None)
        assert reader._backend.stats().near_hits == 1
        assert not reader._backend._session.engine.narrow
        assert writer._backend._session.engine.narrow
