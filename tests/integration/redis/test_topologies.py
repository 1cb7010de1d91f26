"""Clusters, sentinels, TLS and socket files."""

from __future__ import annotations

import subprocess
import threading
import time
import warnings

import pytest
from tests.support.redis_servers import RedisCluster, RedisServer, free_port, new_server
from tests.support.waiting import until

from nearhit import BackendWarning, Cache, OptionError
from nearhit.backends import RedisBackend
from nearhit.backends._address import parse_address
from nearhit.backends._fleet import slot_of

PROMPT = "How do I reset the password of my account?"
NEARLY = "How do I reset the password of my account"


@pytest.fixture
def empty_cluster(cluster):
    for node in cluster.nodes:
        with node.client() as client:
            client.flushall()
    return cluster


def test_a_cluster_is_recognised_from_any_node(empty_cluster, replica):
    caches = [replica(node.url) for node in empty_cluster.nodes]
    names = ",".join(f"127.0.0.1:{node.port}" for node in empty_cluster.nodes)
    caches.append(replica(f"redis+cluster://{names}"))
    for number, cache in enumerate(caches):
        for scope in range(12):
            where = {"scope": f"tenant {scope}", "tags": [f"tag {scope}"]}
            cache.store(f"{PROMPT} number {number}", f"{number} {scope}", **where)
    for cache in caches:
        cache.flush()
    held = []
    for node in empty_cluster.nodes:
        with node.client() as client:
            held.append(len(client.keys("nearhit:3:*:e:*")))
    assert sum(held) == 48
    assert all(held)
    for scope in range(12):
        for number, cache in enumerate(caches):
            other = (number + 1) % len(caches)
            hit = cache.lookup(f"{PROMPT} number {other}", scope=f"tenant {scope}")
            assert hit.response == f"{other} {scope}"
    assert caches[0].invalidate(tag="tag 3") == 4
    until(lambda: all(len(cache) == 11 * 2 for cache in caches))
    assert replica(empty_cluster.nodes[1].url).lookup(f"{PROMPT} number 0", scope="tenant 3") is None


def test_shards_spread_one_scope_over_the_nodes(empty_cluster, replica):
    cache = replica(empty_cluster.nodes[0].url, shards=16)
    words = ("alpha", "bravo", "charlie", "delta", "echo", "hotel")
    prompts = [f"{word} is a word that stands alone" for word in words]
    for prompt in prompts:
        cache.store(prompt, prompt)
    cache.flush()
    reader = replica(empty_cluster.nodes[1].url, shards=16)
    # A replica that still meets the nodes may miss; what it finds is right.
    until(lambda: reader.lookup(f"{prompts[0]}.") is not None)
    for prompt in prompts:
        until(lambda prompt=prompt: reader.lookup(f"{prompt}.") is not None)
        assert reader.lookup(f"{prompt}.").response == prompt


def test_a_search_index_of_one_node_is_not_taken_for_the_clusters(replica):
    """The module is there, but without a coordinator."""
    cluster = RedisCluster("search")
    try:
        with pytest.warns(BackendWarning, match=r"FT\.SEARCH.*shares answers to equal requests only"):
            cache = replica(cluster.nodes[0].url, engine="search")
        assert cache._backend.stats().engine == "exact"
        cache.store(PROMPT, "Click.")
        cache.flush()
        other = replica(cluster.nodes[1].url)
        assert other._backend.stats().engine == "vectorset"
        assert other.lookup(PROMPT).response == "Click."
    finally:
        cluster.close()


def test_a_slot_moves_while_requests_go_on(empty_cluster, replica):
    writer = replica(empty_cluster.nodes[0].url)
    prompts = [f"{number} bottles of beer on the wall" for number in range(100)]
    for prompt in prompts:
        writer.store(prompt, prompt)
    writer.flush()
    key = next(key for node in empty_cluster.nodes for key in _keys(node))
    readers = [replica(node.url) for node in empty_cluster.nodes]
    wrong: list[object] = []
    stop = threading.Event()

    def look(reader: Cache) -> None:
        while not stop.is_set():
            reader._core.clear()  # so that the servers are asked
            for prompt in prompts[:20]:
                hit = reader.lookup(prompt, threshold=1.0)
                if hit is not None and hit.response != prompt:
                    wrong.append(hit)
                time.sleep(0.001)

    threads = [threading.Thread(target=look, args=(reader,)) for reader in readers]
    for thread in threads:
        thread.start()
    try:
        empty_cluster.move(slot_of(key))
        writer.store("a question after the move", "fine")
        writer.flush()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert wrong == []
    fresh = replica(empty_cluster.nodes[2].url)
    assert [fresh.lookup(prompt, threshold=1.0).response for prompt in prompts] == prompts
    assert replica(empty_cluster.nodes[1].url).lookup("a question after the move.") is not None


