"""The router in front of real local servers that fail in every way: no request lost, none answered twice."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from tests.support import chat_server as chat
from tests.support.http_server import Server

import nearhit
from nearhit import AsyncRouter, Cache, OpenAITier, Router
from nearhit.tiers import Timeouts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.http_server import Handler

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
