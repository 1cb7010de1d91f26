"""`wrap`: the client's own class with two of its steps taken over.

A wrapped client is a copy of the one given, of a subclass made for it. Every call of the OpenAI package ends in two of
the client's methods, in all versions that can be wrapped: `request`, which sends, and `_process_response`, which makes
of an HTTP response what the caller gets. The first is answered from the cache, the second records. An answer out of
the cache is an HTTP response like any other to everything above: parsing, streams, helpers, raw responses.

Building a request takes the package some hundred microseconds, so that `create` is asked first whether an equal request
has been answered: that is one look-up of its arguments, and one validation by the very class that the caller expects.
"""

from __future__ import annotations

from contextvars import ContextVar
from functools import cache as remember
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, TypeVar

from nearhit._errors import MissingDependencyError, OptionError
from nearhit.answers import Recorder
from nearhit.openai._controls import FIELD, Controls, checked
from nearhit.openai._engine import CALLS, Engine
from nearhit.openai._info import Counts, attach
from nearhit.openai._responses import RAW, place_of, recorded, response_of, types_of, whole_answer
from nearhit.openai._routing import Routing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nearhit.answers import Answer
    from nearhit.openai._engine import Asked

C = TypeVar("C")

MAJORS: Final = (2, 3)
"""Major versions of the openai package that can be wrapped."""

_STATE: Final = "_nearhit_state"
_OPTIONS: Final = frozenset({"extra_headers", "extra_query", "extra_body", "timeout"})
_GATEWAY_TIMEOUT: Final = 504

_pending: ContextVar[Asked | None] = ContextVar("nearhit.openai.pending", default=None)
"""The request whose response is on its way, between `request` and `_process_response` of one call."""


class State:
    """What a wrapped client and its copies share."""

    def __init__(self, engine: Engine, routing: Routing | None) -> None:
        self.engine = engine
        self.routing = routing


def wrap(
    client: C,
    *,
    cache: Any = None,
    router: Any = None,
    embedding_deadline: float | None = 1.0,
    defaults: Controls | None = None,
) -> C:
    """Puts a cache, a router or both in front of an OpenAI client.

    The client given stays as it is; the one returned is of the same class (a subclass of it), shares its connections,
    and answers chat completions, completions and responses from the cache, whole and as streams, and embeddings where
    the very same ones were asked for before. Everything else passes. `with_options` and `copy` give wrapped clients.

    With a router, a chat completion that the cache has no answer to is answered by the tier that the router chooses,
    so that the `model` of the answer may differ from the one asked for. If no tier can, it goes where it went before.

    A failure of the cache, the embedder or the router never fails a call: it is logged once (logger "nearhit.openai"),
    counted (`counts`), noted on the result (`info`), and the request goes on.

    Args:
        client: An `openai.OpenAI` or `openai.AsyncOpenAI` (or a subclass) of version 2 or 3.
        cache: A `nearhit.Cache` or `nearhit.AsyncCache`; either serves either client.
        router: A `nearhit.Router` or `nearhit.AsyncRouter`; either serves either client.
        embedding_deadline: Seconds after which a lookup that still waits for the embedder is a miss; None: no limit.
        defaults: Controls of every request that does not say otherwise; see `Controls`.

    Raises:
        MissingDependencyError: The openai package is not installed.
        OptionError: A client that cannot be wrapped, or an option out of its range.

    Example:
        >>> import openai
        >>> from nearhit import Cache
        >>> client = wrap(openai.OpenAI(api_key="sk-..."), cache=Cache(), defaults={"tenant": "acme"})
        >>> client.with_options(timeout=5).api_key
        'sk-...'
    """
    base = _refuse_others(client)
    engine = Engine(cache, embedding_deadline=embedding_deadline, defaults=checked(defaults or {}))
    routing = None if router is None else Routing(router, engine)
    copied: Any = base.copy(client)
    copied.__class__ = _wrapped_class(base)
    setattr(copied, _STATE, State(engine, routing))
    return copied  # type: ignore[no-any-return]  # of a subclass of C, made at run time


def counts(client: Any) -> Counts:
    """What a wrapped client, its copies and its original wrapper have done together.

    Raises:
        OptionError: The client is not wrapped.
    """
    state = getattr(client, _STATE, None)
    if not isinstance(state, State):
        raise OptionError(f"{type(client).__name__} is not wrapped: pass what nearhit.openai.wrap() returned")
    return state.engine.counts()


