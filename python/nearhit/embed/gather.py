"""Callers that come while the model is at work go together in the next forward pass.

A caller that finds the model idle runs alone and at once. Whoever comes meanwhile waits; when a pass ends, the first of
those who wait runs the next one, for itself and for others of like length. Nobody waits for a batch to fill.

A caller may go away at any time: its time is over, it is called off, or its thread is interrupted. If it was its turn
to run a pass, the next of those it would have run it for does so.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Final

from nearhit._bound import Bound
from nearhit._errors import EmbedderBusyError

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

_TOGETHER: Final = 16  # texts of one pass, as in a long list
_SPREAD: Final = 2  # texts go together whose lengths differ by this factor at most: the rest is padding


class _Waiting:
    """A caller: its text, and what became of it."""

    __slots__ = ("gone", "ids", "mates", "outcome", "woken")

    def __init__(self, ids: list[int]) -> None:
        self.ids = ids
        self.woken = threading.Event()
        self.mates: list[_Waiting] | None = None  # for whom it is to run a pass besides itself; None: it is not to
        self.outcome: NDArray[np.float32] | Exception | None = None
        self.gone = False


class Gatherer:
    """Runs a model for many callers, each with one text.

    Args:
        name: The embedder, for messages.
        forward: Token ids of some texts to a vector for each.
        lanes: Passes that may run at the same time.
        queue: Callers that may wait; one more is refused.

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
    ) -> None:
        self._name = name
        self._forward = forward
        self._lanes = lanes
        self._queue = queue
        self._lock = threading.Lock()
        self._waiting: deque[_Waiting] = deque()
        self._leading: set[_Waiting] = set()

    def run(self, ids: list[int], bound: Bound | None = None) -> NDArray[np.float32]:
        """The vector of one text.

        Args:
            ids: Its tokens.
            bound: How long it may take until a pass with it has ended, and the way to call it off; None for no bound.

        Raises:
            EmbeddingError: The model failed, or the caller was called off.
            EmbedderBusyError: Too many callers wait already.
            EmbeddingTimeoutError: It took too long.
        """
        bound = bound or Bound()
        own = _Waiting(ids)
        try:
            bound.check(self._name)
            self._enter(own)
            if own.mates is None:
                self._wait(own, bound)
            if own.mates is not None:
                self._lead(own, own.mates)
        except BaseException:
            self._leave(own)
            raise
        if isinstance(own.outcome, Exception):
            raise own.outcome
        assert own.outcome is not None  # noqa: S101 - whoever ran the pass has set it
        return own.outcome

    def _enter(self, own: _Waiting) -> None:
        with self._lock:
            if len(self._leading) < self._lanes:
                own.mates = []
                self._leading.add(own)
            elif len(self._waiting) < self._queue:
                self._waiting.append(own)
            else:
                raise EmbedderBusyError(
                    f"{self._name} is too busy: {self._queue} texts wait already; send less, or allow a longer queue"
                )

    def _wait(self, own: _Waiting, bound: Bound) -> None:
        """Returns when the turn has come to run a pass, or somebody else's pass has brought the outcome."""
        with bound.watched(own.woken.set):
            while not own.woken.wait(bound.left):
                bound.check(self._name)
        if own.outcome is None:
            bound.check(self._name)

    def _lead(self, own: _Waiting, mates: list[_Waiting]) -> None:
        outcomes = self._outcomes([own.ids, *(one.ids for one in mates)])
        with self._lock:
            self._leading.discard(own)
            self._fill()
        for one, outcome in zip((own, *mates), outcomes, strict=True):
            one.outcome = outcome
            one.woken.set()

    def _outcomes(self, texts: list[list[int]]) -> list[NDArray[np.float32] | Exception]:
        try:
            return list(self._forward(texts))
        except Exception as error:  # noqa: BLE001 - told to the caller whose text it is
            if len(texts) == 1:
                return [error]
        # One text's failure is not its neighbours'.
        return [outcome for text in texts for outcome in self._outcomes([text])]

    def _leave(self, own: _Waiting) -> None:
        """Takes out a caller who goes away, wherever it is; those it was to run a pass for get another leader."""
        with self._lock:
            own.gone = True
            if own in self._waiting:
                self._waiting.remove(own)
            self._leading.discard(own)
            left = [one for one in own.mates or () if not one.gone]
            for one in left:
                if one.outcome is not None:
                    one.woken.set()  # interrupted while it told them
            self._start([one for one in left if one.outcome is None])
            self._fill()

    def _fill(self) -> None:
        """Starts passes for those who wait, as far as there are lanes. Called under the lock."""
        while self._waiting and len(self._leading) < self._lanes:
            self._start(self._next())

    def _start(self, batch: list[_Waiting]) -> None:
        """Lets the first of a batch run the pass of all of it. Called under the lock."""
        if batch:
            first, *first.mates = batch
            self._leading.add(first)
            first.woken.set()

    def _next(self) -> list[_Waiting]:
        """Takes those who go together next out of the queue. Called under the lock."""
        first = self._waiting.popleft()
        batch, length = [first], len(first.ids)
        for one in list(self._waiting):
            if len(batch) < _TOGETHER and length <= _SPREAD * len(one.ids) <= _SPREAD * _SPREAD * length:
                batch.append(one)
                self._waiting.remove(one)
        return batch
