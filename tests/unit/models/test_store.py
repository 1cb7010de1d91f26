"""Finding, converting on demand, listing and removing; several processes, crashes, damage, refusals of the disk."""

from __future__ import annotations

import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tests.support.unprivileged import unprivileged

from nearhit import models
from nearhit._errors import ModelFormatError, ModelNotFoundError, OptionError, StorageError
from nearhit.embed import CTranslate2Embedder
from nearhit.models.files import exclusive, storage_errors

if TYPE_CHECKING:
    from collections.abc import Callable

MANIFEST = (
    '{{"name": "m", "kind": "{kind}", "architecture": "bert", "quantization": "int8", "content": "0", "max_length": 8,'
    ' "dim": {dim}, "pooling": "{pooling}"}}'
)
PACKAGE = str(models.__path__[0]).rsplit("/nearhit/", 1)[0]


def python(script: str, *arguments: str) -> subprocess.Popen[str]:
    setup = "import sys; sys.path.insert(0, sys.argv[1])\nfrom nearhit import models\n"
    return subprocess.Popen(
        [sys.executable, "-c", setup + script, PACKAGE, *arguments], stdout=subprocess.PIPE, text=True
    )


def test_a_conversion_is_made_once_and_found_again(home: Path, make_bert: Callable[..., Path]) -> None:
    folder, steps = make_bert(), []
    first = models.converted(folder, progress=lambda *step: steps.append(step))
    assert first.parent == home / "converted"
    made = sorted(file.name for file in first.iterdir())
    assert made == ["config.json", "model.bin", "nearhit.json", "tokenizer.json", "vocabulary.json"]
    assert steps == [("convert", done, 3) for done in range(4)]
    assert models.converted(folder, progress=lambda *step: steps.append(step)) == first
    assert len(steps) == 4, "nothing was converted the second time"
    assert models.converted(folder, "float32") != first


def test_changed_weights_make_a_new_conversion(home: Path, make_bert: Callable[..., Path]) -> None:
    folder = make_bert()
    first = CTranslate2Embedder(folder, device="cpu")
    changed = make_bert("changed", weights={"embeddings.LayerNorm.bias": np.ones(32, np.float32)})
    (changed / "model.safetensors").replace(folder / "model.safetensors")
    second = CTranslate2Embedder(folder, device="cpu")
    assert first.id != second.id
    assert abs(first.embed(["pizza"]) - second.embed(["pizza"])).max() > 1e-3


def test_a_converted_folder_is_used_as_it_is(home: Path, make_bert: Callable[..., Path], tmp_path: Path) -> None:
    out = models.convert(models.find(make_bert()), tmp_path / "out", "float32")
    assert models.converted(out) == out
    kept = CTranslate2Embedder(out, device="cpu", compute_type="float32")
    quantised = CTranslate2Embedder(out, device="cpu", compute_type="int8")
    assert kept.id.startswith("tiny-bert@")
    assert kept.id.endswith("/float32/mean")
    assert quantised.id.endswith("/float32-as-int8_float32/mean"), "other vectors, another id"
    assert not (home / "converted").exists()


def test_processes_that_convert_together_convert_once(home: Path, make_bert: Callable[..., Path]) -> None:
    folder = str(make_bert())
    script = (
        "steps = []\n"
        "folder = models.converted(sys.argv[2], progress=lambda *step: steps.append(step[0]))\n"
        "print(folder, steps.count('convert'))\n"
    )
    started = [python(script, folder) for _ in range(4)]
    lines = [process.communicate(timeout=60)[0].split() for process in started]
    assert sorted(steps for _, steps in lines) == ["0", "0", "0", "4"]
    assert len({path for path, _ in lines}) == 1


def test_a_conversion_killed_half_way_leaves_no_model_and_no_lock(home: Path, make_bert: Callable[..., Path]) -> None:
    folder = make_bert()
    script = (
        "import time\n"
        "def stall(stage, done, total):\n"
        "    if done == 2:\n"
        "        print('written', flush=True); time.sleep(60)\n"
        "models.converted(sys.argv[2], progress=stall)\n"
    )
    process = python(script, str(folder))
    assert process.stdout is not None
    assert process.stdout.readline() == "written\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (home / "converted").exists()
    assert list((home / "partial").rglob("model.bin")), "the victim did die half-way"
    assert CTranslate2Embedder(folder, device="cpu").embed(["pizza"]).shape == (1, 32)
    assert not list((home / "partial").iterdir())


