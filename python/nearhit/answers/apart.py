"""A whole answer as the events that a server would have streamed in its place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from nearhit.answers.admission import Call

Event = dict[str, Any]


def taken_apart(call: Call, body: Mapping[str, Any], *, usage: bool) -> list[Event] | None:
    """The events of a stream, or None where a body does not hold what they need.

    Args:
        call: The API that gave it.
        body: The answer, as it comes without streaming.
        usage: Whether the stream shall end with the token counts (`stream_options.include_usage`); those of the
            Responses API always do.

    Example:
        >>> body = {"object": "text_completion", "choices": [{"index": 0, "text": "Hi", "finish_reason": "stop"}]}
        >>> [event["choices"][0]["text"] for event in taken_apart("completions", body, usage=False)]
        ['Hi']
    """
    if call == "responses":
        output = body.get("output")
        known = isinstance(output, list) and all(isinstance(item, dict) for item in output)
        return list(_numbered(_of_response(body))) if known else None
    choices = body.get("choices")
    if call not in _PIECES or not isinstance(choices, list) or (usage and body.get("usage") is None):
        return None
    left_out = ("choices", "usage", "object")
    kind, pieces = _PIECES[call]
    head = {"object": kind, **{key: value for key, value in body.items() if key not in left_out}}
    events = [{**head, "choices": [piece]} for choice in choices for piece in pieces(choice)]
    if usage:
        events.append({**head, "choices": [], "usage": body["usage"]})
    return events


def can_be_taken_apart(call: Call, body: Mapping[str, Any], *, usage: bool) -> bool:
    """Whether `taken_apart` gives events, told without making them."""
    if call == "responses":
        return isinstance(body.get("output"), list)
    return call in _PIECES and not (usage and body.get("usage") is None)


def _of_chat(choice: Mapping[str, Any]) -> Iterator[Event]:
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


def _of_completion(choice: Mapping[str, Any]) -> Iterator[Event]:
    yield {"logprobs": None, **choice}


_PIECES: Final[Mapping[str, tuple[str, Callable[[Mapping[str, Any]], Iterator[Event]]]]] = {
    "chat": ("chat.completion.chunk", _of_chat),
    "completions": ("text_completion", _of_completion),
}


def _numbered(events: Iterator[Event]) -> Iterator[Event]:
    for number, event in enumerate(events):
        yield {**event, "sequence_number": number}


def _of_response(body: Mapping[str, Any]) -> Iterator[Event]:
    yet = {**body, "status": "in_progress", "output": [], "usage": None}
    if "completed_at" in yet:
        yet["completed_at"] = None
    yield {"type": "response.created", "response": yet}
    yield {"type": "response.in_progress", "response": yet}
    for index, item in enumerate(body["output"]):
        yield from of_item(item, index)
    yield {"type": "response.completed", "response": dict(body)}


def of_item(item: Mapping[str, Any], index: int) -> Iterator[Event]:
    """The events of one item of a response's output, without numbers.

    Args:
        item: The whole item.
        index: Its place in the output.
    """
    place = {"item_id": item.get("id") or item.get("call_id") or f"item_{index}", "output_index": index}
    yet, inner = _inside(item, place)
    if "status" in yet:
        yet["status"] = "in_progress"
    yield {"type": "response.output_item.added", "output_index": index, "item": yet}
    yield from inner
    yield {"type": "response.output_item.done", "output_index": index, "item": dict(item)}


def _inside(item: Mapping[str, Any], place: Mapping[str, Any]) -> tuple[Event, Iterator[Event]]:
    """An item as it begins, and the events that fill it; what has none comes whole at its end."""
    kind = item.get("type")
    if kind == "message":
        return {**item, "content": []}, _of_contents(item, place)
    if kind == "reasoning":
        yet = {**item, "summary": [], **({"content": []} if item.get("content") is not None else {})}
        return yet, _of_reasoning(item, place)
    for name, field, event in _GROWING:
        if kind == name:
            return {**item, field: ""}, _grows(str(item.get(field) or ""), field, event, place)
    return dict(item), iter(())


_GROWING: Final = (
    ("function_call", "arguments", "response.function_call_arguments"),
    ("mcp_call", "arguments", "response.mcp_call_arguments"),
    ("custom_tool_call", "input", "response.custom_tool_call_input"),
)
"""Items that consist of one text: their type, its field, and the name of its events."""


def _grows(text: str, field: str, event: str, place: Mapping[str, Any]) -> Iterator[Event]:
    if text:
        yield {"type": f"{event}.delta", **place, "delta": text}
    yield {"type": f"{event}.done", **place, field: text}


def _of_contents(item: Mapping[str, Any], place: Mapping[str, Any]) -> Iterator[Event]:
    for number, part in enumerate(item.get("content") or ()):
        where = {**place, "content_index": number}
        field = "refusal" if part.get("type") == "refusal" else "text"
        emptied: Event = {name: [] for name in ("annotations", "logprobs") if part.get(name) is not None}
        yield {"type": "response.content_part.added", **where, "part": {**part, field: "", **emptied}}
        logprobs = {"logprobs": part.get("logprobs") or []} if field == "text" else {}
        name = "response.output_text" if field == "text" else "response.refusal"
        if part.get(field):
            yield {"type": f"{name}.delta", **where, "delta": part[field], **logprobs}
        for place_in, annotation in enumerate(part.get("annotations") or ()):
            added = {"annotation_index": place_in, "annotation": annotation}
            yield {"type": "response.output_text.annotation.added", **where, **added}
        yield {"type": f"{name}.done", **where, field: part.get(field) or "", **logprobs}
        yield {"type": "response.content_part.done", **where, "part": dict(part)}


def _of_reasoning(item: Mapping[str, Any], place: Mapping[str, Any]) -> Iterator[Event]:
    for number, part in enumerate(item.get("summary") or ()):
        where = {**place, "summary_index": number}
        yield {"type": "response.reasoning_summary_part.added", **where, "part": {**part, "text": ""}}
        yield {"type": "response.reasoning_summary_text.delta", **where, "delta": part.get("text", "")}
        yield {"type": "response.reasoning_summary_text.done", **where, "text": part.get("text", "")}
        yield {"type": "response.reasoning_summary_part.done", **where, "part": dict(part)}
    for number, part in enumerate(item.get("content") or ()):
        where = {**place, "content_index": number}
        yield {"type": "response.content_part.added", **where, "part": {**part, "text": ""}}
        yield {"type": "response.reasoning_text.delta", **where, "delta": part.get("text", "")}
        yield {"type": "response.reasoning_text.done", **where, "text": part.get("text", "")}
        yield {"type": "response.content_part.done", **where, "part": dict(part)}
