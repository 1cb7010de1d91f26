"""Between answers and the HTTP responses that the openai package reads."""

from __future__ import annotations

import json
from functools import cache
from http import HTTPStatus
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from nearhit.answers import Answer, is_complete
from nearhit.openai._shared import AsyncSharedStream, SharedStream

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator, Mapping

    from nearhit.answers import Recorder
    from nearhit.openai._engine import Asked, Engine
    from nearhit.openai._sharing import Sharing

RAW: Final = "X-Stainless-Raw-Response"
"""Header by which the package's own methods ask for the response in place of what is in it."""

_EVENTS: Final = {"content-type": "text/event-stream"}
_JSON: Final = {"content-type": "application/json"}
_OF_ONE_CONNECTION: Final = frozenset({"connection", "content-length", "keep-alive", "transfer-encoding"})


class Types(NamedTuple):
    """What the answers of one call are, in the installed version of the package.

    Attributes:
        whole: Class of a whole answer.
        event: Class of a stream's event (or a union of classes).
        stream: Class of the stream.
        omitted: Classes of arguments that count as not given.
        response: Makes the HTTP response of a stream's bytes.
    """

    whole: Any
    event: Any
    stream: Any
    omitted: tuple[type, ...]
    response: Callable[[bytes | None], Any]


def place_of(client: Any) -> str:
    """Where a client sends its requests."""
    return str(client._base_url).rstrip("/")  # noqa: SLF001 - the public property is ten times slower


def types_of(client: Any, path: str) -> Types:
    """The classes of a call's answers for this client."""
    kind: Any = type(client)
    return _types_of(kind, _http_kind(client), path)


def _http_kind(client: Any) -> Any:
    return type(client._client)  # noqa: SLF001 - the package's own name for it


@cache
def _types_of(client: Any, http_client: Any, path: str) -> Types:
    import openai  # noqa: PLC0415 - there is a client, so the package is loaded
    from openai import types  # noqa: PLC0415 - likewise
    from openai.types import chat, responses  # noqa: PLC0415 - likewise

    whole, event = {
        "/chat/completions": (chat.ChatCompletion, chat.ChatCompletionChunk),
        "/completions": (types.Completion, types.Completion),
        "/responses": (responses.Response, responses.ResponseStreamEvent),
    }[path]
    http = _http_of(http_client)
    request = http.Request("POST", f"http://cache{path}")

    def response(content: bytes | None) -> Any:
        return http.Response(HTTPStatus.OK, headers=_EVENTS, content=content, request=request)

    stream = openai.AsyncStream if issubclass(client, openai.AsyncOpenAI) else openai.Stream
    absent = import_module("openai._types")
    omitted = tuple(getattr(absent, name) for name in ("NotGiven", "Omit") if hasattr(absent, name))
    return Types(whole, event, stream, omitted, response)


@cache
def _http_of(http_client: Any) -> Any:
    """The module, httpx or httpx2, that a client's connections are made with."""
    roots = [cls.__module__.split(".", 1)[0] for cls in http_client.__mro__]
    return import_module(next(root for root in roots if root in ("httpx", "httpx2")))


def response_of(
    client: Any,
    options: Any,
    *,
    body: Mapping[str, Any] | None = None,
    stream: Any = None,
    status: int = HTTPStatus.OK,
) -> Any:
    """An HTTP response that nobody sent.

    Args:
        client: The wrapped client.
        options: The request's options, as the package passes them around.
        body: A JSON body; or
        stream: the bytes of a stream, or an iterator of them.
        status: Its status.
    """
    http, request = _request_of(client, options)
    if stream is None:
        content = json.dumps(body, ensure_ascii=False).encode("utf-8", "surrogatepass")
        return http.Response(status, headers=_JSON, content=content, request=request)
    if isinstance(stream, bytes):
        return http.Response(status, headers=_EVENTS, content=stream, request=request)
    return http.Response(status, headers=_EVENTS, stream=_stream_class(http, stream)(stream), request=request)


