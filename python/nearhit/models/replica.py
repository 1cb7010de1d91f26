"""Things that own threads, replaced in the child after a fork.

A fork copies memory but not threads. A CTranslate2 model called in the child would wait for its lost threads for ever,
and freed there it crashes; so the child forgets the parent's without freeing it, and starts its own on first use.
"""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_live: weakref.WeakSet[Replica[Any]] = weakref.WeakSet()


class Replica(Generic[T]):
    """One value per process, started on first use, and again in every forked child that uses it.

    Args:
        start: Makes the value; called under a lock.

    Example:
        >>> from concurrent.futures import ThreadPoolExecutor
        >>> from nearhit.models.replica import Replica
        >>> pool = Replica(lambda: ThreadPoolExecutor(2))
        >>> pool.get().submit(len, "abc").result()
        3
    """

    def __init__(self, start: Callable[[], T]) -> None:
        self._start = start
        self._value: T | None = None
        self._lock = threading.Lock()
        _live.add(self)

    def get(self) -> T:
        """Returns this process's value, starting it if need be; what `start` raises passes through."""
        value = self._value
        if value is None:
            with self._lock:
                if self._value is None:
                    self._value = self._start()
                value = self._value
        return value

    def _forget(self) -> None:
        if self._value is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._value))
        self._value = None
        self._lock = threading.Lock()  # the old one may have been held by a thread that is not here


def _forget_all() -> None:
    for replica in list(_live):
        replica._forget()  # noqa: SLF001 - the class's other half


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
