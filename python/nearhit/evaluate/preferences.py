"""Heads from pairwise preferences: which of two tiers answered a prompt better.

P(a is preferred to b on prompt x) = sigmoid(u_a(x) - u_b(x) + first), where each u is linear in the prompt's features
and in the leading principal components of its embedding, and `first` is what being shown first is worth to the judge
(Bradley and Terry, 1952, with covariates). A tie counts as half a win for each.

Preferences say which tier is better and by how much, not how good any is: the tier that wins most is taken to answer a
stated share of all prompts well, and the others are what their log odds against it make of that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nearhit._errors import CorruptFileError, OptionError, StorageError
from nearhit.evaluate.data import read_rows
from nearhit.evaluate.items import _components, _sigmoid, minimise

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike

    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]
    Weights = tuple[float, list[float], list[float]]

ANCHOR = 0.9
"""Quality of the tier that wins most: what a router assumes of its strongest tier where none is stated."""

_RIDGE = 2e-3
"""On pairs made of nine models' outcomes, one a prompt: log loss .653 with 3e-4, .653 here, .657 with 1e-2; APGR of
the worst and best model .609, .613, .611, where all nine outcomes of each prompt give .622 and prompt length .565."""
_POSITION_RIDGE = 1e-2  # so that what could be either is the tiers' merit, not the place's
_SCALE = 0.3
_FEWEST = 20
_RESULTS = {"a": 1.0, "b": 0.0, "tie": 0.5}


@dataclass(frozen=True, slots=True)
class Preferences:
    """Judged pairs of answers.

    Attributes:
        prompts: The prompts, n of them.
        tiers: Names of the tiers, m of them.
        a: Number of the tier that was shown first, shape [n].
        b: Of the one shown second.
        result: 1 where the first was preferred, 0 where the second, 0.5 for a tie.
    """

    prompts: tuple[str, ...]
    tiers: tuple[str, ...]
    a: NDArray[np.intp]
    b: NDArray[np.intp]
    result: Numbers

    def __len__(self) -> int:
        return len(self.prompts)

    def select(self, rows: NDArray[np.bool_]) -> Preferences:
        """Returns some of the rows."""
        kept = tuple(prompt for prompt, keep in zip(self.prompts, rows, strict=True) if keep)
        return Preferences(kept, self.tiers, self.a[rows], self.b[rows], self.result[rows])


def read_preferences(path: str | PathLike[str]) -> Preferences:
    """Reads rows {"prompt", "a": tier, "b": tier, "winner": "a" | "b" | "tie"}.

    Args:
        path: JSON lines, plain or gzip.

    Raises:
        StorageError: The file cannot be read.
        CorruptFileError: A row that is something else; the message names it.
    """
    file = Path(path)
    try:
        rows = [_row(file, number, row) for number, row in enumerate(read_rows(file), start=1)]
    except OSError as error:
        raise StorageError(f"{file} cannot be read: {error}") from error
    tiers = tuple(dict.fromkeys(name for _, a, b, _ in rows for name in (a, b)))
    places = {name: place for place, name in enumerate(tiers)}
    return Preferences(
        tuple(prompt for prompt, *_ in rows),
        tiers,
        np.array([places[a] for _, a, _, _ in rows], np.intp),
        np.array([places[b] for _, _, b, _ in rows], np.intp),
        np.array([result for *_, result in rows], np.float64),
    )


def _row(file: Path, number: int, row: dict[str, Any]) -> tuple[str, str, str, float]:
    prompt, a, b, winner = (row.get(name) for name in ("prompt", "a", "b", "winner"))
    if not isinstance(prompt, str) or not prompt.strip():
        raise CorruptFileError(f"{file}, row {number} has no prompt")
    if not isinstance(a, str) or not isinstance(b, str) or not a or not b or a == b:
        raise CorruptFileError(f'{file}, row {number}: "a" and "b" must name two different tiers, not {a!r} and {b!r}')
    if winner not in _RESULTS:
        raise CorruptFileError(f'{file}, row {number}: winner={winner!r} is not "a", "b" or "tie"')
    return prompt, a, b, _RESULTS[winner]


@dataclass(frozen=True, slots=True)
class PreferenceModel:
    """A fitted model.

    Attributes:
        merit: Bias, feature weights and embedding weights of each tier, shape [m, 1 + f + d].
        first: What being shown first is worth, in logits.
        best: Number of the tier that wins most on the average prompt.
    """

    merit: Numbers
    first: float
    best: int

    def preferred(self, features: Numbers, vectors: Numbers, a: NDArray[np.intp], b: NDArray[np.intp]) -> Numbers:
        """Returns the probability that `a`, shown first, is preferred to `b`, shape [n]."""
        merit = np.hstack([np.ones((len(features), 1)), features, vectors]) @ self.merit.T
        rows = np.arange(len(features))
        return _sigmoid(merit[rows, a] - merit[rows, b] + self.first)

    def linear(self, tier: int, features: int, anchor: float = ANCHOR) -> Weights:
        """Returns one tier's logit of a good answer as bias, feature weights and embedding weights."""
        weights = self.merit[tier] - self.merit[self.best]
        bias = math.log(anchor / (1.0 - anchor)) + float(weights[0])
        return bias, weights[1 : 1 + features].tolist(), weights[1 + features :].tolist()


