"""Requests of the Responses API as chats, for tiers that know nothing else, and a chat's answer as theirs."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Any, Final

from nearhit.answers import event_bytes
from nearhit.answers.apart import of_item
from nearhit.tiers.collect import Collector

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from nearhit._types import Chunk, Completion, Usage

_SAME: Final = ("temperature", "top_p", "parallel_tool_calls")
_BETWEEN: Final = frozenset({
    "input", "instructions", "max_output_tokens", "metadata", "model", "prompt_cache_key", "prompt_cache_retention",
    "reasoning", "safety_identifier", "service_tier", "store", "stream", "stream_options", "text", "tool_choice",
    "tools", "user", *_SAME,
})  # fmt: skip
"""What a request may state and still be a chat."""


class UntranslatableError(Exception):
    """A request that is no chat; the message says why."""


def as_chat(request: Mapping[str, Any]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The messages and parameters of a chat that asks for the same.

    Raises:
        UntranslatableError: There is none.

    Example:
        >>> as_chat({"model": "m", "instructions": "Be brief.", "input": "Hi", "store": False, "max_output_tokens": 9})
        ([{'role': 'system', 'content': 'Be brief.'}, {'role': 'user', 'content': 'Hi'}], {'max_tokens': 9})
    """
    if request.get("store") is not False:
        raise UntranslatableError(
            "store: the answer may be referred to later, by an id that its server must know; say store=False"
        )
    for name, value in request.items():
        if value is not None and name not in _BETWEEN:
            raise UntranslatableError(f"{name}: a chat has no such thing")
    messages: list[dict[str, Any]] = []
    if request.get("instructions"):
        messages.append({"role": "system", "content": request["instructions"]})
    given = request.get("input")
    if isinstance(given, str):
        messages.append({"role": "user", "content": given})
    else:
        for item in given or ():
            _add(messages, item)
    return messages, _parameters(request)


def _add(messages: list[dict[str, Any]], item: Any) -> None:
    """Adds what one item of the input is in a chat."""
    kind = item.get("type", "message") if isinstance(item, dict) else None
    if kind == "message":
        role = "system" if item.get("role") == "developer" else item.get("role")
        messages.append({"role": role, "content": _content(item.get("content"))})
    elif kind == "function_call":
        function = {"name": item["name"], "arguments": item["arguments"]}
        call = {"id": item["call_id"], "type": "function", "function": function}
        if not (messages and messages[-1].get("tool_calls")):
            messages.append({"role": "assistant", "content": None, "tool_calls": []})
        messages[-1]["tool_calls"].append(call)
    elif kind == "function_call_output" and isinstance(item.get("output"), str):
        messages.append({"role": "tool", "tool_call_id": item["call_id"], "content": item["output"]})
    else:
        raise UntranslatableError(f"input: a chat has no item of type {kind!r}")


def _content(content: Any) -> Any:
    if isinstance(content, str):
        return content
    parts: list[dict[str, Any]] = []
    for part in content or ():
        kind = part.get("type") if isinstance(part, dict) else None
        if kind in ("input_text", "output_text"):
            parts.append({"type": "text", "text": part["text"]})
        elif kind == "input_image" and part.get("image_url"):
            detail = {"detail": part["detail"]} if part.get("detail") else {}
            parts.append({"type": "image_url", "image_url": {"url": part["image_url"], **detail}})
        else:
            raise UntranslatableError(f"input: a chat has no content of type {kind!r}")
    if len(parts) == 1 and parts[0]["type"] == "text":
        return parts[0]["text"]
    return parts


def _parameters(request: Mapping[str, Any]) -> dict[str, Any]:
    params = {name: request[name] for name in _SAME if request.get(name) is not None}
    if request.get("max_output_tokens") is not None:
        params["max_tokens"] = request["max_output_tokens"]
    if (request.get("reasoning") or {}).get("effort") is not None:
        params["reasoning_effort"] = request["reasoning"]["effort"]
    wanted = (request.get("text") or {}).get("format") or {}
    if wanted.get("type") == "json_schema":
        schema = {name: value for name, value in wanted.items() if name != "type"}
        params["response_format"] = {"type": "json_schema", "json_schema": schema}
    elif wanted.get("type", "text") != "text":
        params["response_format"] = wanted
    for tool in request.get("tools") or ():
        if tool.get("type") != "function":
            raise UntranslatableError(f"tools: {tool.get('type')!r} is a tool of the server's own")
        function = {name: value for name, value in tool.items() if name != "type" and value is not None}
        params.setdefault("tools", []).append({"type": "function", "function": function})
    choice = request.get("tool_choice")
    if isinstance(choice, dict):
        if choice.get("type") != "function":
            raise UntranslatableError(f"tool_choice: {choice.get('type')!r} is of the server's own")
        choice = {"type": "function", "function": {"name": choice.get("name")}}
    if choice is not None and "tools" in params:
        params["tool_choice"] = choice
    return params


