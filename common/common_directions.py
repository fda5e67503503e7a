"""What all vectors of a model have in common, taken away.

Sentence vectors are not spread evenly: a large part of each is the same for all texts of a kind
(that it is a question, that it is about databases). It raises every score and tells nothing, so
that a threshold can hardly tell a hit from a near miss.
"""

from dataclasses import dataclass

from common.vectors import normalize

import numpy as np
from numpy.typing import ArrayLike, NDArray

_ROUNDING = 1e-5  # of what float32 leaves of a vector of length about 1


@dataclass(frozen=True)
class CommonDirections:
    """The mean of some vectors and the directions in which they vary most.

    Fit it once, on what is stored, and apply the same one to what is stored and to what is asked.

    Attributes:
        mean: shape (dimension,).
        directions: orthonormal rows, shape (number, dimension).
    """

    mean: NDArray[np.float32]
    directions: NDArray[np.float32]

    @classmethod
    def fit(cls, vectors: ArrayLike, number: int = 3) -> "CommonDirections":
        """Find the mean and the `number` strongest principal directions.

        Mu and Viswanath, "All-but-the-Top" (2018), who propose dimension / 100 of them.

        Args:
            vectors: shape (n, dimension), finite.
            number: 0 takes away the mean alone; at most n - 1 and less than the dimension.

        Raises:
            ValueError: another shape, a value that is not finite, or too few vectors for `number`.
        """
        rows = np.asarray(vectors, dtype=np.float64)
        if rows.ndim != 2 or not np.isfinite(rows).all():
            raise ValueError(f"vectors must be finite, of shape (n, dimension), not {rows.shape}")
        if not 0 <= number < min(rows.shape):
            raise ValueError(f"{rows.shape} vectors do not have {number} common directions")
        mean = rows.mean(axis=0)
        _, _, directions = np.linalg.svd(rows - mean, full_matrices=False)
        return cls(mean.astype(np.float32), directions[:number].astype(np.float32))

    @classmethod
    def none(cls, vectors: ArrayLike) -> "CommonDirections":
        """One that takes nothing away from vectors of this dimension but their length."""
        dimension = np.asarray(vectors).shape[1]
        return cls(np.zeros(dimension, np.float32), np.empty((0, dimension), np.float32))

    def remove(self, vectors: ArrayLike) -> NDArray[np.float32]:
        """Vectors without what they have in common, of length 1; shape (n, dimension).

        Raises:
            ValueError: a vector is nothing but what is common: zeros would be left of it.
        """
        rows = np.asarray(vectors, dtype=np.float32) - self.mean
        left = rows - rows @ self.directions.T @ self.directions
        lengths = np.linalg.norm(left, axis=1)
        if len(lengths) and lengths.min() < _ROUNDING:
            raise ValueError(f"vector {int(lengths.argmin())} is nothing but what is common to all")
        return normalize(left)
