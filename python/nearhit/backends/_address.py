"""Where the servers are and how to speak to them, from one URL."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal
from urllib.parse import parse_qs, unquote, urlsplit

from nearhit._errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Mapping

_PORTS = {"redis": 6379, "sentinel": 26379}
_PARTS = 2
_SCHEMES = ("redis", "rediss", "unix", "redis+cluster", "rediss+cluster", "redis+sentinel", "rediss+sentinel")
_VERIFY = {"required": ssl.CERT_REQUIRED, "optional": ssl.CERT_OPTIONAL, "none": ssl.CERT_NONE}


@dataclass(frozen=True, slots=True)
class Address:
    """One URL, taken apart.

    Attributes:
        hosts: Host and port of each server named; for a socket file its path and port 0.
        kind: What the hosts are: one server (or any node of a cluster: it says so itself), or sentinels.
        service: Name that the sentinels know the server by.
        username: ACL user; None for the default one.
        password: Its password.
        db: Number of the database.
        protocol: RESP version.
        tls: How to encrypt; None for plain text.
    """

    hosts: tuple[tuple[str, int], ...]
    kind: Literal["server", "cluster", "sentinel"] = "server"
    service: str = ""
    username: str | None = None
    password: str | None = None
    db: int = 0
    protocol: Literal[2, 3] = 3
    tls: ssl.SSLContext | None = None

    def __repr__(self) -> str:
        return f"Address({', '.join(f'{host}:{port}' for host, port in self.hosts)}, kind={self.kind!r})"

    def at(self, host: str, port: int) -> Address:
        """The same way of speaking to another server."""
        return replace(self, hosts=((host, port),), kind="server")


def parse_address(url: str, *, protocol: int = 3) -> Address:
    """Reads a URL.

    Args:
        url: `redis://[user:password@]host[:port][/db]`, `rediss://` for TLS, `unix:///path?db=0`,
            `redis+cluster://host:port,host:port` (a plain `redis://` to a node of a cluster does as well) or
            `redis+sentinel://host:port,host:port/service[/db]`. With TLS, `ssl_ca_certs`, `ssl_certfile`, `ssl_keyfile`
            and `ssl_cert_reqs=none` may follow as parameters; `protocol=2` asks for RESP2.
        protocol: RESP version, unless the URL names one.

    Raises:
        OptionError: Not such a URL. The message does not show the password.

    Example:
        >>> parse_address("redis://cache.internal:6380/2").hosts
        (('cache.internal', 6380),)
    """
    parts = urlsplit(url)
    shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    if parts.scheme not in _SCHEMES:
        raise OptionError(f"option url={shown!r} is not valid: expected one of {', '.join(_SCHEMES)}")
    parameters = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    credentials, _, netloc = parts.netloc.rpartition("@")
    username, _, password = credentials.partition(":")
    secure, _, kind = parts.scheme.partition("+")
    path = [piece for piece in parts.path.split("/") if piece]
    hosts: tuple[tuple[str, int], ...]
    try:
        if parts.scheme == "unix":
            hosts, path = ((unquote(parts.path), 0),), []
        else:
            hosts = tuple(_host(host, _PORTS.get(kind, _PORTS["redis"])) for host in netloc.split(","))
        service = path.pop(0) if kind == "sentinel" else ""
        db = int(path[0] if path else parameters.get("db", 0))
        version = int(parameters.get("protocol", protocol))
    except (IndexError, ValueError):
        raise OptionError(f"option url={shown!r} is not valid: expected scheme://host:port/db") from None
    if version not in (2, 3):
        raise OptionError(f"option protocol={version!r} is not valid: expected 2 or 3")
    return Address(
        hosts=hosts,
        kind="sentinel" if kind == "sentinel" else "cluster" if kind == "cluster" else "server",
        service=service,
        username=unquote(username) or None,
        password=unquote(password) or None,
        db=db,
        protocol=3 if version == 3 else 2,  # noqa: PLR2004 - the two versions there are
        tls=_context(parameters, shown) if secure == "rediss" else None,
    )


def _host(text: str, port: int) -> tuple[str, int]:
    if text.startswith("["):  # an IPv6 address
        host, _, rest = text[1:].partition("]")
        return host, int(rest[1:] or port)
    pieces = text.split(":")
    if not pieces[0] or len(pieces) > _PARTS:
        raise ValueError(text)
    return pieces[0], int(pieces[1]) if len(pieces) == _PARTS else port


def _context(parameters: Mapping[str, str], shown: str) -> ssl.SSLContext:
    verify = parameters.get("ssl_cert_reqs", "required")
    if verify not in _VERIFY:
        raise OptionError(f"option ssl_cert_reqs={verify!r} is not valid: expected {', '.join(_VERIFY)}")
    try:
        context = ssl.create_default_context(cafile=parameters.get("ssl_ca_certs"))
        if "ssl_certfile" in parameters:
            context.load_cert_chain(parameters["ssl_certfile"], parameters.get("ssl_keyfile"))
    except OSError as error:
        raise OptionError(f"option url={shown!r}: its certificates cannot be read: {error}") from None
    context.check_hostname = verify == "required"
    context.verify_mode = _VERIFY[verify]
    return context
