"""An entry on its way between a cache and a server: two binary fields of a hash.

- `e`: a header of fixed length, then what has a length of its own, the answer last.
- `n`: the vector and the prompt, by which others may be compared with it. It goes away when the entry may only answer
  its own prompt any more.

Both begin with a checksum. One field in place of one for each value spares a server that searches 50 look-ups a
question. The layout belongs to `FORMAT` of the keys: a change of it needs another number there.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import isnan, nan
from struct import Struct
from struct import error as StructError  # noqa: N812 - it is an exception
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias
from zlib import crc32

import numpy as np

from nearhit._core import Request

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from nearhit.backends._wire import Command

Form: TypeAlias = Literal["text", "bytes", "json"]

FIELDS: Final = ("e", "n")
"""What is read of an entry."""

_FORMS: Final[tuple[Form, ...]] = ("text", "bytes", "json")
_MILLIS: Final = 1000
_NEVER: Final = -1
_NO_TOKENS: Final = -1
# Checksum; form; flags; bytes of epoch, model, label and tags; id, scope and caller; created and expires (ms); position
# in the log; cost; tokens of prompt and answer.
_HEAD: Final = Struct("<IBBIIII16s16s16sqqqdqq")
_SUM: Final = Struct("<I")
_NEAR: Final = Struct("<II")  # checksum, values of the vector
_HEAD_SIZE, _SUM_SIZE, _NEAR_SIZE = _HEAD.size, _SUM.size, _NEAR.size
_HAS_MODEL: Final = 1
_HAS_LABEL: Final = 2


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
        vector: The prompt's vector, of unit length.
        token: Fencing token of the lock under which it was made; 0 without one.
        queued: When it was put into the queue, by the monotonic clock.
    """

    id: str
    scope: str
    prompt: str | None
    caller: str
    label: str | None
    form: Form
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
    queued: float = 0.0

    @property
    def size(self) -> int:
        """Bytes, about."""
        return len(self.response) + len(self.prompt or "") + (0 if self.vector is None else self.vector.nbytes) + 512

    @property
    def dim(self) -> int:
        """Length of the vector, 0 without one."""
        return 0 if self.vector is None else len(self.vector)

    def fields(self) -> Command:
        """Names and values of the hash: scope and moment in words, which servers look at, and the two of `FIELDS`."""
        values = ("s", self.scope, "c", round(self.created * _MILLIS), "e", self._packed())
        return values if self.prompt is None else (*values, "n", self._near())

    def _packed(self) -> bytes:
        epoch, model = self.epoch.encode(), _bytes(self.model)
        label, tags = _bytes(self.label), json.dumps(self.tags).encode() if self.tags else b""
        head = _HEAD.pack(
            0,
            _FORMS.index(self.form),
            _HAS_MODEL * (self.model is not None) | _HAS_LABEL * (self.label is not None),
            len(epoch),
            len(model),
            len(label),
            len(tags),
            bytes.fromhex(self.id),
            bytes.fromhex(self.scope),
            bytes.fromhex(self.caller),
            round(self.created * _MILLIS),
            _NEVER if self.expires is None else round(self.expires * _MILLIS),
            self.position,
            nan if self.cost is None else self.cost,
            *(self.tokens or (_NO_TOKENS, _NO_TOKENS)),
        )
        body = b"".join((head[_SUM.size :], epoch, model, label, tags, self.response))
        return _SUM.pack(crc32(body)) + body

    def _near(self) -> bytes:
        vector = b"" if self.vector is None else self.vector.tobytes()
        body = b"".join((_SUM.pack(self.dim), vector, _bytes(self.prompt)))
        return _SUM.pack(crc32(body)) + body

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


def vector_of(near: bytes | None, dim: int) -> NDArray[np.float32] | None:
    """The vector in a field `n`; None if there is none of this length."""
    if near is None or len(near) < _NEAR_SIZE + 4 * dim or dim == 0 or _NEAR.unpack_from(near)[1] != dim:
        return None
    return np.frombuffer(near, np.float32, dim, _NEAR_SIZE)


def decode(fields: Sequence[bytes | None], dim: int) -> Entry | None:
    """The entry of a hash's `FIELDS`; None for anything that is not one of ours, whole.

    A vector of another length than `dim` is another embedder's: the entry is one without.
    """
    try:
        packed, near = fields
        if packed is None:
            return None
        total, form, flags, of_epoch, of_model, of_label, of_tags, entry_id, scope, caller, *rest = _HEAD.unpack_from(
            packed
        )
        created, expires, position, cost, asked, made = rest
        if crc32(memoryview(packed)[_SUM_SIZE:]) != total:
            return None
        model_at = _HEAD_SIZE + of_epoch
        label_at = model_at + of_model
        tags_at = label_at + of_label
        answer_at = tags_at + of_tags
        prompt, vector = _compared(near, dim)
        return Entry(  # in their order: names would take half as long again
            entry_id.hex(),
            scope.hex(),
            prompt,
            caller.hex(),
            packed[label_at:tags_at].decode() if flags & _HAS_LABEL else None,
            _FORMS[form],
            packed[answer_at:],
            tuple(json.loads(packed[tags_at:answer_at])) if of_tags else (),
            None if isnan(cost) else cost,
            packed[model_at:label_at].decode() if flags & _HAS_MODEL else None,
            None if asked == _NO_TOKENS else (asked, made),
            created / _MILLIS,
            None if expires == _NEVER else expires / _MILLIS,
            position,
            packed[_HEAD_SIZE:model_at].decode(),
            vector,
        )
    except (ValueError, TypeError, IndexError, StructError):
        return None


def _compared(near: bytes | None, dim: int) -> tuple[str | None, NDArray[np.float32] | None]:
    """Prompt and vector.

    Raises:
        ValueError: They are not whole.
    """
    if near is None:
        return None, None
    total, count = _NEAR.unpack_from(near)
    start = _NEAR_SIZE + 4 * count
    if start > len(near) or crc32(memoryview(near)[_SUM_SIZE:]) != total:
        raise ValueError(near)
    vector = np.frombuffer(near, np.float32, count, _NEAR_SIZE) if count and count == dim else None
    return near[start:].decode("utf-8", "surrogatepass"), vector


def _bytes(value: str | None) -> bytes:
    return b"" if value is None else value.encode("utf-8", "surrogatepass")
