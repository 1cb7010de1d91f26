"""The router in front of real local servers that fail in every way: no request lost, none answered twice."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.support import chat_server as chat
from tests.support.http_server import Server

import nearhit
from nearhit import AsyncRouter, Cache, OpenAITier, ReplicaTier, Router
from nearhit.tiers import Timeouts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.http_server import Handler, Reply, Request

EASY = "What is the capital of France?"
ANSWER = "Hello, world"


@pytest.fixture
def first() -> Iterator[Server]:
    with Server(default=chat.chats()) as running:
        yield running


@pytest.fixture
def second() -> Iterator[Server]:
    with Server(default=chat.chats()) as running:
        yield running


def tier(name: str, url: str, **limits: float) -> OpenAITier:
    return OpenAITier(name, "m", base_url=url, api_key="k", timeouts=Timeouts(**limits), trust_env=False)


BEFORE_CONTENT = {
    "server error": chat.fails(503),
    "rate limit": chat.rate_limits(),
    "wrong key": chat.fails(401),
    "malformed stream": chat.sends(b"data: {not json\n\n"),
    "cut after the role": chat.cuts(1),
    "empty stream": chat.sends(b"data: [DONE]\n\n"),
    "hang": chat.hangs(),
    "stall after the role": chat.stalls(1),
    "slow first token": chat.streams(first=5.0),
}


@pytest.mark.parametrize("fault", BEFORE_CONTENT)
def test_another_tier_answers_what_fails_before_content(first: Server, second: Server, fault: str) -> None:
    first.then(BEFORE_CONTENT[fault])
    with tier("first", first.url, first_token=0.3) as one, tier("second", second.url) as two:
        completion = Router([one, two]).complete(EASY, deadline=20)
    assert completion.text == ANSWER
    assert completion.tier == "second"
    assert [attempt.outcome for attempt in completion.trace.attempts] == ["failed", "answered"]
    assert len(second.requests) == 1


def test_another_tier_answers_where_nobody_listens(second: Server) -> None:
    nowhere = f"http://127.0.0.1:{chat.refused_port()}/v1"
    with tier("first", nowhere) as one, tier("second", second.url) as two:
        assert Router([one, two]).complete(EASY).tier == "second"


@pytest.mark.parametrize("fault", [chat.cuts(3), chat.stalls(3), chat.sends(chat.event(chat.piece({"content": "x"})))])
def test_a_fault_after_content_is_the_callers_to_see(first: Server, second: Server, fault: Handler) -> None:
    first.then(fault)
    cache = Cache()
    with tier("first", first.url, stall=0.3) as one, tier("second", second.url) as two:
        stream = Router([one, two], cache=cache).stream(EASY)
        with pytest.raises(nearhit.TierError):
            list(stream)
    assert not second.requests
    assert stream.trace.outcome == "error"
    assert len(cache) == 0


def test_a_request_that_is_wrong_is_not_tried_elsewhere(first: Server, second: Server) -> None:
    first.then(chat.fails(400, "no such parameter"))
    with tier("first", first.url) as one, tier("second", second.url) as two:
        router = Router([one, two])
        with pytest.raises(nearhit.TierStatusError, match="no such parameter"):
            router.complete(EASY)
        assert not second.requests
        assert router.state()["first"]["failures"] == 0


def test_the_deadline_covers_the_whole_chain(first: Server, second: Server) -> None:
    first.then(chat.hangs())
    second.then(chat.hangs())
    with tier("first", first.url, first_token=0.2) as one, tier("second", second.url) as two:
        router = Router([one, two])
        with pytest.raises(nearhit.DeadlineError):
            router.complete(EASY, deadline=0.6)
        state = router.state()
    assert len(second.requests) == 1
    assert all(each["in_flight"] == 0 for each in state.values())


def test_a_tier_that_keeps_failing_is_left_alone_until_its_probe(first: Server, second: Server) -> None:
    first.then(*[chat.fails(500)] * 3)
    with tier("first", first.url) as one, tier("second", second.url) as two:
        router = Router([one, two], breaker_failures=3, breaker_cooldown=0.2)
        for _ in range(6):
            assert router.complete(EASY).tier == "second"
        assert len(first.requests) == 3
        threading.Event().wait(0.3)
        assert router.complete(EASY).tier == "first"
        assert router.state()["first"]["down_for"] == 0


def test_many_requests_over_failing_tiers_lose_nothing(first: Server, second: Server) -> None:
    first.then(*[chat.fails(500), chat.chats(), chat.cuts(1), chat.chats(), chat.rate_limits(None)] * 20)
    with tier("first", first.url) as one, tier("second", second.url) as two:
        router = Router([one, two], breaker_failures=1000)
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda number: router.complete(f"{EASY} {number}"), range(100)))
        state = router.state()
    assert {answer.text for answer in answers} == {ANSWER}
    assert sum(len(answer.trace.attempts) for answer in answers) == len(first.requests) + len(second.requests)
    assert state["first"]["failures"] == 60
    assert all(each["in_flight"] == 0 for each in state.values())


async def test_a_caller_that_goes_away_closes_the_connection(first: Server) -> None:
    first.then(chat.stalls(3))
    async with tier("first", first.url) as one:
        router = AsyncRouter([one])
        before = len(asyncio.all_tasks())
        async with router.stream(EASY) as stream:
            assert (await anext(stream)).text is not None
        assert stream.trace.attempts[0].outcome == "cancelled"
        await asyncio.sleep(0.05)
        assert len(asyncio.all_tasks()) == before
        assert router.state()["first"]["in_flight"] == 0


def test_an_answer_is_stored_while_it_passes_and_replayed(first: Server) -> None:
    with tier("first", first.url) as one:
        router = Router([one], cache=Cache())
        assert "".join(chunk.text for chunk in router.stream(EASY)) == ANSWER
        again = router.complete(EASY)
    assert again.trace.outcome == "exact"
    assert again.text == ANSWER
    assert len(first.requests) == 1


PASSING = ["server error", "rate limit", "malformed stream", "cut after the role", "empty stream"]


@pytest.mark.parametrize("fault", PASSING)
def test_the_only_tier_is_asked_again_after_what_may_pass(first: Server, fault: str) -> None:
    first.then(chat.rate_limits("0.1") if fault == "rate limit" else BEFORE_CONTENT[fault])
    with tier("only", first.url) as one:
        completion = Router([one]).complete(EASY)
    assert completion.text == ANSWER
    assert [(attempt.why, attempt.outcome) for attempt in completion.trace.attempts] == [
        ("chosen", "failed"), ("retry", "answered")
    ]  # fmt: skip
    assert len(first.requests) == 2


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_honoured_in_both_forms(first: Server, form: str) -> None:
    now = time.time()
    headers = {"retry-after": "1"}
    if form == "date":
        headers = {"retry-after": formatdate(now + 1, usegmt=True), "date": formatdate(now, usegmt=True)}
    first.then(chat.answers({"error": {"message": "slow down"}}, status=429, headers=headers))
    with tier("only", first.url) as one:
        completion = Router([one]).complete(EASY)
    assert completion.text == ANSWER
    assert completion.trace.seconds("pause") >= 1.0


def test_a_server_that_is_not_there_is_tried_again_and_then_reported() -> None:
    nowhere = f"http://127.0.0.1:{chat.refused_port()}/v1"
    heard: list[nearhit.Trace] = []
    with tier("only", nowhere) as one, pytest.raises(nearhit.TierConnectionError):
        Router([one], on_trace=heard.append).complete(EASY)
    assert [attempt.why for attempt in heard[0].attempts] == ["chosen", "retry", "retry"]


async def test_the_loser_of_a_hedge_is_cancelled_at_its_server(first: Server, second: Server) -> None:
    async with tier("first", first.url) as one, tier("second", second.url) as two:
        router = AsyncRouter([one, two], hedge_share=0.05)
        for _ in range(20):
            await router.complete(EASY)
        first.then(chat.streams(first=5.0))
        completion = await router.complete(EASY)
        assert completion.text == ANSWER
        assert [(a.tier, a.why, a.outcome) for a in completion.trace.attempts] == [
            ("first", "chosen", "cancelled"), ("second", "hedge", "answered")
        ]  # fmt: skip
    assert len(second.requests) == 1


@pytest.mark.parametrize("fault", [chat.hangs(), chat.stalls(1), chat.stalls(3)], ids=["hang", "no token", "half"])
async def test_a_caller_that_goes_away_is_seen_by_the_server(first: Server, second: Server, fault: Handler) -> None:
    first.then(fault)
    async with tier("first", first.url) as one, tier("second", second.url) as two:
        router = AsyncRouter([one, two])
        before = len(asyncio.all_tasks())
        task = asyncio.ensure_future(router.complete(EASY))
        await asyncio.to_thread(first.received.wait, 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(first.departed.wait, 5)
        assert len(asyncio.all_tasks()) == before
    assert not second.requests


def test_a_synchronous_stream_that_is_closed_early_is_seen_by_the_server(first: Server) -> None:
    first.then(chat.stalls(3))
    with tier("first", first.url) as one:
        router = Router([one])
        with router.stream(EASY) as stream:
            assert next(stream) is not None
        assert first.departed.wait(5)
        assert stream.trace.attempts[0].outcome == "cancelled"
        assert router.state()["first"]["in_flight"] == 0


def test_replicas_stand_in_for_each_other(first: Server, second: Server) -> None:
    first.then(*[BEFORE_CONTENT[fault] for fault in ("server error", "malformed stream", "cut after the role")] * 2)
    with ReplicaTier("both", [tier("one", first.url), tier("two", second.url)], affinity=None) as both:
        router = Router([both], retries=0)
        answers = [router.complete(f"{EASY} {number}") for number in range(30)]
    assert {answer.text for answer in answers} == {ANSWER}
    assert sum(state["in_flight"] for state in both.state().values()) == 0
    tried = sum(1 + sum(span.name == "replica" for span in answer.trace.spans) for answer in answers)
    assert tried == len(first.requests) + len(second.requests)


FAULTS = [
    *(chat.fails(500), chat.cuts(1), chat.rate_limits(None)),
    *(chat.sends(b"data: {not json\n\n"), chat.stalls(1), chat.hangs()),
]
REQUESTS = 10_000


def descriptors_open() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@pytest.mark.timeout(600)  # half a minute on an idle machine
async def test_ten_thousand_requests_lose_nothing_and_leave_nothing_behind(first: Server, second: Server) -> None:
    """One in twenty meets a fault, one in fifty callers goes away; what is counted at the end must add up."""
    every: Handler = chat.sends(*[b"".join(chat.event(piece) for piece in chat.pieces())])
    calls = Counter[str]()

    async def sometimes(request: Request, reply: Reply) -> None:
        calls["first"] += 1
        await (FAULTS[calls["first"] // 20 % len(FAULTS)] if calls["first"] % 20 == 0 else every)(request, reply)

    first.default, second.default = sometimes, every
    outcomes = Counter[str]()
    async with tier("first", first.url, first_token=0.5) as one, tier("second", second.url) as two:
        router = AsyncRouter([one, two], breaker_failures=1_000, hedge_share=0.02)

        async def worker(numbers: range) -> None:
            for number in numbers:
                if number % 50 == 0:
                    async with router.stream(f"{EASY} {number}") as stream:
                        with contextlib.suppress(StopAsyncIteration):
                            await anext(stream)
                    outcomes["left"] += 1
                    continue
                completion = await router.complete(f"{EASY} {number}")
                assert completion.text == ANSWER
                assert [a.outcome for a in completion.trace.attempts].count("answered") == 1
                outcomes["answered"] += 1

        await worker(range(1, 200))
        gc.collect()
        tasks, descriptors = len(asyncio.all_tasks()), descriptors_open()
        await asyncio.gather(*(worker(range(200 + at, REQUESTS + 1, 16)) for at in range(16)))
        gc.collect()
        assert outcomes.total() == REQUESTS
        assert len(asyncio.all_tasks()) == tasks
        # Sixteen callers at once keep up to sixteen connections with either server, each with an end on both sides.
        assert descriptors_open() <= descriptors + 2 * 2 * 16
        assert all(state["in_flight"] == 0 for state in router.state().values())
    assert calls["first"] == len(first.requests)
    assert len(first.requests) + len(second.requests) >= REQUESTS
