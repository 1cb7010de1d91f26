"""`nearhit demo` on the real models."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from tests.support import chat_server
from tests.support.http_server import Server

from nearhit import CTranslate2Tier, cli

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.models, pytest.mark.timeout(900)]  # the first run fetches and converts the models

PROMPTS = [
    {"prompt": "How do I reset my password?", "class": "reset"},
    {"prompt": "How can I reset my password?", "class": "reset"},
    {"prompt": "How do I reset my password?", "class": "reset"},
    {"prompt": "Is Fernpost cheaper than Heronmail?", "class": "fernpost"},
    {"prompt": "Is Heronmail cheaper than Fernpost?", "class": "heronmail"},
]


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("demo") / "prompts.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in PROMPTS))
    return file


@pytest.fixture(scope="module")
def played(prompts: Path) -> dict[str, Any]:
    """The result of a run as a user starts it: a process of its own, its output piped."""
    command = [sys.executable, "-m", "nearhit", "demo", "--prompts", str(prompts), "--max-tokens", "4", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_each_request_ends_as_it_should(played: dict[str, Any]) -> None:
    records = played["records"]
    assert [record["outcome"] for record in records] == ["miss", "near", "exact", "miss", "miss"]
    assert [record["source"] for record in records] == [None, 1, 1, None, None]
    assert all(record["verdict"] == "right" for record in records)
    assert records[1]["similarity"] >= 0.9
    assert records[1]["answer"] == records[0]["answer"] != ""
    refusal = records[4]["refusal"]
    assert refusal["prompt"] == PROMPTS[3]["prompt"]
    assert refusal["reason"]


def test_stages_are_timed_and_fit_into_the_whole(played: dict[str, Any]) -> None:
    for record in played["records"]:
        names = [span["name"] for span in record["spans"]]
        assert names[0] == "exact"
        if record["outcome"] != "exact":
            assert names[1:5] == ["tokenise", "embed", "search", "guard"] or names[1:3] == ["tokenise", "embed"]
        if record["outcome"] == "miss":
            assert {"decide", "ttft", "decode", "store"} <= set(names)
            assert 0 < record["ttft"] <= record["seconds"]
            assert record["completion_tokens"] > 0
        for span in record["spans"]:
            assert span["start"] >= 0
            assert span["start"] + span["seconds"] <= record["seconds"]


def test_summary_adds_up(played: dict[str, Any]) -> None:
    summary = played["summary"]
    assert (summary["requests"], summary["exact"], summary["near"], summary["misses"]) == (5, 1, 1, 3)
    assert (summary["false_hits"], summary["missed_hits"], summary["hit_rate"]) == (0, 0, 0.4)
    spent = sum(record["prompt_tokens"] + record["completion_tokens"] for record in played["records"])
    assert summary["spent_tokens"] == spent > 0
    assert summary["saved_tokens"] > 0
    assert summary["saved_seconds"] > 0
    assert 0 < summary["micro"]["exact_lookup"] < summary["seconds"]
    assert 0 < summary["micro"]["decide"] < summary["seconds"]
    assert 0 < sum(summary["micro"]["near_stages"].values()) < 2 * summary["micro"]["near_lookup"]


def test_piped_output_is_plain_text_with_all_parts(prompts: Path) -> None:
    command = [sys.executable, "-m", "nearhit", "demo", "--prompts", str(prompts), "--max-tokens", "2", "--limit", "2"]
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(command, capture_output=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    text = done.stdout.decode()
    assert "\x1b" not in text
    for part in (
        "How can I reset my password?",
        "Where the time went",
        "Latency by outcome",
        "What it came to",
        "Next",
    ):
        assert part in text


def test_a_server_answers_in_the_large_tiers_place(
    tmp_path: Path, smollm: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    file = tmp_path / "prompts.txt"
    file.write_text(
        "What is the capital of Spain?\n"
        "Write a Python function that returns the n-th Fibonacci number in O(log n) time and explain why it works.\n"
    )
    with CTranslate2Tier("behind", smollm, threads=1) as tier:
        server = Server(chat_server.serves(tier))
        try:
            arguments = ["--base-url", server.url, "--model", "remote-model", "--max-tokens", "3", "--json"]
            assert cli.main(["demo", "--prompts", str(file), *arguments]) == 0
        finally:
            server.close()
    captured = capsys.readouterr()
    easy, hard = json.loads(captured.out)["records"]
    assert (easy["tier"], hard["tier"]) == ("small", "large")
    assert hard["completion_tokens"] == 3
    assert hard["answer"]
    warm_up, asked = server.requests
    assert warm_up.json["model"] == asked.json["model"] == "remote-model"
    assert asked.json["max_tokens"] == 3
    assert asked.headers["authorization"] == "Bearer sk-test"
    assert "sk-test" not in captured.out + captured.err


def test_a_server_that_is_not_there_ends_the_demo_before_it_begins(
    prompts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address = f"http://127.0.0.1:{chat_server.refused_port()}/v1"
    assert cli.main(["demo", "--prompts", str(prompts), "--base-url", address, "--model", "gpt"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("nearhit: ")
    assert address in captured.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--model", "gpt"], "--base-url"),
        (["--base-url", "http://127.0.0.1:9/v1"], "--model"),
        (["--max-tokens", "0"], "--max-tokens 0"),
        (["--limit", "-1"], "--limit -1"),
        (["--prompts", "/absent/prompts.txt"], "/absent/prompts.txt"),
        (["--threshold", "7"], "7"),
    ],
)
def test_unusable_arguments_are_one_line(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["demo", *arguments]) in (1, 2)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("nearhit: ")
    assert captured.err.count("\n") == 1
    assert says in captured.err
