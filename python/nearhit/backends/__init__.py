"""Tiers behind the local cache, shared between processes and machines.

    from nearhit import Cache
    from nearhit.backends import RedisBackend

    cache = Cache(embedder, backend=RedisBackend("redis://cache.internal:6379/0"))

What is promised, whatever happens to the servers:

- A lookup never fails and never waits longer than its deadline for them; local hits do not ask them at all.
- An invalidation is carried out locally at once, by every connected replica within about half a second, and on the
  servers. A replica that was cut off applies what it missed when it is back, and drops everything it holds if it cannot
  prove that it has seen every invalidation. While it is cut off it serves what it holds: at most `max_stale` seconds if
  that is set.
- Invalidations made while the servers are away are kept and told when they are back; they are lost with the process.
- What is read from a server is used only if it is whole, of the very scope, and known not to be invalidated.

`SIZING.md` beside this file says what a node holds and when to use several.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nearhit._errors import MissingDependencyError

if TYPE_CHECKING:
    from nearhit.backends.redis import BackendStats, RedisBackend

__all__ = ["BackendStats", "RedisBackend"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from nearhit.backends import redis  # noqa: PLC0415 - the extra may not be installed
    except ModuleNotFoundError as error:
        if error.name != "hiredis":
            raise
        raise MissingDependencyError("RedisBackend needs hiredis: pip install 'nearhit[redis]'") from error
    return getattr(redis, name)
