"""Conversion of model files to CTranslate2 folders, with numpy and without torch."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from nearhit._errors import ModelFormatError, OptionError, StorageError
from nearhit.models.files import place, storage_errors
from nearhit.models.progress import Progress, silent

if TYPE_CHECKING:
    from nearhit.models.manifest import Manifest
    from nearhit.models.source import Source

Quantization: TypeAlias = Literal["int8", "float16", "float32"]
"""Type of the stored weights."""

QUANTIZATIONS: tuple[Quantization, ...] = get_args(Quantization)

STORED_WEIGHTS: dict[str, Quantization] = {
    "auto": "int8",
    "int8": "int8",
    "int8_float32": "int8",
    "int8_float16": "int8",
    "int8_bfloat16": "int8",
    "float16": "float16",
    "bfloat16": "float32",
    "float32": "float32",
}
"""CTranslate2's compute types, and the stored weights that each one starts from."""


def write_model(source: Source, folder: Path, quantization: Quantization, progress: Progress = silent) -> Manifest:
    """Converts a model into an existing, empty folder.

    Raises:
        ModelFormatError: The architecture is unknown, or the files are inconsistent.
        MissingDependencyError: A GGUF file has tensors of a rare type, and the extra `convert` is not installed.
        StorageError: The file system refused.
    """
    gguf = find_gguf(source.path)
    progress("convert", 0, 3)
    if gguf is not None:
        from nearhit.models.conversion.generator import write_generator  # noqa: PLC0415 - kept out of `import nearhit`

        return write_generator(source, gguf, folder, quantization, progress)
    from nearhit.models.conversion.encoder import write_encoder  # noqa: PLC0415 - kept out of `import nearhit`

    return write_encoder(source, folder, quantization, progress)


def convert(
    source: Source,
    out: Path,
    quantization: Quantization = "int8",
    *,
    overwrite: bool = False,
    progress: Progress = silent,
) -> Path:
    """Converts a model to a folder of the caller's choice, which appears whole or not at all.

    Args:
        source: The model's files.
        out: Folder to make.
        quantization: Type of the stored weights.
        overwrite: Whether a folder that is already there is replaced; only one that `convert` made, or an empty one.
        progress: Told about the steps.

    Returns:
        `out`.

    Raises:
        OptionError: Unknown quantization, or `out` is in the way.
        ModelFormatError: The architecture is unknown, or the files are inconsistent.
        StorageError: The file system refused.
    """
    check_quantization(quantization)
    with storage_errors(out):
        occupied = out.exists() and (not out.is_dir() or any(out.iterdir()))
    if occupied and not overwrite:
        raise OptionError(f"{out} is already there; choose another folder, or overwrite it (--force)")
    if occupied and not (out / "nearhit.json").is_file():
        raise OptionError(f"{out} is no converted model and will not be overwritten; choose another folder")
    with storage_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        made = work / "model"
        with storage_errors(made):
            made.mkdir()
        write_model(source, made, quantization, progress)
        place(made, out)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return out


def check_quantization(quantization: str) -> None:
    """Checks the name of a weight type.

    Raises:
        OptionError: It is unknown.
    """
    if quantization not in QUANTIZATIONS:
        raise OptionError(f"unknown quantization {quantization!r}; expected one of {', '.join(QUANTIZATIONS)}")


def find_gguf(path: Path) -> Path | None:
    """Returns the GGUF file of a model, or None if it has safetensors.

    Raises:
        ModelFormatError: There are several to choose from.
    """
    if path.is_file():
        if path.suffix != ".gguf":
            raise ModelFormatError(f"{path} is neither a .gguf file nor a model folder")
        return path
    found = sorted(path.glob("*.gguf"))
    if len(found) > 1:
        names = ", ".join(file.name for file in found)
        raise ModelFormatError(f"{path} holds several GGUF files ({names}); give the path of one of them")
    return found[0] if found else None


def save(spec: object, folder: Path, quantization: Quantization) -> None:
    """Validates, quantises and writes a CTranslate2 specification.

    Raises:
        StorageError: The file system refused.
    """
    from ctranslate2.specs import ModelSpec  # noqa: PLC0415 - kept out of `import nearhit`

    if not isinstance(spec, ModelSpec):
        raise TypeError(f"not a CTranslate2 specification: {type(spec).__name__}")
    spec.validate()
    spec.optimize(quantization=quantization)
    with storage_errors(folder):
        spec.save(os.fspath(folder))
    if not (folder / "model.bin").is_file():
        raise StorageError(f"{folder} got no model.bin")
