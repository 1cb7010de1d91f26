"""Answers and faults of OpenAI-compatible servers, as handlers for `tests.support.http_server.Server`."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from nearhit import Error

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tests.support.http_server import Handler, Reply, Request

    from nearhit._types import Usage
    from nearhit.tiers import Tier

USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
WORDS = ("Hello", ", ", "world")


def event(value: Any, *, newline: str = "\n") -> bytes:
    """One server-sent event: JSON, or a text as it stands."""
    data = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f"data: {data}{newline}{newline}".encode()


def piece(delta: dict[str, Any], *, finish: str | None = None, **more: Any) -> dict[str, Any]:
    """A chunk of a streamed chat completion."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "test-model"}
    return {**head, "choices": [choice], **more}


def pieces(words: Iterable[str] = WORDS, *, finish: str = "stop", usage: bool = True) -> list[dict[str, Any] | str]:
    """A whole stream the way OpenAI sends it: role first, content, finish reason, usage alone, [DONE]."""
    found: list[dict[str, Any] | str] = [piece({"role": "assistant", "content": ""})]
    found += [piece({"content": word}) for word in words]
    found.append(piece({}, finish=finish))
    if usage:
        found.append({**piece({}), "choices": [], "usage": USAGE})
    return [*found, "[DONE]"]


def body(text: str = "Hello, world", *, finish: str | None = "stop", **message: Any) -> dict[str, Any]:
    """A whole chat completion."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text, **message}, "finish_reason": finish}
    head = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "test-model"}
    return {**head, "choices": [choice], "usage": USAGE}


def streams(
    events: Sequence[dict[str, Any] | str] | None = None, *, gap: float = 0.0, first: float = 0.0, newline: str = "\n"
) -> Handler:
    """Answers with a stream: `first` seconds before the first content, `gap` before each further event."""
    sent = pieces() if events is None else list(events)

    async def handle(request: Request, reply: Reply) -> None:
        await reply.start_stream()
        for position, value in enumerate(sent):
            await asyncio.sleep(first if position == 1 else gap)
            await reply.part(event(value, newline=newline))
        await reply.end_stream()

    return handle


def sends(*parts: bytes, chunked: bool = True, end: bool = True) -> Handler:
    """Answers with a stream of exactly these bytes, one network write each; without `end` the connection is cut."""

    async def handle(request: Request, reply: Reply) -> None:
        await reply.start_stream(chunked=chunked)
        for part in parts:
            await reply.part(part)
            await asyncio.sleep(0.002)
        await (reply.end_stream() if end else reply.cut())

    return handle


def answers(value: Any = None, *, status: int = 200, headers: dict[str, str] | None = None) -> Handler:
    """Answers with one body: JSON, or bytes as they stand."""
    content = value if isinstance(value, bytes) else json.dumps(body() if value is None else value).encode()

    async def handle(request: Request, reply: Reply) -> None:
        await reply.body(status, content, headers)

    return handle


def chats() -> Handler:
    """Answers as asked: a stream, or one body."""
    stream, whole = streams(), answers()

    async def handle(request: Request, reply: Reply) -> None:
        await (stream if request.json.get("stream") else whole)(request, reply)

    return handle


def response_body(text: str = "Hello, world", *, status: str = "completed") -> dict[str, Any]:
    """A whole answer of the Responses API."""
    part = {"type": "output_text", "text": text, "annotations": []}
    message = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [part]}
    usage = {
        "input_tokens": 7,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 3,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 10,
    }
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "model": "test-model",
        "status": status,
        "output": [message],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": usage,
    }


def response_events(text: str = "Hello, world", *, status: str = "completed") -> bytes:
    """The stream of an answer of the Responses API: named events, no [DONE]."""
    whole = response_body(text, status=status)
    where = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    found: list[dict[str, Any]] = [
        {"type": "response.created", "response": {**whole, "status": "in_progress", "output": []}},
        {"type": "response.output_text.delta", **where, "delta": text, "logprobs": []},
        {"type": "response.output_text.done", **where, "text": text, "logprobs": []},
        {"type": f"response.{status}", "response": whole},
    ]
    return b"".join(
        f"event: {value['type']}\n".encode() + event({**value, "sequence_number": number})
        for number, value in enumerate(found)
    )


def completion_body(text: str = "Hello, world") -> dict[str, Any]:
    """A whole answer of the legacy completions API."""
    choice = {"index": 0, "text": text, "finish_reason": "stop", "logprobs": None}
    return {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "test-model", "choices": [choice]}


def embedding_body(vector: Sequence[float] = (0.5, -0.25)) -> dict[str, Any]:
    """An answer of the embeddings API, as floats."""
    data = [{"object": "embedding", "index": 0, "embedding": list(vector)}]
    usage = {"prompt_tokens": 2, "total_tokens": 2}
    return {"object": "list", "data": data, "model": "test-model", "usage": usage}


def serves_all() -> Handler:
    """Answers every OpenAI call that can be cached, whole or as a stream, and anything else with an empty list."""

    async def handle(request: Request, reply: Reply) -> None:
        path = request.path.removeprefix("/v1")
        stream = bool(request.body) and bool(request.json.get("stream"))
        answer: Handler
        if path == "/chat/completions":
            options = request.json.get("stream_options") or {}
            answer = streams(pieces(usage=bool(options.get("include_usage")))) if stream else answers()
        elif path == "/responses":
            answer = sends(response_events()) if stream else answers(response_body())
        elif path == "/completions":
            sent = event(completion_body()) + event("[DONE]")
            answer = sends(sent) if stream else answers(completion_body())
        elif path == "/embeddings":
            answer = answers(embedding_body())
        else:
            answer = answers({"object": "list", "data": []})
        await answer(request, reply)

    return handle


def rate_limits(retry_after: str | None = "2") -> Handler:
    """429, with the header the caller wants."""
    headers = {} if retry_after is None else {"retry-after": retry_after}
    return answers(
        {"error": {"message": "slow down", "type": "requests", "code": "rate_limit"}}, status=429, headers=headers
    )


def fails(status: int = 503, message: str = "overloaded") -> Handler:
    """An error status with OpenAI's error body."""
    return answers({"error": {"message": message, "type": "server_error", "code": None}}, status=status)


