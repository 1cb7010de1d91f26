"""Putting the pieces of a streamed answer together again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nearhit._types import Completion, Usage

if TYPE_CHECKING:
    from nearhit._types import Chunk, Timings

_REPLACED = frozenset({"id", "type", "index", "role", "name", "finish_reason"})
"""Keys whose text is said once, or again in full, and is therefore never concatenated."""


class Collector:
    """Gathers the pieces of one answer.

    Example:
        >>> from nearhit._types import Chunk
        >>> collector = Collector()
        >>> for word in ("Hello", ", ", "world"):
        ...     collector.add(Chunk(word))
        >>> collector.text
        'Hello, world'
    """

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._reasoning: list[str] = []
        self._logprobs: list[float] = []
        self._calls: dict[int, dict[str, Any]] = {}
        self._body: Mapping[str, Any] | None = None
        self._choices: dict[int, dict[str, Any]] = {}
        self.finish_reason: str | None = None
        self.usage: Usage | None = None

    @property
    def text(self) -> str:
        """The text so far."""
        return "".join(self._texts)

    def add(self, chunk: Chunk) -> None:
        """Adds the next piece."""
        if chunk.text:
            self._texts.append(chunk.text)
        if chunk.reasoning:
            self._reasoning.append(chunk.reasoning)
        if chunk.logprobs:
            self._logprobs.extend(chunk.logprobs)
        for call in chunk.tool_calls:
            index = call.get("index", len(self._calls))
            _merge(self._calls.setdefault(index, {}), call)
        if chunk.finish_reason is not None:
            self.finish_reason = chunk.finish_reason
        if chunk.usage is not None:
            self.usage = chunk.usage
        if chunk.raw is not None:
            self._add_raw(chunk.raw)

    def _add_raw(self, event: Mapping[str, Any]) -> None:
        said = {key: value for key, value in event.items() if value is not None and key != "choices"}
        self._body = {**(self._body or {}), **said}
        for choice in event.get("choices") or ():
            if not isinstance(choice, Mapping):
                continue
            slot = self._choices.setdefault(choice.get("index", 0), {"index": choice.get("index", 0)})
            for key, value in choice.items():
                if key == "delta" and isinstance(value, Mapping):
                    _merge(slot.setdefault("message", {}), value)
                elif isinstance(value, Mapping) and key != "message":
                    _merge(slot.setdefault(key, {}), value)
                elif value is not None or key not in slot:
                    slot[key] = value

    def body(self) -> Mapping[str, Any] | None:
        """Returns the server's answer as it would have come without streaming; None if there was no server."""
        if self._body is None:
            return None
        body = {**self._body, "choices": [self._choices[index] for index in sorted(self._choices)]}
        if body.get("object") == "chat.completion.chunk":
            body["object"] = "chat.completion"
            for choice in body["choices"]:
                message = choice.setdefault("message", {})
                message.setdefault("role", "assistant")
                message.setdefault("content", None)
                if "tool_calls" in message:
                    message["tool_calls"] = [_without_index(call) for call in message["tool_calls"]]
        return body

    def completion(self, *, tier: str, model: str, timings: Timings) -> Completion:
        """Returns the whole answer."""
        return Completion(
            text=self.text,
            finish_reason=self.finish_reason,
            usage=self.usage or Usage(),
            timings=timings,
            tier=tier,
            model=model,
            tool_calls=tuple(_without_index(self._calls[index]) for index in sorted(self._calls)),
            raw=self.body(),
            reasoning="".join(self._reasoning),
            logprobs=tuple(self._logprobs),
        )


def _without_index(call: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in call.items() if key != "index"}


def _merge(into: dict[str, Any], delta: Mapping[str, Any]) -> None:
    """Adds a delta: texts are concatenated, lists joined by their elements' index, everything else replaced."""
    for key, value in delta.items():
        if value is None:
            into.setdefault(key, None)
        elif isinstance(value, str) and key not in _REPLACED:
            into[key] = (into.get(key) or "") + value
        elif isinstance(value, Mapping):
            if not isinstance(into.get(key), dict):
                into[key] = {}
            _merge(into[key], value)
        elif isinstance(value, list):
            if not isinstance(into.get(key), list):
                into[key] = []
            _merge_list(into[key], value)
        else:
            into[key] = value


def _merge_list(into: list[Any], delta: list[Any]) -> None:
    for element in delta:
        index = element.get("index") if isinstance(element, Mapping) else None
        known = next((e for e in into if index is not None and isinstance(e, dict) and e.get("index") == index), None)
        if known is not None:
            _merge(known, element)
        elif isinstance(element, Mapping):
            fresh: dict[str, Any] = {}
            _merge(fresh, element)
            into.append(fresh)
        else:
            into.append(element)
