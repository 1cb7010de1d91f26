"""Examples in docstrings run and print what they say."""

from __future__ import annotations

import doctest
import importlib
import importlib.util
import pkgutil
from pathlib import Path

import pytest

import nearhit

SKIPPED = ("nearhit.__main__",)  # running it is running the command line
NAMES = sorted(
    module.name
    for module in pkgutil.walk_packages([str(Path(nearhit.__file__).parent)], "nearhit.", onerror=lambda _: None)
    if module.name not in SKIPPED and "._core" not in module.name
)


@pytest.mark.parametrize("name", NAMES)
def test_examples_print_what_they_say(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # no look at the network for prices
    source = Path(importlib.util.find_spec(name).origin).read_text(encoding="utf-8")
    if ">>> " not in source:
        return
    failed, _ = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert failed == 0


def test_there_are_examples() -> None:
    finder = doctest.DocTestFinder()
    assert sum(bool(test.examples) for test in finder.find(importlib.import_module("nearhit.openai._wrap"))) > 0
