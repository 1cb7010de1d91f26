"""Caches on a server, as the commands of `nearhit cache` see them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from nearhit._errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nearhit._types import Embedder
    from nearhit.backends import BackendStats, RedisBackend
    from nearhit.cache import Cache
    from nearhit.cache.portable import Record

_DEADLINE = 5.0  # seconds; nobody waits behind a command
_PROBES = 20  # lookups that tell how quick a server is


def is_url(name: str) -> bool:
    """Whether a cache is named by the URL of a server."""
    return "://" in name


def open_shared(url: str, embedder: Embedder | None, namespace: str, *, look: bool) -> Cache:
    """A cache in front of the server; to `look`, one in memory that holds what the server has.

    Raises:
        StorageError: The server cannot be reached.
    """
    import warnings

    from nearhit import BackendWarning
    from nearhit.backends import RedisBackend
    from nearhit.cache import Cache

    backend = RedisBackend(url, namespace=namespace, deadline=_DEADLINE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BackendWarning)
        shared = Cache(embedder, max_bytes=None, backend=backend)
    stats = backend.stats()
    if not stats.connected:
        shared.close()
        raise StorageError(f"{backend!r} cannot be reached: {stats.failure}")
    if not look:
        return shared
    with shared:
        held = Cache(embedder, max_bytes=None)
        for space, entry in backend.entries():
            vector = entry.vector if space == backend.space and embedder is not None else None
            held._core.store(entry.request(), entry.answer(), vector=vector, **entry.options())  # noqa: SLF001
    return held


def probe(url: str, namespace: str) -> BackendStats:
    """How a server is, and how long it takes to say that it has no entry.

    Raises:
        StorageError: The server cannot be reached.
    """
    from uuid import uuid4

    with open_shared(url, None, namespace, look=False) as shared:
        for _ in range(_PROBES):
            shared.lookup(uuid4().hex)
        stats = shared.stats().backend
        assert stats is not None  # noqa: S101 - it was opened with one
        return stats


def copy(source: Cache, target: Cache, progress: Callable[[int], None]) -> int:
    """Stores every entry of one cache in another; from a server the embedder's vectors come along.

    Returns:
        How many.
    """
    backend = source._backend  # noqa: SLF001 - same package
    records = _held(source) if backend is None else _shared(backend)
    count = target._run_plan(target._import(records, progress))  # noqa: SLF001 - same package
    target.flush()
    return count


def _shared(backend: RedisBackend) -> Iterator[Record]:
    from nearhit.cache.portable import Record

    for space, entry in backend.entries():
        vector = entry.vector if space == backend.space else None
        yield Record(entry.request(), entry.answer(), entry.options(), vector)


def _held(source: Cache) -> Iterator[Record]:
    from nearhit._core import Request
    from nearhit.cache.portable import Record

    for fields in source._core.entries():  # noqa: SLF001 - same package
        request = Request.from_parts(fields["id"], fields["scope_id"], fields["prompt"], fields["scope"])
        names = ("tags", "created", "expires", "cost", "model", "tokens")
        options = {name: fields[name] for name in names}
        response = fields["response"]
        if fields["form"] == "json":
            response, options["json"] = json.dumps(response), True
        yield Record(request, response, options)
