"""Tiny models of real architectures with random weights, and independent forward passes to judge conversions by."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "how", "do", "i", "reset", "my", "password", "##s", "?", "pizza", "hello"]
BERT_CONFIG = {
    "model_type": "bert",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 16,
    "type_vocab_size": 2,
    "max_position_embeddings": 24,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
}
LLAMA = {"layers": 2, "dim": 32, "heads": 4, "kv_heads": 2, "inner": 48, "theta": 10_000.0, "eps": 1e-5}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty nearhit home of the test's own."""
    folder = tmp_path / "home"
    monkeypatch.setenv("NEARHIT_HOME", str(folder))
    return folder


def bert_weights(config: dict[str, Any], prefix: str = "") -> dict[str, NDArray[np.float32]]:
    rng = np.random.default_rng(7)
    dim, inner = config["hidden_size"], config["intermediate_size"]

    def random(*shape: int) -> NDArray[np.float32]:
        return (rng.standard_normal(shape) * 0.25).astype(np.float32)

    weights = {
        "embeddings.word_embeddings.weight": random(config["vocab_size"], dim),
        "embeddings.position_embeddings.weight": random(config["max_position_embeddings"], dim),
        "embeddings.token_type_embeddings.weight": random(config["type_vocab_size"], dim),
        "embeddings.LayerNorm.weight": 1 + random(dim),
        "embeddings.LayerNorm.bias": random(dim),
    }
    for layer in range(config["num_hidden_layers"]):
        name = f"encoder.layer.{layer}."
        shapes = {
            "attention.self.query": (dim, dim),
            "attention.self.key": (dim, dim),
            "attention.self.value": (dim, dim),
            "attention.output.dense": (dim, dim),
            "intermediate.dense": (inner, dim),
            "output.dense": (dim, inner),
        }
        for part, shape in shapes.items():
            weights[f"{name}{part}.weight"], weights[f"{name}{part}.bias"] = random(*shape), random(shape[0])
        for part in ("attention.output.LayerNorm", "output.LayerNorm"):
            weights[f"{name}{part}.weight"], weights[f"{name}{part}.bias"] = 1 + random(dim), random(dim)
    return {prefix + name: weight for name, weight in weights.items()}


def word_piece() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))  # noqa: S106 - no password
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    # As in the default model's own file: fixed padding and a cut that is not the model's.
    tokenizer.enable_padding(length=20)
    tokenizer.enable_truncation(20)
    return tokenizer


@pytest.fixture
def make_bert(tmp_path: Path) -> Callable[..., Path]:
    """Makes the folder of a tiny BERT encoder; `config` and `weights` change or (None) drop what it is made of."""

    def make(
        name: str = "tiny-bert",
        *,
        config: dict[str, Any] | None = None,
        weights: dict[str, Any] | None = None,
        modules: list[str] | None = None,
        pooling: dict[str, bool] | None = None,
        prefix: str = "",
        shards: int = 1,
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        settings = {key: value for key, value in {**BERT_CONFIG, **(config or {})}.items() if value is not None}
        tensors = {**bert_weights(BERT_CONFIG, prefix), **(weights or {})}
        tensors = {key: value for key, value in tensors.items() if value is not None}
        (folder / "config.json").write_text(json.dumps(settings))
        word_piece().save(str(folder / "tokenizer.json"))
        _save_shards(folder, tensors, shards)
        if modules is not None:
            paths = ["" if i == 0 else f"{i}_{kind}" for i, kind in enumerate(modules)]
            rows = [
                {"path": path, "type": f"sentence_transformers.models.{kind}"}
                for path, kind in zip(paths, modules, strict=True)
            ]
            (folder / "modules.json").write_text(json.dumps(rows))
        if pooling is not None:
            (folder / "1_Pooling").mkdir()
            (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 32, **pooling}))
        return folder

    return make


def _save_shards(folder: Path, tensors: dict[str, NDArray[np.float32]], shards: int) -> None:
    if shards == 1:
        save_file(tensors, folder / "model.safetensors")
        return
    where = {name: f"model-{i % shards + 1:05}-of-{shards:05}.safetensors" for i, name in enumerate(tensors)}
    for file in set(where.values()):
        save_file({name: tensor for name, tensor in tensors.items() if where[name] == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))


