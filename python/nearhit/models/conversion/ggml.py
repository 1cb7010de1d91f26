"""Types of ggml's tensors: how many bytes a block of values takes, and what values it stands for.

The common types are read here; the rarer ones (K-quants and the like) by the `gguf` package, where it is installed.
Both give the same bits, which the tests check.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nearhit._errors import MissingDependencyError, ModelFormatError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

_HALF = np.dtype("<f2")


@dataclass(frozen=True, slots=True)
class TypeLayout:
    """One tensor type.

    Attributes:
        name: ggml's name of it.
        values: Values in a block.
        size: Bytes of a block.
        decode: Blocks as bytes of shape [n, size] to float32 of shape [n, values].
    """

    name: str
    values: int
    size: int
    decode: Callable[[NDArray[np.uint8]], NDArray[np.float32]]


def layout(number: int, what: str) -> TypeLayout:
    """Returns the layout of a tensor type by ggml's number.

    Args:
        number: The type.
        what: What is of this type, for messages.

    Raises:
        ModelFormatError: There is no such type, or nobody can dequantise it.
        MissingDependencyError: It is a rarer one, and the extra `convert` is not installed.
    """
    if number in _COMMON:
        return _COMMON[number]
    try:
        import gguf  # noqa: PLC0415 - an optional dependency
    except ImportError as error:
        raise MissingDependencyError(
            f"{what} is of ggml type {number}, which needs the package gguf: `pip install nearhit[convert]`"
        ) from error
    try:
        kind = gguf.GGMLQuantizationType(number)
        values, size = gguf.GGML_QUANT_SIZES[kind]
        gguf.dequantize(np.zeros((1, size), np.uint8), kind)
    except (ValueError, KeyError, NotImplementedError) as error:
        raise ModelFormatError(f"{what} is of ggml type {number}, which cannot be dequantised: {error}") from error
    return TypeLayout(kind.name, values, size, lambda blocks: np.asarray(gguf.dequantize(blocks, kind), np.float32))


def dequantise(raw: NDArray[np.uint8], form: TypeLayout) -> NDArray[np.float32]:
    """Returns the float32 values of whole blocks, as a flat array of its own."""
    return np.array(form.decode(raw.reshape(-1, form.size)), dtype=np.float32).reshape(-1)


def _plain(dtype: Any) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    return lambda blocks: np.frombuffer(blocks, dtype).astype(np.float32)


def _bfloat16(blocks: NDArray[np.uint8]) -> NDArray[np.float32]:
    return (np.frombuffer(blocks, "<u2").astype(np.uint32) << 16).view(np.float32)


def _scale(blocks: NDArray[np.uint8], at: int) -> NDArray[np.float32]:
    return np.ascontiguousarray(blocks[:, at : at + 2]).view(_HALF).astype(np.float32)


def _nibbles(blocks: NDArray[np.uint8], at: int) -> NDArray[np.uint8]:
    """The low halves of 16 bytes, then the high halves."""
    packed = blocks[:, at:]
    return np.concatenate([packed & 15, packed >> 4], axis=1)


def _q8_0(blocks: NDArray[np.uint8]) -> NDArray[np.float32]:
    return blocks[:, 2:].view(np.int8).astype(np.float32) * _scale(blocks, 0)


def _q4_0(blocks: NDArray[np.uint8]) -> NDArray[np.float32]:
    return (_nibbles(blocks, 2).astype(np.float32) - np.float32(8)) * _scale(blocks, 0)


def _q4_1(blocks: NDArray[np.uint8]) -> NDArray[np.float32]:
    return _nibbles(blocks, 4).astype(np.float32) * _scale(blocks, 0) + _scale(blocks, 2)


_COMMON: dict[int, TypeLayout] = {
    0: TypeLayout("F32", 1, 4, _plain("<f4")),
    1: TypeLayout("F16", 1, 2, _plain("<f2")),
    2: TypeLayout("Q4_0", 32, 18, _q4_0),
    3: TypeLayout("Q4_1", 32, 20, _q4_1),
    8: TypeLayout("Q8_0", 32, 34, _q8_0),
    30: TypeLayout("BF16", 1, 2, _bfloat16),
}
