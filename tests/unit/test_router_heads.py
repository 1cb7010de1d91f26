"""Heads fitted on the user's own outcomes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from nearhit import Cache, CorruptFileError, FunctionTier, OptionError, Router, StorageError
from nearhit.router import RoutingHead

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """The tier "poet" answers poems, "prover" answers proofs."""
    lines = []
    for number in range(200):
        poem = number % 2
        prompt = f"Write a poem about number {number}." if poem else f"Prove theorem {number} step by step."
        lines.append(json.dumps({"prompt": prompt, "outcomes": {"poet": poem, "prover": 1 - poem}}))
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def _router(head: Any, **options: Any) -> Router:
    tiers = [FunctionTier(name, lambda messages: "x") for name in ("prover", "poet")]
    return Router(tiers, head=head, cost_weight=0.0, **options)


def test_a_fitted_head_sends_each_prompt_to_the_tier_that_answers_it(rows: Path, tmp_path: Path) -> None:
    head = RoutingHead.fit(rows)
    head.save(tmp_path / "head.json")
    for router in (_router(head), _router(tmp_path / "head.json"), _router(str(tmp_path / "head.json"))):
        assert router.decide("Write a poem about the sea.").tier == "poet"
        assert router.decide("Prove this theorem step by step.").tier == "prover"


class Parity:
    """An embedder that knows what the text's features cannot tell: whether the number in it is odd."""

    dim = 2
    id = "parity@1"

    def embed(self, texts: list[str]) -> Any:
        odd = [int("".join(filter(str.isdigit, text)) or 0) % 2 for text in texts]
        return np.array([[1.0, 0.0] if each else [0.0, 1.0] for each in odd], np.float32)


def test_the_embedding_is_used_where_the_cache_has_made_it(tmp_path: Path) -> None:
    lines = [
        json.dumps({"prompt": f"Describe item {number}.", "outcomes": {"poet": number % 2, "prover": 1 - number % 2}})
        for number in range(100, 400)
    ]
    (tmp_path / "rows").write_text("\n".join(lines), encoding="utf-8")
    head = RoutingHead.fit(tmp_path / "rows", embedder=Parity())
    assert head.embedder == "parity@1"
    router = _router(head, cache=Cache(Parity()))
    chosen = [router.complete(f"Describe item {number}.").tier for number in range(501, 511)]
    assert chosen == ["poet", "prover"] * 5
    plain = {_router(head).decide(f"Describe item {number}.").tier for number in range(501, 511)}
    assert len(plain) == 1


def test_heads_that_do_not_fit_are_refused(rows: Path, tmp_path: Path) -> None:
    head = RoutingHead.fit(rows, tiers=["poet"])
    with pytest.raises(OptionError, match="prover"):
        _router(head)
    with pytest.raises(OptionError, match="nobody"):
        RoutingHead.fit(rows, tiers=["nobody"])
    with pytest.raises(OptionError):
        _router(3)
    with pytest.raises(StorageError):
        _router(tmp_path / "absent")
    with pytest.raises(StorageError):
        head.save(tmp_path / "no" / "such" / "folder")
    for text in ("{", "[]", "{}", '{"format": "other"}'):
        (tmp_path / "bad.json").write_text(text, encoding="utf-8")
        with pytest.raises(CorruptFileError):
            RoutingHead.load(tmp_path / "bad.json")
