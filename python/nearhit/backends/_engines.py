"""Vector search on the server, two ways behind one interface, and the lack of it.

- `SearchEngine`: the `FT.` commands of the Redis Query Engine, RediSearch and valkey-search. One index for each
  embedder; the scope is a filter.
- `VectorSetEngine`: the `VADD`/`VSIM` commands of Redis 8. One set for each scope, so that the filter costs nothing.
- `ExactEngine`: neither; equal requests only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TypeAlias

from nearhit.backends import _scripts
from nearhit.backends._entry import FIELDS, vector_field
from nearhit.backends._fleet import script_command
from nearhit.backends._wire import ServerError, as_dict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nearhit.backends._fleet import Fleet
    from nearhit.backends._keys import Keys
    from nearhit.backends._wire import Command, Reply, Wire

EngineName: TypeAlias = Literal["auto", "search", "vectorset", "exact"]
Row: TypeAlias = "Sequence[bytes | None]"

CANDIDATES: Final = 4  # nearest entries of each shard that are sent back to be judged
_SLACK: Final = 0.03  # quantised scores are off by less; what is sent back is scored again
_MISSING: Final = ("no such index", "unknown index", "index not found", "not found")


@dataclass(frozen=True, slots=True)
class Shape:
    """How vectors are kept.

    Attributes:
        quantisation: Of vector sets: "NOQUANT", "Q8" or "BIN".
        algorithm: Of search indexes: "HNSW" or "FLAT".
        m: Links of each node of the graph.
        build: Width of the search when a node is added.
        search: Width of the search when one is looked for.
    """

    quantisation: str = "Q8"
    algorithm: str = "HNSW"
    m: int = 8
    build: int = 64
    search: int = 24


class VectorEngine(Protocol):
    """What the backend asks of a server's vector search."""

    name: str

    def questions(self, scope: str, vector: bytes, dim: int, least: float) -> list[tuple[str, Command]]:
        """Commands that find the nearest entries of a scope, each with the key that decides its server."""

    def rows(self, reply: Reply, dim: int) -> list[Row]:
        """The entries of a reply: values of `FIELDS` and the vector."""

    def vector_key(self, place: str, dim: int) -> str | None:
        """The key that the scripts keep vectors under beside the entry, if they have to."""

    async def prepare(self, dim: int) -> None:
        """Makes what has to be there before vectors of this dimension are stored."""

    def is_missing(self, error: Exception) -> bool:
        """Whether an error says that `prepare` has to be done again."""


class ExactEngine:
    """A server without vector search."""

    name = "exact"

    def questions(self, scope: str, vector: bytes, dim: int, least: float) -> list[tuple[str, Command]]:
        """Nothing to ask."""
        del scope, vector, dim, least
        return []

    def rows(self, reply: Reply, dim: int) -> list[Row]:
        """Nothing was asked."""
        del reply, dim
        return []

    def vector_key(self, place: str, dim: int) -> str | None:
        """The vector stays in the entry, for replicas that hold it."""
        del place, dim
        return None

    async def prepare(self, dim: int) -> None:
        """Nothing to make."""

    def is_missing(self, error: Exception) -> bool:
        """Nothing can be missing."""
        del error
        return False


class VectorSetEngine(ExactEngine):
    """Vector sets, one for each shard of a scope."""

    name = "vectorset"

    def __init__(self, keys: Keys, shape: Shape) -> None:
        self._keys = keys
        self._shape = shape

    def questions(self, scope: str, vector: bytes, dim: int, least: float) -> list[tuple[str, Command]]:
        """One script for each shard: nearest first, each with its values."""
        # A vector set's score is (1 + cosine) / 2; that of single bits says little about the cosine.
        score = 0.0 if self._shape.quantisation == "BIN" else (1 + least - _SLACK) / 2
        found = []
        for place in self._keys.places(scope):
            key = self._keys.vectors(place, dim)
            count = 2 * CANDIDATES if self._shape.quantisation == "BIN" else CANDIDATES
            arguments = (vector, count, self._shape.search, score, self._keys.prefix(place))
            command = script_command(_scripts.FIND, [key], *arguments, *FIELDS, vector_field(dim))
            found.append((key, command))
        return found

    def rows(self, reply: Reply, dim: int) -> list[Row]:
        """As the script sent them."""
        del dim
        return list(reply) if isinstance(reply, list) else []

    def vector_key(self, place: str, dim: int) -> str | None:
        """The shard's vector set."""
        return self._keys.vectors(place, dim)


