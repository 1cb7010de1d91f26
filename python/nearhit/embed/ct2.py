"""Embedding with CTranslate2: int8 or float, CPU or GPU, without torch."""

from __future__ import annotations

import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Literal

import ctranslate2
import numpy as np

from nearhit import models
from nearhit._bound import current_bound
from nearhit._config import parse_seconds
from nearhit._errors import EmbeddingError, ModelFormatError, OptionError, RequestError
from nearhit._types import Embeddings
from nearhit.embed.gather import Gatherer
from nearhit.embed.pooling import pool_unit
from nearhit.embed.tokenise import Tokeniser, Tokens
from nearhit.models.replica import Replica

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from nearhit._bound import Bound

_BATCH_TEXTS = 16  # texts/s with 2 threads at 8, 16, 32, 64, 128 a batch: 1210, 1300, 1130, 1090, 880
_BATCH_TOKENS = 4096
_MOST_DEFAULT_THREADS = 4


class CTranslate2Embedder:
    """Turns texts into unit vectors with an encoder run by CTranslate2.

    Safe to call from several threads. After a fork, the child loads the model anew on its first use.

    Args:
        model: Name of a fetched model, a model folder, or a converted folder. A model that was not converted yet is
            converted now (under a second for the default one) and kept.
        device: "auto" takes a CUDA device if there is one, else the CPU.
        compute_type: "int8", "int8_float32", "int8_float16", "int8_bfloat16", "float16", "bfloat16", "float32", or
            "auto" for the quickest that this device has.
        threads: Forward passes that run at the same time, and that a long list of texts is spread over; by default one
            per core of this process, at most four.
        queue: Single texts that may wait while the model is at work; one more is refused. They go together in the next
            pass.
        patience: Seconds that a single text waits at most; None for no bound. A call may bring a deadline of its own.
        intra_threads: Threads inside one forward pass. One is quickest for short texts (2.7 ms; two take 6.8).

    Attributes:
        dim: Length of the vectors.
        id: Name, content hash, compute type and pooling; vectors of different ids are never compared.
        max_tokens: Longest text in tokens, special tokens included; longer ones are cut, and `encode` tells which.
        device: Where it runs: "cpu" or "cuda".
        engine: Always "ctranslate2".

    Raises:
        ModelNotFoundError: No such model is here; the message says how to fetch it.
        ModelFormatError: The model's files are damaged, or it is no encoder.
        OptionError: Unknown device or compute type, or one this machine does not have.

    Example:
        >>> from nearhit.embed import CTranslate2Embedder
        >>> embedder = CTranslate2Embedder("all-MiniLM-L6-v2")            # doctest: +SKIP
        >>> a, b = embedder.embed(["reset my password", "password reset"])  # doctest: +SKIP
        >>> float(a @ b) > 0.8                                            # doctest: +SKIP
        True
    """

    engine = "ctranslate2"

    def __init__(
        self,
        model: str | Path = models.EMBEDDER,
        device: Literal["auto", "cpu", "cuda"] = "auto",
        compute_type: str = "int8",
        threads: int | None = None,
        intra_threads: int = 1,
        *,
        queue: int = 1024,
        patience: float | None = None,
    ) -> None:
        self.device, self._compute_type = _check(device, compute_type)
        self._threads = _positive("threads", threads if threads is not None else _default_threads())
        self._intra_threads = _positive("intra_threads", intra_threads)
        self._folder = models.converted(model, models.STORED_WEIGHTS[compute_type])
        manifest = models.Manifest.read(self._folder)
        if manifest.kind != "encoder" or manifest.pooling is None:
            raise ModelFormatError(f"{manifest.name} is a {manifest.kind}, not an embedding model; use it as a tier")
        self._pooling = manifest.pooling
        self._tokeniser = Tokeniser(self._folder / "tokenizer.json", manifest.max_length)
        self._encoder = Replica(self._start)
        self._workers = Replica(lambda: ThreadPoolExecutor(self._threads, thread_name_prefix="nearhit-embed"))
        self._patience = parse_seconds("patience", patience)
        waiting = _positive("queue", queue)
        self._callers = Replica(lambda: Gatherer(self.id, self._pooled, lanes=self._threads, queue=waiting))
        self.dim = manifest.dim
        self.max_tokens = manifest.max_length
        computed = self._encoder.get().compute_type
        self._is_plain = self.device == "cpu" and not computed.endswith("float16")
        self.id = _identity(manifest, computed)

    def __repr__(self) -> str:
        return f"CTranslate2Embedder({self.id!r}, device={self.device!r}, threads={self._threads})"

    def embed(self, texts: Sequence[str], /, *, deadline: float | None = None) -> NDArray[np.float32]:
        """Returns unit vectors, float32 of shape [len(texts), dim].

        Texts longer than `max_tokens` are cut; `encode` tells which.

        Args:
            texts: The texts.
            deadline: Seconds that the call may take, in place of `patience`; `nearhit.embed.deadline` bounds it too. A
                long list is given up between two of its batches.

        Raises:
            RequestError: `texts` is no list of str, or a text holds a lone surrogate.
            EmbeddingError: The model failed.
            EmbedderBusyError: Too many texts wait already.
            EmbeddingTimeoutError: It took too long.
        """
        return self.encode(texts, deadline=deadline).vectors

    def encode(self, texts: Sequence[str], /, *, deadline: float | None = None) -> Embeddings:
        """Embeds texts and reports truncation, lengths and times; arguments and errors as of `embed`."""
        if isinstance(texts, str | bytes):
            raise RequestError(f"expected a list of texts, got one {type(texts).__name__}; put it into a list")
        start = time.perf_counter()
        bound = current_bound(parse_seconds("deadline", deadline) or (self._patience if len(texts) == 1 else None))
        tokens = self._tokeniser.encode_all(texts)
        tokenised = time.perf_counter()
        vectors = np.empty((len(tokens), self.dim), dtype=np.float32)
        if len(tokens) == 1:
            vectors[0] = self._callers.get().run(tokens[0].ids, bound)
        elif tokens:
            self._embed(tokens, vectors, bound)
        return Embeddings(
            vectors=vectors,
            truncated=np.fromiter((t.truncated for t in tokens), np.bool_, len(tokens)),
            tokens=np.fromiter((len(t.ids) for t in tokens), np.int32, len(tokens)),
            tokenise_seconds=tokenised - start,
            forward_seconds=time.perf_counter() - tokenised,
        )

    def _embed(self, tokens: list[Tokens], vectors: NDArray[np.float32], bound: Bound) -> None:
        def run(rows: list[int]) -> None:
            bound.check(self.id)
            self._forward([tokens[row].ids for row in rows], rows, vectors)

        batches = _batches([len(t.ids) for t in tokens])
        if len(batches) == 1 or self._threads == 1:
            for batch in batches:
                run(batch)
            return
        jobs = [self._workers.get().submit(run, batch) for batch in batches]
        try:
            for job in jobs:
                job.result()
        finally:
            for job in jobs:
                job.cancel()  # after a failure or an interrupt nobody wants the rest

    def _pooled(self, ids: list[list[int]]) -> list[NDArray[np.float32]]:
        vectors = np.empty((len(ids), self.dim), dtype=np.float32)
        self._forward(ids, list(range(len(ids))), vectors)
        return list(vectors)

    def _forward(self, ids: list[list[int]], rows: list[int], vectors: NDArray[np.float32]) -> None:
        try:
            # Lists of ids and a StorageView made from them take the same time.
            state = self._encoder.get().forward_batch(ids).last_hidden_state
            if not self._is_plain:
                state = state.to(ctranslate2.DataType.float32).to_device(ctranslate2.Device.cpu)
        except RuntimeError as error:
            raise EmbeddingError(f"{self.id} failed on {len(ids)} texts: {error}") from error
        hidden = np.asarray(state)  # on the CPU a view of CTranslate2's own memory, not a copy
        for place, (row, text) in enumerate(zip(rows, ids, strict=True)):
            pool_unit(hidden[place, : len(text)], self._pooling, vectors[row])

    def _start(self) -> Any:
        try:
            return ctranslate2.Encoder(
                str(self._folder),
                device=self.device,
                compute_type=self._compute_type,
                inter_threads=self._threads,
                intra_threads=self._intra_threads,
            )
        except (RuntimeError, ValueError) as error:
            message = f"{self._folder} cannot be loaded on {self.device}: {error}"
            raise ModelFormatError(message) from error


