"""What a request of a wrapped client goes through: the cache, another request under way, the router, the server.

Every call of the OpenAI package ends in two of the client's methods, in all versions that can be wrapped: `request`,
which sends, and `_process_response`, which makes of an HTTP response what the caller gets. The first is answered from
the cache, the second records. An answer out of the cache is an HTTP response like any other to everything above:
parsing, streams, helpers, raw responses.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property, partial
from http import HTTPStatus
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from nearhit.answers import Answer, Recorder
from nearhit.openai._controls import FIELD
from nearhit.openai._engine import CALLS
from nearhit.openai._info import attach
from nearhit.openai._plan import Do, drive, drive_async
from nearhit.openai._quick import hasten
from nearhit.openai._responses import (
    RAW,
    flowing,
    place_of,
    read_body,
    recorded,
    response_of,
    rewritten,
    shared_response,
    whole_answer,
)
from nearhit.openai._sharing import PATIENCE, is_final, leading, leads, timeout_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nearhit.openai._engine import Asked, Engine
    from nearhit.openai._plan import Plan
    from nearhit.openai._routing import Routing

STATE: Final = "_nearhit_state"
_LEAST_TIMEOUT: Final = 0.001  # seconds; the client refuses none

_pending: ContextVar[Asked | None] = ContextVar("nearhit.openai.pending", default=None)
"""The request whose response is on its way, between `request` and `_process_response` of one call."""


class State:
    """What a wrapped client and its copies share."""

    def __init__(self, engine: Engine, routing: Routing | None) -> None:
        self.engine = engine
        self.routing = routing


class Call(NamedTuple):
    """The arguments of one `request`."""

    cast_to: Any
    options: Any
    stream: bool
    stream_cls: Any


class _Turn:
    """What came of one request's turn among equal ones."""

    __slots__ = ("error", "led", "result")

    def __init__(self) -> None:
        self.led = False
        self.result: Any = None
        self.error: Exception | None = None


class _UnmergeableError(Exception):
    """The server did not answer each of the inputs that were asked for."""


@contextmanager
def _on_its_way(asked: Asked | None) -> Iterator[None]:
    token = _pending.set(asked)
    try:
        yield
    finally:
        _pending.reset(token)


