"""What every tier is: a name, a model, and one asynchronous stream of pieces from which all else is made."""

from __future__ import annotations

import os
import weakref
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from nearhit._errors import OptionError, TierClosedError, TierUnsupportedError
from nearhit._portal import portal
from nearhit.tiers.limits import Limiter, Slot
from nearhit.tiers.messages import needs, read_messages
from nearhit.tiers.options import check_kind, check_number, check_text, check_whole
from nearhit.tiers.stream import AsyncTierStream, TierStream
from nearhit.tiers.timing import Stopwatch, Timeouts

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence

    from nearhit._types import Chunk, Completion, Message, Prompt, Usage

_FIXED = ("messages", "model")


@dataclass(frozen=True, slots=True)
class Price:
    """What a tier's tokens cost, in US dollars a token.

    Attributes:
        prompt: Of a prompt token.
        completion: Of a completion token.
        cached_prompt: Of a prompt token that the server had already computed; None for the price of any other.

    Raises:
        OptionError: A negative or infinite price.

    Example:
        >>> Price(prompt=0.15e-6, completion=0.60e-6).completion
        6e-07
    """

    prompt: float
    completion: float
    cached_prompt: float | None = None

    def __post_init__(self) -> None:
        for name in ("prompt", "completion", "cached_prompt"):
            value = getattr(self, name)
            if value is None and name != "cached_prompt":
                raise OptionError(f"a price needs the cost of a {name} token, in US dollars")
            check_number(f"the price of a {name} token", value, least=0.0)

    def of(self, usage: Usage) -> float:
        """Returns what `usage` costs, in US dollars."""
        cached = 0 if self.cached_prompt is None else min(usage.cached_prompt_tokens, usage.prompt_tokens)
        fresh = usage.prompt_tokens - cached
        return fresh * self.prompt + cached * (self.cached_prompt or 0.0) + usage.completion_tokens * self.completion


