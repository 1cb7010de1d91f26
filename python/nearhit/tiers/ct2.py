"""A tier that runs a generator in this process, with CTranslate2."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, Literal

from nearhit import models
from nearhit._errors import ContextLengthError, ModelFormatError, OptionError, TierError
from nearhit._types import Chunk, Usage
from nearhit.models.replica import Replica
from nearhit.tiers.base import Tier
from nearhit.tiers.messages import read_messages
from nearhit.tiers.options import check_whole
from nearhit.tiers.sampling import Sampling, read_sampling
from nearhit.tiers.stops import StopMatcher
from nearhit.tiers.tokens import ChatTokeniser
from nearhit.tiers.worker import Worker

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence
    from pathlib import Path

    from nearhit._types import Message, Prompt
    from nearhit.tiers.limits import Slot
    from nearhit.tiers.timing import Stopwatch, Timeouts


_MOST_DEFAULT_THREADS = 4

_MAX_QUEUE = 64
"""At 20 ms a token, one more in the queue would wait for minutes: better that it is sent elsewhere at once."""

_EXIT_SECONDS = 60.0
"""How long leaving the interpreter waits for an engine, which cannot be interrupted inside a prompt."""


class CTranslate2Tier(Tier):
    """Answers with a generator in this process, on CPU or GPU, without torch.

    Several requests run at once, each on its own; more wait in the queue. Closing a stream stops the decoding with the
    next token; the prompt's own pass cannot be interrupted, and keeps its slot to its end. Answers are greedy unless a
    temperature is given. Each piece carries the log-probabilities of its tokens. After a fork, the child loads the
    model anew on its first use.

    Args:
        name: How logs, decisions and errors call this tier.
        model: Name of a fetched model, a model folder, a GGUF file, or a converted folder. A model that was not
            converted yet is converted now and kept.
        device: "auto" takes a CUDA device if there is one, else the CPU.
        compute_type: "int8", "int8_float32", "int8_float16", "int8_bfloat16", "float16", "bfloat16", "float32", or
            "auto" for the quickest that this device has.
        threads: Requests decoded at the same time; by default one per core of this process, at most four.
        intra_threads: Threads inside one request.
        max_tokens: Most tokens of an answer for requests that set no limit.
        chat_template: Jinja template in place of the model's own.
        **options: As for `Tier`. Unless given, `max_concurrency` is `threads` and `max_queue` 64; `max_context` is the
            model's own window at most.

    Raises:
        ModelNotFoundError: No such model is here; the message says how to fetch it.
        ModelFormatError: The model's files are damaged, or it is no generator.
        OptionError: Unknown device or compute type, or an option out of its range.

    Example:
        >>> from nearhit import CTranslate2Tier
        >>> tier = CTranslate2Tier("small", "smollm2-135m-instruct")            # doctest: +SKIP
        >>> tier.complete("What is the capital of France?").text                # doctest: +SKIP
        'The capital of France is Paris.'
    """

    def __init__(
        self,
        name: str,
        model: str | Path = models.GENERATOR,
        *,
        device: Literal["auto", "cpu", "cuda"] = "auto",
        compute_type: str = "int8",
        threads: int | None = None,
        intra_threads: int = 1,
        max_tokens: int = 512,
        chat_template: str | None = None,
        **options: Any,
    ) -> None:
        if device not in ("auto", "cpu", "cuda"):
            raise OptionError(f"unknown device {device!r}; expected 'auto', 'cpu' or 'cuda'")
        if compute_type not in models.STORED_WEIGHTS:
            known = ", ".join(models.STORED_WEIGHTS)
            raise OptionError(f"unknown compute type {compute_type!r}; expected one of {known}")
        for option, value in (("threads", threads), ("intra_threads", intra_threads), ("max_tokens", max_tokens)):
            check_whole(option, value, least=1)
        threads = threads or min(_cores(), _MOST_DEFAULT_THREADS)
        options.setdefault("capabilities", ())
        options.setdefault("max_concurrency", threads)
        options.setdefault("max_queue", _MAX_QUEUE)
        super().__init__(name, str(model), **options)
        folder = models.converted(model, models.STORED_WEIGHTS[compute_type])
        manifest = models.Manifest.read(folder)
        if manifest.kind != "generator":
            raise ModelFormatError(f"{manifest.name} is an {manifest.kind}, not a generator; use it as an embedder")
        self._model = manifest.name
        self.max_context = min(self.max_context or manifest.max_length, manifest.max_length)
        self._max_tokens = max_tokens
        self._tokeniser = ChatTokeniser(folder, manifest, template=chat_template)
        self._generator = Replica(lambda: _start(folder, device, compute_type, threads, intra_threads))
        self.device = self._generator.get().device
        self.compute_type = self._generator.get().compute_type

    @property
    def provider(self) -> str:
        """The engine."""
        return "ctranslate2"

    def count_tokens(self, messages: Prompt) -> int:
        """Returns how many tokens the messages are, chat template included.

        Raises:
            InputError: Messages that cannot be read.
        """
        return len(self._tokeniser.encode(read_messages(messages)))

    def check(self, messages: Prompt, **params: Any) -> None:
        """Raises, without running anything, if the tier cannot take this request.

        Raises:
            InputError: Messages or parameters that cannot be read.
            TierUnsupportedError: The request needs what the tier cannot do.
            ContextLengthError: Prompt and answer do not fit into the model's window.
        """
        read = self._accept(messages, params)
        self._prepare(read, read_sampling(params, tier=self.name))

    def _accept(self, messages: Prompt, params: Mapping[str, Any]) -> list[Message]:
        read = super()._accept(messages, params)
        read_sampling(params, tier=self.name)
        return read

    def _prepare(self, messages: Sequence[Message], sampling: Sampling) -> tuple[list[str], int]:
        """Returns the prompt's tokens, and how many the answer may have."""
        prompt = self._tokeniser.encode(messages)
        assert self.max_context is not None  # noqa: S101 - set by the constructor
        wanted = len(prompt) + (sampling.max_tokens or 1)
        if wanted > self.max_context:
            raise ContextLengthError(
                f"tier {self.name!r}: the prompt has {len(prompt)} tokens and the answer may need "
                f"{sampling.max_tokens or 1}, more than the window of {self.max_context}",
                tier=self.name,
                tokens=wanted,
                limit=self.max_context,
            )
        return prompt, sampling.max_tokens or min(self._max_tokens, self.max_context - len(prompt))

    async def aclose(self) -> None:
        """Stops requests under way with their next token, and frees the model when the last has ended."""
        await super().aclose()
        self._generator = Replica(self._refuse)

    def _refuse(self) -> Any:
        self.refuse_closed()

    async def _open(
        self, messages: Sequence[Message], params: Mapping[str, Any], watch: Stopwatch, slot: Slot, timeouts: Timeouts
    ) -> AsyncGenerator[Chunk, None]:
        del watch, timeouts  # the stream above measures and limits
        sampling = read_sampling(params, tier=self.name)
        worker = Worker(f"nearhit-{self.name}", slot)
        answer = _Answer(self._tokeniser, sampling, asyncio.get_running_loop())
        running: asyncio.Future[str] | None = None
        try:
            prompt, limit = await worker.call(lambda: self._prepare(messages, sampling))
            generator = await worker.call(self._generator.get)
            _at_work.add(answer, worker, generator)
            running = asyncio.ensure_future(worker.call(lambda: answer.generate(generator, prompt, limit)))
            running.add_done_callback(answer.end)
            while (chunk := await answer.next()) is not None:
                self.refuse_closed()
                yield chunk
            try:
                reason = running.result()
            except Exception as error:
                raise TierError(f"tier {self.name!r}: the engine failed: {error}", tier=self.name) from error
            yield Chunk(finish_reason=reason, usage=Usage(len(prompt), answer.tokens))
        finally:
            answer.cancel()
            if running is not None:
                running.cancel()
            worker.stop()