class ResponseWriter:
    """Writes a tier's answer as a response, or its pieces as the events of one.

    Args:
        request: The request that is answered.
    """

    def __init__(self, request: Mapping[str, Any]) -> None:
        echoed = ("instructions", "max_output_tokens", "metadata", "reasoning", "temperature", "text", "top_p")
        self._head = {
            "id": f"resp_{uuid.uuid4().hex}",
            "object": "response",
            "created_at": int(time.time()),
            "model": request.get("model"),
            **{name: request[name] for name in echoed if request.get(name) is not None},
            "parallel_tool_calls": request.get("parallel_tool_calls", True),
            "tool_choice": request.get("tool_choice") or "auto",
            "tools": list(request.get("tools") or ()),
            "store": False,
        }
        self._message = f"msg_{uuid.uuid4().hex}"
        self._collector = Collector()
        self._number = 0
        self._begun = False

    def body(self, completion: Completion) -> dict[str, Any]:
        """A whole answer."""
        calls = [_as_item(call) for call in completion.tool_calls]
        output = ([self._said(completion.text)] if completion.text or not calls else []) + calls
        return self._whole(output, completion.finish_reason, completion.usage)

    def event(self, chunk: Chunk) -> bytes:
        """The events of one piece."""
        self._collector.add(chunk)
        sent = b""
        if self._number == 0:
            yet = {**self._head, "status": "in_progress", "output": [], "usage": None}
            sent += self._write({"type": "response.created", "response": yet})
            sent += self._write({"type": "response.in_progress", "response": yet})
        if chunk.text:
            sent += b"" if self._begun else self._write(*self._opening())
            self._begun = True
            where = {"item_id": self._message, "output_index": 0, "content_index": 0}
            delta = {"type": "response.output_text.delta", **where, "delta": chunk.text, "logprobs": []}
            sent += self._write(delta)
        return sent

    def end(self) -> bytes:
        """The events at the end."""
        collector, sent, output = self._collector, b"", []
        if self._begun:
            said = self._said(collector.text)
            sent += self._write(*[each for each in of_item(said, 0) if each["type"].endswith(".done")])
            output.append(said)
        for call in collector.tool_calls:
            item = _as_item(call)
            sent += self._write(*of_item(item, len(output)))
            output.append(item)
        whole = self._whole(output, collector.finish_reason, collector.usage)
        return sent + self._write({"type": f"response.{whole['status']}", "response": whole})

    def _opening(self) -> Iterator[dict[str, Any]]:
        return (each for each in of_item(self._said(""), 0) if each["type"].endswith(".added"))

    def _write(self, *events: dict[str, Any]) -> bytes:
        sent = b""
        for each in events:
            sent += event_bytes({**each, "sequence_number": self._number}, name=each["type"])
            self._number += 1
        return sent

    def _said(self, text: str) -> dict[str, Any]:
        part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
        head = {"type": "message", "id": self._message, "role": "assistant", "status": "completed"}
        return {**head, "content": [part]}

    def _whole(self, output: list[dict[str, Any]], finish: str | None, usage: Usage | None) -> dict[str, Any]:
        cut = {"length": "max_output_tokens", "content_filter": "content_filter"}.get(finish or "")
        return {
            **self._head,
            "status": "completed" if finish and cut is None else "incomplete",
            "incomplete_details": None if cut is None else {"reason": cut},
            "error": None,
            "output": output,
            "usage": None if usage is None else _counted(usage),
        }


def _as_item(call: Mapping[str, Any]) -> dict[str, Any]:
    function = call.get("function") or {}
    return {
        "type": "function_call",
        "id": f"fc_{uuid.uuid4().hex}",
        "call_id": call.get("id") or f"call_{uuid.uuid4().hex}",
        "name": function.get("name", ""),
        "arguments": function.get("arguments", ""),
        "status": "completed",
    }


def _counted(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_prompt_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.total_tokens,
    }
