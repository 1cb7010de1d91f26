"""Rows that say how well each model answered a prompt: JSON lines {"prompt", "outcomes", "cost"?, "task"?}."""

from __future__ import annotations

import gzip
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nearhit._errors import CorruptFileError, OptionError, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from os import PathLike

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Outcomes of models on prompts.

    Attributes:
        prompts: The prompts, n of them.
        models: Names of the models, m of them.
        quality: float64 of shape [n, m], 0 for a useless answer and 1 for a good one (any other scale is kept as it
            is); NaN where a model was not asked.
        cost: US dollars, float64 of shape [n, m] with NaN where unknown; None where no row tells.
        tasks: A label of each prompt, or "".
    """

    prompts: tuple[str, ...]
    models: tuple[str, ...]
    quality: NDArray[np.float64]
    cost: NDArray[np.float64] | None
    tasks: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.prompts)

    def select(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> Outcomes:
        """Returns some of the rows."""
        places = np.arange(len(self))[rows]
        return Outcomes(
            tuple(self.prompts[place] for place in places),
            self.models,
            self.quality[places],
            None if self.cost is None else self.cost[places],
            tuple(self.tasks[place] for place in places),
        )

    def column(self, model: str) -> NDArray[np.float64]:
        """Returns one model's quality on each prompt.

        Raises:
            OptionError: No such model.
        """
        if model not in self.models:
            raise OptionError(f"model={model!r} is not in the data: choose one of {', '.join(self.models)}")
        return self.quality[:, self.models.index(model)]


def read_outcomes(paths: str | PathLike[str] | Sequence[str | PathLike[str]]) -> Outcomes:
    """Reads one or more files of outcome rows; models of all files are columns.

    Args:
        paths: JSON lines, plain or gzip by the name's end.

    Raises:
        StorageError: A file that cannot be opened.
        CorruptFileError: A line that is not an outcome row; the message names it.
    """
    files = [paths] if isinstance(paths, str) or not hasattr(paths, "__iter__") else paths
    rows = [row for path in files for row in _read(Path(path))]
    models = tuple(dict.fromkeys(model for row in rows for model in row["outcomes"]))
    has_cost = any(row["cost"] for row in rows)
    return Outcomes(
        tuple(row["prompt"] for row in rows),
        models,
        _table((row["outcomes"] for row in rows), models, len(rows)),
        _table((row["cost"] for row in rows), models, len(rows)) if has_cost else None,
        tuple(row["task"] for row in rows),
    )


def _table(cells: Iterable[dict[str, float]], models: tuple[str, ...], rows: int) -> NDArray[np.float64]:
    table = np.full((rows, len(models)), math.nan)
    places = {model: place for place, model in enumerate(models)}
    for row, values in enumerate(cells):
        for model, value in values.items():
            if model in places:
                table[row, places[model]] = value
    return table


def _read(path: Path) -> Iterator[dict[str, Any]]:
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield _row(path, number, line)
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error}") from error
    except UnicodeDecodeError as error:
        raise CorruptFileError(f"{path} is not UTF-8: {error}") from error


def _row(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise CorruptFileError(f"{path}, line {number} is not JSON: {error}") from error
    expected = 'expected {"prompt": text, "outcomes": {model: number}, "cost": {model: US dollars} or nothing}'
    if not isinstance(row, dict) or not isinstance(row.get("prompt"), str) or not row["prompt"].strip():
        raise CorruptFileError(f"{path}, line {number} has no prompt: {expected}")
    return {
        "prompt": row["prompt"],
        "outcomes": _numbers(path, number, row.get("outcomes"), "outcomes", required=True),
        "cost": _numbers(path, number, row.get("cost"), "cost", required=False),
        "task": str(row.get("task") or ""),
    }


def _numbers(path: Path, number: int, cells: Any, name: str, *, required: bool) -> dict[str, float]:
    if cells is None and not required:
        return {}
    if not isinstance(cells, dict) or (required and not cells):
        raise CorruptFileError(f'{path}, line {number}: "{name}" must be an object of numbers by model, not {cells!r}')
    read = {}
    for model, value in cells.items():
        if value is None:
            continue
        if not isinstance(value, bool | int | float) or not math.isfinite(value):
            raise CorruptFileError(f'{path}, line {number}: "{name}" of {model!r} must be a number, not {value!r}')
        read[str(model)] = float(value)
    return read