def stalls(after: int = 2) -> Handler:
    """Streams the first `after` events and then says nothing until the client goes away."""

    async def handle(request: Request, reply: Reply) -> None:
        await reply.start_stream()
        for value in pieces()[:after]:
            await reply.part(event(value))
        await reply.client_gone()

    return handle


def hangs() -> Handler:
    """Accepts the request and never answers."""

    async def handle(request: Request, reply: Reply) -> None:
        await reply.client_gone()

    return handle


def cuts(after: int = 2, *, chunked: bool = True) -> Handler:
    """Streams the first `after` events and drops the connection."""
    return sends(*(event(value) for value in pieces()[:after]), chunked=chunked, end=False)


def refused_port() -> int:
    """A port where nobody listens."""
    import socket  # noqa: PLC0415 - only here

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def serves(tier: Tier) -> Handler:
    """Answers as an OpenAI-compatible server in front of a real tier: JSON and SSE, errors as error bodies."""

    async def handle(request: Request, reply: Reply) -> None:
        params = request.json
        messages, model = params.pop("messages"), params.pop("model")
        streaming = params.pop("stream", False)
        params.pop("stream_options", None)
        head = {"id": "chatcmpl-1", "created": 1, "model": model}
        try:
            if not streaming:
                answer = await tier.acomplete(messages, **params)
                whole = body(answer.text, finish=answer.finish_reason)
                await reply.body(200, json.dumps({**whole, **head, "usage": _usage(answer.usage)}).encode())
                return
            async with tier.astream(messages, **params) as stream:
                first = await anext(stream)
                await reply.start_stream()
                await reply.part(event({**piece({"role": "assistant", "content": first.text}), **head}))
                async for chunk in stream:
                    await reply.part(event({**piece({"content": chunk.text}, finish=chunk.finish_reason), **head}))
            await reply.part(event({**piece({}), **head, "choices": [], "usage": _usage(stream.completion().usage)}))
            await reply.part(event("[DONE]"))
            await reply.end_stream()
        except Error as error:
            await reply.body(400, json.dumps({"error": {"message": str(error), "type": type(error).__name__}}).encode())

    return handle


def _usage(usage: Usage) -> dict[str, int]:
    counts = {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens}
    return {**counts, "total_tokens": usage.total_tokens}
