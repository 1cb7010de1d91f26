"""Export and import: JSON lines, questions and answers, CSV, GPTCache's sqlite file."""

from __future__ import annotations

import gzip
import json
import sqlite3
from typing import TYPE_CHECKING

import pytest
from tests.support.hashing_embedder import HashingEmbedder

import nearhit
from nearhit import AsyncCache, Cache

if TYPE_CHECKING:
    from pathlib import Path

PROMPT = "How do I reset the password of my account?"
NEARLY = "How do I reset the password of my account"


def filled() -> Cache:
    cache = Cache(HashingEmbedder(), threshold=0.8)
    cache.store(PROMPT, "Click.\nTwice: é😀", scope={"tenant": "acme"}, tags=["a"], cost=0.5, model="m", tokens=(1, 2))
    cache.store("bytes", b"\x00\xff", ttl=3600)
    cache.store("json", {"a": [1, None, "x"]})
    cache.store("text in JSON", '{"not": "an object"}')
    cache.store([{"role": "system", "content": "s"}, {"role": "user", "content": "u"}], "scoped")
    return cache


@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.gz"])
def test_what_is_exported_comes_back(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    cache = filled()
    assert cache.export(path) == 5
    other = Cache(HashingEmbedder(), threshold=0.8)
    assert other.import_(path) == 5
    assert list(other._core.entries()) == list(cache._core.entries())
    near = other.lookup(NEARLY, scope={"tenant": "acme"})
    assert near is not None
    assert near.kind == "near"
    assert list(tmp_path.iterdir()) == [path]


async def test_async_cache_exports_and_imports(tmp_path: Path) -> None:
    filled().export(tmp_path / "out.jsonl")
    cache = AsyncCache(HashingEmbedder(), threshold=0.8)
    assert await cache.import_(tmp_path / "out.jsonl") == 5
    assert await cache.export(tmp_path / "again.jsonl") == 5
    assert (tmp_path / "again.jsonl").read_text() == (tmp_path / "out.jsonl").read_text()


def test_lines_are_readable(tmp_path: Path) -> None:
    filled().export(tmp_path / "out.jsonl")
    first = json.loads((tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert first["prompt"] == PROMPT
    assert first["scope"] == {"tenant": "acme"}
    assert first["form"] == "text"
    assert first["expires"] is None


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("qa.jsonl", '{"question": "one", "answer": "1"}\n\n{"prompt": "two", "response": {"n": 2}}\n'),
        ("qa.csv", 'Question,Answer\none,1\ntwo,"2, or ""two"""\n'),
    ],
)
def test_questions_and_answers_are_read(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    packed = tmp_path / f"{name}.gz"
    packed.write_bytes(gzip.compress(content.encode()))
    for path in (tmp_path / name, packed):
        cache = Cache(HashingEmbedder())
        assert cache.import_(path) == 2
        one, two = cache.lookup("one"), cache.lookup("two")
        assert one is not None
        assert two is not None
        assert one.response == "1"
        assert two.response in ({"n": 2}, '2, or "two"')


def test_gptcache_files_are_read(tmp_path: Path) -> None:
    path = tmp_path / "sqlite.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE gptcache_question (id INTEGER, question TEXT, deleted INTEGER)")
        connection.execute(
            "CREATE TABLE gptcache_answer (id INTEGER, question_id INTEGER, answer TEXT, answer_type INTEGER)"
        )
        connection.executemany(
            "INSERT INTO gptcache_question VALUES (?, ?, ?)", [(1, "one", 0), (2, "gone", -1), (3, "image", 0)]
        )
        connection.executemany(
            "INSERT INTO gptcache_answer VALUES (?, ?, ?, ?)",
            [(1, 1, "first", 0), (2, 2, "no", 0), (3, 3, "path", 2), (4, 1, "another", 0)],
        )
    connection.close()
    cache = Cache()
    assert cache.import_(path) == 1
    one = cache.lookup("one")
    assert one is not None
    assert one.response == "first"


GOOD = {"id": "0" * 32, "scope_id": "0" * 32, "prompt": None, "scope": None, "response": "x", "form": "text"} | {
    "tags": [], "created": 1.0, "expires": None, "cost": None, "model": None, "tokens": None, "hits": 0,
}  # fmt: skip


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        "1",
        '{"question": 3, "answer": "x"}',
        '{"question": "x"}',
        "[" * 100_000,
        json.dumps(GOOD | {"id": "short"}),
        json.dumps(GOOD | {"form": "pickle"}),
        json.dumps(GOOD | {"form": "bytes", "response": "not base64!"}),
        json.dumps(GOOD | {"response": 3}),
        json.dumps({name: value for name, value in GOOD.items() if name != "tags"}),
        "\ufffd".encode().decode("latin-1") + "\x00",
    ],
)
def test_bad_lines_are_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text(json.dumps({"question": "fine", "answer": "x"}) + "\n" + line + "\n", encoding="utf-8")
    cache = Cache()
    with pytest.raises(nearhit.CorruptFileError, match="line 2"):
        cache.import_(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    cache = Cache()
    with pytest.raises(nearhit.StorageError):
        cache.import_(tmp_path / "missing.jsonl")
    (tmp_path / "binary.jsonl").write_bytes(b"\xff\xfe\x00binary")
    with pytest.raises(nearhit.CorruptFileError):
        cache.import_(tmp_path / "binary.jsonl")
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(b'{"question": "x", "answer": "y"}\n' * 100)[:40])
    with pytest.raises(nearhit.CorruptFileError):
        cache.import_(tmp_path / "cut.jsonl.gz")
    with pytest.raises(nearhit.StorageError):
        cache.export(tmp_path / "no" / "folder.jsonl")
