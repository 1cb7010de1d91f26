"""`nearhit cache`: what it prints, what it changes, what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.support.hashing_embedder import HashingEmbedder

from nearhit import Cache, cli
from nearhit.evaluate.data import read_pairs


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "cache.db"
    with Cache(HashingEmbedder(), path=path) as cache:
        cache.store("How do I reset my password?", "Click on the link.", scope="acme", tags=["help"])
        cache.store("What is 2 + 2?", {"answer": 4}, tags=["maths"], ttl=3600)
        cache.store("raw", b"\x00\xff")
    return str(path)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert cli.main(["cache", *arguments]) == 0
    return capsys.readouterr().out


def test_stats(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "3 entries" in run(capsys, "stats", file)
    result = json.loads(run(capsys, "stats", file, "--json"))
    assert result["entries"] == 3
    assert result["with_expiry"] == 1
    assert result["tags"] == {"help": 1, "maths": 1}
    assert {scope["scope"]: scope["entries"] for scope in result["scopes"]} == {None: 2, "acme": 1}
    assert result["bytes"]["total"] > 0


def test_inspect_finds_by_text_scope_and_id(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    (found,) = json.loads(run(capsys, "inspect", file, "--text", "LINK", "--json"))
    assert found["prompt"] == "How do I reset my password?"
    assert json.loads(run(capsys, "inspect", file, "--scope", "acme", "--json")) == [found]
    assert len(json.loads(run(capsys, "inspect", file, "--json"))) == 3
    shown = run(capsys, "inspect", file, "--id", found["id"][:10])
    assert "response: Click on the link." in shown
    assert 'tags: ["help"]' in shown
    assert "near: yes" in shown
    assert "last_hit: null" in shown
    assert "Click on the link." in run(capsys, "inspect", file, "--limit", "2")


def test_inspect_finds_by_similarity(
    file: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nearhit.cli.cache._embedder", lambda _: HashingEmbedder())
    found = json.loads(run(capsys, "inspect", file, "--similar", "What is 2 + 3?", "--json"))
    assert [entry["prompt"] for entry in found] == ["What is 2 + 2?", "raw"]
    assert found[0]["similarity"] > found[1]["similarity"]


def test_inspect_compares_with_entries_of_another_embedder(
    file: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    content = Path(file).read_bytes()
    monkeypatch.setattr("nearhit.cli.cache._embedder", lambda _: HashingEmbedder(32))
    found = json.loads(run(capsys, "inspect", file, "--similar", "What is 2 + 3?", "--json"))
    assert [entry["prompt"] for entry in found] == ["What is 2 + 2?", "raw"]
    assert Path(file).read_bytes() == content


def test_a_file_in_use_can_be_looked_into(file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Cache(HashingEmbedder(), path=file):
        assert json.loads(run(capsys, "stats", file, "--json"))["entries"] == 3
        assert len(json.loads(run(capsys, "inspect", file, "--json"))) == 3
        assert "3 entries written" in run(capsys, "export", file, str(tmp_path / "out.jsonl"))
        assert cli.main(["cache", "clear", file, "--all"]) == 1
        assert "in use" in capsys.readouterr().err


def test_judgements_are_pairs_that_tune_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, out = str(tmp_path / "cache.db"), tmp_path / "pairs.jsonl"
    with Cache(HashingEmbedder(), path=file, policy="static", threshold=0.5) as cache:
        cache.store("How do I reset my password?", "Click on the link.")
        for prompt, correct in (("how do I reset my password", True), ("How do I reset my passport?", False)):
            hit = cache.lookup(prompt)
            assert hit is not None
            cache.feedback(hit, correct)
    assert "2 judgements written" in run(capsys, "export", file, str(out), "--judgements")
    pairs = read_pairs(out)
    assert [(pair.a, pair.label) for pair in pairs] == [
        ("how do I reset my password", 1),
        ("How do I reset my passport?", 0),
    ]


def test_export_and_import(file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, other = tmp_path / "out.jsonl", str(tmp_path / "other.db")
    assert "3 entries written" in run(capsys, "export", file, str(out))
    assert "3 entries imported" in run(capsys, "import", other, str(out), "--exact-only")
    run(capsys, "export", other, str(tmp_path / "again.jsonl"))
    assert (tmp_path / "again.jsonl").read_text() == out.read_text()


def test_reembed(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "cache.db"
    with Cache(HashingEmbedder(32), path=path) as cache:
        cache.store("How do I reset my password?", "Click.")
    monkeypatch.setattr("nearhit.cli.cache._embedder", lambda _: HashingEmbedder(64))
    assert "1 entries embedded" in run(capsys, "reembed", str(path))
    with Cache(HashingEmbedder(64), path=path, threshold=0.8) as cache:
        assert cache.lookup("How do I reset my password") is not None


def test_clear(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "1 entries removed" in run(capsys, "clear", file, "--tag", "help")
    assert "0 entries removed" in run(capsys, "clear", file, "--scope", "acme")
    assert "2 entries removed" in run(capsys, "clear", file, "--all")
    assert json.loads(run(capsys, "stats", file, "--json"))["entries"] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["stats", "missing.db"], "no such file"),
        (["clear", "FILE"], "exactly one"),
        (["clear", "FILE", "--all", "--tag", "x"], "exactly one"),
        (["inspect", "FILE", "--id", "f" * 32], "no entry"),
        (["inspect", "FILE", "--text", "a", "--similar", "b"], "one of"),
        (["import", "FILE", "missing.jsonl", "--exact-only"], "cannot read"),
    ],
)
def test_mistakes_are_told_in_one_line(
    file: str, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert cli.main(["cache", *(file if part == "FILE" else part for part in arguments)]) in (1, 2)
    assert message in capsys.readouterr().err
    assert not Path("missing.db").exists()
