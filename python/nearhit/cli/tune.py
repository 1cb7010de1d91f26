"""Choose the threshold and recalibrate the verifier for your own traffic.

FILE holds labelled pairs, {"a", "b", "label"} a line. The shipped trees and network stay; what they say is calibrated
anew on four fifths of the pairs, and the threshold is the lowest with the stated precision there. The other fifth,
which shares no text with them, is only reported on.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from nearhit.cli import _judging, _output

if TYPE_CHECKING:
    import argparse

    from nearhit.cli import Subparsers


def register(subparsers: Subparsers) -> None:
    """Adds `nearhit tune`."""
    parser = subparsers.add_parser("tune", help="choose the threshold, fit the verifier", description=__doc__)
    _judging.add_options(parser)
    parser.add_argument("--precision", type=float, default=0.9, help="precision to reach; default: %(default)s")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the tuned verifier here")


def run(args: argparse.Namespace) -> int:
    """Runs `nearhit tune`."""
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
