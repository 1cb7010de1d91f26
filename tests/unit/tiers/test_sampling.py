"""Parameters of a local generator: each one understood, or refused by name."""

from __future__ import annotations

import pytest

import nearhit
from nearhit.tiers.sampling import Sampling, read_sampling


def read(**params):
    return read_sampling(params, tier="t")


def test_defaults_are_greedy():
    assert read() == Sampling()
    assert read().engine_options()["sampling_topk"] == 1
    assert read(temperature=0.0, top_p=0.1, top_k=5).engine_options()["sampling_topp"] == 1.0


def test_what_is_understood():
    found = read(
        temperature=0.7, top_p=0.9, top_k=40, max_tokens=5, stop="x", repetition_penalty=1.1, min_tokens=2, n=1
    )
    assert found == Sampling(5, ("x",), 0.7, 0.9, 40, 1.1, 0, 2)
    assert read(max_completion_tokens=3, max_tokens=5).max_tokens == 3
    assert read(stop=["a", "b"]).stops == ("a", "b")
    assert read(temperature=1, top_k=-1).engine_options()["sampling_topk"] == 0


def test_what_changes_nothing_is_let_through():
    neutral = {"stream": True, "user": "ann", "frequency_penalty": 0, "tools": [], "response_format": {"type": "text"}}
    assert read(**neutral, seed=3, temperature=0, logprobs=True, top_p=None, logit_bias={}) == Sampling()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -1),
        ("temperature", float("nan")),
        ("temperature", "hot"),
        ("top_p", 1.5),
        ("top_k", 2.5),
        ("max_tokens", 0),
        ("max_tokens", True),
        ("max_completion_tokens", -1),
        ("stop", ""),
        ("stop", [""]),
        ("stop", [1]),
        ("stop", 5),
        ("stop", ["x"] * 17),
        ("repetition_penalty", 0),
    ],
)
def test_values_out_of_range(name, value):
    with pytest.raises(nearhit.OptionError, match=name.removeprefix("max_completion_")):
        read(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [("n", 2), ("frequency_penalty", 0.5), ("logit_bias", {"5": 1}), ("top_logprobs", 3), ("something_new", 1)],
)
def test_what_the_engine_lacks_is_refused_by_name(name, value):
    with pytest.raises(nearhit.TierUnsupportedError, match=name) as caught:
        read(**{name: value})
    assert caught.value.needs == (name,)


def test_a_seed_needs_greedy_decoding():
    with pytest.raises(nearhit.TierUnsupportedError, match="temperature=0"):
        read(seed=1, temperature=0.5)
