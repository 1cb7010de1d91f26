"""Reading the caller's messages: their shape, and what answering them needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nearhit._errors import EmptyPromptError, RequestError

if TYPE_CHECKING:
    from nearhit._types import Message, Prompt

_PART_NEEDS = {"image_url": "images", "input_image": "images", "input_audio": "audio", "file": "files"}


def read_messages(prompt: Prompt) -> list[Message]:
    """Returns a prompt as a list of chat messages, checked as far as every tier relies on it.

    Args:
        prompt: A plain prompt, or messages in the OpenAI form.

    Raises:
        EmptyPromptError: No message, or a plain prompt without text.
        RequestError: Something that is not a message; the error names its position.
    """
    if isinstance(prompt, str):
        if not prompt.strip():
            raise EmptyPromptError("the prompt is empty")
        return [{"role": "user", "content": prompt}]
    if isinstance(prompt, Mapping | bytes) or not isinstance(prompt, Iterable):
        raise RequestError(f"expected a prompt or a list of chat messages, not {type(prompt).__name__}")
    messages = list(prompt)
    if not messages:
        raise EmptyPromptError("the list of messages is empty")
    for position, message in enumerate(messages):
        _check(message, position)
    return messages


def _check(message: Any, position: int) -> None:
    if not isinstance(message, Mapping):
        raise RequestError(f"message {position} must be a mapping with a role, not {type(message).__name__}")
    role = message.get("role")
    if not isinstance(role, str) or not role:
        raise RequestError(f"message {position} has no role: expected a text such as 'user', got {role!r}")
    content = message.get("content")
    if content is None or isinstance(content, str):
        return
    if isinstance(content, Sequence) and not isinstance(content, bytes):
        for index, part in enumerate(content):
            if not isinstance(part, Mapping) or not isinstance(part.get("type"), str):
                raise RequestError(f"part {index} of message {position} must be a mapping with a type")
        return
    raise RequestError(
        f"the content of message {position} must be a text or a list of parts, not {type(content).__name__}"
    )


def needs(messages: Sequence[Message], params: Mapping[str, Any]) -> frozenset[str]:
    """Returns what a tier must be capable of to answer: any of "tools", "images", "audio", "files", "json".

    Args:
        messages: Messages as `read_messages` returns them.
        params: Parameters of the request in the OpenAI form.

    Example:
        >>> needs([{"role": "user", "content": "hi"}], {"tools": [{"type": "function"}]})
        frozenset({'tools'})
    """
    found: set[str] = set()
    if params.get("tools") or params.get("functions"):
        found.add("tools")
    response_format = params.get("response_format")
    if isinstance(response_format, Mapping) and response_format.get("type", "text") != "text":
        found.add("json")
    for message in messages:
        content = message.get("content")
        if content is not None and not isinstance(content, str):
            found.update(need for part in content if (need := _PART_NEEDS.get(part["type"])))
        if message.get("tool_calls") or message["role"] in ("tool", "function"):
            found.add("tools")
    return frozenset(found)
