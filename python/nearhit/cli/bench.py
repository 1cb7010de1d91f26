"""Measure speed side by side with installed peers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nearhit.cli._parts import add_parts, run_part

if TYPE_CHECKING:
    import argparse

    from nearhit.cli import Subparsers

_PARTS = ("index", "cache", "embed", "route", "gateway")


def register(subparsers: Subparsers) -> None:
    """Adds `nearhit bench` with its parts."""
    add_parts(subparsers, "bench", _PARTS, summary="measure speed side by side with installed peers", about=__doc__)


def run(args: argparse.Namespace) -> int:
    """Runs `nearhit bench PART`."""
    return run_part("bench", args)
