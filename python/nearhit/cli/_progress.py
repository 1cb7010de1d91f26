"""Shows the progress that `nearhit.models` tells about, on stderr."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from nearhit.cli import _output

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.progress import TaskID

    from nearhit.models import Progress

_IN_BYTES = frozenset({"download", "copy"})
_VERBS = {"download": "downloading", "copy": "copying", "convert": "converting"}


@contextmanager
def following(name: str) -> Iterator[Progress]:
    """Shows what happens to a model: one line with its size when a stage starts, and a bar on a terminal.

    Args:
        name: The model, as the lines name it.

    Yields:
        What to give to a function of `nearhit.models` as its `progress`.
    """
    bars = {True: _output.progress(unit="bytes", transient=True), False: _output.progress(unit="steps", transient=True)}
    tasks: dict[str, TaskID] = {}

    def follow(stage: str, done: int, total: int, /) -> None:
        if stage == "wait":
            _output.note(f"waiting for another process that prepares {name}")
            return
        in_bytes = stage in _IN_BYTES
        bar = bars[in_bytes]
        verb = _VERBS.get(stage, stage)
        if stage not in tasks:
            for other in bars.values():
                other.stop()
            size = f" ({total / 1e6:.1f} MB)" if in_bytes else ""
            _output.note(f"{verb} {name}{size}")
            bar.start()
            tasks[stage] = bar.add_task(f"{verb} {name}", total=total)
        bar.update(tasks[stage], completed=done)

    try:
        yield follow
    finally:
        for bar in bars.values():
            bar.stop()
