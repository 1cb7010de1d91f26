"""Invalidations, in one order that every replica sees.

The log is a stream whose entries are numbered without gaps: 1-0, 2-0, ... A replica that has read up to `position`
knows everything that was invalidated so far; an entry carries the position its writer had reached when the answer was
stored, and an invalidation with a later number applies to it, wherever the entry turns up. A number that is missed, a
log that has a new name or ends before our position proves that something went by unseen: the replica then drops all
it holds.
"""

from __future__ import annotations

import threading
import uuid
from time import time
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from nearhit.backends import _scripts
from nearhit.backends._fleet import script_command
from nearhit.backends._wire import log, text

if TYPE_CHECKING:
    from nearhit._core import CacheCore
    from nearhit.backends._entry import Entry
    from nearhit.backends._keys import Keys
    from nearhit.backends._wire import Reply, Wire

Kind: TypeAlias = Literal["id", "demote", "tag", "scope", "older", "clear"]

KEPT: Final = 10_000
"""Invalidations that the stream and every replica remember."""

_WAIT: Final = 400  # milliseconds that one read of the stream waits


class Log:
    """What this replica knows of the log. `lock` is held while an entry is judged and taken, and while events apply.

    Attributes:
        position: Number of the last event applied; -1 before the first contact.
        epoch: Name of the log.
        forgotten: Number of the last event that is not remembered any more.
        strict: Refuse entries older than all that is remembered: the server may have evicted what finds them.
        drops: How often everything was dropped because it could not be proven fresh.
    """

    def __init__(self, keys: Keys, core: CacheCore) -> None:
        self._keys = keys
        self._core = core
        self._latest: dict[tuple[str, str], int] = {}
        self._older: tuple[float, int] = (0.0, 0)
        self._ahead: dict[tuple[str, str], int] = {}
        self.lock = threading.RLock()
        self.origin = uuid.uuid4().hex
        self.position = -1
        self.epoch = ""
        self.forgotten = 0
        self.strict = False
        self.drops = 0

    def allows(self, entry: Entry) -> bool:
        """Whether an entry found on a server, or about to be written to one, is known not to be invalidated."""
        if entry.epoch != self.epoch or entry.position > self.position:
            return False
        position, latest = entry.position, self._latest
        if position == self.position and not self._ahead:
            return True  # nothing at all has been invalidated since
        if self.strict and position < self.forgotten:
            return False
        marks = [("clear", ""), ("id", entry.id), ("scope", entry.caller), *(("tag", tag) for tag in entry.tags)]
        if any(latest.get(mark, 0) > position or mark in self._ahead for mark in marks):
            return False
        cutoff, number = self._older
        return not (number > position and entry.created <= cutoff)

    def is_demoted(self, entry: Entry) -> bool:
        """Whether an entry may only answer its own prompt."""
        return self._latest.get(("demote", entry.id), 0) > entry.position or ("demote", entry.id) in self._ahead

    def expect(self, kind: Kind, argument: str) -> None:
        """Notes an invalidation of our own that the log does not have yet."""
        with self.lock:
            mark = (kind, argument)
            self._ahead[mark] = self._ahead.get(mark, 0) + 1

    def told(self, kind: Kind, argument: str) -> None:
        """Notes that the log has it now."""
        with self.lock:
            mark = (kind, argument)
            left = self._ahead.get(mark, 0) - 1
            if left > 0:
                self._ahead[mark] = left
            else:
                self._ahead.pop(mark, None)

    async def open(self, wire: Wire) -> None:
        """Catches up over a fresh connection, or drops what cannot be proven fresh.

        Raises:
            ServerError: The server refuses.
            LostError: The connection broke.
        """
        epoch, last = await self._state(wire)
        if epoch == self.epoch and last < self.position:
            log.warning("the log of invalidations has lost its end: what was stored before is not used any more")
            epoch, last = await self._state(wire, given_up=epoch)
        if epoch == self.epoch:
            await self.read(wire, wait=False)
            return
        events = await wire.ask("XRANGE", self._keys.log, "-", "+")
        with self.lock:
            if self.epoch:
                self._drop("the log of invalidations is a new one")
            self._latest.clear()
            self._older = (0.0, 0)
            self.epoch = epoch
            self.position = self.forgotten = (_number(events[0]) if events else last + 1) - 1
            for event in events:
                self._apply(event)

    async def read(self, wire: Wire, *, wait: bool = True) -> None:
        """Applies what is new; waits a moment for it if there is nothing.

        Raises:
            ServerError: The server refuses.
            LostError: The connection broke.
        """
        epoch, last = await self._state(wire)
        if epoch != self.epoch or last < self.position:
            await self.open(wire)
            return
        block = ("BLOCK", _WAIT) if wait else ()
        reply = await wire.ask("XREAD", "COUNT", 1000, *block, "STREAMS", self._keys.log, f"{self.position}-0")
        events = [event for _, some in _streams(reply) for event in some]
        with self.lock:
            if events and _number(events[0]) != self.position + 1:
                self._drop(f"events {self.position + 1} to {_number(events[0]) - 1} of the log are missing")
                self.position = self.forgotten = _number(events[0]) - 1
            for event in events:
                self._apply(event)

    async def _state(self, wire: Wire, given_up: str = "") -> tuple[str, int]:
        keys = [self._keys.log, self._keys.log_state]
        epoch, last = await wire.ask(*script_command(_scripts.OPEN, keys, uuid.uuid4().hex, given_up))
        return text(epoch), int(last)

    def drop(self, why: str) -> None:
        """Empties the local cache of what cannot be proven fresh."""
        with self.lock:
            self._drop(why)

    def _drop(self, why: str) -> None:
        if len(self._core):
            log.warning("%s: %d local entries are dropped, for they cannot be proven fresh", why, len(self._core))
        self.drops += 1
        self._core.clear()

    def _apply(self, event: Reply) -> None:
        number = _number(event)
        fields = {text(name): text(value) for name, value in zip(event[1][::2], event[1][1::2], strict=True)}
        kind, argument = fields["k"], fields["a"]
        if kind == "older":
            self._older = (max(self._older[0], float(argument)), number)
        elif kind != "born":
            self._latest.pop((kind, argument), None)  # so that the order is that of the numbers
            self._latest[kind, argument] = number
            while len(self._latest) > KEPT:
                mark = next(iter(self._latest))
                self.forgotten = max(self.forgotten, self._latest.pop(mark))
        self.position = number
        if fields["o"] != self.origin:  # our own have been applied when they were made
            self._apply_locally(kind, argument)

    def _apply_locally(self, kind: str, argument: str) -> None:
        core = self._core
        if kind == "id":
            core.invalidate_id(argument)
        elif kind == "demote":
            core.demote(argument)
        elif kind == "tag":
            core.invalidate_tag(argument)
        elif kind == "scope":
            core.invalidate_caller(argument)
        elif kind == "older":
            core.invalidate_older_than(max(0.0, time() - float(argument)))
        elif kind == "clear":
            core.clear()


def _number(event: Any) -> int:
    return int(bytes(event[0]).partition(b"-")[0])


def _streams(reply: Reply) -> list[tuple[bytes, list[Reply]]]:
    """What XREAD found, of either protocol's form; nothing if the wait was over."""
    if not reply:
        return []
    return list(reply.items()) if isinstance(reply, dict) else [(name, events) for name, events in reply]
