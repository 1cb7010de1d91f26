"""Caches with a file: what comes back, who may write, what a crash and a damaged file leave."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from tests.support.hashing_embedder import HashingEmbedder
from tests.support.unprivileged import unprivileged

import nearhit
from nearhit import AsyncCache, Cache

PROMPT = "How do I reset the password of my account?"
NEARLY = "How do I reset the password of my account"
ROUNDS = int(os.environ.get("NEARHIT_CRASH_ROUNDS", "60"))
MUTATIONS = int(os.environ.get("NEARHIT_MUTATIONS", "150"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache.db"


@pytest.mark.parametrize("durability", ["async", "sync"])
def test_everything_comes_back(path: Path, durability: str) -> None:
    embedder = HashingEmbedder()
    with Cache(embedder, path=path, durability=durability) as cache:
        cache.store(PROMPT, "Click.", scope={"tenant": "acme"}, tags=["a", "b"], cost=2.5, model="m", tokens=(9, 2))
        cache.store("bytes", b"\x00\xff")
        cache.store("json", {"a": [1, None]})
        cache.store("short", "x", ttl=0.05)
        cache.store("gone", "x")
        cache.invalidate(prompt="gone")
        cache.store("twice", "old")
        cache.store("twice", "new")
        before = {entry["id"]: entry for entry in cache._core.entries() if entry["prompt"] != "short"}
    time.sleep(0.06)
    calls = len(embedder.calls)
    with Cache(embedder, path=path) as cache:
        cache._core.validate()
        assert {entry["id"]: entry for entry in cache._core.entries()} == before
        near = cache.lookup(NEARLY, scope={"tenant": "acme"}, threshold=0.8)
        assert near is not None
        assert near.kind == "near"
        assert len(embedder.calls) == calls + 1  # the query only: vectors came from the file
        assert cache.lookup("short") is None
        assert cache.lookup("gone") is None
        twice = cache.lookup("twice")
        assert twice is not None
        assert twice.response == "new"
        cache.clear()
    with Cache(path=path) as cache:
        assert len(cache) == 0


def test_one_writer_at_a_time(path: Path) -> None:
    first = Cache(path=path)
    with pytest.raises(nearhit.StorageInUseError, match="in use"):
        Cache(path=path)
    code = f"from nearhit import Cache; Cache(path={str(path)!r})"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "StorageInUseError" in other.stderr
    first.close()
    first.store("later", "kept in memory only")
    with Cache(path=path) as second:
        assert second.lookup("later") is None


def test_a_file_in_use_can_be_read(path: Path) -> None:
    embedder = HashingEmbedder()
    with Cache(embedder, path=path, durability="sync", threshold=0.8) as writer:
        writer.store(PROMPT, "Click.", scope="a")
        with Cache(embedder, path=path, read_only=True, threshold=0.8) as reader:
            near = reader.lookup(NEARLY, scope="a")
            assert near is not None
            assert near.response == "Click."
            writer.store("later", "not seen")
            reader.store("own", "kept in memory only")
            reader.flush()
            assert reader.lookup("later") is None
            assert reader.lookup("own") is not None
            assert reader.invalidate(scope="a") == 1
        code = f"from nearhit import Cache; print(len(Cache(path={str(path)!r}, read_only=True)))"
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert other.stdout.strip() == "2"
    with Cache(path=path, read_only=True) as reader:  # and when nobody writes it
        assert {entry["prompt"] for entry in reader._core.entries()} == {PROMPT, "later"}


def test_only_reading_changes_nothing(path: Path) -> None:
    with pytest.raises(nearhit.StorageError, match="No such file"):
        Cache(path=path, read_only=True)
    assert not path.exists()
    with pytest.raises(nearhit.OptionError, match="read_only"):
        Cache(read_only=True)
    with Cache(path=path) as cache:
        for number in range(20):
            cache.store(f"prompt {number}", "x" * 500)
        cache.store("short", "x", ttl=0.02)
    content = path.read_bytes()
    time.sleep(0.03)
    with Cache(path=path, read_only=True, max_entries=5) as reader:
        assert len(reader) == 5
    assert path.read_bytes() == content
    path.chmod(0o444)
    path.parent.chmod(0o555)  # as on a medium that cannot be written
    try:
        with unprivileged(path.parent), Cache(path=path, read_only=True) as reader:
            assert len(reader) == 20
    finally:
        path.parent.chmod(0o755)


def test_only_reading_a_damaged_file_gives_what_is_whole(path: Path) -> None:
    with Cache(path=path) as cache:
        for number in range(200):
            cache.store(f"prompt {number}", f"{number} " * 300)
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 6000] = b"\xff" * 6000
    path.write_bytes(content)
    with pytest.warns(nearhit.StorageWarning), Cache(path=path, read_only=True) as reader:
        held = {entry["prompt"]: entry["response"] for entry in reader._core.entries()}
    assert 0 < len(held) < 200
    assert all(held[f"prompt {number}"] == f"{number} " * 300 for number in range(200) if f"prompt {number}" in held)
    assert path.read_bytes() == content
    assert list(path.parent.glob("*.damaged-*")) == []


def test_a_file_of_the_first_version_is_read_and_migrated(path: Path) -> None:
    with Cache(path=path) as cache:
        cache.store("prompt", "answer")
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("DROP TABLE judgement; PRAGMA user_version = 1;")
    with Cache(path=path, read_only=True) as reader:
        assert reader.lookup("prompt") is not None
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    with Cache(path=path) as cache:
        assert cache.lookup("prompt") is not None
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (2,)


def test_judgements_are_kept_with_the_entries(path: Path) -> None:
    embedder = HashingEmbedder()
    with Cache(embedder, path=path, threshold=0.8, durability="sync") as cache:
        cache.store(PROMPT, "Click.")
        for correct in (True, False):
            hit = cache.lookup(NEARLY)
            assert hit is not None
            assert hit.kind == "near"
            cache.feedback(hit, correct)
        exact = cache.lookup(PROMPT)
        assert exact is not None
        cache.feedback(exact, correct=True)  # no pair of two prompts
        (judged,) = cache.judgements()  # the later word on a pair counts
        assert (judged.a, judged.b, judged.label) == (NEARLY, PROMPT, 0)
        assert judged.similarity == pytest.approx(hit.similarity)
        assert abs(judged.time - time.time()) < 60
        cache.store(PROMPT, "Click.", scope="other")
        other = cache.lookup(NEARLY, scope="other")
        assert other is not None
        cache.feedback(other, correct=True)
        assert [pair.label for pair in cache.judgements()] == [0, 1]
    with Cache(embedder, path=path) as cache:
        assert cache.judgements()[0] == judged
        cache.invalidate(scope="other")
        assert cache.judgements() == [judged]
    with Cache(path=path) as cache:
        assert cache.judgements() == [judged]
        cache.clear()
        assert cache.judgements() == []
    with Cache(path=path, read_only=True) as cache:
        assert cache.judgements() == []


def test_exit_without_close_loses_nothing(path: Path) -> None:
    code = f"from nearhit import Cache; c = Cache(path={str(path)!r}); c.store('prompt', 'answer')"
    subprocess.run([sys.executable, "-c", code], check=True)
    with Cache(path=path) as cache:
        assert cache.lookup("prompt") is not None


def test_another_embedder_makes_entries_exact_only_until_they_are_embedded_again(path: Path) -> None:
    with Cache(HashingEmbedder(64), path=path, threshold=0.8) as cache:
        cache.store(PROMPT, "Click.")
        cache.store("x" * 600, "too long to be near anything")
    with pytest.warns(nearhit.StorageWarning, match="reembed"):
        cache = Cache(HashingEmbedder(128), path=path, threshold=0.8)
    with cache:
        assert cache.lookup(PROMPT) is not None
        assert cache.lookup(NEARLY) is None
        steps: list[tuple[int, int]] = []
        assert cache.reembed(progress=lambda done, total: steps.append((done, total))) == 1
        assert steps == [(1, 1)]
        assert cache.lookup(NEARLY) is not None
        assert cache.reembed() == 0
        cache._core.validate()
    with Cache(HashingEmbedder(128), path=path, threshold=0.8) as cache:
        assert cache.lookup(NEARLY) is not None


def test_bounds_hold_on_the_file_too(path: Path) -> None:
    with Cache(path=path, max_entries=20) as cache:
        for number in range(200):
            cache.store(f"prompt {number}", "x")
        held = {entry["prompt"] for entry in cache._core.entries()}
    assert sqlite3.connect(path).execute("SELECT count(*) FROM record").fetchone() == (20,)
    with Cache(path=path, max_entries=5) as cache:
        assert len(cache) == 5
        assert {entry["prompt"] for entry in cache._core.entries()} < held


def test_a_foreign_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    with pytest.raises(nearhit.StorageError, match="another program"):
        Cache(path=other)
    with pytest.raises(nearhit.StorageError):
        Cache(path=tmp_path)
    with pytest.raises(nearhit.StorageError):
        Cache(path=tmp_path / "no" / "such" / "folder" / "cache.db")
    connection = sqlite3.connect(other)
    assert connection.execute("SELECT name FROM sqlite_schema").fetchall() == [("theirs",)]
    connection.close()


def test_a_file_of_a_newer_version_is_refused_and_left_alone(path: Path) -> None:
    Cache(path=path).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(nearhit.StorageError, match="newer version"):
        Cache(path=path)
    assert list(path.parent.glob("*.damaged-*")) == []


def test_a_text_file_is_set_aside(path: Path) -> None:
    path.write_text("this is no database, but somebody may want it back\n" * 100)
    with pytest.warns(nearhit.StorageWarning, match="set aside"), Cache(path=path) as cache:
        cache.store("prompt", "answer")
    (aside,) = path.parent.glob("*.damaged-*")
    assert aside.read_text().startswith("this is no database")
    with Cache(path=path) as cache:
        assert cache.lookup("prompt") is not None


@pytest.mark.timeout(60 + MUTATIONS)  # some 50 ms each on a busy machine
@pytest.mark.filterwarnings("ignore::nearhit.StorageWarning")
def test_damage_is_never_served(tmp_path: Path) -> None:
    whole = tmp_path / "whole.db"
    answers = {f"prompt {number}": f"answer {number} " * 30 for number in range(120)}
    with Cache(path=whole) as cache:
        for prompt, text in answers.items():
            cache.store(prompt, text)
    content = whole.read_bytes()
    dice = random.Random(7)
    kept = 0
    for number in range(MUTATIONS):
        folder = tmp_path / str(number)
        folder.mkdir()
        damaged = bytearray(content)
        if number % 5 == 0:
            del damaged[dice.randrange(len(damaged)) :]
        elif number % 5 == 1:
            start = dice.randrange(len(damaged))
            damaged[start : start + 4096] = dice.randbytes(len(damaged[start : start + 4096]))
        else:
            for _ in range(dice.choice([1, 10, 100])):
                damaged[dice.randrange(len(damaged))] ^= 1 << dice.randrange(8)
        (folder / "cache.db").write_bytes(damaged)
        try:
            cache = Cache(path=folder / "cache.db")
        except nearhit.StorageError:
            continue  # another program's mark, or a newer version's: refused, and left alone
        with cache:
            cache._core.validate()
            for prompt, text in answers.items():
                hit = cache.lookup(prompt)
                assert hit is None or hit.response == text
                kept += hit is not None
            cache.store("after", "x")
            assert cache.lookup("after") is not None
        shutil.rmtree(folder)
    assert kept > MUTATIONS * len(answers) // 4  # most of what is whole is still served


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("durability", "rounds"), [("sync", ROUNDS), ("async", max(3, ROUNDS // 20))])
def test_killed_writers_keep_their_promise(tmp_path: Path, durability: str, rounds: int) -> None:
    script = Path(__file__).parents[1] / "support" / "crash_writer.py"
    command = [sys.executable, str(script), str(tmp_path), durability, str(rounds), "11"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert f"{rounds} writers killed" in done.stdout


def test_a_full_disk_is_told_and_the_cache_goes_on(path: Path) -> None:
    """A limit on the file's size stands in for a full disk: the system refuses to write beyond it."""
    code = f"""
import resource, signal
from nearhit import Cache
import nearhit
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
cache = Cache(path={str(path)!r}, durability="sync")
cache.store("before", "kept")
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
try:
    for number in range(100):
        cache.store(f"prompt {{number}}", "x" * 10_000)
except nearhit.StorageError as error:
    print("told:", error)
assert cache.lookup("prompt 0") is not None, "the cache goes on in memory"
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
cache.flush()
cache.close()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "told:" in done.stdout
    with Cache(path=path) as cache:
        assert cache.lookup("before") is not None
        assert cache.lookup("prompt 0") is not None


def test_a_read_only_file_is_a_storage_error(path: Path) -> None:
    Cache(path=path).close()
    with unprivileged(path.parent):
        Cache(path=path).close()
    path.chmod(0o444)
    with unprivileged(path.parent), pytest.raises(nearhit.StorageError):
        Cache(path=path)


async def test_async_cache_waits_for_the_disk_off_the_loop(path: Path) -> None:
    async with AsyncCache(HashingEmbedder(), path=path, durability="sync") as cache:
        await cache.store(PROMPT, "Click.", tags=["t"])
        assert await cache.invalidate(tag="t") == 1
        await cache.store(PROMPT, "Click again.")
        await cache.flush()
    async with AsyncCache(HashingEmbedder(), path=path) as cache:
        hit = await cache.lookup(PROMPT)
        assert hit is not None
        assert hit.response == "Click again."


def test_a_forked_child_leaves_the_file_alone(path: Path) -> None:
    code = f"""
import os
from nearhit import Cache
cache = Cache(path={str(path)!r})
cache.store("parent", "1")
child = os.fork()
if child == 0:
    cache.store("child", "2")
    ok = cache.lookup("parent") is not None and cache.lookup("child") is not None
    cache.flush()
    cache.close()
    os._exit(0 if ok else 1)
assert os.waitpid(child, 0)[1] == 0
cache.store("parent again", "3")
"""
    subprocess.run([sys.executable, "-W", "ignore::DeprecationWarning", "-c", code], check=True)
    with Cache(path=path) as cache:
        assert cache.lookup("parent") is not None
        assert cache.lookup("parent again") is not None
        assert cache.lookup("child") is None
