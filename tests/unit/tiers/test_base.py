"""What all tiers share: options checked, prices, both faces, and nothing heavy loaded before it is needed."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

import nearhit
from nearhit import FunctionTier
from nearhit._types import Usage
from nearhit.tiers import Price, Timeouts


def make(**options):
    return FunctionTier("echo", lambda messages: messages[-1]["content"], **options)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("quality", 1.5),
        ("quality", -0.1),
        ("quality", float("nan")),
        ("quality", "good"),
        ("max_context", 0),
        ("max_context", 1.5),
        ("max_context", True),
        ("price", 0.1),
        ("timeouts", 30),
        ("max_concurrency", 0),
        ("max_queue", -1),
    ],
)
def test_options_out_of_range_are_named(option, value):
    with pytest.raises(nearhit.OptionError, match=option):
        make(**{option: value})


@pytest.mark.parametrize("name", ["", " ", None, 3])
def test_a_tier_needs_a_name(name):
    with pytest.raises(nearhit.OptionError, match="name"):
        FunctionTier(name, lambda _: "x")


@pytest.mark.parametrize("limits", [{"total": 0}, {"stall": -1}, {"connect": float("inf")}, {"first_token": "1"}])
def test_limits_out_of_range_are_named(limits):
    with pytest.raises(nearhit.OptionError, match=next(iter(limits))):
        Timeouts(**limits)


@pytest.mark.parametrize("value", [-1, float("inf"), float("nan"), "1", True])
@pytest.mark.parametrize("which", ["prompt", "completion", "cached_prompt"])
def test_prices_out_of_range_are_named(which, value):
    with pytest.raises(nearhit.OptionError, match=which):
        Price(**{"prompt": 0, "completion": 0, which: value})


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6))
def test_cost_is_the_sum_of_its_tokens(prompt, completion, cached):
    usage = Usage(prompt, completion, cached_prompt_tokens=min(cached, prompt))
    plain, discounted = Price(2e-6, 8e-6), Price(2e-6, 8e-6, cached_prompt=1e-6)
    assert plain.of(usage) == pytest.approx(prompt * 2e-6 + completion * 8e-6)
    assert discounted.of(usage) == pytest.approx(plain.of(usage) - usage.cached_prompt_tokens * 1e-6)
    assert make(price=plain).cost(usage) == (None if usage.total_tokens == 0 else plain.of(usage))
    assert make().cost(usage) is None


def test_both_faces_say_the_same():
    tier = make()
    messages = [{"role": "user", "content": "hi"}]

    async def both():
        async with tier.astream(messages) as stream:
            pieces = [chunk async for chunk in stream]
        return pieces, await tier.acomplete("hi")

    pieces, whole = asyncio.run(both())
    assert pieces == list(tier.stream(messages))
    assert whole.text == tier.complete("hi").text == "hi"


def test_nothing_starts_before_the_first_piece_and_half_is_no_answer():
    called = []

    def fn(_):
        called.append(1)
        yield "a"
        yield "b"

    tier = FunctionTier("f", fn)
    stream = tier.stream("hi")
    assert called == []
    with pytest.raises(nearhit.TierError, match="not complete"):
        stream.completion()
    assert next(stream).text == "a"
    stream.close()
    with pytest.raises(nearhit.TierError, match="not complete"):
        stream.completion()
    frozen = stream.timings
    assert frozen.ttft is not None
    assert stream.timings == frozen


def test_closed_tiers_and_blocks():
    with make() as tier:
        assert not tier.closed
    assert tier.closed
    stream = tier.stream("hi")
    with pytest.raises(nearhit.TierClosedError, match="'echo' was closed"):
        next(stream)

    async def block():
        async with make() as other:
            await other.acomplete("hi")
        return other.closed

    assert asyncio.run(block())


def test_check_and_count():
    tier = make(capabilities={"json"})
    tier.check("hi", response_format={"type": "json_object"})
    with pytest.raises(nearhit.TierUnsupportedError, match="images, tools"):
        tier.check([{"role": "user", "content": [{"type": "image_url"}]}], tools=[{}])
    with pytest.raises(nearhit.EmptyPromptError):
        tier.check("")
    assert tier.count_tokens("hi") is None
    with pytest.raises(nearhit.OptionError, match="timeouts"):
        tier.astream("hi", timeouts=3)


def test_nothing_heavy_is_loaded_before_it_is_needed():
    script = """
import sys
import nearhit.tiers
tier = nearhit.FunctionTier("f", lambda _: "x")
assert tier.complete("hi").text == "x"
loaded = {"httpx2", "ctranslate2", "tokenizers", "numpy", "jinja2", "gguf"} & set(sys.modules)
print(sorted(loaded))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
