"""`nearhit cache` on a server's URL."""

from __future__ import annotations

import gzip
import json

import pytest
from tests.support.hashing_embedder import HashingEmbedder

from nearhit import Cache
from nearhit.cli import main

PROMPT = "How do I reset the password of my account?"


@pytest.fixture
def filled(server, replica):
    cache = replica(server.url, namespace="shop")
    cache.store(PROMPT, "Click.", scope="acme", tags=["help"], ttl=1000)
    cache.store("json", {"a": 1})
    cache.store("bytes", b"\x00\xff")
    cache.flush()
    return server


def test_looking_at_a_server(filled, capsys):
    assert main(["cache", "stats", filled.url, "--namespace", "shop", "--json"]) == 0
    stats = json.loads(capsys.readouterr().out)
    assert (stats["entries"], stats["tags"], stats["with_expiry"]) == (3, {"help": 1}, 1)
    assert {scope["scope"]: scope["entries"] for scope in stats["scopes"]} == {"acme": 1, None: 2}
    server = stats["server"]
    assert (server["connected"], server["breaker"], server["late"], server["waiting"]) == (True, "closed", 0, 0)
    assert server["engine"] in ("search", "vectorset")
    assert 0 < server["latency_p50"] <= server["latency_p99"] < 5
    assert main(["cache", "stats", filled.url, "--namespace", "shop"]) == 0
    told = capsys.readouterr().out
    assert "asked for an entry: p50" in told
    assert "breaker closed" in told
    assert main(["cache", "inspect", filled.url, "--namespace", "shop", "--text", "password", "--json"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert (entry["response"], entry["scope"]) == ("Click.", "acme")


def test_out_and_in_again(filled, capsys, tmp_path):
    out = tmp_path / "out.jsonl.gz"
    assert main(["cache", "export", filled.url, str(out), "--namespace", "shop"]) == 0
    with gzip.open(out, "rt") as lines:
        assert len(lines.readlines()) == 3
    assert main(["cache", "import", filled.url, str(out), "--exact-only", "--namespace", "copy"]) == 0
    assert main(["cache", "stats", filled.url, "--namespace", "copy", "--json"]) == 0
    assert '"entries": 3' in capsys.readouterr().out


def test_clearing_reaches_caches_at_work(filled, replica, capsys):
    reader = replica(filled.url, namespace="shop")
    assert reader.lookup(PROMPT, scope="acme") is not None
    assert main(["cache", "clear", filled.url, "--tag", "help", "--namespace", "shop"]) == 0
    assert "1 entries removed" in capsys.readouterr().out
    assert main(["cache", "clear", filled.url, "--all", "--namespace", "shop"]) == 0
    assert "2 entries removed" in capsys.readouterr().out
    with filled.client() as client:
        assert client.keys("shop:3:*:e:*") == []


def test_warm_copies_either_way(filled, capsys, tmp_path):
    file = tmp_path / "cache.db"
    assert main(["cache", "warm", filled.url, str(file), "--exact-only", "--namespace", "shop"]) == 0
    with Cache(path=file) as cache:
        assert cache.lookup(PROMPT, scope="acme").response == "Click."
        assert cache.lookup("json").response == {"a": 1}
        assert cache.lookup("bytes").response == b"\x00\xff"
    assert main(["cache", "warm", str(file), filled.url, "--exact-only", "--namespace", "again"]) == 0
    assert capsys.readouterr().out.count("3 entries copied") == 2
    assert main(["cache", "stats", filled.url, "--namespace", "again", "--json"]) == 0
    assert '"entries": 3' in capsys.readouterr().out


def test_vectors_come_along(filled, replica):
    from nearhit.cli import _shared  # noqa: PLC0415 - the part of the command below its model

    source = replica(filled.url, namespace="shop")
    embedder = HashingEmbedder()
    target = replica(filled.url, embedder, namespace="other")
    assert _shared.copy(source, target, lambda _: None) == 3
    assert embedder.calls == []
    assert target.lookup(PROMPT[:-1], scope="acme").kind == "near"


def test_a_server_that_is_not_there(capsys):
    assert main(["cache", "stats", "redis://127.0.0.1:1"]) != 0
    assert "cannot be reached" in capsys.readouterr().err


def test_embedding_again_has_no_meaning_on_a_server(filled, capsys):
    assert main(["cache", "reembed", filled.url]) != 0
    assert "warm" in capsys.readouterr().err
