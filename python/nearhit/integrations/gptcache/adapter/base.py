"""What GPTCache's adapters have in common: another function in place of the API's, and arguments of every call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Callable


class BaseCacheLLM:
    """A call with the cache in front.

    Attributes:
        llm: Called on a miss in place of the API; None for the API.
        cache_args: Arguments of every call that does not give them itself, such as `cache_obj`.
    """

    llm: ClassVar[Callable[..., Any] | None] = None
    cache_args: ClassVar[dict[str, Any]] = {}

    @classmethod
    def fill_base_args(cls, **kwargs: Any) -> dict[str, Any]:
        """A call's arguments with those of every call."""
        return {**cls.cache_args, **kwargs}
