"""What vectors have in common, taken away."""

from common.common_directions import CommonDirections
from common.vectors import normalize

import numpy as np
import pytest


@pytest.fixture
def vectors() -> np.ndarray:
    """60 random vectors, all with the same large part in two directions."""
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(60, 12))
    rows[:, 0] += 5
    rows[:, 1] *= 8
    return normalize(rows)


def test_nothing_is_left_in_the_directions(vectors: np.ndarray) -> None:
    found = CommonDirections.fit(vectors, 2)
    left = found.remove(vectors)
    assert left.shape == vectors.shape
    assert left.dtype == np.float32
    assert np.abs(left @ found.directions.T).max() < 1e-5
    assert np.linalg.norm(left, axis=1) == pytest.approx(np.ones(60), abs=1e-5)
    assert found.directions @ found.directions.T == pytest.approx(np.eye(2), abs=1e-5)


def test_the_directions_are_the_principal_ones(vectors: np.ndarray) -> None:
    found = CommonDirections.fit(vectors, 1)
    values, axes = np.linalg.eigh(np.cov(vectors.T))
    strongest = axes[:, values.argmax()]
    assert abs(found.directions[0] @ strongest) == pytest.approx(1, abs=1e-4)
    assert found.mean == pytest.approx(vectors.mean(axis=0), abs=1e-6)


def test_unrelated_vectors_score_about_zero_afterwards(vectors: np.ndarray) -> None:
    left = CommonDirections.fit(vectors, 2).remove(vectors)
    others = ~np.eye(60, dtype=bool)
    assert (vectors @ vectors.T)[others].mean() > 0.25
    assert abs((left @ left.T)[others].mean()) < 0.03


def test_a_query_is_treated_as_what_is_stored(vectors: np.ndarray) -> None:
    found = CommonDirections.fit(vectors, 2)
    assert found.remove(vectors[7:8])[0] == pytest.approx(found.remove(vectors)[7], abs=1e-6)


def test_taking_nothing_away(vectors: np.ndarray) -> None:
    assert CommonDirections.none(vectors).remove(vectors) == pytest.approx(vectors, abs=1e-6)


def test_what_cannot_be_fitted_or_cleaned(vectors: np.ndarray) -> None:
    with pytest.raises(ValueError, match="do not have 12 common directions"):
        CommonDirections.fit(vectors, 12)
    with pytest.raises(ValueError, match="finite"):
        CommonDirections.fit([[np.nan, 1.0], [0.0, 1.0]], 0)
    found = CommonDirections.fit(vectors, 2)
    with pytest.raises(ValueError, match="vector 1 is nothing but what is common"):
        found.remove([vectors[0], found.mean])