class _Answer:
    """One answer between the engine's thread, which makes tokens, and the event loop, which takes pieces."""

    def __init__(self, tokeniser: ChatTokeniser, sampling: Sampling, loop: asyncio.AbstractEventLoop) -> None:
        self._sampling = sampling
        self._ends = tokeniser.ends
        self._end_ids = tokeniser.end_ids
        self._text = tokeniser.detokeniser()
        self._stops = StopMatcher(sampling.stops)
        self._loop = loop
        self._pieces: asyncio.Queue[Chunk | None] = asyncio.Queue()
        self._cancelled = threading.Event()
        self._logprobs: list[float] = []
        self._ended = False
        self.tokens = 0

    def generate(self, generator: Any, prompt: list[str], limit: int) -> str:
        """Runs the engine to the end of the answer, in its own thread; returns the finish reason."""
        generator.generate_batch(
            [prompt],
            max_length=limit,
            end_token=list(self._ends),
            include_prompt_in_result=False,
            return_scores=True,  # gives each step its log-probability; costs nothing that can be measured
            callback=self._step,
            **self._sampling.engine_options(),
        )
        if not self._stops.stopped:
            self._send(self._stops.finish())
        return "stop" if self._ended or self._stops.stopped else "length"

    def _step(self, result: Any) -> bool:
        """Takes a token from the engine; True stops it."""
        if self._cancelled.is_set():
            return True
        if result.token_id in self._end_ids:
            self._ended = True
            return True
        self.tokens += 1
        if result.log_prob is not None:
            self._logprobs.append(result.log_prob)
        self._send(self._stops.feed(self._text.feed(result.token_id)))
        return self._stops.stopped

    def _send(self, text: str) -> None:
        if not text:
            return
        logprobs, self._logprobs = tuple(self._logprobs), []
        self._post(Chunk(text, logprobs=logprobs))

    def _post(self, chunk: Chunk | None) -> None:
        try:
            self._loop.call_soon_threadsafe(self._pieces.put_nowait, chunk)
        except RuntimeError:
            self._cancelled.set()  # the loop was closed over the request

    def end(self, _running: asyncio.Future[str]) -> None:
        """Marks the end, after the last piece."""
        self._pieces.put_nowait(None)

    async def next(self) -> Chunk | None:
        """Returns the next piece, or None at the end."""
        return await self._pieces.get()

    def cancel(self) -> None:
        """Stops the engine with its next token."""
        self._cancelled.set()


