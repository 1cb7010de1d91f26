"""What the evaluating commands share: options, embedding with a progress bar, rounding."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nearhit.cli import _output

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Iterator

    from nearhit.evaluate.vectors import VectorTable


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of every evaluating command."""
    parser.add_argument("file", metavar="FILE", type=Path, help="JSON lines, plain or gzip")
    parser.add_argument("--verifier", type=Path, metavar="FILE", help="a verifier that `nearhit tune` wrote")
    parser.add_argument("--embedder", default="all-MiniLM-L6-v2", metavar="NAME", help="default: %(default)s")
    parser.add_argument(
        "--engine",
        choices=("auto", "native", "ctranslate2"),
        default="auto",
        help="default: %(default)s",
    )
    parser.add_argument("--vectors", type=Path, metavar="NPZ", help="keep the vectors in this file between runs")
    parser.add_argument("--limit", type=int, metavar="N", help="read the first N rows only")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def policies_of(choice: str) -> tuple[str, ...]:
    """Policies that `--policy` names."""
    from nearhit.evaluate.policies import NAMES

    return NAMES if choice == "all" else (choice,)


def embed(args: argparse.Namespace, texts: Iterable[str]) -> VectorTable:
    """Vectors of the texts, with a bar on stderr."""
    from nearhit import embed as embedding
    from nearhit.evaluate.vectors import embed_all

    with advancing("embedding") as advance:
        embedder = embedding.load(args.embedder, engine=args.engine)
        return embed_all(texts, embedder, store=args.vectors, advance=advance)


@contextmanager
def advancing(description: str) -> Iterator[Callable[[int, int], None]]:
    """A bar that is told (done, total)."""
    with _output.progress(transient=True) as bar:
        task = bar.add_task(description, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def rounded(value: Any, digits: int = 4) -> Any:
    """The value with all its numbers rounded, for printing."""
    if isinstance(value, float):
        return round(value, digits)
    if isinstance(value, dict):
        return {key: rounded(item, digits) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item, digits) for item in value]
    return value
