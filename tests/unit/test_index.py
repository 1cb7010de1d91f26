from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import nearhit
from nearhit import VectorIndex

if TYPE_CHECKING:
    from pathlib import Path


def unit(matrix: np.ndarray) -> np.ndarray:
    return matrix / np.linalg.norm(matrix, axis=-1, keepdims=True)


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    """Vectors in groups of near-duplicates, as prompts are."""
    rng = np.random.default_rng(7)
    centres = rng.standard_normal((150, 96)) * np.exp(-np.arange(96) / 40)
    spread = rng.uniform(0, 0.6, (3000, 1))
    return unit(centres[rng.integers(0, 150, 3000)] + spread * rng.standard_normal((3000, 96))).astype(np.float32)


def test_threshold_search_equals_brute_force(rows: np.ndarray) -> None:
    index = VectorIndex(96)
    ids = index.add_many(rows)
    assert ids.dtype == np.uint64
    assert len(index) == 3000
    scores = rows @ rows[:40].T
    for query, column in zip(rows[:40], scores.T, strict=True):
        for threshold in (0.95, 0.9, 0.8):
            found = index.search(query, threshold, k=3000)
            assert [score for _, score in found] == sorted((score for _, score in found), reverse=True)
            sure = set(ids[column >= threshold + 1e-6].tolist())
            possible = set(ids[column >= threshold - 1e-6].tolist())
            assert sure <= {id_ for id_, _ in found} <= possible
            for id_, score in found:
                assert score == pytest.approx(column[id_], abs=1e-6)


def test_nearest_neighbours_equal_brute_force(rows: np.ndarray) -> None:
    index = VectorIndex(96)
    index.add_many(rows)
    ids, scores = index.search_many(rows[:50], k=5)
    assert ids.shape == scores.shape == (50, 5)
    assert (ids.dtype, scores.dtype) == (np.int64, np.float32)
    best = -np.sort(-(rows[:50] @ rows.T), axis=1)[:, :5]
    np.testing.assert_allclose(scores, best, atol=1e-6)


def test_search_many_marks_missing_places() -> None:
    index = VectorIndex(2)
    index.add([1, 0])
    ids, scores = index.search_many([[1, 0], [0, 1]], threshold=0.5, k=2)
    assert ids.tolist() == [[0, -1], [-1, -1]]
    assert scores[0, 0] == 1.0


@pytest.mark.parametrize(
    "vector",
    [
        [3, 4],
        (3.0, 4.0),
        np.array([3, 4], dtype=np.int8),
        np.array([3, 4], dtype=np.float16),
        np.array([3, 4], dtype=np.float64),
        np.array([3, 4], dtype=">f4"),
        np.array([3, 0, 4, 0], dtype=np.float32)[::2],
        np.array([4, 3], dtype=np.float32)[::-1],
    ],
)
def test_converts_what_can_be_converted(vector: object) -> None:
    index = VectorIndex(2)
    index.add(vector)  # type: ignore[arg-type]
    assert index.search([0.6, 0.8], 0.999999) == [(0, pytest.approx(1.0))]


@pytest.mark.parametrize(
    ("vector", "error", "names"),
    [
        ([1.0], nearhit.DimensionError, "1 dimensions, expected 2"),
        ([[1.0, 2.0]], nearhit.DimensionError, "shape"),
        ([np.nan, 1.0], nearhit.NotFiniteError, "NaN at position 0"),
        ([1.0, np.inf], nearhit.NotFiniteError, "inf at position 1"),
        ([1e300, 1.0], nearhit.NotFiniteError, "inf"),
        ([0.0, 0.0], nearhit.ZeroVectorError, "zeros"),
        (["a", "b"], nearhit.InputError, "dtype"),
        (np.array([1 + 2j, 0]), nearhit.InputError, "complex"),
        (None, nearhit.InputError, "object"),
        ([[1.0], [1.0, 2.0]], nearhit.InputError, "list"),
    ],
)
def test_refuses_by_name_and_stays_unchanged(vector: object, error: type[Exception], names: str) -> None:
    index = VectorIndex(2)
    index.add([1, 0])
    with pytest.raises(error, match=names):
        index.add(vector)  # type: ignore[arg-type]
    with pytest.raises(error, match=names):
        index.search(vector)  # type: ignore[arg-type]
    assert len(index) == 1


