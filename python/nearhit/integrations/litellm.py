"""LiteLLM: `litellm.cache = NearhitCache(cache)`, and tiers chosen by the prompt for its router.

Example:
    litellm.cache = NearhitCache(nearhit.Cache(nearhit.embed.load()))
    route(litellm.Router(model_list=[...]))
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from nearhit._errors import MissingDependencyError, OptionError

try:
    from litellm.caching.base_cache import BaseCache
    from litellm.caching.caching import Cache as LiteLLMCache
    from litellm.types.caching import LiteLLMCacheType
    from litellm.types.router import CustomRoutingStrategyBase
except ImportError as missing:
    raise MissingDependencyError(
        "nearhit.integrations.litellm needs litellm: pip install 'nearhit[litellm]'"
    ) from missing

from nearhit.answers import is_complete
from nearhit.integrations._side import CacheSide
from nearhit.router import Router
from nearhit.tiers import FunctionTier

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nearhit._core import Hit

_CALLS: Final = ["completion", "acompletion"]


class NearhitBackend(BaseCache):
    """What LiteLLM's own cache class asks: the store behind `NearhitCache`."""

    def __init__(self, side: CacheSide) -> None:
        super().__init__()
        self._side = side

    def get_cache(self, key: str, **kwargs: Any) -> Any:
        """The kept response, as LiteLLM gave it."""
        return _found(self._side.look_up(_request(key, kwargs)), kwargs)

    async def async_get_cache(self, key: str, **kwargs: Any) -> Any:
        """`get_cache`, without holding up the event loop."""
        return _found(await self._side.look_up_async(_request(key, kwargs)), kwargs)

    def set_cache(self, key: str, value: Any, **kwargs: Any) -> None:
        """Keeps a response, if it is whole."""
        if _whole(value, kwargs):
            self._side.keep(_request(key, kwargs), value, ttl=kwargs.get("ttl"))

    async def async_set_cache(self, key: str, value: Any, **kwargs: Any) -> None:
        """`set_cache`, without holding up the event loop."""
        if _whole(value, kwargs):
            await self._side.keep_async(_request(key, kwargs), value, ttl=kwargs.get("ttl"))

    async def async_set_cache_pipeline(self, cache_list: list[tuple[str, Any]], **kwargs: Any) -> None:
        """Keeps several responses."""
        for key, value in cache_list:
            await self.async_set_cache(key, value, **kwargs)

    def flush_cache(self) -> None:
        """Removes what came through LiteLLM."""
        self._side.clear()

    async def disconnect(self) -> None:
        """Nothing to disconnect: the cache is the caller's."""


class NearhitCache(LiteLLMCache):
    """A cache for `litellm.cache`, exact and by meaning, for chat completions, streamed or not.

    LiteLLM's own key (model, parameters, key, team and organisation of its proxy), the system prompt and the earlier
    turns must match exactly; the last user text is compared by meaning. LiteLLM counts `stream` among the parameters,
    so that streams and whole answers are kept apart; what came as a stream is replayed as one.

    Args:
        cache: A `nearhit.Cache` or `nearhit.AsyncCache`.
        scope: Whose entries these are; scopes never see each other.
        ttl: Seconds that answers are kept; None for the cache's own.
        **options: LiteLLM's own: `mode`, `namespace`, `supported_call_types`, `semantic_cache_scope`...
    """

    def __init__(self, cache: Any, *, scope: Any = None, ttl: float | None = None, **options: Any) -> None:
        side = CacheSide(cache, "litellm", scope=scope, ttl=ttl)
        # Long conversations need no limit: all turns but the last one have to match exactly.
        given = {"supported_call_types": list(_CALLS), "max_messages": None, **options}
        super().__init__(type=LiteLLMCacheType.LOCAL, _backend=NearhitBackend(side), **given)
        self._side = side

    @property
    def failures(self) -> dict[str, int]:
        """What failed and was passed over, by stage: "lookup" and "store"."""
        return dict(self._side.failures)

    def _is_semantic_cache(self) -> bool:
        """Keeps the prompt out of LiteLLM's key, so that the key is the scope."""
        return True


class NearhitStrategy(CustomRoutingStrategyBase):
    """Chooses among the deployments of a model group by the prompt: see `route`."""

    def __init__(self, router: Any, options: Mapping[str, Any]) -> None:
        self._router = router
        self._options = dict(options)
        self._routers: dict[tuple[str, ...], Router] = {}

    def get_available_deployment(
        self,
        model: str,
        messages: list[dict[str, str]] | None = None,
        input: str | list[object] | None = None,  # noqa: A002 - LiteLLM's name
        specific_deployment: bool | None = False,  # noqa: ARG002, FBT001, FBT002 - LiteLLM's signature
        request_kwargs: dict[str, object] | None = None,
    ) -> Any:
        """The deployment that is worth it for this prompt; the first of the group where there is no prompt."""
        deployments = list(self._router.registry().all())
        group = [each for each in deployments if each["model_name"] == model]
        if not group:
            known = sorted({each["model_name"] for each in deployments})
            raise OptionError(f"the router has no model {model!r}: it has {', '.join(known)}")
        prompt: Any = messages or (input if isinstance(input, str) else None)
        if len(group) == 1 or not prompt:
            return group[0]
        names = tuple(f"{place}:{each['litellm_params']['model']}" for place, each in enumerate(group))
        if names not in self._routers:
            self._routers[names] = Router([FunctionTier(name, _never) for name in names], **self._options)
        decision = self._routers[names].decide(prompt, tools=bool((request_kwargs or {}).get("tools")))
        return group[decision.index]

    async def async_get_available_deployment(
        self,
        model: str,
        messages: list[dict[str, str]] | None = None,
        input: str | list[object] | None = None,  # noqa: A002 - LiteLLM's name
        specific_deployment: bool | None = False,  # noqa: FBT001, FBT002 - LiteLLM's signature
        request_kwargs: dict[str, object] | None = None,
    ) -> Any:
        """`get_available_deployment`; it takes microseconds, so nothing is waited for."""
        return self.get_available_deployment(model, messages, input, specific_deployment, request_kwargs)


def route(router: Any, **options: Any) -> Any:
    """Lets nearhit choose among a LiteLLM router's deployments, by the prompt.

    The deployments of one model group, cheapest and weakest first, are what it chooses from: an easy prompt goes to the
    first that is good enough. LiteLLM still does the calling, with its retries and fallbacks.

    Args:
        router: A `litellm.Router`.
        **options: Those of `nearhit.Router` that a decision needs: `strategy`, `cost_weight`, `head`.

    Returns:
        The router.
    """
    router.register_plugin(NearhitStrategy(router, options))
    return router


def _never(_messages: Any) -> str:
    raise OptionError("the tiers of a routing strategy are names to choose from: LiteLLM makes the call")


def _request(key: str, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    return {"messages": kwargs.get("messages"), "tools": kwargs.get("tools"), "litellm": key}


def _found(hit: Hit | None, kwargs: Mapping[str, Any]) -> Any:
    metadata = kwargs.get("metadata")
    if isinstance(metadata, dict):
        metadata["semantic-similarity"] = 0.0 if hit is None else hit.similarity
    return None if hit is None else hit.response


def _whole(value: Any, kwargs: Mapping[str, Any]) -> bool:
    """Whether LiteLLM's record of a response is one of a whole chat completion."""
    try:
        response = value["response"]
        body = json.loads(response) if isinstance(response, str) else response
    except (TypeError, KeyError, ValueError):
        return False
    return isinstance(body, dict) and is_complete("chat", body, kwargs)
