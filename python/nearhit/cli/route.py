"""Show how a prompt would be routed: which tier, why, and what was thought of the others. Sends nothing."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from nearhit.cli import Subparsers
    from nearhit.router import Alternative, TierProfile

_TIERS = ("small:0.6:0.15:0.6", "large:0.9:2.5:10")


def register(subparsers: Subparsers) -> None:
    """Adds `route`."""
    parser = subparsers.add_parser("route", help="show how a prompt would be routed", description=__doc__)
    parser.add_argument("prompt", help='the prompt; "-" reads it from standard input')
    parser.add_argument(
        "--tier",
        metavar="NAME:QUALITY[:IN:OUT]",
        action="append",
        help="a tier: share of prompts it answers well, US dollars per million prompt and answer tokens; may be "
        f"repeated (default: {' '.join(_TIERS)})",
    )
    parser.add_argument("--strategy", default="complexity", help="complexity, best, cheapest or fastest")
    parser.add_argument("--cost-weight", type=float, default=0.3, help="quality that the dearest tier must add")
    parser.add_argument("--max-cost", type=float, help="US dollars that the answer may cost")
    parser.add_argument("--max-tokens", type=int, help="longest answer, in tokens")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns the exit status."""
    from nearhit._core import RouterCore
    from nearhit.cli import _output

    profiles = [_profile(text) for text in args.tier or _TIERS]
    core = RouterCore(profiles, strategy=args.strategy, cost_weight=args.cost_weight, failures=1, cooldown=1.0)
    prompt = sys.stdin.read() if args.prompt == "-" else args.prompt
    decision = core.decide(prompt, max_cost=args.max_cost, max_tokens=args.max_tokens)
    every = [decision.choice, *decision.alternatives]
    if args.json:
        _output.emit_json(
            {
                "tier": decision.tier,
                "reason": decision.reason,
                "difficulty": decision.difficulty,
                "score": decision.score,
                "predicted_cost": decision.predicted_cost,
                "tiers": [_fields(each) for each in every],
            }
        )
        return 0
    from rich.table import Table

    console = _output.results()
    console.print(f"{decision.tier}: {decision.reason}")
    table = Table("tier", "answers well", "US dollars", "utility", "verdict")
    for each in every:
        cost = f"{each.predicted_cost:.6f}"
        table.add_row(each.tier, f"{each.score:.3f}", cost, f"{each.utility:+.3f}", each.verdict)
    console.print(table)
    return 0


def _fields(each: Alternative) -> dict[str, object]:
    return {
        "tier": each.tier,
        "score": each.score,
        "utility": each.utility,
        "predicted_cost": each.predicted_cost,
        "verdict": each.verdict,
    }


def _profile(text: str) -> TierProfile:
    from nearhit._errors import OptionError
    from nearhit.router import TierProfile

    name, *fields = text.split(":")
    try:
        quality, *prices = map(float, fields)
        input_cost, output_cost = prices or (0.0, 0.0)
    except ValueError:
        raise OptionError(f"--tier {text!r} is not valid: expected NAME:QUALITY or NAME:QUALITY:IN:OUT") from None
    return TierProfile(name=name, quality=quality, input_cost=input_cost * 1e-6, output_cost=output_cost * 1e-6)
