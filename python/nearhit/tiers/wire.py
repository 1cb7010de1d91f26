"""The OpenAI chat-completions wire format: requests out, bodies and events in."""

from __future__ import annotations

import json
import math
import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from nearhit._errors import RequestError
from nearhit._types import Chunk, Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

DONE = "[DONE]"


class WireError(ValueError):
    """Something that the chat-completions API does not promise."""


class ServerError(Exception):
    """The server reported an error in a body or an event.

    Attributes:
        status: The HTTP status that the report amounts to.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def encode_body(body: Mapping[str, Any]) -> bytes:
    """Returns a request's body as JSON in UTF-8.

    Raises:
        RequestError: A value that JSON or UTF-8 cannot carry (NaN, a lone surrogate, an object).
    """
    try:
        return json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except UnicodeEncodeError as error:
        raise RequestError(
            f"the request holds {error.object[error.start]!r}, half of a character (a lone surrogate), which cannot be "
            "sent: replace it, for example with text.encode('utf-8', 'replace').decode()"
        ) from error
    except (TypeError, ValueError, RecursionError) as error:
        raise RequestError(f"the request cannot be written as JSON: {error}") from error


def decode_object(data: str | bytes) -> Mapping[str, Any]:
    """Returns a JSON object.

    Raises:
        WireError: It is not JSON, or not an object.
    """
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise WireError(f"not JSON: {snippet(data)!r}") from error
    if not isinstance(value, dict):
        raise WireError(f"not a JSON object: {snippet(data)!r}")
    return value


def snippet(data: str | bytes, length: int = 200) -> str:
    """Returns the beginning of `data`, for a message."""
    text = data if isinstance(data, str) else data[: 4 * length].decode(errors="replace")
    return text if len(text) <= length else text[:length] + "..."


def read_piece(event: Mapping[str, Any], *, key: str = "delta") -> Chunk:
    """Returns an event of a stream, or a whole body (`key="message"`), as a piece of the answer.

    The first choice (index 0) is the answer; others stay in `raw`.

    Raises:
        ServerError: The server reports an error.
        WireError: The event is not one of chat completions.
    """
    if event.get("error"):
        raise reported_error(event["error"])
    choices = event.get("choices")
    if choices is None and event.get("usage") is not None:
        choices = []
    if not isinstance(choices, list):
        raise WireError(f"no list of choices: {snippet(json.dumps(event, default=str))!r}")
    usage = read_usage(event.get("usage"))
    first = None
    for choice in choices:
        if not isinstance(choice, dict):
            raise WireError(f"a choice that is not an object: {choice!r}")
        if _index(choice) == 0 and first is None:
            first = choice
    return Chunk(usage=usage, raw=event) if first is None else _read_choice(first, key, usage, event)


def _index(value: Mapping[str, Any]) -> int:
    index = value.get("index")
    if index is None:
        return 0
    if isinstance(index, bool) or not isinstance(index, int):
        raise WireError(f"index is not a number: {index!r}")
    return index


def _read_choice(choice: Mapping[str, Any], key: str, usage: Usage | None, event: Mapping[str, Any]) -> Chunk:
    said = choice.get(key)
    if said is None:
        said = {}
    if not isinstance(said, dict):
        raise WireError(f"{key} is not an object: {said!r}")
    finish = choice.get("finish_reason")
    if finish is not None and not isinstance(finish, str):
        raise WireError(f"finish_reason is not a text: {finish!r}")
    # The servers that show their reasoning have not agreed on a name for it.
    reasoning = said.get("reasoning_content") or said.get("reasoning")
    return Chunk(
        text=_text(said.get("content"), "content"),
        finish_reason=finish or None,
        usage=usage,
        tool_calls=_calls(said.get("tool_calls")),
        raw=event,
        reasoning=_text(reasoning, "reasoning") if reasoning else "",
        logprobs=_logprobs(choice.get("logprobs")),
    )


def _calls(calls: Any) -> tuple[Mapping[str, Any], ...]:
    if not calls:
        return ()
    if not isinstance(calls, list) or not all(isinstance(call, dict) for call in calls):
        raise WireError(f"tool_calls is not a list of objects: {calls!r}")
    for call in calls:
        _index(call)
    return tuple(calls)


def _text(content: Any, name: str) -> str:
    if isinstance(content, str):
        return content
    if content is None:
        return ""
    if isinstance(content, list):  # some servers answer in parts
        parts = [part.get("text", "") for part in content if isinstance(part, dict)]
        if all(isinstance(part, str) for part in parts):
            return "".join(parts)
    raise WireError(f"{name} is not a text: {content!r}")


def _logprobs(value: Any) -> tuple[float, ...]:
    if value is None:
        return ()
    content = value.get("content") if isinstance(value, dict) else None
    if not isinstance(content, list):
        return ()
    found = [token.get("logprob") for token in content if isinstance(token, dict)]
    return tuple(float(logprob) for logprob in found if isinstance(logprob, int | float))


def read_usage(value: Any) -> Usage | None:
    """Returns the server's token counts, or None if it gives none.

    Raises:
        WireError: Counts that are not whole numbers.
    """
    if value is None:
        return None
    if not isinstance(value, dict):
        raise WireError(f"usage is not an object: {value!r}")
    return Usage(
        prompt_tokens=_count(value, "prompt_tokens"),
        completion_tokens=_count(value, "completion_tokens"),
        cached_prompt_tokens=_count(value.get("prompt_tokens_details"), "cached_tokens"),
        reasoning_tokens=_count(value.get("completion_tokens_details"), "reasoning_tokens"),
    )


def _count(value: Any, name: str) -> int:
    count = value.get(name) if isinstance(value, dict) else None
    if count is None:
        return 0
    if isinstance(count, bool) or not isinstance(count, int) or count < 0:
        raise WireError(f"{name} is not a count: {count!r}")
    return count


def reported_error(error: Any) -> ServerError:
    """Returns the error object of a body or an event as an exception."""
    if not isinstance(error, dict):
        return ServerError(snippet(str(error)), 500)
    words = " ".join(str(error[key]) for key in ("code", "type") if error.get(key))
    message = snippet(str(error.get("message") or words or error))
    for key in ("code", "status"):
        value = error.get(key)
        if isinstance(value, str) and value.isascii() and value.isdigit():
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and 400 <= value <= 599:  # noqa: PLR2004
            return ServerError(message, value)
    if "rate_limit" in words or "insufficient_quota" in words:
        return ServerError(message, 429)
    return ServerError(message, 400 if "invalid_request" in words else 500)


def error_words(body: bytes) -> str:
    """Returns what an error body says, in the server's own words as far as they can be read."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return snippet(body.strip())
    error = value.get("error", value) if isinstance(value, dict) else value
    if isinstance(error, dict):
        error = error.get("message") or error.get("detail") or error
    return snippet(error if isinstance(error, str) else json.dumps(error, ensure_ascii=False))


