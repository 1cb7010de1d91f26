"""What an embedder does to the process it lives in: imports and forks."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from nearhit import embed
from nearhit.models.replica import Replica

if TYPE_CHECKING:
    from pathlib import Path

PACKAGE = str(embed.__path__[0]).rsplit("/nearhit/", 1)[0]


def python(script: str) -> subprocess.CompletedProcess[str]:
    setup = f"import sys; sys.path.insert(0, {PACKAGE!r})\n"
    command = [sys.executable, "-W", "error", "-c", setup + script]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_importing_the_packages_loads_nothing_heavy() -> None:
    done = python(
        "import nearhit.embed, nearhit.models\n"
        "heavy = {'numpy', 'ctranslate2', 'tokenizers', 'gguf', 'huggingface_hub', 'filelock', 'rich'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="this platform does not fork")
def test_a_forked_child_embeds_and_ends_in_peace(minilm: Path) -> None:
    """CTranslate2 alone hangs in a forked child, and crashes when the child ends."""
    done = python(
        "import os, warnings\n"
        "warnings.simplefilter('ignore', DeprecationWarning)  # Python's own warning about forking with threads\n"
        "from nearhit.embed import CTranslate2Embedder\n"
        "texts = [f'text {i}' for i in range(40)]\n"
        "embedder = CTranslate2Embedder(device='cpu')\n"
        "before = embedder.embed(texts)\n"
        "for use in (True, False):\n"
        "    child = os.fork()\n"
        "    if not child:\n"
        "        if use:\n"
        "            print(abs(embedder.embed(texts) - before).max() < 1e-5, flush=True)\n"
        "        sys.exit(0)\n"
        "    print(os.waitpid(child, 0)[1], flush=True)\n"
        "print(abs(embedder.embed(texts) - before).max() < 1e-5)\n"
    )
    assert done.stdout.split() == ["True", "0", "0", "True"], done.stderr
    assert done.stderr == ""


def test_a_replica_is_started_once_however_many_threads_ask() -> None:
    started = []
    barrier = threading.Barrier(8)

    def start() -> object:
        started.append(1)
        return object()

    replica = Replica(start)

    def ask(_: int) -> object:
        barrier.wait()
        return replica.get()

    with ThreadPoolExecutor(8) as pool:
        values = list(pool.map(ask, range(8)))
    assert len(started) == 1
    assert len({id(value) for value in values}) == 1


def test_a_replica_that_failed_to_start_tries_again() -> None:
    attempts = iter([ValueError("first"), "value"])

    def start() -> str:
        result = next(attempts)
        if isinstance(result, Exception):
            raise result
        return result

    replica = Replica(start)
    with pytest.raises(ValueError, match="first"):
        replica.get()
    assert replica.get() == "value"
