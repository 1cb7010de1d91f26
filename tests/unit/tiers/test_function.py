"""FunctionTier: every kind of function gives the same answers, errors and times."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import threading
import time

import pytest

import nearhit
from nearhit import FunctionTier
from nearhit._types import Chunk, Completion, Timings, Usage
from nearhit.tiers import Timeouts

WORDS = ["one ", "two ", "three"]


def text(messages, **params):
    return "".join(WORDS)


async def coroutine(messages, **params):
    await asyncio.sleep(0)
    return "".join(WORDS)


def generator(messages, **params):
    yield from WORDS


async def async_generator(messages, **params):
    for word in WORDS:
        await asyncio.sleep(0)
        yield word


class Callable:
    def __call__(self, messages):
        return "".join(WORDS)


class AsyncCallable:
    async def __call__(self, messages):
        return "".join(WORDS)


@functools.wraps(coroutine)
def blocking_wrapper(messages, **params):
    return asyncio.run(coroutine(messages, **params))


@functools.wraps(coroutine)
def passing_wrapper(messages, **params):
    return coroutine(messages, **params)


KINDS = [
    text,
    coroutine,
    generator,
    async_generator,
    Callable(),
    AsyncCallable(),
    functools.partial(coroutine, extra=1),
    functools.partial(generator, extra=1),
    blocking_wrapper,
    passing_wrapper,
    lambda _: coroutine(None),
    lambda _: async_generator(None),
    lambda _: iter(WORDS),
]


@pytest.mark.parametrize("fn", KINDS)
def test_every_kind_of_function_gives_the_same_answer(fn):
    tier = FunctionTier("f", fn)
    answer = tier.complete("hi")
    assert (answer.text, answer.finish_reason, answer.usage) == ("one two three", "stop", Usage())
    chunks = list(tier.stream("hi"))
    assert "".join(chunk.text for chunk in chunks) == "one two three"
    assert chunks[-1].finish_reason == "stop"
    assert asyncio.run(tier.acomplete("hi")).text == "one two three"


def test_messages_and_parameters_arrive_as_given():
    seen = []

    def fn(messages, *, temperature, **rest):
        seen.append((messages, temperature, rest))
        return "x"

    messages = [{"role": "user", "content": "hi", "name": "ann"}]
    FunctionTier("f", fn).complete(messages, temperature=0.5, other=1)
    assert seen == [(messages, 0.5, {"other": 1})]


def test_a_completion_keeps_what_it_carries():
    given = Completion("x", "length", Usage(3, 4), Timings(0, 0, 0), "other", "other", raw={"id": 1}, logprobs=(-0.5,))
    answer = FunctionTier("f", lambda _: given).complete("hi")
    assert (answer.text, answer.finish_reason, answer.usage, answer.tier) == ("x", "length", Usage(3, 4), "f")
    assert answer.logprobs == (-0.5,)
    assert answer.timings.output_tokens == 4


def test_chunks_keep_what_they_carry():
    def fn(_):
        yield Chunk("a")
        yield Chunk("b", finish_reason="length", usage=Usage(1, 2))

    answer = FunctionTier("f", fn).complete("hi")
    assert (answer.text, answer.finish_reason, answer.usage) == ("ab", "length", Usage(1, 2))


def test_an_unfinished_completion_is_an_error():
    unfinished = Completion("x", None, Usage(), Timings(0, 0, 0), "t", "m")
    with pytest.raises(nearhit.TierProtocolError, match="did not end"):
        FunctionTier("f", lambda _: unfinished).complete("hi")


async def async_failure(_):
    raise KeyError("missing")


def late_failure(_):
    yield "a"
    raise KeyError("missing")


@pytest.mark.parametrize("fn", [lambda _: {}["missing"], async_failure, late_failure])
def test_an_exception_is_named_and_chained(fn):
    with pytest.raises(nearhit.TierError, match="function of tier 'mine' raised KeyError: 'missing'") as caught:
        FunctionTier("mine", fn).complete("hi")
    assert isinstance(caught.value.__cause__, KeyError)
    assert caught.value.tier == "mine"


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), StopIteration(), TimeoutError("own")])
def test_odd_exceptions_are_tier_errors_too(error):
    def fn(_):
        raise error

    with pytest.raises(nearhit.TierError) as caught:
        FunctionTier("f", fn, timeouts=Timeouts(first_token=30)).complete("hi")
    assert not isinstance(caught.value, nearhit.TierTimeoutError)


def test_a_tier_error_passes_unchanged():
    error = nearhit.TierRateLimitError("slow", tier="inner", status=429, retry_after=3)

    def fn(_):
        raise error

    with pytest.raises(nearhit.TierRateLimitError) as caught:
        FunctionTier("f", fn).complete("hi")
    assert caught.value is error


@pytest.mark.parametrize("value", [None, 3, b"bytes", {"text": "x"}, ["a"]])
def test_a_wrong_return_is_named(value):
    with pytest.raises(
        nearhit.TierProtocolError, match=f"must give a text or a Completion, not {type(value).__name__}"
    ):
        FunctionTier("f", lambda _: value).complete("hi")


def test_a_wrong_piece_is_named():
    def fn(_):
        yield "a"
        yield 3

    with pytest.raises(nearhit.TierProtocolError, match="must give texts or Chunks, not int"):
        FunctionTier("f", fn).complete("hi")


def test_a_parameter_the_function_does_not_know():
    with pytest.raises(nearhit.TierError, match="TypeError"):
        FunctionTier("f", lambda messages: "x").complete("hi", temperature=1)


def test_not_a_function():
    with pytest.raises(nearhit.OptionError, match="callable, not int"):
        FunctionTier("f", 3)


def test_blocking_functions_run_beside_each_other_and_off_the_loop():
    barrier = threading.Barrier(4, timeout=10)

    def fn(_):
        barrier.wait()
        return threading.current_thread().name

    async def main():
        return await asyncio.gather(*(tier.acomplete("hi") for _ in range(4)))

    tier = FunctionTier("f", fn)
    assert {answer.text for answer in asyncio.run(main())} == {"nearhit-f"}


def test_a_generator_stays_in_one_thread_and_in_the_callers_context():
    who = contextvars.ContextVar("who", default="nobody")
    who.set("ann")

    def fn(_):
        for _ in range(5):
            yield f"{threading.get_ident()} {who.get()}|"

    parts = set(FunctionTier("f", fn).complete("hi").text.split("|")[:-1])
    assert len(parts) == 1
    assert parts.pop().endswith(" ann")


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_closing_a_stream_closes_the_generator(kind):
    closed = threading.Event()

    def sync(_):
        try:
            while True:
                yield "x"
                time.sleep(0.001)
        finally:
            closed.set()

    async def asynchronous(_):
        try:
            while True:
                yield "x"
                await asyncio.sleep(0.001)
        finally:
            closed.set()

    with FunctionTier("f", sync if kind == "sync" else asynchronous).stream("hi") as stream:
        assert next(stream).text == "x"
    assert closed.wait(10)


def test_a_function_that_hangs_is_left_in_time():
    release = threading.Event()
    tier = FunctionTier("f", lambda _: release.wait(60) and "x", timeouts=Timeouts(first_token=0.05))
    with pytest.raises(nearhit.TierTimeoutError) as caught:
        tier.complete("hi")
    assert caught.value.phase == "first_token"
    release.set()


def test_a_thread_left_behind_keeps_its_slot():
    release = threading.Event()
    tier = FunctionTier("f", lambda _: release.wait(60) and "x", max_concurrency=1, max_queue=0)
    with pytest.raises(nearhit.TierTimeoutError):
        tier.complete("hi", timeouts=Timeouts(total=0.05))
    with pytest.raises(nearhit.TierBusyError):
        tier.complete("hi")
    release.set()
    deadline = time.monotonic() + 10
    while tier.limiter.active:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    assert tier.complete("hi").text == "x"


def test_a_stray_cancellation_inside_the_function_is_an_error_not_a_cancellation():
    async def fn(_):
        raise asyncio.CancelledError

    with pytest.raises(nearhit.TierError, match="CancelledError"):
        FunctionTier("f", fn).complete("hi")


def test_times_of_a_stream():
    def fn(_):
        time.sleep(0.03)
        yield "a"
        time.sleep(0.02)
        yield Chunk("b", usage=Usage(1, 2))

    times = FunctionTier("f", fn).complete("hi").timings
    assert times.ttft is not None
    assert times.ttft >= 0.03
    assert len(times.itl) == 1
    assert times.itl[0] >= 0.02
    assert times.e2e >= times.ttft + times.itl[0]
    assert times.tpot == pytest.approx(times.e2e - times.ttft)


def test_a_call_from_inside_an_async_function_is_refused_not_hung():
    inner = FunctionTier("inner", text)

    async def fn(_):
        return inner.complete("hi").text

    with pytest.raises(nearhit.TierError, match="ReentrancyError"):
        FunctionTier("outer", fn).complete("hi")
