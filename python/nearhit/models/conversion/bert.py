"""BERT encoders in the sentence-transformers layout -> CTranslate2, without torch.

The mapping is that of CTranslate2's own transformers converter (`BertLoader`), less the pooler, which sentence
embeddings do not use.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from nearhit._errors import ModelFormatError
from nearhit.models.conversion.safetensors import Tensors
from nearhit.models.files import storage_errors

if TYPE_CHECKING:
    from pathlib import Path

    from ctranslate2.specs import TransformerEncoderModelSpec

_MOST_HEADS = 1024  # no model comes near; CTranslate2 keeps the number in 16 bits
_POOLING_MODES = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}
_ACTIVATIONS = {
    "gelu": "GELU",
    "gelu_new": "GELUTanh",
    "gelu_pytorch_tanh": "GELUTanh",
    "relu": "RELU",
    "silu": "SWISH",
}


@dataclass(frozen=True, slots=True)
class EncoderSettings:
    """What the sentence-transformers files of a folder say.

    Attributes:
        pooling: How token vectors become one.
        normalise: Whether a Normalize module follows.
        max_length: Longest input in tokens, special tokens included.
    """

    pooling: Literal["mean", "cls"]
    normalise: bool
    max_length: int


def read_config(folder: Path) -> dict[str, Any]:
    """Reads config.json of a model folder.

    Raises:
        ModelFormatError: It is missing or no JSON object.
    """
    config = _json(folder / "config.json")
    if not isinstance(config, dict):
        raise ModelFormatError(f"{folder / 'config.json'} is missing or no JSON object: the architecture is unknown")
    return config


def read_settings(folder: Path, config: dict[str, Any]) -> EncoderSettings:
    """Reads pooling, normalisation and the longest input; a plain folder pools by mean and normalises.

    Raises:
        ModelFormatError: The folder asks for a module or a pooling that is not supported.
    """
    modules = _json(folder / "modules.json")
    pooling: Literal["mean", "cls"] = "mean"
    normalise = modules is None
    if modules is not None and not (isinstance(modules, list) and all(isinstance(module, dict) for module in modules)):
        raise ModelFormatError(f"{folder / 'modules.json'} is no list of modules")
    for module in modules or []:
        kind = str(module.get("type", "")).rpartition(".")[2]
        if kind == "Pooling":
            pooling = _pooling(folder / str(module.get("path", "")) / "config.json")
        elif kind == "Normalize":
            normalise = True
        elif kind != "Transformer":
            raise ModelFormatError(
                f"{folder / 'modules.json'} asks for module {kind!r}; supported: Transformer, Pooling, Normalize"
            )
    positions = _positive(config, "max_position_embeddings")
    limits = {"sentence_bert_config.json": "max_seq_length", "tokenizer_config.json": "model_max_length"}
    asked = next((limit for name, key in limits.items() if (limit := _limit(folder / name, key))), positions)
    return EncoderSettings(pooling, normalise, min(asked, positions))


def build(folder: Path, config: dict[str, Any], vocabulary: list[str]) -> TransformerEncoderModelSpec:
    """Maps the weights of a BERT folder onto CTranslate2's encoder.

    Args:
        folder: Holds config.json and the safetensors files.
        config: The parsed config.json.
        vocabulary: Tokens in the order of their ids.

    Raises:
        ModelFormatError: A tensor is missing, damaged or of the wrong shape, or the configuration is not supported.
    """
    from ctranslate2.specs import TransformerEncoderModelSpec, TransformerEncoderSpec, common_spec  # noqa: PLC0415 - kept out of `import nearhit`

    layers, heads = _positive(config, "num_hidden_layers"), _positive(config, "num_attention_heads")
    dim, inner = _positive(config, "hidden_size"), _positive(config, "intermediate_size")
    words, types = _positive(config, "vocab_size"), _positive(config, "type_vocab_size")
    if dim % heads or heads > _MOST_HEADS:
        raise ModelFormatError(f"{folder}: hidden_size {dim} is not a multiple of num_attention_heads {heads}")
    if config.get("position_embedding_type", "absolute") != "absolute":
        raise ModelFormatError(
            f"{folder}: position embeddings of type {config['position_embedding_type']!r} are not supported"
        )
    activation = _ACTIVATIONS.get(str(config.get("hidden_act", "gelu")))
    if activation is None:
        raise ModelFormatError(
            f"{folder}: activation {config.get('hidden_act')!r} is not supported; known: {', '.join(_ACTIVATIONS)}"
        )
    tensors = Tensors.of_folder(folder)
    prefix = "bert." if "bert.embeddings.word_embeddings.weight" in tensors else ""
    last = f"{prefix}encoder.layer.{layers - 1}.output.dense.weight"
    if last not in tensors:
        raise ModelFormatError(f"{folder}: config.json says {layers} layers, and tensor {last!r} is missing")

    spec = TransformerEncoderSpec(
        layers,
        heads,
        pre_norm=False,
        activation=common_spec.Activation[activation],
        layernorm_embedding=True,
        num_source_embeddings=2,
        embeddings_merge=common_spec.EmbeddingsMerge.ADD,
    )
    spec.scale_embeddings = False
    embeddings = f"{prefix}embeddings."
    spec.embeddings[0].weight = tensors.take(f"{embeddings}word_embeddings.weight", words, dim)
    spec.embeddings[1].weight = tensors.take(f"{embeddings}token_type_embeddings.weight", types, dim)
    positions = _positive(config, "max_position_embeddings")
    spec.position_encodings.encodings = tensors.take(f"{embeddings}position_embeddings.weight", positions, dim)
    _norm(spec.layernorm_embedding, tensors, f"{embeddings}LayerNorm", dim)
    for number, layer in enumerate(spec.layer):
        name = f"{prefix}encoder.layer.{number}."
        _fused(layer.self_attention.linear[0], tensors, f"{name}attention.self.", dim)
        _linear(layer.self_attention.linear[1], tensors, f"{name}attention.output.dense", dim, dim)
        _norm(layer.self_attention.layer_norm, tensors, f"{name}attention.output.LayerNorm", dim)
        _linear(layer.ffn.linear_0, tensors, f"{name}intermediate.dense", inner, dim)
        _linear(layer.ffn.linear_1, tensors, f"{name}output.dense", dim, inner)
        _norm(layer.ffn.layer_norm, tensors, f"{name}output.LayerNorm", dim)

    if len(vocabulary) > words:
        raise ModelFormatError(f"{folder}: tokenizer.json has {len(vocabulary)} tokens, config.json says {words}")
    model = TransformerEncoderModelSpec(spec)
    model.register_vocabulary([*vocabulary, *(f"<unused_{i}>" for i in range(len(vocabulary), words))])
    model.config.layer_norm_epsilon = float(config.get("layer_norm_eps", 1e-12))
    return model


def _fused(spec: Any, tensors: Tensors, prefix: str, dim: int) -> None:
    import numpy as np  # noqa: PLC0415 - kept out of `import nearhit`

    parts = ("query", "key", "value")
    spec.weight = np.concatenate([tensors.take(f"{prefix}{part}.weight", dim, dim) for part in parts])
    spec.bias = np.concatenate([tensors.take(f"{prefix}{part}.bias", dim) for part in parts])


def _linear(spec: Any, tensors: Tensors, name: str, rows: int, columns: int) -> None:
    spec.weight = tensors.take(f"{name}.weight", rows, columns)
    spec.bias = tensors.take(f"{name}.bias", rows)


def _norm(spec: Any, tensors: Tensors, name: str, dim: int) -> None:
    spec.gamma = tensors.take(f"{name}.weight", dim)
    spec.beta = tensors.take(f"{name}.bias", dim)


def _pooling(path: Path) -> Literal["mean", "cls"]:
    config = _json(path)
    if not isinstance(config, dict):
        raise ModelFormatError(f"{path} is missing: modules.json asks for a pooling that it should describe")
    chosen = [key for key, value in config.items() if key.startswith("pooling_mode_") and value]
    match chosen:
        case ["pooling_mode_mean_tokens"]:
            return "mean"
        case ["pooling_mode_cls_token"]:
            return "cls"
    raise ModelFormatError(f"{path} asks for {chosen or 'no pooling'}; only {' or '.join(_POOLING_MODES)} is supported")


def _limit(path: Path, key: str) -> int | None:
    """Reads a length limit; None where the file or the key is not there. Tokenizers without a limit write 1e30."""
    config = _json(path)
    value = config.get(key) if isinstance(config, dict) else None
    if value is None:
        return None
    if not isinstance(value, int | float) or not value >= 1:
        raise ModelFormatError(f"{path} has {key} = {value!r}, expected a positive number")
    return int(value)


def _positive(config: dict[str, Any], key: str) -> int:
    value = config.get(key)
    if not isinstance(value, int) or value <= 0:
        raise ModelFormatError(f"config.json has {key} = {value!r}, expected a positive integer")
    return value


def _json(path: Path) -> Any:
    """Reads a JSON file; None if it is not there."""
    if not path.is_file():
        return None
    try:
        with storage_errors(path):
            return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelFormatError(f"{path} is not JSON: {error}") from error
