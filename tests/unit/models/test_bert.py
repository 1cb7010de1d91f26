"""BERT encoders -> CTranslate2: the same vectors as an independent forward pass, and every defect named."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from nearhit import models
from nearhit._errors import ModelFormatError, ModelNotFoundError
from nearhit.embed import CTranslate2Embedder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

TEXTS = ["how do i reset my passwords?", "pizza", "hello hello my pizza", ""]
MEAN = {"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": False}
CLS = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}


def unit(vector: NDArray[Any]) -> NDArray[Any]:
    return vector / np.linalg.norm(vector)


def expected(folder: Path, forward: Any, ids: list[list[int]], pooling: str) -> NDArray[Any]:
    weights = {name.removeprefix("bert."): w for name, w in load_file(folder / "model.safetensors").items()}
    config = json.loads((folder / "config.json").read_text())
    states = [forward(weights, config, row) for row in ids]
    return np.stack([unit(state[0] if pooling == "cls" else state.mean(0)) for state in states])


@pytest.mark.parametrize(
    ("options", "pooling"),
    [
        ({}, "mean"),
        ({"modules": ["Transformer", "Pooling", "Normalize"], "pooling": MEAN}, "mean"),
        ({"modules": ["Transformer", "Pooling"], "pooling": CLS}, "cls"),
        ({"prefix": "bert."}, "mean"),
    ],
)
def test_vectors_match_an_independent_forward_pass(
    home: Path, make_bert: Callable[..., Path], bert_forward: Any, options: dict[str, Any], pooling: str
) -> None:
    folder = make_bert(**options)
    embedder = CTranslate2Embedder(folder, device="cpu", compute_type="float32")
    ids = [row.ids for row in embedder._tokeniser.encode_all(TEXTS)]
    assert [len(row) for row in ids] == [10, 3, 6, 2], "no padding, and no cut that is not the model's"
    np.testing.assert_allclose(embedder.embed(TEXTS), expected(folder, bert_forward, ids, pooling), atol=2e-5)
    assert embedder.id.endswith(f"/float32/{pooling}")


def test_the_default_model_matches_an_independent_forward_pass(minilm: Path, bert_forward: Any) -> None:
    embedder = CTranslate2Embedder(minilm, device="cpu", compute_type="float32")
    texts = ["How do I reset my password?", "Die Würde des Menschen ist unantastbar.", "🙂 42", "a " * 30]
    ids = [row.ids for row in embedder._tokeniser.encode_all(texts)]
    np.testing.assert_allclose(embedder.embed(texts), expected(minilm, bert_forward, ids, "mean"), atol=2e-5)


def test_shards_make_the_same_model_as_one_file(home: Path, make_bert: Callable[..., Path]) -> None:
    whole = CTranslate2Embedder(make_bert("whole"), device="cpu", compute_type="float32")
    shards = CTranslate2Embedder(make_bert("shards", shards=3), device="cpu", compute_type="float32")
    np.testing.assert_array_equal(whole.embed(TEXTS), shards.embed(TEXTS))


def test_int8_stays_close_even_on_a_tiny_model(home: Path, make_bert: Callable[..., Path]) -> None:
    folder = make_bert()
    full = CTranslate2Embedder(folder, device="cpu", compute_type="float32").embed(TEXTS)
    small = CTranslate2Embedder(folder, device="cpu", compute_type="int8").embed(TEXTS)
    # More than .99 with VNNI; without, .961 was seen: a tiny model has few products to average over.
    assert (full * small).sum(1).min() > 0.95


@pytest.mark.parametrize(
    ("settings", "length"),
    [
        ({}, 24),
        ({"sentence_bert_config.json": {"max_seq_length": 8}}, 8),
        ({"tokenizer_config.json": {"model_max_length": 1e30}}, 24),
    ],
)
def test_the_longest_input_is_the_models_own(
    home: Path, make_bert: Callable[..., Path], settings: dict[str, Any], length: int
) -> None:
    folder = make_bert()
    for name, value in settings.items():
        (folder / name).write_text(json.dumps(value))
    embedder = CTranslate2Embedder(folder, device="cpu")
    assert embedder.max_tokens == length
    result = embedder.encode(["pizza " * 40])
    assert result.tokens.tolist() == [length]
    assert result.truncated.all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"config": {"model_type": "t5"}}, "architecture 't5'"),
        ({"config": {"model_type": None}}, "architecture 'None'"),
        ({"config": {"hidden_size": "wide"}}, "hidden_size = 'wide'"),
        ({"config": {"num_attention_heads": 5}}, "not a multiple"),
        ({"config": {"vocab_size": None}}, "vocab_size = None"),
        ({"config": {"hidden_act": "mish"}}, "activation 'mish'"),
        ({"config": {"position_embedding_type": "relative_key"}}, "'relative_key'"),
        ({"config": {"num_hidden_layers": 3}}, r"3 layers, and tensor 'encoder.layer.2.output.dense.weight'"),
        ({"config": {"num_hidden_layers": 10**12}}, r"tensor 'encoder.layer.999999999999.output"),
        ({"weights": {"encoder.layer.0.attention.self.query.weight": None}}, "query.weight' is missing"),
        ({"config": {"intermediate_size": 65}}, r"shape \[64, 32\], config.json says \[65, 32\]"),
        ({"weights": {"embeddings.LayerNorm.bias": None}}, "'embeddings.LayerNorm.bias' is missing"),
        ({"weights": {"embeddings.LayerNorm.bias": np.zeros(32, np.int64)}}, "is I64"),
        ({"modules": ["Transformer", "Pooling", "Dense"], "pooling": MEAN}, "module 'Dense'"),
        ({"modules": ["Transformer", "Pooling"]}, "1_Pooling.config.json is missing"),
        (
            {"modules": ["Transformer", "Pooling"], "pooling": {"pooling_mode_max_tokens": True}},
            "pooling_mode_max_tokens",
        ),
        (
            {"modules": ["Transformer", "Pooling"], "pooling": {**MEAN, **CLS, "pooling_mode_mean_tokens": True}},
            "pooling",
        ),
    ],
)
def test_what_cannot_be_converted_is_named(
    home: Path, make_bert: Callable[..., Path], options: dict[str, Any], message: str
) -> None:
    folder = make_bert(**options)
    with pytest.raises(ModelFormatError, match=message):
        models.converted(folder)
    assert not list((home / "converted").glob("*")), "nothing half-made is left to be taken for a model"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", None, "config.json"),
        ("config.json", "{", "not JSON"),
        ("config.json", "[]", "no JSON object"),
        ("tokenizer.json", None, "tokenizer.json is missing"),
        ("tokenizer.json", "{}", "not a tokenizer"),
        ("modules.json", "{not json", "not JSON"),
        ("modules.json", "[1]", "no list of modules"),
        ("sentence_bert_config.json", '{"max_seq_length": "long"}', "max_seq_length = 'long'"),
        ("sentence_bert_config.json", '{"max_seq_length": NaN}', "max_seq_length = nan"),
        ("model.safetensors", None, "no model.safetensors"),
        ("model.safetensors", "", "truncated"),
    ],
)
def test_damaged_and_missing_files_are_named(
    home: Path, make_bert: Callable[..., Path], name: str, content: str | None, message: str
) -> None:
    folder = make_bert()
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(content)
    with pytest.raises(ModelFormatError, match=message):
        models.converted(folder)


def test_pickled_weights_are_refused_by_name(home: Path, make_bert: Callable[..., Path]) -> None:
    folder = make_bert()
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelFormatError, match="pickled weights are never loaded"):
        models.converted(folder)


def test_an_index_cannot_lead_out_of_its_folder(home: Path, make_bert: Callable[..., Path]) -> None:
    folder = make_bert()
    (folder / "model.safetensors").rename(folder.parent / "elsewhere.safetensors")
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"x": "../elsewhere.safetensors"}}')
    with pytest.raises(ModelFormatError, match="not a file of"):
        models.converted(folder)


def test_an_empty_folder_is_no_model(home: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelNotFoundError, match="no model is there"):
        models.converted(tmp_path / "empty")
