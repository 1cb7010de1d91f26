"""Look-alikes and paraphrases against the default cache with the real embedder. Written down once, not tuned on."""

import json
from pathlib import Path

import pytest

from nearhit import Cache, embed

ROWS = [
    json.loads(line)
    for line in (Path(__file__).parents[1] / "support" / "traps.jsonl").read_text(encoding="utf-8").splitlines()
]


def rates(**options: object) -> tuple[float, float]:
    """Share of look-alikes that were served, and of paraphrases and repeats."""
    embedder = embed.load()
    served: dict[int, list[bool]] = {0: [], 1: []}
    for row in ROWS:
        cache = Cache(embedder, **options)  # type: ignore[arg-type]
        cache.store(row["a"], "an answer")
        served[row["label"]].append(cache.lookup(row["b"]) is not None)
    return sum(served[0]) / len(served[0]), sum(served[1]) / len(served[1])


@pytest.mark.models
def test_few_look_alikes_are_served_and_most_paraphrases() -> None:
    false, right = rates()
    assert false <= 0.07
    assert right >= 0.8
    by_similarity, _ = rates(policy="static")
    assert false < by_similarity / 4