@pytest.mark.parametrize("damage", ["truncate", "remove", "manifest"])
def test_a_damaged_conversion_is_made_anew(home: Path, make_bert: Callable[..., Path], damage: str) -> None:
    folder = make_bert()
    made = models.converted(folder)
    whole = (made / "model.bin").read_bytes()
    match damage:
        case "truncate":
            (made / "model.bin").write_bytes(whole[:100])
        case "remove":
            (made / "tokenizer.json").unlink()
        case "manifest":
            (made / "nearhit.json").write_text("{")
    assert models.converted(folder) == made
    assert (made / "model.bin").read_bytes() == whole
    assert models.Manifest.read(made).dim == 32


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read"),
        ("[]", "cannot be read"),
        ("{}", "cannot be read"),
        (None, "it has no nearhit.json"),
        (MANIFEST.format(kind="teapot", dim=32, pooling="mean"), "kind = 'teapot'"),
        (MANIFEST.format(kind="encoder", dim=-1, pooling="mean"), "dim = -1"),
        (MANIFEST.format(kind="encoder", dim=32, pooling="max"), "pooling = 'max'"),
    ],
)
def test_a_manifest_that_cannot_be_read_is_named(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "nearhit.json").write_text(content)
    with pytest.raises(ModelFormatError, match=message):
        models.Manifest.read(tmp_path)


def test_a_damaged_converted_folder_of_the_users_own_is_named(
    home: Path, make_bert: Callable[..., Path], tmp_path: Path
) -> None:
    out = models.convert(models.find(make_bert()), tmp_path / "out")
    (out / "model.bin").write_bytes(b"")
    with pytest.raises(ModelFormatError, match=r"model\.bin has 0 bytes instead of"):
        CTranslate2Embedder(out, device="cpu")


def test_convert_replaces_nothing_unasked(home: Path, make_bert: Callable[..., Path], tmp_path: Path) -> None:
    source = models.find(make_bert())
    out = models.convert(source, tmp_path / "out")
    with pytest.raises(OptionError, match="already there"):
        models.convert(source, out)
    assert models.convert(source, out, "float32", overwrite=True) == out
    assert models.Manifest.read(out).quantization == "float32"
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("do not delete")
    with pytest.raises(OptionError, match="no converted model"):
        models.convert(source, precious, overwrite=True)
    assert (precious / "thesis.txt").exists()
    assert not list(tmp_path.glob(".out*")), "no work folder is left behind"


def test_unknown_quantizations_are_named(home: Path, make_bert: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"'int4'; expected one of int8, float16, float32"):
        models.converted(make_bert(), "int4")  # type: ignore[arg-type]


def test_a_local_folder_can_be_fetched_listed_used_and_removed(home: Path, make_bert: Callable[..., Path]) -> None:
    folder = make_bert("my model")
    (folder / "modeling_evil.py").write_text("raise SystemExit")
    (folder / "weights.pkl").write_bytes(b"cos\nsystem\n.")
    stored = models.fetch(folder)
    assert stored == home / "models" / "my-model"
    files = sorted(file.name for file in stored.iterdir())
    assert files == ["config.json", "model.safetensors", "nearhit-model.json", "tokenizer.json"]
    embedder = CTranslate2Embedder("my-model", device="cpu")
    assert embedder.id.startswith("my-model@")
    (row,) = models.installed()
    assert (row.name, row.origin, row.path, row.quantizations) == ("my-model", str(folder), stored, ("int8",))
    assert models.remove("my-model") == row.size
    assert models.installed() == []
    assert not list((home / "converted").iterdir())
    with pytest.raises(ModelNotFoundError, match="nearhit models list"):
        models.remove("my-model")


def test_another_model_of_the_same_name_is_not_mistaken_for_the_first(
    home: Path, make_bert: Callable[..., Path], tmp_path: Path
) -> None:
    first = make_bert()
    stored = models.fetch(first)
    assert models.fetch(first) == stored
    (tmp_path / "elsewhere").mkdir()
    other = make_bert("other", weights={"embeddings.LayerNorm.bias": np.ones(32, np.float32)})
    other = other.rename(tmp_path / "elsewhere" / first.name)
    with pytest.raises(OptionError, match="another model named 'tiny-bert'"):
        models.fetch(other)


@pytest.mark.parametrize("damage", ["cut", "missing", "record"])
def test_a_damaged_model_is_fetched_again(home: Path, make_bert: Callable[..., Path], damage: str) -> None:
    folder = make_bert()
    stored = models.fetch(folder)
    match damage:
        case "cut":
            (stored / "model.safetensors").write_bytes(b"cut")
        case "missing":
            (stored / "tokenizer.json").unlink()
        case "record":
            (stored / "nearhit-model.json").write_text("{")
            assert [row.origin for row in models.installed()] == ["damaged: fetch it again"]
    assert models.fetch(folder) == stored
    assert CTranslate2Embedder("tiny-bert", device="cpu").embed(["pizza"]).shape == (1, 32)