def _refuse_others(client: Any) -> Any:
    """The client's own class, once it is known that it can be wrapped."""
    try:
        openai = import_module("openai")
    except ImportError as error:
        raise MissingDependencyError("wrapping a client needs openai: pip install 'nearhit[openai]'") from error
    supported = " or ".join(str(major) for major in MAJORS)
    kind = type(client)
    version = str(openai.__version__)
    if not isinstance(client, openai.OpenAI | openai.AsyncOpenAI):
        raise OptionError(
            f"cannot wrap {kind.__module__}.{kind.__qualname__}: expected an openai.OpenAI or openai.AsyncOpenAI of "
            f"openai {supported} ({version} is installed)"
        )
    if int(version.split(".", 1)[0]) not in MAJORS:
        raise OptionError(f"cannot wrap a client of openai {version}: nearhit works with openai {supported}")
    base: Any = getattr(kind, "_nearhit_base", kind)
    missing = [name for name in ("request", "_process_response", "_prepare_url", "copy") if not hasattr(base, name)]
    if missing:
        raise OptionError(
            f"cannot wrap {base.__qualname__} of openai {version}: it has no {', '.join(missing)}; nearhit works with "
            f"openai {supported}"
        )
    return base


@remember
def _wrapped_class(base: Any) -> type[Any]:
    """The subclass of a client's class whose requests pass through nearhit."""
    from openai import AsyncOpenAI  # noqa: PLC0415 - there is a client, so the package is loaded

    # The steps are copied into a class with this one base: only then may a client become one of it.
    steps: dict[str, Any] = {**vars(_Common), **vars(_Async if issubclass(base, AsyncOpenAI) else _Sync)}
    namespace = {name: value for name, value in steps.items() if name not in ("__dict__", "__weakref__")}
    named = {"__module__": base.__module__, "__doc__": base.__doc__, "__qualname__": base.__qualname__}
    return type(base.__name__, (base,), {**namespace, **named, "_nearhit_base": base})


class _Common:
    """What the wrapped classes of both kinds have in common."""

    _nearhit_base: type[Any]
    _nearhit_state: State

    def copy(self, **options: Any) -> Any:
        copied: Any = self._nearhit_base.copy(self, **options)
        setattr(copied, _STATE, self._nearhit_state)
        return copied

    with_options = copy

    @cached_property
    def chat(self) -> Any:
        chat = self._nearhit_base.chat.__get__(self)
        _hasten(chat.completions, "/chat/completions", ("messages", "model"))
        return chat

    @cached_property
    def completions(self) -> Any:
        completions = self._nearhit_base.completions.__get__(self)
        _hasten(completions, "/completions", ("prompt", "model"))
        return completions

    @cached_property
    def responses(self) -> Any:
        responses = self._nearhit_base.responses.__get__(self)
        _hasten(responses, "/responses", ("input", "model"))
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
        response = response_of(self, options, body=error, status=_GATEWAY_TIMEOUT)
        refusal: Exception = self._make_status_error_from_response(response)
        return refusal


class _Sync(_Common):
    """`openai.OpenAI` with the cache in front."""

    def request(self: Any, cast_to: Any, options: Any, *, stream: bool = False, stream_cls: Any = None) -> Any:
        asked = self._nearhit_ask(options, stream)
        if asked is None:
            return self._nearhit_base.request(self, cast_to, options, stream=stream, stream_cls=stream_cls)
        state: State = self._nearhit_state
        answer = state.engine.seek(asked)
        response = None if answer is None else self._nearhit_replay(answer, asked, options)
        if response is None:
            if asked.controls.get("only_if_cached"):
                raise self._nearhit_refusal(options)
            if state.routing is not None and asked.call == "chat":
                response = state.routing.answer(self, asked, options)
        token = _pending.set(None if asked.info.hit else asked)
        try:
            if response is None:
                result = self._nearhit_base.request(self, cast_to, options, stream=stream, stream_cls=stream_cls)
            else:
                result = self._process_response(
                    cast_to=self._maybe_override_cast_to(cast_to, options),
                    options=options,
                    response=response,
                    stream=stream,
                    stream_cls=stream_cls,
                )
        finally:
            _pending.reset(token)
        attach(result, asked.info)
        return result

    def _process_response(self: Any, *, response: Any, **given: Any) -> Any:
        asked = _pending.get()
        if asked is not None and asked.store:
            engine: Engine = self._nearhit_state.engine
            try:
                if response.is_closed:
                    answer = whole_answer(asked, response)
                    if answer is not None:
                        engine.keep(asked, answer)
                else:
                    response.stream = recorded(response, Recorder(asked.call, asked.request), asked, engine)
            except Exception as error:  # noqa: BLE001 - the answer is there; recording it is our own affair
                engine.failed("store", error, asked.info)
        process = self._nearhit_base._process_response  # noqa: SLF001 - the step taken over
        return process(self, response=response, **given)


