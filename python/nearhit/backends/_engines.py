"""Vector search on the server, two ways behind one interface, and the lack of it.

- `SearchEngine`: the `FT.` commands of the Redis Query Engine, RediSearch and valkey-search. One index for each
  embedder; the scope is a filter.
- `VectorSetEngine`: the `VADD`/`VSIM` commands of Redis 8. One set for each scope, so that the filter costs nothing.
- `ExactEngine`: neither; equal requests only.

Both search sketches (see `_sketch`); what they send back carries the vectors, by which it is judged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TypeAlias

import numpy as np

from nearhit.backends import _scripts
from nearhit.backends._entry import FIELDS
from nearhit.backends._fleet import script_command
from nearhit.backends._sketch import SKETCH, sketch, width
from nearhit.backends._wire import ServerError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from nearhit.backends._fleet import Fleet
    from nearhit.backends._keys import Keys
    from nearhit.backends._wire import Command, Reply, Wire

EngineName: TypeAlias = Literal["auto", "search", "vectorset", "exact"]
Row: TypeAlias = "tuple[bytes | None, bytes | None]"

CANDIDATES: Final = 4  # nearest entries of each shard that are sent back to be judged
_SLACK: Final = 0.03  # quantised scores are off by less; what is sent back is scored again
_SIGMAS: Final = 3  # standard deviations that the score of a sketch may be off
_STATES: Final = ("OOM", "NOPERM", "LOADING", "READONLY", "MISCONF", "BUSY", "CLUSTERDOWN", "MASTERDOWN", "NOREPLICAS")
_MISSING: Final = ("no such index", "unknown index", "index not found", "not found")


@dataclass(frozen=True, slots=True)
class Shape:
    """How vectors are kept.

    Attributes:
        quantisation: Of vector sets: "NOQUANT", "Q8" or "BIN".
        algorithm: Of search indexes: "HNSW" or "FLAT".
    """

    quantisation: str = "Q8"
    algorithm: str = "HNSW"


@dataclass(frozen=True, slots=True)
class Graph:
    """How a graph of vectors is made and searched. What is made belongs to `FORMAT` of the keys.

    Attributes:
        m: Links of each node.
        build: Width of the search when a node is added.
        search: Width of the search when one is looked for.
    """

    m: int
    build: int
    search: int


# More links and a narrower search than M 8, EF 64 and 24: of 10,000 real vectors .990 are found in place of .986, of
# made-up ones 1.000 in place of .995, of 50,000 .945 in place of .940; a search takes the server 26 in place of 41 us,
# and an insertion as long as before.
SETS: Final = Graph(m=12, build=48, search=10)
_BITS_SEARCH: Final = 24  # of sets of single bits, which tell less of what is near
# Likewise .998 in place of .996, and .995 in place of .980. RediSearch takes more than 10 links for a reason to look at
# every vector, ten times as long for 10,000.
_INDEX: Final = Graph(m=10, build=64, search=16)


class VectorEngine(Protocol):
    """What the backend asks of a server's vector search."""

    name: str
    narrow: bool

    def element(self, vector: NDArray[np.float32]) -> bytes:
        """What stands for a vector of unit length in a search."""

    def questions(self, scope: str, element: bytes, dim: int, least: float) -> list[tuple[str, Command]]:
        """Commands that find the nearest entries of a scope, each with the key that decides its server.

        Args:
            scope: The scope.
            element: What stands for the vector; goes into the commands as it is.
            dim: Length of the vector.
            least: Cosine below which nothing is wanted.
        """

    def rows(self, reply: Reply) -> list[Row]:
        """The entries of a reply: values of `FIELDS`."""

    def stored(self, vector: NDArray[np.float32] | None) -> tuple[bytes, Command]:
        """What is kept of a vector for the search: an element of the vector set, and fields of the entry."""

    def vector_key(self, place: str, dim: int) -> str | None:
        """The key that the scripts keep vectors under beside the entry, if they have to."""

    async def prepare(self, dim: int) -> None:
        """Makes what has to be there before vectors of this dimension are stored."""

    def is_missing(self, error: Exception) -> bool:
        """Whether an error says that `prepare` has to be done again; of any other, the engine makes what it can."""


