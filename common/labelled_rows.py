"""Vectors with labels, such as a month and a tenant, for lessons on which rows a search reads.

rows = labelled_rows(9_000, 64, queries=50, labels={"month": ["m1", "m2"]})
client.insert(name, rows.entities(np.flatnonzero(rows.wanted("month", "m1"))))
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from common.vectors import Float32, clustered_vectors

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class LabelledRows:
    """Rows to store and queries that are not among them.

    Attributes:
        vectors: float32 of shape (rows, dimension); row i is stored under the id i.
        queries: float32 of shape (queries, dimension).
        labels: from the name of a field to the text of each row, shape (rows,).
    """

    vectors: Float32
    queries: Float32
    labels: Mapping[str, NDArray[np.str_]]

    def __len__(self) -> int:
        return len(self.vectors)

    def values(self, field: str) -> list[str]:
        """The different texts of a field, sorted."""
        return np.unique(self.labels[field]).tolist()

    def wanted(self, field: str, *values: str) -> NDArray[np.bool_]:
        """Whether a row has one of these texts in a field, shape (rows,)."""
        return np.isin(self.labels[field], values)

    def entities(self, ids: ArrayLike) -> list[dict[str, object]]:
        """These rows as `client.insert()` takes them: id, vector and a text for each label."""
        chosen = np.asarray(ids, dtype=np.int64)
        texts = {field: column[chosen].tolist() for field, column in self.labels.items()}
        return [
            {
                "id": int(number),
                "vector": self.vectors[number],
                **{field: column[place] for field, column in texts.items()},
            }
            for place, number in enumerate(chosen)
        ]

    def batches(
        self, field: str, value: str = "", *, size: int = 2_000
    ) -> Iterator[list[dict[str, object]]]:
        """The rows with this text in a field, or with any, as entities, `size` at a time."""
        ids = np.flatnonzero(self.wanted(field, value)) if value else np.arange(len(self))
        for start in range(0, len(ids), size):
            yield self.entities(ids[start : start + size])


def labelled_rows(
    rows: int, dimension: int, *, queries: int, labels: Mapping[str, Sequence[str]], seed: int = 0
) -> LabelledRows:
    """Draw clustered vectors, and deal the texts of each label out evenly, in random order.

    Args:
        rows: how many to store.
        dimension: of a vector.
        queries: how many, from the same clusters.
        labels: from the name of a field to its texts; each is on as many rows as any other, up
            to one, and no label tells anything of another or of the vector.
        seed: the same arguments give the same rows.

    Raises:
        ValueError: a number below 1, or a label with more texts than there are rows or with none.
    """
    if min(rows, queries) < 1:
        raise ValueError(f"rows and queries must be at least 1, not {rows} and {queries}")
    for field, texts in labels.items():
        if not 1 <= len(texts) <= rows:
            raise ValueError(f"{field} has {len(texts)} texts for {rows} rows")
    drawn = clustered_vectors(rows + queries, dimension, seed=seed)
    random = np.random.default_rng(seed)
    dealt = {
        field: np.array(texts)[random.permutation(np.arange(rows) % len(texts))]
        for field, texts in labels.items()
    }
    return LabelledRows(drawn[:rows], drawn[rows:], dealt)
