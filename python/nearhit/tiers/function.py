"""A tier made of the caller's own function."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any

from nearhit._errors import OptionError, TierError, TierProtocolError
from nearhit._types import Chunk, Completion, Usage
from nearhit.tiers.base import Tier
from nearhit.tiers.worker import Worker

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping, Sequence

    from nearhit._types import Message
    from nearhit.tiers.limits import Slot
    from nearhit.tiers.timing import Stopwatch, Timeouts

_END = object()


class FunctionTier(Tier):
    """Answers with a Python function.

    The function is called as `fn(messages, **params)` and may be a plain function, a coroutine function, a generator
    or an asynchronous generator. It returns a text or a `Completion`; a generator yields texts or `Chunk`s. Plain
    functions and generators run in a thread of their own, one for each request; when the caller goes away such a
    thread ends after the step it is in, since a thread cannot be stopped from outside, and until then it counts
    towards `max_concurrency`. A plain text has no token
    counts, and none are made up.

    Args:
        name: How logs, decisions and errors call this tier.
        fn: The function.
        model: The model's name; by default the function's.
        **options: As for `Tier`.

    Raises:
        OptionError: `fn` cannot be called, or an option is out of its range.

    Example:
        >>> tier = FunctionTier("echo", lambda messages: messages[-1]["content"].upper())
        >>> tier.complete("hello").text
        'HELLO'
    """

    def __init__(self, name: str, fn: Callable[..., Any], *, model: str | None = None, **options: Any) -> None:
        if not callable(fn):
            raise OptionError(f"fn of tier {name!r} must be callable, not {type(fn).__name__}")
        super().__init__(name, model or str(getattr(fn, "__name__", type(fn).__name__)), **options)
        self._fn = fn
        called = fn if inspect.isroutine(fn) or inspect.isclass(fn) else type(fn).__call__
        # What only wraps a coroutine function may block, and runs in a thread; what it returns is awaited all the same.
        self._is_async = any(inspect.iscoroutinefunction(f) or inspect.isasyncgenfunction(f) for f in (fn, called))

    async def _open(
        self, messages: Sequence[Message], params: Mapping[str, Any], watch: Stopwatch, slot: Slot, timeouts: Timeouts
    ) -> AsyncGenerator[Chunk, None]:
        del watch, timeouts  # the stream above measures and limits; a function has nothing finer to add
        finished = False
        answers = self._in_loop(messages, params) if self._is_async else self._in_thread(messages, params, slot)
        try:
            while True:
                try:
                    chunk = self._chunk(await anext(answers))
                except StopAsyncIteration:
                    break
                except TierError:
                    raise
                except asyncio.CancelledError as error:
                    task = asyncio.current_task()
                    if task is None or task.cancelling():
                        raise
                    raise self._failed(error) from error
                except (Exception, SystemExit, KeyboardInterrupt) as error:
                    raise self._failed(error) from error
                finished = finished or chunk.finish_reason is not None
                yield chunk
        finally:
            await answers.aclose()
        if not finished:
            yield Chunk(finish_reason="stop")

    async def _in_loop(self, messages: Sequence[Message], params: Mapping[str, Any]) -> AsyncGenerator[Any, None]:
        result = self._fn(messages, **params)
        if inspect.isawaitable(result):
            result = await result
        if not isinstance(result, AsyncIterator):
            yield _Whole(result)
            return
        async with aclosing(_each(result)) as items:
            async for item in items:
                yield item

    async def _in_thread(
        self, messages: Sequence[Message], params: Mapping[str, Any], slot: Slot
    ) -> AsyncGenerator[Any, None]:
        worker = Worker(f"nearhit-{self.name}", slot)
        close = None
        try:
            result = await worker.call(lambda: self._fn(messages, **params))
            if inspect.isawaitable(result):
                result = await result
            if isinstance(result, AsyncIterator):
                async with aclosing(_each(result)) as items:
                    async for item in items:
                        yield item
            elif isinstance(result, Iterator):
                close = getattr(result, "close", None)
                while (item := await worker.call(lambda: next(result, _END))) is not _END:
                    yield item
            else:
                yield _Whole(result)
        finally:
            worker.stop(close)

    def _chunk(self, item: Any) -> Chunk:
        """Returns what the function gave as a piece of the answer."""
        whole = isinstance(item, _Whole)
        value = item.value if whole else item
        if isinstance(value, str):
            return Chunk(value, finish_reason="stop" if whole else None)
        if isinstance(value, Chunk):
            return value
        if whole and isinstance(value, Completion):
            if value.finish_reason is None:
                raise TierProtocolError(
                    f"the function of tier {self.name!r} gave a Completion without a finish reason: it did not end",
                    tier=self.name,
                )
            return Chunk(
                value.text,
                finish_reason=value.finish_reason,
                usage=value.usage if value.usage != Usage() else None,
                tool_calls=value.tool_calls,
                raw=value.raw,
                reasoning=value.reasoning,
                logprobs=value.logprobs,
            )
        expected = "a text or a Completion" if whole else "texts or Chunks"
        raise TierProtocolError(
            f"the function of tier {self.name!r} must give {expected}, not {type(value).__name__}", tier=self.name
        )

    def _failed(self, error: BaseException) -> TierError:
        words = ""
        with suppress(Exception):  # an exception whose text cannot be had is still reported
            words = str(error)
        return TierError(
            f"the function of tier {self.name!r} raised {type(error).__name__}{': ' if words else ''}{words}",
            tier=self.name,
        )


async def _each(iterator: AsyncIterator[Any]) -> AsyncGenerator[Any, None]:
    """Yields what the iterator yields, and closes it if it can be closed."""
    try:
        async for item in iterator:
            yield item
    finally:
        close = getattr(iterator, "aclose", None)
        if close is not None:
            await close()


class _Whole:
    """A whole answer, apart from the pieces that a generator yields."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value