def fit_preferences(
    features: Numbers, vectors: Numbers, rows: Preferences, *, ridge: float = _RIDGE
) -> PreferenceModel:
    """Fits merits of all tiers together.

    Args:
        features: Standardised features of the prompts, shape [n, f].
        vectors: Their embeddings, shape [n, d]; d may be 0.
        rows: The preferences.
        ridge: Penalty of the weights; chosen on pairs made of outcomes of nine models.

    Raises:
        OptionError: Fewer than 20 rows, or tiers that no chain of comparisons connects.
    """
    if len(rows) < _FEWEST:
        raise OptionError(f"{len(rows)} preferences are too few to fit a head: give at least {_FEWEST}")
    _check_connected(rows)
    centre, basis = _components(vectors)
    inputs = np.hstack([np.ones((len(features), 1)), features * _SCALE, (vectors - centre) @ basis])
    width, count = inputs.shape[1], len(rows.tiers)
    penalty = np.full((count, width), ridge)
    penalty[:, 0] = 1e-5  # a tier's average merit is what comparisons tell best

    def loss(point: Numbers) -> tuple[float, Numbers]:
        merit, first = point[:-1].reshape(count, width), point[-1]
        differences = np.einsum("ij,ij->i", inputs, merit[rows.a] - merit[rows.b])
        chance = _sigmoid(differences + first)
        floor = 1e-9
        fit = rows.result * np.log(chance + floor) + (1.0 - rows.result) * np.log(1.0 - chance + floor)
        value = -fit.mean() + (penalty * merit * merit).sum() + _POSITION_RIDGE * first * first
        error = (chance - rows.result) / len(rows)
        pulled = inputs * error[:, None]
        gradient = 2.0 * penalty * merit
        np.add.at(gradient, rows.a, pulled)
        np.subtract.at(gradient, rows.b, pulled)
        return float(value), np.append(gradient.ravel(), error.sum() + 2.0 * _POSITION_RIDGE * first)

    best = minimise(loss, np.zeros(count * width + 1))
    folded, wide = best[:-1].reshape(count, width), features.shape[1]
    embedding = folded[:, 1 + wide :] @ basis.T
    bias = folded[:, :1] - (embedding @ centre)[:, None]
    merit = np.hstack([bias, folded[:, 1 : 1 + wide] * _SCALE, embedding])
    average = np.concatenate([[1.0], features.mean(axis=0), vectors.mean(axis=0)])
    return PreferenceModel(merit, float(best[-1]), int(np.argmax(merit @ average)))


def _check_connected(rows: Preferences) -> None:
    reached = {0}
    while True:
        more = {int(b) for a, b in zip(rows.a, rows.b, strict=True) if int(a) in reached}
        more |= {int(a) for a, b in zip(rows.a, rows.b, strict=True) if int(b) in reached}
        if more <= reached:
            break
        reached |= more
    if lonely := [name for place, name in enumerate(rows.tiers) if place not in reached]:
        names: Sequence[str] = [name for place, name in enumerate(rows.tiers) if place in reached]
        raise OptionError(
            f"no comparison connects {', '.join(lonely)} with {', '.join(names)}: add some, so that they can be ranked"
        )
