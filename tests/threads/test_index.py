from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from nearhit import VectorIndex


@pytest.mark.parametrize("storage", ["f32", "int8"])
def test_readers_and_writers_share_an_index(storage: Any) -> None:
    rng = np.random.default_rng(3)
    rows = rng.standard_normal((4000, 80)).astype(np.float32)
    index = VectorIndex(80, storage=storage)
    anchor = rng.standard_normal(80).astype(np.float32)
    kept = index.add(anchor)
    done = threading.Event()
    failures: list[str] = []

    def write(part: np.ndarray) -> None:
        held: list[int] = []
        for row in part:
            held.append(index.add(row))
            if len(held) > 300 and not index.remove(held.pop(0)):
                failures.append("an id that was added could not be removed")

    def read() -> None:
        while not done.is_set():
            found = index.search(anchor, 0.99, 1)
            if [id_ for id_, _ in found] != [kept]:
                failures.append(f"the vector that stays was not found: {found}")

    writers = [threading.Thread(target=write, args=(rows[start::2],)) for start in (0, 1)]
    readers = [threading.Thread(target=read) for _ in range(2)]
    for thread in writers + readers:
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    for thread in readers:
        thread.join()
    assert not failures
    assert len(index) == 601
    index.validate()
