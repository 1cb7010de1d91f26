"""Measure speed side by side with installed peers."""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from nearhit.cli import Subparsers

_PARTS = ("index", "cache", "embed", "route", "gateway")
"""What can be measured; each is a module `bench_NAME` beside this one."""


def register(subparsers: Subparsers) -> None:
    """Adds `nearhit bench` with the parts that this installation has."""
    parser = subparsers.add_parser("bench", help="measure speed side by side with installed peers", description=__doc__)
    parts = parser.add_subparsers(title="parts", metavar="PART", dest="part", required=True)
    for name in _PARTS:
        if importlib.util.find_spec(f"nearhit.cli.bench_{name}"):
            importlib.import_module(f"nearhit.cli.bench_{name}").register(parts)


def run(args: argparse.Namespace) -> int:
    """Runs `nearhit bench PART`."""
    status: int = importlib.import_module(f"nearhit.cli.bench_{args.part}").run(args)
    return status