def _request_of(client: Any, options: Any) -> tuple[Any, Any]:
    """The module of a client's connections, and the HTTP request that was not sent."""
    http = _http_of(_http_kind(client))
    given = options.headers if isinstance(options.headers, dict) else {}
    url = client._prepare_url(options.url)  # noqa: SLF001 - the package's own way to a URL
    return http, http.Request("POST", url, headers={RAW: given[RAW]} if RAW in given else None)


def shared_response(client: Any, options: Any, shared: Any, reader: Any) -> Any:
    """The HTTP response of a stream that another request is answered with.

    Args:
        client: The wrapped client.
        options: The request's options.
        shared: The stream.
        reader: This request's reader of it.
    """
    http, request = _request_of(client, options)
    parts = _stream_class(http, reader)(reader)
    return http.Response(HTTPStatus.OK, headers=shared.headers, stream=parts, request=request)


def flowing(response: Any, asked: Asked, sharing: Sharing) -> Any:
    """Lets others read a response's stream, too: the shared stream, which the response now has a reader of."""
    tee = response.stream
    headers = {name: value for name, value in response.headers.items() if name.lower() not in _OF_ONE_CONNECTION}
    kind: Any = AsyncSharedStream if hasattr(tee, "__aiter__") else SharedStream
    flow: Any = _flow_async if hasattr(tee, "__aiter__") else _flow
    shared = kind(flow(tee, asked.key, sharing), headers, asked.info)
    sharing.opened(asked.key, shared)
    reader = shared.join()
    response.stream = _stream_class(import_module(type(response).__module__.split(".", 1)[0]), reader)(reader)
    return shared


def _flow(tee: Any, key: Any, sharing: Sharing) -> Generator[bytes, None, None]:
    try:
        yield from tee
    finally:
        sharing.closed(key)
        tee.close()


async def _flow_async(tee: Any, key: Any, sharing: Sharing) -> AsyncGenerator[bytes, None]:
    try:
        async for part in tee:
            yield part
    finally:
        sharing.closed(key)
        await tee.aclose()


def read_body(response: Any) -> Any:
    """The JSON of a good response; None if it is none."""
    try:
        return json.loads(response.content) if response.status_code == HTTPStatus.OK else None
    except ValueError:
        return None


def rewritten(response: Any, body: Mapping[str, Any]) -> Any:
    """A response with another body."""
    left_out = _OF_ONE_CONNECTION | {"content-encoding"}
    headers = {name: value for name, value in response.headers.items() if name.lower() not in left_out}
    content = json.dumps(body, ensure_ascii=False).encode("utf-8", "surrogatepass")
    made = type(response)(response.status_code, headers=headers, content=content, request=response.request)
    made.elapsed = response.elapsed
    return made


def whole_answer(asked: Asked, response: Any, data: bytes | None = None) -> Answer | None:
    """The answer in a response that came whole, if it is one that may be kept.

    Args:
        asked: The request.
        response: The HTTP response.
        data: Its body, where that was not read into the response itself.
    """
    if response.status_code != HTTPStatus.OK or (asked.stream and data is None):
        return None
    try:
        body = json.loads(response.content if data is None else data)
    except ValueError:
        return None
    if not isinstance(body, dict) or not is_complete(asked.call, body, asked.request):
        return None
    return Answer(asked.call, body)


def recorded(response: Any, recorder: Recorder, asked: Asked, engine: Engine) -> Any:
    """A response's stream that is recorded while it passes, and kept when it has come to a good end."""
    inner = response.stream
    tape = _Tape(response, recorder, asked)
    http = import_module(type(response).__module__.split(".", 1)[0])
    kind = _async_tee(http) if hasattr(inner, "__aiter__") else _tee(http)
    return kind(inner, tape, engine)


