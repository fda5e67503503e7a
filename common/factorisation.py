"""Vectors of films and users from ratings: a truncated singular value decomposition.

The model is PureSVD of Cremonesi, Koren and Turrin (RecSys 2010). The matrix of likes R has a row
for each user, a column for each film, and a 1 where the user gave the film at least four stars;
all else is 0, whether disliked or unseen. Of its decomposition R ≈ U S Vᵀ the rows of V are the
vectors of the films, and R V (= U S) those of the users. So a user is the sum of the films that
were liked, and the score of a film for a user is the inner product of both.

That sum is why it is taken here: a new like is one addition, and a new user needs no training.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from common.movielens import Ratings

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]

LIKED = 4.0  # stars, from which on a film counts as liked


class TooFewRatingsError(ValueError):
    """The ratings do not carry as many factors as were asked for."""

    exit_code = 2


@dataclass(frozen=True)
class FilmFactors:
    """What a factorisation knows of the films that somebody liked.

    Attributes:
        ids: of the films, ascending, int64 of shape (n,).
        likes: how many users liked each, int64 of shape (n,).
        vectors: float32 of shape (n, k); the length of a row grows with the likes.
        strengths: the singular values, largest first, float32 of shape (k,).
    """

    ids: NDArray[np.int64]
    likes: NDArray[np.int64]
    vectors: Float32
    strengths: Float32

    @cached_property
    def row_of(self) -> dict[int, int]:
        """From the id of a film to its row."""
        return {number: row for row, number in enumerate(self.ids.tolist())}

    @property
    def directions(self) -> Float32:
        """Vectors whose COSINE tells how alike the audiences of two films are, shape (n, k).

        They are the rows of V S: their inner products are those of the columns of R, as far as k
        factors can tell.
        """
        return self.vectors * self.strengths

    def likes_of(self, film: int) -> int:
        """How many users liked a film; 0 of one that is not known."""
        row = self.row_of.get(film)
        return 0 if row is None else int(self.likes[row])

    def most_liked(self, most: int) -> list[int]:
        """The ids of the films with the most likes, best first."""
        return self.ids[np.lexsort((self.ids, -self.likes))[:most]].tolist()

    def user_vector(self, liked: Iterable[int]) -> Float32:
        """The vector of a user who liked these films: their sum, shape (k,).

        A film that nobody liked in training adds nothing. All zeros where nothing is known.
        """
        rows = [self.row_of[film] for film in liked if film in self.row_of]
        return self.vectors[rows].sum(axis=0, dtype=np.float64).astype(np.float32)


def factorise(ratings: Ratings, factors: int, *, seed: int = 0) -> FilmFactors:
    """Factorise the likes among the ratings.

    Args:
        ratings: of which those of at least LIKED stars count.
        factors: k, the number of components of a vector.
        seed: where the solver starts; the result depends on it by rounding only.

    Raises:
        TooFewRatingsError: there are not more users and films than factors.
    """
    from scipy.sparse import csr_matrix
    from scipy.sparse.linalg import svds

    liked = ratings.where(ratings.stars >= LIKED)
    users, rows = np.unique(liked.users, return_inverse=True)
    ids, columns, likes = np.unique(liked.films, return_inverse=True, return_counts=True)
    if min(len(users), len(ids)) <= factors:
        raise TooFewRatingsError(
            f"{factors} factors need more than {factors} users who liked something and as many "
            f"liked films; these ratings have {len(users)} and {len(ids)}. Take fewer factors"
        )
    matrix = csr_matrix((np.ones(len(liked)), (rows, columns)), shape=(len(users), len(ids)))
    _, strengths, transposed = svds(matrix, k=factors, rng=np.random.default_rng(seed))
    largest_first = np.argsort(-strengths)
    vectors = transposed[largest_first].T.astype(np.float32)
    return FilmFactors(ids, likes, vectors, strengths[largest_first].astype(np.float32))
