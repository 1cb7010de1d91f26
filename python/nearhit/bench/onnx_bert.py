"""A BERT embedder's own files -> ONNX, without torch: the peer that onnxruntime runs.

The graph is BERT's forward pass in standard operators, with a mask for padded batches; pooling stays outside.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from nearhit.models.conversion.bert import read_config
from nearhit.models.conversion.safetensors import Tensors

if TYPE_CHECKING:
    from pathlib import Path

_OPSET = 20  # the first with Gelu
_MASKED = -10_000.0


class _Graph:
    """Collects nodes and weights; every method returns the name of its result."""

    def __init__(self, tensors: Tensors, prefix: str) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self._tensors = tensors
        self._prefix = prefix

    def constant(self, value: Any) -> str:
        name = f"c{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def weight(self, name: str, *shape: int, transpose: bool = False) -> str:
        value = self._tensors.take(self._prefix + name, *shape)
        return self.constant(np.ascontiguousarray(value.T if transpose else value))

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def linear(self, x: str, name: str, outputs: int, inputs: int) -> str:
        product = self.node("MatMul", x, self.weight(f"{name}.weight", outputs, inputs, transpose=True))
        return self.node("Add", product, self.weight(f"{name}.bias", outputs))

    def norm(self, x: str, name: str, width: int, epsilon: float) -> str:
        gamma, beta = self.weight(f"{name}.weight", width), self.weight(f"{name}.bias", width)
        return self.node("LayerNormalization", x, gamma, beta, axis=-1, epsilon=epsilon)


def export(folder: Path, out: Path) -> None:
    """Writes `out`, an ONNX model: ids and mask, int64 [n, tokens], to hidden states, float32 [n, tokens, dim].

    Raises:
        ModelFormatError: A tensor is missing or misshapen.
    """
    config = read_config(folder)
    dim, heads, inner = config["hidden_size"], config["num_attention_heads"], config["intermediate_size"]
    epsilon, width = float(config.get("layer_norm_eps", 1e-12)), dim // heads
    tensors = Tensors.of_folder(folder)
    graph = _Graph(tensors, "bert." if "bert.embeddings.word_embeddings.weight" in tensors else "")

    words = graph.node("Gather", graph.weight("embeddings.word_embeddings.weight", config["vocab_size"], dim), "ids")
    positions = graph.weight("embeddings.position_embeddings.weight", config["max_position_embeddings"], dim)
    length = graph.node("Slice", graph.node("Shape", "ids"), graph.constant([1]), graph.constant([2]))
    positions = graph.node("Slice", positions, graph.constant([0]), length, graph.constant([0]))
    segments = tensors.take(f"{graph._prefix}embeddings.token_type_embeddings.weight", config["type_vocab_size"], dim)  # noqa: SLF001 - a helper of this module
    x = graph.node("Add", graph.node("Add", words, positions), graph.constant(segments[0]))
    x = graph.norm(x, "embeddings.LayerNorm", dim, epsilon)

    missing = graph.node("Sub", graph.constant(np.float32(1)), graph.node("Cast", "mask", to=TensorProto.FLOAT))
    bias = graph.node("Mul", missing, graph.constant(np.float32(_MASKED)))
    bias = graph.node("Unsqueeze", bias, graph.constant([1, 2]))
    split, merged = graph.constant([0, 0, heads, width]), graph.constant([0, 0, dim])
    root = graph.constant(np.float32(np.sqrt(width)))
    for number in range(config["num_hidden_layers"]):
        name = f"encoder.layer.{number}"

        def part(kind: str, order: list[int], x: str = x, name: str = name) -> str:
            projected = graph.linear(x, f"{name}.attention.self.{kind}", dim, dim)
            return graph.node("Transpose", graph.node("Reshape", projected, split), perm=order)

        query, key, value = part("query", [0, 2, 1, 3]), part("key", [0, 2, 3, 1]), part("value", [0, 2, 1, 3])
        scores = graph.node("Add", graph.node("Div", graph.node("MatMul", query, key), root), bias)
        context = graph.node("MatMul", graph.node("Softmax", scores, axis=-1), value)
        context = graph.node("Reshape", graph.node("Transpose", context, perm=[0, 2, 1, 3]), merged)
        x = graph.node("Add", graph.linear(context, f"{name}.attention.output.dense", dim, dim), x)
        x = graph.norm(x, f"{name}.attention.output.LayerNorm", dim, epsilon)
        wide = graph.node("Gelu", graph.linear(x, f"{name}.intermediate.dense", inner, dim))
        x = graph.node("Add", graph.linear(wide, f"{name}.output.dense", dim, inner), x)
        x = graph.norm(x, f"{name}.output.LayerNorm", dim, epsilon)
    graph.nodes.append(helper.make_node("Identity", [x], ["states"]))

    shape = ["n", "tokens"]
    made = helper.make_graph(
        graph.nodes,
        "bert",
        [helper.make_tensor_value_info(name, TensorProto.INT64, shape) for name in ("ids", "mask")],
        [helper.make_tensor_value_info("states", TensorProto.FLOAT, [*shape, dim])],
        graph.weights,
    )
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=10), str(out))