def test_add_many_is_all_or_nothing() -> None:
    index = VectorIndex(2)
    with pytest.raises(nearhit.ZeroVectorError):
        index.add_many([[1.0, 2.0], [0.0, 0.0]])
    with pytest.raises(nearhit.DimensionError):
        index.add_many(np.ones((2, 3)))
    with pytest.raises(nearhit.DimensionError):
        index.add_many(np.ones(2))
    assert len(index) == 0
    assert index.add_many(np.ones((0, 2))).shape == (0,)


@pytest.mark.parametrize("threshold", [1.1, -1.5, float("nan")])
def test_refuses_thresholds_that_are_no_cosine(threshold: float) -> None:
    with pytest.raises(nearhit.ThresholdError):
        VectorIndex(2).search([1, 0], threshold)


def test_refuses_no_neighbours_and_no_dimensions() -> None:
    with pytest.raises(nearhit.OptionError, match="k=0"):
        VectorIndex(2).search([1, 0], k=0)
    with pytest.raises(nearhit.OptionError, match="dim=0"):
        VectorIndex(0)
    for call in (VectorIndex(2).search, VectorIndex(2).search_many):
        for k in (-1, 2**64):
            with pytest.raises(nearhit.OptionError, match=f"k={k}"):
                call([[1, 0]] if call.__name__ == "search_many" else [1, 0], k=k)
    with pytest.raises(nearhit.OptionError, match="dim=-3"):
        VectorIndex(-3)


def test_more_neighbours_than_there_are_is_all_of_them() -> None:
    index = VectorIndex(2)
    index.add_many([[1, 0], [1, 1]])
    assert [id_ for id_, _ in index.search([1, 0], k=2**63)] == [0, 1]
    with pytest.raises(nearhit.OptionError, match="k="):
        index.search_many([[1, 0]], k=2**63)


def test_remove() -> None:
    index = VectorIndex(2)
    first, second = index.add([1, 0]), index.add([1, 0])
    assert index.remove(first)
    assert not index.remove(first)
    assert not index.remove(2**63)
    assert index.search([1, 0], k=5) == [(second, 1.0)]
    assert len(index) == 1


@pytest.mark.parametrize("id_", [-1, 2**64, -(2**70)])
def test_refuses_ids_that_cannot_be(id_: int) -> None:
    index = VectorIndex(2)
    index.add([1, 0])
    for call in (index.remove, index.vector, lambda id_: index.similarities([1, 0], [0, id_])):
        with pytest.raises(nearhit.InputError, match=f"id {id_} "):
            call(id_)
    assert len(index) == 1


@pytest.mark.parametrize("storage", ["f32", "f16", "int8"])
def test_hands_out_vectors(rows: np.ndarray, storage: Any) -> None:
    index = VectorIndex(96, storage=storage)
    ids = index.add_many(3 * rows[:100])
    for id_ in (0, 63, 64, 99):
        vector = index.vector(ids[id_])
        assert vector is not None
        np.testing.assert_allclose(vector, rows[id_], atol=4e-3)
        assert index.similarities(rows[5], [id_])[0] == pytest.approx(float(vector @ rows[5]), abs=1e-6)
    index.remove(3)
    assert index.vector(3) is None
    assert index.vector(100) is None


def test_an_empty_index_is_small_and_finds_nothing() -> None:
    index = VectorIndex(384)
    assert index.nbytes < 1024
    assert index.search(np.ones(384)) == []