class SearchEngine(ExactEngine):
    """A search index over the entries of one embedder."""

    name = "search"

    def __init__(self, keys: Keys, shape: Shape, fleet: Fleet) -> None:
        self._keys = keys
        self._shape = shape
        self._fleet = fleet

    def questions(self, scope: str, vector: bytes, dim: int, least: float) -> list[tuple[str, Command]]:
        """One search, filtered by the scope."""
        del least
        field = vector_field(dim)
        query = f"(@s:{{{scope}}})=>[KNN {CANDIDATES} @{field} $q AS d]"
        returned = (*FIELDS, field)
        command = (
            *("FT.SEARCH", self._keys.index(dim), query, "PARAMS", 2, "q", vector),
            *("RETURN", len(returned), *returned, "LIMIT", 0, CANDIDATES, "DIALECT", 2),
        )
        return [(self._keys.entry(scope, "0" * 32), command)]

    def rows(self, reply: Reply, dim: int) -> list[Row]:
        """Of either protocol's form."""
        try:
            if isinstance(reply, dict):
                found = [as_dict(one)["extra_attributes"] for one in as_dict(reply)["results"]]
            else:
                found = reply[2::2]
            maps = [as_dict(fields) for fields in found]
        except (TypeError, KeyError, ValueError):
            return []
        return [[fields.get(name) for name in (*FIELDS, vector_field(dim))] for fields in maps]

    async def prepare(self, dim: int) -> None:
        """Makes the index, unless somebody has."""
        shape = self._shape
        options: tuple[Any, ...] = ("TYPE", "FLOAT32", "DIM", dim, "DISTANCE_METRIC", "COSINE")
        if shape.algorithm == "HNSW":
            options += ("M", shape.m, "EF_CONSTRUCTION", shape.build, "EF_RUNTIME", shape.search)
        command = (
            *("FT.CREATE", self._keys.index(dim), "ON", "HASH", "PREFIX", 1, self._keys.entries, "SCHEMA"),
            *("s", "TAG", vector_field(dim), "VECTOR", shape.algorithm, len(options), *options),
        )
        try:
            await self._fleet.ask(self._keys.entries, *command)
        except ServerError as error:
            if "exists" not in str(error).lower():
                raise

    def is_missing(self, error: Exception) -> bool:
        """The index has gone with the data."""
        message = str(error).lower()
        return any(words in message for words in _MISSING)


async def probe(wire: Wire, wanted: EngineName, *, is_cluster: bool) -> EngineName:
    """The engine that a server has and its user may use.

    Raises:
        LostError: The connection broke.
    """
    replies = await wire.ask_all([("VCARD", "nearhit:probe"), ("FT._LIST",)])
    has_sets, has_search = (not _is_refusal(reply) for reply in replies)
    # A search index sees its own node only, unless a coordinator is installed with it; a set is where its scope is.
    order: list[tuple[EngineName, bool]] = [("search", has_search), ("vectorset", has_sets)]
    if is_cluster:
        order.reverse()
    if wanted != "auto":
        order = [one for one in order if one[0] == wanted]
    return next((name for name, there in order if there), "exact")


def _is_refusal(reply: Reply) -> bool:
    """The server does not know the command, or the user may not use it; another error means that it is there."""
    message = str(reply).lower()
    return isinstance(reply, ServerError) and ("unknown command" in message or message.startswith("noperm"))
