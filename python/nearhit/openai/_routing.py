"""The router behind a wrapped client: tiers answer in the form of the client's own server."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Any, Final, cast

from nearhit._errors import NoTierError, OptionError
from nearhit.answers import error_event, event_bytes
from nearhit.openai._responses import response_of
from nearhit.openai._translate import ResponseWriter, UntranslatableError, as_chat
from nearhit.router import AsyncRouter, Router
from nearhit.tiers.wire import DONE

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator, Iterable

    from nearhit._types import Chunk, Completion, Usage
    from nearhit.openai._engine import Asked, Engine

_NOT_PASSED_ON: Final = frozenset({
    "messages", "model", "stream", "stream_options",
    "metadata", "prompt_cache_key", "prompt_cache_retention", "safety_identifier", "service_tier", "store", "user",
})  # fmt: skip
"""Parts of a request that are the router's own business, or between the client and its server."""
_TOLD: Final = ("metadata", "safety_identifier", "service_tier", "user")
"""Those of them that rules of metadata may ask for."""


class Routing:
    """Answers chat completions, and responses that are chats in another form, by a router's tiers.

    Args:
        router: A `Router` or `AsyncRouter`.
        engine: Counts and passes over failures.
    """

    def __init__(self, router: Any, engine: Engine) -> None:
        if not isinstance(router, Router | AsyncRouter):
            raise OptionError(
                f"option router={router!r} is not valid: expected a nearhit.Router or nearhit.AsyncRouter"
            )
        self._sync = Router.sharing(router)
        self._async = AsyncRouter.sharing(router)
        self._engine = engine

    def takes(self, asked: Asked) -> bool:
        """Whether a tier may answer a request; the record says why not.

        A request that names its tier is taken in any case, so that no other server is asked.
        """
        if asked.call == "responses":
            try:
                asked.chat = as_chat(asked.request)
            except (UntranslatableError, KeyError, AttributeError, TypeError) as error:
                known = isinstance(error, UntranslatableError)
                asked.info.unrouted = str(error) if known else f"it cannot be read as a chat: {error!r}"
        elif asked.call == "completions":
            asked.info.unrouted = "completions: a text to be continued is no chat"
        elif asked.call == "embeddings":
            asked.info.unrouted = "embeddings: tiers answer chats"
            return False
        return not asked.info.unrouted or asked.controls.get("tier") is not None

    def answer(self, client: Any, asked: Asked, options: Any) -> Any:
        """The HTTP response of a tier; None if no tier could answer and the request goes where it went before.

        Raises:
            openai.APIConnectionError: The one tier that was asked for could not answer.
        """
        try:
            if asked.stream:
                pieces = iter(self._source(asked, "stream", self._sync))
                held = _until_content(pieces)
                parts = _sent(pieces, held, _writer(asked))
                response = response_of(client, options, stream=parts)
                tier = _tier_of(pieces, asked)
            else:
                completion = self._source(asked, "complete", self._sync)
                response = response_of(client, options, body=_body(completion, asked))
                tier = completion.tier
        except Exception as error:  # noqa: BLE001 - whatever the router does, the request goes on
            return self._gave_up(client, asked, options, error)
        return self._answered(asked, tier, response)

    async def answer_async(self, client: Any, asked: Asked, options: Any) -> Any:
        """`answer` for an asynchronous client."""
        try:
            if asked.stream:
                pieces = self._source(asked, "stream", self._async)
                held = await _until_content_async(pieces)
                parts = _sent_async(pieces, held, _writer(asked))
                response = response_of(client, options, stream=parts)
                tier = _tier_of(pieces, asked)
            else:
                completion = await self._source(asked, "complete", self._async)
                response = response_of(client, options, body=_body(completion, asked))
                tier = completion.tier
        except Exception as error:  # noqa: BLE001 - whatever the router does, the request goes on
            return self._gave_up(client, asked, options, error)
        return self._answered(asked, tier, response)

    def _source(self, asked: Asked, method: str, router: Any) -> Any:
        """The router's or the one tier's answer, not waited for yet."""
        if asked.info.unrouted:
            raise NoTierError(f"no tier can answer this request: {asked.info.unrouted}")
        if asked.chat is not None:
            messages, params = asked.chat
        else:
            messages = asked.request["messages"]
            params = {name: value for name, value in asked.request.items() if name not in _NOT_PASSED_ON}
        name = asked.controls.get("tier")
        if name is None:
            deadline = asked.controls.get("deadline")
            about = {name: asked.request[name] for name in _TOLD if name in asked.request}
            return getattr(router, method)(messages, cache=False, deadline=deadline, about=about, **params)
        tier = next((tier for tier in router.tiers if tier.name == name), None)
        if tier is None:
            known = ", ".join(tier.name for tier in router.tiers)
            raise NoTierError(f"the router has no tier {name!r}: it has {known}", tier=name)
        prefix = "a" if isinstance(router, AsyncRouter) else ""
        return getattr(tier, prefix + method)(messages, **params)

    def _answered(self, asked: Asked, tier: str, response: Any) -> Any:
        asked.info.tier = tier
        self._engine.count("routed")
        return response

    def _gave_up(self, client: Any, asked: Asked, options: Any, error: Exception) -> None:
        if asked.controls.get("tier") is not None:
            # Whoever names a tier may have a reason to ask no other server.
            import openai  # noqa: PLC0415 - there is a client, so the package is loaded

            request = response_of(client, options, body={}).request
            raise openai.APIConnectionError(message=str(error), request=request) from error
        self._engine.failed("router", error, asked.info)


