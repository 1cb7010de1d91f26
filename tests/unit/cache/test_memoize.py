"""`memoize` and single-flight: one call for equal concurrent misses, whoever fails."""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from tests.support.hashing_embedder import HashingEmbedder

import nearhit
from nearhit import AsyncCache, Cache
from nearhit.cache._flight import Flights

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

PROMPT = "How do I reset the password of my account?"
NEARLY = "How do I reset the password of my account"


def test_function_is_called_once_for_equal_and_for_near_prompts() -> None:
    cache = Cache(HashingEmbedder(), threshold=0.8)
    calls: list[str] = []

    @cache.memoize(scope="acme", tags=["help"], ttl=60)
    def answer(prompt: str, *, language: str = "en") -> str:
        """Docs stay."""
        calls.append(prompt)
        return f"{language}: {prompt}"

    assert answer(PROMPT) == answer(PROMPT) == answer(prompt=NEARLY) == f"en: {PROMPT}"
    assert answer(PROMPT, language="de") == f"de: {PROMPT}"
    assert calls == [PROMPT, PROMPT]
    assert answer.__name__ == "answer"
    assert answer.__doc__ == "Docs stay."
    assert cache.invalidate(scope="acme") == 2
    answer(PROMPT)
    assert len(calls) == 3


def test_two_functions_and_two_scopes_do_not_share_answers() -> None:
    cache = Cache()

    @cache.memoize
    def one(prompt: str, user: str = "a") -> str:
        return f"one {user}"

    @cache.memoize(prompt="question", scope=lambda arguments: arguments["user"])
    def two(user: str, question: str) -> str:
        return f"two {user}"

    assert one("hi") == "one a"
    assert two("b", "hi") == "two b"
    assert two("c", "hi") == "two c"
    assert {scope.scope for scope in cache.stats().scopes} == {None, "b", "c"}


def test_methods_and_messages_can_be_memoised() -> None:
    cache = Cache()

    class Client:
        @cache.memoize
        def ask(self, messages: list[dict[str, str]]) -> list[str]:
            return [message["content"] for message in messages]

    turns = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    assert Client().ask(turns) == Client().ask(turns) == ["s", "u"]
    assert cache.stats().stores == 1


def test_nothing_is_stored_when_the_function_fails() -> None:
    cache = Cache()
    outcomes = iter([ValueError("first"), "second"])

    @cache.memoize
    def answer(prompt: str) -> str:
        outcome = next(outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    with pytest.raises(ValueError, match="first"):
        answer("hi")
    assert len(cache) == 0
    assert answer("hi") == answer("hi") == "second"


def test_streams_are_recorded_and_played_back() -> None:
    cache = Cache()
    calls: list[str] = []

    @cache.memoize
    def stream(prompt: str) -> Iterator[str]:
        calls.append(prompt)
        yield from ("a", "b", "c")

    first = stream("hi")
    assert next(first) == "a"
    first.close()  # not at its end: nothing to store
    assert len(cache) == 0
    assert list(stream("hi")) == list(stream("hi")) == ["a", "b", "c"]
    assert calls == ["hi", "hi"]


async def test_coroutines_and_async_streams() -> None:
    cache = AsyncCache(HashingEmbedder(), threshold=0.8)
    calls: list[str] = []

    @cache.memoize
    async def answer(prompt: str) -> str:
        calls.append(prompt)
        await asyncio.sleep(0.01)
        return "Click."

    @cache.memoize
    async def stream(prompt: str) -> AsyncIterator[str]:
        calls.append(prompt)
        for piece in "xyz":
            yield piece

    assert await asyncio.gather(*(answer(PROMPT) for _ in range(20))) == ["Click."] * 20
    assert await answer(NEARLY) == "Click."
    assert [piece async for piece in stream(PROMPT)] == [piece async for piece in stream(PROMPT)] == ["x", "y", "z"]
    assert calls == [PROMPT, PROMPT]


def test_a_function_without_a_prompt_is_refused() -> None:
    cache = Cache()
    with pytest.raises(nearhit.OptionError, match="parameter"):
        cache.memoize(lambda: "x")
    with pytest.raises(nearhit.OptionError, match="question"):
        cache.memoize(prompt="question")(lambda prompt: prompt)
    with pytest.raises(nearhit.ThresholdError):
        cache.memoize(threshold=2.0)


def test_threads_share_one_call() -> None:
    cache = Cache()
    calls: list[int] = []

    @cache.memoize
    def answer(prompt: str) -> str:
        calls.append(threading.get_ident())
        time.sleep(0.05)
        return prompt

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(answer, ["hi"] * 8)) == ["hi"] * 8
    assert len(calls) == 1


def test_failing_leaders_pass_the_lead_to_one_follower_at_a_time() -> None:
    flights = Flights()
    lock = threading.Lock()
    running = most = made = 0

    def call() -> str:
        nonlocal running, most, made
        with lock:
            running += 1
            made += 1
            most, turn = max(most, running), made
        time.sleep(0.01)
        with lock:
            running -= 1
        if turn <= 3:
            raise RuntimeError(f"turn {turn}")
        return "landed"

    def run() -> str:
        try:
            return flights.run("key", call)
        except RuntimeError as error:
            return str(error)

    with ThreadPoolExecutor(8) as pool:
        outcomes = sorted(pool.map(lambda _: run(), range(8)))
    assert outcomes == ["landed"] * 5 + ["turn 1", "turn 2", "turn 3"]
    assert (most, made) == (1, 4)
    assert len(flights) == 0


