"""Small first: what a cascade makes of an answer while it comes, and once it is there."""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nearhit._errors import OptionError
from nearhit.tiers.collect import Collector
from nearhit.tiers.options import check_number, check_whole

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence

    from nearhit._types import Chunk, Completion, Message
    from nearhit.tiers.timing import Stopwatch


@dataclass(frozen=True, slots=True, kw_only=True)
class Cascade:
    """When an answer is not good enough and a better tier is asked.

    The answer of the tier that was chosen is held back until it has been judged. With enough confidence it is passed
    on; with less, the next tier with a higher score is asked, if one can make the deadline within the cost limit. If
    none can, or it fails, the first answer is passed on after all, and is not stored in the cache.

    Confidence is the geometric mean of the probabilities that the model gave to its own tokens (local tiers know them;
    servers tell them with `logprobs=True`), or what `score` says. An answer about which nothing is known is passed on.

    A stream is judged when the answer is whole, so its first piece waits for its last; with `hold_tokens` it is judged
    by its first tokens alone, then streams, and an answer that begins badly is not waited for.

    Attributes:
        threshold: Least confidence of an answer that is passed on, in [0, 1].
        score: `score(messages, completion)` gives the confidence, in [0, 1], in place of token probabilities; a plain
            or a coroutine function. If it raises, the answer is passed on and the trace notes why.
        hold_tokens: Judge by so many tokens; None for the whole answer. Not together with `score`.

    Raises:
        OptionError: An option out of its range.

    Example:
        >>> from nearhit import FunctionTier, Router
        >>> from nearhit.router import Cascade
        >>> small = FunctionTier("small", lambda messages: "I am not sure.")
        >>> large = FunctionTier("large", lambda messages: "Canberra.")
        >>> sure = Cascade(threshold=0.5, score=lambda messages, answer: 0.0 if "not sure" in answer.text else 1.0)
        >>> router = Router([small, large], strategy="cheapest", cascade=sure)
        >>> answer = router.complete("What is the capital of Australia?")
        >>> answer.text, [attempt.outcome for attempt in answer.trace.attempts]
        ('Canberra.', ['rejected', 'answered'])
    """

    threshold: float = 0.6
    score: Callable[[Sequence[Message], Completion], float | Awaitable[float]] | None = None
    hold_tokens: int | None = None

    def __post_init__(self) -> None:
        check_number("threshold", self.threshold, least=0.0, most=1.0)
        check_whole("hold_tokens", self.hold_tokens, least=1)
        if self.threshold is None:
            raise OptionError("threshold=None is not valid: expected a confidence between 0 and 1")
        if self.score is not None and not callable(self.score):
            raise OptionError(f"score={self.score!r} is not valid: expected a function of messages and completion")
        if self.score is not None and self.hold_tokens is not None:
            raise OptionError("hold_tokens needs token probabilities: leave out score, which judges whole answers")


@dataclass(slots=True)
class Held:
    """An answer that is held back while it is judged.

    Attributes:
        chunks: Its pieces so far.
        whole: Whether it has ended.
        released: Whether it was good enough by its beginning, and is passed on as it comes.
        confidence: What was made of it; None while nothing is known.
        notes: Why nothing is known.
    """

    cascade: Cascade
    chunks: list[Chunk] = field(default_factory=list)
    whole: bool = False
    released: bool = False
    confidence: float | None = None
    notes: list[str] = field(default_factory=list)
    _tokens: int = 0
    _sum: float = 0.0

    async def until_judged(self, pieces: AsyncIterator[Chunk], watch: Stopwatch) -> AsyncGenerator[Chunk, None]:
        """Takes the pieces; yields them once they are good enough, and ends where they are not."""
        async for chunk in pieces:
            watch.piece(chunk)
            if self.released:
                yield chunk
            elif self._add(chunk):
                if not self.good:
                    return
                self.released = True
                for piece in self.chunks:
                    yield piece

    def _add(self, chunk: Chunk) -> bool:
        """Takes the next piece; True once the answer can be judged by what has come."""
        self.chunks.append(chunk)
        self._tokens += len(chunk.logprobs)
        self._sum += math.fsum(chunk.logprobs)
        enough = self.cascade.hold_tokens
        if enough is None or self._tokens < enough:
            return False
        self._average()
        return True

    def _average(self) -> None:
        if self._tokens:
            self.confidence = math.exp(min(0.0, self._sum / self._tokens))

    async def judge(self, messages: Sequence[Message], tier: str, model: str, watch: Stopwatch) -> None:
        """Judges the whole answer."""
        self.whole = True
        score = self.cascade.score
        if score is None:
            self._average()
            return
        collector = Collector()
        for chunk in self.chunks:
            collector.add(chunk)
        try:
            found: Any = score(messages, collector.completion(tier=tier, model=model, timings=watch.timings()))
            if inspect.isawaitable(found):
                found = await found
            confidence = float(found)
        except Exception as error:  # noqa: BLE001 - a judge that fails must not fail the answer
            self.notes.append(f"the cascade's score failed: {type(error).__name__}: {error}")
            return
        if math.isnan(confidence):
            self.notes.append("the cascade's score is not a number")
            return
        self.confidence = confidence

    @property
    def good(self) -> bool:
        """Whether the answer may be passed on."""
        return self.confidence is None or self.confidence >= self.cascade.threshold
