"""See hits, tiers and latency on real models, in about a minute.

Plays a script of requests through the real embedder, cache, router and two real model tiers; shows each request's
outcome as it happens, then where the time went and what it came to. The first run downloads the two default models
(176 MB) and converts them; both are kept for the next run.
"""

from __future__ import annotations

import os
import time
from contextlib import ExitStack, contextmanager
from itertools import zip_longest
from typing import TYPE_CHECKING

from nearhit._errors import OptionError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from nearhit.cli import Subparsers
    from nearhit.demo.play import Player
    from nearhit.demo.record import Record
    from nearhit.demo.script import Request
    from nearhit.demo.stage import Remote, Stage

_MAX_TOKENS = 24
"""Long enough for a short answer, and short enough for the script to end within 90 seconds on two cores."""


def register(subparsers: Subparsers) -> None:
    """Adds `nearhit demo`."""
    parser = subparsers.add_parser(
        "demo", help="see hits, tiers and latency on real models, in about a minute", description=__doc__
    )
    parser.add_argument(
        "--prompts",
        metavar="FILE",
        help='play your own prompts: text, one a line, or JSON lines with "prompt" or "messages", and "class" if you '
        'know which of them may share an answer; may be gzipped; "-" reads standard input',
    )
    parser.add_argument("--limit", type=int, metavar="N", help="play only the first N requests")
    parser.add_argument(
        "--max-tokens", type=int, default=_MAX_TOKENS, metavar="N", help="tokens of an answer (default: %(default)s)"
    )
    parser.add_argument(
        "--threshold", type=float, metavar="T", help="least cosine similarity of a near hit (default: the cache's)"
    )
    parser.add_argument("--answers", action="store_true", help="print the answers too")
    parser.add_argument("--json", action="store_true", help="print every record and the summary as one JSON document")
    remote = parser.add_argument_group("a server as the large tier, in place of the local model in float32")
    remote.add_argument("--base-url", metavar="URL", help="where its OpenAI-compatible API begins, up to /v1")
    remote.add_argument("--model", metavar="NAME", help="the model's name on that server")
    remote.add_argument("--api-key", metavar="KEY", help="its key (default: OPENAI_API_KEY of the environment)")


def run(args: argparse.Namespace) -> int:
    """Prepares the models, plays the requests, prints what happened."""
    from nearhit.cli import _output
    from nearhit.cli._progress import following
    from nearhit.demo import prepare, screens, stage
    from nearhit.demo.play import Player, time_alone
    from nearhit.demo.summary import summarise

    requests = _requests(args)
    remote = _remote(args)
    missing = prepare.missing([prepare.EMBEDDER, prepare.SMALL, *([] if remote else [prepare.LARGE])])
    if missing:
        _output.note(missing.describe())
        prepare.prepare(missing, following)
    with _loaded(remote, args.threshold) as parts:
        player = Player(parts.router, params={"max_tokens": args.max_tokens, "temperature": 0.0})
        start = time.perf_counter()
        records = _play_counting(player, requests) if args.json else _play_showing(player, requests, parts, args)
        seconds = time.perf_counter() - start
        micro = time_alone(parts.router, parts.cache)
    summary = summarise(records, large=stage.LARGE, seconds=seconds, micro=micro)
    if args.json:
        _output.emit_json({"summary": summary.to_json(), "records": [record.to_json() for record in records]})
    else:
        _output.show(screens.closing(summary))
        _output.show(screens.next_steps(_next_steps(args)))
    return 0


def _requests(args: argparse.Namespace) -> list[Request]:
    from nearhit.demo import script

    for name in ("limit", "max_tokens"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise OptionError(f"--{name.replace('_', '-')} {value}: expected a whole number, at least 1")
    return script.read(args.prompts, limit=args.limit) if args.prompts else script.load()[: args.limit]


def _remote(args: argparse.Namespace) -> Remote | None:
    from nearhit.demo.stage import Remote

    if args.base_url is None:
        if args.model is not None or args.api_key is not None:
            raise OptionError("--model and --api-key describe a server: give its address with --base-url too")
        return None
    if args.model is None:
        raise OptionError("--base-url needs the model's name on that server: give it with --model")
    return Remote(args.base_url, args.model, args.api_key or os.environ.get("OPENAI_API_KEY"))


@contextmanager
def _loaded(remote: Remote | None, threshold: float | None) -> Iterator[Stage]:
    """Loads the models, and says so on a terminal while it takes its moment."""
    from nearhit.cli import _output
    from nearhit.demo import stage

    with ExitStack() as stack:
        with _output.diagnostics().status("loading the models..."):
            parts = stack.enter_context(stage.build(remote=remote, threshold=threshold))
        yield parts


def _play_counting(player: Player, requests: Sequence[Request]) -> list[Record]:
    """Plays with a progress bar on stderr alone."""
    from nearhit.cli import _output

    with _output.progress(transient=True) as bar:
        return list(bar.track(player.play(requests), total=len(requests), description="playing"))


def _play_showing(player: Player, requests: Sequence[Request], parts: Stage, args: argparse.Namespace) -> list[Record]:
    """Plays line by line on stdout; on a terminal, the request that is being answered stands below."""
    from rich.text import Text

    from nearhit.cli import _output
    from nearhit.demo import screens

    console = _output.results()
    _output.show(screens.opening([("requests", f"{len(requests)}, one after the other"), *parts.facts]))
    if any(request.answer_class is not None for request in requests):
        _output.show(screens.legend())
    _output.show(screens.columns())
    records: list[Record] = []
    with console.status("") as status:
        for record, following in zip_longest(player.play(requests), requests[1:]):
            records.append(record)
            _output.show(screens.line(record, width=console.width))
            if args.answers:
                _output.show(screens.answer(record))
            if following is not None:
                asked = screens.elide(following.text, max(20, console.width - 16))
                status.update(Text(f"{record.number + 1:>3} of {len(requests)}  {asked}", style="dim"))
    return records


def _next_steps(args: argparse.Namespace) -> list[tuple[str, str]]:
    steps = [
        ("nearhit demo --prompts FILE", "your own prompts, one a line"),
        ("nearhit demo --base-url URL --model NAME", "a server of yours as the large tier"),
        ("nearhit demo --answers", "with what the models said"),
        ("nearhit demo --json", "every record and figure, for machines"),
    ]
    used = {
        "--prompts": args.prompts is not None,
        "--base-url": args.base_url is not None,
        "--answers": args.answers,
    }
    return [(command, effect) for command, effect in steps if not any(used[flag] and flag in command for flag in used)]
