"""Which requests a cache may answer, and which answers it may keep."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

Call: TypeAlias = Literal["chat", "completions", "responses", "embeddings"]
"""The OpenAI call that a request makes: /chat/completions, /completions, /responses or /embeddings."""

_LIMITS: Final = ("max_tokens", "max_completion_tokens")
_ENDED: Final = frozenset({"stop", "tool_calls", "function_call"})


def bypass_reason(call: Call, request: Mapping[str, Any]) -> str | None:
    """Why an answer to this request depends on more than the request, so that no cache may give it; else None.

    Args:
        call: Which API it is sent to.
        request: Its body.
    """
    reason = None
    if call == "chat":
        if request.get("web_search_options") is not None:
            reason = "web_search_options: the answer depends on the web"
        elif "audio" in (request.get("modalities") or ()):
            reason = "audio: the answer's audio ends with its expiry on the server"
    elif call == "responses":
        if request.get("background"):
            reason = "background: the answer is fetched later"
        elif request.get("conversation") is not None:
            reason = "conversation: the answer depends on the state that the server keeps"
        elif request.get("prompt") is not None:
            reason = "prompt: the template is kept by the server"
        elif request.get("input") is None:
            reason = "input: there is none"
    return reason


def is_complete(call: Call, body: Mapping[str, Any], request: Mapping[str, Any]) -> bool:
    """Whether an answer is whole, successful and all that its request asked for.

    An answer cut by the length limit is, where the request itself set the limit: the limit belongs to what must match
    exactly, so that only requests which would be cut at the same place are answered with it. A refusal, or an answer
    that a content filter touched, is not kept.

    Args:
        call: Which API gave it.
        body: The answer, as it comes without streaming.
        request: The request's body.
    """
    if body.get("error"):
        return False
    if call == "responses":
        return body.get("status") == "completed" and bool(body.get("output")) and not _refused(body["output"])
    if call == "embeddings":
        return bool(body.get("data"))
    choices = body.get("choices")
    if not isinstance(choices, list) or not choices or len(choices) < (request.get("n") or 1):
        return False
    ended = _ENDED | {"length"} if any(request.get(name) is not None for name in _LIMITS) else _ENDED
    return all(isinstance(choice, dict) and _is_whole(call, choice, ended) for choice in choices)


def _is_whole(call: Call, choice: Mapping[str, Any], ended: frozenset[str]) -> bool:
    if choice.get("finish_reason") not in ended:
        return False
    if call == "completions":
        return bool(choice.get("text"))
    message = choice.get("message")
    if not isinstance(message, dict) or message.get("refusal"):
        return False
    return bool(message.get("content") or message.get("tool_calls") or message.get("function_call"))


def _refused(output: Any) -> bool:
    return any(
        isinstance(part, dict) and part.get("type") == "refusal"
        for item in output
        if isinstance(item, dict)
        for part in item.get("content") or ()
    )
