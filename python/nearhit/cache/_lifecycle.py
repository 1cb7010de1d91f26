"""Caches with a file, at the two moments when a process would leave them in the lurch: its exit, and a fork."""

from __future__ import annotations

import atexit
import os
import weakref
from typing import TYPE_CHECKING, Protocol

from nearhit._core import wait_for_detached

if TYPE_CHECKING:
    from nearhit._core import CacheCore


class _Renewable(Protocol):
    def renew(self) -> None: ...


_open: weakref.WeakSet[CacheCore] = weakref.WeakSet()
_renewed: weakref.WeakSet[_Renewable] = weakref.WeakSet()


def keep_until_exit(core: CacheCore) -> None:
    """Has the cache's file written to its end when the interpreter exits."""
    _open.add(core)


def renew_in_child(calls: _Renewable) -> None:
    """Has calls under way forgotten in a forked child: the threads that make them exist in the parent only."""
    _renewed.add(calls)


def _renew_all() -> None:
    for calls in list(_renewed):
        calls.renew()


@atexit.register
def _close_all() -> None:
    for core in list(_open):
        core.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=wait_for_detached, after_in_child=_renew_all)
