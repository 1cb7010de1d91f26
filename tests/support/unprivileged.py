"""Permission tests that mean something as root, too."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

NOBODY = 65534


@contextmanager
def unprivileged(folder: Path) -> Iterator[None]:
    """Runs the block as a user whom permissions bind; `folder` and all in it become that user's."""
    if os.geteuid() != 0:
        yield
        return
    top = Path(tempfile.gettempdir()).resolve()
    for above in (folder, *folder.resolve().parents):
        if above == top or top not in above.resolve().parents:
            break
        above.chmod(above.stat().st_mode | 0o055)
    for path in (folder, *folder.rglob("*")):
        shutil.chown(path, NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
