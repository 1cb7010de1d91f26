"""Measure hit, false-hit and routing quality on labelled data."""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from nearhit.cli import Subparsers

_PARTS = ("pairs", "stream", "router")


def register(subparsers: Subparsers) -> None:
    """Adds `nearhit eval` with its parts."""
    parser = subparsers.add_parser("eval", help="measure quality on labelled data", description=__doc__)
    parts = parser.add_subparsers(dest="part", required=True, metavar="WHAT")
    for name in _PARTS:
        if importlib.util.find_spec(f"nearhit.cli.eval_{name}") is not None:
            importlib.import_module(f"nearhit.cli.eval_{name}").register(parts)


def run(args: argparse.Namespace) -> int:
    """Runs `nearhit eval WHAT`."""
    return int(importlib.import_module(f"nearhit.cli.eval_{args.part}").run(args))
