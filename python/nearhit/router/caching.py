"""The cache as the router uses it: it may fail, it never fails a request."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any

from nearhit._types import Chunk, Usage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nearhit._types import Completion, Message
    from nearhit.router.limits import Limits
    from nearhit.trace import Trace

COMPLETE = "stop"
"""The one finish reason of an answer that may be stored: "length" is cut short, the others depend on the moment."""


class CacheSide:
    """Looks up and stores for the router.

    Args:
        cache: A `nearhit.Cache` or `nearhit.AsyncCache`, or an object with the same methods.
    """

    def __init__(self, cache: Any) -> None:
        self._cache = cache
        self._awaitable = inspect.iscoroutinefunction(cache.lookup)

    async def look_up(
        self, messages: Sequence[Message], params: Mapping[str, Any], limits: Limits, trace: Trace
    ) -> Any | None:
        """Returns a hit or None; a failure is a miss, noted in the trace."""
        request = _request(messages, params)
        start = trace.elapsed
        try:
            hit = await self._call(self._cache.lookup, request, scope=limits.scope)
        except Exception as error:  # noqa: BLE001 - whatever the cache does, the request goes on
            trace.notes.append(f"cache lookup failed: {type(error).__name__}: {error}")
            hit = None
        trace.add("lookup", start, trace.elapsed - start, kind=hit.kind if hit is not None else "miss")
        return hit

    async def store(
        self,
        messages: Sequence[Message],
        params: Mapping[str, Any],
        limits: Limits,
        completion: Completion,
        trace: Trace,
    ) -> None:
        """Stores a complete, successful answer; a failure is noted in the trace."""
        if completion.finish_reason != COMPLETE or completion.tool_calls or not completion.text:
            return
        response = {
            "text": completion.text,
            "finish_reason": completion.finish_reason,
            "model": completion.model,
            "tier": completion.tier,
            "usage": [completion.usage.prompt_tokens, completion.usage.completion_tokens],
        }
        with trace.span("store"):
            try:
                await self._call(self._cache.store, _request(messages, params), response, scope=limits.scope)
            except Exception as error:  # noqa: BLE001 - the answer is there; losing the entry costs nobody anything
                trace.notes.append(f"cache store failed: {type(error).__name__}: {error}")

    async def _call(self, method: Any, *args: Any, **kwargs: Any) -> Any:
        if self._awaitable:
            return await method(*args, **kwargs)
        return await asyncio.to_thread(method, *args, **kwargs)


def _request(messages: Sequence[Message], params: Mapping[str, Any]) -> Any:
    """Everything that shapes the answer: parameters belong to the scope, so the cache is given the whole body."""
    return {**params, "messages": list(messages)} if params else list(messages)


def replay(hit: Any) -> tuple[Chunk, str]:
    """Returns a hit's answer as one piece, and the model that gave it."""
    response = hit.response
    if isinstance(response, str):
        return Chunk(response, finish_reason=COMPLETE, usage=Usage()), "cache"
    prompt_tokens, completion_tokens = response["usage"]
    chunk = Chunk(response["text"], response["finish_reason"], Usage(prompt_tokens, completion_tokens))
    return chunk, response["model"]
