"""GPTCache's cache object, in front of a nearhit cache."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

from nearhit._errors import OptionError
from nearhit.cache import AsyncCache as NearhitAsyncCache
from nearhit.cache import Cache as NearhitCache
from nearhit.cache._base import CacheBase
from nearhit.integrations.gptcache.config import Config
from nearhit.integrations.gptcache.embedding import FunctionEmbedder
from nearhit.integrations.gptcache.manager import DataManager
from nearhit.integrations.gptcache.processor.pre import get_prompt, last_content

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from nearhit._core import Hit
    from nearhit._types import Embedder

_OF_THE_CALL: Final = frozenset({
    "messages", "prompt", "stream", "stream_options", "api_key", "api_base", "api_type", "api_version", "organization",
    "headers", "request_timeout", "timeout", "user",
})  # fmt: skip
"""Arguments that say nothing about the answer, or that are compared otherwise."""


class Cache:
    """GPTCache's cache object: made empty, and useful after `init`.

    Attributes:
        has_init: Whether it is ready.
        config: The threshold, and what else there is to say.
        next_cache: Asked where this one has nothing.

    Example:
        >>> from nearhit.integrations.gptcache import get, put
        >>> cache = Cache()
        >>> cache.init()
        >>> put("What is 2 + 2?", "4", cache_obj=cache)
        >>> get("What is 2 + 2?", cache_obj=cache)
        '4'
    """

    def __init__(self) -> None:
        self.has_init = False
        self.config = Config()
        self.next_cache: Cache | None = None
        self._cache: NearhitCache | None = None
        self._async: NearhitAsyncCache | None = None

    def init(
        self,
        cache_enable_func: Any = None,
        pre_embedding_func: Any = None,
        pre_func: Any = None,
        embedding_func: Callable[..., Any] | None = None,
        data_manager: Any = None,
        similarity_evaluation: Any = None,
        post_process_messages_func: Any = None,  # noqa: ARG002 - GPTCache's signature
        post_func: Any = None,  # noqa: ARG002 - GPTCache's signature
        config: Config | None = None,
        next_cache: Cache | None = None,
        *,
        embedder: Embedder | None = None,
        cache: Any = None,
        path: str | Path | None = None,
        policy: Any = "guarded",
        scope: Callable[[Mapping[str, Any]], Any] | None = None,
    ) -> None:
        """Makes the cache ready.

        Args:
            cache_enable_func: Called as function(**kwargs); where it says no, the cache is left out.
            pre_embedding_func: Called as function(kwargs, prompts=..., cache_config=...); gives the text that is
                compared. None takes the last message's content, or the prompt.
            pre_func: The same, and stronger.
            embedding_func: Turns one text into a vector; None compares exactly, as GPTCache's own default does.
            data_manager: Of this package's `manager`: the file that the entries are kept in. GPTCache's own are not
                used.
            similarity_evaluation: `SearchDistanceEvaluation` says what the threshold is a share of;
                `ExactMatchEvaluation` compares exactly. All others are not used.
            post_process_messages_func: Not used.
            post_func: Not used.
            config: The threshold.
            next_cache: Asked where this one has nothing.
            embedder: A nearhit embedder, in place of `embedding_func`.
            cache: A nearhit cache to keep the entries in, in place of one of its own.
            path: File that the entries are kept in.
            policy: "guarded" (checked candidates) or "static" (the threshold alone).
            scope: What of a call's arguments must match exactly: a function of them that returns a JSON value. None for
                all that bear on the answer, earlier turns included, where GPTCache matches nothing; `lambda kwargs: {}`
                does as GPTCache.
        """
        self.config = config or Config()
        self.next_cache = next_cache
        self._enabled = cache_enable_func
        self._text = pre_func or pre_embedding_func
        self._scope = scope or _all_but_the_text
        if cache is None:
            cache = self._made(embedder, embedding_func, data_manager, similarity_evaluation, path, policy)
        elif not isinstance(cache, CacheBase):
            raise OptionError(f"option cache={cache!r} is not valid: expected a nearhit.Cache or nearhit.AsyncCache")
        self._cache = NearhitCache.sharing(cache)
        self._async = NearhitAsyncCache.sharing(cache)
        self.has_init = True

    def _made(
        self, embedder: Any, embedding_func: Any, data_manager: Any, evaluation: Any, path: Any, policy: Any
    ) -> NearhitCache:
        most = None
        if isinstance(data_manager, DataManager):
            path, most = path or data_manager.path, data_manager.max_size
        if embedder is None and embedding_func is not None:
            owner = getattr(embedding_func, "__self__", None)
            known = hasattr(owner, "embed") and hasattr(owner, "dim")
            embedder = owner if known else FunctionEmbedder(embedding_func)
        if type(evaluation).__name__ == "ExactMatchEvaluation":
            embedder = None
        least = self.config.cosine_within(float(getattr(evaluation, "max_distance", 4.0)))
        return NearhitCache(embedder, threshold=least, policy=policy, path=path, max_entries=most)

    @property
    def nearhit(self) -> NearhitCache:
        """The nearhit cache behind it: for `nearhit.openai.wrap`, statistics and everything else.

        Raises:
            OptionError: `init` was not called.
        """
        if self._cache is None:
            raise OptionError("the cache is not ready: call init() or init_similar_cache() first")
        return self._cache

    def import_data(
        self, questions: Sequence[Any], answers: Sequence[Any], session_ids: Sequence[str | None] | None = None
    ) -> None:
        """Stores answers to questions.

        Args:
            questions: The questions.
            answers: Their answers, in the same order.
            session_ids: Whose they are; None for anybody's.
        """
        store = self.nearhit
        for question, answer, whose in zip(questions, answers, session_ids or [None] * len(questions), strict=True):
            store.store(question, answer, scope=whose)

    def flush(self) -> None:
        """Waits until everything is in the file, if there is one."""
        self.nearhit.flush()
        if self.next_cache is not None:
            self.next_cache.flush()

    def put(self, prompt: str, data: Any, **kwargs: Any) -> None:
        """Stores an answer."""
        store, whose = self.nearhit, _session(kwargs)
        given = {"prompt": prompt, **kwargs}
        if self.asks(given):
            store.store(self.request(given), data, scope=whose)

    def get(self, prompt: str, **kwargs: Any) -> Any:
        """The answer to a prompt or to one that means the same, or None."""
        store, whose = self.nearhit, _session(kwargs)
        given = {"prompt": prompt, **kwargs}
        if not self.asks(given):
            return None
        hit = store.lookup(self.request(given), scope=whose)
        if hit is None and self.next_cache is not None:
            return self.next_cache.get(prompt, **kwargs, session=whose)
        return None if hit is None else hit.response

    def asks(self, kwargs: Mapping[str, Any]) -> bool:
        """Whether the cache has anything to do with a call."""
        return self._enabled is None or bool(self._enabled(**kwargs))

    def request(self, kwargs: Mapping[str, Any]) -> Any:
        """A call as the nearhit cache reads it: the text that is compared, and what must match exactly."""
        pre = self._text or (last_content if "messages" in kwargs else get_prompt)
        text = pre(dict(kwargs), extra_param=None, prompts=self.config.prompts, cache_config=self.config)
        text = text[1] if isinstance(text, tuple) else text
        must_match = self._scope(kwargs)
        if not must_match and isinstance(text, str):
            return text
        content = text if isinstance(text, str | list) else str(text)
        return {"messages": [{"role": "user", "content": content}], "gptcache": must_match}

    def look_up(self, request: Any, whose: Any, threshold: float | None) -> Hit | None:
        """The answer to a request, if there is one."""
        return self.nearhit.lookup(request, scope=whose, threshold=threshold)

    async def look_up_async(self, request: Any, whose: Any, threshold: float | None) -> Hit | None:
        """`look_up`, without holding up the event loop."""
        assert self._async is not None  # noqa: S101 - `nearhit` was asked for before
        return await self._async.lookup(request, scope=whose, threshold=threshold)

    def keep(self, request: Any, answer: Any, whose: Any) -> None:
        """Stores an answer."""
        self.nearhit.store(request, answer, scope=whose)

    async def keep_async(self, request: Any, answer: Any, whose: Any) -> None:
        """`keep`, without holding up the event loop."""
        assert self._async is not None  # noqa: S101 - `nearhit` was asked for before
        await self._async.store(request, answer, scope=whose)

    @staticmethod
    def set_openai_key() -> None:
        """Gives the openai package the key in OPENAI_API_KEY."""
        import openai  # noqa: PLC0415 - an extra

        openai.api_key = os.environ.get("OPENAI_API_KEY")

    @staticmethod
    def set_azure_openai_key() -> None:
        """Gives the openai package key, address and version of an Azure deployment, from the environment."""
        import openai  # noqa: PLC0415 - an extra

        openai.api_type = "azure"
        openai.api_key = os.environ.get("OPENAI_API_KEY")
        openai.azure_endpoint = os.environ.get("OPENAI_API_BASE")
        openai.api_version = os.environ.get("OPENAI_API_VERSION")


def _session(kwargs: dict[str, Any]) -> Any:
    """Takes a session out of a call's arguments: its name keeps its answers apart."""
    session = kwargs.pop("session", None)
    return getattr(session, "name", session)


def _all_but_the_text(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """What bears on an answer beside the text that is compared."""
    if "messages" not in kwargs and set(kwargs) == {"prompt"}:
        return {}
    rest = {name: value for name, value in kwargs.items() if name not in _OF_THE_CALL}
    messages = list(kwargs.get("messages") or ())
    before = {"before": messages[:-1]} if messages[:-1] else {}
    return {**rest, **before}


cache: Final = Cache()
"""The process's own cache, as GPTCache has one."""