@pytest.fixture
def bert_forward() -> Callable[..., NDArray[np.float64]]:
    """An independent forward pass of BERT (Devlin et al. 2018) in float64: token ids -> hidden states [tokens, dim]."""

    def forward(weights: dict[str, NDArray[Any]], config: dict[str, Any], ids: list[int]) -> NDArray[np.float64]:
        w = {name: tensor.astype(np.float64) for name, tensor in weights.items() if tensor.dtype.kind == "f"}
        heads, eps = config["num_attention_heads"], config["layer_norm_eps"]
        erf = np.vectorize(math.erf)

        def linear(x: NDArray[Any], name: str) -> NDArray[Any]:
            return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

        def norm(x: NDArray[Any], name: str) -> NDArray[Any]:
            centred = x - x.mean(-1, keepdims=True)
            scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + eps)
            return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]

        x = w["embeddings.word_embeddings.weight"][ids]
        x = x + w["embeddings.position_embeddings.weight"][: len(ids)] + w["embeddings.token_type_embeddings.weight"][0]
        x = norm(x, "embeddings.LayerNorm")
        for layer in range(config["num_hidden_layers"]):
            name = f"encoder.layer.{layer}."
            q, k, v = (
                linear(x, f"{name}attention.self.{part}").reshape(len(ids), heads, -1).swapaxes(0, 1)
                for part in ("query", "key", "value")
            )
            scores = q @ k.swapaxes(1, 2) / math.sqrt(q.shape[-1])
            scores = np.exp(scores - scores.max(-1, keepdims=True))
            attended = (scores / scores.sum(-1, keepdims=True) @ v).swapaxes(0, 1).reshape(len(ids), -1)
            x = norm(x + linear(attended, f"{name}attention.output.dense"), f"{name}attention.output.LayerNorm")
            inner = linear(x, f"{name}intermediate.dense")
            inner = inner * (1 + erf(inner / math.sqrt(2))) / 2
            x = norm(x + linear(inner, f"{name}output.dense"), f"{name}output.LayerNorm")
        return x

    return forward


def llama_weights(tokens: int) -> dict[str, NDArray[np.float32]]:
    """Weights in the transformers layout: the two halves of each head rotate together."""
    rng = np.random.default_rng(11)
    dim, inner, head = LLAMA["dim"], LLAMA["inner"], LLAMA["dim"] // LLAMA["heads"]

    def random(*shape: int) -> NDArray[np.float32]:
        return (rng.standard_normal(shape) * 0.3).astype(np.float32)

    weights = {"token_embd.weight": random(tokens, dim), "output_norm.weight": 1 + random(dim)}
    for layer in range(LLAMA["layers"]):
        name = f"blk.{layer}."
        weights |= {
            f"{name}attn_norm.weight": 1 + random(dim),
            f"{name}attn_q.weight": random(dim, dim),
            f"{name}attn_k.weight": random(LLAMA["kv_heads"] * head, dim),
            f"{name}attn_v.weight": random(LLAMA["kv_heads"] * head, dim),
            f"{name}attn_output.weight": random(dim, dim),
            f"{name}ffn_norm.weight": 1 + random(dim),
            f"{name}ffn_gate.weight": random(inner, dim),
            f"{name}ffn_up.weight": random(inner, dim),
            f"{name}ffn_down.weight": random(dim, inner),
        }
    return weights


