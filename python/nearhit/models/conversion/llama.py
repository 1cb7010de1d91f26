"""Llama generators in GGUF -> CTranslate2, without torch.

The mapping is that of CTranslate2's own transformers converter (`LlamaLoader`); the result is byte-identical to its.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from nearhit._errors import ModelFormatError

if TYPE_CHECKING:
    from ctranslate2.specs import TransformerDecoderModelSpec
    from numpy.typing import NDArray

    from nearhit.models.conversion.gguf_file import GgufFile


_MOST_HEADS = 1024  # no model comes near; CTranslate2 keeps the number in 16 bits


def build(file: GgufFile, tokens: list[str]) -> TransformerDecoderModelSpec:
    """Maps a Llama GGUF onto CTranslate2's decoder.

    Args:
        file: The open file; its architecture is "llama".
        tokens: The vocabulary in the order of its ids.

    Raises:
        ModelFormatError: A tensor or a metadata value is missing, damaged or of the wrong shape, or not supported.
    """
    from ctranslate2.specs import TransformerDecoderModelSpec, common_spec  # noqa: PLC0415 - slow, and only used here

    layers, dim = file.positive("llama.block_count"), file.positive("llama.embedding_length")
    inner, heads = file.positive("llama.feed_forward_length"), file.positive("llama.attention.head_count")
    kv_heads = file.positive("llama.attention.head_count_kv", heads)
    if f"blk.{layers - 1}.attn_q.weight" not in file:
        raise ModelFormatError(f"{file.path} says that it has {layers} layers, and has no tensors of the last")
    if dim % heads or heads % kv_heads or heads > _MOST_HEADS:
        raise ModelFormatError(f"{file.path} has {heads} heads and {kv_heads} key-value heads for a width of {dim}")
    head = dim // heads
    if head % 2 or file.positive("llama.rope.dimension_count", head) != head:
        raise ModelFormatError(f"{file.path} rotates only a part of each head, which is not supported")
    scaling = file.metadata("llama.rope.scaling.type", "none")
    if scaling != "none" or "rope_freqs.weight" in file:
        raise ModelFormatError(f"{file.path} uses rope scaling ({scaling}), which is not supported")
    if file.metadata("llama.expert_count", 0):
        raise ModelFormatError(f"{file.path} is a mixture of experts, which is not supported")

    model = TransformerDecoderModelSpec.from_config(
        layers,
        heads,
        activation=common_spec.Activation.SWISH,
        pre_norm=True,
        ffn_glu=True,
        rms_norm=True,
        rotary_dim=0,
        rotary_interleave=False,
        rotary_base=_number(file, "llama.rope.freq_base", 10_000.0),
        num_heads_kv=None if kv_heads == heads else kv_heads,
    )
    decoder = model.decoder
    decoder.scale_embeddings = False
    decoder.embeddings.weight = file.take("token_embd.weight", len(tokens), dim)
    # Without a matrix of its own, the output projection is the embedding's.
    output = "output.weight" if "output.weight" in file else "token_embd.weight"
    decoder.projection.weight = file.take(output, len(tokens), dim)
    decoder.layer_norm.gamma = file.take("output_norm.weight", dim)
    for number, layer in enumerate(decoder.layer):
        name = f"blk.{number}."
        query = _unpermute(file.take(f"{name}attn_q.weight", dim, dim), heads)
        key = _unpermute(file.take(f"{name}attn_k.weight", kv_heads * head, dim), kv_heads)
        value = file.take(f"{name}attn_v.weight", kv_heads * head, dim)
        layer.self_attention.layer_norm.gamma = file.take(f"{name}attn_norm.weight", dim)
        layer.self_attention.linear[0].weight = np.concatenate([query, key, value])
        layer.self_attention.linear[1].weight = file.take(f"{name}attn_output.weight", dim, dim)
        _feed_forward(layer.ffn, file, name, dim, inner)

    model.register_vocabulary(tokens)
    model.config.layer_norm_epsilon = _number(file, "llama.attention.layer_norm_rms_epsilon")
    for setting, which in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown")):
        special = token_of(file, tokens, which)
        if special is not None:
            setattr(model.config, f"{setting}_token", special)
    return model


def token_of(file: GgufFile, tokens: list[str], which: str) -> str | None:
    """Returns a special token ("bos", "eos", "unknown") by the id the metadata gives; None if it gives none.

    Raises:
        ModelFormatError: The id is outside the vocabulary.
    """
    number = file.metadata(f"tokenizer.ggml.{which}_token_id")
    if number is None:
        return None
    if type(number) is not int or not 0 <= number < len(tokens):
        raise ModelFormatError(f"{file.path} has {which} token {number!r} in a vocabulary of {len(tokens)}")
    return tokens[number]


def _number(file: GgufFile, key: str, default: float | None = None) -> float:
    value = file.metadata(key, default)
    if not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
        raise ModelFormatError(f"{file.path} has {key} = {value!r}, expected a positive number")
    return float(value)


def _unpermute(weight: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Undoes llama.cpp's row order in rotary projections: it pairs neighbouring rows of a head, not its halves."""
    rows, columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def _feed_forward(spec: Any, file: GgufFile, name: str, dim: int, inner: int) -> None:
    spec.layer_norm.gamma = file.take(f"{name}ffn_norm.weight", dim)
    spec.linear_0.weight = file.take(f"{name}ffn_gate.weight", inner, dim)
    spec.linear_0_noact.weight = file.take(f"{name}ffn_up.weight", inner, dim)
    spec.linear_1.weight = file.take(f"{name}ffn_down.weight", dim, inner)
