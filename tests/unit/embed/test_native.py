"""NativeEmbedder on the real default model: its vectors, its tokens, its files, and what it refuses."""

from __future__ import annotations

import gzip
import itertools
import json
import multiprocessing
import shutil
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from nearhit import embed, models
from nearhit._core import NativeEncoder
from nearhit._errors import (
    CorruptFileError,
    ModelFormatError,
    ModelNotFoundError,
    OptionError,
    RequestError,
    StorageError,
)
from nearhit._types import DetailedEmbedder
from nearhit.embed import CTranslate2Embedder, NativeEmbedder
from nearhit.embed import native as native_module
from nearhit.embed.packing import pack

if TYPE_CHECKING:
    from pathlib import Path

SENTENCES = [
    f"{start} {subject}{end}"
    for start, subject, end in itertools.product(
        ("How do I deal with", "Explain", "Cancel", "Write a polite e-mail about", "Why does everybody talk about"),
        (
            "my password",
            "the invoice of March 2024",
            "Kubernetes pods that restart",
            "a leaking tap",
            "Beethoven's 7th",
        ),
        ("?", " to a child.", "; it started yesterday and nothing that I have tried so far has helped, what now?"),
    )
]


@pytest.fixture(scope="module")
def native(minilm: Path) -> NativeEmbedder:
    return NativeEmbedder(minilm)


