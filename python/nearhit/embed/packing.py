"""A BERT embedder's own files -> the native engine's packed model.

The native engine knows one architecture and one way of tokenising; everything else is refused here with the reason, and
`nearhit.embed.load` then takes CTranslate2.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from nearhit._core import NativeEncoder
from nearhit._errors import ModelFormatError
from nearhit.models.conversion.bert import read_config
from nearhit.models.conversion.safetensors import Tensors
from nearhit.models.files import storage_errors

if TYPE_CHECKING:
    from pathlib import Path

    from nearhit.models import Manifest

_CONTINUING_PREFIX = "##"
_UNCOMMON_MATCHING = ("normalized", "single_word", "lstrip", "rstrip")


def pack(folder: Path, manifest: Manifest) -> NativeEncoder:
    """Builds the native encoder from a model's own files.

    Args:
        folder: Holds config.json, tokenizer.json and the safetensors files.
        manifest: Pooling and longest input, as the conversion of the same model found them.

    Raises:
        ModelFormatError: The architecture or the tokeniser is none that the native engine runs, or a file is damaged.
    """
    config = read_config(folder)
    shape = _shape(folder, config, manifest)
    return NativeEncoder(
        shape, _tokeniser(folder / "tokenizer.json"), _tensors(folder, shape, int(config["type_vocab_size"]))
    )


def _shape(folder: Path, config: dict[str, Any], manifest: Manifest) -> dict[str, Any]:
    expected = {"model_type": ("bert",), "hidden_act": ("gelu",), "position_embedding_type": ("absolute", None)}
    for key, values in expected.items():
        if config.get(key) not in values:
            raise ModelFormatError(f"{folder}: the native engine needs {key} = {values[0]!r}, not {config.get(key)!r}")
    try:
        return {
            "hidden": int(config["hidden_size"]),
            "heads": int(config["num_attention_heads"]),
            "layers": int(config["num_hidden_layers"]),
            "intermediate": int(config["intermediate_size"]),
            "positions": int(config["max_position_embeddings"]),
            "vocabulary": int(config["vocab_size"]),
            "max_length": manifest.max_length,
            "pooling": manifest.pooling,
            "epsilon": float(config.get("layer_norm_eps", 1e-12)),
        }
    except (KeyError, TypeError, ValueError) as error:
        raise ModelFormatError(f"{folder / 'config.json'} lacks a size: {error!r}") from error


def _tensors(folder: Path, shape: dict[str, Any], segments: int) -> dict[str, Any]:
    import numpy as np  # noqa: PLC0415 - kept out of `import nearhit`

    tensors = Tensors.of_folder(folder)
    prefix = "bert." if "bert.embeddings.word_embeddings.weight" in tensors else ""
    hidden, inner = shape["hidden"], shape["intermediate"]
    sizes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (shape["vocabulary"], hidden),
        "embeddings.position_embeddings.weight": (shape["positions"], hidden),
        "embeddings.token_type_embeddings.weight": (segments, hidden),
    }
    norms, linears = ["embeddings.LayerNorm"], []
    for number in range(shape["layers"]):
        layer = f"encoder.layer.{number}."
        linears += [(f"{layer}attention.self.{part}", hidden, hidden) for part in ("query", "key", "value")]
        linears.append((f"{layer}attention.output.dense", hidden, hidden))
        linears += [(f"{layer}intermediate.dense", inner, hidden), (f"{layer}output.dense", hidden, inner)]
        norms += [f"{layer}attention.output.LayerNorm", f"{layer}output.LayerNorm"]
    sizes |= {f"{name}.{part}": (hidden,) for name in norms for part in ("weight", "bias")}
    for name, rows, columns in linears:
        sizes |= {f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)}
    # astype also turns an explicit little-endian type, which a buffer would announce as foreign, into the native one.
    return {name: tensors.take(prefix + name, *size).reshape(-1).astype(np.float32) for name, size in sizes.items()}


def _tokeniser(file: Path) -> dict[str, Any]:
    try:
        with storage_errors(file):
            raw = json.loads(file.read_text(encoding="utf-8"))
        normaliser, model = raw["normalizer"], raw["model"]
        kinds = (normaliser["type"], raw["pre_tokenizer"]["type"], model.get("type", "WordPiece"))
        if kinds != ("BertNormalizer", "BertPreTokenizer", "WordPiece"):
            raise ModelFormatError(f"{file}: the native engine needs BERT's WordPiece tokeniser, not {kinds}")
        if model["continuing_subword_prefix"] != _CONTINUING_PREFIX:
            raise ModelFormatError(f"{file}: pieces continue with {model['continuing_subword_prefix']!r}, not '##'")
        vocabulary: dict[str, int] = model["vocab"]
        tokens = sorted(vocabulary, key=vocabulary.__getitem__)
        if [vocabulary[token] for token in tokens] != list(range(len(tokens))):
            raise ModelFormatError(f"{file}: the ids of its vocabulary are not 0 to {len(tokens) - 1}")
        first, last = _frame(file, raw["post_processor"])
        lowercase = bool(normaliser["lowercase"])
        accents = normaliser.get("strip_accents")
        return {
            "clean_text": bool(normaliser["clean_text"]),
            "split_cjk": bool(normaliser["handle_chinese_chars"]),
            "strip_accents": lowercase if accents is None else bool(accents),
            "lowercase": lowercase,
            "max_word_chars": int(model["max_input_chars_per_word"]),
            "unknown": vocabulary[model["unk_token"]],
            "first": first,
            "last": last,
            "special": _special(file, raw.get("added_tokens") or []),
            "tokens": tokens,
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelFormatError(f"{file} is no tokeniser that the native engine reads: {error!r}") from error


def _special(file: Path, added: list[dict[str, Any]]) -> list[tuple[str, int]]:
    for token in added:
        if uncommon := [key for key in _UNCOMMON_MATCHING if token[key]]:
            raise ModelFormatError(
                f"{file}: token {token['content']!r} is matched with {uncommon}, which is not supported"
            )
    return [(token["content"], token["id"]) for token in added]


def _frame(file: Path, post: dict[str, Any]) -> tuple[int, int]:
    """The ids before and after a text."""
    if post["type"] == "BertProcessing":
        return int(post["cls"][1]), int(post["sep"][1])
    if post["type"] == "TemplateProcessing":
        match post["single"]:
            case [{"SpecialToken": {"id": first}}, {"Sequence": {"id": "A"}}, {"SpecialToken": {"id": last}}]:
                ids = [post["special_tokens"][name]["ids"] for name in (first, last)]
                if [len(each) for each in ids] == [1, 1]:
                    return int(ids[0][0]), int(ids[1][0])
    raise ModelFormatError(f"{file}: a text is not framed by one token on each side ({post['type']})")
