"""Llama GGUF -> CTranslate2: the same logits as an independent forward pass, and every defect named."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from nearhit import models
from nearhit._errors import ModelFormatError
from nearhit.embed import CTranslate2Embedder
from nearhit.models.conversion import ggml, gguf_tokenizer, llama
from nearhit.models.conversion.gguf_file import GgufFile

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ctranslate2 = pytest.importorskip("ctranslate2")
IDS = [1, 40, 70, 12, 2, 200, 257]


def log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


@pytest.mark.parametrize("tied", [True, False])
def test_logits_match_an_independent_forward_pass(
    home: Path,
    make_llama: Callable[..., Any],
    llama_forward: Any,
    tied: bool,  # noqa: FBT001 - a parametrised value
) -> None:
    path, weights = make_llama(tied=tied)
    folder = models.converted(path, "float32")
    generator = ctranslate2.Generator(str(folder), compute_type="float32")
    logits = np.asarray(generator.forward_batch([IDS], return_log_probs=True))[0]
    np.testing.assert_allclose(logits, log_softmax(llama_forward(weights, IDS)), atol=2e-4)


def test_the_manifest_holds_what_a_tier_needs(home: Path, make_llama: Callable[..., Any]) -> None:
    path, _ = make_llama()
    folder = models.converted(path)
    manifest = models.Manifest.read(folder)
    assert (manifest.kind, manifest.architecture, manifest.quantization) == ("generator", "llama", "int8")
    assert manifest.chat_template == "{{ messages }}"
    assert manifest.eos_tokens == ("<|im_end|>",)
    assert manifest.bos_token is None, "the file says that no BOS is added"
    assert manifest.max_length == 64


def test_the_tokenizer_is_rebuilt(home: Path, make_llama: Callable[..., Any]) -> None:
    path, _ = make_llama()
    tokenizer = Tokenizer.from_file(str(models.converted(path) / "tokenizer.json"))
    encoded = tokenizer.encode("<|im_start|>hello 12\u00e9<|im_end|>")
    assert encoded.tokens == ["<|im_start|>", "he", "ll", "o", "Ġ", "1", "2", "Ã", "©", "<|im_end|>"]
    assert tokenizer.decode(encoded.ids) == "hello 12\u00e9"


def test_a_generator_is_no_embedder(home: Path, make_llama: Callable[..., Any]) -> None:
    path, _ = make_llama()
    with pytest.raises(ModelFormatError, match="tiny is a generator, not an embedding model"):
        CTranslate2Embedder(path, device="cpu")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"architecture": "mamba"}, "architecture 'mamba'"),
        ({"pre": "llama-bpe"}, "splits text the 'llama-bpe' way"),
        ({"drop": "blk.1.ffn_up.weight"}, "'blk.1.ffn_up.weight' is missing"),
        ({"drop": "blk.1.attn_q.weight"}, "2 layers, and has no tensors of the last"),
        ({"extra": {"llama.rope.scaling.type": "yarn"}}, "rope scaling"),
        ({"extra": {"llama.expert_count": 8}}, "mixture of experts"),
        ({"extra": {"llama.rope.dimension_count": 4}}, "only a part of each head"),
    ],
)
def test_what_cannot_be_converted_is_named(
    home: Path, make_llama: Callable[..., Any], options: dict[str, Any], message: str
) -> None:
    path, _ = make_llama(**options)
    with pytest.raises(ModelFormatError, match=message):
        models.converted(path)


@pytest.mark.parametrize("share", [0, 0.00001, 0.001, 0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 0.99, 0.99999])
def test_a_truncated_file_is_found_out_wherever_it_ends(
    home: Path, make_llama: Callable[..., Any], share: float
) -> None:
    path, _ = make_llama()
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ModelFormatError, match=r"tiny\.gguf"):
        models.converted(path)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(0, 6500), byte=st.integers(0, 255))
def test_a_damaged_byte_is_an_error_or_a_model_but_never_a_crash(
    tmp_path: Path, whole: bytes, position: int, byte: int
) -> None:
    path = tmp_path / "damaged.gguf"
    path.write_bytes(whole[:position] + bytes([byte]) + whole[position + 1 :])
    with suppress(ModelFormatError):
        gguf = GgufFile(path)
        _, tokens = gguf_tokenizer.rebuild(gguf)
        assert llama.build(gguf, tokens).get_vocabulary_size() == len(tokens)


@pytest.fixture
def whole(make_llama: Callable[..., Any]) -> bytes:
    return make_llama()[0].read_bytes()


@pytest.mark.parametrize("name", ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q8_0", "Q5_1", "Q4_K", "Q6_K"])
def test_dequantises_to_the_same_bits_as_the_reference(name: str) -> None:
    gguf = pytest.importorskip("gguf", reason="the extra convert is not installed")
    kind = gguf.GGMLQuantizationType[name]
    values, size = gguf.GGML_QUANT_SIZES[kind]
    blocks = np.random.default_rng(3).integers(0, 256, (64, size), dtype=np.uint8)
    form = ggml.layout(int(kind), "x")
    assert (form.name, form.values, form.size) == (name, values, size)
    with np.errstate(all="ignore"):  # random scales may overflow
        expected = np.asarray(gguf.dequantize(blocks, kind), np.float32).reshape(-1)
        np.testing.assert_array_equal(ggml.dequantise(blocks, form), expected)


def test_unknown_tensor_types_are_named() -> None:
    with pytest.raises(ModelFormatError, match="tensor 'x' is of ggml type 99"):
        ggml.layout(99, "tensor 'x'")


def test_several_files_ask_for_a_choice(home: Path, make_llama: Callable[..., Any]) -> None:
    path, _ = make_llama()
    (path.parent / "other.gguf").write_bytes(path.read_bytes())
    with pytest.raises(ModelFormatError, match=r"several GGUF files \(other.gguf, tiny.gguf\)"):
        models.converted(path.parent)


def test_another_file_is_no_model(home: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(ModelFormatError, match=r"neither a .gguf file nor a model folder"):
        models.converted(tmp_path / "notes.txt")


def test_the_default_generator_is_rebuilt_as_its_authors_made_it(smollm: Path) -> None:
    """Facts of HuggingFaceTB/SmolLM2-135M-Instruct: ChatML, 49,152 tokens, every digit on its own, 8,192 of context."""
    folder = models.converted(models.GENERATOR)
    manifest = models.Manifest.read(folder)
    assert (manifest.max_length, manifest.dim, manifest.eos_tokens) == (8192, 576, ("<|im_end|>",))
    assert manifest.chat_template is not None
    assert "<|im_start|>" in manifest.chat_template
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert tokenizer.get_vocab_size() == 49_152
    assert tokenizer.encode("In 2024, hello").tokens == ["In", "Ġ", "2", "0", "2", "4", ",", "Ġhello"]
    text = "naïve 日本語 🙂\n\tx\0y"
    assert tokenizer.decode(tokenizer.encode(text).ids) == text
