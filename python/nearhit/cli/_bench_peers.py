"""Vector indexes under one interface, for `nearhit bench index`. Each runs on one thread."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from nearhit import VectorIndex

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Matrix = NDArray[np.float32]


class Peer(Protocol):
    """What is measured of an index; ids are the caller's, vectors are unit vectors."""

    def add(self, ids: NDArray[np.int64], rows: Matrix) -> None: ...

    def remove(self, id_: int) -> None: ...

    def search(self, query: Matrix, threshold: float, k: int) -> list[tuple[int, float]]: ...


class Nearhit:
    """This package's index; its ids are mapped only when they are reported."""

    def __init__(self, dim: int, storage: Any = "f32") -> None:
        self.index = VectorIndex(dim, storage=storage, index="exact")
        self.theirs: dict[int, int] = {}
        self.ours: dict[int, int] = {}

    def add(self, ids: NDArray[np.int64], rows: Matrix) -> None:
        given = [self.index.add(rows[0])] if len(rows) == 1 else self.index.add_many(rows).tolist()
        for id_, new in zip(ids.tolist(), given, strict=True):
            self.theirs[new], self.ours[id_] = id_, new

    def remove(self, id_: int) -> None:
        self.index.remove(self.ours[id_])

    def search(self, query: Matrix, threshold: float, k: int) -> list[tuple[int, float]]:
        return [(self.theirs[id_], score) for id_, score in self.index.search(query, threshold, k)]


class Numpy:
    """A matrix and one product; rows removed are overwritten by the last one."""

    def __init__(self, dim: int) -> None:
        self.rows = np.zeros((1024, dim), dtype=np.float32)
        self.ids = np.zeros(1024, dtype=np.int64)
        self.place: dict[int, int] = {}

    def add(self, ids: NDArray[np.int64], rows: Matrix) -> None:
        start, end = len(self.place), len(self.place) + len(rows)
        while end > len(self.rows):
            self.rows = np.concatenate([self.rows, np.zeros_like(self.rows)])
            self.ids = np.concatenate([self.ids, np.zeros_like(self.ids)])
        self.rows[start:end], self.ids[start:end] = rows, ids
        self.place.update(zip(ids.tolist(), range(start, end), strict=True))

    def remove(self, id_: int) -> None:
        at, last = self.place.pop(id_), len(self.place)
        if at != last:
            self.rows[at], self.ids[at] = self.rows[last], self.ids[last]
            self.place[int(self.ids[at])] = at

    def search(self, query: Matrix, threshold: float, k: int) -> list[tuple[int, float]]:
        scores = self.rows[: len(self.place)] @ query
        if k == 1:
            best = int(scores.argmax())
            return [(int(self.ids[best]), float(scores[best]))] if scores[best] >= threshold else []
        best_k = np.argpartition(-scores, min(k, len(scores) - 1))[:k]
        ordered = best_k[np.argsort(-scores[best_k])]
        return [(int(self.ids[i]), float(scores[i])) for i in ordered if scores[i] >= threshold]


class Faiss:
    """faiss-cpu, flat or HNSW (M 32, efConstruction 80), inner product."""

    def __init__(self, dim: int, ef: int | None = None) -> None:
        import faiss

        faiss.omp_set_num_threads(1)
        inner: Any = faiss.IndexFlatIP(dim)
        self.flat = ef is None
        if ef is not None:
            inner = faiss.IndexHNSWFlat(dim, 32, faiss.METRIC_INNER_PRODUCT)
            inner.hnsw.efConstruction, inner.hnsw.efSearch = 80, ef
        self.index: Any = faiss.IndexIDMap2(inner)

    def add(self, ids: NDArray[np.int64], rows: Matrix) -> None:
        self.index.add_with_ids(rows, ids)

    def remove(self, id_: int) -> None:
        if not self.flat:
            raise NotImplementedError
        self.index.remove_ids(np.array([id_]))

    def search(self, query: Matrix, threshold: float, k: int) -> list[tuple[int, float]]:
        scores, ids = self.index.search(query[None], k)
        found = zip(ids[0].tolist(), scores[0].tolist(), strict=True)
        return [(id_, score) for id_, score in found if id_ >= 0 and score >= threshold]


class Hnswlib:
    """hnswlib, M 16, ef_construction 200; a removed element's place is used again."""

    def __init__(self, dim: int, ef: int, capacity: int) -> None:
        import hnswlib

        self.index = hnswlib.Index(space="ip", dim=dim)
        self.index.init_index(max_elements=capacity, M=16, ef_construction=200, allow_replace_deleted=True)
        self.index.set_ef(ef)
        self.index.set_num_threads(1)

    def add(self, ids: NDArray[np.int64], rows: Matrix) -> None:
        self.index.add_items(rows, ids, num_threads=1, replace_deleted=True)

    def remove(self, id_: int) -> None:
        self.index.mark_deleted(id_)

    def search(self, query: Matrix, threshold: float, k: int) -> list[tuple[int, float]]:
        ids, distances = self.index.knn_query(query, k, num_threads=1)
        found = zip(ids[0].tolist(), (1 - distances[0]).tolist(), strict=True)
        return [(id_, score) for id_, score in found if score >= threshold]


class Usearch:
    """usearch with its defaults (connectivity 16, expansions 128 and 64)."""

    def __init__(self, dim: int, dtype: str) -> None:
        from usearch.index import Index

        self.index: Any = Index(ndim=dim, metric="cos", dtype=dtype)

    def add(self, ids: NDArray[np.int64], rows: Matrix) -> None:
        self.index.add(ids, rows, threads=1)

    def remove(self, id_: int) -> None:
        self.index.remove(id_)

    def search(self, query: Matrix, threshold: float, k: int) -> list[tuple[int, float]]:
        found = self.index.search(query, k, threads=1)
        pairs = zip(found.keys.tolist(), (1 - found.distances).tolist(), strict=True)
        return [(id_, score) for id_, score in pairs if score >= threshold]


def peers(dim: int, capacity: int) -> dict[str, Callable[[], Peer]]:
    """Makers of the indexes that can be made here, by name."""
    makers: dict[str, Callable[[], Peer]] = {
        "nearhit": lambda: Nearhit(dim),
        "nearhit int8": lambda: Nearhit(dim, "int8"),
        "numpy": lambda: Numpy(dim),
        "usearch f32": lambda: Usearch(dim, "f32"),
        "usearch i8": lambda: Usearch(dim, "i8"),
    }
    if find_spec("faiss"):
        makers["faiss flat"] = lambda: Faiss(dim)
        makers["faiss hnsw ef16"] = lambda: Faiss(dim, 16)
    if find_spec("hnswlib"):
        makers["hnswlib ef16"] = lambda: Hnswlib(dim, 16, capacity)
    return makers