def test_a_given_transform_changes_nothing_but_speed(rows: np.ndarray) -> None:
    basis = np.linalg.eigh(rows.T @ rows)[1][:, ::-1].T
    index = VectorIndex(96, transform=basis)
    index.add_many(rows)
    for query in rows[:20]:
        assert max(score for _, score in index.search(query, 0.9)) == pytest.approx(1.0)
    with pytest.raises(nearhit.OptionError, match="orthonormal"):
        VectorIndex(96, transform=np.ones((2, 96)))


@pytest.mark.parametrize("storage", ["f32", "f16", "int8"])
def test_saved_and_loaded_it_answers_the_same(rows: np.ndarray, tmp_path: Path, storage: Any) -> None:
    index = VectorIndex(96, storage=storage)
    index.add_many(rows[:1000])
    for id_ in range(0, 1000, 3):
        index.remove(id_)
    index.save(tmp_path / "some.index")
    assert [path.name for path in tmp_path.iterdir()] == ["some.index"]
    loaded = VectorIndex.load(tmp_path / "some.index")
    loaded.validate()
    assert (len(loaded), loaded.storage, loaded.dim) == (len(index), storage, 96)
    for query in rows[:20]:
        assert loaded.search(query, 0.7, 10) == index.search(query, 0.7, 10)
    assert loaded.add(rows[0]) == 1000


def test_refuses_files_that_are_damaged_or_foreign(tmp_path: Path) -> None:
    path = tmp_path / "some.index"
    VectorIndex(4).save(path)
    content = bytearray(path.read_bytes())
    content[12] ^= 1
    path.write_bytes(content)
    with pytest.raises(nearhit.CorruptFileError, match="checksum"):
        VectorIndex.load(path)
    path.write_text("a poem")
    with pytest.raises(nearhit.CorruptFileError, match="does not begin"):
        VectorIndex.load(path)
    with pytest.raises(nearhit.StorageError, match="nothing"):
        VectorIndex.load(tmp_path / "nothing")
    with pytest.raises(nearhit.StorageError):
        VectorIndex(4).save(tmp_path / "no" / "where")


@pytest.mark.parametrize(("option", "value"), [("storage", "f64"), ("index", "ivf")])
def test_refuses_unknown_options(option: str, value: str) -> None:
    with pytest.raises(nearhit.OptionError, match=value):
        VectorIndex(4, **{option: value})  # type: ignore[arg-type]


def test_a_graph_finds_what_the_scan_finds_and_tells_its_recall(rows: np.ndarray) -> None:
    index = VectorIndex(96, index="hnsw")
    index.add_many(rows[:2000])
    assert index.recall == 1.0
    index.seal()
    assert index.recall > 0.9
    newest = index.add_many(rows[2000:])
    removed = int(index.search(rows[5])[0][0])
    index.remove(removed)
    exact = VectorIndex(96, index="exact")
    exact.add_many(rows)
    exact.remove(removed)
    hits = found = 0
    for query in rows[:2500:25]:
        expected = exact.search(query, 0.9, 10)
        answer = index.search(query, 0.9, 10)
        assert [score for _, score in answer] == sorted((score for _, score in answer), reverse=True)
        assert set(answer) <= set(exact.search(query, 0.9, 3000))
        hits += len(expected)
        found += len(set(expected) & set(answer))
    assert found > 0.9 * hits
    assert index.search(rows[2500])[0] == (int(newest[500]), pytest.approx(1.0))
    ids, scores = index.search_many(rows[2500:2502], 0.99, 2)
    assert ids[0, 0] == newest[500]
    assert scores.shape == (2, 2)
    assert index.nbytes > exact.nbytes


def test_similarities_of_given_ids(rows: np.ndarray) -> None:
    index = VectorIndex(96)
    ids = index.add_many(rows[:200]).tolist()
    index.remove(7)
    scores = index.similarities(rows[3], [*ids, 10**9])
    assert scores[7] is None
    assert scores[-1] is None
    assert scores[3] == pytest.approx(1.0)
    assert scores[150] == pytest.approx(float(rows[3] @ rows[150]), abs=1e-6)
