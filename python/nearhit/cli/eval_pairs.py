"""Labelled pairs: precision, recall, hits and false hits of each policy.

FILE holds {"a", "b", "label"} a line, label 1 if one answer serves both prompts.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from nearhit.cli import _judging, _output

if TYPE_CHECKING:
    import argparse

    from nearhit.cli import Subparsers

CHOICES = ("static", "guards", "verifier", "guarded", "all")


def register(subparsers: Subparsers) -> None:
    """Adds `nearhit eval pairs`."""
    parser = subparsers.add_parser("pairs", help="labelled pairs", description=__doc__)
    _judging.add_options(parser)
    parser.add_argument("--policy", choices=CHOICES, default="guarded", help="default: guarded")
    parser.add_argument("--plot", type=Path, metavar="PNG", help="write precision-recall and reliability curves")


def run(args: argparse.Namespace) -> int:
    """Runs `nearhit eval pairs`."""
    import numpy as np

    from nearhit._core import PairVerifier
    from nearhit.evaluate import pairs as evaluation
    from nearhit.evaluate import plots
    from nearhit.evaluate.data import read_pairs
    from nearhit.evaluate.metrics import reliability
    from nearhit.evaluate.policies import judge

    rows = read_pairs(args.file)[: args.limit]
    labels = np.array([row.label for row in rows])
    vectors = _judging.embed(args, (text for row in rows for text in (row.a, row.b)))
    verifier = PairVerifier(args.verifier)
    texts = [(row.a, row.b) for row in rows]
    judged = judge(verifier, texts, vectors.of(row.a for row in rows), vectors.of(row.b for row in rows))
    policies = tuple(name for name in _judging.policies_of(args.policy) if name != "verified")
    found = evaluation.evaluate(judged, labels, verifier.threshold, policies)
    curves = {
        name: _thin(list(zip(line.recall.tolist(), line.precision.tolist(), strict=True)))
        for name, line in evaluation.lines(judged, labels, policies).items()
    }
    if args.plot:
        reliable = {"verifier": [(mean, share) for mean, share, _ in reliability(labels, judged.confidence)]}
        plots.write(
            args.plot,
            [
                ("precision and recall", "recall", "precision", curves),
                ("reliability", "confidence", "share right", reliable | {"ideal": [(0.0, 0.0), (1.0, 1.0)]}),
            ],
        )
        _output.note(f"wrote {args.plot}")
    if args.json:
        _output.emit_json(
            {
                "embedder": vectors.embedder,
                "pairs": len(rows),
                "right": _judging.rounded(float(labels.mean())),
                "confidence_threshold": _judging.rounded(verifier.threshold),
                "policies": _judging.rounded(found),
            }
        )
    else:
        _print(found, len(rows), float(labels.mean()))
        print(plots.terminal(dict(curves.items()), x="recall", y="precision"))
    return 0


def _thin(points: list[tuple[float, float]], most: int = 400) -> list[tuple[float, float]]:
    """Every n-th point; the first hundredth of the recall is noise."""
    kept = [point for point in points if point[0] >= 0.01]  # noqa: PLR2004 - said above
    return kept[:: max(len(kept) // most, 1)]


def _print(found: dict[str, dict[str, Any]], count: int, right: float) -> None:
    from rich.table import Table

    table = Table(title=f"{count:,} pairs, {right:.1%} right")
    for name in ("policy", "PR-AUC", "AUC", "R@P.80", "R@P.85", "R@P.90", "hits", "recall", "false hits", "precision"):
        table.add_column(name, justify="left" if name == "policy" else "right")
    for policy, figures in found.items():
        at, default = figures["recall_at_precision"], figures["default"]
        cells = [figures["pr_auc"], figures["auc"], at["0.80"], at["0.85"], at["0.90"]]
        cells += [default[name] for name in ("hits", "recall", "false_hits", "precision")]
        table.add_row(policy, *("-" if cell is None else f"{cell:.3f}" for cell in cells))
    _output.results().print(table)
