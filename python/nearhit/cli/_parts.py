"""Commands made of parts: each part is a module `COMMAND_PART` beside this one, with `register` and `run`."""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from nearhit.cli import Subparsers


def add_parts(subparsers: Subparsers, command: str, parts: Sequence[str], *, summary: str, about: str | None) -> None:
    """Adds `nearhit COMMAND` with those of its parts that this installation has."""
    parser = subparsers.add_parser(command, help=summary, description=about)
    choices = parser.add_subparsers(title="parts", metavar="PART", dest="part", required=True)
    for part in parts:
        name = f"nearhit.cli.{command}_{part}"
        if importlib.util.find_spec(name):
            importlib.import_module(name).register(choices)


def run_part(command: str, args: argparse.Namespace) -> int:
    """Runs the part asked for; returns the exit status."""
    status: int = importlib.import_module(f"nearhit.cli.{command}_{args.part}").run(args)
    return status
