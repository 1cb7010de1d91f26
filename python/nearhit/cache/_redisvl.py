"""The entries of a RedisVL semantic cache, read from its Redis."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from nearhit._core import Request
from nearhit._errors import CorruptFileError, MissingDependencyError, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator

SCHEMES: Final = ("redis://", "rediss://", "unix://")
_NAME: Final = "llmcache"
_OWN: Final = frozenset({"entry_id", "prompt", "response", "prompt_vector", "inserted_at", "updated_at", "metadata"})


def read(url: str) -> Iterator[tuple[Request, str, dict[str, Any]]]:
    """Request, answer and store options of every entry.

    An entry with filter fields comes with them as its scope, so that what was kept apart stays apart.

    Args:
        url: Of the Redis; "?name=..." for another cache than RedisVL's default, "llmcache".

    Raises:
        MissingDependencyError: The redis package, which RedisVL brings, is not installed.
        StorageError: The server cannot be reached, or refuses.
        CorruptFileError: An entry that is not one of RedisVL's.
    """
    try:
        import redis  # noqa: PLC0415 - nobody else needs it
    except ImportError as error:
        raise MissingDependencyError("reading a RedisVL cache needs redis: pip install redis") from error
    address, name = _split(url)
    try:
        with redis.Redis.from_url(address) as client:
            for key in client.scan_iter(match=f"{name}:*", count=1000, _type="HASH"):
                fields = client.hgetall(key)
                seconds = client.pttl(key) / 1000
                if fields:  # it may have ended since
                    yield _entry(key, fields, seconds)
    except redis.RedisError as error:
        raise StorageError(f"cannot read the RedisVL cache {name!r}: {error}") from error


def _split(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    name = query.pop("name", _NAME)
    return urlunsplit(parts._replace(query=urlencode(query))), name


def _entry(key: bytes, raw: dict[bytes, bytes], seconds: float) -> tuple[Request, str, dict[str, Any]]:
    try:
        fields = {name.decode(): value for name, value in raw.items()}
        prompt, response = fields["prompt"].decode(), fields["response"].decode()
        created = float(fields["inserted_at"])
        filters = {name: value.decode() for name, value in fields.items() if name not in _OWN}
    except (KeyError, ValueError) as error:
        where = key.decode(errors="replace")
        what = f"{type(error).__name__}: {error}"
        raise CorruptFileError(f"the hash {where!r} is not an entry of RedisVL's: {what}") from error
    expires = None if seconds < 0 else time.time() + seconds
    return Request(prompt, filters or None), response, {"created": created, "expires": expires}
