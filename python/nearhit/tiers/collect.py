"""Putting the pieces of a streamed answer together again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nearhit._types import Completion, Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

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
        self._body: dict[str, Any] | None = None
        self._choices: dict[int, dict[str, Any]] = {}
        self.finish_reason: str | None = None
        self.usage: Usage | None = None

    @property
    def text(self) -> str:
        """The text so far."""
        return "".join(self._texts)

    @property
    def tool_calls(self) -> tuple[Mapping[str, Any], ...]:
        """The tool calls so far."""
        return tuple(_without_index(_plain(self._calls[index])) for index in sorted(self._calls))

    def add(self, chunk: Chunk) -> None:
        """Adds the next piece."""
        if chunk.text:
            self._texts.append(chunk.text)
        if chunk.reasoning:
            self._reasoning.append(chunk.reasoning)
        if chunk.logprobs:
            self._logprobs.extend(chunk.logprobs)
        for call in chunk.tool_calls:
            index = call.get("index")
            if index is None:  # whole calls, as unstreamed answers have them
                index = len(self._calls)
            _merge(self._calls.setdefault(index, {}), call)
        if chunk.finish_reason is not None:
            self.finish_reason = chunk.finish_reason
        if chunk.usage is not None:
            self.usage = chunk.usage
        if chunk.raw is not None:
            self._add_raw(chunk.raw)

    def _add_raw(self, event: Mapping[str, Any]) -> None:
        body = self._body
        if body is None:
            body = self._body = {}
        for key, value in event.items():
            if value is not None and key != "choices":
                body[key] = value
        choices = event.get("choices")
        if isinstance(choices, list):
            body.setdefault("choices", [])  # filled in at the end
            for choice in choices:
                if isinstance(choice, dict):
                    self._add_choice(choice)

    def _add_choice(self, choice: dict[str, Any]) -> None:
        index = choice.get("index")
        if not isinstance(index, int):
            index = 0
        slot = self._choices.get(index)
        if slot is None:
            slot = self._choices[index] = {"index": index}
        for key, value in choice.items():
            if key == "delta" and isinstance(value, dict):
                _merge(slot.setdefault("message", {}), value)
            elif key == "logprobs" and isinstance(value, dict):
                _merge(slot.setdefault(key, {}), value)
            elif value is not None or key not in slot:
                slot[key] = value

    def body(self) -> Mapping[str, Any] | None:
        """Returns the server's answer as it would have come without streaming; None if there was no server."""
        if self._body is None:
            return None
        body = dict(self._body)
        if "choices" not in body:
            return body
        body["choices"] = [_plain(self._choices[index]) for index in sorted(self._choices)]
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
            tool_calls=self.tool_calls,
            raw=self.body(),
            reasoning="".join(self._reasoning),
            logprobs=tuple(self._logprobs),
        )


class _Text(list[str]):
    """The pieces of a text that is still growing; joined once, at the end."""


def _without_index(call: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in call.items() if key != "index"}


def _merge(into: dict[str, Any], delta: Mapping[str, Any]) -> None:
    """Adds a delta: texts are concatenated, lists joined by their elements' index, everything else replaced."""
    for key, value in delta.items():
        if isinstance(value, str) and key not in _REPLACED:
            known = into.get(key)
            if isinstance(known, _Text):
                known.append(value)
            else:
                into[key] = _Text((value,))
        elif value is None:
            into.setdefault(key, None)
        elif isinstance(value, dict):
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
        index = element.get("index") if isinstance(element, dict) else None
        known = next((e for e in into if index is not None and isinstance(e, dict) and e.get("index") == index), None)
        if known is not None:
            _merge(known, element)
        elif isinstance(element, dict):
            fresh: dict[str, Any] = {}
            _merge(fresh, element)
            into.append(fresh)
        else:
            into.append(element)


def _plain(value: Any) -> Any:
    """Returns a copy with every growing text joined."""
    if isinstance(value, _Text):
        return "".join(value)
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    return value
