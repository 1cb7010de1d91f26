"""Reading GGUF files: metadata and dequantised tensors, with every damage told as one typed error."""

from __future__ import annotations

import struct
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from nearhit._errors import MissingDependencyError, ModelFormatError
from nearhit.models.files import storage_errors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

_DAMAGE = (ValueError, IndexError, KeyError, TypeError, OverflowError, AttributeError, struct.error, MemoryError)
"""What the reader raises on bytes that are no whole GGUF file."""


class GgufFile:
    """A GGUF file's metadata and tensors.

    Args:
        path: The file.

    Raises:
        MissingDependencyError: The extra `convert` is not installed.
        ModelFormatError: The file is truncated, or no GGUF file.
        StorageError: The file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        try:
            import gguf  # noqa: PLC0415 - an optional dependency
        except ImportError as error:
            raise MissingDependencyError(
                f"reading {path.name} needs the package gguf; install it with `pip install nearhit[convert]`"
            ) from error
        self.path = path
        self._dequantise = gguf.dequantize
        with storage_errors(path), path.open("rb"):
            pass
        with self._readable():
            reader = gguf.GGUFReader(path)
            self._fields = reader.fields
            self._tensors = {tensor.name: tensor for tensor in reader.tensors}

    def metadata(self, key: str, default: Any = None) -> Any:
        """Returns a metadata value, or the default if the file does not have it."""
        field = self._fields.get(key)
        if field is None:
            return default
        with self._readable():
            return field.contents()

    def required(self, key: str) -> Any:
        """Returns a metadata value.

        Raises:
            ModelFormatError: The file does not have it.
        """
        value = self.metadata(key)
        if value is None:
            raise ModelFormatError(f"{self.path} has no {key!r}")
        return value

    def positive(self, key: str) -> int:
        """Returns a metadata value that must be a positive integer.

        Raises:
            ModelFormatError: It is missing, or something else.
        """
        value = self.required(key)
        if not isinstance(value, int) or value <= 0:
            raise ModelFormatError(f"{self.path} has {key} = {value!r}, expected a positive integer")
        return value

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def take(self, name: str, *shape: int) -> NDArray[np.float32]:
        """Returns a tensor, dequantised to a float32 array of its own, in the shape the architecture asks for.

        Raises:
            ModelFormatError: It is missing, truncated, of another shape, or of a type that cannot be dequantised.
        """
        tensor = self._tensors.get(name)
        if tensor is None:
            raise ModelFormatError(f"tensor {name!r} is missing in {self.path}")
        found = [int(size) for size in reversed(tensor.shape)]  # GGUF counts dimensions from the innermost
        if found != list(shape):
            raise ModelFormatError(f"tensor {name!r} in {self.path} has shape {found}, the metadata says {list(shape)}")
        try:
            with self._readable():
                return np.array(self._dequantise(tensor.data, tensor.tensor_type), dtype=np.float32).reshape(shape)
        except NotImplementedError as error:
            raise ModelFormatError(f"tensor {name!r} in {self.path} is {tensor.tensor_type.name}: {error}") from error

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except _DAMAGE as error:
            raise ModelFormatError(f"{self.path} is truncated or no GGUF file: {error}") from error