async def test_a_cancelled_leader_promotes_a_follower() -> None:
    flights = Flights()
    started = asyncio.Event()
    made = 0

    async def call() -> int:
        nonlocal made
        made += 1
        started.set()
        await asyncio.sleep(0.03)
        return made

    leader = asyncio.create_task(flights.run_async("key", call))
    await started.wait()
    followers = [asyncio.create_task(flights.run_async("key", call)) for _ in range(5)]
    await asyncio.sleep(0)
    followers[0].cancel()
    leader.cancel()
    outcomes = await asyncio.gather(leader, *followers, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes[:2]] == [asyncio.CancelledError] * 2
    assert outcomes[2:] == [2] * 4
    assert len(flights) == 0


async def test_a_follower_cancelled_at_its_promotion_passes_the_lead_on() -> None:
    flights = Flights()
    gate = asyncio.Event()

    async def failing() -> None:
        await gate.wait()
        raise RuntimeError("no")

    async def call() -> str:
        return "landed"

    leader = asyncio.create_task(flights.run_async("key", failing))
    await asyncio.sleep(0)
    first, second = (asyncio.create_task(flights.run_async("key", call)) for _ in range(2))
    await asyncio.sleep(0)
    leader.add_done_callback(lambda _: first.cancel())
    gate.set()
    outcomes = await asyncio.wait_for(asyncio.gather(leader, first, second, return_exceptions=True), 5)
    assert isinstance(outcomes[0], RuntimeError)
    assert outcomes[2] == "landed"
    assert len(flights) == 0


def test_waiting_is_bounded() -> None:
    flights = Flights(patience=0.02)
    release = threading.Event()
    leader = threading.Thread(target=lambda: flights.run("key", lambda: release.wait(10)))
    leader.start()
    while not len(flights):
        time.sleep(0.001)
    assert flights.run("key", lambda: "own call") == "own call"
    release.set()
    leader.join()
    assert len(flights) == 0


def test_threads_and_tasks_wait_for_each_other() -> None:
    flights = Flights()
    calls: list[str] = []

    def slow() -> str:
        calls.append("thread")
        time.sleep(0.05)
        return "landed"

    async def quick() -> str:
        calls.append("task")
        return "landed"

    with ThreadPoolExecutor(1) as pool:
        leader = pool.submit(flights.run, "key", slow)
        while not calls:
            time.sleep(0.001)
        assert asyncio.run(flights.run_async("key", quick)) == "landed"
        assert leader.result() == "landed"
    assert calls == ["thread"]


def test_only_the_named_parameters_have_to_match() -> None:
    cache = Cache()
    calls: list[object] = []

    @cache.memoize(prompt="question", key=["language"])
    def ask(client: object, question: str, *, language: str = "en", timeout: float = 1.0) -> str:
        calls.append(client)
        return f"{language} {question}"

    assert ask(object(), "hi", timeout=2.0) == ask(object(), "hi", timeout=3.0) == "en hi"
    assert ask(object(), "hi", language="de") == "de hi"
    assert len(calls) == 2
    with pytest.raises(nearhit.OptionError, match="lang"):
        cache.memoize(key=["lang"])(ask)
    with pytest.raises(nearhit.OptionError, match="names of parameters"):
        cache.memoize(key="language")


def test_an_argument_that_cannot_be_compared_is_refused_before_the_call() -> None:
    cache = Cache()

    @cache.memoize
    def ask(prompt: str, client: object) -> str:
        raise AssertionError("not to be called")

    with pytest.raises(nearhit.RequestError) as refused:
        ask("hi", object())
    assert "client=object" in refused.value.__notes__[0]
    assert "key=" in refused.value.__notes__[0]


async def test_class_and_static_methods_partials_and_callable_objects() -> None:
    cache = Cache()

    class Client:
        def __init__(self, name: str) -> None:
            self.name = name

        @cache.memoize
        @classmethod
        def of_class(cls, prompt: str) -> str:
            return f"{cls.__name__} {prompt}"

        @cache.memoize
        @staticmethod
        def of_none(prompt: str) -> str:
            return f"static {prompt}"

        @cache.memoize
        def stream(self, prompt: str) -> Iterator[str]:
            yield f"{self.name} {prompt}"

        async def __call__(self, prompt: str) -> str:
            return f"{self.name} called {prompt}"

    client = Client("first")
    assert Client.of_class("hi") == client.of_class("hi") == "Client hi"
    assert Client.of_none("hi") == client.of_none("hi") == "static hi"
    assert list(client.stream("hi")) == list(Client("second").stream("hi")) == ["first hi"]
    assert await cache.memoize(client)("hi") == "first called hi"

    def greet(greeting: str, prompt: str) -> str:
        return f"{greeting} {prompt}"

    assert cache.memoize(functools.partial(greet, "hello"), prompt="prompt")("you") == "hello you"
    with pytest.raises(nearhit.OptionError, match="patience"):
        cache.memoize(patience=0)
