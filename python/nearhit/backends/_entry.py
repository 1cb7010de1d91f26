"""An entry on its way between a cache and a server."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from nearhit._core import Request

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from nearhit.backends._wire import Command

FIELDS: Final = ("i", "s", "c", "x", "n", "h", "u", "f", "p", "o", "m", "r")
"""id, scope, created, expires (ms), the log's position and epoch, caller, form, prompt, caller's scope, more, reply."""

_MILLIS: Final = 1000
_MOST_EXACT: Final = 2**53  # milliseconds beyond it are no number of ours


@dataclass(slots=True)
class Entry:
    """One entry; times are seconds since 1970.

    Attributes:
        id: Fingerprint of the request.
        scope: Id of the request's scope.
        prompt: The text that may be compared by meaning.
        caller: Id of the caller's own scope.
        label: The caller's scope as JSON; None for the shared one.
        form: How `response` is to be read.
        response: The answer.
        tags: Labels.
        cost: What the answer saves.
        model: Model that gave it.
        tokens: Tokens of prompt and answer.
        created: When it was made.
        expires: When it ends; None for never.
        position: How far the writer had read the log of invalidations when it stored the answer.
        epoch: Which log that was.
        vector: The prompt's vector.
        token: Fencing token of the lock under which it was made; 0 without one.
    """

    id: str
    scope: str
    prompt: str | None
    caller: str
    label: str | None
    form: Literal["text", "bytes", "json"]
    response: bytes
    tags: tuple[str, ...]
    cost: float | None
    model: str | None
    tokens: tuple[int, int] | None
    created: float
    expires: float | None
    position: int = 0
    epoch: str = ""
    vector: NDArray[np.float32] | None = None
    token: int = 0

    @property
    def size(self) -> int:
        """Bytes, about."""
        return len(self.response) + len(self.prompt or "") + (0 if self.vector is None else self.vector.nbytes) + 512

    @property
    def dim(self) -> int:
        """Length of the vector, 0 without one."""
        return 0 if self.vector is None else len(self.vector)

    def fields(self) -> Command:
        """Names and values of the hash."""
        more = {"tags": self.tags, "cost": self.cost, "model": self.model, "tokens": self.tokens}
        values: list[str | bytes | int] = []
        for name, value in (
            ("i", self.id),
            ("s", self.scope),
            ("c", round(self.created * _MILLIS)),
            ("x", None if self.expires is None else round(self.expires * _MILLIS)),
            ("n", self.position),
            ("h", self.epoch),
            ("u", self.caller),
            ("f", self.form),
            ("p", None if self.prompt is None else self.prompt.encode("utf-8", "surrogatepass")),
            ("o", self.label),
            ("m", json.dumps(more, separators=(",", ":"))),
            ("r", self.response),
        ):
            if value is not None:
                values += (name, value)
        if self.vector is not None:
            values += (vector_field(self.dim), self.vector.tobytes())
        return tuple(values)

    def request(self) -> Request:
        """The request it answers."""
        return Request.from_parts(
            self.id, self.scope, self.prompt, None if self.label is None else json.loads(self.label)
        )

    def options(self) -> dict[str, Any]:
        """Keyword arguments of the core's `store`, vector apart."""
        return {
            "json": self.form == "json",
            "tags": list(self.tags),
            "cost": self.cost,
            "model": self.model,
            "tokens": self.tokens,
            "created": self.created,
            "expires": self.expires,
        }

    def answer(self) -> str | bytes:
        """The answer as the core takes it."""
        return self.response if self.form == "bytes" else self.response.decode()

    def value(self) -> Any:
        """The answer as it was stored."""
        return json.loads(self.response) if self.form == "json" else self.answer()


def vector_field(dim: int) -> str:
    """Name of the field that holds a vector: indexes of one dimension see no other."""
    return f"v{dim}"


def decode(values: Sequence[bytes | None], dim: int) -> Entry | None:
    """The entry of a hash's values, `FIELDS` and the vector; None for anything that is not one of ours, whole."""
    try:
        entry_id, scope, created, expires, position, epoch, caller, form, prompt, label, more, response, *rest = values
        if None in (entry_id, scope, created, position, epoch, caller, form, more, response):
            return None
        fields = json.loads(more or b"")
        if form not in (b"text", b"bytes", b"json"):
            return None
        vector = None
        if rest and rest[0] is not None:
            vector = np.frombuffer(rest[0], dtype=np.float32)
            if len(vector) != dim or not np.isfinite(vector).all():
                return None
        tokens = fields["tokens"]
        return Entry(
            id=_text(entry_id),
            scope=_text(scope),
            prompt=None if prompt is None else _text(prompt),
            caller=_text(caller),
            label=None if label is None else _text(label),
            form=_text(form),  # type: ignore[arg-type]  # looked at above
            response=response or b"",
            tags=tuple(fields["tags"]),
            cost=fields["cost"],
            model=fields["model"],
            tokens=None if tokens is None else (tokens[0], tokens[1]),
            created=_seconds(created),
            expires=None if expires is None else _seconds(expires),
            position=int(position or 0),
            epoch=_text(epoch),
            vector=vector,
        )
    except (ValueError, TypeError, KeyError, IndexError):
        return None


def _text(value: bytes | None) -> str:
    return (value or b"").decode()


def _seconds(value: bytes | None) -> float:
    millis = int(value or 0)
    if not 0 <= millis < _MOST_EXACT:
        raise ValueError(value)
    return millis / _MILLIS