@pytest.fixture
def make_llama(tmp_path: Path) -> Callable[..., tuple[Path, dict[str, NDArray[np.float32]]]]:
    """Writes a tiny Llama as GGUF the way llama.cpp's converter does; returns the file and the unpermuted weights."""
    gguf = pytest.importorskip("gguf", reason="the extra convert is not installed")

    def make(
        *,
        architecture: str = "llama",
        pre: str = "smollm",
        tied: bool = True,
        drop: str = "",
        extra: dict[str, Any] | None = None,
    ) -> tuple[Path, dict[str, NDArray[np.float32]]]:
        path = tmp_path / "tiny.gguf"
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *alphabet, "he", "ll"]
        weights = llama_weights(len(tokens))
        if not tied:
            weights["output.weight"] = weights["token_embd.weight"][::-1].copy()
        writer = gguf.GGUFWriter(path, architecture)
        writer.add_block_count(LLAMA["layers"])
        writer.add_context_length(64)
        writer.add_embedding_length(LLAMA["dim"])
        writer.add_feed_forward_length(LLAMA["inner"])
        writer.add_head_count(LLAMA["heads"])
        writer.add_head_count_kv(LLAMA["kv_heads"])
        writer.add_rope_freq_base(LLAMA["theta"])
        writer.add_layer_norm_rms_eps(LLAMA["eps"])
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(pre)
        writer.add_token_list(tokens)
        writer.add_token_types([3, 3, 3, *[1] * (len(tokens) - 3)])
        writer.add_token_merges(["h e", "l l"])
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(2)
        writer.add_add_bos_token(False)
        writer.add_chat_template("{{ messages }}")
        for key, value in (extra or {}).items():
            add = writer.add_string if isinstance(value, str) else writer.add_uint32
            add(key, value)
        for name, weight in weights.items():
            if name == drop:
                continue
            stored = weight
            if "attn_q" in name or "attn_k" in name:
                heads = LLAMA["heads"] if "attn_q" in name else LLAMA["kv_heads"]
                rows, columns = weight.shape
                stored = weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)
            writer.add_tensor(name, np.ascontiguousarray(stored))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path, weights

    return make


@pytest.fixture
def llama_forward() -> Callable[..., NDArray[np.float64]]:
    """An independent forward pass of Llama (Touvron et al. 2023) in float64: token ids -> logits [tokens, words]."""

    def forward(weights: dict[str, NDArray[Any]], ids: list[int]) -> NDArray[np.float64]:
        w = {name: tensor.astype(np.float64) for name, tensor in weights.items()}
        heads, kv_heads, count = LLAMA["heads"], LLAMA["kv_heads"], len(ids)
        half = LLAMA["dim"] // heads // 2
        angles = np.arange(count)[:, None] * LLAMA["theta"] ** (-np.arange(half) / half)
        cosine, sine = np.cos(angles), np.sin(angles)

        def norm(x: NDArray[Any], name: str) -> NDArray[Any]:
            return x / np.sqrt((x**2).mean(-1, keepdims=True) + LLAMA["eps"]) * w[name]

        def rotate(x: NDArray[Any]) -> NDArray[Any]:
            left, right = x[..., :half], x[..., half:]
            return np.concatenate([left * cosine - right * sine, right * cosine + left * sine], -1)

        def split(x: NDArray[Any], parts: int) -> NDArray[Any]:
            return np.repeat(x.reshape(count, parts, -1).swapaxes(0, 1), heads // parts, axis=0)

        x = w["token_embd.weight"][ids]
        for layer in range(LLAMA["layers"]):
            name = f"blk.{layer}."
            h = norm(x, f"{name}attn_norm.weight")
            q = rotate(split(h @ w[f"{name}attn_q.weight"].T, heads))
            k = rotate(split(h @ w[f"{name}attn_k.weight"].T, kv_heads))
            v = split(h @ w[f"{name}attn_v.weight"].T, kv_heads)
            scores = q @ k.swapaxes(1, 2) / math.sqrt(2 * half)
            scores[:, np.triu(np.ones((count, count), bool), 1)] = -np.inf
            scores = np.exp(scores - scores.max(-1, keepdims=True))
            attended = (scores / scores.sum(-1, keepdims=True) @ v).swapaxes(0, 1).reshape(count, -1)
            x = x + attended @ w[f"{name}attn_output.weight"].T
            h = norm(x, f"{name}ffn_norm.weight")
            gate = h @ w[f"{name}ffn_gate.weight"].T
            x = x + (gate / (1 + np.exp(-gate)) * (h @ w[f"{name}ffn_up.weight"].T)) @ w[f"{name}ffn_down.weight"].T
        return norm(x, "output_norm.weight") @ w.get("output.weight", w["token_embd.weight"]).T

    return forward
