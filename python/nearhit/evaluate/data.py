"""Labelled data: JSON lines, plain or gzip."""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nearhit._errors import CorruptFileError, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

__all__ = ["Pair", "Request", "read_pairs", "read_prompts", "read_rows", "read_stream", "split_of"]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two prompts, and whether one answer serves both.

    Attributes:
        a: One prompt.
        b: The other.
        label: 1 if an answer to one answers the other, else 0.
    """

    a: str
    b: str
    label: int


@dataclass(frozen=True, slots=True)
class Request:
    """One request of a stream.

    Attributes:
        prompt: Its text.
        answer: Its class; two requests of one class may share an answer.
    """

    prompt: str
    answer: str


def rows_file(folder: Path, name: str) -> Path:
    """The file of rows of this name, plain if there is one, else compressed."""
    plain = folder / f"{name}.jsonl"
    return plain if plain.exists() else folder / f"{name}.jsonl.gz"


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yields the objects of a JSON lines file, plain or gzip (by its content, not its name).

    Raises:
        StorageError: The file cannot be read.
        CorruptFileError: A line is not a JSON object; the message names it.
    """
    try:
        with path.open("rb") as probe:
            zipped = probe.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rt", encoding="utf-8") if zipped else path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                except ValueError as error:
                    raise CorruptFileError(f"{path}, line {number}: not JSON ({error})") from error
                if not isinstance(row, dict):
                    raise CorruptFileError(f"{path}, line {number}: expected an object, got {type(row).__name__}")
                yield row
    except (EOFError, UnicodeDecodeError, gzip.BadGzipFile, zlib.error) as error:
        raise CorruptFileError(f"{path}: damaged, or not JSON lines in UTF-8 ({error})") from error
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror or error}") from error


def read_prompts(path: Path) -> list[Any]:
    """Reads prompts: those of JSON lines with a "prompt" or "messages", else one prompt a line; plain or gzip.

    Raises:
        StorageError: The file cannot be read.
        CorruptFileError: A row without either; the message names it.
    """
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode("utf-8")
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}") from error
    except (EOFError, UnicodeDecodeError, zlib.error) as error:
        raise CorruptFileError(f"{path}: damaged, or not text in UTF-8 ({error})") from error
    if not text.lstrip().startswith("{"):
        return [line for line in text.splitlines() if line.strip()]
    found = []
    for number, row in enumerate(read_rows(path), 1):
        prompt = row.get("prompt") or row.get("messages")
        if not isinstance(prompt, str | list):
            raise CorruptFileError(
                f'{path}, row {number}: expected "prompt": text or "messages": list, got {row!r:.80}'
            )
        found.append(prompt)
    return found


def read_pairs(path: Path, *, similar: float = 4.0, different: float = 3.0) -> list[Pair]:
    """Reads labelled pairs: `{"a", "b", "label"}`, or `{"a", "b", "score"}` with graded scores.

    Args:
        path: The file.
        similar: Least graded score that counts as label 1.
        different: Greatest graded score that counts as label 0; what lies between is left out.

    Raises:
        StorageError: The file cannot be read.
        CorruptFileError: A row is not a labelled pair, or there is none.
    """
    pairs = []
    for number, row in enumerate(read_rows(path), 1):
        a, b, label = row.get("a"), row.get("b"), row.get("label")
        if label is None and isinstance(row.get("score"), int | float):
            score = row["score"]
            label = 1 if score >= similar else 0 if score <= different else None
            if label is None:
                continue
        if not isinstance(a, str) or not isinstance(b, str) or label not in (0, 1):
            raise CorruptFileError(f'{path}, row {number}: expected {{"a": text, "b": text, "label": 0 or 1}}')
        if a.strip() and b.strip():
            pairs.append(Pair(a, b, int(label)))
    if not pairs:
        raise CorruptFileError(f"{path}: holds no labelled pair")
    return pairs


def read_stream(path: Path) -> list[Request]:
    """Reads a stream: `{"prompt", "class"}`, in the order of the file.

    Raises:
        StorageError: The file cannot be read.
        CorruptFileError: A row is not a request with its class, or there is none.
    """
    stream = []
    for number, row in enumerate(read_rows(path), 1):
        prompt, answer = row.get("prompt"), row.get("class")
        if not isinstance(prompt, str) or not isinstance(answer, str | int):
            raise CorruptFileError(f'{path}, row {number}: expected {{"prompt": text, "class": text or number}}')
        if prompt.strip():
            stream.append(Request(prompt, str(answer)))
    if not stream:
        raise CorruptFileError(f"{path}: holds no request")
    return stream


def split_of(groups: Sequence[Sequence[str]]) -> list[float]:
    """A number in [0, 1) for each group of texts, the same for all groups that share a text, even indirectly.

    Cutting this number into ranges gives splits between which no text leaks, whatever the order of the data, and
    adding data never moves a text that is not connected to it.

    Args:
        groups: Texts that belong together: the two of a pair, or the prompts of one class.
    """
    parent: dict[str, str] = {}

    def root(text: str) -> str:
        while (above := parent.setdefault(text, text)) != text:
            parent[text] = text = parent[above]
        return text

    normal = [[" ".join(text.lower().split()) for text in group] for group in groups]
    for group in normal:
        for text in group[1:]:
            first, second = root(group[0]), root(text)
            if first != second:
                parent[max(first, second)] = min(first, second)  # the root is the least text: no order matters
    numbers = []
    for group in normal:
        digest = hashlib.blake2b(root(group[0]).encode("utf-8", "surrogatepass"), digest_size=8).digest()
        numbers.append(int.from_bytes(digest, "big") / 2**64)
    return numbers
