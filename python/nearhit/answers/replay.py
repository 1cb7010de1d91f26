"""An answer out of the cache: as one body, or as the events of a stream."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from nearhit._types import Chunk
from nearhit.tiers.collect import Collector
from nearhit.tiers.wire import DONE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from nearhit.answers.admission import Call

STREAM: Final = "nearhit.stream"
"""The `object` of a recorded stream; a body that came whole is kept as the server sent it."""


class Answer:
    """What the cache keeps of one answer: a server's body, or the events of its stream.

    Args:
        call: The API that gave it.
        stored: The body; or {"object": "nearhit.stream", "call": ..., "events": [...]}.

    Example:
        >>> message = {"role": "assistant", "content": "Paris."}
        >>> choice = {"index": 0, "message": message, "finish_reason": "stop"}
        >>> answer = Answer("chat", {"object": "chat.completion", "model": "m", "choices": [choice]})
        >>> [event["choices"][0]["delta"] for event in answer.events()]
        [{'role': 'assistant', 'content': ''}, {'content': 'Paris.'}, {}]
    """

    __slots__ = ("_call", "stored")

    def __init__(self, call: Call, stored: Any) -> None:
        self._call = call
        self.stored = stored

    @property
    def streamed(self) -> bool:
        """Whether it came as a stream."""
        return isinstance(self.stored, dict) and self.stored.get("object") == STREAM

    def body(self) -> dict[str, Any] | None:
        """The answer as it comes without streaming; None if that cannot be told from what is kept."""
        if not isinstance(self.stored, dict):
            return None
        if not self.streamed:
            return self.stored
        events: list[dict[str, Any]] = self.stored["events"]
        if self._call == "responses":
            last = events[-1] if events else {}
            return last.get("response") if last.get("type") == "response.completed" else None
        if self._call == "completions":
            return _joined_completion(events)
        collector = Collector()
        for event in events:
            collector.add(Chunk(raw=event))
        body = collector.body()
        return None if body is None else dict(body)

    def events(self, *, usage: bool = False) -> list[dict[str, Any]] | None:
        """The answer as the events of a stream; None if it came whole and cannot be taken apart.

        Args:
            usage: Whether the stream shall end with the token counts (`stream_options.include_usage`).
        """
        if not isinstance(self.stored, dict):
            return None
        if self.streamed:
            events: list[dict[str, Any]] = self.stored["events"]
            if self._call == "responses":
                return events
            counted = [event for event in events if _counts_only(event)]
            if usage and not counted and not any(event.get("usage") for event in events):
                return None
            return events if usage else [event for event in events if not _counts_only(event)]
        return _taken_apart(self.stored, usage=usage) if self._call == "chat" else None

    def sse(self, *, usage: bool = False) -> bytes | None:
        """The stream's bytes, as a server sends them; None as for `events`."""
        events = self.events(usage=usage)
        if events is None:
            return None
        named = self._call == "responses"
        sent = b"".join(event_bytes(event, name=event.get("type") if named else None) for event in events)
        return sent if named else sent + event_bytes(DONE)


def event_bytes(value: Mapping[str, Any] | str, *, name: str | None = None) -> bytes:
    r"""One server-sent event.

    Args:
        value: JSON, or a text as it stands.
        name: The event's type, where it has one.

    Example:
        >>> event_bytes("[DONE]")
        b'data: [DONE]\n\n'
    """
    data = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {data}\n\n".encode("utf-8", "surrogatepass")


def error_event(message: str) -> bytes:
    """The event by which a server tells of an error after its stream has begun."""
    return event_bytes({"error": {"message": message, "type": "server_error", "code": None}})


def _counts_only(event: Mapping[str, Any]) -> bool:
    return event.get("choices") == [] and event.get("usage") is not None


def _taken_apart(body: Mapping[str, Any], *, usage: bool) -> list[dict[str, Any]] | None:
    """A whole chat completion as the events that a server would have streamed."""
    choices = body.get("choices")
    if not isinstance(choices, list):
        return None
    left_out = ("choices", "usage", "object")
    head = {"object": "chat.completion.chunk", **{key: value for key, value in body.items() if key not in left_out}}
    events = [{**head, "choices": [piece]} for choice in choices for piece in _pieces(choice)]
    if usage:
        if body.get("usage") is None:
            return None
        events.append({**head, "choices": [], "usage": body["usage"]})
    return events


def _pieces(choice: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    message = dict(choice.get("message") or {})
    index = choice.get("index", 0)
    delta = {key: value for key, value in message.items() if key not in ("role", "content") and value is not None}
    if delta.get("tool_calls"):
        delta["tool_calls"] = [{"index": place, **call} for place, call in enumerate(delta["tool_calls"])]
    if message.get("content") is not None:
        delta = {"content": message["content"], **delta}
    opening = {"role": message.get("role", "assistant"), "content": "" if "content" in delta else None}
    yield {"index": index, "delta": opening, "finish_reason": None}
    logprobs = {"logprobs": choice["logprobs"]} if choice.get("logprobs") else {}
    yield {"index": index, "delta": delta, **logprobs, "finish_reason": None}
    yield {"index": index, "delta": {}, "finish_reason": choice.get("finish_reason")}


def _joined_completion(events: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The events of a legacy completion as one body."""
    body: dict[str, Any] = {}
    choices: dict[int, dict[str, Any]] = {}
    for event in events:
        body.update({key: value for key, value in event.items() if key != "choices" and value is not None})
        for piece in event.get("choices") or ():
            index = piece.get("index", 0)
            choice = choices.setdefault(index, {"index": index, "text": "", "finish_reason": None, "logprobs": None})
            choice["text"] += piece.get("text") or ""
            choice["finish_reason"] = piece.get("finish_reason") or choice["finish_reason"]
            if piece.get("logprobs"):
                known = choice["logprobs"] = choice["logprobs"] or {}
                for key, values in piece["logprobs"].items():
                    known[key] = [*known.get(key, ()), *(values or ())]
    return {**body, "choices": [choices[index] for index in sorted(choices)]} if choices else None
