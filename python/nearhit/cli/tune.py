"""Fit to your own traffic: the cache's verifier, or the router's head, by what the JSON lines of FILE hold.

Labelled pairs {"a", "b", "label"} choose the threshold and recalibrate the verifier: the shipped trees and network
stay, what they say is calibrated anew on four fifths of the pairs, and the threshold is the lowest with the stated
precision there.

Outcomes {"prompt", "outcomes": {tier: number}} and preferences {"prompt", "a": tier, "b": tier, "winner": "a" | "b" |
"tie"} fit a head for your own tiers, any number of them: `Router(head=...)` reads what --out writes.

In each case the other fifth, which shares no text with what was fitted on, is only reported on.
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nearhit.cli import _judging, _output

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from nearhit._types import Embedder
    from nearhit.cli import Subparsers
    from nearhit.evaluate.outcomes import Outcomes
    from nearhit.evaluate.preferences import Preferences


def register(subparsers: Subparsers) -> None:
    """Adds `nearhit tune`."""
    parser = subparsers.add_parser("tune", help="fit the verifier or a routing head", description=__doc__)
    _judging.add_options(parser)
    parser.add_argument("--precision", type=float, default=0.9, help="precision to reach; default: %(default)s")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the tuned verifier, or the head, here")
    parser.add_argument("--tiers", metavar="NAMES", help="names in the rows that are tiers, with commas; default: all")
    parser.add_argument("--no-embedding", action="store_true", help="fit the head on the text's features alone")


def run(args: argparse.Namespace) -> int:
    """Runs `nearhit tune`."""
    from nearhit.evaluate.data import read_rows

    first = next(iter(read_rows(args.file)), {})
    if "outcomes" in first or "winner" in first:
        return _tune_head(args, outcomes="outcomes" in first)
    return _tune_verifier(args)


def _tune_head(args: argparse.Namespace, *, outcomes: bool) -> int:
    import numpy as np

    from nearhit.evaluate.head_tuning import tune_head
    from nearhit.evaluate.outcomes import read_outcomes
    from nearhit.evaluate.preferences import read_preferences

    rows: Outcomes | Preferences = read_outcomes(args.file) if outcomes else read_preferences(args.file)
    if args.limit is not None:
        rows = rows.select(np.arange(len(rows)) < args.limit)
    embedder = None if args.no_embedding else _embedder(args, rows.prompts)
    tiers = args.tiers.split(",") if args.tiers else None
    report, head = tune_head(rows, tiers=tiers, embedder=embedder)
    if args.out:
        head.save(args.out)
        _output.note(f"wrote {args.out}")
    if args.json:
        _output.emit_json(_judging.rounded(report))
    else:
        _print_head(report)
    return 0


def _embedder(args: argparse.Namespace, prompts: Sequence[str]) -> Embedder:
    """An embedder that has embedded the prompts' questions already, with a bar on stderr."""
    from nearhit._core import prompt_focus

    return _judging.embed(args, (prompt_focus(prompt) for prompt in prompts)).as_embedder()


def _print_head(report: dict[str, Any]) -> None:
    width = max(18, *(len(name) + 2 for name in report["tiers"]))
    print(f"{report['kind']:<{width}}{report['rows']:,} ({report['held_out']:,} held out)")
    for name, figures in islice(report.get("by_tier", {}).items(), 50):
        if figures["rows"]:
            print(
                f"{name:<{width}}answers {figures['quality']:.3f} well, predicted {figures['predicted']:.3f}; log loss "
                f"{figures['log_loss']:.3f}, of its mean {figures['log_loss_of_mean']:.3f}"
            )
    pair = report.get("pair")
    if pair is not None:
        low, high = pair["apgr_95"]
        print(
            f"{'APGR':<{width}}{pair['apgr']:.3f} ({low:.3f} to {high:.3f}) from {pair['weak']} to {pair['strong']}; "
            f"prompt length {pair['apgr_of_length']:.3f}"
        )
    for name in ("head", "ranking"):
        figures = report.get(name)
        if figures is not None:
            accuracy = "-" if figures["accuracy"] is None else f"{figures['accuracy']:.3f}"
            print(f"{name:<{width}}tells the preferred answer {accuracy}; log loss {figures['log_loss']:.3f}")


def _tune_verifier(args: argparse.Namespace) -> int:
    from nearhit._core import PairVerifier
    from nearhit._errors import OptionError
    from nearhit.evaluate.data import read_pairs
    from nearhit.evaluate.tuning import tune

    if not 0.0 < args.precision < 1.0:
        raise OptionError(f"--precision {args.precision} is not a share between 0 and 1")
    rows = read_pairs(args.file)[: args.limit]
    vectors = _judging.embed(args, (text for row in rows for text in (row.a, row.b)))
    report, content = tune(rows, vectors, PairVerifier(args.verifier), args.precision)
    if args.out:
        from nearhit.evaluate.verifier_file import write_bytes

        write_bytes(args.out, content)
        _output.note(f"wrote {args.out}")
    if args.json:
        _output.emit_json(_judging.rounded(report))
    else:
        _print(report)
    return 0


def _print(report: dict[str, Any]) -> None:
    print(f"pairs             {report['pairs']:,} ({report['held_out']:,} held out)")
    print(f"threshold         {report['threshold']:.3f} for precision {report['precision']:.2f}")
    for when in ("before", "after"):
        figures = report[when]
        precision = "-" if figures["precision"] is None else f"{figures['precision']:.3f}"
        print(
            f"{when:<18}precision {precision}, recall {figures['recall']:.3f}, "
            f"calibration error {figures['calibration_error']:.3f}"
        )
