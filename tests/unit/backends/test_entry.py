"""An entry comes back from its two fields as it went, or not at all."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearhit.backends._entry import Entry, decode, vector_of

IDS = st.binary(min_size=16, max_size=16).map(bytes.hex)
TEXT = st.text(max_size=40)
MOMENTS = st.integers(0, 2**45).map(lambda millis: millis / 1000)
NUMBERS = st.integers(0, 2**40)
VECTORS = st.lists(st.floats(-1, 1, width=32), min_size=3, max_size=3).map(lambda v: np.array(v, np.float32))

ENTRIES = st.builds(
    Entry,
    id=IDS,
    scope=IDS,
    prompt=TEXT,
    caller=IDS,
    label=st.none() | st.just("") | st.just('"é"'),
    form=st.sampled_from(["text", "bytes", "json"]),
    response=st.binary(max_size=80),
    tags=st.lists(TEXT, max_size=3).map(tuple),
    cost=st.none() | st.floats(0, 1e9),
    model=st.none() | TEXT,
    tokens=st.none() | st.tuples(NUMBERS, NUMBERS),
    created=MOMENTS,
    expires=st.none() | MOMENTS,
    position=NUMBERS,
    epoch=TEXT,
    vector=st.none() | VECTORS,
)


def packed(entry: Entry) -> tuple[bytes, bytes | None]:
    fields = entry.fields()
    by_name = dict(zip(fields[::2], fields[1::2], strict=True))
    return by_name["e"], by_name.get("n")


@given(ENTRIES)
def test_what_is_packed_comes_back(entry: Entry) -> None:
    found = decode(packed(entry), 3)
    assert found is not None
    for name in Entry.__slots__:
        if name not in ("vector", "token", "created", "expires", "queued"):
            assert getattr(found, name) == getattr(entry, name)
    assert found.created == pytest.approx(entry.created, abs=6e-4)
    assert (found.expires is None) == (entry.expires is None)
    assert (found.vector is None) == (entry.vector is None)
    if entry.vector is not None:
        np.testing.assert_array_equal(found.vector, entry.vector)


@given(ENTRIES, st.data())
def test_a_field_that_was_cut_or_changed_is_no_entry(entry: Entry, data: st.DataObject) -> None:
    whole, near = packed(entry)
    assert near is not None
    at = data.draw(st.integers(0, len(whole) - 1))
    assert decode((whole[:at], near), 3) is None
    assert decode((whole[:at] + bytes([whole[at] ^ data.draw(st.integers(1, 255))]) + whole[at + 1 :], near), 3) is None
    at = data.draw(st.integers(0, len(near) - 1))
    assert decode((whole, near[:at]), 3) is None
    assert decode((whole, near[:at] + bytes([near[at] ^ data.draw(st.integers(1, 255))]) + near[at + 1 :]), 3) is None


@given(st.binary(max_size=200), st.none() | st.binary(max_size=60))
def test_foreign_fields_are_no_entry(whole: bytes, near: bytes | None) -> None:
    assert decode((whole, near), 3) is None
    assert vector_of(near, 3) is None or near is not None


@given(ENTRIES)
def test_without_its_vector_an_entry_answers_its_own_request(entry: Entry) -> None:
    whole, near = packed(entry)
    demoted = decode((whole, None), 3)
    assert demoted is not None
    assert (demoted.prompt, demoted.vector, demoted.response) == (None, None, entry.response)
    others = decode((whole, near), 4)  # a cache of vectors of another length
    assert others is not None
    assert others.vector is None
    assert vector_of(near, 4) is None
    assert (vector_of(near, 3) is None) == (entry.vector is None)
