"""Callers that come while the model is at work go together in the next forward pass.

A caller that finds the model idle runs alone and at once. Whoever comes meanwhile waits; when a pass ends, the first of
those who wait runs the next one, for itself and for others of like length. Nobody waits for a batch to fill.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Final

from nearhit._errors import EmbeddingError

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

_TOGETHER: Final = 16  # texts of one pass, as in a long list
_SPREAD: Final = 2  # texts go together whose lengths differ by this factor at most: the rest is padding


class _Waiting:
    """A caller: its text, and what became of it."""

    __slots__ = ("batch", "error", "ids", "vector", "woken")

    def __init__(self, ids: list[int]) -> None:
        self.ids = ids
        self.woken = threading.Event()
        self.batch: list[_Waiting] | None = None  # whom it is to run for, itself first
        self.vector: NDArray[np.float32] | None = None
        self.error: Exception | None = None


class Gatherer:
    """Runs a model for many callers, each with one text.

    Args:
        name: Of the model, for messages.
        forward: The model: vectors of texts, each a list of ids, in their order.
        lanes: Passes that may run at the same time.
        queue: Callers that may wait; one more is refused.
        patience: Seconds a caller waits at most; None for no bound.

    Example:
        >>> import numpy as np
        >>> Gatherer("lengths", lambda texts: [np.float32([len(ids)]) for ids in texts]).run([7, 8, 9])
        array([3.], dtype=float32)
    """

    def __init__(
        self,
        name: str,
        forward: Callable[[list[list[int]]], list[NDArray[np.float32]]],
        *,
        lanes: int = 1,
        queue: int = 1024,
        patience: float | None = None,
    ) -> None:
        self._name = name
        self._forward = forward
        self._lanes = lanes
        self._queue = queue
        self._patience = patience
        self._lock = threading.Lock()
        self._waiting: deque[_Waiting] = deque()
        self._running = 0

    def run(self, ids: list[int]) -> NDArray[np.float32]:
        """The vector of one text.

        Raises:
            EmbeddingError: The model failed; too many callers wait already; the wait was too long.
        """
        own = _Waiting(ids)
        with self._lock:
            if self._running < self._lanes:
                self._running += 1
                own.batch = [own]
            elif len(self._waiting) >= self._queue:
                raise EmbeddingError(
                    f"{self._name} is too busy: {self._queue} texts wait already; send less, or allow a longer queue"
                )
            else:
                self._waiting.append(own)
        if own.batch is None:
            self._wait(own)
        if own.batch is not None:
            self._lead(own.batch)
        if own.error is not None:
            raise own.error
        assert own.vector is not None  # noqa: S101 - whoever ran the batch set one of the two
        return own.vector

    def _wait(self, own: _Waiting) -> None:
        try:
            if own.woken.wait(self._patience):
                return
        except BaseException:
            # Interrupted: what others are waiting for is done all the same.
            if not self._leave(own) and own.batch is not None:
                self._lead(own.batch)
            raise
        if self._leave(own):
            raise EmbeddingError(f"{self._name} did not embed a text within {self._patience} s: it is too busy")
        own.woken.wait()  # a pass has just begun with it

    def _leave(self, own: _Waiting) -> bool:
        """Takes a caller out of the queue; False if its turn has come."""
        with self._lock:
            if own not in self._waiting:
                return False
            self._waiting.remove(own)
            return True

    def _lead(self, batch: list[_Waiting]) -> None:
        error: Exception = EmbeddingError(f"{self._name} was interrupted")
        vectors: list[NDArray[np.float32]] = []
        try:
            vectors = self._forward([one.ids for one in batch])
        except Exception as failure:  # noqa: BLE001 - every caller of the batch is told
            error = failure
        finally:
            # Also when the leader is interrupted: the others must not wait for ever.
            self._hand_over()
            for place, one in enumerate(batch):
                if place < len(vectors):
                    one.vector = vectors[place]
                else:
                    one.error = error
                one.woken.set()

    def _hand_over(self) -> None:
        """Lets the first of those who wait run the next pass, if there is one."""
        with self._lock:
            if not self._waiting:
                self._running -= 1
                return
            first = self._waiting.popleft()
            batch, length = [first], len(first.ids)
            for one in list(self._waiting):
                if len(batch) < _TOGETHER and length <= _SPREAD * len(one.ids) <= _SPREAD * _SPREAD * length:
                    batch.append(one)
                    self._waiting.remove(one)
            first.batch = batch
            first.woken.set()
