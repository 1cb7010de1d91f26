"""Messages: read, or refused with the position of what is wrong."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearhit import EmptyPromptError, InputError, RequestError
from nearhit.tiers.messages import needs, read_messages

scalars = st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.binary(max_size=3)
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner)
)
parts = st.lists(st.dictionaries(st.sampled_from(["type", "text", "image_url"]), anything) | anything, max_size=3)
messages = st.lists(st.dictionaries(st.sampled_from(["role", "content", "tool_calls"]), parts | anything), max_size=3)


@given(messages | anything)
def test_anything_is_read_or_refused(prompt):
    try:
        read = read_messages(prompt)
    except InputError:
        return
    assert read
    assert all(isinstance(message["role"], str) for message in read)
    assert needs(read, {}) <= {"tools", "images", "audio", "files", "json"}


def test_prompts_and_messages():
    assert read_messages(" hi ") == [{"role": "user", "content": " hi "}]
    given_messages = ({"role": role, "content": None} for role in ("user", "assistant"))
    assert [message["role"] for message in read_messages(given_messages)] == ["user", "assistant"]


@pytest.mark.parametrize(
    ("prompt", "error", "words"),
    [
        ("", EmptyPromptError, "empty"),
        (" \n\t", EmptyPromptError, "empty"),
        ([], EmptyPromptError, "empty"),
        (3, RequestError, "not int"),
        ([{"role": "user"}, "x"], RequestError, "message 1 must be a mapping"),
        ([{"role": "user"}, {"content": "x"}], RequestError, "message 1 has no role"),
        ([{"role": "user", "content": 1.5}], RequestError, "content of message 0 .* not float"),
        ([{"role": "user", "content": [{"type": "text"}, {}]}], RequestError, "part 1 of message 0"),
    ],
)
def test_what_is_wrong_is_named(prompt, error, words):
    with pytest.raises(error, match=words):
        read_messages(prompt)


@pytest.mark.parametrize(
    ("message", "params", "found"),
    [
        ({}, {}, set()),
        ({}, {"tools": [], "response_format": {"type": "text"}}, set()),
        ({}, {"functions": [{"name": "f"}]}, {"tools"}),
        ({"tool_calls": [{}]}, {}, {"tools"}),
        ({"role": "tool"}, {}, {"tools"}),
        ({}, {"response_format": {"type": "json_schema"}}, {"json"}),
        ({"content": [{"type": "image_url"}, {"type": "text"}]}, {}, {"images"}),
        ({"content": [{"type": "input_audio"}, {"type": "file"}]}, {}, {"audio", "files"}),
    ],
)
def test_what_a_request_needs(message, params, found):
    assert needs([{"role": "user", "content": "x", **message}], params) == found