class _Tape:
    """The end of a recording: once, whoever comes to it first."""

    def __init__(self, response: Any, recorder: Recorder, asked: Asked) -> None:
        self._response = response
        self.recorder = recorder
        self.asked = asked
        self._taken = False

    def take(self, engine: Engine, *, ended: bool) -> Answer | None:
        """The whole answer, the first time; None later, and for a stream that was none."""
        if self._taken:
            return None
        self._taken = True
        try:
            return self._read(ended=ended)
        except Exception as error:  # noqa: BLE001 - the answer has passed; reading it is our own affair
            engine.failed("store", error, self.asked.info)
            return None

    def _read(self, *, ended: bool) -> Answer | None:
        response = self._response
        data = self.recorder.data()
        if "content-encoding" in response.headers:
            data = type(response)(HTTPStatus.OK, headers=response.headers, content=data).content
        if not self.asked.stream:
            return whole_answer(self.asked, response, data) if ended else None
        return self.recorder.finish(ended=ended, data=data) if response.status_code == HTTPStatus.OK else None


@cache
def _tee(http: Any) -> type[Any]:
    """The class of recorded streams for synchronous clients of one HTTP package."""

    class Tee(http.SyncByteStream):  # type: ignore[misc]  # its base is known at run time
        def __init__(self, inner: Any, tape: _Tape, engine: Engine) -> None:
            self._inner, self._tape, self._engine = inner, tape, engine

        def __iter__(self) -> Iterator[bytes]:
            feed = self._tape.recorder.feed
            for part in self._inner:
                feed(part)
                yield part
            self._end(ended=True)

        def close(self) -> None:
            try:
                self._inner.close()
            finally:
                self._end(ended=False)

        def _end(self, *, ended: bool) -> None:
            answer = self._tape.take(self._engine, ended=ended)
            if answer is not None:
                self._engine.keep(self._tape.asked, answer)

    return Tee


@cache
def _async_tee(http: Any) -> type[Any]:
    """The class of recorded streams for asynchronous clients of one HTTP package."""

    class AsyncTee(http.AsyncByteStream):  # type: ignore[misc]  # its base is known at run time
        def __init__(self, inner: Any, tape: _Tape, engine: Engine) -> None:
            self._inner, self._tape, self._engine = inner, tape, engine

        async def __aiter__(self) -> AsyncIterator[bytes]:
            feed = self._tape.recorder.feed
            async for part in self._inner:
                feed(part)
                yield part
            await self._end(ended=True)

        async def aclose(self) -> None:
            try:
                await self._inner.aclose()
            finally:
                await self._end(ended=False)

        async def _end(self, *, ended: bool) -> None:
            answer = self._tape.take(self._engine, ended=ended)
            if answer is not None:
                await self._engine.keep_async(self._tape.asked, answer)

    return AsyncTee


@cache
def _plain(http: Any) -> type[Any]:
    class Plain(http.SyncByteStream):  # type: ignore[misc]  # its base is known at run time
        def __init__(self, parts: Any) -> None:
            self._parts = parts

        def __iter__(self) -> Iterator[bytes]:
            try:
                yield from self._parts
            except TimeoutError as error:  # of a stream that another request reads, too
                raise http.ReadTimeout("nothing came of the stream in time") from error

        def close(self) -> None:
            self._parts.close()

    return Plain


@cache
def _async_plain(http: Any) -> type[Any]:
    class AsyncPlain(http.AsyncByteStream):  # type: ignore[misc]  # its base is known at run time
        def __init__(self, parts: Any) -> None:
            self._parts = parts

        async def __aiter__(self) -> AsyncIterator[bytes]:
            try:
                async for part in self._parts:
                    yield part
            except TimeoutError as error:  # of a stream that another request reads, too
                raise http.ReadTimeout("nothing came of the stream in time") from error

        async def aclose(self) -> None:
            await self._parts.aclose()

    return AsyncPlain


def _stream_class(http: Any, parts: Any) -> type[Any]:
    """The class of streams made of a generator's parts."""
    return _async_plain(http) if hasattr(parts, "__aiter__") else _plain(http)
