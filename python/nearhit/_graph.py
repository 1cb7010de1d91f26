"""A graph over the sealed part of a large vector index, served by usearch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from nearhit import _core

_BATCH = 4096
"""Vectors handed to usearch at a time, so that building holds little memory beside the graph."""

_BREADTH = 64
"""Fewest candidates that a search takes from the graph."""

_SAMPLE = 64
"""Vectors whose neighbours are looked up both ways to measure the recall."""


class Graph:
    """An HNSW graph (Malkov & Yashunin, 2016) over every vector held when it was built.

    It is never changed: a vector removed later is dropped from the answers, one added later is found by the exact scan
    of what is newer than the graph. Candidates are compared in full by the index, so similarities are always exact;
    only a neighbour that the graph does not propose can be missed. How often is measured, see `recall`.

    Args:
        index: The index to take vectors from.

    Attributes:
        end: The graph covers ids below this one.
        size: Vectors in the graph.
        recall: Share of the ten nearest neighbours that it found, for 64 held vectors.
    """

    def __init__(self, index: _core.VectorIndex) -> None:
        from usearch.index import Index  # noqa: PLC0415 - only a graph needs it

        self.end = index.next_id
        # int8 against float32: 2-3 times as fast, and the index compares candidates in full anyway.
        self._graph: Any = Index(
            ndim=index.dim, metric="cos", dtype="i8", connectivity=16, expansion_add=128, expansion_search=128
        )
        first = 0
        while first < self.end:
            ids, vectors = index.vectors(first, self.end, _BATCH)
            if len(ids) == 0:
                break
            self._graph.add(ids, vectors)
            first = int(ids[-1]) + 1
        self.size = len(self._graph)
        self.recall = self._measure(index)

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return int(self._graph.memory_usage)

    def candidates(self, vector: ArrayLike, k: int) -> list[int]:
        """Ids that are probably among the `k` nearest, and more."""
        import numpy as np  # noqa: PLC0415 - `import nearhit` stays quick

        count = min(max(4 * k, _BREADTH), self.size)
        if count == 0:
            return []
        found: list[int] = self._graph.search(np.asarray(vector, dtype=np.float32), count).keys.tolist()
        return found

    def _measure(self, index: _core.VectorIndex) -> float:
        found = total = 0
        step = max(self.end // _SAMPLE, 1)
        for first in range(0, self.end, step):
            ids, vectors = index.vectors(first, self.end, 1)
            if len(ids) == 0:
                break
            near = {id_ for id_, _ in index.search(vectors[0], -1.0, 11) if id_ < self.end and id_ != int(ids[0])}
            found += len(near & set(self.candidates(vectors[0], 11)))
            total += len(near)
        return found / total if total else 1.0
