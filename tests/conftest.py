"""Fixtures for every test: the default models, and the real data.

The models are fetched once into NEARHIT_HOME, or the user's cache folder, and kept there; `-m "not models"` leaves out
every test that needs them.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nearhit.embed import CTranslate2Embedder

MODEL_FIXTURES = {"minilm", "smollm", "embedder"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks every test that asks for a model, so that no marker can be forgotten."""
    for item in items:
        if MODEL_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.models)


@pytest.fixture(scope="session")
def minilm() -> Path:
    """Folder of the default embedder's own files (safetensors)."""
    from nearhit import models  # noqa: PLC0415 - only where a test asks for it

    return models.fetch(models.EMBEDDER)


@pytest.fixture(scope="session")
def smollm() -> Path:
    """Folder of the default generator's own files (GGUF)."""
    from nearhit import models  # noqa: PLC0415 - only where a test asks for it

    return models.fetch(models.GENERATOR)


@pytest.fixture(scope="session")
def embedder(minilm: Path) -> CTranslate2Embedder:
    """The default embedder, int8 on the CPU."""
    from nearhit.embed import CTranslate2Embedder  # noqa: PLC0415 - only where a test asks for it

    return CTranslate2Embedder(device="cpu")


@pytest.fixture
def interruptible() -> Iterator[None]:
    """SIGINT interrupts, though a shell that runs the tests in the background has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def data() -> Path:
    """Folder of the real data; tests that need it are skipped where it is absent."""
    configured = os.environ.get("NEARHIT_DATA")
    beside = Path(__file__).resolve().parents[1].parent / "shared" / "data"
    folder = Path(configured) if configured else beside
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set NEARHIT_DATA")
    return folder
