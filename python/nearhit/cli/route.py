"""Show how a prompt would be routed: which tier, by which rules, why, and what was thought of the others.

With --calibrate FILE, choose the cost weight instead: for a share of strong calls, a mean cost or a mean quality on the
prompts of FILE (JSON lines with a "prompt" or "messages", else one prompt a line). Nothing is sent either way.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Never

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

    from nearhit.cli import Subparsers
    from nearhit.router import Alternative, Router, TierProfile

_TIERS = ("small:0.6:0.15:0.6", "large:0.9:2.5:10")
_OF_TIERS = ("price", "quality", "max_context", "capabilities", "max_concurrency")


def register(subparsers: Subparsers) -> None:
    """Adds `route`."""
    parser = subparsers.add_parser("route", help="show how a prompt would be routed", description=__doc__)
    parser.add_argument("prompt", nargs="?", help='the prompt; "-" reads it from standard input')
    parser.add_argument("--calibrate", metavar="FILE", help="choose the cost weight on these prompts")
    target = parser.add_mutually_exclusive_group()
    target.add_argument("--strong-share", type=float, help="share of prompts for the strong tier")
    target.add_argument("--cost", type=float, help="US dollars that a prompt may cost on average")
    target.add_argument("--quality", type=float, help="mean probability of a good answer")
    parser.add_argument("--strong", metavar="TIER", help="the strong tier (default: the one of the highest quality)")
    parser.add_argument(
        "--tier",
        metavar="NAME:QUALITY[:IN:OUT]",
        action="append",
        help="a tier: share of prompts it answers well, US dollars per million prompt and answer tokens; may be "
        f"repeated (default: those of --config, else {' '.join(_TIERS)})",
    )
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="a nearhit.toml with [[tiers]], [router] and [[router.rules]]; no tier is loaded or called",
    )
    parser.add_argument("--strategy", help="complexity (the default), best, cheapest or fastest")
    parser.add_argument("--cost-weight", type=float, help="quality that the dearest tier must add (default: 0.3)")
    parser.add_argument("--max-cost", type=float, help="US dollars that the answer may cost")
    parser.add_argument("--max-tokens", type=int, help="longest answer, in tokens")
    parser.add_argument("--tag", action="append", default=[], help="a tag, for rules of metadata; may be repeated")
    parser.add_argument(
        "--about",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="a fact for rules of metadata, such as user=alice; may be repeated",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns the exit status."""
    from nearhit._errors import OptionError
    from nearhit.cli import _output

    if (args.prompt is None) == (args.calibrate is None):
        raise OptionError("give a prompt, or prompts to calibrate on with --calibrate FILE")
    router = _router(args)
    if args.calibrate is not None:
        return _calibrate(args, router)
    prompt = sys.stdin.read() if args.prompt == "-" else args.prompt
    decision = router.decide(
        prompt, max_cost=args.max_cost, max_tokens=args.max_tokens, tags=args.tag, about=_about(args.about)
    )
    every = [decision.choice, *decision.alternatives]
    if args.json:
        _output.emit_json(
            {
                "tier": decision.tier,
                "reason": decision.reason,
                "difficulty": decision.difficulty,
                "score": decision.score,
                "predicted_cost": decision.predicted_cost,
                "rules": [{"name": each.name, "evidence": each.evidence, "kept": each.kept} for each in decision.rules],
                "tiers": [_fields(each) for each in every],
            }
        )
        return 0
    from rich.markup import escape
    from rich.table import Table

    console = _output.results()
    console.print(escape(f"{decision.tier}: {decision.reason}"))
    for rule in decision.rules:
        console.print(escape(f"rule {rule.name}: {rule.evidence}; {'kept' if rule.kept else 'set aside'}"))
    table = Table("tier", "answers well", "US dollars", "utility", "verdict")
    for each in every:
        cost = f"{each.predicted_cost:.6f}"
        table.add_row(escape(each.tier), f"{each.score:.3f}", cost, f"{each.utility:+.3f}", escape(each.verdict))
    console.print(table)
    return 0