class Common:
    """What the wrapped classes of both kinds have in common."""

    _nearhit_base: type[Any]
    _nearhit_state: State

    def copy(self, **options: Any) -> Any:
        copied: Any = self._nearhit_base.copy(self, **options)
        setattr(copied, STATE, self._nearhit_state)
        return copied

    with_options = copy

    @cached_property
    def chat(self) -> Any:
        chat = self._nearhit_base.chat.__get__(self)
        hasten(chat.completions, "/chat/completions", ("messages", "model"))
        return chat

    @cached_property
    def completions(self) -> Any:
        completions = self._nearhit_base.completions.__get__(self)
        hasten(completions, "/completions", ("prompt", "model"))
        return completions

    @cached_property
    def responses(self) -> Any:
        responses = self._nearhit_base.responses.__get__(self)
        hasten(responses, "/responses", ("input", "model"))
        return responses

    def _nearhit_ask(self: Any, options: Any, stream: bool) -> Asked | None:  # noqa: FBT001 - as the package has it
        """Reads a request and takes nearhit's own field out; None for one that is left alone."""
        extra = options.extra_json
        if options.url not in CALLS or options.method.lower() != "post" or not isinstance(options.json_data, dict):
            if isinstance(extra, dict) and FIELD in extra:
                options.extra_json = {name: value for name, value in extra.items() if name != FIELD}
            return None
        headers = options.headers if isinstance(options.headers, dict) else None
        engine: Engine = self._nearhit_state.engine
        asked = engine.ask(
            options.json_data,
            path=options.url,
            base_url=place_of(self),
            extra=extra,
            headers=headers,
            query=options.params,
            stream=stream,
        )
        if isinstance(extra, dict) and FIELD in extra:
            options.extra_json = {name: value for name, value in extra.items() if name != FIELD} or None
        deadline = asked.controls.get("deadline")
        if deadline is not None and not isinstance(options.timeout, int | float):
            options.timeout = deadline
        return asked

    def _nearhit_replay(self: Any, answer: Answer, asked: Asked, options: Any) -> Any:
        """The HTTP response that an answer out of the cache amounts to."""
        if asked.stream:
            return response_of(self, options, stream=answer.sse(usage=asked.usage))
        return response_of(self, options, body=answer.body())

    def _nearhit_refusal(self: Any, options: Any) -> Exception:
        """The client's own error for a request that was to be answered from the cache alone."""
        words = "nearhit has no answer to this request in its cache, and only_if_cached was asked for"
        error = {"error": {"message": words, "type": "not_cached", "code": "only_if_cached"}}
        response = response_of(self, options, body=error, status=HTTPStatus.GATEWAY_TIMEOUT)
        refusal: Exception = self._make_status_error_from_response(response)
        return refusal

    def _nearhit_course(self: Any, asked: Asked, call: Call) -> Plan[Any]:
        """The whole course of a request."""
        engine: Engine = self._nearhit_state.engine
        answer = yield Do(engine, "seek", (asked,))
        if answer is not None:
            result = yield from self._nearhit_receive(self._nearhit_replay(answer, asked, call.options), call)
        elif asked.controls.get("only_if_cached"):
            raise self._nearhit_refusal(call.options)
        else:
            engine.shares(asked)
            alone = asked.key is None or leads(asked.key)
            result = yield from (self._nearhit_send if alone else self._nearhit_share)(asked, call)
        attach(result, asked.info)
        return result

    def _nearhit_share(self: Any, asked: Asked, call: Call) -> Plan[Any]:
        """Waits for an equal request that is under way, or makes the call that others wait for."""
        engine: Engine = self._nearhit_state.engine
        turn, start = _Turn(), perf_counter()
        timeout = timeout_of(self, call.options)
        patience = PATIENCE if timeout is None else min(PATIENCE, timeout)
        made = engine.sharing.stream(asked.key)
        if made is not None:
            of = made.info
        else:
            made, of = yield Do(
                engine.sharing, "run", (asked.key, partial(self._nearhit_lead, asked, call, turn), patience)
            )
        if turn.error is not None:
            raise turn.error
        if turn.led:
            return turn.result
        response = yield from self._nearhit_join(made, asked, call, patience)
        if response is not None:
            engine.shared(asked, of)
            return (yield from self._nearhit_receive(response, call))
        asked.key = None
        if asked.controls.get("deadline") is not None and isinstance(call.options.timeout, int | float):
            call.options.timeout = max(_LEAST_TIMEOUT, call.options.timeout - (perf_counter() - start))
        return (yield from self._nearhit_send(asked, call))

    def _nearhit_lead(self: Any, asked: Asked, call: Call, turn: _Turn) -> Plan[Any]:
        """Makes the call for all who wait; returns what they may be answered with, and its record."""
        engine: Engine = self._nearhit_state.engine
        turn.led = True
        with leading(asked.key):
            try:
                again = engine.exact(asked)  # who came too late to wait comes in time to find it stored
                if again is not None:
                    engine.count(asked.info.outcome)
                    asked.made = again
                    response = self._nearhit_replay(again, asked, call.options)
                    turn.result = yield from self._nearhit_receive(response, call)
                else:
                    turn.result = yield from self._nearhit_send(asked, call)
            except Exception as error:
                if not is_final(error):
                    raise
                turn.error = error
        made, asked.made = asked.made, None  # a stream that nobody reads any more must not be held by its own request
        return made, asked.info

    def _nearhit_join(self: Any, made: Any, asked: Asked, call: Call, patience: float) -> Plan[Any]:
        """The response that another one's answer amounts to; None if it is none for this request."""
        if isinstance(made, Answer):
            given = made.gives(stream=asked.stream, usage=asked.usage)
            return self._nearhit_replay(made, asked, call.options) if given else None
        reader = None if made is None else made.join(timeout_of(self, call.options))
        if reader is None:
            return None
        try:
            yield Do(reader, "ready", (patience,))
        except BaseException as error:
            yield Do(reader, "close")
            if not isinstance(error, Exception):
                raise
            return None  # it broke before anything came: this request goes its own way
        return shared_response(self, call.options, made, reader)

    def _nearhit_send(self: Any, asked: Asked, call: Call) -> Plan[Any]:
        """Has a request answered by a tier of the router, or else by the server."""
        routing: Routing | None = self._nearhit_state.routing
        response = None
        if routing is not None and routing.takes(asked):
            response = yield Do(routing, "answer", (self, asked, call.options))
        if response is not None:
            return (yield from self._nearhit_receive(response, call, asked))
        whole = self._nearhit_only_missing(asked, call.options)
        try:
            with _on_its_way(asked):
                return (yield Do(self, "_nearhit_upstream", call))
        except _UnmergeableError as error:
            engine: Engine = self._nearhit_state.engine
            engine.failed("replay", error, asked.info)
        asked.inputs, asked.store, call.options.json_data = None, False, whole
        with _on_its_way(asked):
            return (yield Do(self, "_nearhit_upstream", call))

    def _nearhit_only_missing(self: Any, asked: Asked, options: Any) -> Any:
        """Leaves only those inputs in an embeddings request that are not known; returns the body as it was."""
        whole, inputs = options.json_data, asked.inputs
        if inputs is None or not inputs.partial:
            return whole
        if _is_streamed(options):  # its body passes, and cannot be put together with what is known
            asked.inputs = None
            return whole
        options.json_data = {**whole, "input": inputs.missing}
        return whole

    def _nearhit_receive(self: Any, response: Any, call: Call, asked: Asked | None = None) -> Plan[Any]:
        """What the client makes of a response; that of a request given is recorded."""
        with _on_its_way(asked):
            return (yield Do(self, "_nearhit_processed", (response, call)))

    def _nearhit_record(self: Any, response: Any) -> Plan[Any]:
        """Keeps what came whole, or has it recorded while it passes; returns the response to go on with."""
        asked = _pending.get()
        if asked is None:
            return response
        engine: Engine = self._nearhit_state.engine
        try:
            if asked.inputs is not None:
                return (yield from self._nearhit_take_inputs(response, asked))
            if not asked.store:
                return response
            if not response.is_closed:
                response.stream = recorded(response, Recorder(asked.call, asked.request), asked, engine)
                if asked.key is not None and asked.stream and response.status_code == HTTPStatus.OK:
                    asked.made = flowing(response, asked, engine.sharing)
            elif (answer := whole_answer(asked, response)) is not None:
                yield Do(engine, "keep", (asked, answer))
                asked.made = answer
        except _UnmergeableError:
            raise
        except Exception as error:  # noqa: BLE001 - the answer is there; recording it is our own affair
            engine.failed("store", error, asked.info)
        return response

    def _nearhit_take_inputs(self: Any, response: Any, asked: Asked) -> Plan[Any]:
        """Keeps the embeddings of new inputs, and puts them together with the known ones."""
        engine: Engine = self._nearhit_state.engine
        inputs = asked.inputs
        assert inputs is not None  # noqa: S101 - looked at by the caller
        answers = inputs.take(read_body(response)) if response.is_closed else None
        if answers is None:
            if inputs.partial:
                raise _UnmergeableError("the answer does not hold an embedding for each of the inputs asked for")
            return response
        yield Do(engine, "keep_inputs", (asked, answers))
        asked.made = Answer("embeddings", inputs.joined())
        return rewritten(response, asked.made.stored) if inputs.partial else response


