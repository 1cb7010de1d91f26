"""Names of the keys. What belongs to one scope shares a slot of a cluster, so that one script can change all of it.

`{namespace}:{FORMAT}:` stands before every key: another version of the format neither reads nor writes them. Only the
log of invalidations is common to all versions, so that while replicas are upgraded one after the other, what one of
them invalidates no other serves. Entries are apart by embedder as well: replicas with two versions of one live side by
side.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from nearhit._errors import OptionError

if TYPE_CHECKING:
    from nearhit._types import Embedder

FORMAT: Final = 3
"""Of entries, of the books about them and of the graphs that find them."""

_LOG_FORMAT: Final = 1


def space_of(embedder: Embedder | None) -> str:
    """Short name of an embedder's vectors; of the caller's own without one."""
    if embedder is None:
        return "none"
    return blake2b(f"{embedder.id}\0{embedder.dim}".encode(), digest_size=8).hexdigest()


class Keys:
    """The keys of one namespace, as one embedder's caches see them."""

    def __init__(self, namespace: str, space: str, shards: int) -> None:
        if not namespace or set(namespace) & set("{}*?[] \\"):
            raise OptionError(
                f"option namespace={namespace!r} is not valid: expected a name without braces, * ? [ or ]"
            )
        self.space = space
        self.shards = shards
        self.root = f"{namespace}:{FORMAT}:"
        self.log = f"{namespace}:{_LOG_FORMAT}:{{log}}:stream"
        self.log_state = f"{namespace}:{_LOG_FORMAT}:{{log}}:state"
        self.scopes = f"{self.root}scopes"
        self.sweeper = f"{self.root}sweeper"
        self.entries = f"{self.root}{space}:e:"

    def within(self, space: str) -> Keys:
        """The same namespace as another embedder's caches see it."""
        other = object.__new__(Keys)
        other.__dict__.update(self.__dict__, space=space, entries=f"{self.root}{space}:e:")
        return other

    def place(self, scope: str, fingerprint: str) -> str:
        """What decides the slot: the scope, and the shard of it that the entry falls into."""
        return f"{scope}.{self.shard(fingerprint)}"

    def shard(self, fingerprint: str) -> int:
        """The shard that an entry falls into."""
        return int(fingerprint[:8], 16) % self.shards if self.shards > 1 else 0

    def places(self, scope: str) -> list[str]:
        """Every shard of a scope."""
        return [f"{scope}.{shard}" for shard in range(self.shards)]

    def prefix(self, place: str) -> str:
        """What stands before the fingerprints of entries."""
        return f"{self.entries}{{{place}}}:"

    def entry(self, scope: str, fingerprint: str) -> str:
        """An entry: a hash."""
        return self.prefix(self.place(scope, fingerprint)) + fingerprint

    def ledger(self, place: str) -> str:
        """Fingerprints by the time they were made: a sorted set."""
        return f"{self.root}{self.space}:l:{{{place}}}"

    def vectors(self, place: str, dim: int) -> str:
        """A vector set; its elements are fingerprints."""
        return f"{self.root}{self.space}:v{dim}:{{{place}}}"

    def index(self, field: str) -> str:
        """A search index over the vectors in a field of entries."""
        return f"{self.root}{self.space}:i:{field}"

    def lock(self, scope: str, fingerprint: str) -> str:
        """Held by whoever makes the answer."""
        return f"{self.root}{self.space}:k:{{{self.place(scope, fingerprint)}}}:{fingerprint}"

    def fence(self, scope: str, fingerprint: str) -> str:
        """Counts the holders of locks."""
        return f"{self.root}{self.space}:f:{{{self.place(scope, fingerprint)}}}"

    def tag(self, tag: str) -> str:
        """Keys of the entries with this tag: a set."""
        return f"{self.root}t:{blake2b(tag.encode('utf-8', 'replace'), digest_size=16).hexdigest()}"

    def caller(self, caller: str) -> str:
        """Where a caller's entries are: a set of `register` lines."""
        return f"{self.root}c:{caller}"

    def news(self, caller: str) -> str:
        """Channel on which new entries of a caller are told."""
        return f"{self.root}{self.space}:n:{caller}"

    def register(self, place: str, dim: int) -> str:
        """A line that tells where entries are: embedder, place and dimension (0: no vectors)."""
        return f"{self.space} {place} {dim}"