class ExactEngine:
    """A server without vector search."""

    name = "exact"
    narrow = False

    def element(self, vector: NDArray[np.float32]) -> bytes:
        """Nothing: there is no search."""
        del vector
        return b""

    def questions(self, scope: str, element: bytes, dim: int, least: float) -> list[tuple[str, Command]]:
        """Nothing to ask."""
        del scope, element, dim, least
        return []

    def rows(self, reply: Reply) -> list[Row]:
        """Nothing was asked."""
        del reply
        return []

    def stored(self, vector: NDArray[np.float32] | None) -> tuple[bytes, Command]:
        """Nothing: the vector stays in the entry, for replicas that hold it."""
        del vector
        return b"", ()

    def vector_key(self, place: str, dim: int) -> str | None:
        """None."""
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
        self._bits = shape.quantisation == "BIN"
        self._width = _BITS_SEARCH if self._bits else SETS.search
        self._count = 2 * CANDIDATES if self._bits else CANDIDATES

    def questions(self, scope: str, element: bytes, dim: int, least: float) -> list[tuple[str, Command]]:
        """One script for each shard: nearest first, each with its values."""
        score = self._least_score(least, dim)
        found = []
        for place in self._keys.places(scope):
            key = self._keys.vectors(place, dim)
            arguments = (element, self._count, self._width, score, self._keys.prefix(place))
            found.append((key, script_command(_scripts.FIND, [key], *arguments, *FIELDS)))
        return found

    def element(self, vector: NDArray[np.float32]) -> bytes:
        """The sketch; one bit of every value is one already."""
        return vector.tobytes() if self._bits else sketch(vector).tobytes()

    def _least_score(self, least: float, dim: int) -> float:
        """What an entry of this cosine scores at least: a vector set's score is (1 + cosine) / 2."""
        if self._bits:
            return 0.0  # the score of single bits says little about the cosine
        return (1 + least - _error(least, dim)) / 2

    def rows(self, reply: Reply) -> list[Row]:
        """As the script sent them."""
        return list(reply) if isinstance(reply, list) else []

    def stored(self, vector: NDArray[np.float32] | None) -> tuple[bytes, Command]:
        """An element of the set."""
        return (b"" if vector is None else self.element(vector)), ()

    def vector_key(self, place: str, dim: int) -> str | None:
        """The shard's vector set."""
        return self._keys.vectors(place, dim)


class SearchEngine(ExactEngine):
    """A search index over the entries of one embedder.

    Sketches are kept in half precision where the server can: it halves what a search reads. What is not near enough is
    left out before entries are read, where the server can: it takes a third off its time, and reading the reply off the
    caller's.

    Attributes:
        narrow: Whether the server is asked for that; not in a cluster, whose coordinator would put the steps elsewhere.
    """

    name = "search"

    def __init__(self, keys: Keys, shape: Shape, fleet: Fleet) -> None:
        self._keys = keys
        self._shape = shape
        self._fleet = fleet
        self._type = _HALF
        self.narrow = not fleet.is_cluster

    def element(self, vector: NDArray[np.float32]) -> bytes:
        """The sketch, in the precision of the index."""
        return self._type.packed(vector)

    def questions(self, scope: str, element: bytes, dim: int, least: float) -> list[tuple[str, Command]]:
        """One search, filtered by the scope."""
        # By what is there and not by what is made now: which type the server takes may turn out in between.
        kind = _HALF if len(element) == _HALF.size * width(dim) else _WHOLE
        field = kind.field(dim)
        what = (
            *(self._keys.index(field), f"(@s:{{{scope}}})=>[KNN {CANDIDATES} @{field} $q AS d]"),
            *("PARAMS", 2, "q", element, "DIALECT", 2),
        )
        command: Command
        if self.narrow and kind is _HALF:  # others know no such command, or not all of it
            most = 2 - 2 * (least - _error(least, dim))  # of the squared distance of vectors of unit length
            fields = [f"@{name}" for name in FIELDS]
            command = ("FT.AGGREGATE", *what, "FILTER", f"@d <= {most:.6f}", "LOAD", len(fields), *fields)
        else:
            command = ("FT.SEARCH", *what, "RETURN", len(FIELDS), *FIELDS, "LIMIT", 0, CANDIDATES)
        return [(self._keys.prefix(f"{scope}.0"), command)]

    def rows(self, reply: Reply) -> list[Row]:
        """Of either command's and either protocol's form."""
        try:
            if isinstance(reply, dict):
                return [_row(one[b"extra_attributes"]) for one in reply[b"results"]]
            found = [pairs for pairs in reply[1:] if isinstance(pairs, list)]
            return [_row(dict(zip(pairs[::2], pairs[1::2], strict=True))) for pairs in found]
        except (TypeError, KeyError, ValueError, AttributeError):
            return []

    def stored(self, vector: NDArray[np.float32] | None) -> tuple[bytes, Command]:
        """A field of the entry."""
        kind = self._type
        return b"", (() if vector is None else (kind.field(len(vector)), kind.packed(vector)))

    async def prepare(self, dim: int) -> None:
        """Makes the index, unless somebody has."""
        try:
            await self._create(dim, _HALF)
        except ServerError as error:
            if str(error).partition(" ")[0] in _STATES:
                raise
            # A server that knows no half precision: RediSearch before 2.10, valkey-search.
            await self._create(dim, _WHOLE)
            self._type = _WHOLE
        else:
            self._type = _HALF

    async def _create(self, dim: int, values: _Type) -> None:
        shape, field = self._shape, values.field(dim)
        options: tuple[Any, ...] = ("TYPE", values.name, "DIM", width(dim), "DISTANCE_METRIC", "L2")
        if shape.algorithm == "HNSW":
            options += ("M", _INDEX.m, "EF_CONSTRUCTION", _INDEX.build, "EF_RUNTIME", _INDEX.search)
        command = (
            *("FT.CREATE", self._keys.index(field), "ON", "HASH", "PREFIX", 1, self._keys.entries, "SCHEMA"),
            *("s", "TAG", field, "VECTOR", shape.algorithm, len(options), *options),
        )
        try:
            await self._fleet.ask(self._keys.entries, *command)
        except ServerError as error:
            if "exists" not in str(error).lower():
                raise

    def is_missing(self, error: Exception) -> bool:
        """The index has gone with the data."""
        message = str(error).lower()
        if "ft.aggregate" in message:  # unknown there, or not for this user
            self.narrow = False
        return any(words in message for words in _MISSING)


