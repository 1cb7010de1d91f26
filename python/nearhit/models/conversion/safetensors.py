"""Reading safetensors files with numpy alone.

The format (https://huggingface.co/docs/safetensors): eight bytes little-endian header length, a JSON header of
`{name: {dtype, shape, data_offsets}}`, then the data. A damaged or truncated file is found out before any tensor is
used.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nearhit._errors import ModelFormatError
from nearhit.models.files import storage_errors

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

_LENGTH_BYTES = 8
_HEADER_LIMIT = 100 << 20  # the reference implementation's own limit
_BF16 = "BF16"
_DTYPES: Mapping[str, Any] = {"F64": np.float64, "F32": np.float32, "F16": np.float16, _BF16: np.uint16}
_INDEX = "model.safetensors.index.json"


class Tensors:
    """The float tensors of a model folder, read on demand and checked against the shapes the architecture asks for.

    Args:
        files: The safetensors files; tensors of all of them are seen as one mapping.

    Raises:
        ModelFormatError: A file is truncated or not a safetensors file.
        StorageError: A file cannot be read.
    """

    def __init__(self, files: list[Path]) -> None:
        self._where: dict[str, tuple[Path, NDArray[np.uint8], dict[str, Any]]] = {}
        for file in files:
            data, header = _open(file)
            self._where.update({name: (file, data, entry) for name, entry in header.items()})

    @classmethod
    def of_folder(cls, folder: Path) -> Tensors:
        """Opens `model.safetensors` of a folder, or the shards its index names.

        Raises:
            ModelFormatError: Neither is there, or a file is damaged.
        """
        single = folder / "model.safetensors"
        if single.is_file():
            return cls([single])
        index = folder / _INDEX
        if not index.is_file():
            pickled = " (pickled weights are never loaded)" if list(folder.glob("*.bin")) else ""
            raise ModelFormatError(f"{folder} has no model.safetensors{pickled}")
        try:
            names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelFormatError(f"{index} is not an index of safetensors files: {error!r}") from error
        for name in names:
            if not isinstance(name, str) or Path(name).name != name or not (folder / name).is_file():
                raise ModelFormatError(f"{index} names {name!r}, which is not a file of {folder}")
        return cls([folder / name for name in names])

    def __contains__(self, name: str) -> bool:
        return name in self._where

    def take(self, name: str, *shape: int) -> NDArray[np.float32]:
        """Returns a tensor as a float32 array of its own, in the shape the architecture asks for.

        Raises:
            ModelFormatError: It is missing, of another shape, or of a type that is no float.
        """
        if name not in self._where:
            raise ModelFormatError(f"tensor {name!r} is missing in {self._files()}")
        file, data, entry = self._where[name]
        if entry["shape"] != list(shape):
            raise ModelFormatError(
                f"tensor {name!r} in {file} has shape {entry['shape']}, config.json says {list(shape)}"
            )
        dtype = _DTYPES.get(entry["dtype"])
        if dtype is None:
            raise ModelFormatError(
                f"tensor {name!r} in {file} is {entry['dtype']}; only {', '.join(_DTYPES)} can be read"
            )
        start, end = entry["data_offsets"]
        raw: NDArray[Any] = np.frombuffer(data[start:end], dtype=np.dtype(dtype).newbyteorder("<"))
        if entry["dtype"] == _BF16:  # a bfloat16 is the upper half of a float32
            raw = (raw.astype(np.uint32) << 16).view(np.float32)
        return np.array(raw.reshape(shape), dtype=np.float32)

    def _files(self) -> str:
        return ", ".join(sorted({str(file) for file, _, _ in self._where.values()})) or "an empty file"


def _open(file: Path) -> tuple[NDArray[np.uint8], dict[str, Any]]:
    with storage_errors(file):
        size = file.stat().st_size
        if size < _LENGTH_BYTES:
            raise ModelFormatError(f"{file} is truncated: {size} bytes are no safetensors file")
        data = np.memmap(file, dtype=np.uint8, mode="r")
    length = int.from_bytes(data[:_LENGTH_BYTES].tobytes(), "little")
    if length > _HEADER_LIMIT:
        raise ModelFormatError(f"{file} is not a safetensors file: a header of {length} bytes")
    body = _LENGTH_BYTES + length
    if body > size:
        raise ModelFormatError(f"{file} is truncated: its header alone takes {body} bytes and it has {size}")
    try:
        header = json.loads(data[_LENGTH_BYTES:body].tobytes())
        header.pop("__metadata__", None)
        for name, entry in header.items():
            _check(file, name, entry, size - body)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelFormatError(f"{file} has no readable safetensors header: {error!r}") from error
    return data[body:], header


def _check(file: Path, name: str, entry: dict[str, Any], available: int) -> None:
    start, end = entry["data_offsets"]
    if end > available:
        raise ModelFormatError(f"{file} is truncated: tensor {name!r} ends at byte {end} of {available}")
    dtype = _DTYPES.get(entry["dtype"])
    if dtype is None:
        return
    expected = math.prod(entry["shape"]) * np.dtype(dtype).itemsize
    if start < 0 or end - start != expected:
        raise ModelFormatError(f"{file}: tensor {name!r} has {end - start} bytes where its shape needs {expected}")
