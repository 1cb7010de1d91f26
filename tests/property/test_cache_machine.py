"""The Python API against a dictionary: hypothesis plays random sequences of calls, with and without a file."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.support.hashing_embedder import HashingEmbedder

from nearhit import Cache

EMBEDDER = HashingEmbedder(dim=16)
PROMPTS = st.sampled_from(["one", "two", "three", "four", "\0", "é", "e\u0301", "😀" * 30, "  spaced  ", "x" * 600])
SCOPES = st.sampled_from([None, "a", "b", {"tenant": "a"}, ["a"], 0])
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
TAGS = st.lists(st.sampled_from(["x", "y", "z"]), max_size=2)


def key(prompt: str, scope: Any) -> tuple[str, str]:
    """Canonical prompts lose white space at the ends and composed characters have one form."""
    return prompt.strip().replace("e\u0301", "é"), repr(scope)


class CacheMachine(RuleBasedStateMachine):
    """No bounds and no expiry, so that the cache must hold exactly what the dictionary holds."""

    def __init__(self) -> None:
        super().__init__()
        self.folder: Path | None = None
        self.model: dict[tuple[str, str], tuple[Any, tuple[str, ...]]] = {}

    @initialize(durability=st.sampled_from([None, "async", "sync"]))
    def open(self, durability: str | None) -> None:
        self.durability = durability
        if durability is not None:
            self.folder = Path(tempfile.mkdtemp())
        self.cache = self.new()

    def new(self) -> Cache:
        if self.folder is None:
            return Cache(EMBEDDER, threshold=0.99, max_bytes=None)
        path, durability = self.folder / "cache.db", self.durability
        return Cache(EMBEDDER, threshold=0.99, max_bytes=None, path=path, durability=durability)  # type: ignore[arg-type]

    @rule(prompt=PROMPTS, value=VALUES | st.binary(), scope=SCOPES, tags=TAGS)
    def store(self, prompt: str, value: Any, scope: Any, tags: list[str]) -> None:
        self.cache.store(prompt, value, scope=scope, tags=tags)
        self.model[key(prompt, scope)] = (value, tuple(tags))

    @rule(prompt=PROMPTS, scope=SCOPES)
    def lookup(self, prompt: str, scope: Any) -> None:
        hit = self.cache.lookup(prompt, scope=scope)
        known = self.model.get(key(prompt, scope))
        if known is not None:
            assert hit is not None
            assert hit.kind == "exact"
            assert hit.response == known[0]
            assert hit.scope == scope
        else:
            assert hit is None or (hit.kind == "near" and hit.scope == scope)

    @rule(prompt=PROMPTS, scope=SCOPES)
    def invalidate_prompt(self, prompt: str, scope: Any) -> None:
        expected = self.model.pop(key(prompt, scope), None)
        assert self.cache.invalidate(prompt=prompt, scope=scope) == (expected is not None)

    @rule(tag=st.sampled_from(["x", "y", "z"]))
    def invalidate_tag(self, tag: str) -> None:
        gone = [key for key, (_, tags) in self.model.items() if tag in tags]
        assert self.cache.invalidate(tag=tag) == len(gone)
        for one in gone:
            del self.model[one]

    @rule(scope=SCOPES.filter(lambda scope: scope is not None))
    def invalidate_scope(self, scope: Any) -> None:
        gone = [key for key in self.model if key[1] == repr(scope)]
        assert self.cache.invalidate(scope=scope) == len(gone)
        for one in gone:
            del self.model[one]

    @rule(prompt=PROMPTS, scope=SCOPES)
    def call_a_hit_wrong(self, prompt: str, scope: Any) -> None:
        hit = self.cache.lookup(prompt, scope=scope)
        if hit is not None:
            self.cache.feedback(hit, correct=False)
            if hit.kind == "exact":
                del self.model[key(prompt, scope)]

    @rule()
    def clear(self) -> None:
        self.cache.clear()
        self.model.clear()

    @rule()
    def export_and_import(self) -> None:
        folder = Path(tempfile.mkdtemp())
        try:
            assert self.cache.export(folder / "out.jsonl") == len(self.model)
            self.cache.clear()
            assert self.cache.import_(folder / "out.jsonl") == len(self.model)
        finally:
            shutil.rmtree(folder)

    @precondition(lambda self: self.folder is not None)
    @rule()
    def reopen(self) -> None:
        self.cache.close()
        self.cache = self.new()

    @precondition(lambda self: self.folder is not None)
    @rule()
    def look(self) -> None:
        assert self.folder is not None
        self.cache.flush()
        with Cache(EMBEDDER, max_bytes=None, path=self.folder / "cache.db", read_only=True) as reader:
            reader._core.validate()
            held = {(entry["prompt"], repr(entry["scope"])): entry["response"] for entry in reader._core.entries()}
            assert held == {key: value for key, (value, _) in self.model.items()}

    @invariant()
    def agrees(self) -> None:
        if hasattr(self, "cache"):
            assert len(self.cache) == len(self.model)
            self.cache._core.validate()

    def teardown(self) -> None:
        if hasattr(self, "cache"):
            self.cache.close()
        if self.folder is not None:
            shutil.rmtree(self.folder)


TestCacheMachine = CacheMachine.TestCase
TestCacheMachine.settings = settings(
    max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
