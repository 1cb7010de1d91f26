"""Connections of a remote tier: where they lead, how they are opened and closed, and what must not be shown of them."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from nearhit._errors import OptionError

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncGenerator, AsyncIterator, Mapping

    import httpx2

    from nearhit.tiers.timing import Stopwatch

_DRAIN_SECONDS = 0.05
"""How long a finished answer's connection may take to reach its end; past that it is closed, not kept for reuse."""


class Client:
    """An HTTP client that is closed when its event loop shuts down.

    `asyncio.run` and the portal close every asynchronous generator of their loop before they close the loop; one that
    lives as long as the client is therefore a safe place to close it, even if the caller forgets to.
    """

    def __init__(self, http: httpx2.AsyncClient) -> None:
        self.http = http
        self._life = self._live()

    async def bind(self) -> None:
        """Ties the client to the running loop."""
        await anext(self._life)

    async def _live(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            await self.http.aclose()

    async def aclose(self) -> None:
        """Closes the client."""
        await self._life.aclose()


class Connecting:
    """Notes how long the HTTP client took to connect and to agree on encryption."""

    def __init__(self, watch: Stopwatch) -> None:
        self._watch = watch
        self._since: float | None = None

    async def __call__(self, event: str, _info: Mapping[str, Any]) -> None:
        """Takes the HTTP client's word for each step."""
        if event == "connection.connect_tcp.started":
            self._since = time.perf_counter()
        elif event in ("connection.connect_tcp.complete", "connection.start_tls.complete") and self._since is not None:
            self._watch.connect = time.perf_counter() - self._since


class Secrets:
    """What must be sent and never shown: the key, and headers that carry one."""

    __slots__ = ("_headers", "_values")

    def __init__(self, api_key: str | None, headers: Mapping[str, str]) -> None:
        self._headers = dict(headers)
        if api_key is not None:
            self._headers.setdefault("authorization", f"Bearer {api_key}")
        values = {api_key, *headers.values()} - {None}
        # Short values are words that any message may hold.
        self._values = [value for value in values if value is not None and len(value) >= 8]  # noqa: PLR2004

    def __repr__(self) -> str:
        return "Secrets(***)"

    def headers(self) -> dict[str, str]:
        """Returns the headers that every request carries."""
        return dict(self._headers)

    def redact(self, text: str) -> str:
        """Returns a text, perhaps a server's echo, without them."""
        for value in self._values:
            text = text.replace(value, "***")
        return text


def check_key(api_key: object) -> None:
    """Raises `OptionError`, which does not show it, unless the key can be a header's value."""
    if api_key is None:
        return
    if not isinstance(api_key, str) or not api_key.strip() or not api_key.isascii() or not api_key.isprintable():
        raise OptionError("api_key must be a printable ASCII text, or None for a server without keys")


def verification(url: str, *, verify: bool | ssl.SSLContext, trust_env: bool) -> bool | ssl.SSLContext:
    """Returns what to verify servers with, loading the HTTP client and the certificates.

    Both take 0.2 s, which would hold up an event loop if they were left to the first request.
    """
    import httpx2  # noqa: PLC0415 - loading it takes longer than `import nearhit` may

    if url.startswith("http:"):
        return False  # there is nothing to verify
    return httpx2.create_ssl_context(verify, trust_env=trust_env)


def endpoint(base_url: str) -> str:
    """Returns the address of chat completions below `base_url`.

    Raises:
        OptionError: It is no HTTP address, or it holds a password.
    """
    from urllib.parse import urlsplit, urlunsplit  # noqa: PLC0415 - only needed here, once

    if not isinstance(base_url, str):
        raise OptionError(f"base_url must be a text, not {type(base_url).__name__}")
    try:
        parts = urlsplit(base_url.strip())
        valid = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        valid = False
    if not valid:
        shown = repr(base_url) if "@" not in base_url else "the one given"
        raise OptionError(f"base_url must be an address such as 'http://localhost:8000/v1', not {shown}")
    if parts.username is not None or parts.password is not None:
        raise OptionError("base_url must not hold a user or password: pass api_key or headers instead")
    path = parts.path.rstrip("/").removesuffix("/chat/completions")
    return urlunsplit((parts.scheme, parts.netloc, path + "/chat/completions", parts.query, ""))


async def drain(pieces: AsyncIterator[bytes]) -> None:
    """Reads a finished answer to its end, so that its connection can be used again."""
    with suppress(Exception):  # the answer is whole; what becomes of its connection is not the caller's concern
        async with asyncio.timeout(_DRAIN_SECONDS):
            async for _ in pieces:
                pass
