"""Equal requests under way at the same time: one is sent; the others get its answer, and never hang."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx2
import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from tests.support.chat_server import answers, body, event, fails, pieces, serves_all, streams
from tests.support.http_server import Server

from nearhit import Cache, FunctionTier, Router
from nearhit.openai import counts, info, wrap

HELLO = [{"role": "user", "content": "Say hello to the whole wide world"}]
MANY = 8


def waits(handler, seconds=0.15):
    async def handle(request, reply):
        await asyncio.sleep(seconds)
        await handler(request, reply)

    return handle


@pytest.fixture
def server():
    with Server(default=waits(serves_all())) as running:
        yield running


@pytest.fixture
def bare(server):
    with OpenAI(api_key="sk-test", base_url=server.url, max_retries=0) as client:
        yield client


@pytest.fixture
def client(bare):
    return wrap(bare, cache=Cache())


def ask(client, **options):
    return client.chat.completions.create(model="test-model", messages=HELLO, **options)


def outcomes(results):
    return sorted(info(each).outcome for each in results)


def together(call, count=MANY):
    """The results of calls made at once in as many threads; errors as they are."""
    barrier = threading.Barrier(count)

    def one(_):
        barrier.wait()
        try:
            return call()
        except Exception as error:  # noqa: BLE001 - looked at by the test
            return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


def test_one_call_is_made_and_all_have_its_answer(server, bare, client):
    results = together(lambda: ask(client))
    assert len(server.requests) == 1
    assert all(each == results[0] for each in results)
    assert outcomes(results) == ["miss", *["shared"] * (MANY - 1)]
    (leader,) = [each for each in results if info(each).outcome == "miss"]
    assert {info(each).entry_id for each in results if each is not leader} == {info(leader).stored}
    assert (counts(client).shared, counts(client).stored) == (MANY - 1, 1)


def test_streams_are_shared_while_they_come(server, client):
    server.then(streams(gap=0.03))

    def read():
        stream = ask(client, stream=True)
        return [chunk.to_dict() for chunk in stream], info(stream).outcome

    results = together(read)
    assert len(server.requests) == 1
    assert all(chunks == pieces()[:-1] for chunks, _ in results)
    assert sorted(outcome for _, outcome in results) == ["miss", *["shared"] * (MANY - 1)]
    assert info(ask(client, stream=True)).outcome == "exact"


def test_who_comes_in_the_middle_of_a_stream_gets_all_of_it(server, client):
    server.then(streams(gap=0.05))
    first = ask(client, stream=True)
    next(first)
    second = ask(client, stream=True)
    got = [chunk.to_dict() for chunk in second]
    assert got == pieces()[:-1]
    assert info(second).outcome == "shared"
    assert [chunk.to_dict() for chunk in first] == pieces()[1:-1]
    assert len(server.requests) == 1


def test_a_reader_that_leaves_takes_nothing_from_the_others(server, client):
    server.then(streams(gap=0.03))
    first, second = ask(client, stream=True), ask(client, stream=True)
    next(first)
    first.close()
    assert [chunk.to_dict() for chunk in second] == pieces()[:-1]
    assert len(server.requests) == 1
    assert info(ask(client, stream=True)).outcome == "exact"


def test_a_stream_that_all_have_left_is_given_up(server, client):
    server.then(streams(gap=0.2))
    first, second = ask(client, stream=True), ask(client, stream=True)
    for each in (first, second):
        next(each)
        each.close()
    assert server.departed.wait(2)
    assert counts(client).stored == 0
    assert info(ask(client, stream=True)).outcome == "miss"


def test_a_stream_that_nobody_closes_is_given_up_with_its_object(server, client):
    server.then(streams(gap=0.2))
    stream = ask(client, stream=True)
    next(stream)
    del stream
    gc.collect()
    assert server.departed.wait(2)


def test_another_form_is_another_call(server, client):
    forms = [{}, {"stream": True}, {"stream": True, "stream_options": {"include_usage": True}}, {"seed": 1}]
    calls = iter(forms)
    lock = threading.Lock()

    def one():
        with lock:
            options = next(calls)
        result = ask(client, **options)
        return list(result) if options.get("stream") else result

    assert not [each for each in together(one, len(forms)) if isinstance(each, Exception)]
    assert len(server.requests) == len(forms)


@pytest.mark.parametrize(
    "control",
    [{"no_store": True}, {"no_cache": True}, {"single_flight": False}],
    ids=lambda control: next(iter(control)),
)
def test_requests_that_share_nothing(server, client, control):
    results = together(lambda: ask(client, extra_body={"nearhit": control}), 3)
    assert len(server.requests) == 3
    assert "shared" not in outcomes(results)


def test_it_can_be_switched_off(server, bare):
    client = wrap(bare, cache=Cache(), single_flight=False)
    together(lambda: ask(client), 3)
    assert len(server.requests) == 3


def test_a_request_that_wants_chance_is_its_own(server, bare):
    client = wrap(bare, cache=Cache(sampling="fresh"))
    together(lambda: ask(client, temperature=1.0), 3)
    assert len(server.requests) == 3


def test_a_failed_call_is_followed_by_another_one(server, client):
    server.then(waits(fails(503)), waits(fails(503)))
    results = together(lambda: ask(client))
    failures = [each for each in results if isinstance(each, Exception)]
    assert [type(each) for each in failures] == [openai.InternalServerError] * 2
    assert len(server.requests) == 3
    assert outcomes([each for each in results if each not in failures]) == ["miss", *["shared"] * (MANY - 3)]


def test_a_refused_request_lets_all_go_their_ways_at_once(server, bare):
    client = wrap(bare, cache=Cache())
    server.default = waits(fails(400))
    start = time.perf_counter()
    results = together(lambda: ask(client))
    assert all(isinstance(each, openai.BadRequestError) for each in results)
    assert time.perf_counter() - start < 0.15 * (MANY - 1)
    assert len(server.requests) == MANY


def test_an_answer_that_may_not_be_kept_is_not_shared(server, client):
    server.default = waits(answers(body(finish="length")))
    results = together(lambda: ask(client), 3)
    assert len(server.requests) == 3
    assert outcomes(results) == ["miss"] * 3


def test_a_stream_that_breaks_before_anything_came_is_asked_for_again(server, client):
    async def breaks(request, reply):
        await reply.start_stream()
        await asyncio.sleep(0.15)
        await reply.cut()

    server.then(breaks)
    results = together(lambda: [chunk.to_dict() for chunk in ask(client, stream=True)], 3)
    good = [each for each in results if not isinstance(each, Exception)]
    assert good == [pieces(usage=False)[:-1]] * 2
    assert len(results) - len(good) == 1


def test_nobody_waits_longer_than_its_own_timeout(server, client):
    server.then(waits(answers(), 1.5))
    leader = threading.Thread(target=lambda: ask(client))
    leader.start()
    server.received.wait(2)
    start = time.perf_counter()
    follower = ask(client, timeout=0.4)
    assert 0.3 < time.perf_counter() - start < 1.2
    assert info(follower).outcome == "miss"
    leader.join()


def test_a_deadline_covers_the_wait_and_the_call(server, client):
    server.then(waits(answers(), 1.5), waits(answers(), 1.5))
    leader = threading.Thread(target=lambda: ask(client))
    leader.start()
    server.received.wait(2)
    start = time.perf_counter()
    with pytest.raises(openai.APITimeoutError):
        ask(client, extra_body={"nearhit": {"deadline": 0.3}})
    assert time.perf_counter() - start < 1.2
    leader.join()


def test_a_call_that_asks_for_itself_does_not_wait_for_itself(server, bare):
    def nested(messages):
        return wrapped.chat.completions.create(model="test-model", messages=messages).choices[0].message.content

    inner = []

    def once(messages):
        inner.append(1)
        return nested(messages) if len(inner) == 1 else "deep"

    wrapped = wrap(bare, cache=Cache(), router=Router([FunctionTier("own", once)]))
    start = time.perf_counter()
    assert ask(wrapped).choices[0].message.content == "deep"
    assert time.perf_counter() - start < 5


def test_a_compressed_stream_is_shared_as_it_is(server, client):
    import gzip  # noqa: PLC0415 - here alone

    async def compressed(request, reply):
        await reply.start_stream({"content-encoding": "gzip"})
        data = gzip.compress(b"".join(event(value) for value in pieces()))
        for part in (data[:40], data[40:]):
            await reply.part(part)
            await asyncio.sleep(0.1)
        await reply.end_stream()

    server.then(compressed)
    results = together(lambda: [chunk.to_dict() for chunk in ask(client, stream=True)], 3)
    assert results == [pieces()[:-1]] * 3
    assert len(server.requests) == 1


# Other calls


def test_responses_and_embeddings(server, client):
    results = together(lambda: client.responses.create(model="m", input="Hi"), 3)
    assert outcomes(results) == ["miss", "shared", "shared"]
    streamed = together(lambda: [each.type for each in client.responses.create(model="m", input="x", stream=True)], 3)
    assert all(each == streamed[0] for each in streamed)
    results = together(lambda: client.embeddings.create(model="m", input="Hi"), 3)
    assert all(each == results[0] for each in results)
    assert len(server.requests) == 3


def test_a_caller_that_reads_the_response_itself_leads_nobody(server, client):
    def read():
        with client.chat.completions.with_streaming_response.create(model="test-model", messages=HELLO) as response:
            return json.loads(response.read())

    results = together(read, 3)
    assert results == [body()] * 3


def test_a_cache_that_keeps_nothing_fails_no_call(server, bare):
    client = wrap(bare, cache=Cache(max_bytes=200))  # nothing fits
    results = together(lambda: ask(client))
    assert outcomes(results) == ["miss", *["shared"] * (MANY - 1)]
    assert client.embeddings.create(model="m", input=["a"]).data[0].embedding == [0.5, -0.25]
    streamed = together(lambda: [chunk.to_dict() for chunk in ask(client, stream=True)], 3)
    assert streamed == [pieces(usage=False)[:-1]] * 3
    failures = counts(client).failures
    assert set(failures) == {"store"}
    assert 3 <= failures["store"] <= 5  # a stream that comes after another has ended is one more call


# Asynchronous


@pytest.fixture
async def later(server):
    async with AsyncOpenAI(api_key="sk-test", base_url=server.url, max_retries=0) as bare:
        yield wrap(bare, cache=Cache())


async def test_tasks_share_a_call(server, later):
    results = await asyncio.gather(*(ask(later) for _ in range(MANY)))
    assert len(server.requests) == 1
    assert outcomes(results) == ["miss", *["shared"] * (MANY - 1)]


async def read(client):
    stream = await ask(client, stream=True)
    return [chunk.to_dict() async for chunk in stream]


async def test_tasks_share_a_stream(server, later):
    server.then(streams(gap=0.03))
    results = await asyncio.gather(*(read(later) for _ in range(MANY)))
    assert results == [pieces()[:-1]] * MANY
    assert len(server.requests) == 1
    assert info(await ask(later, stream=True)).outcome == "exact"


async def test_a_cancelled_leader_hands_over(server, later):
    leader = asyncio.create_task(ask(later))
    await asyncio.sleep(0.05)
    follower = asyncio.create_task(ask(later))
    await asyncio.sleep(0.02)
    leader.cancel()
    assert (await follower).choices[0].message.content == "Hello, world"
    assert len(server.requests) == 2


@pytest.mark.parametrize("behind", [0, 2])
async def test_a_cancelled_reader_harms_no_other(server, later, behind):
    """Cancelled while it waits for the next part: alone when the other came, or with it for some parts already."""
    server.then(streams(gap=0.1))
    first = asyncio.create_task(read(later))
    await asyncio.sleep(0.25)
    second = asyncio.create_task(read(later))
    await asyncio.sleep(0.02 + behind * 0.1)
    first.cancel()
    chunks = await second
    assert [each["choices"][0]["delta"].get("content") for each in chunks if each["choices"]][1:4] == [
        "Hello", ", ", "world"
    ]  # fmt: skip
    with pytest.raises(asyncio.CancelledError):
        await first
    assert len(server.requests) == (2 if behind == 0 else 1)


async def test_a_stream_that_all_tasks_have_left_is_given_up(server, later):
    server.then(streams(gap=0.2))
    one, other = await ask(later, stream=True), await ask(later, stream=True)
    for each in (one, other):
        await anext(each)
        await each.close()
    assert await asyncio.to_thread(server.departed.wait, 2)


async def test_a_reader_that_waits_for_another_one_has_its_own_timeout(server, later):
    server.then(streams(gap=0.5))
    leader = asyncio.create_task(read(later))
    await asyncio.sleep(0.3)
    follower = await ask(later, stream=True, timeout=0.25)
    with pytest.raises((httpx2.ReadTimeout, openai.APIError)):
        [chunk async for chunk in follower]
    assert await leader == pieces()[:-1]


async def test_failures_of_tasks_promote_one(server, later):
    server.then(waits(fails(503)))
    results = await asyncio.gather(*(ask(later) for _ in range(4)), return_exceptions=True)
    assert [type(each) for each in results if isinstance(each, Exception)] == [openai.InternalServerError]
    assert len(server.requests) == 2
