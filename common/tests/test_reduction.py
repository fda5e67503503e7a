"""PCA: the directions of the largest variance, and the same for both sides."""

from pathlib import Path

from common.reduction import Pca, PcaError
from common.vectors import exact_search, recall_by_query

import numpy as np
import pytest


def stretched(rows: int = 400, seed: int = 0) -> np.ndarray:
    """Vectors that vary less and less along 12 axes, which are turned, and have a mean."""
    generator = np.random.default_rng(seed)
    turn = np.linalg.qr(np.random.default_rng(9).standard_normal((12, 12)))[0]
    scaled = generator.standard_normal((rows, 12)) * 2.0 ** -np.arange(12)
    return (scaled @ turn + 0.5).astype(np.float32)


def test_by_hand() -> None:
    # On a line along (3, 4): one direction holds all the variance.
    points = np.outer([1.0, 2.0, 5.0], [0.6, 0.8]) + np.array([7, 1])
    pca = Pca.fit(points, 1)
    assert pca.components.tolist() == [pytest.approx([0.6, 0.8])]
    assert pca.kept == pytest.approx(1)
    assert pca.transform([[3.0, 4.0], [0.0, 0.0]]).tolist() == [pytest.approx([5.0]), [0.0]]
    # Two axes with variances of 4 and 1: the first keeps 4 of 5.
    cross = np.array([[2.0, 0], [-2, 0], [0, 1], [0, -1]])
    assert Pca.fit(cross, 1).kept == pytest.approx(0.8)


def test_directions_are_those_of_a_singular_value_decomposition() -> None:
    vectors = stretched()
    pca = Pca.fit(vectors, 5)
    _, values, directions = np.linalg.svd(vectors - vectors.mean(axis=0), full_matrices=False)
    assert np.abs(pca.components @ directions[:5].T) == pytest.approx(np.eye(5), abs=1e-3)
    assert pca.kept == pytest.approx((values[:5] ** 2).sum() / (values**2).sum(), abs=1e-5)
    assert pca.components @ pca.components.T == pytest.approx(np.eye(5), abs=1e-5)
    assert (
        np.take_along_axis(pca.components, np.abs(pca.components).argmax(1)[:, None], 1) > 0
    ).all()


def test_both_sides_keep_their_neighbours_and_a_second_basis_does_not() -> None:
    documents, queries = stretched(), stretched(50, seed=1)
    _, exact = exact_search(documents, queries, 10)

    def recall(rows: np.ndarray, asked: np.ndarray) -> float:
        found, _ = exact_search(rows, asked, 10)
        return recall_by_query(found.tolist(), exact, documents, queries).mean()

    pca = Pca.fit(documents, 8)
    fewer, asked = pca.transform(documents), pca.transform(queries)
    assert fewer.dtype == np.float32
    assert fewer.shape == (400, 8)
    assert recall(fewer, asked) > 0.9
    mean = fewer.mean(axis=0)
    assert recall(fewer - mean, asked - mean) < 0.7  # other angles
    assert recall(fewer, Pca.fit(queries, 8).transform(queries)) < 0.7


def test_all_directions_turn_and_lose_nothing() -> None:
    vectors = stretched()
    turned = Pca.fit(vectors, 12).transform(vectors)
    assert turned @ turned.T == pytest.approx(vectors @ vectors.T, abs=1e-3)


def test_it_can_be_kept(tmp_path: Path) -> None:
    pca = Pca.fit(stretched(), 3)
    pca.save(tmp_path / "pca.npz")
    again = Pca.load(tmp_path / "pca.npz")
    assert np.array_equal(again.components, pca.components)
    assert again.kept == pca.kept
    assert np.array_equal(again.transform(stretched()), pca.transform(stretched()))
    with pytest.raises(PcaError, match=r"gone\.npz: there is no such file"):
        Pca.load(tmp_path / "gone.npz")
    np.savez(tmp_path / "other.npz", x=np.ones(3))
    np.save(tmp_path / "matrix.npy", np.ones(3))
    (tmp_path / "text.npz").write_text("no PCA")
    for name in ("other.npz", "matrix.npy", "text.npz"):
        with pytest.raises(PcaError, match=r"this is no file of Pca\.save"):
            Pca.load(tmp_path / name)


@pytest.mark.parametrize(
    ("vectors", "dimension", "message"),
    [
        (np.ones((1, 4)), 1, "at least 2 rows"),
        (np.ones(4), 1, "at least 2 rows"),
        (np.ones((5, 4)), 2, "all the same"),
        (np.eye(4), 4, "4 rows of 4 dimensions give 1 to 3 directions, not 4"),
        (np.eye(4), 0, "directions, not 0"),
        ([[1.0, 2.0], [np.nan, 1.0], [3.0, 1.0]], 1, "row 1 holds NaN"),
    ],
)
def test_what_cannot_be_fitted(vectors: object, dimension: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Pca.fit(vectors, dimension)


def test_vectors_of_another_model_are_refused() -> None:
    pca = Pca.fit(stretched(), 3)
    with pytest.raises(PcaError, match=r"takes vectors of 12 dimensions.*belongs to another model"):
        pca.transform(np.ones((2, 11)))
    with pytest.raises(PcaError, match="12 dimensions"):
        pca.transform(np.ones(12))