class _Async(_Common):
    """`openai.AsyncOpenAI` with the cache in front."""

    async def request(self: Any, cast_to: Any, options: Any, *, stream: bool = False, stream_cls: Any = None) -> Any:
        asked = self._nearhit_ask(options, stream)
        if asked is None:
            return await self._nearhit_base.request(self, cast_to, options, stream=stream, stream_cls=stream_cls)
        state: State = self._nearhit_state
        answer = await state.engine.seek_async(asked)
        response = None if answer is None else self._nearhit_replay(answer, asked, options)
        if response is None:
            if asked.controls.get("only_if_cached"):
                raise self._nearhit_refusal(options)
            if state.routing is not None and asked.call == "chat":
                response = await state.routing.answer_async(self, asked, options)
        token = _pending.set(None if asked.info.hit else asked)
        try:
            if response is None:
                result = await self._nearhit_base.request(self, cast_to, options, stream=stream, stream_cls=stream_cls)
            else:
                result = await self._process_response(
                    cast_to=self._maybe_override_cast_to(cast_to, options),
                    options=options,
                    response=response,
                    stream=stream,
                    stream_cls=stream_cls,
                )
        finally:
            _pending.reset(token)
        attach(result, asked.info)
        return result

    async def _process_response(self: Any, *, response: Any, **given: Any) -> Any:
        asked = _pending.get()
        if asked is not None and asked.store:
            engine: Engine = self._nearhit_state.engine
            try:
                if response.is_closed:
                    answer = whole_answer(asked, response)
                    if answer is not None:
                        await engine.keep_async(asked, answer)
                else:
                    response.stream = recorded(response, Recorder(asked.call, asked.request), asked, engine)
            except Exception as error:  # noqa: BLE001 - the answer is there; recording it is our own affair
                engine.failed("store", error, asked.info)
        process = self._nearhit_base._process_response  # noqa: SLF001 - the step taken over
        return await process(self, response=response, **given)


def _hasten(resource: Any, path: str, needed: tuple[str, ...]) -> None:
    """Makes a resource's `create` look for an equal request before it builds one."""
    kind: Any = type(resource)
    resource.__class__ = _hastened_class(kind, path, needed)


@remember
def _hastened_class(base: Any, path: str, needed: tuple[str, ...]) -> type[Any]:
    def quick(self: Any, given: dict[str, Any]) -> Any:
        return _quick(self, path, needed, given)

    if base.__name__.startswith("Async"):

        async def create_async(self: Any, *args: Any, **given: Any) -> Any:
            found = None if args else quick(self, given)
            return await base.create(self, *args, **given) if found is None else found

        create: Callable[..., Any] = create_async
    else:

        def create_sync(self: Any, *args: Any, **given: Any) -> Any:
            found = None if args else quick(self, given)
            return base.create(self, *args, **given) if found is None else found

        create = create_sync
    create.__name__, create.__qualname__, create.__doc__ = "create", f"{base.__qualname__}.create", base.create.__doc__
    namespace = {"__module__": base.__module__, "__doc__": base.__doc__, "__qualname__": base.__qualname__}
    return type(base.__name__, (base,), {**namespace, "create": create})


def _quick(resource: Any, path: str, needed: tuple[str, ...], given: Mapping[str, Any]) -> Any:
    """The object or stream that an equal, earlier request was answered with; None if the long way has to be taken.

    Looks at the arguments as they are. The long way turns some of them into others first (objects into dicts, iterators
    into lists), and then looks again.
    """
    client = resource._client  # noqa: SLF001 - the package's own name for it
    state: State = client._nearhit_state  # noqa: SLF001 - ours
    types = types_of(client, path)
    headers = given.get("extra_headers")
    extra = given.get("extra_body")
    if any(given.get(name) is None for name in needed) or (headers and RAW in headers):
        return None
    if extra is not None and not isinstance(extra, dict):
        return None
    body = {
        name: value for name, value in given.items() if name not in _OPTIONS and not isinstance(value, types.omitted)
    }
    stream = bool(body.get("stream"))
    asked = state.engine.ask(
        body,
        path=path,
        base_url=place_of(client),
        extra=extra,
        headers=headers or None,
        query=given.get("extra_query") or None,
        stream=stream,
    )
    answer = state.engine.exact(asked)
    if answer is None:
        return None
    if stream:
        response = types.response(answer.sse(usage=asked.usage))
        result = types.stream(cast_to=types.event, response=response, client=client)
    else:
        try:
            result = types.whole.model_validate(answer.body())
        except ValueError:  # a server of another kind: the package itself is less strict
            return None
    state.engine.count(asked.info.outcome)
    attach(result, asked.info)
    return result
