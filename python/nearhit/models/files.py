"""Files of the store: locks between processes, folders that appear whole or not at all, checksums, typed refusals."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from nearhit._errors import StorageError
from nearhit.models.home import home
from nearhit.models.progress import silent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nearhit.models.progress import Progress

_FULL = (errno.ENOSPC, errno.EDQUOT)
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR)
STORAGE_ERRNOS = frozenset({*_FULL, *_REFUSED})
"""What the file system says when it is full, or does not want us."""

_SLACK = 64 << 20


def storage_error(error: OSError, path: Path, *, needed: int | None = None) -> StorageError:
    """Returns the typed error for a refusal of the file system, naming the path and the way out."""
    where = f"{path}: {error.strerror or error}"
    amount = f" ({megabytes(needed)} are needed)" if needed else ""
    if error.errno in _FULL:
        return StorageError(f"no space left at {where}{amount}; free some, or point NEARHIT_HOME at another disk")
    if error.errno in _REFUSED:
        return StorageError(f"cannot write {where}; fix the permissions, or point NEARHIT_HOME at a folder of yours")
    return StorageError(f"the file system failed at {where}; point NEARHIT_HOME at another folder if it stays so")


@contextmanager
def storage_errors(path: Path, *, needed: int | None = None) -> Iterator[None]:
    """Turns an OSError of the block into a StorageError about `path`."""
    try:
        yield
    except OSError as error:
        raise storage_error(error, Path(error.filename or path), needed=needed) from error


def require_space(folder: Path, needed: int) -> None:
    """Checks that the disk of `folder` has room before anything long starts.

    Raises:
        StorageError: Fewer than `needed` bytes, plus some slack, are free.
    """
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
    if free < needed + _SLACK:
        raise StorageError(
            f"{folder} has {megabytes(free)} free and {megabytes(needed + _SLACK)} are needed; "
            "free some, or point NEARHIT_HOME at another disk"
        )


def megabytes(size: int) -> str:
    """Returns a size in bytes as people read it."""
    return f"{size / 1e6:.1f} MB"


@contextmanager
def exclusive(name: str, progress: Progress = silent) -> Iterator[Path]:
    """Holds the lock `name` of this nearhit home against other threads and processes.

    The operating system drops the lock with its process, so a killed holder blocks nobody; whatever lies in the
    work folder when the lock is taken was left by such a holder.

    Args:
        name: What is being made; one lock and one work folder each.
        progress: Told "wait" once if another process holds the lock.

    Yields:
        A work folder for the holder alone, on the same disk as the result; removed at the end without an error.

    Raises:
        StorageError: The lock or the work folder cannot be made.
    """
    from filelock import FileLock, Timeout  # noqa: PLC0415 - kept out of `import nearhit`

    lock = home() / "locks" / f"{name}.lock"
    work = home() / "partial" / name
    with storage_errors(lock):
        lock.parent.mkdir(parents=True, exist_ok=True)
        guard = FileLock(lock)
        try:
            guard.acquire(timeout=0)
        except Timeout:
            progress("wait", 0, 0)
            guard.acquire()
    try:
        with storage_errors(work):
            work.mkdir(parents=True, exist_ok=True)
        yield work
        shutil.rmtree(work, ignore_errors=True)
    finally:
        guard.release()


def place(folder: Path, destination: Path) -> None:
    """Moves a finished folder to its place; readers see all of it or nothing.

    Its files reach the disk first, so that a power cut cannot leave a complete-looking folder with empty files. Call
    with the lock held.

    Raises:
        StorageError: The file system refused.
    """
    with storage_errors(destination):
        for file in folder.rglob("*"):
            if file.is_file():
                _sync(file)
        destination.parent.mkdir(parents=True, exist_ok=True)
        replaced = folder.with_name("replaced")
        if destination.exists():
            destination.rename(replaced)
        folder.rename(destination)
        shutil.rmtree(replaced, ignore_errors=True)


def _sync(file: Path) -> None:
    descriptor = os.open(file, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256(path: Path) -> str:
    """Returns the SHA-256 of a file in hexadecimal.

    Raises:
        StorageError: The file cannot be read.
    """
    with storage_errors(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_size(folder: Path) -> int:
    """Returns the size of all files below a folder, in bytes; files that vanish meanwhile count nothing."""
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(root, name)).st_size  # noqa: PTH118 - os.walk gives strings
            except FileNotFoundError:
                continue
    return total
