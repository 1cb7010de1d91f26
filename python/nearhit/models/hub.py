"""Models of the Hugging Face hub: data files of one pinned commit, never code or pickles."""

from __future__ import annotations

import shutil
import threading
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from nearhit._errors import MissingDependencyError, ModelDownloadError, ModelFormatError
from nearhit.models.files import STORAGE_ERRNOS, folder_size, require_space, storage_error, storage_errors
from nearhit.models.source import SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from nearhit.models.progress import Progress

_POLL_SECONDS = 0.1


def take(name: str, work: Path, progress: Progress) -> tuple[Path, str]:
    """Downloads the model files of a repository at its present commit; an interrupted download goes on where it broke.

    Args:
        name: OWNER/NAME.
        work: Folder of the lock's holder.
        progress: Told about the download in bytes.

    Returns:
        A folder inside `work` with the files, and the address of the commit they are of.

    Raises:
        MissingDependencyError: The extra `hub` is not installed.
        ModelDownloadError: No such repository, no permission, or no network.
        ModelFormatError: The repository holds no usable model files.
        StorageError: No room, or no permission.
    """
    try:
        import huggingface_hub  # noqa: PLC0415 - an optional dependency
    except ImportError as error:
        raise MissingDependencyError(
            f"fetching {name} needs the package huggingface-hub; install it with `pip install nearhit[hub]`"
        ) from error
    try:
        info = huggingface_hub.HfApi().model_info(name, files_metadata=True)
    except Exception as error:
        raise _failure(name, error, work) from error
    files = choose(name, {sibling.rfilename: sibling.size or 0 for sibling in info.siblings or []})
    total = sum(files.values())
    destination = work / f"hub-{info.sha}"
    require_space(work, total)
    progress("download", 0, total)

    def download() -> None:
        huggingface_hub.snapshot_download(name, revision=info.sha, allow_patterns=list(files), local_dir=destination)

    def tick() -> None:
        progress("download", min(folder_size(destination), total), total)

    with _library_bars_off():
        _run(download, tick, name, work)
    with storage_errors(destination):
        shutil.rmtree(destination / ".cache", ignore_errors=True)
        incomplete = [file for file in files if not (destination / file).is_file()]
    if incomplete:
        raise ModelDownloadError(f"{name}: {', '.join(incomplete)} did not arrive; fetch again")
    progress("download", total, total)
    return destination, f"https://huggingface.co/{name}/tree/{info.sha}"


def choose(name: str, sizes: dict[str, int]) -> dict[str, int]:
    """Picks the files nearhit can use from a repository's listing: top-level data files and modules' config.json.

    Args:
        name: The repository, for messages.
        sizes: Bytes by path.

    Raises:
        ModelFormatError: There are no weights among them, or several GGUF files.
    """
    chosen: dict[str, int] = {}
    for path, size in sizes.items():
        parts = PurePosixPath(path).parts
        top = len(parts) == 1 and PurePosixPath(path).suffix in SUFFIXES
        module = len(parts) == 2 and parts[1] == "config.json"  # noqa: PLR2004 - folder and file
        if (top or module) and ".." not in parts:
            chosen[path] = size
    weights = [path for path in chosen if path.endswith((".safetensors", ".gguf"))]
    if not weights:
        raise ModelFormatError(f"{name} has no .safetensors or .gguf file (pickled weights are never loaded)")
    several = [path for path in weights if path.endswith(".gguf")]
    if len(several) > 1:
        raise ModelFormatError(
            f"{name} holds several GGUF files ({', '.join(several)}); download one and give its path instead"
        )
    return chosen


def _run(download: Callable[[], object], tick: Callable[[], object], name: str, work: Path) -> None:
    """Runs the download beside the caller's thread, which tells about its progress and stays interruptible."""
    failures: list[Exception] = []

    def target() -> None:
        try:
            download()
        except Exception as error:  # noqa: BLE001 - handed to the caller's thread
            failures.append(error)

    thread = threading.Thread(target=target, name="nearhit-hub", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(_POLL_SECONDS)
        tick()
    if failures:
        raise _failure(name, failures[0], work) from failures[0]


def _failure(name: str, error: Exception, work: Path) -> Exception:
    from huggingface_hub import errors  # noqa: PLC0415 - an optional dependency

    if isinstance(error, errors.GatedRepoError):
        return ModelDownloadError(f"{name} is gated: accept its terms on the hub and log in with `hf auth login`")
    if isinstance(error, errors.RepositoryNotFoundError):
        return ModelDownloadError(
            f"the hub has no model {name!r} that you may read; check the name, or `hf auth login`"
        )
    if isinstance(error, OSError) and error.errno in STORAGE_ERRNOS:
        return storage_error(error, work)
    reason = " ".join(str(error).split())[:300] or type(error).__name__
    return ModelDownloadError(
        f"downloading {name} from the hub failed: {reason}; check the network and HF_ENDPOINT, "
        "or give a folder that holds the model's files"
    )


@contextmanager
def _library_bars_off() -> Iterator[None]:
    """The library's own bars off; progress is told in one place only."""
    from huggingface_hub.utils.tqdm import (  # noqa: PLC0415 - an optional dependency
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    if are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()
