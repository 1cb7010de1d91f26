"""Caches with a file, at the two moments when a process would leave them in the lurch: its exit, and a fork."""

from __future__ import annotations

import atexit
import os
import weakref
from typing import TYPE_CHECKING

from nearhit._core import wait_for_detached

if TYPE_CHECKING:
    from nearhit._core import CacheCore

_open: weakref.WeakSet[CacheCore] = weakref.WeakSet()


def keep_until_exit(core: CacheCore) -> None:
    """Has the cache's file written to its end when the interpreter exits."""
    _open.add(core)


@atexit.register
def _close_all() -> None:
    for core in list(_open):
        core.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=wait_for_detached)
