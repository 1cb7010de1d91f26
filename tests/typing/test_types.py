"""The annotations hold: mypy strict over the package, the stub against the compiled module, and a user's view."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ALLOWED = str(Path(__file__).with_name("stubtest-allowlist.txt"))
pytestmark = pytest.mark.timeout(600)  # mypy reads numpy's stubs from scratch in a fresh clone


def run(*arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_package_passes_mypy_strict() -> None:
    run("mypy")


def test_stub_matches_the_compiled_module() -> None:
    run("mypy.stubtest", "nearhit._core", "--mypy-config-file", "pyproject.toml", "--allowlist", ALLOWED, "--concise")


@pytest.mark.parametrize("code", ["usage.py", "openai_usage.py"])
def test_users_code_gets_the_types_it_should(code: str) -> None:
    run("mypy", f"tests/typing/{code}")


def test_pyright_agrees_about_a_wrapped_client() -> None:
    run("pyright", "--pythonpath", sys.executable, "tests/typing/openai_usage.py")
