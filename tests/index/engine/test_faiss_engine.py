"""FAISS: exact up to a limit, quantised above, with parameters of each search alone."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from index.engine import Index, Matrix, open_engine
from index.engine.faiss_engine import FaissEngine
from tests.index.conftest import unit


@pytest.fixture(scope="module")
def vectors() -> Matrix:
    return unit(3_000, seed=1)


@pytest.fixture(scope="module", params=["scan", "ivf"])
def index(request: pytest.FixtureRequest, vectors: Matrix) -> Index:
    return FaissEngine(flat_limit=3_000 if request.param == "scan" else 2_999).build(vectors)


def test_the_limit_decides_between_scan_and_quantisation(vectors: Matrix) -> None:
    assert FaissEngine(flat_limit=3_000).build(vectors).exact
    assert not FaissEngine(flat_limit=2_999).build(vectors).exact


def test_a_vector_is_its_own_best_candidate(index: Index, vectors: Matrix) -> None:
    for row in range(0, 3_000, 300):
        candidates = index.search(vectors[row], 5, frozenset())
        assert candidates.rows[0] == row and candidates.scores[0] == pytest.approx(1.0, abs=0.02)
        assert (np.diff(candidates.scores) <= 0).all()


@pytest.mark.parametrize("k", [0, 1, 2_990, 3_000, 9_999])
def test_at_most_k_rows_are_returned_each_once(index: Index, vectors: Matrix, k: int) -> None:
    candidates = index.search(vectors[0], k, frozenset(range(10)))
    rows = candidates.rows.tolist()
    assert len(rows) == len(set(rows)) <= min(k, 2_990)
    assert not set(rows) & set(range(10)) and min(rows, default=0) >= 0


@pytest.mark.parametrize("k", [500, 2_990])
def test_deep_pages_are_filled(index: Index, vectors: Matrix, k: int) -> None:
    assert len(index.search(vectors[5], k, frozenset(range(10))).rows) == k


def test_searches_of_many_threads_do_not_disturb_each_other(index: Index, vectors: Matrix) -> None:
    alone = [index.search(vectors[row], 20, frozenset({row})).rows.tolist() for row in range(60)]
    with ThreadPoolExecutor(4) as threads:
        rows = list(threads.map(lambda row: index.search(vectors[row], 20, frozenset({row})).rows.tolist(), range(60)))
    assert rows == alone


def test_the_setting_names_the_engine() -> None:
    assert isinstance(open_engine("faiss", threads=2), FaissEngine)
    with pytest.raises(ValueError, match="INDEX"):
        open_engine("annoy")
