"""The frame of the command line: lazy subcommands, exit statuses, one-line errors."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
import types
from typing import TYPE_CHECKING

import pytest

from nearhit import Error, InputError, __version__, cli
from nearhit.cli import _output

if TYPE_CHECKING:
    import argparse


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A subcommand `probe` whose `run` does what the test puts into it."""
    module = types.ModuleType("nearhit.cli.probe")
    module.__spec__ = importlib.util.spec_from_loader("nearhit.cli.probe", loader=None)

    def register(subparsers: cli.Subparsers) -> None:
        subparsers.add_parser("probe", help="a probe").add_argument("--number", type=int, default=0)

    module.register = register
    module.run = lambda args: args.number
    monkeypatch.setitem(sys.modules, "nearhit.cli.probe", module)
    monkeypatch.setitem(cli.COMMANDS, "probe", "a probe")
    return module


def test_subcommand_gets_its_arguments_and_gives_the_status(command: types.ModuleType) -> None:
    assert cli.main(["probe", "--number", "7"]) == 7


@pytest.mark.parametrize(("error", "status"), [(Error("no space\nleft"), 1), (InputError("threshold 7"), 2)])
def test_errors_become_one_line_and_a_status(
    command: types.ModuleType, capsys: pytest.CaptureFixture[str], error: Error, status: int
) -> None:
    def run(args: argparse.Namespace) -> int:
        raise error

    command.run = run
    assert cli.main(["probe"]) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == f"nearhit: {' '.join(str(error).split())}\n"


def test_interruption_is_130(command: types.ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    def run(args: argparse.Namespace) -> int:
        raise KeyboardInterrupt

    command.run = run
    assert cli.main(["probe"]) == 130
    assert "interrupted" in capsys.readouterr().err


def test_other_exceptions_are_bugs_and_keep_their_traceback(command: types.ModuleType) -> None:
    def run(args: argparse.Namespace) -> int:
        raise ZeroDivisionError

    command.run = run
    with pytest.raises(ZeroDivisionError):
        cli.main(["probe"])


def test_without_arguments_it_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    printed = capsys.readouterr().out
    for name in cli.available():
        assert name in printed


def test_unknown_command_is_refused_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["teleport"])
    assert stop.value.code == 2
    assert "teleport" in capsys.readouterr().err


def test_every_subcommand_module_is_listed_and_complete() -> None:
    """A module is a command, or the part of one: `eval_pairs` of `eval`."""
    modules = {info.name for info in pkgutil.iter_modules(cli.__path__) if not info.name.startswith("_")}
    assert {name for name in modules if name.partition("_")[0] == name} == set(cli.available())
    for name in modules:
        assert name.partition("_")[0] in cli.COMMANDS, name
        module = importlib.import_module(f"nearhit.cli.{name}")
        assert callable(module.register), name
        assert callable(module.run), name


@pytest.mark.parametrize("name", ["--help", *(f"{name} --help" for name in cli.available())])
def test_help_of_every_command(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(name.split())
    assert stop.value.code == 0
    assert capsys.readouterr().out.startswith("usage: nearhit")


def test_version_is_printed_by_the_module_too() -> None:
    printed = subprocess.run(
        [sys.executable, "-m", "nearhit", "--version"], capture_output=True, text=True, check=True
    ).stdout
    assert printed == f"nearhit {__version__}\n"


def test_reader_that_goes_away_is_no_error() -> None:
    script = (
        "import sys\n"
        "from types import ModuleType\n"
        "import importlib.util, nearhit.cli as cli\n"
        "m = ModuleType('nearhit.cli.probe')\n"
        "m.__spec__ = importlib.util.spec_from_loader('nearhit.cli.probe', loader=None)\n"
        "m.register = lambda subparsers: subparsers.add_parser('probe') and None\n"
        "def run(args):\n"
        "    from nearhit.cli._output import results\n"
        "    for n in range(100_000):\n"
        "        results().print(n)\n"
        "    return 0\n"
        "m.run = run\n"
        "sys.modules['nearhit.cli.probe'] = m\n"
        "cli.COMMANDS['probe'] = ''\n"
        "sys.exit(cli.main(['probe']))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "0\n"
        process.stdout.close()
        assert process.wait(timeout=60) == 141
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_json_survives_lone_surrogates(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    cli._never_fail_to_print()
    _output.emit_json({"prompt": "caf\u00e9 \U0001f600"})
    assert capsysbinary.readouterr().out.decode() == '{"prompt": "caf\u00e9 \U0001f600"}\n'


def test_progress_is_silent_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    with _output.progress() as bar:
        assert list(bar.track([1, 2, 3], description="counting")) == [1, 2, 3]
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == ""