def _batches(lengths: list[int]) -> list[list[int]]:
    """Groups texts of like length, longest first, so that little is padded and threads end at the same time."""
    batches: list[list[int]] = []
    width = 0
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        if not batches or len(batches[-1]) == _BATCH_TEXTS or (len(batches[-1]) + 1) * width > _BATCH_TOKENS:
            batches.append([])
            width = lengths[row]
        batches[-1].append(row)
    return batches


def _identity(manifest: models.Manifest, computed: str) -> str:
    """Names everything that moves the vectors: model, converter, stored weights, type of the arithmetic, pooling."""
    stored = manifest.quantization
    arithmetic = computed if computed.startswith(stored) else f"{stored}-as-{computed}"
    return f"{manifest.name}@{manifest.content[:12]}.{manifest.converter}/{arithmetic}/{manifest.pooling}"


def _check(device: str, compute_type: str) -> tuple[Literal["cpu", "cuda"], str]:
    if device not in ("auto", "cpu", "cuda"):
        raise OptionError(f"unknown device {device!r}; expected 'auto', 'cpu' or 'cuda'")
    if compute_type not in models.STORED_WEIGHTS:
        raise OptionError(f"unknown compute_type {compute_type!r}; expected one of {', '.join(models.STORED_WEIGHTS)}")
    gpus = ctranslate2.get_cuda_device_count() if device != "cpu" else 0
    if device == "cuda" and not gpus:
        raise OptionError("device 'cuda': CTranslate2 finds no CUDA device on this machine; use device='auto' or 'cpu'")
    place: Literal["cpu", "cuda"] = "cuda" if gpus else "cpu"
    supported = ctranslate2.get_supported_compute_types(place)
    if compute_type != "auto" and compute_type not in supported:
        known = ", ".join(sorted(supported))
        raise OptionError(f"compute_type {compute_type!r} does not run on this {place}; it has {known}")
    return place, compute_type


def _positive(name: str, value: int) -> int:
    if type(value) is not int or value < 1:
        raise OptionError(f"{name} = {value!r}, expected a positive integer")
    return value


def _default_threads() -> int:
    # A container or taskset may leave this process fewer cores than the machine has.
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return min(cores, _MOST_DEFAULT_THREADS)
