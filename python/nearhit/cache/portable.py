"""Entries as JSON lines: portable between machines and versions, readable by people.

One object per line:

- ``id``, ``scope_id``: fingerprint and scope of the request, 32 hexadecimal digits each.
- ``prompt``: the text that may be compared by meaning, or null.
- ``scope``: the caller's own scope, or null.
- ``response``, ``form``: the answer; "text", "json", or "bytes" as base64.
- ``tags``, ``created``, ``expires`` (seconds since 1970, or null), ``cost``, ``model``, ``tokens``.

Vectors are not written: they belong to one embedder, and the importing cache makes its own. Lines with a question and
an answer alone ({"prompt" or "question", "response" or "answer"}), CSV with such columns, and the sqlite file of a
GPTCache are read too.
"""

from __future__ import annotations

import base64
import csv
import gzip
import json
import os
import sqlite3
import tempfile
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from nearhit._core import Request
from nearhit._errors import CorruptFileError, InputError, StorageError
from nearhit.cache import _redisvl

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from os import PathLike

    import numpy as np
    from numpy.typing import NDArray

    from nearhit._core import CacheCore
    from nearhit.cache._records import Judgement

_QUESTIONS = ("prompt", "question", "query")
_ANSWERS = ("response", "answer")
_OF_THIS_CACHE = ("last_hit", "near")  # what says nothing to another cache
_SQLITE = b"SQLite format 3\0"
_GPTCACHE = """
    SELECT question.question, min(answer.id), answer.answer
    FROM gptcache_question AS question JOIN gptcache_answer AS answer ON answer.question_id = question.id
    WHERE question.deleted = 0 AND answer.answer_type = 0
    GROUP BY question.id ORDER BY question.id
"""  # the first textual answer of each question that has not been marked as deleted


@dataclass(frozen=True, slots=True)
class Record:
    """One entry on its way into a cache.

    Attributes:
        request: What it answers.
        response: The answer.
        options: Keyword arguments of the core's `store`.
        vector: The prompt's vector, if the importing cache's embedder has made it before.
    """

    request: Request
    response: Any
    options: dict[str, Any]
    vector: NDArray[np.float32] | None = None


def export(core: CacheCore, path: str | PathLike[str]) -> int:
    """Writes every live entry to `path` (gzip if it ends in .gz), replacing it only when all is written.

    Returns:
        How many entries were written.

    Raises:
        StorageError: The file cannot be written; what stood there is untouched.
    """
    return _write(path, map(_line, core.entries()))


def export_judgements(judgements: Iterable[Judgement], path: str | PathLike[str]) -> int:
    """Writes judgements to `path` as labelled pairs: {"a", "b", "label"}, with "similarity" and "time".

    Returns:
        How many were written.

    Raises:
        StorageError: The file cannot be written; what stood there is untouched.
    """
    return _write(path, map(asdict, judgements))


def _write(path: str | PathLike[str], rows: Iterable[dict[str, Any]]) -> int:
    target = Path(path)
    count = 0
    try:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        os.close(handle)
        try:
            with _open(Path(name), "wt", packed=target.suffix == ".gz") as out:
                for row in rows:
                    out.write(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n")
                    count += 1
            Path(name).replace(target)
        finally:
            Path(name).unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"cannot write {target}: {error.strerror or error}") from error
    return count


def read(path: str | PathLike[str]) -> Iterator[Record]:
    """The entries of a file that `export` wrote, or of questions and answers (JSON lines, CSV; .gz too).

    A URL such as "redis://localhost:6379?name=llmcache" is read as the Redis of a RedisVL semantic cache.

    Raises:
        CorruptFileError: A line that cannot be read; the message names it.
        StorageError: The file cannot be opened.
    """
    if str(path).startswith(_redisvl.SCHEMES):
        for request, response, options in _redisvl.read(str(path)):
            yield Record(request, response, options)
        return
    source = Path(path)
    try:
        with source.open("rb") as file:
            is_sqlite = file.read(len(_SQLITE)) == _SQLITE
    except OSError as error:
        raise StorageError(f"cannot read {source}: {error.strerror or error}") from error
    if is_sqlite:
        yield from _gptcache(source)
        return
    packed = source.suffix == ".gz"
    table = Path(source.stem).suffix if packed else source.suffix
    try:
        with _open(source, "rt", packed=packed) as lines:
            rows = _rows(lines) if table == ".csv" else _objects(lines, source)
            for number, row in rows:
                try:
                    yield _record(row)
                except (InputError, KeyError, TypeError, ValueError, RecursionError) as error:
                    raise CorruptFileError(f"{source}, line {number}: {type(error).__name__}: {error}") from error
    except (UnicodeDecodeError, EOFError, csv.Error, gzip.BadGzipFile) as error:
        raise CorruptFileError(f"{source} is damaged or not a text file: {error}") from error
    except OSError as error:
        raise StorageError(f"cannot read {source}: {error.strerror or error}") from error


def _gptcache(source: Path) -> Iterator[Record]:
    """The questions and answers of a GPTCache's SQL store."""
    try:
        with closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            for question, _, answer in connection.execute(_GPTCACHE):
                if question.strip():
                    yield Record(Request(question), answer, {})
    except sqlite3.Error as error:
        raise CorruptFileError(f"{source} is not a GPTCache's sqlite file, or is damaged: {error}") from error


def _open(path: Path, mode: str, *, packed: bool) -> IO[str]:
    opener: Any = gzip.open if packed else open
    return cast("IO[str]", opener(path, mode, encoding="utf-8", newline=""))


def _objects(lines: IO[str], source: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise CorruptFileError(f"{source}, line {number} is not JSON: {error}") from error
        if not isinstance(row, dict):
            raise CorruptFileError(f"{source}, line {number} is not an object: expected the lines that export() writes")
        yield number, row


def _rows(lines: IO[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, row in enumerate(csv.DictReader(lines, strict=True), 2):
        yield number, {str(name).strip().lower(): value for name, value in row.items()}


def _line(fields: dict[str, Any]) -> dict[str, Any]:
    fields = {name: value for name, value in fields.items() if name not in _OF_THIS_CACHE}
    if fields["form"] == "bytes":
        return {**fields, "response": base64.b64encode(fields["response"]).decode("ascii")}
    return fields


def _record(row: dict[str, Any]) -> Record:
    if "id" not in row or "form" not in row:
        question = next((row[name] for name in _QUESTIONS if name in row), None)
        answer = next((row[name] for name in _ANSWERS if name in row), None)
        if not isinstance(question, str) or answer is None:
            raise ValueError(f"no question and answer among {sorted(row)}")
        return Record(Request(question, row.get("scope")), answer, {})
    request = Request.from_parts(row["id"], row["scope_id"], row["prompt"], row["scope"])
    response, form = row["response"], row["form"]
    if form == "bytes":
        response = base64.b64decode(response, validate=True)
    elif form == "text" and not isinstance(response, str):
        raise TypeError(f"a text response is a {type(response).__name__}")
    elif form == "json" and isinstance(response, str):
        return Record(request, json.dumps(response), {**_options(row), "json": True})
    elif form not in ("text", "json"):
        raise ValueError(f"unknown form {form!r}")
    return Record(request, response, _options(row))


def _options(row: dict[str, Any]) -> dict[str, Any]:
    tokens = row["tokens"]
    return {
        "tags": list(row["tags"]),
        "created": row["created"],
        "expires": row["expires"],
        "cost": row["cost"],
        "model": row["model"],
        "tokens": None if tokens is None else tuple(tokens),
    }
