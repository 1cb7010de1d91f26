"""Servers of each kind, emptied before every test, and caches that are closed after it."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.hashing_embedder import HashingEmbedder
from tests.support.redis_servers import RedisCluster, RedisServer

from nearhit import BackendWarning, Cache
from nearhit.backends import RedisBackend

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(scope="session")
def servers() -> Iterator[dict[str, RedisServer]]:
    running: dict[str, RedisServer] = {}
    yield running
    for server in running.values():
        server.close()


def _server(servers: dict[str, RedisServer], kind: str) -> RedisServer:
    if kind not in servers:
        servers[kind] = RedisServer(kind)
    with servers[kind].client() as client:
        client.flushall()
    return servers[kind]


@pytest.fixture(params=("vectorset", "search"))
def server(request: pytest.FixtureRequest, servers: dict[str, RedisServer]) -> RedisServer:
    """A server with vector search, of either kind."""
    return _server(servers, request.param)


@pytest.fixture(params=("debian", "denied"))
def plain_server(request: pytest.FixtureRequest, servers: dict[str, RedisServer]) -> RedisServer:
    """A server without."""
    return _server(servers, request.param)


@pytest.fixture
def own_server() -> Iterator[RedisServer]:
    """A server that a test may kill."""
    with RedisServer("vectorset", "--appendonly", "yes", "--appendfsync", "always") as server:
        yield server


@pytest.fixture(scope="session")
def cluster() -> Iterator[RedisCluster]:
    cluster = RedisCluster()
    yield cluster
    cluster.close()


@pytest.fixture
def replica() -> Iterator[Callable[..., Cache]]:
    """Makes caches that share a server; a generous deadline, for the machine may be busy."""
    made: list[Cache] = []

    def make(url: str, embedder: Any = None, *, cache: dict[str, Any] | None = None, **options: Any) -> Cache:
        backend = RedisBackend(url, **{"deadline": 2.0, **options})
        made.append(Cache(embedder or HashingEmbedder(), threshold=0.8, backend=backend, **(cache or {})))
        return made[-1]

    yield make
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BackendWarning)  # what could not be written to a server that was shot
        for cache in made:
            cache.close()