class _Writer:
    """Writes a tier's pieces as events of one stream."""

    def __init__(self, asked: Asked) -> None:
        self._usage = asked.usage
        self._head = {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": asked.request.get("model"),
        }
        self._begun = False

    def event(self, chunk: Chunk) -> bytes:
        """The bytes of one piece; none for a piece that the request does not ask for."""
        if chunk.raw is not None:
            unasked = chunk.raw.get("choices") == [] and not self._usage
            return b"" if unasked else event_bytes(chunk.raw)
        delta: dict[str, Any] = {} if self._begun else {"role": "assistant"}
        self._begun = True
        if chunk.text:
            delta["content"] = chunk.text
        if chunk.tool_calls:
            delta["tool_calls"] = [{"index": place, **call} for place, call in enumerate(chunk.tool_calls)]
        choice = {"index": 0, "delta": delta, "finish_reason": chunk.finish_reason}
        sent = event_bytes({**self._head, "choices": [choice]})
        if chunk.usage is not None and self._usage:
            sent += event_bytes({**self._head, "choices": [], "usage": _counted(chunk.usage)})
        return sent

    def end(self) -> bytes:
        """The mark at the end."""
        return event_bytes(DONE)


def _writer(asked: Asked) -> _Writer | ResponseWriter:
    return _Writer(asked) if asked.chat is None else ResponseWriter(asked.request)


def _until_content(pieces: Any) -> list[Chunk]:
    """The first pieces, up to one with content: until then another server may still answer."""
    held = []
    for chunk in pieces:
        held.append(chunk)
        if chunk.has_content:
            break
    return held


async def _until_content_async(pieces: Any) -> list[Chunk]:
    held = []
    async for chunk in pieces:
        held.append(chunk)
        if chunk.has_content:
            break
    return held


def _sent(pieces: Any, held: Iterable[Chunk], writer: _Writer | ResponseWriter) -> Generator[bytes, None, None]:
    try:
        for chunk in held:
            yield writer.event(chunk)
        for chunk in pieces:
            yield writer.event(chunk)
        yield writer.end()
    except Exception as error:  # noqa: BLE001 - told as a server would tell it, so that the client raises its own
        yield error_event(str(error))
    finally:
        pieces.close()


async def _sent_async(
    pieces: Any, held: Iterable[Chunk], writer: _Writer | ResponseWriter
) -> AsyncGenerator[bytes, None]:
    try:
        for chunk in held:
            yield writer.event(chunk)
        async for chunk in pieces:
            yield writer.event(chunk)
        yield writer.end()
    except Exception as error:  # noqa: BLE001 - told as a server would tell it, so that the client raises its own
        yield error_event(str(error))
    finally:
        await pieces.aclose()


def _tier_of(pieces: Any, asked: Asked) -> str:
    trace = getattr(pieces, "trace", None)
    return trace.tier or trace.attempts[-1].tier if trace is not None else str(asked.controls.get("tier"))


def _body(completion: Completion, asked: Asked) -> dict[str, Any]:
    """A tier's answer as a server's body; the server's own, where there was one."""
    if asked.chat is not None:
        return ResponseWriter(asked.request).body(completion)
    if completion.raw is not None and completion.raw.get("choices"):
        return dict(completion.raw)
    message: dict[str, Any] = {"role": "assistant", "content": completion.text or None}
    if completion.tool_calls:
        message["tool_calls"] = [dict(call) for call in completion.tool_calls]
    choice = {"index": 0, "message": message, "finish_reason": completion.finish_reason, "logprobs": None}
    return {
        "id": f"chatcmpl-{uuid.uuid4().hex}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": cast("str", completion.model or asked.request.get("model")),
        "choices": [choice],
        "usage": _counted(completion.usage),
    }


def _counted(usage: Usage) -> dict[str, int]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
    }
