"""Moving in from RedisVL: what RedisVL itself stored in a real Redis is imported."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from redisvl.extensions.cache.llm import SemanticCache
from redisvl.utils.vectorize import CustomVectorizer
from tests.support.hashing_embedder import HashingEmbedder
from tests.support.redis_servers import RedisServer, free_port

import nearhit
from nearhit import Cache, cli

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def redisvl() -> Iterator[RedisServer]:
    """A Redis with three entries of a RedisVL cache in it."""
    inner = HashingEmbedder()
    vectorizer = CustomVectorizer(embed=lambda text, **_: inner.embed([text])[0].tolist())
    with RedisServer("search") as server:
        cache = SemanticCache(
            "faq",
            redis_url=server.url,
            vectorizer=vectorizer,
            filterable_fields=[{"name": "user", "type": "tag"}],
        )
        cache.store("What is the capital of France?", "Paris.", metadata={"source": "atlas"})
        cache.store("What is my name?", "Ada.", filters={"user": "ada"})
        cache.store("What is new?", "Nothing.", ttl=1000)
        cache.disconnect()
        yield server


def test_entries_come_with_their_filters_and_ends(redisvl: RedisServer) -> None:
    cache = Cache(HashingEmbedder(), policy="static")
    assert cache.import_(f"{redisvl.url}?name=faq") == 3
    assert cache.lookup("What is the capital of France?").response == "Paris."
    assert cache.lookup("what is the capital of France?").kind == "near"
    assert cache.lookup("What is my name?") is None
    assert cache.lookup("What is my name?", scope={"user": "ada"}).response == "Ada."
    assert cache.lookup("What is new?").age < 100
    assert Cache().import_(f"{redisvl.url}?name=another") == 0


def test_the_command(redisvl: RedisServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(tmp_path / "cache.db")
    Cache(path=file).close()
    assert cli.main(["cache", "import", "--exact-only", file, f"{redisvl.url}?name=faq"]) == 0
    assert "3" in capsys.readouterr().out
    with Cache(path=file) as cache:
        assert len(cache) == 3


def test_what_cannot_be_read_is_named(redisvl: RedisServer) -> None:
    with redisvl.client() as client:
        client.hset("broken:1", mapping={"prompt": "x"})
    with pytest.raises(nearhit.CorruptFileError, match="broken:1"):
        Cache().import_(f"{redisvl.url}?name=broken")
    with pytest.raises(nearhit.StorageError, match="llmcache"):
        Cache().import_(f"redis://127.0.0.1:{free_port()}")
