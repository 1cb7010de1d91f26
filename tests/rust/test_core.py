"""The Rust core's own tests, so that one `pytest` runs everything."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def cargo_test(*arguments: str) -> None:
    cargo = shutil.which("cargo") or shutil.which("cargo", path=Path.home() / ".cargo" / "bin")
    assert cargo, "cargo is not on the PATH: the core's tests need the Rust toolchain (https://rustup.rs)"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYO3_")}
    done = subprocess.run(
        [cargo, "test", "--quiet", "--locked", "--package", "nearhit-core", *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"cargo test -p nearhit-core failed:\n{done.stdout[-20_000:]}"
    ran = sum(
        int(line.split("ok. ")[1].split()[0]) for line in done.stdout.splitlines() if line.startswith("test result: ok")
    )
    assert ran > 0, f"no Rust test ran:\n{done.stdout}"


@pytest.mark.timeout(1800)  # compiles the crate and its dependencies in a fresh clone
def test_nearhit_core() -> None:
    cargo_test()


@pytest.mark.timeout(1800)  # likewise
def test_orders_of_the_steps_of_the_caches_and_the_tiers_state() -> None:
    cargo_test("--features", "model", "--lib", "model::")


@pytest.mark.timeout(1800)  # likewise
def test_every_order_of_the_steps_of_the_index() -> None:
    cargo_test("--features", "loom", "--lib", "index::model")
