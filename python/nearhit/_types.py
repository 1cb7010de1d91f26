"""What the parts of nearhit hand to each other: protocols and plain, frozen records.

Times are seconds, similarities are cosines in [-1, 1], token counts are measured, never estimated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Message: TypeAlias = Mapping[str, Any]
"""One chat message in the OpenAI form: a role and a content."""

Prompt: TypeAlias = "str | Sequence[Message]"
"""A plain prompt, or the messages of a conversation."""


@runtime_checkable
class Embedder(Protocol):
    """Anything that turns texts into unit vectors.

    Attributes:
        dim: Length of the vectors.
        id: Name and version of the model and its settings; vectors of different ids are never compared.
    """

    @property
    def dim(self) -> int:
        """Length of the vectors."""
        ...

    @property
    def id(self) -> str:
        """Name and version of the model and its settings."""
        ...

    def embed(self, texts: list[str], /) -> NDArray[np.float32]:
        """Returns float32 vectors of shape [len(texts), dim]."""
        ...


@runtime_checkable
class DetailedEmbedder(Embedder, Protocol):
    """An embedder that also tells which texts were cut and where the time went."""

    def encode(self, texts: Sequence[str], /) -> Embeddings:
        """Embeds texts and reports truncation, lengths and times."""
        ...


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Vectors of a batch of texts, and what it took to make them.

    Attributes:
        vectors: Unit vectors, float32 of shape [n, dim].
        truncated: bool of shape [n]; True where a text was longer than the model's window and was cut.
        tokens: int32 of shape [n]; tokens of each text as the model saw it, special tokens included.
        tokenise_seconds: Time spent on tokenising the batch.
        forward_seconds: Time spent in the model and on pooling.
    """

    vectors: NDArray[np.float32]
    truncated: NDArray[np.bool_]
    tokens: NDArray[np.int32]
    tokenise_seconds: float = 0.0
    forward_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts of one completion, as the tokenizer or the server counted them; 0 where nobody did.

    Attributes:
        prompt_tokens: Tokens of the prompt, cached ones included.
        completion_tokens: Tokens of the answer, hidden reasoning included.
        cached_prompt_tokens: Those of the prompt that the server had already computed.
        reasoning_tokens: Those of the answer that were spent on reasoning.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_prompt_tokens: int = 0
    reasoning_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        """Prompt and completion together."""
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True)
class Timings:
    """Where a completion's time went, in seconds from the request's start on one monotonic clock.

    Attributes:
        ttfb: To the first byte of the answer (HTTP headers, or the first event of a local model).
        ttft: To the first content-bearing delta; None if there was none.
        e2e: To the end of the answer.
        itl: Gaps between content-bearing deltas.
        output_tokens: Tokens of the answer, for `tpot`.
        queue: Of the time above, how long the request waited for a free slot of the tier.
        connect: How long connecting took; None where a connection was reused or none was needed.
    """

    ttfb: float
    ttft: float | None
    e2e: float
    itl: tuple[float, ...] = ()
    output_tokens: int = 0
    queue: float = 0.0
    connect: float | None = None

    @property
    def tpot(self) -> float | None:
        """Time per output token after the first: (e2e - ttft) / (n_out - 1).

        None below two tokens, and where the whole answer came in one piece, which says nothing about its pace.
        """
        if self.ttft is None or self.output_tokens < 2 or not self.itl:  # noqa: PLR2004 - needs a second token
            return None
        return (self.e2e - self.ttft) / (self.output_tokens - 1)


@dataclass(frozen=True, slots=True)
class Span:
    """One stage of a request.

    Attributes:
        name: The stage: "exact", "tokenise", "embed", "search", "decide", "connect", "ttft", "decode", "store"...
        start: Seconds after the request's start.
        duration: Seconds.
        attributes: What the stage has to say (tier, similarity, attempt, error...).
    """

    name: str
    start: float
    duration: float
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Chunk:
    """One piece of a streamed answer.

    Attributes:
        text: Content that this piece adds; may be empty.
        finish_reason: "stop", "length", "tool_calls"... on the last piece that has content or on its own.
        usage: Token counts, on the piece that carries them (the last one).
        tool_calls: Tool-call deltas in the OpenAI form, untouched.
        raw: The server's own event, where there is one.
        reasoning: Reasoning text that this piece adds, where the server shows it apart from the content.
        logprobs: Natural log-probability of each token in this piece, where the tier knows it.
    """

    text: str = ""
    finish_reason: str | None = None
    usage: Usage | None = None
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    raw: Mapping[str, Any] | None = None
    reasoning: str = ""
    logprobs: tuple[float, ...] = ()

    @property
    def has_content(self) -> bool:
        """Whether the piece brings anything of the answer: text, reasoning or a part of a tool call."""
        return bool(self.text or self.reasoning or self.tool_calls)


@dataclass(frozen=True, slots=True)
class Completion:
    """A whole answer.

    Attributes:
        text: The answer.
        finish_reason: Why it ended; None means that it did not end properly, and it is not cached.
        usage: Token counts.
        timings: Measured times.
        tier: Name of the tier that answered, or "cache".
        model: Name of the model.
        tool_calls: Tool calls in the OpenAI form.
        raw: The server's own body, where there is one.
        trace: The request's trace, set by the router.
        reasoning: The reasoning text, where the server shows it apart from the answer.
        logprobs: Natural log-probability of each answer token, where the tier knows it.
    """

    text: str
    finish_reason: str | None
    usage: Usage
    timings: Timings
    tier: str
    model: str
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    raw: Mapping[str, Any] | None = None
    trace: Any = None
    reasoning: str = ""
    logprobs: tuple[float, ...] = ()
