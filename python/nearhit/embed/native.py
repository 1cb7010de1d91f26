"""Embedding with nearhit's own int8 encoder: BERT-family models on the CPU, in about a third of CTranslate2's time."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from nearhit import models
from nearhit._core import NativeEncoder
from nearhit._errors import CorruptFileError, ModelFormatError, OptionError, RequestError, StorageError
from nearhit._types import Embeddings
from nearhit.embed.packing import pack
from nearhit.models.files import exclusive, storage_errors

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

PACKED_VERSION = 1
"""Raised whenever the packed model or the self-test changes; older files are then made anew."""

_PROBES = (
    "How do I reset my password?",
    "Write a short, polite email about the invoice of March 2024 ($129.90) to somebody I have never met.",
    "naïve Übermut, 東京の天気, e=mc² — what's 7 times 8?",
    "photosynthesis",
    "The train to Lyon leaves at noon; if I miss it, the next one leaves three hours later. " * 14,
)
"""What the self-test embeds: questions, numbers, scripts, one word, and a text that fills the window."""

_LEAST_AGREEMENT = 0.98
"""Least cosine of a probe with its vector from CTranslate2 in int8. Both engines keep above .985 of float32; a wrong
layer, weight or token falls far below."""


class NativeEmbedder:
    """Turns texts into unit vectors with nearhit's own int8 encoder for BERT-family models, on the CPU.

    Safe to call from several threads, which run at the same time: a call releases the GIL, and more callers than cores
    take turns, text by text. A text's vector does not depend on what it is batched with. The packed weights are made
    once (about two seconds for the default model) and kept beside the converted model, with the vectors of a few probes
    that every later start must reproduce.

    Args:
        model: Name of a fetched model, or a model folder with safetensors.
        threads: Threads that a list of texts is spread over; one text always takes one.

    Attributes:
        dim: Length of the vectors.
        id: Name, content hash, engine and pooling; vectors of different ids are never compared.
        max_tokens: Longest text in tokens, special tokens included; longer ones are cut, and `encode` tells which.
        device: Always "cpu".
        engine: Always "native".
        isa: The instruction set in use: "avx512", "avx2", "neon" or "scalar".
        encoder: The engine itself, which a cache calls within one call of the core.

    Raises:
        ModelNotFoundError: No such model is here; the message says how to fetch it.
        ModelFormatError: It is no BERT encoder, its files are damaged, or the self-test failed.
        OptionError: `threads` is no positive integer.

    Example:
        >>> from nearhit.embed import NativeEmbedder
        >>> embedder = NativeEmbedder("all-MiniLM-L6-v2")                 # doctest: +SKIP
        >>> a, b = embedder.embed(["reset my password", "password reset"])  # doctest: +SKIP
        >>> float(a @ b) > 0.8                                            # doctest: +SKIP
        True
    """

    engine = "native"
    device = "cpu"

    def __init__(self, model: str | Path = models.EMBEDDER, threads: int = 1) -> None:
        if type(threads) is not int or threads < 1:
            raise OptionError(f"threads = {threads!r}, expected a positive integer")
        self._threads = threads
        source = models.find(model)
        folder = models.converted(model, "int8")
        manifest = models.Manifest.read(folder)
        if manifest.kind != "encoder" or manifest.pooling is None:
            raise ModelFormatError(f"{manifest.name} is a {manifest.kind}, not an embedding model; use it as a tier")
        packed = _Packed(source.path, folder, manifest)
        self.encoder = packed.open()
        self.dim = manifest.dim
        self.max_tokens = manifest.max_length
        self.isa = self.encoder.isa
        self.id = f"{manifest.name}@{manifest.content[:12]}/native-int8-v{PACKED_VERSION}/{manifest.pooling}"

    def __repr__(self) -> str:
        return f"NativeEmbedder({self.id!r}, isa={self.isa!r}, threads={self._threads})"

    def embed(self, texts: Sequence[str], /) -> NDArray[np.float32]:
        """Returns unit vectors, float32 of shape [len(texts), dim].

        Texts longer than `max_tokens` are cut; `encode` tells which.

        Raises:
            RequestError: `texts` is no list of str, or a text holds a lone surrogate.
            EmbeddingError: The model failed.
        """
        return self.encode(texts).vectors

    def encode(self, texts: Sequence[str], /) -> Embeddings:
        """Embeds texts and reports truncation, lengths and times (summed over the threads).

        Raises:
            RequestError: `texts` is no list of str, or a text holds a lone surrogate.
            EmbeddingError: The model failed.
        """
        import numpy as np  # noqa: PLC0415 - kept out of `import nearhit`

        if isinstance(texts, str | bytes):
            raise RequestError(f"expected a list of texts, got one {type(texts).__name__}; put it into a list")
        texts = list(texts)
        try:
            data, truncated, tokens, tokenising, forward = self.encoder.encode(texts, self._threads)
        except (TypeError, RequestError) as error:
            raise RequestError(_unusable(texts) or str(error)) from error
        return Embeddings(
            vectors=np.frombuffer(data, np.float32).reshape(len(texts), self.dim),
            truncated=np.array(truncated, np.bool_),
            tokens=np.array(tokens, np.int32),
            tokenise_seconds=tokenising,
            forward_seconds=forward,
        )


class _Packed:
    """The packed model of one converted folder, and the probes it must reproduce."""

    def __init__(self, source: Path, folder: Path, manifest: models.Manifest) -> None:
        self._source = source
        self._folder = folder
        self._manifest = manifest
        self._weights = folder / f"native-v{PACKED_VERSION}.bin"
        self._probes = folder / f"native-v{PACKED_VERSION}.npy"

    def open(self) -> NativeEncoder:
        """Returns the encoder, from the files if they are there and whole, else made anew; tested either way."""
        encoder = self._read()
        if encoder is not None:
            return encoder
        if not (self._source / "config.json").is_file() or not list(self._source.glob("*.safetensors")):
            raise ModelFormatError(
                f"{self._source} has no config.json and safetensors, from which the native engine packs its weights; "
                "use engine='ctranslate2', or give the model's own folder"
            )
        with exclusive(f"{self._folder.name}-native") as work:
            encoder = self._read()
            if encoder is None:
                encoder = self._make(work)
        return encoder

    def _read(self) -> NativeEncoder | None:
        import numpy as np  # noqa: PLC0415 - kept out of `import nearhit`

        if not self._weights.is_file() or not self._probes.is_file():
            return None
        try:
            encoder = NativeEncoder.load(self._weights)
            expected = np.load(self._probes, allow_pickle=False)
        except (CorruptFileError, ValueError, EOFError, OSError):
            return None  # made anew from the model's own files
        if expected.shape != (len(_PROBES), self._manifest.dim):
            return None
        self._test(encoder, expected)
        return encoder

    def _make(self, work: Path) -> NativeEncoder:
        import numpy as np  # noqa: PLC0415 - kept out of `import nearhit`

        from nearhit.embed.ct2 import CTranslate2Embedder  # noqa: PLC0415 - loads ctranslate2, tokenizers and numpy

        encoder = pack(self._source, self._manifest)
        reference = CTranslate2Embedder(self._folder, device="cpu", threads=1).embed(_PROBES)
        self._test(encoder, reference)
        try:
            encoder.save(work / self._weights.name)
            with storage_errors(work):
                np.save(work / self._probes.name, reference.astype(np.float32), allow_pickle=False)
                for file in (self._weights, self._probes):
                    os.replace(work / file.name, file)  # noqa: PTH105 - Path.replace is the same call, less plainly
        except StorageError:
            pass  # a read-only folder: packed again at the next start
        return encoder

    def _test(self, encoder: NativeEncoder, expected: NDArray[np.float32]) -> None:
        import numpy as np  # noqa: PLC0415 - kept out of `import nearhit`

        vectors = np.frombuffer(encoder.encode(_PROBES)[0], np.float32).reshape(expected.shape)
        cosines = np.einsum("ij,ij->i", vectors, expected)
        worst = int(cosines.argmin())
        if not cosines[worst] >= _LEAST_AGREEMENT:
            raise ModelFormatError(
                f"{self._manifest.name}: the native engine failed its self-test on {encoder.isa}: its cosine with "
                f"CTranslate2 is {cosines[worst]:.4f}, below {_LEAST_AGREEMENT}, on {_PROBES[worst][:40]!r}; "
                "use engine='ctranslate2'"
            )


def _unusable(texts: list[str]) -> str | None:
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            return f"text {number} is a {type(text).__name__}, expected str"
        position = next((i for i, character in enumerate(text) if "\ud800" <= character <= "\udfff"), None)
        if position is not None:
            return (
                f"text {number} holds a lone surrogate (U+{ord(text[position]):04X} at {position}), which is no "
                "character; repair it first, for example with text.encode('utf-8', 'replace').decode()"
            )
    return None