@pytest.fixture(scope="module")
def library(minilm: Path) -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(minilm / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(256)
    return tokenizer


def test_is_a_detailed_embedder_with_the_models_facts(native: NativeEmbedder) -> None:
    assert isinstance(native, DetailedEmbedder)
    assert (native.dim, native.max_tokens, native.device, native.engine) == (384, 256, "cpu", "native")
    assert native.isa in ("scalar", "avx2", "avx512")
    assert native.id.startswith("all-MiniLM-L6-v2@")
    assert native.id != CTranslate2Embedder(device="cpu").id


def test_vectors_agree_with_float32(native: NativeEmbedder, minilm: Path) -> None:
    exact = CTranslate2Embedder(minilm, device="cpu", compute_type="float32").embed(SENTENCES)
    vectors = native.embed(SENTENCES)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    cosines = (vectors * exact).sum(axis=1)
    assert cosines.mean() >= 0.998
    assert cosines.min() >= 0.995
    pairs = np.triu_indices(len(SENTENCES), 1)
    assert np.abs((vectors @ vectors.T)[pairs] - (exact @ exact.T)[pairs]).mean() <= 0.005


def test_long_texts_agree_with_float32(native: NativeEmbedder, minilm: Path) -> None:
    texts = [" ".join(SENTENCES[i:]) for i in (0, 30, 60, 70)]
    exact = CTranslate2Embedder(minilm, device="cpu", compute_type="float32").embed(texts)
    assert (native.embed(texts) * exact).sum(axis=1).min() >= 0.995


def test_a_text_is_the_same_to_the_bit_alone_in_a_batch_and_on_threads(native: NativeEmbedder, minilm: Path) -> None:
    texts = [sentence * (i % 7) for i, sentence in enumerate(SENTENCES)]
    together = native.encode(texts)
    spread = NativeEmbedder(minilm, threads=3).encode(texts)
    alone = np.concatenate([native.embed([text]) for text in texts])
    assert np.array_equal(together.vectors, alone)
    assert np.array_equal(together.vectors, spread.vectors)
    assert np.array_equal(together.tokens, spread.tokens)
    assert together.forward_seconds > together.tokenise_seconds > 0


def test_calls_at_the_same_time_do_not_disturb_one_another(native: NativeEmbedder) -> None:
    expected = native.embed(SENTENCES)
    with ThreadPoolExecutor(16) as pool:
        for _ in range(3):
            found = pool.map(lambda sentence: native.embed([sentence])[0], SENTENCES)
            assert np.array_equal(np.stack(list(found)), expected)


@pytest.mark.parametrize(
    ("words", "truncated", "tokens"), [(0, False, 2), (254, False, 256), (255, True, 256), (100_000, True, 256)]
)
def test_truncation_is_visible_and_exact(
    native: NativeEmbedder,
    words: int,
    truncated: bool,  # noqa: FBT001 - a parametrised value
    tokens: int,
) -> None:
    result = native.encode(["cat " * words])
    assert result.truncated.tolist() == [truncated]
    assert result.tokens.tolist() == [tokens]


def test_no_texts_give_no_vectors(native: NativeEmbedder) -> None:
    result = native.encode([])
    assert result.vectors.shape == (0, 384)
    assert result.truncated.shape == result.tokens.shape == (0,)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ("one text", "put it into a list"),
        (["fine", "broken \ud800"], r"text 1 holds a lone surrogate \(U\+D800 at 7\)"),
        (["fine", 3], "text 1 is a int"),
        ([None], "text 0 is a NoneType"),
    ],
)
def test_what_is_no_text_is_refused(native: NativeEmbedder, texts: Any, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        native.encode(texts)


def same_tokens(native: NativeEmbedder, library: Tokenizer, texts: list[str]) -> None:
    for text, encoding in zip(texts, library.encode_batch_fast(texts), strict=True):
        ids, truncated = native.encoder.tokenise(text)
        assert ids == encoding.ids, text
        assert truncated == bool(encoding.overflowing), text


@settings(max_examples=300, deadline=None)
@given(text=st.text(max_size=80) | st.text("aé\u0301\u0327中한ßİΣ\u200b\0\u3000 -[]SEPCL", max_size=60))
def test_any_text_has_the_librarys_tokens(native: NativeEmbedder, library: Tokenizer, text: str) -> None:
    same_tokens(native, library, [text, text * 30])


def test_every_character_has_the_librarys_tokens(native: NativeEmbedder, library: Tokenizer) -> None:
    # Beyond the first two planes come ideographs, which are all treated alike.
    texts = [f"a{chr(c)}b {chr(c)}" for c in range(0x20100) if not 0xD800 <= c < 0xE000]
    same_tokens(native, library, texts)


@pytest.mark.parametrize("text", ["x" * 100_000, "短い文章です。" * 15_000, "🙂 " * 50_000, "a" + " " * 100_000 + "b"])
def test_a_huge_text_has_the_librarys_tokens(native: NativeEmbedder, library: Tokenizer, text: str) -> None:
    same_tokens(native, library, [text])


def test_200_000_real_texts_have_the_librarys_tokens(native: NativeEmbedder, library: Tokenizer, data: Path) -> None:
    texts: dict[str, None] = {}
    for file in sorted(data.glob("*.jsonl.gz")):
        with gzip.open(file, "rt", encoding="utf-8") as lines:
            for line in lines:
                texts.update(dict.fromkeys(value for value in json.loads(line).values() if isinstance(value, str)))
    assert len(texts) > 200_000
    chosen = sorted(texts, key=len)[:200_000] if len(texts) > 200_000 else list(texts)
    for start in range(0, len(chosen), 20_000):
        same_tokens(native, library, chosen[start : start + 20_000])


def test_the_engine_is_chosen_and_said(minilm: Path) -> None:
    assert embed.load(minilm).engine == "native"
    assert embed.load(minilm, engine="native", device="cpu", compute_type="int8", threads=2).engine == "native"
    assert embed.load(minilm, device="cpu", compute_type="float32").engine == "ctranslate2"
    assert embed.load(minilm, engine="ctranslate2").engine == "ctranslate2"


def test_contradictions_are_refused(minilm: Path) -> None:
    with pytest.raises(OptionError, match="device = 'cuda' needs engine='ctranslate2'"):
        embed.load(minilm, engine="native", device="cuda")
    with pytest.raises(OptionError, match="unknown engine 'onnx'"):
        embed.load(minilm, engine="onnx")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="unknown option 'thread'"):
        embed.load(minilm, thread=2)
    with pytest.raises(OptionError, match="threads = 0"):
        embed.load(minilm, threads=0)
    with pytest.raises(ModelNotFoundError):
        embed.load("no-such-model")


