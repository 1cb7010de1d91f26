"""A request stream: hit rate and error of each policy, along the stream.

FILE holds {"prompt", "class"} a line, in the order of the requests; two prompts of one class may share an answer. Error
is the share of wrong hits among all requests.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from nearhit.cli import _judging, _output

if TYPE_CHECKING:
    import argparse

    from nearhit.cli import Subparsers
    from nearhit.evaluate.stream import Outcome

THRESHOLDS = (0.8, 0.85, 0.9, 0.95)
CONFIDENCES = (0.5, 0.6, 0.7, 0.8, 0.9)
DELTAS = (0.01, 0.02, 0.05)


def register(subparsers: Subparsers) -> None:
    """Adds `nearhit eval stream`."""
    parser = subparsers.add_parser("stream", help="a request stream", description=__doc__)
    _judging.add_options(parser)
    choices = ("static", "guards", "verifier", "guarded", "verified", "all")
    parser.add_argument("--policy", choices=choices, default="guarded", help="default: guarded")
    parser.add_argument("--threshold", type=float, action="append", help="similarity of static and guards; repeatable")
    parser.add_argument("--confidence", type=float, action="append", help="of verifier and guarded; repeatable")
    parser.add_argument("--delta", type=float, action="append", help="error bound of verified; repeatable")
    parser.add_argument("--shuffles", type=int, default=0, metavar="N", help="replay N random orders as well")
    parser.add_argument("--plot", type=Path, metavar="PNG", help="write hit rate and error along the stream")


def run(args: argparse.Namespace) -> int:
    """Runs `nearhit eval stream`."""
    import numpy as np

    from nearhit._core import PairVerifier
    from nearhit.evaluate import plots
    from nearhit.evaluate import stream as replay
    from nearhit.evaluate.data import read_stream

    requests = read_stream(args.file)[: args.limit]
    vectors = _judging.embed(args, (request.prompt for request in requests))
    verifier = PairVerifier(args.verifier)
    with _judging.advancing("judging") as advance:
        hood = replay.neighbourhood(requests, vectors, verifier, advance=advance)
    settings = _settings(args, verifier.threshold)
    orders = [np.arange(len(requests))]
    orders += [np.random.default_rng(seed).permutation(len(requests)) for seed in range(1, args.shuffles + 1)]
    outcomes: list[tuple[str, float, list[Outcome]]] = []
    with _judging.advancing("replaying") as advance:
        for done, (policy, value) in enumerate(settings):
            if policy == "verified":
                runs = [replay.replay_verified(hood, order, value, seed=seed) for seed, order in enumerate(orders)]
            else:
                floor = -1.0 if policy in ("static", "guards") else GUARDED_FLOOR
                runs = [replay.replay_threshold(hood, order, policy, value, floor) for order in orders]
            outcomes.append((policy, value, runs))
            advance(done + 1, len(settings))
    names = [f"{policy} {value:g}" for policy, value, _ in outcomes]
    trails = dict(zip(names, (runs[0].trail for _, _, runs in outcomes), strict=True))
    if args.plot:
        hits = {name: [(n, h / n) for n, h, _ in trail] for name, trail in trails.items()}
        errors = {name: [(n, w / n) for n, _, w in trail] for name, trail in trails.items()}
        plots.write(
            args.plot,
            [("hit rate", "requests", "hits / requests", hits), ("error", "requests", "wrong / requests", errors)],
        )
        _output.note(f"wrote {args.plot}")
    if args.json:
        figures = [_figures(*outcome) for outcome in outcomes]
        _output.emit_json({"embedder": vectors.embedder, "requests": len(requests), "runs": figures})
    else:
        _print(outcomes, len(requests))
        errors = {name: [(n, w / n) for n, _, w in trail] for name, trail in list(trails.items())[:7]}
        print(plots.terminal(errors, x="requests", y="wrong hits / requests"))
    return 0


GUARDED_FLOOR = 0.8
"""Least similarity of the policies that judge every candidate, as in the cache."""


def _settings(args: argparse.Namespace, confidence: float) -> list[tuple[str, float]]:
    """Policies with their settings: the ones given, else a sweep under `--policy all`, else the default one."""
    everything = args.policy == "all"
    thresholds = args.threshold or (THRESHOLDS if everything else (0.9,))
    confidences = args.confidence or ((*CONFIDENCES, round(confidence, 3)) if everything else (round(confidence, 3),))
    values = {
        "static": thresholds,
        "guards": thresholds,
        "verifier": confidences,
        "guarded": confidences,
        "verified": args.delta or (DELTAS if everything else (0.02,)),
    }
    return [(policy, value) for policy in _judging.policies_of(args.policy) for value in sorted(set(values[policy]))]


def _figures(policy: str, value: float, runs: list[Outcome]) -> dict[str, Any]:
    first = runs[0]
    name = {"verified": "delta", "static": "threshold", "guards": "threshold"}.get(policy, "confidence")
    figures: dict[str, Any] = {
        "policy": policy,
        name: value,
        "hit_rate": first.hit_rate,
        "exact_rate": first.exact / max(first.requests, 1),
        "error": first.error,
        "error_of_hits": first.error_of_hits,
        "explored": first.explored,
        "trail": first.trail,
    }
    if len(runs) > 1:
        figures["shuffles"] = {
            "hit_rate": [run.hit_rate for run in runs[1:]],
            "error": [run.error for run in runs[1:]],
        }
    return dict(_judging.rounded(figures))


def _print(outcomes: list[tuple[str, float, list[Outcome]]], count: int) -> None:
    from rich.table import Table

    table = Table(title=f"{count:,} requests")
    for name in ("policy", "setting", "hit rate", "exact", "error", "error of hits", "worst error of shuffles"):
        table.add_column(name, justify="left" if name == "policy" else "right")
    for policy, value, runs in outcomes:
        first = runs[0]
        worst = f"{max(run.error for run in runs[1:]):.4f}" if len(runs) > 1 else "-"
        cells = (f"{value:g}", f"{first.hit_rate:.3f}", f"{first.exact / max(count, 1):.3f}", f"{first.error:.4f}")
        table.add_row(policy, *cells, f"{first.error_of_hits:.3f}", worst)
    _output.results().print(table)
