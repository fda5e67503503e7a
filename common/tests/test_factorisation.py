"""The factors are those of the singular value decomposition; a user is a sum."""

from common.factorisation import LIKED, TooFewRatingsError, factorise
from common.movielens import Ratings

import numpy as np
import pytest

USERS, FILMS, K = 30, 20, 4


def ratings_of(stars: np.ndarray) -> Ratings:
    """Ratings from a matrix of stars, 0 for none; film j has the id 10 + j, user i the id 1 + i."""
    users, films = np.nonzero(stars)
    return Ratings(users + 1, films + 10, stars[users, films], np.arange(len(users)))


@pytest.fixture(scope="module")
def stars() -> np.ndarray:
    generator = np.random.default_rng(3)
    given = generator.choice([0, 0, 0, 2, 3.5, 4, 5], size=(USERS, FILMS))
    given[:, 7] = np.where(given[:, 7] >= LIKED, 3.5, given[:, 7])  # nobody likes film 17
    given[4] = np.where(given[4] >= LIKED, 1, given[4])  # user 5 likes nothing
    return given


@pytest.fixture(scope="module")
def likes(stars: np.ndarray) -> np.ndarray:
    """The likes alone, of the films that somebody liked."""
    return np.delete(stars >= LIKED, 7, axis=1).astype(float)


def test_films_and_their_likes(stars: np.ndarray, likes: np.ndarray) -> None:
    factors = factorise(ratings_of(stars), K)
    assert factors.ids.tolist() == [10 + film for film in range(FILMS) if film != 7]
    assert factors.likes.tolist() == likes.sum(axis=0).tolist()
    assert factors.likes_of(17) == factors.likes_of(999) == 0
    assert factors.likes_of(10) == likes[:, 0].sum()
    best = sorted(factors.ids.tolist(), key=lambda film: (-factors.likes_of(film), film))
    assert factors.most_liked(5) == best[:5]


def test_scores_are_those_of_a_full_decomposition(stars: np.ndarray, likes: np.ndarray) -> None:
    factors = factorise(ratings_of(stars), K)
    left, strengths, right = np.linalg.svd(likes, full_matrices=False)
    closest = left[:, :K] * strengths[:K] @ right[:K]
    assert factors.strengths == pytest.approx(strengths[:K], rel=1e-5)
    assert factors.vectors.dtype == np.float32
    users = [factors.user_vector(factors.ids[row > 0].tolist()) for row in likes]
    assert np.array(users) @ factors.vectors.T == pytest.approx(closest, abs=1e-5)
    # The columns of R, as far as k factors tell, have the inner products of the directions.
    assert factors.directions @ factors.directions.T == pytest.approx(closest.T @ closest, abs=1e-4)


def test_a_user_is_a_sum(stars: np.ndarray) -> None:
    factors = factorise(ratings_of(stars), K)
    before = factors.user_vector([10, 12])
    assert factors.user_vector([10, 12, 15]) == pytest.approx(
        before + factors.vectors[factors.row_of[15]], abs=1e-6
    )
    assert factors.user_vector(iter([10, 12, 17, 999])) == pytest.approx(before)  # unknown ones
    assert factors.user_vector([]).tolist() == [0.0] * K


def test_the_start_of_the_solver_does_not_matter(stars: np.ndarray) -> None:
    first, second = (factorise(ratings_of(stars), K, seed=seed) for seed in (0, 1))
    assert first.vectors @ first.vectors.T == pytest.approx(
        second.vectors @ second.vectors.T, abs=1e-5
    )


def test_too_many_factors(stars: np.ndarray) -> None:
    factorise(ratings_of(stars), FILMS - 2)
    with pytest.raises(TooFewRatingsError, match=r"19 factors need more .* have 29 and 19") as it:
        factorise(ratings_of(stars), FILMS - 1)
    assert it.value.exit_code == 2
    with pytest.raises(TooFewRatingsError, match="have 0 and 0"):
        factorise(ratings_of(np.full((3, 3), 2.0)), 1)
