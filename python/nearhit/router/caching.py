"""The cache as the router uses it: it may fail, it never fails a request."""

from __future__ import annotations

import asyncio
import inspect
import json
from typing import TYPE_CHECKING, Any

from nearhit._types import Chunk, Usage
from nearhit.cache import AsyncCache, Cache
from nearhit.cache._base import CacheBase

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nearhit._types import Completion, Message
    from nearhit.cache import Lookup
    from nearhit.router.limits import Limits
    from nearhit.trace import Trace

COMPLETE = "stop"
"""Finish reason of an answer that ended by itself."""

SHIPPED_EMBEDDER = "all-MiniLM-L6-v2@"
"""Start of the ids of the embedders that the shipped head was fitted on."""


class CacheSide:
    """Looks up and stores for the router.

    Args:
        cache: A `nearhit.Cache` or `nearhit.AsyncCache`, or an object with their `lookup` and `store`.
    """

    def __init__(self, cache: Any) -> None:
        # Our own caches are asked through their asynchronous face: what takes microseconds runs in place, embedding in
        # a worker thread, and the lookup tells its stages and spares the store a second embedding.
        self._traced = AsyncCache.sharing(cache) if isinstance(cache, CacheBase) else None
        self._direct = cache if isinstance(cache, Cache) else None
        self._cache = cache
        self._awaitable = inspect.iscoroutinefunction(cache.lookup)

    async def look_up(
        self, messages: Sequence[Message], params: Mapping[str, Any], limits: Limits, trace: Trace
    ) -> Any | None:
        """Returns a hit or None; a failure is a miss, noted in the trace."""
        request = _request(messages, params)
        start = trace.elapsed
        try:
            if self._traced is not None:
                return _noted(await self._traced.lookup_traced(request, scope=limits.scope), trace, start)
            hit = await self._call(self._cache.lookup, request, scope=limits.scope)
        except Exception as error:  # noqa: BLE001 - whatever the cache does, the request goes on
            trace.notes.append(f"cache lookup failed: {type(error).__name__}: {error}")
            hit = None
        trace.add("lookup", start, trace.elapsed - start, kind=hit.kind if hit is not None else "miss")
        return hit

    def vector(self, trace: Trace, embedder: str) -> Any | None:
        """The prompt's embedding, where the lookup has made one.

        Args:
            trace: The request's trace.
            embedder: Start of the ids of the embedders whose vectors are of use; "" for none.
        """
        lookup = trace.lookup
        made_by = None if self._traced is None else self._traced.embedder
        if lookup is None or lookup.truncated or made_by is None or not embedder:
            return None
        return lookup.vector if made_by.id.startswith(embedder) else None

    @property
    def direct(self) -> bool:
        """Whether `look_up_directly` may be called: the cache can be asked without an event loop."""
        return self._direct is not None

    def look_up_directly(
        self, messages: Sequence[Message], params: Mapping[str, Any], limits: Limits, trace: Trace
    ) -> Any | None:
        """`look_up` on the caller's own thread: a hit then costs no change of threads."""
        if self._direct is None:
            return None
        start = trace.elapsed
        try:
            return _noted(self._direct.lookup_traced(_request(messages, params), scope=limits.scope), trace, start)
        except Exception as error:  # noqa: BLE001 - whatever the cache does, the request goes on
            trace.notes.append(f"cache lookup failed: {type(error).__name__}: {error}")
            return None

    async def store(
        self,
        messages: Sequence[Message],
        params: Mapping[str, Any],
        limits: Limits,
        completion: Completion,
        trace: Trace,
    ) -> None:
        """Stores a complete, successful answer; a failure is noted in the trace."""
        if not _complete(completion, params):
            return
        usage = completion.usage
        response = {
            "text": completion.text,
            "finish_reason": completion.finish_reason,
            "model": completion.model,
            "tier": completion.tier,
            "usage": [usage.prompt_tokens, usage.completion_tokens],
        }
        with trace.span("store"):
            try:
                if self._traced is not None and trace.lookup is not None:
                    trace.stored = await self._traced.store(
                        trace.lookup,
                        response,
                        cost=completion.timings.e2e,
                        model=completion.model,
                        tokens=(usage.prompt_tokens, usage.completion_tokens),
                    )
                else:
                    await self._call(self._cache.store, _request(messages, params), response, scope=limits.scope)
            except Exception as error:  # noqa: BLE001 - the answer is there; losing the entry costs nobody anything
                trace.notes.append(f"cache store failed: {type(error).__name__}: {error}")

    async def _call(self, method: Any, *args: Any, **kwargs: Any) -> Any:
        if self._awaitable:
            return await method(*args, **kwargs)
        return await asyncio.to_thread(method, *args, **kwargs)


def _noted(lookup: Lookup, trace: Trace, start: float) -> Any | None:
    """Writes a lookup that began at `start` into the trace, stage by stage, and returns its hit."""
    trace.lookup = lookup
    if lookup.unembedded is not None:
        trace.notes.append(f"the prompt was not embedded: {lookup.unembedded}")
    for stage, seconds in lookup.seconds.items():
        trace.add(stage, start, seconds)
        start += seconds
    return lookup.hit


def _complete(completion: Completion, params: Mapping[str, Any]) -> bool:
    """Whether an answer is all that its request asked for.

    An answer cut by the length limit is, if the request itself set the limit: it is part of what must match exactly,
    so only requests that would be cut at the same place are answered with it. Cut by the model's own limit, it is not.
    """
    if completion.tool_calls or not completion.text:
        return False
    limited = params.get("max_tokens") is not None or params.get("max_completion_tokens") is not None
    return completion.finish_reason == COMPLETE or (completion.finish_reason == "length" and limited)


def _request(messages: Sequence[Message], params: Mapping[str, Any]) -> Any:
    """Everything that shapes the answer: parameters belong to the scope, so the cache is given the whole body."""
    return {**params, "messages": list(messages)} if params else list(messages)


def replay(hit: Any) -> tuple[Chunk, str]:
    """Returns a hit's answer as one piece, and the model that gave it.

    Entries that others have stored may hold a text, bytes or any JSON value.
    """
    response = hit.response
    if isinstance(response, dict) and {"text", "finish_reason", "model", "usage"} <= set(response):
        prompt_tokens, completion_tokens = response["usage"]
        chunk = Chunk(response["text"], response["finish_reason"], Usage(prompt_tokens, completion_tokens))
        return chunk, response["model"]
    if isinstance(response, bytes):
        response = response.decode(errors="replace")
    text = response if isinstance(response, str) else json.dumps(response, ensure_ascii=False)
    return Chunk(text, finish_reason=COMPLETE, usage=Usage()), "cache"
