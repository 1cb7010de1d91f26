"""How long a decision takes, and what the decisions are worth under load.

The first part times `decide` by prompt length, form and number of tiers: medians over rounds that take turns, so that a
busy machine slows all alike. The second replays recorded arrivals over three simulated tiers, one of them degraded half
of the time, with errors and stalls, under our policy and under others' balancers.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    from nearhit._core import RouterCore
    from nearhit.bench.replay import Scenario
    from nearhit.cli import Subparsers

_SENTENCE = "Explain step by step how a hash table resolves collisions, and compare it with a search tree. "
_CALLS = 500
_TRACE = Path("traces", "azure_llm_conversation.csv.gz")


def register(subparsers: Subparsers) -> None:
    """Adds `nearhit bench route`."""
    parser = subparsers.add_parser("route", help="decision latency, and a replay under load", description=__doc__)
    parser.add_argument("--only", choices=("decide", "replay"), help="leave the other part out")
    parser.add_argument("--rounds", type=int, default=30, help="turns of each case of decide (default: %(default)s)")
    parser.add_argument(
        "--trace",
        type=Path,
        action="append",
        metavar="FILE",
        help=f"recorded arrivals, Azure CSV or Mooncake JSON lines; repeatable (default: {_TRACE} in NEARHIT_DATA)",
    )
    parser.add_argument("--requests", type=int, metavar="N", help="only the first N of each trace")
    parser.add_argument(
        "--load",
        type=float,
        action="append",
        help="share of what the tiers can do while one is degraded; repeatable (default: 0.8)",
    )
    parser.add_argument("--degraded", default="medium", help="small, medium, large or none (default: %(default)s)")
    parser.add_argument("--factor", type=float, default=4.0, help="how much slower it is then (default: %(default)s)")
    parser.add_argument("--deadline", type=float, help="seconds for each answer (default: --patience says)")
    parser.add_argument(
        "--patience",
        type=float,
        default=2.0,
        help="deadline in times that an average request takes alone on the slowest tier (default: %(default)s)",
    )
    parser.add_argument("--seeds", type=int, default=3, help="replays of each policy (default: %(default)s)")
    parser.add_argument("--plot", type=Path, metavar="PNG", help="draw the first trace and load")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    """Runs `nearhit bench route`."""
    from nearhit._errors import OptionError
    from nearhit.cli import _output

    for name in ("rounds", "seeds", "requests"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise OptionError(f"--{name} {value}: expected a positive number")
    result: dict[str, Any] = {}
    if args.only != "replay":
        result["decide"] = _decide(args.rounds)
    if args.only != "decide" and (traces := _traces(args)):
        result["replay"] = _replay(args, traces)
    if args.json:
        _output.emit_json(result)
        return 0
    for name, figures in result.get("decide", {}).items():
        print(f"{name:<42}{figures['median_us']:8.2f} µs  (least {figures['least_us']:.2f})")
    for each in result.get("replay", []):
        _show(each)
    return 0


def _traces(args: argparse.Namespace) -> list[Path]:
    """The traces asked for, else the default one where there is one."""
    from nearhit._errors import InputError
    from nearhit.cli import _output

    if args.trace:
        return list(args.trace)
    found = Path(os.environ.get("NEARHIT_DATA", "../shared/data"), _TRACE)
    if found.is_file():
        return [found]
    absent = f"there is no {found} to replay: set NEARHIT_DATA, or name a file with --trace"
    if args.only == "replay":
        raise InputError(absent)
    _output.note(absent)
    return []


def _scenarios(args: argparse.Namespace) -> list[Scenario]:
    from nearhit._errors import OptionError
    from nearhit.bench.replay import Scenario

    names = [tier.name for tier in Scenario().tiers]
    if args.degraded not in (*names, "none"):
        raise OptionError(f"--degraded {args.degraded}: expected {', '.join(names)} or none")
    degraded = None if args.degraded == "none" else names.index(args.degraded)
    return [
        Scenario(load=load, degraded=degraded, factor=args.factor, deadline=args.deadline, patience=args.patience)
        for load in args.load or [0.8]
    ]


def _replay(args: argparse.Namespace, traces: Sequence[Path]) -> list[dict[str, Any]]:
    from nearhit.bench.replay import POLICIES, compare, read_trace
    from nearhit.cli import _output

    scenarios = _scenarios(args)
    read = {path: read_trace(path, args.requests) for path in traces}
    results: list[dict[str, Any]] = []
    with _output.progress(transient=True) as bar:
        task = bar.add_task("replaying", total=len(read) * len(scenarios) * args.seeds * len(POLICIES))
        for path, trace in read.items():
            for scenario in scenarios:
                figures, outcomes, workload = compare(
                    scenario, trace, seeds=args.seeds, advance=lambda: bar.advance(task)
                )
                if args.plot and not results:
                    _draw(args.plot, outcomes, workload)
                results.append({"trace": path.name, **figures})
    return results


def _draw(path: Path, outcomes: Any, workload: Any) -> None:
    from nearhit.bench.replay import attained_along, waits
    from nearhit.cli import _output
    from nearhit.evaluate import plots

    along, until = attained_along(outcomes, workload), waits(outcomes, workload)
    plots.write(
        path,
        [
            ("in time, along the trace", "minutes", "in time / requests", along),
            ("time to first token", "seconds", "with a first token / requests", until),
        ],
    )
    _output.note(f"wrote {path}")


_COLUMNS = {
    "attained": ("in time", "{:.1%}"),
    "attained_degraded": ("degraded", "{:.1%}"),
    "ttft_p50": ("ttft p50", "{:.2f} s"),
    "ttft_p99": ("ttft p99", "{:.2f} s"),
    "ttft_p99_served": ("p99 served", "{:.2f} s"),
    "usd_per_1000": ("USD/1000", "{:.2f}"),
    "quality": ("quality", "{:.3f}"),
    "good_in_time": ("good+timely", "{:.3f}"),
    "extra_calls": ("extra", "{:.1%}"),
    "refused": ("refused", "{:.1%}"),
}


def _show(each: dict[str, Any]) -> None:
    from rich.table import Table

    from nearhit.cli import _output

    slow = "no tier degraded" if each["degraded"] is None else f"{each['degraded']} x {each['factor']:g}"
    title = (
        f"{each['trace']}: {each['requests']:,} requests in {each['seconds'] / 60:.0f} min, load {each['load']:g}, "
        f"{slow}, deadline {each['deadline']:.1f} s, mean of {each['seeds']} seeds"
    )
    table = Table(title=title)
    table.add_column("policy", no_wrap=True)
    for name, _ in _COLUMNS.values():
        table.add_column(name, justify="right")
    for policy, figures in each["policies"].items():
        table.add_row(policy, *(form.format(figures[key]["mean"]) for key, (_, form) in _COLUMNS.items()))
    _output.show(table)


def _decide(rounds: int) -> dict[str, dict[str, float]]:
    """Times `decide`, in microseconds, by case."""
    from nearhit.cli import _output

    cases = _cases()
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    with _output.progress(transient=True) as bar:
        for _ in bar.track(range(rounds), description="deciding"):
            for name, decide in cases.items():
                seconds[name].append(_time(decide))
    return {
        name: {"median_us": statistics.median(times) * 1e6, "least_us": min(times) * 1e6}
        for name, times in seconds.items()
    }


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
        **_ruled(text, vector),
        "for scale: json.dumps of the 4 messages": lambda: json.dumps(turns),
    }


def _ruled(text: str, vector: Any) -> dict[str, Callable[[], Any]]:
    """`Router.decide` with rules, beside one without."""
    import numpy as np

    from nearhit import FunctionTier, Router
    from nearhit.router import KeywordRule, MetadataRule, RegexRule, SemanticRule

    class Fixed:
        """Vectors as wide as the default embedder's, at no cost."""

        dim, id = 384, "fixed@1"

        def embed(self, texts: list[str]) -> Any:
            return np.random.default_rng(1).normal(size=(len(texts), 384)).astype(np.float32)

    def ruled(*rules: Any) -> Router:
        tiers = [FunctionTier(name, lambda _: "") for name in ("small", "large")]
        return Router(tiers, rules=rules, embedder=Fixed())

    few = [
        KeywordRule(["refund", "chargeback"], only="large"),
        RegexRule(r"\b\d{16}\b", only="small"),
        MetadataRule(tags="batch", only="small"),
    ]
    many = [
        *(KeywordRule([f"word{n}{m}" for m in range(10)], only="large") for n in range(20)),
        *(RegexRule([rf"\bINV-{n}\d+\b", rf"(?i)order no {n}"], only="large") for n in range(20)),
    ]
    routers = {
        "no rules": ruled(),
        "3 rules": ruled(*few),
        "40 rules of 240 words and patterns": ruled(*many),
        "a rule of language": ruled(MetadataRule(languages="de", only="small")),
    }
    cases: dict[str, Callable[[], Any]] = {
        f"Router, {name}": partial(router.decide, text) for name, router in routers.items()
    }
    near = ruled(*(SemanticRule([f"{n}{m}" for m in range(10)], only="large") for n in range(10)))
    return {**cases, "Router, 10 semantic rules, embedding given": lambda: near.decide(text, vector=vector)}


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
