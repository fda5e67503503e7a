"""Fewer dimensions by principal component analysis (PCA), fitted once and applied to both sides.

pca = Pca.fit(document_vectors, 128)
pca.save("pca.npz")  # beside the collection: without it no query can be asked
client.insert(..., pca.transform(document_vectors))
client.search(..., pca.transform(query_vectors))
"""

import zipfile
from dataclasses import dataclass
from pathlib import Path

from common.vectors import Float32

import numpy as np
from numpy.typing import ArrayLike


class PcaError(Exception):
    """A file holds no PCA, or vectors do not fit it; the message says what to do."""

    exit_code = 2


@dataclass(frozen=True)
class Pca:
    """The directions in which some vectors vary most.

    Attributes:
        components: float32 of shape (dimension, dimension before): a direction in each row, all
            of length 1 and at right angles, the one of the largest variance first.
        kept: the share of the variance that lies in these directions, between 0 and 1.
    """

    components: Float32
    kept: float

    @classmethod
    def fit(cls, vectors: ArrayLike, dimension: int) -> "Pca":
        """Find the directions (Pearson, 1901): the first eigenvectors of the covariance matrix.

        Fit on vectors of what is stored, once, and keep the result. A sample does, of many more
        rows than there are dimensions.

        Args:
            vectors: shape (rows, dimension before), at least two rows.
            dimension: how many directions to keep.

        Raises:
            ValueError: the vectors are no matrix, hold NaN or infinity, are all the same, or have
                fewer directions than asked for: at most rows - 1 and the dimension before.
        """
        matrix = np.asarray(vectors, dtype=np.float64)
        if matrix.ndim != 2 or len(matrix) < 2:
            raise ValueError(f"a PCA needs a matrix of at least 2 rows, not {matrix.shape}")
        if not np.isfinite(matrix).all():
            row = int(np.argmin(np.isfinite(matrix).all(axis=1)))
            raise ValueError(f"row {row} holds NaN or infinity")
        most = min(len(matrix) - 1, matrix.shape[1])
        if not 1 <= dimension <= most:
            raise ValueError(
                f"{len(matrix):,} rows of {matrix.shape[1]} dimensions give 1 to {most} "
                f"directions, not {dimension}"
            )
        variances, directions = np.linalg.eigh(
            np.cov(matrix, rowvar=False).reshape(-1, len(matrix.T))
        )
        if variances[-1] <= 0:
            raise ValueError("the vectors are all the same: they have no directions")
        chosen = directions.T[::-1][:dimension]
        # An eigenvector is as right with its sign turned; this makes the result one and the same.
        largest = np.take_along_axis(chosen, np.abs(chosen).argmax(1)[:, None], axis=1)
        kept = variances[::-1][:dimension].sum() / variances.sum()
        return cls((chosen * np.sign(largest)).astype(np.float32), float(kept))

    def transform(self, vectors: ArrayLike) -> Float32:
        """Return the vectors in these directions: float32 of shape (rows, dimension).

        Nothing is subtracted first, though textbooks and scikit-learn subtract the mean. That
        shifts all vectors, which leaves distances (L2) as they are and changes every angle: with
        COSINE and IP the neighbours would be others.

        Raises:
            PcaError: the vectors have another dimension than those it was fitted on.
        """
        matrix = np.asarray(vectors, dtype=np.float32)
        before = self.components.shape[1]
        if matrix.ndim != 2 or matrix.shape[1] != before:
            raise PcaError(
                f"this PCA takes vectors of {before} dimensions, shape (rows, {before}), not "
                f"{matrix.shape}: it belongs to another model"
            )
        return matrix @ self.components.T

    def save(self, path: str | Path) -> None:
        """Write it to a file, whose name ends in .npz."""
        with Path(path).open("wb") as file:
            np.savez(file, components=self.components, kept=self.kept)

    @classmethod
    def load(cls, path: str | Path) -> "Pca":
        """Read what `save` wrote.

        Raises:
            PcaError: no such file, or it holds something else.
        """
        try:
            with np.load(path) as file:
                components, kept = file["components"], float(file["kept"])
        except FileNotFoundError as error:
            raise PcaError(f"{path}: there is no such file") from error
        except (KeyError, TypeError, ValueError, zipfile.BadZipFile, EOFError) as error:
            raise PcaError(f"{path}: this is no file of Pca.save(): {error}") from error
        return cls(components, kept)