@pytest.fixture
def own_folder(minilm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model folder and a nearhit home of the test's own."""
    monkeypatch.setenv("NEARHIT_HOME", str(tmp_path / "home"))
    folder = tmp_path / "model"
    shutil.copytree(minilm, folder)
    return folder


def test_packed_files_are_kept_and_damage_is_repaired(own_folder: Path) -> None:
    first = NativeEmbedder(own_folder).embed(["hello"])
    folder = models.converted(own_folder, "int8")
    weights, probes = folder / "native-v1.bin", folder / "native-v1.npy"
    whole = weights.read_bytes()
    stamp = weights.stat().st_mtime_ns
    assert np.array_equal(NativeEmbedder(own_folder).embed(["hello"]), first)
    assert weights.stat().st_mtime_ns == stamp
    for damage in (whole[:1000], whole[:-1] + b"x", b""):
        weights.write_bytes(damage)
        assert np.array_equal(NativeEmbedder(own_folder).embed(["hello"]), first)
        assert weights.read_bytes() == whole
    probes.write_bytes(b"\x93NUMPY nonsense")
    assert np.array_equal(NativeEmbedder(own_folder).embed(["hello"]), first)
    assert np.load(probes).shape[1] == 384


def test_a_failed_self_test_is_told_and_auto_takes_ctranslate2(own_folder: Path) -> None:
    NativeEmbedder(own_folder)
    probes = models.converted(own_folder, "int8") / "native-v1.npy"
    wrong = np.load(probes)
    wrong[2] = wrong[0]
    np.save(probes, wrong)
    with pytest.raises(ModelFormatError, match="failed its self-test"):
        NativeEmbedder(own_folder)
    assert embed.load(own_folder).engine == "ctranslate2"


def test_a_converted_folder_alone_is_left_to_ctranslate2(minilm: Path, tmp_path: Path) -> None:
    out = models.convert(models.find(minilm), tmp_path / "out", "int8")
    with pytest.raises(ModelFormatError, match="and safetensors, from which"):
        NativeEmbedder(out)
    assert embed.load(out).engine == "ctranslate2"


@pytest.mark.parametrize(
    ("file", "keys", "value", "message"),
    [
        ("config.json", ("hidden_act",), "relu", "hidden_act = 'gelu', not 'relu'"),
        ("config.json", ("model_type",), "roberta", "model_type = 'bert', not 'roberta'"),
        ("config.json", ("num_attention_heads",), 5, "5 heads"),
        ("tokenizer.json", ("model", "type"), "Unigram", "WordPiece"),
        ("tokenizer.json", ("model", "continuing_subword_prefix"), "@@", "@@"),
        ("tokenizer.json", ("normalizer",), None, "no tokeniser that the native engine reads"),
        ("tokenizer.json", ("added_tokens", 0, "lstrip"), True, "lstrip"),
        ("tokenizer.json", ("added_tokens", 0, "id"), 99_999, "99999"),
        ("tokenizer.json", ("post_processor", "type"), "ByteLevel", "framed"),
        ("tokenizer.json", ("model", "vocab", "hello"), 5, "ids of its vocabulary"),
    ],
)
def test_what_the_engine_does_not_know_is_refused_with_the_reason(
    minilm: Path, tmp_path: Path, *, file: str, keys: tuple[str | int, ...], value: Any, message: str
) -> None:
    manifest = models.Manifest.read(models.converted(minilm, "int8"))
    for source in minilm.iterdir():
        if source.is_file():
            (tmp_path / source.name).symlink_to(source)
    changed = json.loads((minilm / file).read_text(encoding="utf-8"))
    inner = changed
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    (tmp_path / file).unlink()
    (tmp_path / file).write_text(json.dumps(changed), encoding="utf-8")
    with pytest.raises(ModelFormatError, match=message):
        pack(tmp_path, manifest)


def test_a_self_test_text_fills_the_window(minilm: Path) -> None:
    result = NativeEmbedder(minilm).encode(native_module._PROBES)
    assert result.tokens.max() == 256


def _embed_in_child(native: NativeEmbedder, queue: Any) -> None:
    queue.put(native.embed(["hello from a child"]))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_embeds(native: NativeEmbedder) -> None:
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_embed_in_child, args=(native, queue))
    child.start()
    found = queue.get(timeout=30)
    child.join()
    assert np.array_equal(found, native.embed(["hello from a child"]))


def test_a_missing_file_and_nonsense_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        NativeEncoder.load(tmp_path / "none")
    (tmp_path / "nonsense").write_bytes(b"nonsense" * 100)
    with pytest.raises(CorruptFileError):
        NativeEncoder.load(tmp_path / "nonsense")
