"""Recorded arrivals: when a request came, how long its prompt was and how long its answer."""

from __future__ import annotations

import csv
import gzip
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from nearhit._errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Arrival(NamedTuple):
    """One recorded request.

    Attributes:
        at: Seconds since the first one.
        prompt: Prompt tokens.
        output: Answer tokens.
    """

    at: float
    prompt: int
    output: int


def read_trace(path: Path, limit: int | None = None) -> list[Arrival]:
    """Reads the first `limit` requests of a trace, in the order of time.

    Two forms are known, both also as .gz: CSV with TIMESTAMP, ContextTokens and GeneratedTokens (the Azure LLM
    inference traces), and JSON lines with timestamp in milliseconds, input_length and output_length (Mooncake).

    Args:
        path: The file.
        limit: Requests at most; None for all.

    Raises:
        InputError: The file cannot be read, is in neither form, or holds no request.
    """
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
            read = _csv if ".csv" in path.suffixes else _jsonl
            arrivals = sorted(read(lines))[:limit]
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise InputError(
            f"{path} is not a trace: {type(error).__name__}: {error}; expected CSV with TIMESTAMP, ContextTokens and "
            "GeneratedTokens, or JSON lines with timestamp, input_length and output_length"
        ) from error
    if not arrivals:
        raise InputError(f"{path} holds no request")
    start = arrivals[0].at
    return [Arrival(at - start, prompt, output) for at, prompt, output in arrivals]


def _csv(lines: Iterator[str]) -> Iterator[Arrival]:
    for row in csv.DictReader(lines):
        # The stamps have seven digits of a second; microseconds are what Python reads, and enough.
        at = datetime.fromisoformat(row["TIMESTAMP"].strip()[:26]).replace(tzinfo=UTC).timestamp()
        yield Arrival(at, int(row["ContextTokens"]), int(row["GeneratedTokens"]))


def _jsonl(lines: Iterator[str]) -> Iterator[Arrival]:
    for line in lines:
        row = json.loads(line)
        yield Arrival(row["timestamp"] / 1e3, int(row["input_length"]), int(row["output_length"]))
