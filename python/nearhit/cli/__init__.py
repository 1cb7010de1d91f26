"""The `nearhit` command.

One module per subcommand, imported only when that subcommand is asked for, so that `nearhit --help` stays quick.

To add a subcommand, write `nearhit/cli/NAME.py` with two functions, and give NAME a line in `COMMANDS`:

    def register(subparsers: Subparsers) -> None:
        parser = subparsers.add_parser("NAME", help="...", description=__doc__)
        parser.add_argument("--json", action="store_true", help="print the result as JSON")

    def run(args: argparse.Namespace) -> int:
        ...                       # results: print() or _output.emit_json(); progress: _output.progress()
        return 0

A subcommand with subcommands of its own (`eval pairs`) adds them to its parser in `register` and tells them apart in
`run`; a long one has a module of its own (`eval_pairs.py`) with the same two functions. Imports of anything heavy
(numpy, ctranslate2, rich) belong inside `run`. Errors of `nearhit.Error` may simply be raised: `main` prints them as
one line and turns them into the exit status.

Exit status: 0 success, 1 failure, 2 wrong usage or an unusable value, 130 interrupted, 141 the reader went away.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import io
import os
import sys
from typing import TYPE_CHECKING, Protocol, TypeAlias, cast

from nearhit import __version__
from nearhit._errors import Error, InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["COMMANDS", "Subparsers", "main"]

Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001 - typeshed's name for it
"""What `register` of a subcommand's module is given."""

COMMANDS: dict[str, str] = {
    "demo": "see hits, tiers and latency on real models, in about a minute",
    "serve": "run the OpenAI-compatible gateway",
    "models": "fetch, list and remove models",
    "convert": "convert a model to CTranslate2, without torch",
    "eval": "measure hit, false-hit and routing quality on labelled data",
    "tune": "choose the threshold and fit the verifier for a stated error",
    "route": "show how a prompt would be routed",
    "bench": "measure speed side by side with installed peers",
    "cache": "look into a cache file: stats, inspect, export, import, clear",
}
"""Subcommands and what they do, in the order of `nearhit --help`; those without a module are left out."""

FAILURE, USAGE, INTERRUPTED, READER_GONE = 1, 2, 130, 141


class _Command(Protocol):
    """What a subcommand's module offers."""

    def register(self, subparsers: Subparsers, /) -> None: ...

    def run(self, args: argparse.Namespace, /) -> int: ...


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the `nearhit` command.

    Args:
        argv: Arguments without the program's name; `sys.argv[1:]` by default.

    Returns:
        The exit status.

    Raises:
        SystemExit: After `--help` and `--version` (0) and on unusable arguments (2), as argparse does.

    Example:
        >>> from nearhit.cli import main
        >>> main([])  # doctest: +ELLIPSIS
        usage: nearhit ...
        2
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    _never_fail_to_print()
    parser, command = _build(arguments)
    args = parser.parse_args(arguments)
    if command is None:
        parser.print_help()
        return USAGE
    try:
        status = command.run(args)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # `nearhit ... | head`: leave quietly, and let the interpreter's last flush go nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return READER_GONE
    except Error as error:
        from nearhit.cli._output import report

        report(error)
        return USAGE if isinstance(error, InputError) else FAILURE
    return status


def available() -> dict[str, str]:
    """The subcommands of this installation and what they do."""
    return {name: text for name, text in COMMANDS.items() if importlib.util.find_spec(f"{__name__}.{name}")}


def _build(arguments: Sequence[str]) -> tuple[argparse.ArgumentParser, _Command | None]:
    """Makes the parser; only the subcommand that `arguments` name is imported and described in full."""
    parser = argparse.ArgumentParser(
        prog="nearhit",
        description="Answer LLM requests from a semantic cache when that is safe, and route the rest.",
        epilog="Start with `nearhit demo`. Each command has its own --help.",
    )
    parser.add_argument("--version", action="version", version=f"nearhit {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND")
    chosen = next((argument for argument in arguments if not argument.startswith("-")), None)
    command = None
    for name, summary in available().items():
        if name == chosen:
            command = cast("_Command", importlib.import_module(f"{__name__}.{name}"))
            command.register(subparsers)
        else:
            subparsers.add_parser(name, help=summary)
    return parser, command


def _never_fail_to_print() -> None:
    """Lets characters the terminal's encoding lacks, and lone surrogates, be printed escaped instead of raising."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
