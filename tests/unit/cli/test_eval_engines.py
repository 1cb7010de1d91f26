"""The evaluations see no difference between the engines beyond what a few flipped bytes bring."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from nearhit.cli import main

if TYPE_CHECKING:
    from pathlib import Path


def evaluated(capsys: pytest.CaptureFixture[str], what: str, file: Path, model: Path, *options: str) -> dict[str, Any]:
    """Results by engine."""
    found = {}
    for engine in ("ctranslate2", "native"):
        command = ["eval", what, str(file), "--embedder", str(model), "--engine", engine, "--policy", "all", "--json"]
        assert main([*command, *options]) == 0
        found[engine] = json.loads(capsys.readouterr().out)
    assert "native" in found["native"]["embedder"]
    assert "native" not in found["ctranslate2"]["embedder"]
    return found


@pytest.mark.parametrize("name", ["pairs_qqp", "pairs_paws"])
def test_pairs_are_told_apart_as_well_with_either_engine(
    minilm: Path, data: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    found = evaluated(capsys, "pairs", data / f"{name}.jsonl.gz", minilm, "--limit", "300")
    for policy, figures in found["native"]["policies"].items():
        expected = found["ctranslate2"]["policies"][policy]
        # On thousands of pairs they differ by at most .003, to either side.
        for figure in ("pr_auc", "auc"):
            assert figures[figure] >= expected[figure] - 0.015, (policy, figure)
        assert abs(figures["default"]["false_hits"] - expected["default"]["false_hits"]) <= 0.03, policy


def test_a_stream_has_as_many_hits_and_as_few_errors_with_either_engine(
    minilm: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--limit", "500", "--threshold", "0.9", "--confidence", "0.8", "--delta", "0.02")
    found = evaluated(capsys, "stream", data / "stream_qqp.jsonl.gz", minilm, *options)
    runs = zip(found["native"]["runs"], found["ctranslate2"]["runs"], strict=True)
    for run, expected in runs:
        assert run["hit_rate"] >= expected["hit_rate"] - 0.01, run["policy"]
        assert run["error"] <= expected["error"] + 0.006, run["policy"]