def means_too_long(body: bytes) -> bool:
    """Whether an error body says that the prompt does not fit into the model's window, as OpenAI and vLLM say it."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return False
    error = value.get("error", value) if isinstance(value, dict) else None
    if not isinstance(error, dict):
        return False
    return error.get("code") == "context_length_exceeded" or "maximum context length" in str(error.get("message"))


def read_retry_after(headers: Mapping[str, str], *, now: float | None = None) -> float | None:
    """Returns how many seconds the server asks to wait, or None.

    Reads `retry-after-ms`, and `retry-after` in seconds or as an HTTP date (RFC 9110, section 10.2.3), counted from
    the answer's own `date` where it has one, so that clocks that disagree do no harm.

    Args:
        headers: The answer's headers; names in lower case, or a mapping that ignores case.
        now: Seconds since the epoch, if not the clock's.
    """
    for name, scale in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        seconds = _seconds(headers.get(name))
        if seconds is not None:
            return seconds * scale
    then = _date(headers.get("retry-after"))
    if then is None:
        return None
    start = _date(headers.get("date"))
    if start is None:
        start = time.time() if now is None else now
    return max(0.0, then - start)


def _seconds(value: str | None) -> float | None:
    try:
        seconds = float(value) if value is not None else -1.0
    except ValueError:
        return None
    return seconds if 0 <= seconds < math.inf else None


def _date(value: str | None) -> float | None:
    try:
        return parsedate_to_datetime(value).timestamp() if value else None
    except (ValueError, OverflowError):
        return None
