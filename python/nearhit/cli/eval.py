"""Measure hit, false-hit and routing quality on labelled data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nearhit.cli._parts import add_parts, run_part

if TYPE_CHECKING:
    import argparse

    from nearhit.cli import Subparsers

_PARTS = ("pairs", "stream", "router")


def register(subparsers: Subparsers) -> None:
    """Adds `nearhit eval` with its parts."""
    add_parts(subparsers, "eval", _PARTS, summary="measure quality on labelled data", about=__doc__)


def run(args: argparse.Namespace) -> int:
    """Runs `nearhit eval PART`."""
    return run_part("eval", args)
