"""An answer out of the cache: as one body, or as the events of a stream."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from nearhit._types import Chunk
from nearhit.answers.apart import can_be_taken_apart, taken_apart
from nearhit.tiers.collect import Collector
from nearhit.tiers.sse import SSEParser
from nearhit.tiers.wire import DONE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nearhit.answers.admission import Call

_HEAD: Final = re.compile(rb": nearhit (\w+) (\d+) ([01])\n\n")


class Answer:
    """What the cache keeps of one answer: a server's body as it sent it, or the bytes of its stream.

    A stream is kept as server-sent events after one comment, which says which API they are of, how many bytes follow
    before the events that hold nothing but token counts, and whether the others hold token counts, too.

    Args:
        call: The API that gave it.
        stored: The body, or the bytes.
        facts: Its "model" and "usage", where they are known without reading it again.

    Example:
        >>> message = {"role": "assistant", "content": "Paris."}
        >>> choice = {"index": 0, "message": message, "finish_reason": "stop"}
        >>> answer = Answer("chat", {"object": "chat.completion", "model": "m", "choices": [choice]})
        >>> [event["choices"][0]["delta"] for event in answer.events()]
        [{'role': 'assistant', 'content': ''}, {'content': 'Paris.'}, {}]
    """

    __slots__ = ("_call", "_facts", "stored")

    def __init__(self, call: Call, stored: Any, facts: Mapping[str, Any] | None = None) -> None:
        self._call = call
        self._facts = facts
        self.stored = stored

    @classmethod
    def of_stream(
        cls, call: Call, events: list[str], counts: list[str], *, counted: bool, facts: Mapping[str, Any] | None = None
    ) -> Answer:
        """An answer out of a stream.

        Args:
            call: The API that gave it.
            events: The events' data, in their order, without those in `counts`.
            counts: Data of the events at the end that hold nothing but token counts.
            counted: Whether one of the other events holds token counts.
            facts: As in the constructor.
        """
        named = call == "responses"
        main = b"".join(event_bytes(data, name=json.loads(data).get("type") if named else None) for data in events)
        head = b": nearhit %b %d %d\n\n" % (call.encode(), len(main), counted)
        return cls(call, head + main + b"".join(map(event_bytes, counts)), facts)

    @property
    def facts(self) -> Mapping[str, Any]:
        """The answer's "model" and "usage", as far as it says them."""
        return self._facts if self._facts is not None else self.body() or {}

    def gives(self, *, stream: bool, usage: bool = False) -> bool:
        """Whether it can be had in a form, told without making it.

        Args:
            stream: Whether as a stream; else as one body.
            usage: Whether with token counts at the end of the stream.
        """
        if isinstance(self.stored, dict):
            return not stream or can_be_taken_apart(self._call, self.stored, usage=usage)
        return self._bytes(usage=stream and usage) is not None

    def body(self) -> dict[str, Any] | None:
        """The answer as it comes without streaming; None if that cannot be told from what is kept."""
        if isinstance(self.stored, dict):
            return self.stored
        events = self._kept(usage=True) or self._kept(usage=False)
        if not events:
            return None
        if self._call == "responses":
            whole: dict[str, Any] | None = events[-1].get("response")
            return whole
        if self._call == "completions":
            return _joined_completion(events)
        collector = Collector()
        for event in events:
            collector.add(Chunk(raw=event))
        body = collector.body()
        return None if body is None else dict(body)

    def events(self, *, usage: bool = False) -> list[dict[str, Any]] | None:
        """The answer as the events of a stream; None if it came whole and has no token counts that are asked for.

        Args:
            usage: Whether the stream shall end with the token counts (`stream_options.include_usage`).
        """
        if isinstance(self.stored, dict):
            return taken_apart(self._call, self.stored, usage=usage)
        return self._kept(usage=usage)

    def sse(self, *, usage: bool = False) -> bytes | None:
        """The stream's bytes, as a server sends them; None as for `events`."""
        end = b"" if self._call == "responses" else event_bytes(DONE)
        if not isinstance(self.stored, dict):
            kept = self._bytes(usage=usage)
            return None if kept is None else kept + end
        events = self.events(usage=usage)
        return None if events is None else b"".join(event_bytes(each, name=each.get("type")) for each in events) + end

    def _bytes(self, *, usage: bool) -> bytes | None:
        if not isinstance(self.stored, bytes):
            return None
        stored: bytes = self.stored
        head = _HEAD.match(stored)
        if head is None or head[1].decode() != self._call:
            return None
        cut = head.end() + int(head[2])
        if usage and cut == len(stored) and head[3] == b"0":
            return None
        return stored[head.end() :] if usage or self._call == "responses" else stored[head.end() : cut]

    def _kept(self, *, usage: bool) -> list[dict[str, Any]] | None:
        kept = self._bytes(usage=usage)
        return None if kept is None else [json.loads(event.data) for event in SSEParser().feed(kept)]


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
    data = data.replace("\n", "\ndata: ")
    return f"{head}data: {data}\n\n".encode("utf-8", "surrogatepass")


def error_event(message: str) -> bytes:
    """The event by which a server tells of an error after its stream has begun."""
    return event_bytes({"error": {"message": message, "type": "server_error", "code": None}})


def counts_only(event: Mapping[str, Any]) -> bool:
    """Whether an event holds nothing but token counts."""
    return event.get("choices") == [] and event.get("usage") is not None


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
