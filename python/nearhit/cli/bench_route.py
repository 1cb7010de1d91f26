"""How long a decision takes, from Python: by prompt length, form and number of tiers.

Each figure is the median over rounds that take turns, so that a busy machine slows all alike.
"""

from __future__ import annotations

import json
import statistics
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from nearhit._core import RouterCore
    from nearhit.cli import Subparsers

_SENTENCE = "Explain step by step how a hash table resolves collisions, and compare it with a search tree. "
_CALLS = 500


def register(subparsers: Subparsers) -> None:
    """Adds `nearhit bench route`."""
    parser = subparsers.add_parser("route", help="decision latency", description=__doc__)
    parser.add_argument("--rounds", type=int, default=30, help="turns of each case (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    """Runs `nearhit bench route`."""
    from nearhit._errors import OptionError
    from nearhit.cli import _output

    if args.rounds < 1:
        raise OptionError(f"--rounds {args.rounds}: expected a positive number")
    cases = _cases()
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    with _output.progress(transient=True) as bar:
        for _ in bar.track(range(args.rounds), description="deciding"):
            for name, decide in cases.items():
                seconds[name].append(_time(decide))
    result = {
        name: {"median_us": statistics.median(times) * 1e6, "least_us": min(times) * 1e6}
        for name, times in seconds.items()
    }
    if args.json:
        _output.emit_json(result)
    else:
        for name, figures in result.items():
            print(f"{name:<42}{figures['median_us']:8.2f} µs  (least {figures['least_us']:.2f})")
    return 0


def _cases() -> dict[str, Callable[[], Any]]:
    import numpy as np

    vector = np.random.default_rng(0).normal(size=384).astype(np.float32)
    two, eight = _core(2), _core(8)
    long = (_SENTENCE * 1100)[:100_000]
    text = long[:500]
    turns = [
        {"role": "system", "content": "You are helpful. " * 12},
        {"role": "user", "content": text},
        {"role": "assistant", "content": text},
        {"role": "user", "content": text},
    ]
    return {
        "50 characters, 2 tiers": lambda: two.decide(text[:50]),
        "500 characters, 2 tiers": lambda: two.decide(text),
        "500 characters, 8 tiers": lambda: eight.decide(text),
        "500 characters and embedding, 2 tiers": lambda: two.decide(text, vector=vector),
        "4 messages, 2 tiers": lambda: two.decide(turns),
        "100,000 characters, 2 tiers": lambda: two.decide(long),
        "for scale: json.dumps of the 4 messages": lambda: json.dumps(turns),
    }


def _core(tiers: int) -> RouterCore:
    from nearhit._core import RouterCore
    from nearhit.router import TierProfile

    profiles = [TierProfile(name=f"tier {n}", quality=0.5 + 0.4 * n / tiers, input_cost=n * 1e-6) for n in range(tiers)]
    return RouterCore(profiles, strategy="complexity", cost_weight=0.3, failures=5, cooldown=5.0)


def _time(decide: Callable[[], Any]) -> float:
    start = time.perf_counter()
    for _ in range(_CALLS):
        decide()
    return (time.perf_counter() - start) / _CALLS
