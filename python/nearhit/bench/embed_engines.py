"""The engines that `nearhit bench embed` compares, each on one thread, each from texts to unit vectors.

The peers tokenise with the `tokenizers` library, and everybody but the native engine pools with the same numpy code.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from nearhit import models
from nearhit.embed.ct2 import CTranslate2Embedder
from nearhit.embed.native import NativeEmbedder
from nearhit.embed.pooling import pool_unit
from nearhit.embed.tokenise import Tokeniser

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray


class Engine(Protocol):
    """Texts in, unit vectors out."""

    def __call__(self, texts: list[str], /) -> NDArray[np.float32]:
        """Returns float32 vectors of shape [n, dim]."""
        ...


class CTranslate2Direct:
    """`ctranslate2.Encoder` called as its documentation shows: one padded batch."""

    def __init__(self, model: str, compute_type: str) -> None:
        import ctranslate2

        folder = models.converted(model, "float32" if compute_type == "float32" else "int8")
        self._manifest = models.Manifest.read(folder)
        self._tokeniser = Tokeniser(folder / "tokenizer.json", self._manifest.max_length)
        self._encoder = ctranslate2.Encoder(str(folder), compute_type=compute_type, inter_threads=1, intra_threads=1)

    def __call__(self, texts: list[str], /) -> NDArray[np.float32]:
        """Returns float32 vectors of shape [n, dim]."""
        ids = [tokens.ids for tokens in self._tokeniser.encode_all(texts)]
        states = np.asarray(self._encoder.forward_batch(ids).last_hidden_state)
        return _pooled(states, ids, self._manifest)


class OnnxRuntime:
    """onnxruntime on the same weights, exported without torch; int8 is its dynamic quantisation."""

    def __init__(self, model: str, work: Path, *, int8: bool) -> None:
        import onnxruntime

        from nearhit.bench.onnx_bert import export

        folder = models.converted(model, "int8")
        self._manifest = models.Manifest.read(folder)
        self._tokeniser = Tokeniser(folder / "tokenizer.json", self._manifest.max_length)
        file = work / "float32.onnx"
        if not file.is_file():
            export(models.find(model).path, file)
        if int8:
            from onnxruntime.quantization import QuantType, quantize_dynamic

            quantised = work / "int8.onnx"
            quantize_dynamic(str(file), str(quantised), weight_type=QuantType.QInt8, per_channel=True)
            file = quantised
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])

    def __call__(self, texts: list[str], /) -> NDArray[np.float32]:
        """Returns float32 vectors of shape [n, dim]."""
        ids = [tokens.ids for tokens in self._tokeniser.encode_all(texts)]
        width = max(map(len, ids))
        padded = np.zeros((len(ids), width), np.int64)
        mask = np.zeros_like(padded)
        for row, each in enumerate(ids):
            padded[row, : len(each)] = each
            mask[row, : len(each)] = 1
        states = self._session.run(None, {"ids": padded, "mask": mask})[0]
        return _pooled(states, ids, self._manifest)


class WordLlama:
    """Static token embeddings: no context, no layers; the lower end of what an embedding costs."""

    def __init__(self) -> None:
        import wordllama

        own = Path(wordllama.__file__).parent
        self._model = wordllama.WordLlama.load(cache_dir=own, disable_download=True)

    def __call__(self, texts: list[str], /) -> NDArray[np.float32]:
        """Returns float32 vectors of shape [n, dim]."""
        return np.asarray(self._model.embed(texts, norm=True), np.float32)


def _pooled(states: Any, ids: list[list[int]], manifest: models.Manifest) -> NDArray[np.float32]:
    vectors = np.empty((len(ids), manifest.dim), np.float32)
    for row, each in enumerate(ids):
        pool_unit(states[row, : len(each)], manifest.pooling or "mean", vectors[row])
    return vectors


def engines(model: str, work: Path) -> tuple[dict[str, Engine], dict[str, str]]:
    """Makes every engine whose package is installed.

    Args:
        model: A BERT-family embedder.
        work: An existing folder for exported models.

    Returns:
        The engines by name, the reference in float32 among them, and for the absent ones what they lack.
    """
    made: dict[str, Engine] = {
        "nearhit native int8": NativeEmbedder(model).embed,
        "nearhit CTranslate2 int8": CTranslate2Embedder(model, device="cpu", threads=1).embed,
        "ctranslate2 int8": CTranslate2Direct(model, "int8"),
        "ctranslate2 float32": CTranslate2Direct(model, "float32"),
    }
    absent: dict[str, str] = {}
    peers: dict[str, tuple[tuple[str, ...], Callable[[], Engine]]] = {
        "onnxruntime float32": (("onnx", "onnxruntime"), lambda: OnnxRuntime(model, work, int8=False)),
        "onnxruntime int8": (("onnx", "onnxruntime"), lambda: OnnxRuntime(model, work, int8=True)),
        "wordllama": (("wordllama",), WordLlama),
    }
    for name, (packages, make) in peers.items():
        missing = [package for package in packages if importlib.util.find_spec(package) is None]
        if missing:
            absent[name] = f"not installed: {', '.join(missing)}"
        else:
            made[name] = make()
    return made, absent
