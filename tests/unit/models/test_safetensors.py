"""The safetensors reader against the reference library's files, and against damage."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save, save_file

from nearhit._errors import ModelFormatError
from nearhit.models.conversion.safetensors import Tensors

VALUES = np.array([[0.0, -1.5, 3.0], [65504.0, 1e-3, -0.0]])
FILE = save({"a": VALUES.astype(np.float32), "b": np.ones(5, np.float16)})


def write(folder: Path, content: bytes) -> Path:
    path = folder / "model.safetensors"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_reads_what_the_reference_library_writes(tmp_path: Path, dtype: type) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"x": VALUES.astype(dtype), "empty": np.zeros((0, 3), dtype)}, path, metadata={"format": "np"})
    tensors = Tensors([path])
    read = tensors.take("x", 2, 3)
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, VALUES.astype(dtype).astype(np.float32))
    assert tensors.take("empty", 0, 3).shape == (0, 3)
    assert "x" in tensors
    assert "y" not in tensors


def test_reads_bfloat16(tmp_path: Path) -> None:
    header = json.dumps({"x": {"dtype": "BF16", "shape": [3], "data_offsets": [0, 6]}}).encode()
    bits = np.array([0x3F80, 0xC000, 0x4049], "<u2").tobytes()
    path = write(tmp_path, len(header).to_bytes(8, "little") + header + bits)
    np.testing.assert_array_equal(Tensors([path]).take("x", 3), np.array([1.0, -2.0, 3.140625], np.float32))


def test_a_taken_tensor_is_the_callers_own(tmp_path: Path) -> None:
    path = write(tmp_path, FILE)
    tensors = Tensors([path])
    tensors.take("a", 2, 3)[:] = 7
    np.testing.assert_array_equal(tensors.take("a", 2, 3), VALUES.astype(np.float32))
    assert path.read_bytes() == FILE


@given(st.integers(0, len(FILE) - 1))
def test_every_truncation_is_found_out(length: int) -> None:
    with TemporaryDirectory() as folder, pytest.raises(ModelFormatError, match=r"model\.safetensors"):
        Tensors([write(Path(folder), FILE[:length])])


@settings(max_examples=300)
@given(st.integers(0, len(FILE) - 1), st.integers(0, 255))
def test_a_damaged_byte_is_an_error_or_a_value_but_never_a_crash(position: int, byte: int) -> None:
    damaged = FILE[:position] + bytes([byte]) + FILE[position + 1 :]
    with TemporaryDirectory() as folder:
        try:
            tensor = Tensors([write(Path(folder), damaged)]).take("a", 2, 3)
        except ModelFormatError:
            return
        assert tensor.shape == (2, 3)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_no_model(content: bytes) -> None:
    with TemporaryDirectory() as folder, pytest.raises(ModelFormatError):
        Tensors([write(Path(folder), content)]).take("a", 2, 3)


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [2], "data_offsets": [0, 1 << 62]},
        {"dtype": "F32", "shape": [1 << 40, 1 << 40], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [2], "data_offsets": [-8, 0]},
        {"dtype": "F32", "shape": "2", "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [2.5], "data_offsets": [0, 10]},
        {"dtype": "F32", "shape": [2]},
        {"dtype": ["F32"], "shape": [2], "data_offsets": [0, 8]},
        [1, 2],
        None,
    ],
)
def test_lying_headers_are_refused(tmp_path: Path, entry: object) -> None:
    header = json.dumps({"x": entry}).encode()
    with pytest.raises(ModelFormatError):
        Tensors([write(tmp_path, len(header).to_bytes(8, "little") + header + bytes(8))]).take("x", 2)
