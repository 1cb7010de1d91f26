"""What `nearhit.openai.wrap` adds to an OpenAI client, bare and wrapped calls taken in turns against a local server.

    python -m benches.peers.wrapped_client

Prints JSON: microseconds, medians of calls taken in turns, so that a busy machine slows both sides alike.
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from statistics import median
from typing import TYPE_CHECKING, Any

import openai
from tests.support.chat_server import answers, event, piece, sends
from tests.support.http_server import Server

from nearhit import Cache
from nearhit.answers import Recorder
from nearhit.openai import wrap

if TYPE_CHECKING:
    from collections.abc import Callable

CHUNKS = 1000
MODEL = "test-model"


def messages(text: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": "You are a helpful assistant."}, {"role": "user", "content": text}]


def timed(call: Callable[..., Any], *given: Any) -> float:
    start = time.perf_counter()
    call(*given)
    return (time.perf_counter() - start) * 1e6


def in_turns(calls: dict[str, Callable[[int], Any]], rounds: int) -> dict[str, float]:
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds):
        for name, call in calls.items():
            taken[name].append(timed(call, number))
    return {name: median(found) for name, found in taken.items()}


def main() -> None:
    stream = [piece({"role": "assistant", "content": ""})]
    stream += [piece({"content": "word "}) for _ in range(CHUNKS)]
    stream.append(piece({}, finish="stop"))
    sent = b"".join(map(event, stream)) + event("[DONE]")
    figures: dict[str, float] = {}
    with Server(default=answers()) as server:
        bare = openai.OpenAI(api_key="sk-test", base_url=server.url)
        wrapped = wrap(bare, cache=Cache())

        def ask(client: Any, text: str, **options: Any) -> Any:
            return client.chat.completions.create(model=MODEL, messages=messages(text), **options)

        for warm in range(50):
            ask(bare, f"warm {warm}")
            ask(wrapped, f"warm {warm}")
        miss = in_turns({"bare": lambda n: ask(bare, f"b{n}"), "wrapped": lambda n: ask(wrapped, f"w{n}")}, 400)
        figures["miss: bare"], figures["miss: wrapped"] = miss["bare"], miss["wrapped"]
        figures["miss: added"] = miss["wrapped"] - miss["bare"]
        ask(wrapped, "hit")
        create = wrapped.chat.completions.create
        hit = messages("hit")
        found = [timed(lambda: create(model=MODEL, messages=hit)) for _ in range(5000)]
        figures["exact hit"] = median(found)
        figures["create of the package itself, until it sends"] = until_sent(bare)

        server.default = sends(sent)

        def drain(client: Any, text: str) -> None:
            for _ in ask(client, text, stream=True):
                pass

        drain(wrapped, "stream")
        first = [timed(lambda: next(ask(wrapped, "stream", stream=True))) for _ in range(500)]
        figures[f"first replayed chunk of {CHUNKS}"] = median(first)
        passing = in_turns({"bare": lambda n: drain(bare, f"s{n}"), "wrapped": lambda n: drain(wrapped, f"s{n}")}, 30)
        figures["passthrough: bare, a chunk"] = passing["bare"] / CHUNKS
        figures["passthrough: added, a chunk, storing at the end included"] = (
            passing["wrapped"] - passing["bare"]
        ) / CHUNKS
    figures["recording: processor time a chunk, all of it"] = recording(sent)
    print(json.dumps({name: round(value, 2) for name, value in figures.items()}, indent=2))


def recording(sent: bytes) -> float:
    """Processor time of recording a stream, reading it at its end and checking that it is whole."""
    parts = [part + b"\n\n" for part in sent.split(b"\n\n") if part]

    def once() -> float:
        start = time.process_time()
        recorder = Recorder("chat", {})
        for part in parts:
            recorder.feed(part)
        recorder.finish(ended=True)
        return (time.process_time() - start) * 1e6 / len(parts)

    return median(once() for _ in range(30))


def until_sent(client: openai.OpenAI) -> float:
    """What the package takes from the call of `create` to its first look at the connection."""

    class StopError(Exception):
        pass

    class Stopping(openai.OpenAI):
        def request(self, *_: Any, **__: Any) -> Any:
            raise StopError

    stopping = Stopping(api_key=client.api_key, base_url=client.base_url)
    asked = messages("hit")

    def call() -> None:
        with suppress(StopError):
            stopping.chat.completions.create(model=MODEL, messages=asked)  # type: ignore[call-overload]

    return median(timed(call) for _ in range(1000))


if __name__ == "__main__":
    main()
