"""The vector index of the public API: the native exact scan, and a graph where it grows beyond that."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Literal, Self

from nearhit import _core
from nearhit._errors import OptionError

if TYPE_CHECKING:
    import os

    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from nearhit._graph import Graph

_GRAPH_FROM = {"auto": 500_000, "hnsw": 10_000}
"""Vectors at which a graph is first built. A lookup at .9 took .28, .79 and 1.61 times one by the graph at 200,000,
400,000 and 800,000 vectors, so both are equal at some 500,000; at .95 at 780,000, at .8 at 240,000."""

_GRAPH_GROWTH = 1.5
"""Growth at which it is built again: what is newer than the graph is scanned exactly."""


class VectorIndex(_core.VectorIndex):
    """Unit vectors, searched by cosine similarity; safe to share between threads, readers never wait.

    The exact scan finds every neighbour: it compares a 32-byte code of each vector with the query, and rules out those
    that provably cannot reach the threshold. Adding and removing take constant time.

    Args:
        dim: Length of the vectors.
        storage: How vectors are kept: "f32" (similarities equal brute force to 1e-6), "f16" (to 4.9e-4) or "int8" (less
            than 6e-4 off on average; the smallest).
        transform: Orthonormal rows, shape [n, dim], the directions of most energy first, to code vectors in. By default
            they are learned from the vectors.
        index: "exact"; "hnsw" for a usearch graph beside it from 10,000 vectors on; "auto" for one from 500,000 on,
            where it is quicker than the scan (at .9). With a graph, `recall` tells what it finds.

    Attributes:
        recall: Measured share of the nearest neighbours that searches find; 1.0 without a graph.

    Raises:
        OptionError: An option that is unknown or out of range, or rows that are not orthonormal.

    Example:
        >>> index = VectorIndex(3)
        >>> index.add([1.0, 2.0, 2.0])
        0
        >>> index.search([1.0, 2.0, 2.0], threshold=0.9)
        [(0, 1.0)]
    """

    _mode: str
    _graph: Graph | None
    _builder: threading.Lock

    def __new__(
        cls,
        dim: int,
        *,
        storage: Literal["f32", "f16", "int8"] = "f32",
        transform: ArrayLike | None = None,
        index: Literal["auto", "exact", "hnsw"] = "auto",
    ) -> Self:
        """Creates an empty index."""
        self = super().__new__(cls, dim, storage=storage, transform=transform)
        self._begin(index)
        return self

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, index: Literal["auto", "exact", "hnsw"] = "auto") -> Self:
        """Reads an index that `save` wrote.

        Raises:
            CorruptFileError: The file is damaged, or not an index.
            StorageError: It cannot be read.
        """
        self = super().__new__(cls, 1, path=path)
        self._begin(index)
        return self

    def _begin(self, mode: str) -> None:
        if mode not in {"auto", "exact", "hnsw"}:
            raise OptionError(f'option index={mode!r} is not valid: expected "auto", "exact" or "hnsw"')
        self._mode = mode
        self._graph = None
        self._builder = threading.Lock()
        self._grow()

    @property
    def recall(self) -> float:
        """Measured share of the nearest neighbours that searches find; 1.0 without a graph."""
        return 1.0 if self._graph is None else self._graph.recall

    @property
    def nbytes(self) -> int:
        """Bytes held, everything counted."""
        return super().nbytes + (0 if self._graph is None else self._graph.nbytes)

    def add(self, vector: ArrayLike) -> int:
        """Adds a vector and returns its id; ids ascend and are never used twice.

        Raises:
            DimensionError: It is not of shape [dim].
            NotFiniteError: It holds NaN or an infinity.
            ZeroVectorError: It is all zeros.
            InputError: It does not hold numbers.
        """
        id_ = _add(self, vector)
        if id_ % 1024 == 0:
            self._grow()
        return id_

    def add_many(self, vectors: ArrayLike) -> NDArray[np.uint64]:
        """Adds the rows of a matrix, all or none, and returns their ids; raises what `add` raises."""
        ids = super().add_many(vectors)
        self._grow()
        return ids

    def search(self, vector: ArrayLike, threshold: float = -1.0, k: int = 1) -> list[tuple[int, float]]:
        """The `k` nearest vectors with a similarity of at least `threshold`, as (id, similarity), best first.

        Raises:
            ThresholdError: The threshold is outside [-1, 1].
            OptionError: `k` is 0.
            InputError: As for `add`.
        """
        graph = self._graph
        if graph is None:
            return _search(self, vector, threshold, k)
        newer = self.search_from(vector, threshold, k, graph.end)
        ids = graph.candidates(vector, k)
        scored = zip(ids, self.similarities(vector, ids), strict=True)
        older = [(id_, score) for id_, score in scored if score is not None and score >= threshold]
        return sorted(newer + older, key=lambda match: (-match[1], match[0]))[:k]

    def search_many(
        self, vectors: ArrayLike, threshold: float = -1.0, k: int = 1
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """`search` for each row of a matrix.

        Returns:
            Ids, int64 of shape [n, k], and similarities, float32 of shape [n, k]; -1 in both where fewer were found.
        """
        if self._graph is None:
            return super().search_many(vectors, threshold, k)
        import numpy as np  # noqa: PLC0415 - `import nearhit` stays quick

        rows = np.asarray(vectors, dtype=np.float32)
        ids = np.full((len(rows), k), -1, dtype=np.int64)
        scores = np.full((len(rows), k), -1, dtype=np.float32)
        for number, row in enumerate(rows):
            for place, (id_, score) in enumerate(self.search(row, threshold, k)):
                ids[number, place], scores[number, place] = id_, score
        return ids, scores

    def seal(self) -> None:
        """Builds the graph over everything held now; without it, that happens in the background as the index grows."""
        from nearhit._graph import Graph  # noqa: PLC0415 - loads usearch

        with self._builder:
            self._graph = Graph(self)

    def _grow(self) -> None:
        """Starts building a graph in the background if the index has outgrown the last one."""
        first = _GRAPH_FROM.get(self._mode)
        if first is None:
            return
        size = len(self)
        due = first if self._graph is None else self._graph.size * _GRAPH_GROWTH
        if size >= due and not self._builder.locked():
            threading.Thread(target=self.seal, name="nearhit-graph", daemon=True).start()


_add = _core.VectorIndex.add
_search = _core.VectorIndex.search
