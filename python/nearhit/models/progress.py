"""How long work tells whoever waits how far it is."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called now and then, on the caller's own thread, by functions that take long.

    The first call comes before any work is done, so that the size can be shown before it starts.
    """

    def __call__(self, stage: str, done: int, total: int, /) -> None:
        """Takes what is being done and how many of how many bytes (or steps, for "convert") are done.

        Stages are "download", "copy" and "convert"; "wait" says once that another process is at it.
        """


def silent(_stage: str, _done: int, _total: int, /) -> None:
    """Tells nobody."""