def _calibrate(args: argparse.Namespace, router: Router) -> int:
    from dataclasses import asdict
    from pathlib import Path

    from nearhit.cli import _judging, _output
    from nearhit.evaluate.data import read_prompts

    prompts = read_prompts(Path(args.calibrate))
    targets = {"strong_share": args.strong_share, "cost": args.cost, "quality": args.quality}
    with _judging.advancing("embedding") as advance:
        found = router.calibrate(prompts, **targets, strong=args.strong, progress=advance)
    low, high = found.strong_share_interval
    if args.json:
        _output.emit_json({**asdict(found), "strong_share_95": [low, high]})
        return 0
    print(f"cost weight       {found.cost_weight:.6g}")
    print(f"strong calls      {found.strong_share:.1%} to {found.strong} (95 %: {low:.1%} to {high:.1%})")
    print(f"a prompt          {found.cost:.6f} US dollars, quality {found.quality:.3f}")
    print(f"tiers             {', '.join(f'{name} {share:.1%}' for name, share in found.shares.items())}")
    print(f"prompts           {found.prompts:,}")
    return 0


def _router(args: argparse.Namespace) -> Router:
    """The router that the options describe, over tiers that cannot be called."""
    from nearhit import Cache, config
    from nearhit._errors import OptionError
    from nearhit.router import Router, SemanticRule

    given: dict[str, Any] = {"strategy": args.strategy, "cost_weight": args.cost_weight}
    options = {name: value for name, value in given.items() if value is not None}
    found = config.load(args.config) if args.config else config.Config()
    if args.tier or not args.config:
        profiles = [_profile(text) for text in args.tier or _TIERS]
        options |= {"profiles": {profile.name: profile for profile in profiles}}
        tiers = [_stand_in(profile.name) for profile in profiles]
    else:
        tiers = [_stand_in(tier["name"], _promises(tier)) for tier in found.tiers]
        if not tiers:
            raise OptionError(f"{args.config} has no [[tiers]]: add some, or name tiers with --tier")
    configured = found.router_options(without={"on_trace", *options})
    semantic = any(isinstance(rule, SemanticRule) for rule in configured.get("rules", ()))
    embedder = found.make_embedder() if semantic or (args.calibrate and found.embedder is not None) else None
    # Behind a cache the head sees the embeddings that the cache makes.
    cache = Cache(embedder) if args.calibrate and embedder is not None else None
    return Router(tiers, embedder=embedder, cache=cache, **configured, **options)


def _promises(tier: Mapping[str, Any]) -> dict[str, Any]:
    """What a configured tier says of itself; one of replicas says what its first replica does."""
    from nearhit.tiers import Price

    stated = {**(tier.get("tiers") or [{}])[0], **tier}
    found = {name: stated[name] for name in _OF_TIERS if name in stated}
    return {**found, "price": Price(**found["price"])} if found.get("price") else found


def _stand_in(name: str, options: dict[str, Any] | None = None) -> Any:
    from nearhit.tiers import FunctionTier

    return FunctionTier(name, _never, **(options or {}))


def _never(*_messages: object, **_params: object) -> Never:
    raise AssertionError("a dry run calls no tier")


def _about(given: Sequence[str]) -> dict[str, Any]:
    """Facts by name; values that read as JSON are what they say, all others are texts."""
    import json

    from nearhit._errors import OptionError

    found: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise OptionError(f"--about {text!r} is not valid: expected NAME=VALUE")
        *path, last = name.split(".")
        place = found
        for key in path:
            place = place.setdefault(key, {})
            if not isinstance(place, dict):
                raise OptionError(f"--about {text!r} is not valid: {key} is a value already")
        try:
            place[last] = json.loads(value)
        except ValueError:
            place[last] = value
    return found


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
