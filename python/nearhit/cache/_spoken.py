"""What an answer says, however it was stored: two answers of one text differ in ids, times and token counts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_STREAM = b": nearhit "  # how a recorded stream begins


def spoken(answer: Any) -> Any:
    """The text of an answer: of a router's, of an OpenAI body's or of a recorded stream's; any other value as it is.

    An answer that calls a tool, or has several choices, is more than its text, and is returned as it is.
    """
    if isinstance(answer, bytes) and answer.startswith(_STREAM):
        text = "".join(_deltas(answer))
        return text or answer
    if not isinstance(answer, Mapping):
        return answer
    if isinstance(answer.get("text"), str):
        return answer["text"]
    if "choices" in answer:
        return _choice(answer)
    if "output" in answer:
        return _output(answer)
    return answer


def _choice(body: Mapping[str, Any]) -> Any:
    try:
        (choice,) = body["choices"]
        message = choice.get("message") or {"content": choice["text"]}
        content = message["content"]
    except (KeyError, TypeError, ValueError, AttributeError):
        return body
    return content if isinstance(content, str) and not message.get("tool_calls") else body


def _output(body: Mapping[str, Any]) -> Any:
    try:
        parts = [part for item in body["output"] if item["type"] == "message" for part in item["content"]]
        calls = any(item["type"].endswith("_call") for item in body["output"])
        return body if calls or not parts else "".join(part["text"] for part in parts)
    except (KeyError, TypeError, AttributeError):
        return body


def _deltas(stream: bytes) -> Iterator[str]:
    for line in stream.splitlines():
        if not line.startswith(b"data: "):
            continue
        try:
            event = json.loads(line[6:])
        except ValueError:
            continue
        if event.get("type") == "response.output_text.delta":
            yield event["delta"]
        for choice in event.get("choices") or ():
            piece = (choice.get("delta") or {}).get("content") or choice.get("text")
            if isinstance(piece, str):
                yield piece
