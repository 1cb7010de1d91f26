"""A tier behind any server that speaks OpenAI's chat-completions API."""

from __future__ import annotations

import asyncio
import weakref
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlsplit

from nearhit._errors import (
    TierConnectionError,
    TierError,
    TierProtocolError,
    TierRateLimitError,
    TierStatusError,
    TierTimeoutError,
    TierUnsupportedError,
)
from nearhit.tiers import wire
from nearhit.tiers.base import Tier
from nearhit.tiers.connection import Client, Connecting, Secrets, check_key, drain, endpoint, verification
from nearhit.tiers.sse import SSEError, SSEParser
from nearhit.tiers.timing import Timeouts

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence

    import httpx2

    from nearhit._types import Chunk, Message
    from nearhit.tiers.limits import Slot
    from nearhit.tiers.timing import Stopwatch

_DEFAULT_TIMEOUTS = Timeouts(connect=5.0, first_token=60.0, stall=30.0, total=600.0)
_MAX_ERROR_BYTES = 64 * 1024
_MAX_BODY_BYTES = 256 * 1024 * 1024


class OpenAITier(Tier):
    """Answers with a model behind an OpenAI-compatible server.

    Answers are streamed, so that the time to the first token, stalls and cuts are seen; `complete` puts the pieces
    together. With `stream=False` among the parameters, or `n` above 1, the answer is asked for in one body; its
    time to the first token is then the time to the whole. Parameters that nearhit does not know travel untouched;
    `extra_headers` and `extra_body` of a request are added to its headers and its body. An answer is whole only with
    a finish reason: one that ends without is an error, however much of it has come.

    Connections are kept and reused, by each event loop apart. The key is sent to the server and shown nowhere.

    Args:
        name: How logs, decisions and errors call this tier.
        model: The model's name as the server knows it.
        base_url: Where the API begins, for example "https://api.openai.com/v1".
        api_key: Sent as a bearer token; None for none. No environment variable is read.
        headers: Further headers of every request.
        include_usage: Ask for token counts in streams (`stream_options`); False for servers that refuse the option.
        timeouts: Limits of every request that sets none of its own; by default 5 s to connect, 60 s to the first
            token, 30 s between pieces and 600 s in all.
        verify: False to trust any certificate, or an SSL context; for servers of one's own.
        trust_env: Whether HTTP_PROXY and its like are obeyed.
        **options: As for `Tier`.

    Raises:
        OptionError: A base_url that is not an HTTP address or that holds a password, or an option out of its range.

    Example:
        >>> tier = OpenAITier("large", "gpt-4o", base_url="https://api.openai.com/v1", api_key="sk-secret")
        >>> tier
        OpenAITier('large', 'gpt-4o', base_url='https://api.openai.com/v1')
    """

    def __init__(
        self,
        name: str,
        model: str,
        *,
        base_url: str,
        api_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        include_usage: bool = True,
        timeouts: Timeouts | None = None,
        verify: bool | ssl.SSLContext = True,
        trust_env: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(name, model, timeouts=timeouts or _DEFAULT_TIMEOUTS, **options)
        self._url = endpoint(base_url)
        check_key(api_key)
        self._secrets = Secrets(api_key, headers or {})
        self._include_usage = include_usage
        self._verify = verification(self._url, verify=verify, trust_env=trust_env)
        self._trust_env = trust_env
        self._clients: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Client] = weakref.WeakKeyDictionary()

    @property
    def base_url(self) -> str:
        """Where the API begins, without a query."""
        return self._url.partition("?")[0].removesuffix("/chat/completions")

    @property
    def address(self) -> tuple[str, int] | None:
        """Host and port of the API."""
        parts = urlsplit(self._url)
        return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)

    @property
    def provider(self) -> str:
        """Whose API it is; servers that are compatible with it say nothing else."""
        return "openai"

    def __repr__(self) -> str:
        return f"OpenAITier({self.name!r}, {self.model!r}, base_url={self.base_url!r})"

    async def aclose(self) -> None:
        """Closes the connections of this event loop, and those of others as soon as they get to it."""
        await super().aclose()
        here = asyncio.get_running_loop()
        for loop, client in list(self._clients.items()):
            del self._clients[loop]
            if loop is here:
                await client.aclose()
            elif loop.is_running():  # one that has ended has closed its connections
                with suppress(RuntimeError):  # or has just done so
                    asyncio.run_coroutine_threadsafe(client.aclose(), loop)

    async def _open(
        self, messages: Sequence[Message], params: Mapping[str, Any], watch: Stopwatch, slot: Slot, timeouts: Timeouts
    ) -> AsyncGenerator[Chunk, None]:
        del slot  # nothing goes on once the connection is closed
        headers, body = self._request(messages, params)
        async with self._answer(headers, body, watch, timeouts) as response:
            kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind == "text/event-stream" or (body["stream"] and kind in ("", "text/plain")):
                async with aclosing(self._events(response, watch)) as chunks:
                    async for chunk in chunks:
                        yield chunk
            elif kind == "application/json" or kind.endswith("+json") or not kind:
                yield await self._body(response)
            else:
                start = await self._read(response, _MAX_ERROR_BYTES)
                raise self._broken(f"an answer of type {kind!r} is none: {wire.snippet(start)!r}")

    def _request(
        self, messages: Sequence[Message], params: Mapping[str, Any]
    ) -> tuple[Mapping[str, str], dict[str, Any]]:
        given = dict(params)
        headers = given.pop("extra_headers", None) or {}
        extra = given.pop("extra_body", None) or {}
        streaming = bool(given.pop("stream", True)) and given.get("n") in (None, 1)
        body = {"model": self.model, "messages": [*map(dict, messages)], **given, "stream": streaming, **extra}
        if streaming and self._include_usage:
            body["stream_options"] = {"include_usage": True, **(body.get("stream_options") or {})}
        return headers, body

    @asynccontextmanager
    async def _answer(
        self, headers: Mapping[str, str], body: Mapping[str, Any], watch: Stopwatch, timeouts: Timeouts
    ) -> AsyncIterator[httpx2.Response]:
        """Sends a request and yields the open answer, once its status is 200."""
        import httpx2  # noqa: PLC0415 - loaded by the constructor

        content = wire.encode_body(body)
        client = (await self._client()).http
        request = client.build_request(
            "POST",
            self._url,
            content=content,
            headers={"content-type": "application/json", **headers},
            # Everything after the connection is limited by the stream, in terms of tokens rather than of reads.
            timeout=httpx2.Timeout(None, connect=timeouts.connect),
            extensions={"trace": Connecting(watch)},
        )
        with self._explained(timeouts):
            response = await client.send(request, stream=True)
        try:
            watch.first_byte()
            with self._explained(timeouts):
                if response.status_code != HTTPStatus.OK:
                    await self._refuse(response)
            yield response
        finally:
            await response.aclose()

    async def _events(self, response: httpx2.Response, watch: Stopwatch) -> AsyncGenerator[Chunk, None]:
        parser = SSEParser()
        finished = done = False
        received = 0
        pieces = response.aiter_bytes()
        try:
            while not done:
                with self._explained(received=received):
                    data = await anext(pieces, None)
                try:
                    events = parser.finish() if data is None else parser.feed(data)
                except SSEError as error:
                    raise self._broken(str(error)) from error
                for event in events:
                    if event.data.strip() == wire.DONE:
                        done = True
                        break
                    chunk = self._piece(event.data)
                    received += len(chunk.text)
                    finished = finished or chunk.finish_reason is not None
                    yield chunk
                if data is None:
                    break
            if not finished:
                raise self._broken(f"the stream ended after {received} characters without a finish reason")
            watch.finish()
            if done:
                await drain(pieces)
        finally:
            await pieces.aclose()

    async def _body(self, response: httpx2.Response) -> Chunk:
        chunk = self._piece(await self._read(response, _MAX_BODY_BYTES), key="message")
        if chunk.finish_reason is None:
            raise self._broken("the answer has no finish reason")
        return chunk

    def _piece(self, data: str | bytes, *, key: str = "delta") -> Chunk:
        try:
            event = wire.decode_object(data)
            # A few servers send the whole message in a stream's only event.
            choices = event.get("choices")
            if key == "delta" and choices and isinstance(choices, list) and isinstance(choices[0], dict):
                key = "delta" if "delta" in choices[0] or "message" not in choices[0] else "message"
            return wire.read_piece(event, key=key)
        except wire.WireError as error:
            raise self._broken(str(error)) from error
        except wire.ServerError as error:
            words = self._secrets.redact(str(error))
            raise self._status_error(
                f"tier {self.name!r}: the server reported an error within its answer: {words}", error.status, words
            ) from None

    async def _read(self, response: httpx2.Response, limit: int) -> bytes:
        """Returns the body; beyond `limit` bytes of an error the rest is left, of an answer refused."""
        parts, size = [], 0
        with self._explained():
            async for part in response.aiter_bytes():
                parts.append(part)
                size += len(part)
                if size > limit:
                    if limit == _MAX_BODY_BYTES:
                        raise self._broken(f"a body of more than {limit} bytes")
                    break
        return b"".join(parts)

    async def _refuse(self, response: httpx2.Response) -> NoReturn:
        """Raises for an answer whose status is not 200."""
        try:
            body = await self._read(response, _MAX_ERROR_BYTES)
        except TierError:
            body = b""  # the status says enough
        words = self._secrets.redact(wire.error_words(body))
        status = response.status_code
        message = f"tier {self.name!r}: HTTP {status}{': ' if words else ''}{words}"
        if wire.means_too_long(body):
            raise TierUnsupportedError(message, tier=self.name, needs=("context",))
        if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
            message += f" (redirects are not followed; check base_url {self.base_url!r})"
        raise self._status_error(message, status, words, wire.read_retry_after(response.headers))

    def _status_error(self, message: str, status: int, body: str, retry_after: float | None = None) -> TierStatusError:
        kind = TierRateLimitError if status == HTTPStatus.TOO_MANY_REQUESTS else TierStatusError
        return kind(message, tier=self.name, status=status, retry_after=retry_after, body=body)

    def _broken(self, what: str) -> TierProtocolError:
        return TierProtocolError(f"tier {self.name!r}: {self._secrets.redact(what)}", tier=self.name)

    @contextmanager
    def _explained(self, timeouts: Timeouts | None = None, received: int | None = None) -> Iterator[None]:
        """Turns the HTTP client's errors into the tier's."""
        import httpx2  # noqa: PLC0415 - loaded by the constructor

        try:
            yield
        except httpx2.ConnectTimeout:
            limit = timeouts.connect if timeouts else None
            raise TierTimeoutError(
                f"tier {self.name!r}: no connection to {self.base_url} within {limit} s",
                tier=self.name,
                phase="connect",
            ) from None
        except (httpx2.TransportError, httpx2.StreamError, OSError) as error:
            self.refuse_closed()
            words = self._secrets.redact(str(error)) or type(error).__name__
            what = f"no connection to {self.base_url}" if isinstance(error, httpx2.ConnectError) else "connection lost"
            after = "" if received is None else f" after {received} characters of the answer"
            raise TierConnectionError(f"tier {self.name!r}: {what}{after}: {words}", tier=self.name) from None
        except httpx2.HTTPError as error:
            raise self._broken(str(error) or type(error).__name__) from None
        except RuntimeError:
            self.refuse_closed()  # the client says only that it has been closed
            raise

    async def _client(self) -> Client:
        """Returns this event loop's client, opening it on first use."""
        loop = asyncio.get_running_loop()
        client = self._clients.get(loop)
        if client is None:
            import httpx2  # noqa: PLC0415 - loaded by the constructor

            http = httpx2.AsyncClient(
                headers={"user-agent": "nearhit", **self._secrets.headers()},
                verify=self._verify,
                trust_env=self._trust_env,
                limits=httpx2.Limits(max_connections=None, max_keepalive_connections=100, keepalive_expiry=30.0),
            )
            client = self._clients[loop] = Client(http)
            await client.bind()
        return client

    def _after_fork(self) -> None:
        super()._after_fork()
        # The parent's connections stay open in the parent; closing or using them here would disturb it.
        _parents_clients.extend(self._clients.values())
        self._clients = weakref.WeakKeyDictionary()


_parents_clients: list[Client] = []