def _keys(node: RedisServer) -> list[str]:
    with node.client() as client:
        return [key.decode() for key in client.keys("nearhit:3:*:e:*")]


def test_sentinels_name_the_server_and_its_successor(replica, tmp_path):
    with RedisServer("vectorset") as first, RedisServer("vectorset") as second:
        with second.client() as client:
            client.replicaof("127.0.0.1", first.port)
        port = free_port()
        config = tmp_path / "sentinel.conf"
        config.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {tmp_path}\nsentinel monitor main 127.0.0.1 {first.port} 1\n"
            "sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 3000\n"
        )
        sentinel = subprocess.Popen([new_server(), str(config), "--sentinel"], stdout=subprocess.DEVNULL)
        try:
            until(lambda: _answers(f"redis+sentinel://127.0.0.1:{port}/main"))
            cache = replica(f"redis+sentinel://127.0.0.1:{port}/main")
            cache.store(PROMPT, "Click.")
            cache.flush()
            with second.client() as client:
                until(lambda: client.keys("nearhit:3:*:e:*"))
            first.kill()
            until(lambda: not cache._backend.stats().connected)
            until(lambda: cache._backend.stats().connected, 60)
            cache.store("after the failover", "fine")
            cache.flush()
            fresh = replica(second.url)
            assert fresh.lookup("after the failover").response == "fine"
        finally:
            sentinel.kill()
            sentinel.wait()


def _answers(url: str) -> bool:
    backend = RedisBackend(url)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BackendWarning)  # a sentinel that is just starting is out of reach
        cache = Cache(backend=backend)
        connected = backend.stats().connected
        cache.close()
    return connected


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    """A certificate of our own making for 127.0.0.1."""
    folder = tmp_path_factory.mktemp("tls")
    command = [
        *("/usr/bin/openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"),
        *("-addext", "subjectAltName=IP:127.0.0.1"),
        *("-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")),
    ]
    subprocess.run(command, check=True, capture_output=True)
    return folder


def test_tls(certificates, replica):
    """Debian's server speaks TLS; the others are built without."""
    port = free_port()
    options = ("--tls-port", str(port), "--tls-cert-file", str(certificates / "cert.pem"))
    options += ("--tls-key-file", str(certificates / "key.pem"), "--tls-ca-cert-file", str(certificates / "cert.pem"))
    with RedisServer("debian", *options, "--tls-auth-clients", "no"):
        trusted = f"rediss://127.0.0.1:{port}?ssl_ca_certs={certificates / 'cert.pem'}"
        cache = replica(trusted, engine="exact")
        cache.store(PROMPT, "Click.")
        cache.flush()
        unchecked = replica(f"rediss://127.0.0.1:{port}?ssl_cert_reqs=none", engine="exact")
        assert unchecked.lookup(PROMPT).response == "Click."
        with pytest.warns(match="CERTIFICATE_VERIFY_FAILED"):
            replica(f"rediss://127.0.0.1:{port}", engine="exact")


def test_a_socket_file(replica, tmp_path):
    with RedisServer("vectorset", "--unixsocket", str(tmp_path / "redis.sock")) as server:
        cache = replica(f"unix://{tmp_path / 'redis.sock'}")
        cache.store(PROMPT, "Click.")
        cache.flush()
        assert replica(server.url).lookup(NEARLY).response == "Click."


def test_urls_are_read():
    address = parse_address("redis://user:p%40ss@cache.internal:6380/3?protocol=2")
    assert (address.hosts, address.username, address.password) == ((("cache.internal", 6380),), "user", "p@ss")
    assert (address.db, address.protocol, address.kind, address.tls) == (3, 2, "server", None)
    sentinel = parse_address("redis+sentinel://:secret@a:1,b:2/main/4")
    assert (sentinel.hosts, sentinel.service, sentinel.db) == ((("a", 1), ("b", 2)), "main", 4)
    assert parse_address("redis+sentinel://a/main").hosts == (("a", 26379),)
    assert parse_address("redis://[::1]:7000").hosts == (("::1", 7000),)
    assert "secret" not in repr(sentinel)


@pytest.mark.parametrize(
    "url",
    ["http://x", "redis://", "redis://a:b:c/0", "redis://a:port", "redis://u:secret@h/nodb", "redis+sentinel://a"],
)
def test_bad_urls_are_named_without_their_password(url):
    with pytest.raises(OptionError, match="url=") as caught:
        parse_address(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"engine": "best"},
        {"quantisation": "q4"},
        {"algorithm": "tree"},
        {"shards": 0},
        {"namespace": "a{b}"},
        {"deadline": -1},
        {"protocol": 4},
        {"max_scope_entries": 0},
    ],
)
def test_bad_options_are_named(options):
    with pytest.raises(OptionError, match=next(iter(options))):
        RedisBackend("redis://127.0.0.1", **options)