def test_removing_one_model_leaves_others_with_longer_names(home: Path, make_bert: Callable[..., Path]) -> None:
    for name in ("one", "one-int8", "one--two"):
        models.converted(make_bert(name))
    models.remove("one")
    assert [row.name for row in models.installed()] == ["one--two", "one-int8"]


def test_the_recorded_hash_is_not_believed_once_a_file_has_changed(home: Path, make_bert: Callable[..., Path]) -> None:
    stored = models.fetch(make_bert())
    before = models.find("tiny-bert").content()
    config = stored / "config.json"
    config.write_text(config.read_text() + " ")
    assert models.find("tiny-bert").content() != before


def test_a_home_that_is_no_folder_is_a_storage_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_bert: Callable[..., Path]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NEARHIT_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(StorageError, match="NEARHIT_HOME"):
        models.converted(make_bert())
    with pytest.raises(StorageError, match="NEARHIT_HOME"):
        models.fetch(models.EMBEDDER)


def test_a_home_without_write_permission_is_a_storage_error(
    home: Path, tmp_path: Path, make_bert: Callable[..., Path]
) -> None:
    home.mkdir(mode=0o500)
    source = make_bert()
    refused = pytest.raises(StorageError, match=r"fix the permissions, or point NEARHIT_HOME")
    with unprivileged(tmp_path), refused:
        models.converted(source)


def test_a_full_disk_is_a_storage_error() -> None:
    with pytest.raises(StorageError, match="no space left at /dev/full"), storage_errors(Path("/dev/full")):
        Path("/dev/full").write_bytes(b"x" * 10_000)


def test_a_disk_that_gives_out_half_way_is_a_storage_error_and_leaves_no_litter(
    home: Path, make_bert: Callable[..., Path]
) -> None:
    """A limit on the size of files stands for the full disk: it, too, strikes in the middle of a write."""
    pytest.importorskip("resource")
    script = (
        "import resource; from nearhit._errors import StorageError\n"
        "def limit(stage, done, total):\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "try:\n"
        "    models.converted(sys.argv[2], progress=limit)\n"
        "except StorageError as error:\n"
        "    print(error)\n"
    )
    said, _ = python(script, str(make_bert())).communicate(timeout=60)
    assert "NEARHIT_HOME" in said
    assert not list(home.rglob("*.bin"))


def test_the_lock_is_held_against_other_processes_and_freed_on_errors(home: Path) -> None:
    with pytest.raises(ValueError, match="inside"), exclusive("x"):
        raise ValueError("inside")
    script = (
        "from nearhit.models.files import exclusive\n"
        "print('go', flush=True)\n"
        "with exclusive('x'):\n"
        "    print('in', flush=True)\n"
    )
    with exclusive("y"):
        assert python(script).communicate(timeout=60)[0] == "go\nin\n", "another lock is in nobody's way"
    with exclusive("x"):
        waiter = python(script)
        assert waiter.stdout is not None
        assert waiter.stdout.readline() == "go\n"
        time.sleep(0.2)
        assert not select.select([waiter.stdout], [], [], 0)[0], "the other process got in"
    assert waiter.communicate(timeout=60)[0] == "in\n"


@pytest.mark.parametrize(
    ("platform", "environment", "expected"),
    [
        ("linux", {"NEARHIT_HOME": "/x/y"}, "/x/y"),
        ("linux", {"XDG_CACHE_HOME": "/cache"}, "/cache/nearhit"),
        ("linux", {}, "/u/.cache/nearhit"),
        ("darwin", {}, "/u/Library/Caches/nearhit"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/nearhit"),
        ("win32", {}, "/u/AppData/Local/nearhit"),
    ],
)
def test_the_home_follows_the_platform(
    monkeypatch: pytest.MonkeyPatch, platform: str, environment: dict[str, str], expected: str
) -> None:
    for name in ("NEARHIT_HOME", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": "/u", **environment}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    assert models.home() == Path(expected)


def test_paths_that_lead_nowhere_are_not_found(home: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    odd = ["~nobody-of-this-name/model", "nul\0name", "", "x" * 200, "x" * 5000, "/" + "x" * 5000, "a/" * 3000]
    for path in (tmp_path / "link", tmp_path / "circle", *odd):
        with pytest.raises(ModelNotFoundError):
            models.converted(path)
        with pytest.raises(ModelNotFoundError):
            models.fetch(path)


def test_a_relative_home_does_not_move_with_the_current_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NEARHIT_HOME", "here")
    assert models.home() == tmp_path / "here"


def test_a_user_without_a_home_is_told_to_set_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEARHIT_HOME", "~nobody-of-this-name/cache")
    with pytest.raises(StorageError, match="set NEARHIT_HOME"):
        models.home()
