"""The README's Python examples run and print what it says; the commands it names exist."""

from __future__ import annotations

import contextlib
import doctest
import io
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import pytest

from nearhit import cli

README = Path(__file__).parents[2] / "README.md"
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    language: str
    body: str
    line: int


def blocks() -> list[Block]:
    text = README.read_text(encoding="utf-8")
    return [Block(m[1], m[2], text.count("\n", 0, m.start()) + 2) for m in FENCE.finditer(text)]


@pytest.mark.models
@pytest.mark.timeout(900)  # fetches and converts the models on first use
def test_python_examples_print_what_the_readme_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A `text` block right after a `python` block is that block's output; "..." stands for anything."""
    monkeypatch.chdir(tmp_path)
    found = blocks()
    names: dict[str, object] = {"__name__": "readme"}
    checked = 0
    for block, following in zip(found, [*found[1:], None], strict=True):
        if block.language != "python":
            continue
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            exec(compile("\n" * (block.line - 1) + block.body, str(README), "exec"), names)  # noqa: S102 - our own README
        if following is not None and following.language == "text":
            want, got = following.body, output.getvalue()
            assert doctest.OutputChecker().check_output(want, got, doctest.ELLIPSIS), (
                f"README.md:{block.line} prints\n{got}\nand not\n{want}"
            )
            checked += 1
    assert checked > 0


def test_commands_exist(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [line for block in blocks() if block.language == "bash" for line in block.body.splitlines()]
    commands = [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("nearhit ")]
    assert commands
    for name, *_ in commands:
        with pytest.raises(SystemExit) as stop:
            cli.main([name, "--help"])
        assert stop.value.code == 0, name
        capsys.readouterr()
