"""The wire format: whatever a server sends is a piece of an answer or a typed error, and nothing else."""

from __future__ import annotations

import json
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearhit import RequestError
from nearhit._types import Chunk, Usage
from nearhit.tiers import wire
from nearhit.tiers.collect import Collector

scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5)
)
anything = st.recursive(scalars, lambda deep: st.lists(deep, max_size=3) | st.dictionaries(st.text(max_size=5), deep))


def shaped(names: list[str], inner: st.SearchStrategy) -> st.SearchStrategy:
    return st.dictionaries(st.sampled_from(names), inner, max_size=len(names)) | anything


calls = st.lists(shaped(["index", "id", "type", "function"], anything), max_size=2) | anything
deltas = shaped(["role", "content", "tool_calls", "reasoning_content", "refusal"], calls)
choices = shaped(["index", "delta", "message", "finish_reason", "logprobs"], deltas)
events = shaped(["id", "object", "choices", "usage", "error"], st.lists(choices, max_size=2) | anything)


@given(events, st.sampled_from(["delta", "message"]))
def test_any_json_is_a_piece_or_a_typed_error(event, key):
    try:
        chunk = wire.read_piece(wire.decode_object(json.dumps(event)), key=key)
    except (wire.WireError, wire.ServerError):
        return
    assert isinstance(chunk, Chunk)
    assert isinstance(chunk.text, str)
    collector = Collector()
    collector.add(chunk)
    collector.add(chunk)
    json.dumps(collector.body())


@given(st.binary(max_size=50) | st.text(max_size=50))
def test_any_bytes_are_an_object_or_a_typed_error(data):
    try:
        found = wire.decode_object(data)
    except wire.WireError:
        return
    assert isinstance(found, dict)


@pytest.mark.parametrize("data", ["[" * 100_000, '{"a":' * 100_000, "x" * 1_000_000])
def test_hostile_json(data):
    with pytest.raises(wire.WireError) as caught:
        wire.decode_object(data)
    assert len(str(caught.value)) < 300


@given(st.binary(max_size=200))
def test_an_error_body_always_has_words(body):
    assert isinstance(wire.error_words(body), str)
    assert isinstance(wire.means_too_long(body), bool)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ("died", 500),
        ({"message": "x"}, 500),
        ({"message": "x", "code": 503}, 503),
        ({"message": "x", "code": "429"}, 429),
        ({"message": "x", "status": 404}, 404),
        ({"message": "x", "code": True}, 500),
        ({"message": "x", "code": 12}, 500),
        ({"message": "x", "type": "invalid_request_error"}, 400),
        ({"message": "x", "code": "rate_limit_exceeded"}, 429),
        ({"message": "x", "type": "insufficient_quota"}, 429),
        ({"code": None, "type": None, "message": None}, 500),
        (["odd"], 500),
    ],
)
def test_reported_errors_have_a_status(error, status):
    assert wire.reported_error(error).status == status


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "5"}, 5.0),
        ({"retry-after": "5", "retry-after-ms": "1500"}, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "7"}, 7.0),
        ({"retry-after": formatdate(2000, usegmt=True), "date": formatdate(1990, usegmt=True)}, 10.0),
        ({"retry-after": formatdate(2000, usegmt=True), "date": formatdate(2090, usegmt=True)}, 0.0),
        ({"retry-after": formatdate(2000, usegmt=True)}, 30.0),
        ({"retry-after": formatdate(2000, usegmt=True), "date": "garbage"}, 30.0),
        ({"retry-after": ""}, None),
        ({"retry-after": "1e400"}, None),
        ({"retry-after": "Tue, 99 Foo 2026"}, None),
    ],
)
def test_how_long_to_wait(headers, seconds):
    assert wire.read_retry_after(headers, now=1970) == seconds


def test_usage_is_counted_by_the_server_or_not_at_all():
    assert wire.read_usage(None) is None
    assert wire.read_usage({}) == Usage()
    details = {"prompt_tokens_details": {"cached_tokens": 4}, "completion_tokens_details": {"reasoning_tokens": 2}}
    assert wire.read_usage({"prompt_tokens": 9, "completion_tokens": 3, **details}) == Usage(9, 3, 4, 2)


@pytest.mark.parametrize("value", [3, {"prompt_tokens": -1}, {"completion_tokens": 1.5}, {"prompt_tokens": True}])
def test_counts_that_are_none(value):
    with pytest.raises(wire.WireError):
        wire.read_usage(value)


@given(st.dictionaries(st.text(max_size=5), anything, max_size=4))
def test_bodies_survive_the_way_out(body):
    if any(0xD800 <= ord(c) < 0xE000 for c in json.dumps(body, ensure_ascii=False)):
        with pytest.raises(RequestError, match="surrogate"):
            wire.encode_body(body)
    else:
        assert json.loads(wire.encode_body(body)) == json.loads(json.dumps(body))
