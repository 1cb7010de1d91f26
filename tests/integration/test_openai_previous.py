"""The previous major version of the openai package passes the very tests of the current one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import openai
import pytest

ROOT = Path(__file__).parents[2]
PREVIOUS = "openai>=2,<3"
NEEDS = ("distro", "httpx", "httpcore", "jiter", "sniffio", "tqdm")  # what it needs beyond the current one's needs


@pytest.mark.timeout(600)
def test_the_previous_major_version_can_be_wrapped(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(tmp_path)]
    installed = subprocess.run([*pip, PREVIOUS, *NEEDS], capture_output=True, text=True, check=False)
    if installed.returncode:
        pytest.skip(f"pip cannot install {PREVIOUS} here: {installed.stderr.strip()[-200:]}")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    version = [sys.executable, "-c", "import openai; print(openai.__version__)"]
    found = subprocess.run(version, env=environment, capture_output=True, text=True, check=True).stdout.strip()
    assert found.startswith("2.")
    assert found != openai.__version__
    tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/unit/openai/test_wrap.py"]
    done = subprocess.run(tests, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
