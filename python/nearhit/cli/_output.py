"""Printing: results on stdout, everything that is only for the eye on stderr.

Colour and live drawing are for terminals only: both are off when the stream is piped, and colour when NO_COLOR is set.
"""

from __future__ import annotations

import json
import sys
from functools import cache
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

if TYPE_CHECKING:
    from rich.console import RenderableType

    from nearhit._errors import Error

_PIPED_WIDTH = 120  # a pipe has no width of its own; 80 columns would cut prompts that a log file has room for


@cache
def results() -> Console:
    """The console of stdout: tables and lines that are the command's result."""
    return _console(stderr=False)


@cache
def diagnostics() -> Console:
    """The console of stderr: progress, notes, warnings and errors."""
    return _console(stderr=True)


def show(renderable: RenderableType) -> None:
    """Prints a table or a text on stdout; in a pipe, without the blanks that fill tables up to their width."""
    console = results()
    if console.is_terminal:
        console.print(renderable)
        return
    with console.capture() as capture:
        console.print(renderable)
    for line in capture.get().splitlines():
        sys.stdout.write(f"{line.rstrip()}\n")


def emit_json(value: Any) -> None:
    """Prints one JSON document on stdout, indented on a terminal and on one line in a pipe."""
    indent = 2 if sys.stdout.isatty() else None
    escape = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
    sys.stdout.write(json.dumps(value, ensure_ascii=escape, indent=indent, allow_nan=False) + "\n")


def note(message: str) -> None:
    """Prints one quiet line on stderr."""
    diagnostics().print(Text(message, style="dim"), soft_wrap=True)


def warn(message: str) -> None:
    """Prints one warning line on stderr."""
    diagnostics().print(Text.assemble(("warning: ", "bold yellow"), message), soft_wrap=True)


def report(error: Error) -> None:
    """Prints an error of nearhit's own as one line on stderr; its message holds the way out."""
    message = " ".join(str(error).split()) or type(error).__name__
    diagnostics().print(Text.assemble(("nearhit: ", "bold red"), message), soft_wrap=True)


def progress(*, unit: str = "items", transient: bool = False) -> Progress:
    """A progress bar on stderr, to be used in a `with` statement; silent when stderr is not a terminal.

    Args:
        unit: "items" counts what is done, "bytes" shows sizes and speed.
        transient: Whether the bar disappears once it is finished.

    Example:
        >>> with progress() as bar:
        ...     for row in bar.track([1, 2, 3], description="embedding"):
        ...         pass
    """
    counts = (DownloadColumn(), TransferSpeedColumn()) if unit == "bytes" else (MofNCompleteColumn(),)
    console = diagnostics()
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        *counts,
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=transient,
        disable=not console.is_terminal,
    )


class _Console(Console):
    """A console that leaves a broken pipe to the command's frame instead of ending the process itself."""

    def on_broken_pipe(self) -> None:
        """Called by rich inside the handler of the BrokenPipeError."""
        raise BrokenPipeError


def _console(*, stderr: bool) -> Console:
    console = _Console(stderr=stderr, highlight=False)
    if not console.is_terminal:
        console.width = _PIPED_WIDTH
    return console
