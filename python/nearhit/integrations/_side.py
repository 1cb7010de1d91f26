"""The cache beside somebody else's call: it may fail, it never fails the call."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

from nearhit._errors import InputError, OptionError
from nearhit.cache import AsyncCache, Cache
from nearhit.cache._base import CacheBase

if TYPE_CHECKING:
    from nearhit._core import Hit


class CacheSide:
    """Looks up and stores for an integration.

    Args:
        cache: A `nearhit.Cache` or `nearhit.AsyncCache`.
        name: Name of the integration: its logger is "nearhit.integrations.NAME", its entries carry it as a tag.
        scope: Caller's scope of every entry: a tenant, for instance.
        ttl: Seconds that answers are kept; None for the cache's own.

    Attributes:
        failures: What failed and was passed over, by stage: "lookup" and "store".
    """

    def __init__(self, cache: Any, name: str, *, scope: Any = None, ttl: float | None = None) -> None:
        if not isinstance(cache, CacheBase):
            raise OptionError(f"option cache={cache!r} is not valid: expected a nearhit.Cache or nearhit.AsyncCache")
        self.sync = Cache.sharing(cache)
        self.asynchronous = AsyncCache.sharing(cache)
        self.name = name
        self.scope = scope
        self.failures: Counter[str] = Counter()
        self._ttl = ttl
        self._log = logging.getLogger(f"nearhit.integrations.{name}")
        self._logged: set[tuple[str, str]] = set()
        self._lock = threading.Lock()

    def look_up(self, request: Any) -> Hit | None:
        """A hit, or None; a failure is None."""
        try:
            return self.sync.lookup(request, scope=self.scope)
        except Exception as error:  # noqa: BLE001 - whatever the cache does, the call goes on
            self._failed("lookup", error)
            return None

    async def look_up_async(self, request: Any) -> Hit | None:
        """`look_up`, without holding up the event loop."""
        try:
            return await self.asynchronous.lookup(request, scope=self.scope)
        except Exception as error:  # noqa: BLE001 - whatever the cache does, the call goes on
            self._failed("lookup", error)
            return None

    def keep(self, request: Any, value: Any, *, ttl: float | None = None) -> None:
        """Stores an answer; a failure loses only the entry."""
        try:
            self.sync.store(request, value, **self._options(ttl))
        except Exception as error:  # noqa: BLE001 - the answer is there
            self._failed("store", error)

    async def keep_async(self, request: Any, value: Any, *, ttl: float | None = None) -> None:
        """`keep`, without holding up the event loop."""
        try:
            await self.asynchronous.store(request, value, **self._options(ttl))
        except Exception as error:  # noqa: BLE001 - the answer is there
            self._failed("store", error)

    def clear(self) -> None:
        """Removes what this integration stored, whoever else uses the cache."""
        self.sync.invalidate(tag=self.name)

    async def clear_async(self) -> None:
        """`clear`, without holding up the event loop."""
        await self.asynchronous.invalidate(tag=self.name)

    def _options(self, ttl: float | None) -> dict[str, Any]:
        return {"scope": self.scope, "ttl": self._ttl if ttl is None else ttl, "tags": [self.name]}

    def _failed(self, stage: str, error: Exception) -> None:
        if isinstance(error, InputError):
            return  # a request that no cache can hold: an empty prompt, a part that JSON does not know
        kind = (stage, type(error).__name__)
        with self._lock:
            self.failures[stage] += 1
            known = kind in self._logged
            self._logged.add(kind)
        if not known:
            self._log.warning("%s failed: %s: %s; the call goes on, and this is not said again", *kind, error)
