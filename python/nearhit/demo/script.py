"""The demo's requests: the script that ships with nearhit, or a file of the user's own prompts."""

from __future__ import annotations

import gzip
import json
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from nearhit._errors import RequestError, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from nearhit._types import Message, Prompt

_EXPECTATIONS = ("exact", "near", "miss")
_LEVELS = ("easy", "hard")


@dataclass(frozen=True, slots=True)
class Request:
    """One request of the demo.

    Attributes:
        prompt: A plain prompt, or the messages of a conversation.
        answer_class: Requests of one class may share an answer, others must not; None if unknown.
        expect: What should happen when the requests are played in order: "exact", "near" or "miss".
        level: "easy" or "hard", for the choice of the tier.
        trap: Why the request looks like an earlier one and still must not be answered from it.
    """

    prompt: Prompt
    answer_class: str | None = None
    expect: str | None = None
    level: str | None = None
    trap: str | None = None

    @property
    def text(self) -> str:
        """The words of the last user turn: what is compared by meaning, and what the screens show."""
        if isinstance(self.prompt, str):
            return self.prompt
        for message in reversed(self.prompt):
            if message.get("role") == "user" and isinstance(message.get("content"), str):
                return str(message["content"])
        return ""

    @property
    def turns(self) -> int:
        """How many messages come before the last one."""
        return 0 if isinstance(self.prompt, str) else len(self.prompt) - 1


def load() -> list[Request]:
    """Reads the script that ships with nearhit, in the order in which it is played.

    Example:
        >>> from nearhit.demo.script import load
        >>> load()[0].text
        'How do I reset my Fernpost password?'
    """
    text = resources.files("nearhit.demo").joinpath("script.jsonl").read_text(encoding="utf-8")
    return [_request(json.loads(line), where=f"script.jsonl:{n}") for n, line in enumerate(text.splitlines(), 1)]


def read(path: str, *, limit: int | None = None) -> list[Request]:
    """Reads the user's own prompts.

    Args:
        path: A file, also gzipped (`.gz`), or "-" for standard input. Text, one prompt a line, or JSON lines with
            "prompt" or "messages" and, if hits are to be judged, "class"; the first line tells which.
        limit: Read no more than this many prompts.

    Raises:
        StorageError: If the file cannot be read.
        RequestError: If a line cannot be understood, or there are no prompts.
    """
    requests: list[Request] = []
    is_json: bool | None = None
    number = 0
    try:
        with _lines(path) as lines:
            for number, line in enumerate(lines, 1):
                text = line.strip()
                if not text:
                    continue
                if is_json is None:
                    is_json = text.startswith("{")
                where = f"{path}:{number}"
                requests.append(_request(_object(text, where), where=where) if is_json else Request(text))
                if limit is not None and len(requests) >= limit:
                    break
    except UnicodeDecodeError as error:
        raise RequestError(f"{path}:{number + 1}: not UTF-8 text; convert the file first") from error
    except (OSError, EOFError) as error:
        raise StorageError(f"cannot read the prompts in {path}: {error}") from error
    if not requests:
        raise RequestError(f"{path}: no prompts; write one a line")
    return requests


@contextmanager
def _lines(path: str) -> Iterator[IO[str]]:
    if path == "-":
        yield sys.stdin
    elif path.endswith(".gz"):
        with gzip.open(path, "rt", encoding="utf-8-sig") as file:
            yield file
    else:
        with Path(path).open(encoding="utf-8-sig") as file:
            yield file


def _object(text: str, where: str) -> Mapping[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise RequestError(f"{where}: not JSON ({error}); the file's first line is, so every line must be") from error
    if not isinstance(value, dict):
        raise RequestError(f'{where}: expected an object with "prompt" or "messages", got {type(value).__name__}')
    return value


def _request(row: Mapping[str, Any], *, where: str) -> Request:
    prompt: Prompt
    if isinstance(row.get("prompt"), str):
        prompt = row["prompt"]
    elif isinstance(row.get("messages"), list) and row["messages"]:
        prompt = tuple(_message(message, where) for message in row["messages"])
    else:
        raise RequestError(f'{where}: needs "prompt" (a string) or "messages" (a list); it has {sorted(row)}')
    answer_class = row.get("class")
    return Request(
        prompt=prompt,
        answer_class=None if answer_class is None else str(answer_class),
        expect=_one_of(row, "expect", _EXPECTATIONS, where),
        level=_one_of(row, "level", _LEVELS, where),
        trap=None if row.get("trap") is None else str(row["trap"]),
    )


def _message(message: Any, where: str) -> Message:
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        raise RequestError(f'{where}: a message is an object with "role" and "content", got {str(message)[:60]!r}')
    return message


def _one_of(row: Mapping[str, Any], key: str, allowed: tuple[str, ...], where: str) -> str | None:
    value = row.get(key)
    if value is not None and value not in allowed:
        raise RequestError(f'{where}: "{key}" is {value!r}; it may be {", ".join(allowed)} or absent')
    return value
