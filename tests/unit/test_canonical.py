"""The canonical request through the binding: what Python objects become, and what is refused."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearhit._core import canonical
from nearhit._errors import EmptyPromptError, RequestError

TEXT = st.text(st.characters(codec="utf-8"))  # no lone surrogates
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4))


def test_prompt_and_lone_user_message_are_one():
    plain = canonical("Why?")
    assert canonical([{"role": "user", "content": "Why?"}]).fingerprint == plain.fingerprint
    assert (
        canonical({"messages": ({"role": "user", "content": "Why?"},), "stream": True}).fingerprint == plain.fingerprint
    )
    assert plain.text == "Why?"
    assert canonical("Why?", scope="a").fingerprint != canonical("Why?", scope="b").fingerprint


def test_same_in_another_process():
    body = {"model": "m", "seed": 2**70, "temperature": 0.5, "messages": [{"role": "user", "content": "Z\u00fcrich?"}]}
    code = "import json,sys; from nearhit._core import canonical; print(canonical(json.loads(sys.argv[1])).fingerprint)"
    turned = json.dumps(dict(reversed(body.items())))
    out = subprocess.run([sys.executable, "-c", code, turned], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == canonical(body).fingerprint


@given(st.dictionaries(TEXT, JSON, max_size=6))
def test_json_round_trip_and_key_order_do_not_count(fields):
    body = {"messages": [{"role": "user", "content": "Why?"}], **{f"x_{key}": item for key, item in fields.items()}}
    expected = canonical(body)
    turned = json.loads(json.dumps(dict(reversed(body.items()))))
    assert canonical(turned).fingerprint == expected.fingerprint


@given(JSON)
def test_any_json_is_read_or_refused_by_a_typed_error(value):
    with contextlib.suppress(RequestError, EmptyPromptError):
        canonical(value)


def test_mappings_and_tuples_are_read():
    message = MappingProxyType({"role": "user", "content": "Why?"})
    assert canonical((message,)).text == "Why?"


@pytest.mark.parametrize(
    ("request_", "hint"),
    [
        (b"Why?", "decode"),
        ("\ud800", "surrogate"),
        ([{"role": "user", "content": "a\udfff"}], "surrogate"),
        ([{"role": "user", "content": b"x"}], "decode"),
        ([{"role": "user", 3: "x"}], "key 3"),
        ([{"role": "user", "content": "x"}, {"role": "user"}], "message 1"),
        ({"messages": [{"role": "user", "content": "x"}], "temperature": float("nan")}, "NaN"),
        ([], "no messages"),
        (None, "null"),
        (object(), "object is not JSON"),
    ],
)
def test_what_cannot_be_read_is_refused_with_a_way_out(request_, hint):
    with pytest.raises(RequestError, match=hint):
        canonical(request_)


def test_self_containing_and_deep_objects_are_refused():
    loop: list = []
    loop.append(loop)
    with pytest.raises(RequestError, match="nested deeper"):
        canonical({"messages": [{"role": "user", "content": "x"}], "x": loop})


def test_empty_and_huge_prompts():
    with pytest.raises(EmptyPromptError):
        canonical(" \n\t")
    huge = "a" * 100_000 + "\0"
    assert canonical(huge).text == huge