def _error(least: float, dim: int) -> float:
    """How far the cosine of sketches may be off where the vectors' own is `least`."""
    return _SLACK if dim <= SKETCH else _SLACK + _SIGMAS * (1 - least * least) / SKETCH**0.5


@dataclass(frozen=True, slots=True)
class _Type:
    """How an index keeps the values of sketches; indexes and fields of different types have different names."""

    name: str
    values: type[np.floating[Any]]
    size: int
    letter: str

    def field(self, dim: int) -> str:
        """The field that holds the sketches of vectors of this many values."""
        return f"{self.letter}{dim}"

    def packed(self, vector: NDArray[np.float32]) -> bytes:
        """The sketch of a vector."""
        return sketch(vector).astype(self.values).tobytes()


_HALF: Final = _Type("FLOAT16", np.float16, 2, "h")
_WHOLE: Final = _Type("FLOAT32", np.float32, 4, "f")


def _row(fields: Mapping[bytes, bytes]) -> Row:
    return fields.get(b"e"), fields.get(b"n")


async def probe(wire: Wire, wanted: EngineName, *, is_cluster: bool) -> EngineName:
    """The engine that a server has and its user may use.

    Raises:
        LostError: The connection broke.
    """
    *replies, described = await wire.ask_all(
        [("VCARD", "nearhit:probe"), ("FT._LIST",), ("COMMAND", "INFO", "FT.SEARCH")]
    )
    has_sets, has_search = (not _is_refusal(reply) for reply in replies)
    order: list[tuple[EngineName, bool]] = [("search", has_search), ("vectorset", has_sets)]
    if is_cluster:  # a set is where its scope is; a search index is of one node unless a coordinator spreads it
        order = [("vectorset", has_sets), ("search", has_search and _is_coordinated(described))]
    if wanted != "auto":
        order = [one for one in order if one[0] == wanted]
    return next((name for name, there in order if there), "exact")


def _is_coordinated(described: Reply) -> bool:
    """Whether a cluster's FT.SEARCH goes to every node: then no key of its own decides where it runs.

    Without, a node finds what it holds, but Redis 8 does not let it read hashes of slots other than the index name's.
    """
    try:
        return int(described[0][3]) == 0
    except (TypeError, ValueError, IndexError, KeyError):
        return False


def _is_refusal(reply: Reply) -> bool:
    """The server does not know the command, or the user may not use it; another error means that it is there."""
    message = str(reply).lower()
    return isinstance(reply, ServerError) and ("unknown command" in message or message.startswith("noperm"))
