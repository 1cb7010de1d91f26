"""OpenAITier against a real local server: what it sends, what it reads, and how each fault comes out."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import os
import socket
import subprocess
import sys
import time
import traceback
from email.utils import formatdate

import pytest
from tests.support import chat_server as chat
from tests.support.http_server import Reply, Request, Server

import nearhit
from nearhit._types import Usage
from nearhit.tiers import OpenAITier, Price, Timeouts

KEY = "sk-very-secret-key-1234567890"


@pytest.fixture
def server():
    with Server(default=chat.chats()) as running:
        yield running


@pytest.fixture
def tier(server):
    with OpenAITier("remote", "test-model", base_url=server.url, api_key=KEY, trust_env=False) as made:
        yield made


def quick(server, **limits):
    return OpenAITier("remote", "m", base_url=server.url, api_key=KEY, timeouts=Timeouts(**limits), trust_env=False)


def test_complete_puts_a_stream_together(server, tier):
    answer = tier.complete("hi", temperature=0.5, some_new_option={"x": [1]})

    assert answer.text == "Hello, world"
    assert answer.finish_reason == "stop"
    assert answer.usage == Usage(7, 3)
    assert answer.tier == "remote"
    assert answer.raw is not None
    assert answer.raw["object"] == "chat.completion"
    assert answer.raw["choices"][0]["message"] == {"role": "assistant", "content": "Hello, world"}
    assert answer.raw["usage"] == chat.USAGE
    sent = server.requests[0]
    assert sent.path == "/v1/chat/completions"
    assert sent.headers["authorization"] == f"Bearer {KEY}"
    assert sent.json == {
        "model": "test-model",
        "messages": [{"role": "user", "content": "hi"}],
        "temperature": 0.5,
        "some_new_option": {"x": [1]},
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_times_are_measured_in_order(server, tier):
    server.then(chat.streams(first=0.05, gap=0.01))
    times = tier.complete("hi").timings
    assert times.ttft is not None
    assert times.connect is not None
    assert 0 < times.connect <= times.ttfb < times.ttft < times.e2e
    assert times.ttft >= 0.05
    assert len(times.itl) == 2
    assert times.output_tokens == 3
    assert times.tpot == pytest.approx((times.e2e - times.ttft) / 2)
    assert tier.complete("hi").timings.connect is None


def test_one_body_instead_of_a_stream(server, tier):
    answer = tier.complete("hi", stream=False)
    assert (answer.text, answer.finish_reason, answer.usage) == ("Hello, world", "stop", Usage(7, 3))
    assert answer.raw == chat.body()
    assert answer.timings.tpot is None
    assert server.requests[0].json["stream"] is False
    assert "stream_options" not in server.requests[0].json


def test_several_choices_come_in_one_body_and_stay_in_raw(server, tier):
    two = chat.body()
    two["choices"].append({**two["choices"][0], "index": 1, "message": {"role": "assistant", "content": "Hi"}})
    server.then(chat.answers(two))
    answer = tier.complete("hi", n=2)
    assert server.requests[0].json["stream"] is False
    assert answer.text == "Hello, world"
    assert answer.raw == two


def test_a_server_that_answers_a_stream_with_one_body(server, tier):
    server.then(chat.answers())
    assert tier.complete("hi").text == "Hello, world"


def test_extras_reach_headers_and_body(server, tier):
    tier.complete("hi", extra_headers={"x-trace": "7"}, extra_body={"top_k": 3}, stream_options={"x": 1})
    sent = server.requests[0]
    assert sent.headers["x-trace"] == "7"
    assert sent.json["top_k"] == 3
    assert sent.json["stream_options"] == {"include_usage": True, "x": 1}
    assert "extra_body" not in sent.json


def test_tools_images_and_formats_pass_through(server, tier):
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    messages = [{"role": "user", "content": [{"type": "text", "text": "what"}, image], "name": "ann"}]
    params = {"tools": [{"type": "function", "function": {"name": "f"}}], "response_format": {"type": "json_object"}}
    tier.complete(messages, **params)
    assert server.requests[0].json["messages"] == messages
    assert server.requests[0].json["tools"] == params["tools"]
    assert server.requests[0].json["response_format"] == params["response_format"]


def test_tool_call_deltas_are_kept_and_joined(server, tier):
    deltas = [
        {"index": 0, "id": "c1", "type": "function", "function": {"name": "get", "arguments": ""}},
        {"index": 0, "function": {"arguments": '{"a":'}},
        {"index": 1, "id": "c2", "type": "function", "function": {"name": "put", "arguments": "{}"}},
        {"index": 0, "function": {"arguments": "1}"}},
    ]
    events = [chat.piece({"tool_calls": [delta]}) for delta in deltas]
    server.then(chat.streams([*events, chat.piece({}, finish="tool_calls"), "[DONE]"]))
    with tier.stream("hi") as stream:
        assert [chunk.tool_calls for chunk in stream][:4] == [(delta,) for delta in deltas]
    answer = stream.completion()
    joined = [
        {"id": "c1", "type": "function", "function": {"name": "get", "arguments": '{"a":1}'}},
        {"id": "c2", "type": "function", "function": {"name": "put", "arguments": "{}"}},
    ]
    assert list(answer.tool_calls) == joined
    assert answer.raw is not None
    assert answer.raw["choices"][0]["message"]["tool_calls"] == joined
    assert answer.finish_reason == "tool_calls"
    assert answer.timings.ttft is not None


def test_reasoning_is_told_apart_from_the_answer(server, tier):
    events = [chat.piece({"reasoning_content": "hm"}), chat.piece({"content": "42"}), chat.piece({}, finish="stop")]
    server.then(chat.streams([*events, "[DONE]"]))
    answer = tier.complete("hi")
    assert (answer.reasoning, answer.text) == ("hm", "42")


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_every_line_end(server, tier, newline):
    server.then(chat.streams(newline=newline))
    assert tier.complete("hi").text == "Hello, world"


def test_keep_alive_comments_and_split_characters(server, tier):
    text = "naïve 日本語 🦀"
    whole = b"".join(chat.event(value) for value in chat.pieces(list(text)))
    parts = [whole[i : i + 7] for i in range(0, len(whole), 7)]
    server.then(chat.sends(b": OPENROUTER PROCESSING\n\n", *parts))
    assert tier.complete("hi").text == text


def test_done_in_the_last_line_without_its_blank_line(server, tier):
    events = [chat.event(value) for value in chat.pieces()[:-1]]
    server.then(chat.sends(*events, b"data: [DONE]", chunked=False))
    assert tier.complete("hi").text == "Hello, world"


def test_an_end_without_done_counts_if_the_finish_reason_has_come(server, tier):
    server.then(chat.streams(chat.pieces()[:-1]))
    assert tier.complete("hi").finish_reason == "stop"


@pytest.mark.parametrize("after", [0, 1, 3])
@pytest.mark.parametrize("chunked", [True, False])
def test_a_cut_stream_is_never_an_answer(server, tier, after, chunked):
    server.then(chat.cuts(after, chunked=chunked))
    with pytest.raises((nearhit.TierConnectionError, nearhit.TierProtocolError)) as caught:
        tier.complete("hi")
    assert caught.value.tier == "remote"


def test_done_without_a_finish_reason_is_never_an_answer(server, tier):
    server.then(chat.streams([chat.piece({"content": "half"}), "[DONE]"]))
    stream = tier.stream("hi")
    assert next(stream).text == "half"
    with pytest.raises(nearhit.TierProtocolError, match="without a finish reason"):
        next(stream)
    with pytest.raises(nearhit.TierError, match="not complete"):
        stream.completion()


@pytest.mark.parametrize(
    "data",
    [
        b"data: {not json}\n\n",
        b"data: [1, 2]\n\n",
        b'data: {"choices": 3}\n\n',
        b'data: {"choices": [7]}\n\n',
        b'data: {"choices": [{"delta": "x"}]}\n\n',
        b'data: {"choices": [{"delta": {"content": 5}}]}\n\n',
        b'data: {"choices": [{"delta": {"tool_calls": [1]}}]}\n\n',
        b'data: {"choices": [], "usage": {"prompt_tokens": "many"}}\n\n',
        b"data: \xff\xfe\n\n",
        b"",
        b"no event at all",
    ],
)
def test_malformed_streams(server, tier, data):
    server.then(chat.sends(data, b"data: [DONE]\n\n") if data else chat.sends())
    with pytest.raises(nearhit.TierProtocolError):
        tier.complete("hi")


@pytest.mark.parametrize("data", [b"", b"nope", b"[]", b'{"choices": []}', b'{"id": 1}'])
def test_malformed_bodies(server, tier, data):
    server.then(chat.answers(data))
    with pytest.raises(nearhit.TierProtocolError):
        tier.complete("hi", stream=False)


def test_a_web_page_is_not_an_answer(server, tier):
    server.then(chat.answers(b"<html>log in</html>", headers={"content-type": "text/html; charset=utf-8"}))
    with pytest.raises(nearhit.TierProtocolError, match=r"text/html.*log in"):
        tier.complete("hi")


def test_an_error_inside_a_stream_that_began_well(server, tier):
    error = {"error": {"message": "engine died", "type": "server_error", "code": 502}}
    server.then(chat.streams([chat.piece({"content": "a"}), error]))
    with pytest.raises(nearhit.TierStatusError, match="engine died") as caught:
        tier.complete("hi")
    assert caught.value.status == 502


def test_a_rate_limit_reported_inside_a_200(server, tier):
    server.then(chat.answers({"error": {"message": "slow", "type": "rate_limit_exceeded"}}))
    with pytest.raises(nearhit.TierRateLimitError):
        tier.complete("hi", stream=False)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("3", 3.0), ("0.5", 0.5), (None, None), ("soon", None), ("-4", None), ("inf", None), ("nan", None)],
)
def test_rate_limits_tell_how_long_to_wait(server, tier, header, seconds):
    server.then(chat.rate_limits(header))
    with pytest.raises(nearhit.TierRateLimitError, match=r"HTTP 429: slow down") as caught:
        tier.complete("hi")
    assert caught.value.status == 429
    assert caught.value.retry_after == seconds


def test_retry_after_as_a_date(server, tier):
    server.then(chat.rate_limits(formatdate(time.time() + 100, usegmt=True)))
    with pytest.raises(nearhit.TierRateLimitError) as caught:
        tier.complete("hi")
    assert caught.value.retry_after == pytest.approx(100, abs=30)


@pytest.mark.parametrize("status", [301, 400, 401, 404, 500, 503])
def test_error_statuses_carry_the_servers_words(server, tier, status):
    server.then(chat.fails(status, "the reason why"))
    with pytest.raises(nearhit.TierStatusError, match=f"HTTP {status}: the reason why") as caught:
        tier.complete("hi")
    assert caught.value.status == status
    assert caught.value.body == "the reason why"
    assert tier.complete("again").text == "Hello, world"


@pytest.mark.parametrize(
    "error",
    [
        {"message": "too long", "code": "context_length_exceeded"},
        {"message": "This model's maximum context length is 8192 tokens.", "code": 400},
    ],
)
def test_a_prompt_too_long_for_the_server_is_told_apart(server, tier, error):
    server.then(chat.answers({"error": error}, status=400))
    with pytest.raises(nearhit.TierUnsupportedError, match="HTTP 400") as caught:
        tier.complete("hi")
    assert caught.value.needs == ("context",)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_has_connections_of_its_own(server):
    script = f"""
