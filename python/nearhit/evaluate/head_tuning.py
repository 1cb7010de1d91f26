"""Heads for the user's own tiers, with figures on prompts that the fit has not seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nearhit._core import prompt_features, prompt_focus
from nearhit._errors import OptionError
from nearhit.evaluate.data import split_of
from nearhit.evaluate.outcomes import Outcomes
from nearhit.evaluate.preferences import fit_preferences
from nearhit.evaluate.routing import curve, interval
from nearhit.evaluate.surfaces import chances
from nearhit.router.heads import RoutingHead

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from nearhit._types import Embedder
    from nearhit.evaluate.preferences import Preferences

    Numbers = NDArray[np.float64]

FITTED = 0.8
"""Share of the prompts that the figures' head is fitted on; the head that is kept is fitted on all."""
_FLOOR = 1e-6


def tune_head(
    rows: Outcomes | Preferences, *, tiers: Sequence[str] | None = None, embedder: Embedder | None = None
) -> tuple[dict[str, Any], RoutingHead]:
    """Fits a head, and says how good one fitted on four fifths of the prompts is on the others.

    Args:
        rows: Outcomes or preferences.
        tiers: Names in the rows that are tiers of the router; all by default.
        embedder: Embeds the prompts, so that the head can use the embedding where there is one; None for text alone.

    Returns:
        The report, and the head fitted on all rows.

    Raises:
        OptionError: Too few rows, or tiers without any.
    """
    held = np.array(split_of([[prompt] for prompt in rows.prompts])) >= FITTED
    if not held.any() or held.all():
        raise OptionError(f"{len(rows)} rows are too few to fit a head on some and judge it on others")
    if isinstance(rows, Outcomes):
        names = tuple(tiers) if tiers is not None else rows.models
        first = RoutingHead.fit(rows.select(~held), tiers=names, embedder=embedder)
        report = _outcome_figures(rows.select(held), first, names, embedder)
        report |= {"kind": "outcomes"}
        head = RoutingHead.fit(rows, tiers=names, embedder=embedder)
    else:
        first = RoutingHead.fit_preferences(rows.select(~held), tiers=tiers, embedder=embedder)
        report = _preference_figures(rows, held, embedder) | {"kind": "preferences"}
        head = RoutingHead.fit_preferences(rows, tiers=tiers, embedder=embedder)
    known = {"rows": len(rows), "held_out": int(held.sum()), "tiers": list(head.tiers), "embedder": head.embedder}
    return known | report, head


def seen(prompts: Sequence[str], embedder: Embedder | None) -> tuple[Numbers, Numbers]:
    """What heads see of prompts: standardised features, and embeddings of shape [n, 0] without an embedder."""
    features = np.array([prompt_features(prompt) for prompt in prompts], np.float64)
    if embedder is None:
        return features, np.zeros((len(prompts), 0))
    return features, np.asarray(embedder.embed([prompt_focus(prompt) for prompt in prompts]), np.float64)


def predicted(head: RoutingHead, features: Numbers, vectors: Numbers) -> Numbers:
    """The probability that each of a head's tiers answers well, shape [n, m]."""
    return chances(head.embedded if vectors.shape[1] else head.text, features, vectors)


def _outcome_figures(
    rows: Outcomes, head: RoutingHead, names: tuple[str, ...], embedder: Embedder | None
) -> dict[str, Any]:
    """Log loss by tier beside that of the tier's mean, and the APGR of the worst and the best tier."""
    chance = predicted(head, *seen(rows.prompts, embedder))
    quality = np.stack([rows.column(name) for name in names], axis=1)
    by_tier: dict[str, dict[str, float]] = {}
    for place, name in enumerate(names):
        asked = np.isfinite(quality[:, place])
        if not asked.any():
            by_tier[name] = {"rows": 0}
            continue
        target = np.clip(quality[asked, place], 0.0, 1.0)
        by_tier[name] = {
            "rows": int(asked.sum()),
            "quality": float(target.mean()),
            "predicted": float(chance[asked, place].mean()),
            "log_loss": _log_loss(target, chance[asked, place]),
            "log_loss_of_mean": _log_loss(target, np.full(len(target), target.mean())),
        }
    report: dict[str, Any] = {"by_tier": by_tier}
    ranked = sorted((name for name in names if by_tier[name]["rows"]), key=lambda name: by_tier[name]["quality"])
    if len(ranked) > 1:
        report["pair"] = _pair(rows, quality, chance, weak=names.index(ranked[0]), strong=names.index(ranked[-1]))
        if report["pair"] is not None:
            report["pair"] |= {"weak": ranked[0], "strong": ranked[-1]}
    return report


def _pair(rows: Outcomes, quality: Numbers, chance: Numbers, *, weak: int, strong: int) -> dict[str, Any] | None:
    """The APGR of two tiers, None where the rows have no gap between them."""
    both = np.isfinite(quality[:, weak]) & np.isfinite(quality[:, strong])
    below, above = quality[both, weak], quality[both, strong]
    if both.sum() < 2 or below.mean() == above.mean():  # noqa: PLR2004 - one prompt makes no curve
        return None
    score = (chance[:, strong] - chance[:, weak])[both]
    length = np.array([float(len(prompt)) for prompt in rows.prompts])[both]
    return {
        "rows": int(both.sum()),
        "apgr": curve(score, below, above).apgr,
        "apgr_95": list(interval(score, below, above)),
        "apgr_of_length": curve(length, below, above).apgr,
    }


def _preference_figures(rows: Preferences, held: NDArray[np.bool_], embedder: Embedder | None) -> dict[str, Any]:
    """How often the preferred answer is told, beside tiers ranked the same for all prompts."""
    features, vectors = seen(rows.prompts, embedder)
    model = fit_preferences(features[~held], vectors[~held], rows.select(~held))
    flat = fit_preferences(np.zeros((int((~held).sum()), 0)), np.zeros((int((~held).sum()), 0)), rows.select(~held))
    told = rows.select(held)
    nothing = np.zeros((len(told), 0))
    figures = {}
    for name, chance in (
        ("head", model.preferred(features[held], vectors[held], told.a, told.b)),
        ("ranking", flat.preferred(nothing, nothing, told.a, told.b)),
    ):
        decided = told.result != 0.5  # noqa: PLR2004 - a tie
        right = (chance > 0.5) == (told.result > 0.5)  # noqa: PLR2004 - even odds
        figures[name] = {
            "accuracy": float(right[decided].mean()) if decided.any() else None,
            "log_loss": _log_loss(told.result, chance),
        }
    ties = float((rows.result == 0.5).mean())  # noqa: PLR2004 - a tie
    return {"ties": ties, "shown_first": model.first, "best": rows.tiers[model.best], **figures}


def _log_loss(target: Numbers, chance: Numbers) -> float:
    chance = np.clip(chance, _FLOOR, 1.0 - _FLOOR)
    return float(-(target * np.log(chance) + (1.0 - target) * np.log(1.0 - chance)).mean())
