"""A near hit from text to answer beside the encoder alone: in one call of the core, and stage by stage.

    python benches/python/near_hit.py [--entries 100000] [--tokens 9] [--vectors FILE.npz] [--json]

Entries are the questions of the pairs and of the stream (`../shared/data`, or NEARHIT_DATA); queries are paraphrases of
some of them, of just so many tokens, that are no entries and are answered. All take turns query by query, so that what
else the machine does meets them alike. The first run embeds the entries; `--vectors` keeps them for the next.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import os
import sys
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any

from nearhit import Cache
from nearhit.embed import NativeEmbedder
from nearhit.evaluate.vectors import embed_all

if TYPE_CHECKING:
    from collections.abc import Callable

DATA = Path(os.environ.get("NEARHIT_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
QUERIES = 200
ROUNDS = 5
MEMO = 64  # fewer than there are queries, so that each round embeds them anew
CALLS = 500  # of an exact hit and of a repeat at a time: one takes less than the clock can tell


class Staged(NativeEmbedder):
    """Not the native embedder itself, so that the cache asks it in Python and goes stage by stage."""


def questions() -> tuple[list[str], list[str]]:
    """Every different question, and those that ask what another one asks."""
    seen: dict[str, None] = {}
    paraphrases: dict[str, None] = {}
    with gzip.open(DATA / "pairs_qqp.jsonl.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            pair = json.loads(line)
            texts = [pair["a"].strip(), pair["b"].strip()]
            seen |= dict.fromkeys(text for text in texts if text)
            if pair["label"] == 1 and texts[1]:
                paraphrases[texts[1]] = None
    with gzip.open(DATA / "stream_qqp.jsonl.gz", "rt", encoding="utf-8") as lines:
        seen |= dict.fromkeys(json.loads(line)["prompt"].strip() for line in lines)
    return list(seen), list(paraphrases)


def filled(embedder: NativeEmbedder, entries: list[str], vectors: Any) -> Cache:
    """A cache that holds the entries."""
    cache = Cache(embedder, max_bytes=None, embedding_memo=MEMO)
    for text, vector in zip(entries, vectors, strict=True):
        cache.store(text, text, vector=vector)
    return cache


def timed(call: Callable[[], Any], calls: int = 1) -> float:
    """Seconds of one call, the mean of so many."""
    started = perf_counter()
    for _ in itertools.repeat(None, calls):
        call()
    return (perf_counter() - started) / calls


def told(done: int, total: int) -> None:
    """Says how far the embedding is, now and then."""
    if done % 8192 == 0:
        print(f"embedded {done} of {total}", file=sys.stderr)


def run(entries: int, tokens: int, store: Path | None) -> dict[str, Any]:
    """All figures: medians in seconds, and their ratios to the encoder alone."""
    native, staged = NativeEmbedder(), Staged()
    every, paraphrases = questions()
    asked = [text for text in paraphrases if len(native.encoder.tokenise(text)[0]) == tokens][: 4 * QUERIES]
    left_out = set(asked)
    kept = [text for text in every if text not in left_out][:entries]
    vectors = embed_all(kept, native, store=store, advance=told).of(kept)
    whole, stages = filled(native, kept, vectors), filled(staged, kept, vectors)
    near = [text for text in asked if (hit := stages.lookup(text)) is not None and hit.kind == "near"][:QUERIES]
    turns: dict[str, Callable[[str], Any]] = {
        "encoder alone": lambda text: native.encode([text]),
        "one call": whole.lookup,
        "stage by stage": stages.lookup,
    }
    times: dict[str, list[float]] = {name: [] for name in (*turns, "repeat", "repeat, traced", "equal request")}
    for _, text in itertools.product(range(ROUNDS), near):
        for name, call in turns.items():
            times[name].append(timed(lambda call=call, text=text: call(text)))
            whole.lookup(kept[0])  # leaves both caches alike warm
        times["repeat"].append(timed(lambda text=text: whole.lookup(text), 20))
        times["repeat, traced"].append(timed(lambda text=text: whole.lookup_traced(text), 20))
    for _ in near:
        times["equal request"].append(timed(lambda: whole.lookup(kept[7]), CALLS))
    medians = {name: median(taken) for name, taken in times.items()}
    alone = medians["encoder alone"]
    return {
        "entries": len(kept),
        "tokens": tokens,
        "queries": len(near),
        "seconds": medians,
        "by_encoder": {name: seconds / alone for name, seconds in medians.items()},
    }


def main() -> None:
    """Reads the options and prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--tokens", type=int, default=9)
    parser.add_argument("--vectors", type=Path, help="file that keeps the entries' vectors")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    result = run(options.entries, options.tokens, options.vectors)
    if options.json:
        print(json.dumps(result))
        return
    print(f"{result['queries']} queries of {result['tokens']} tokens, {result['entries']} entries")
    for name, seconds in result["seconds"].items():
        print(f"{name:20} {seconds * 1e6:10.2f} µs {result['by_encoder'][name]:9.4f}")


if __name__ == "__main__":
    main()