import os
from nearhit import OpenAITier
tier = OpenAITier("remote", "m", base_url={server.url!r}, trust_env=False)
assert tier.complete("a").text == "Hello, world"
pid = os.fork()
assert all(tier.complete("b").text == "Hello, world" for _ in range(5))
if pid == 0:
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
assert tier.complete("c").text == "Hello, world"
"""
    command = [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(server.requests) == 12
    assert server.connections == 2


def test_leaving_the_interpreter_with_a_stream_open_is_quiet(server):
    server.then(chat.stalls(3))
    script = f"""
from nearhit import OpenAITier
stream = OpenAITier("remote", "m", base_url={server.url!r}, trust_env=False).stream("hi")
next(stream)
"""
    command = [sys.executable, "-W", "error", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert server.departed.wait(5)


def test_nobody_listens():
    port = chat.refused_port()
    with (
        OpenAITier("gone", "m", base_url=f"http://127.0.0.1:{port}/v1", trust_env=False) as tier,
        pytest.raises(nearhit.TierConnectionError, match=f"no connection to http://127.0.0.1:{port}/v1"),
    ):
        tier.complete("hi")


@pytest.mark.parametrize(
    ("handler", "limits", "phase"),
    [
        (chat.hangs(), {"first_token": 0.1}, "first_token"),
        (chat.stalls(1), {"first_token": 0.1, "stall": 30}, "first_token"),
        (chat.stalls(3), {"first_token": 30, "stall": 0.1}, "stall"),
        (chat.stalls(3), {"total": 0.1}, "total"),
        (chat.streams([*[chat.piece({"content": "a"})] * 500], gap=0.01), {"stall": 5, "total": 0.2}, "total"),
    ],
)
def test_each_limit_names_its_phase_and_ends_the_request(server, handler, limits, phase):
    server.then(handler)
    with quick(server, **limits) as tier:
        with pytest.raises(nearhit.TierTimeoutError) as caught:
            tier.complete("hi")
        assert caught.value.phase == phase
        assert isinstance(caught.value, TimeoutError)
        assert tier.limiter.active == 0


def test_limits_of_one_request_replace_the_tiers(server, tier):
    server.then(chat.hangs())
    with pytest.raises(nearhit.TierTimeoutError):
        tier.complete("hi", timeouts=Timeouts(first_token=0.05))
    assert server.departed.wait(5)


def test_a_connection_that_cannot_be_made_in_time():
    # A listener with a full backlog: the kernel answers no further SYN.

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        time.sleep(0.05)
        limits = Timeouts(connect=0.1, total=20)
        try:
            with (
                OpenAITier(
                    "far", "m", base_url=f"http://127.0.0.1:{port}/v1", timeouts=limits, trust_env=False
                ) as tier,
                pytest.raises(nearhit.TierTimeoutError) as caught,
            ):
                tier.complete("hi")
            assert caught.value.phase == "connect"
        finally:
            for filler in fillers:
                filler.close()


def test_closing_a_stream_ends_the_request_upstream(server, tier):
    server.then(chat.stalls(3))
    stream = tier.stream("hi")
    assert next(stream).text == ""
    assert next(stream).text == "Hello"
    stream.close()
    assert server.departed.wait(5)
    assert tier.limiter.active == 0
    assert list(stream) == []


def test_a_forgotten_stream_ends_the_request_upstream(server, tier):
    server.then(chat.stalls(3))
    stream = tier.stream("hi")
    next(stream)
    del stream
    assert server.departed.wait(5)


async def test_cancelling_the_task_ends_the_request_upstream(server, tier):
    server.then(chat.hangs())
    task = asyncio.create_task(tier.acomplete("hi"))
    assert await asyncio.to_thread(server.received.wait, 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(server.departed.wait, 5)
    await tier.aclose()


async def test_leaving_the_block_ends_the_request_upstream(server, tier):
    server.then(chat.stalls(3))
    async with tier.astream("hi") as stream:
        async for chunk in stream:
            if chunk.text:
                break
    assert await asyncio.to_thread(server.departed.wait, 5)
    await tier.aclose()


def test_connections_are_reused(server, tier):
    for _ in range(20):
        tier.complete("hi")
    tier.complete("hi", stream=False)
    server.then(chat.fails(500))
    with pytest.raises(nearhit.TierStatusError):
        tier.complete("hi")
    tier.complete("hi")
    assert server.connections == 1
    tier.close()
    deadline = time.monotonic() + 5
    while server.open and time.monotonic() < deadline:
        time.sleep(0.01)
    assert server.open == 0


def test_many_at_once_and_many_given_up_leave_nothing_open(server):
    async def one(tier: OpenAITier, number: int) -> str:
        if number % 3 == 0:
            async with tier.astream("hi") as stream:
                await anext(stream)
            return ""
        return (await tier.acomplete("hi")).text

    async def main() -> list[str]:
        async with OpenAITier("remote", "m", base_url=server.url, max_concurrency=8, trust_env=False) as tier:
            found = await asyncio.gather(*(one(tier, number) for number in range(120)))
            assert (tier.limiter.active, tier.limiter.waiting) == (0, 0)
            return found

    found = asyncio.run(main())
    assert found.count("Hello, world") == 80
    assert len(server.requests) == 120
    deadline = time.monotonic() + 5
    while server.open and time.monotonic() < deadline:
        time.sleep(0.01)
    assert server.open == 0


def test_a_loop_that_ends_without_closing_the_tier_leaks_nothing(server):
    tier = OpenAITier("remote", "m", base_url=server.url, trust_env=False)
    for _ in range(2):
        assert asyncio.run(tier.acomplete("hi")).text == "Hello, world"
    deadline = time.monotonic() + 5
    while server.open and time.monotonic() < deadline:
        time.sleep(0.01)
    assert server.open == 0


def test_a_closed_tier_says_so(server):
    tier = OpenAITier("remote", "m", base_url=server.url, trust_env=False)
    tier.complete("hi")
    tier.close()
    tier.close()
    with pytest.raises(nearhit.TierClosedError, match="'remote' was closed"):
        tier.complete("hi")


@pytest.mark.parametrize("status", [401, 200])
def test_the_key_is_shown_nowhere(server, tier, status, caplog):
    caplog.set_level(logging.DEBUG)
    echo = {"error": {"message": f"Incorrect API key provided: {KEY}", "code": "invalid_api_key"}}
    server.then(chat.answers(echo, status=status))
    with pytest.raises(nearhit.TierStatusError) as caught:
        tier.complete("hi")
    shown = "".join(traceback.format_exception(caught.value)) + repr(tier) + str(vars(tier)) + caught.value.body
    assert "Incorrect API key provided: ***" in shown
    assert KEY not in shown
    assert KEY not in caplog.text


@pytest.mark.parametrize(
    "messages",
    [
        *("", "  \n", [], None, 7, b"hi", {"role": "user"}, ["hi"], [{}], [{"role": ""}], [{"role": 3}]),
        *([{"role": "user", "content": content}] for content in (3, ["x"], [{}], b"x")),
    ],
)
def test_unreadable_messages_are_refused_before_anything_is_sent(server, tier, messages):
    with pytest.raises(nearhit.InputError):
        tier.complete(messages)
    assert server.requests == []


@pytest.mark.parametrize("text", ["\ud83d lone", "x" * 100_000, "nul \0 inside", "日本語🦀"])
def test_strange_texts_arrive_whole_or_are_refused(server, tier, text):
    if text.startswith("\ud83d"):
        with pytest.raises(nearhit.RequestError, match="lone surrogate"):
            tier.complete(text)
        assert server.requests == []
        return
    tier.complete(text)
    assert server.requests[0].json["messages"][0]["content"] == text


@pytest.mark.parametrize("value", [float("nan"), object(), {1, 2}])
def test_parameters_that_json_cannot_carry(server, tier, value):
    with pytest.raises(nearhit.RequestError, match="JSON"):
        tier.complete("hi", temperature=value)
    assert server.requests == []


@pytest.mark.parametrize("param", ["model", "messages"])
def test_what_the_tier_fixes_is_not_a_parameter(tier, param):
    with pytest.raises((nearhit.OptionError, TypeError)):
        tier.complete("hi", **{param: "x"})


@pytest.mark.parametrize(
    "url", ["", "localhost:8000", "ftp://x/v1", "http://", "http://user:pw@host/v1", "http://host:99999/v1", 7]
)
def test_bad_addresses(url):
    with pytest.raises(nearhit.OptionError) as caught:
        OpenAITier("x", "m", base_url=url)
    assert "pw" not in str(caught.value)


@pytest.mark.parametrize("tail", ["", "/", "/chat/completions", "/chat/completions/"])
def test_addresses_as_people_write_them(server, tail):
    with OpenAITier("x", "m", base_url=server.url + tail, trust_env=False) as tier:
        tier.complete("hi")
        assert tier.base_url == server.url
    assert server.requests[0].path == "/v1/chat/completions"


def test_a_query_in_the_address_is_kept(server):
    with OpenAITier("x", "m", base_url=server.url + "?api-version=1", trust_env=False) as tier:
        tier.complete("hi")
        assert "api-version" not in repr(tier)
    assert server.requests[0].path == "/v1/chat/completions?api-version=1"


@pytest.mark.parametrize("key", ["", "  ", "ключ", "a\nb", 7])
def test_bad_keys(key):
    with pytest.raises(nearhit.OptionError) as caught:
        OpenAITier("x", "m", base_url="http://localhost/v1", api_key=key)
    assert "ключ" not in str(caught.value)


def test_cost_needs_a_price_and_counts(server):
    price = Price(prompt=1e-6, completion=2e-6, cached_prompt=1e-7)
    with OpenAITier("x", "m", base_url=server.url, price=price, trust_env=False) as tier:
        assert tier.cost(tier.complete("hi").usage) == pytest.approx(7e-6 + 6e-6)
        assert tier.cost(Usage()) is None
        assert tier.cost(Usage(10, 0, cached_prompt_tokens=4)) == pytest.approx(6e-6 + 4e-7)


def test_declared_capabilities_refuse_before_anything_is_sent(server):
    with OpenAITier("x", "m", base_url=server.url, capabilities={"tools"}, trust_env=False) as tier:
        tier.complete("hi", tools=[{"type": "function"}])
        with pytest.raises(nearhit.TierUnsupportedError, match="needs json") as caught:
            tier.complete("hi", response_format={"type": "json_object"})
        assert caught.value.needs == ("json",)
    assert len(server.requests) == 1


def test_a_compressed_stream(server, tier):
    async def handle(request: Request, reply: Reply) -> None:
        data = gzip.compress(b"".join(chat.event(value) for value in chat.pieces()))
        await reply.start_stream({"content-encoding": "gzip"})
        await reply.part(data)
        await reply.end_stream()

    server.then(handle)
    assert tier.complete("hi").text == "Hello, world"


def test_a_connection_left_hanging_after_the_end_does_not_delay_the_answer(server, tier):
    async def handle(request: Request, reply: Reply) -> None:
        await reply.start_stream()
        await reply.part(b"".join(chat.event(value) for value in chat.pieces()))
        await reply.client_gone()

    server.then(handle)
    answer = tier.complete("hi")
    assert answer.text == "Hello, world"
    assert server.departed.wait(5)


def test_bodies_are_json_in_utf8(server, tier):
    tier.complete("日本語")
    assert "日本語".encode() in server.requests[0].body
    json.loads(server.requests[0].body.decode())
