"""The yardsticks of `nearhit bench embed`, and the command end to end with few rounds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from nearhit.bench import embed
from nearhit.cli import main

if TYPE_CHECKING:
    from pathlib import Path


def test_auc_counts_pairs_in_the_right_order() -> None:
    labels = np.array([False, False, True, True])
    assert embed.auc(np.array([0.1, 0.2, 0.3, 0.4], np.float32), labels) == 1
    assert embed.auc(np.array([0.4, 0.3, 0.2, 0.1], np.float32), labels) == 0
    assert embed.auc(np.array([0.5, 0.5, 0.5, 0.5], np.float32), labels) == 0.5
    assert embed.auc(np.array([0.1, 0.3, 0.2, 0.4], np.float32), labels) == 0.75


def test_spearman_sees_ranks_only() -> None:
    a = np.array([1, 2, 3, 4], np.float32)
    assert embed.spearman(a, a**3) == pytest.approx(1)
    assert embed.spearman(a, -a) == pytest.approx(-1)


def test_agreement_is_the_cosine() -> None:
    unit = np.eye(2, dtype=np.float32)
    assert embed.agreement(unit, unit) == {"mean": 1, "min": 1}
    assert embed.agreement(unit, unit[::-1]) == {"mean": 0, "min": 0}


def test_concurrent_callers_all_run() -> None:
    calls: list[int] = []

    def engine(texts: list[str]) -> np.ndarray:
        calls.append(len(texts))
        return np.zeros((1, 1), np.float32)

    found = embed.concurrency(engine, 0.05)
    assert set(calls) == {1}
    assert found["gain"] > 0
    assert found["mean_ms"] > 0
    assert found["p99_over_mean"] == pytest.approx(found["p99_ms"] / found["mean_ms"])


def test_the_command_measures_every_engine(minilm: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["bench", "embed", "--model", str(minilm), "--rounds", "1", "--texts", "9", "--seconds", "0.1", "--json"])
        == 0
    )
    result = json.loads(capsys.readouterr().out)
    native = result["engines"]["nearhit native int8"]
    assert list(native["latency_seconds"]) == ["9", "17", "65", "257"]
    assert native["batch_texts_per_second"] > 0
    assert native["agreement"]["mean"] > 0.99
    assert result["engines"][embed.REFERENCE]["agreement"]["min"] == pytest.approx(1, abs=1e-5)
    assert set(result["absent"]) <= {"onnxruntime float32", "onnxruntime int8", "wordllama"}


@pytest.mark.parametrize("option", [["--rounds", "0"], ["--texts", "-3"], ["--data", "/no/such/folder"]])
def test_unusable_options_are_refused(option: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "embed", *option]) == 2
    assert option[0] in capsys.readouterr().err