class Tier(ABC):
    """Something that can answer: a local model, a server, a function.

    A kind of tier implements `_open`, an asynchronous generator of pieces; time limits, measuring, the queue, the
    synchronous methods and putting the pieces together are the same for all.

    Args:
        name: How logs, decisions and errors call this tier.
        model: The model's name.
        price: What tokens cost; None where that is unknown or there is nothing to pay.
        quality: Prior probability that the tier answers well, in [0, 1].
        max_context: The model's window in tokens, prompt and answer together.
        capabilities: What it can do beyond text, of "tools", "images", "audio", "files", "json"; None where that is
            unknown, and then nothing is refused.
        timeouts: Limits of every request that sets none of its own.
        max_concurrency: Requests worked on at once; None for no limit.
        max_queue: Requests that may wait for their turn; one more is refused with `TierBusyError`. None for no limit.

    Raises:
        OptionError: An option out of its range.
    """

    def __init__(
        self,
        name: str,
        model: str,
        *,
        price: Price | None = None,
        quality: float | None = None,
        max_context: int | None = None,
        capabilities: Iterable[str] | None = None,
        timeouts: Timeouts | None = None,
        max_concurrency: int | None = None,
        max_queue: int | None = None,
    ) -> None:
        check_text("a tier's name", name)
        check_text(f"the model of tier {name!r}", model)
        check_number("quality", quality, least=0.0, most=1.0)
        check_whole("max_context", max_context, least=1)
        check_kind("price", price, Price)
        check_kind("timeouts", timeouts, Timeouts)
        self._name = name
        self._model = model
        self.price = price
        self.quality = quality
        self.max_context = max_context
        self.capabilities = None if capabilities is None else frozenset(capabilities)
        self.timeouts = timeouts or Timeouts()
        self.limiter = Limiter(max_concurrency, max_queue)
        self._closed = False
        _tiers.add(self)

    @property
    def name(self) -> str:
        """How logs, decisions and errors call this tier."""
        return self._name

    @property
    def model(self) -> str:
        """The model's name."""
        return self._model

    @property
    def provider(self) -> str:
        """Whose API or engine answers, as OpenTelemetry's conventions call it."""
        return "nearhit"

    @property
    def address(self) -> tuple[str, int] | None:
        """Host and port of the server that answers; None for a tier in this process."""
        return None

    @property
    def closed(self) -> bool:
        """Whether the tier was closed."""
        return self._closed

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._name!r}, {self._model!r})"

    def astream(
        self,
        messages: Prompt,
        *,
        timeouts: Timeouts | None = None,
        priority: int = 0,
        within: float | None = None,
        **params: Any,
    ) -> AsyncTierStream:
        """Returns the answer as an asynchronous iterator of pieces; nothing is sent before the first is asked for.

        Args:
            messages: A prompt, or messages in the OpenAI form.
            timeouts: Limits of this request, in place of the tier's.
            priority: Requests of a higher one leave the queue first. A full queue takes one in by refusing the last
                of those with a lower one.
            within: Seconds from now after which the answer is of no use. Who would still be in the queue then, going by
                how long requests have taken, is refused at once; the total limit counts likewise.
            **params: Parameters of the request in the OpenAI form: temperature, max_tokens, stop, tools...

        Raises:
            InputError: Messages or parameters that cannot be read.
            TierUnsupportedError: The request needs what the tier cannot do.
            TierError: While iterating: the tier could not answer, in one of its kinds.
        """
        check_kind("timeouts", timeouts, Timeouts)
        read = self._accept(messages, params)
        limits = timeouts or self.timeouts
        return AsyncTierStream(
            self,
            lambda watch, slot: self._open(read, params, watch, slot, limits),
            limits,
            priority=priority,
            within=within,
        )

    async def acomplete(self, messages: Prompt, *, timeouts: Timeouts | None = None, **params: Any) -> Completion:
        """Returns the whole answer; arguments and errors as for `astream`."""
        stream = self.astream(messages, timeouts=timeouts, **params)
        async with stream:
            async for _ in stream:
                pass
        return stream.completion()

    def stream(self, messages: Prompt, *, timeouts: Timeouts | None = None, **params: Any) -> TierStream:
        """Returns the answer as an iterator of pieces; arguments and errors as for `astream`."""
        return TierStream(portal(), self.astream(messages, timeouts=timeouts, **params))

    def complete(self, messages: Prompt, *, timeouts: Timeouts | None = None, **params: Any) -> Completion:
        """Returns the whole answer; arguments and errors as for `astream`."""
        return portal().run(self.acomplete(messages, timeouts=timeouts, **params))

    def check(self, messages: Prompt, **params: Any) -> None:
        """Raises, without sending anything, if the tier cannot take this request.

        Raises:
            InputError: Messages or parameters that cannot be read.
            TierUnsupportedError: The request needs what the tier cannot do.
        """
        self._accept(messages, params)

    def count_tokens(self, messages: Prompt) -> int | None:
        """Returns how many tokens the messages are to the model; None where only the server could tell.

        Raises:
            InputError: Messages that cannot be read.
        """
        read_messages(messages)
        return None

    def cost(self, usage: Usage) -> float | None:
        """Returns what `usage` costs in US dollars; None where the price or the token counts are unknown."""
        if self.price is None or usage.total_tokens == 0:
            return None
        return self.price.of(usage)

    async def aclose(self) -> None:
        """Frees what the tier holds; requests under way fail and later ones are refused."""
        self._closed = True

    def close(self) -> None:
        """Frees what the tier holds; requests under way fail and later ones are refused."""
        portal().run(self.aclose())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def refuse_closed(self) -> None:
        """Raises if the tier was closed.

        Raises:
            TierClosedError: It was.
        """
        if self._closed:
            raise TierClosedError(f"tier {self._name!r} was closed", tier=self._name)

    def _accept(self, messages: Prompt, params: Mapping[str, Any]) -> list[Message]:
        for name in _FIXED:
            if name in params:
                raise OptionError(f"{name!r} is fixed by tier {self._name!r} and cannot be a parameter of the request")
        read = read_messages(messages)
        if self.capabilities is not None and (missing := needs(read, params) - self.capabilities):
            wanted = tuple(sorted(missing))
            raise TierUnsupportedError(
                f"tier {self._name!r} cannot take this request: it needs {', '.join(wanted)}",
                tier=self._name,
                needs=wanted,
            )
        return read

    @abstractmethod
    def _open(
        self, messages: Sequence[Message], params: Mapping[str, Any], watch: Stopwatch, slot: Slot, timeouts: Timeouts
    ) -> AsyncGenerator[Chunk, None]:
        """Yields the pieces of the answer; raises `TierError` unless it ended properly.

        Args:
            messages: Messages as `read_messages` returns them.
            params: Parameters of the request.
            watch: For marks that only the tier can make: the first byte, connecting, an end before the last piece.
            slot: To be held by work that may go on when this generator has been closed.
            timeouts: Limits of the request; all but `connect` are seen to by the caller.
        """

    def _after_fork(self) -> None:
        """Forgets what a forked child cannot use: locks that another thread held, threads, connections."""
        self.limiter = Limiter(self.limiter.slots, self.limiter.places)


_tiers: weakref.WeakSet[Tier] = weakref.WeakSet()


def _forked() -> None:
    for tier in list(_tiers):
        tier._after_fork()  # noqa: SLF001 - the base class's own hook


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
