"""The file of the shipped routing head, as the core reads it (rust/core/src/route/head.rs)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nearhit._core import feature_names

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nearhit.evaluate.surfaces import Surface
    from nearhit.router.heads import Weights

    Numbers = NDArray[np.float64]

WEAK, STRONG = 0.6, 0.9
"""The qualities that a router of two tiers assumes."""

_TITLE = """\
# The shipped routing head: difficulty and discrimination of a prompt, by kind of prompt; see HEAD.md beside this file.
# Written by `python -m nearhit.evaluate.train_head`. Each line is a name and two weights, of the difficulty and of the
# discrimination. P(tier answers well) = sigmoid(ability * (1 + discrimination) - difficulty). Names: bias, the prompt
# features, and squares, whose direction of the embedding follows in signed bytes of 1/127.
"""


@dataclass(frozen=True, slots=True)
class Item:
    """Difficulty and discrimination of prompts of one kind.

    Attributes:
        difficulty: As weights of a sum.
        discrimination: Likewise; the slope is 1 + this.
    """

    difficulty: Weights
    discrimination: Weights

    def gap(self, features: Numbers, vectors: Numbers) -> Numbers:
        """How much likelier the strong tier answers well than the weak one, shape [n]."""
        difficulty, discrimination = (_sum(each, features, vectors) for each in (self.difficulty, self.discrimination))
        slope = np.maximum(1.0 + discrimination, 0.0)
        weak, strong = (1.0 / (1.0 + np.exp(difficulty - slope * _ability(each))) for each in (WEAK, STRONG))
        return np.asarray(strong - weak)


def pair_item(weak: Surface, strong: Surface, *, ranks: tuple[int, int]) -> Item:
    """The item that gives the two qualities these outcomes.

    Args:
        weak: Outcomes of the weak model.
        strong: Of the strong one.
        ranks: Squares of the difficulty and of the discrimination.
    """
    low, high = _ability(WEAK), _ability(STRONG)
    below, above = weak.log_odds(), strong.log_odds()
    slope = above.mixed(1.0 / (high - low), below, -1.0 / (high - low))
    difficulty = slope.mixed(low, below, -1.0)
    bias, own, none, squares = slope.as_weights(ranks[1])
    return Item(difficulty.as_weights(ranks[0]), (bias - 1.0, own, none, squares))


def level_item(difficulty: Surface, *, rank: int) -> Item:
    """The item of a difficulty, in logits, without discrimination."""
    return Item(difficulty.as_weights(rank), (0.0, [0.0] * len(difficulty.weights), [], []))


def head_text(scale: tuple[Numbers, Numbers], items: dict[str, Item]) -> str:
    """The file.

    Args:
        scale: Means and deviations of the raw features.
        items: By section: "choice", "quantity", "open", each also with " embedded".
    """
    lines = ["[scale]"]
    names = feature_names()
    lines += [f"{name} {mean:.5g} {width:.5g}" for name, mean, width in zip(names, *scale, strict=True)]
    for section, item in items.items():
        lines.append(f"[{section}]")
        lines.append(f"bias {item.difficulty[0]:.4f} {item.discrimination[0]:.4f}")
        pairs = zip(names, item.difficulty[1], item.discrimination[1], strict=True)
        lines += [f"{name} {first:.4f} {second:.4f}" for name, first, second in pairs if first or second]
        for place, weights in enumerate((item.difficulty, item.discrimination)):
            for weight, direction in weights[3]:
                both = (weight, 0.0) if place == 0 else (0.0, weight)
                lines.append(_square(*both, np.array(direction)))
    return _TITLE + "\n".join(lines) + "\n"


def _square(difficulty: float, discrimination: float, direction: Numbers) -> str:
    """A line of a direction in bytes; its length goes into the weights."""
    longest = float(np.abs(direction).max())
    digits = np.rint(direction / longest * 127.0).astype(np.int8).tobytes().hex()
    return f"square {difficulty * longest**2:.5g} {discrimination * longest**2:.5g} {digits}"


def _ability(quality: float) -> float:
    return float(np.log(quality / (1.0 - quality)))


def _sum(weights: Weights, features: Numbers, vectors: Numbers) -> Numbers:
    bias, own, _, squares = weights
    total = bias + features @ np.array(own)
    for weight, direction in squares if vectors.shape[1] else []:
        total = total + weight * (vectors @ np.array(direction)) ** 2
    return np.asarray(total)
