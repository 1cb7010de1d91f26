"""A model's own files: where they are, and what they are in one hash."""

from __future__ import annotations

import errno
import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nearhit._errors import ModelFormatError, ModelNotFoundError, OptionError
from nearhit.models.catalogue import CATALOGUE
from nearhit.models.files import sha256, storage_error, storage_errors
from nearhit.models.home import models_folder

RECORD = "nearhit-model.json"
"""Beside a fetched model's files: where they came from and their hash."""

SUFFIXES = frozenset({".safetensors", ".gguf", ".json", ".txt"})
"""The files a model is made of; code and pickles are neither fetched nor copied nor read."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?")
_LONGEST_NAME = 150  # file systems allow 255 bytes, and conversions add to it
_NOT_IN_A_SLUG = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class Source:
    """A model's files on this machine.

    Attributes:
        name: What the model is called.
        path: Its folder, or a single GGUF file.
    """

    name: str
    path: Path

    def content(self) -> str:
        """Returns the SHA-256 over the model's files and their names, in hexadecimal.

        A fetched model's hash was recorded when it was placed, and is taken from there while no file has changed.

        Raises:
            ModelNotFoundError: The folder holds no model files.
            StorageError: A file cannot be read.
        """
        files = model_files(self.path)
        if not files:
            raise ModelNotFoundError(f"{self.path} holds none of {', '.join(sorted(SUFFIXES))}: no model is there")
        recorded = read_record(self.path)
        if recorded.get("stamps") == stamps(self.path) and isinstance(recorded.get("content"), str):
            return str(recorded["content"])
        return content_hash(self.path)


def slug(name: str) -> str:
    """Returns a model's name as a folder name: "owner/repo" becomes "owner--repo".

    Raises:
        OptionError: It is not a name.
    """
    if not is_name(name):
        raise OptionError(
            f"{name!r} is not a model name; expected NAME or OWNER/NAME of letters, digits, '.', '_' and '-'"
        )
    return name.replace("/", "--")


def find(model: str | Path) -> Source:
    """Finds a model on this machine: a fetched one by name, else a local folder or GGUF file by its path.

    Raises:
        ModelNotFoundError: Neither is there; the message says how to fetch it.
    """
    named = isinstance(model, str) and is_name(model)
    if named:
        wheel = CATALOGUE.get(str(model).casefold())
        name = wheel.name if wheel else str(model)
        folder = models_folder() / slug(name)
        if folder.is_dir():
            return Source(name, folder)
    local = find_path(model)
    if local is not None:
        return local
    hint = (
        f"run `nearhit models fetch {model}`"
        if named
        else "check the path, or give the name of a fetched model (`nearhit models list`)"
    )
    raise ModelNotFoundError(f"no model {str(model)[:200]!r} in {models_folder()}, and no such folder; {hint}")


def find_path(path: str | Path) -> Source | None:
    """Returns the model at a path; None if nothing is there.

    Raises:
        StorageError: The path cannot be looked at.
    """
    if not str(path) or "\0" in str(path):
        return None
    try:
        absolute = Path(path).expanduser().resolve()
    except (RuntimeError, OSError):  # the home of nobody, or links that go round in a circle
        return None
    try:
        return Source(_path_name(absolute), absolute) if absolute.exists() else None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return None
        raise storage_error(error, absolute) from error


def is_name(text: str) -> bool:
    """Whether a text has the form of a model name: NAME or OWNER/NAME."""
    return len(text) <= _LONGEST_NAME and _NAME.fullmatch(text) is not None


def model_files(path: Path) -> list[Path]:
    """Returns the files a model is made of, sorted: a GGUF file, or those of a folder and its direct subfolders."""
    if path.is_file():
        return [path]
    with storage_errors(path):
        candidates = [*path.glob("*"), *path.glob("*/*")]
        return sorted(file for file in candidates if file.suffix in SUFFIXES and file.name != RECORD and file.is_file())


def content_hash(path: Path) -> str:
    """Hashes the model at `path`: names and SHA-256 of its files, in order."""
    total = hashlib.sha256()
    for file in model_files(path):
        total.update(f"{_inside(file, path)}\0{sha256(file)}\n".encode())
    return total.hexdigest()


def stamps(path: Path) -> dict[str, list[int]]:
    """Returns size in bytes and modification time in nanoseconds of each of the model's files."""
    with storage_errors(path):
        return {_inside(file, path): [(stat := file.stat()).st_size, stat.st_mtime_ns] for file in model_files(path)}


def read_record(folder: Path) -> dict[str, Any]:
    """Returns what was recorded about a fetched model; empty for a folder of the user's own."""
    path = folder / RECORD
    if not path.is_file():
        return {}
    try:
        with storage_errors(path):
            record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelFormatError(f"{path} is damaged: {error}; remove the model and fetch it again") from error
    return record if isinstance(record, dict) else {}


def is_whole(folder: Path) -> bool:
    """Whether a fetched model is there with every file it was placed with, each as long as it was."""
    try:
        recorded = read_record(folder).get("stamps")
        found = stamps(folder)
    except ModelFormatError:
        return False
    if not isinstance(recorded, dict):
        return False
    return {name: stamp[:1] for name, stamp in found.items()} == {name: stamp[:1] for name, stamp in recorded.items()}


def write_record(folder: Path, *, name: str, origin: str) -> None:
    """Records a fetched model's name, origin and hash beside its files.

    Raises:
        StorageError: The file system refused.
    """
    record = {"name": name, "origin": origin, "content": content_hash(folder), "stamps": stamps(folder)}
    with storage_errors(folder):
        (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _inside(file: Path, path: Path) -> str:
    return file.name if file == path else file.relative_to(path).as_posix()


def _path_name(path: Path) -> str:
    stem = path.stem if path.is_file() else path.name
    return _NOT_IN_A_SLUG.sub("-", stem).lstrip("._-")[:_LONGEST_NAME] or "model"