class Sync(Common):
    """`openai.OpenAI` with the cache in front."""

    def request(self: Any, cast_to: Any, options: Any, *, stream: bool = False, stream_cls: Any = None) -> Any:
        asked = self._nearhit_ask(options, stream)
        if asked is None:
            return self._nearhit_base.request(self, cast_to, options, stream=stream, stream_cls=stream_cls)
        return drive(self._nearhit_course(asked, Call(cast_to, options, stream, stream_cls)))

    def _process_response(self: Any, *, response: Any, **given: Any) -> Any:
        process = self._nearhit_base._process_response  # noqa: SLF001 - the step taken over
        return process(self, response=drive(self._nearhit_record(response)), **given)

    def _nearhit_upstream(self: Any, cast_to: Any, options: Any, stream: bool, stream_cls: Any) -> Any:  # noqa: FBT001 - a `Call`
        return self._nearhit_base.request(self, cast_to, options, stream=stream, stream_cls=stream_cls)

    def _nearhit_processed(self: Any, response: Any, call: Call) -> Any:
        return self._process_response(response=response, **_processing(self, call))


class Async(Common):
    """`openai.AsyncOpenAI` with the cache in front."""

    async def request(self: Any, cast_to: Any, options: Any, *, stream: bool = False, stream_cls: Any = None) -> Any:
        asked = self._nearhit_ask(options, stream)
        if asked is None:
            return await self._nearhit_base.request(self, cast_to, options, stream=stream, stream_cls=stream_cls)
        return await drive_async(self._nearhit_course(asked, Call(cast_to, options, stream, stream_cls)))

    async def _process_response(self: Any, *, response: Any, **given: Any) -> Any:
        process = self._nearhit_base._process_response  # noqa: SLF001 - the step taken over
        return await process(self, response=await drive_async(self._nearhit_record(response)), **given)

    async def _nearhit_upstream_async(self: Any, cast_to: Any, options: Any, stream: bool, stream_cls: Any) -> Any:  # noqa: FBT001 - a `Call`
        return await self._nearhit_base.request(self, cast_to, options, stream=stream, stream_cls=stream_cls)

    async def _nearhit_processed_async(self: Any, response: Any, call: Call) -> Any:
        return await self._process_response(response=response, **_processing(self, call))


def _processing(client: Any, call: Call) -> dict[str, Any]:
    """The other arguments of `_process_response`."""
    cast_to = client._maybe_override_cast_to(call.cast_to, call.options)  # noqa: SLF001 - as in the step taken over
    return {"cast_to": cast_to, "options": call.options, "stream": call.stream, "stream_cls": call.stream_cls}


def _is_streamed(options: Any) -> bool:
    """Whether the caller reads the response's body itself."""
    return isinstance(options.headers, dict) and options.headers.get(RAW) == "stream"
