"""Virtual time."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Timer:
    """Something that is due; `cancel` makes nothing of it."""

    __slots__ = ("action",)

    def __init__(self, action: Callable[[], None]) -> None:
        self.action: Callable[[], None] | None = action

    def cancel(self) -> None:
        """Makes nothing of it; it may have happened already."""
        self.action = None


class Clock:
    """What is due next happens next; of what is due together, what was asked for first.

    Attributes:
        now: Seconds since the start.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[tuple[float, int, Timer]] = []
        self._asked = 0

    def at(self, when: float, action: Callable[[], None]) -> Timer:
        """Asks for something to be done; a time that has passed means at once."""
        timer = Timer(action)
        heapq.heappush(self._due, (max(when, self.now), self._asked, timer))
        self._asked += 1
        return timer

    def run(self) -> None:
        """Goes on until nothing is due."""
        while self._due:
            when, _, timer = heapq.heappop(self._due)
            if timer.action is not None:
                self.now = when
                timer.action()