class _AtWork:
    """The threads in which engines work, so that none is left when the interpreter goes away.

    The engine is not Python's: a thread that returns from it, or frees it, after the interpreter has begun to end takes
    the whole process down.
    """

    def __init__(self) -> None:
        self._reset()
        atexit.register(self.finish)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        # A forked child has none of its parent's threads.
        self._at_work: list[tuple[_Answer, Worker]] = []
        self._engines: weakref.WeakSet[Any] = weakref.WeakSet()
        self._lock = threading.Lock()

    def add(self, answer: _Answer, worker: Worker, generator: Any) -> None:
        """Remembers an answer's thread until it has ended, and its engine."""
        with self._lock:
            self._engines.add(generator)
            self._at_work = [(other, thread) for other, thread in self._at_work if thread.is_alive()]
            self._at_work.append((answer, worker))

    def finish(self) -> None:
        """Stops every answer with its next token, and waits until its thread has ended and the engine is idle."""
        end = time.monotonic() + _EXIT_SECONDS
        for answer, worker in self._at_work:
            answer.cancel()
            worker.stop()
        for _, worker in self._at_work:
            worker.join(max(0.0, end - time.monotonic()))
        # An engine's own thread gives the callback back a moment after the call has returned.
        while any(engine.num_active_batches for engine in self._engines) and time.monotonic() < end:
            time.sleep(0.001)


_at_work = _AtWork()


def _start(folder: Path, device: str, compute_type: str, threads: int, intra_threads: int) -> Any:
    import ctranslate2  # noqa: PLC0415 - kept out of `import nearhit`

    try:
        return ctranslate2.Generator(
            str(folder), device=device, compute_type=compute_type, inter_threads=threads, intra_threads=intra_threads
        )
    except ValueError as error:  # a device or compute type that this machine does not have
        raise OptionError(f"device {device!r} with compute type {compute_type!r}: {error}") from error
    except RuntimeError as error:
        raise ModelFormatError(f"{folder} cannot be loaded: {error}; convert the model again") from error


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
