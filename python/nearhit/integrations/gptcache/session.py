"""GPTCache's sessions: answers of one session are not given to another."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, Self

from nearhit.integrations.gptcache.core import cache

if TYPE_CHECKING:
    from nearhit.integrations.gptcache.core import Cache


class Session:
    """A name under which answers are kept apart; leaving a `with` block drops them.

    Args:
        name: The name; a new one by default.
        data_manager: Not used.
        check_hit_func: Not used.
        cache_obj: The cache that `drop` empties of it; None for the process's own.

    Example:
        >>> Session("support").name
        'support'
    """

    def __init__(
        self,
        name: str | None = None,
        data_manager: Any = None,
        check_hit_func: Any = None,
        *,
        cache_obj: Cache | None = None,
    ) -> None:
        del data_manager, check_hit_func
        self.name = name or uuid.uuid4().hex
        self._cache = cache_obj or cache

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.drop()

    def drop(self) -> None:
        """Removes the session's answers."""
        self._cache.nearhit.invalidate(scope=self.name)
