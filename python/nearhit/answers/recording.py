"""A stream of server-sent events, recorded while it passes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from nearhit.answers.admission import is_complete
from nearhit.answers.replay import Answer, counts_only
from nearhit.tiers import wire
from nearhit.tiers.sse import SSEError, SSEParser

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nearhit.answers.admission import Call

_MOST_BYTES: Final = 32 * 1024 * 1024
"""A stream longer than this passes, but is not recorded any further."""


class Recorder:
    r"""Takes the bytes of a stream as they pass, and tells at the end whether they made a whole answer.

    While the stream passes nothing is read: a piece costs one append.

    Args:
        call: Which API answers.
        request: The request's body.

    Example:
        >>> recorder = Recorder("completions", {"prompt": "Hello"})
        >>> recorder.feed(b'data: {"choices": [{"index": 0, "text": "Hi", "finish_reason": "stop"}]}\n\n')
        >>> recorder.feed(b"data: [DONE]\n\n")
        >>> recorder.finish(ended=True).body()["choices"][0]["text"]
        'Hi'
    """

    def __init__(self, call: Call, request: Mapping[str, Any]) -> None:
        self._call = call
        self._request = request
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, part: bytes) -> None:
        """Takes the next bytes."""
        self._size += len(part)
        if self._size <= _MOST_BYTES:
            self._parts.append(part)

    def data(self) -> bytes:
        """Everything taken so far, as it came."""
        return b"".join(self._parts)

    def finish(self, *, ended: bool, data: bytes | None = None) -> Answer | None:
        """The answer, or None for a stream that broke, failed, was left, or does not hold a whole answer.

        Args:
            ended: Whether the stream came to its end; if its reader left it, only [DONE] says that it was whole.
            data: What came, where the bytes taken were compressed and this is what they hold.
        """
        if self._size > _MOST_BYTES:
            return None
        found = _events(self.data() if data is None else data, ended=ended, marked=self._call != "responses")
        if not found:
            return None
        events = [value for _, value in found]
        outline = _outline(self._call, events)
        if not is_complete(self._call, outline, self._request):
            return None
        alone = [text for text, value in found if counts_only(value)]
        others = [text for text, value in found if not counts_only(value)]
        counted = any(value.get("usage") for value in events if not counts_only(value))
        facts = {"model": outline.get("model"), "usage": outline.get("usage")}
        return Answer.of_stream(self._call, others, alone, counted=counted, facts=facts)


def _events(data: bytes, *, ended: bool, marked: bool) -> list[tuple[str, dict[str, Any]]] | None:
    """The JSON events of a stream in their order, as text and read; None if it is broken or reports an error."""
    parser = SSEParser()
    found: list[tuple[str, dict[str, Any]]] = []
    try:
        for event in (*parser.feed(data), *parser.finish()):
            if event.data.strip() == wire.DONE:
                return found
            value: Any = wire.decode_object(event.data)
            if value.get("error") or event.name == "error" or value.get("type") == "error":
                return None
            found.append((event.data, value))
    except (SSEError, wire.WireError):
        return None
    # Chat streams end with a mark; without it only the end of the connection tells that nothing is missing. Those of
    # the Responses API end with an event that holds the whole answer.
    return found if ended or not marked else None


def _outline(call: Call, events: list[dict[str, Any]]) -> dict[str, Any]:
    """As much of the body that the events make up as tells whether it is whole: putting it together takes longer."""
    if call == "responses":
        last = events[-1]
        whole: dict[str, Any] = last.get("response") or {} if last.get("type") == "response.completed" else {}
        return whole
    outline: dict[str, Any] = {}
    choices: dict[Any, dict[str, Any]] = {}
    for event in events:
        for key in ("model", "usage"):
            if event.get(key) is not None:
                outline[key] = event[key]
        for piece in event.get("choices") or ():
            choice = choices.setdefault(piece.get("index"), {"finish_reason": None, "text": "", "message": {}})
            choice["finish_reason"] = piece.get("finish_reason") or choice["finish_reason"]
            choice["text"] = piece.get("text") or choice["text"]
            for key, value in (piece.get("delta") or piece.get("message") or {}).items():
                if value:
                    choice["message"][key] = value
    return {**outline, "choices": list(choices.values())}
