"""Documents that are searched by meaning and by words, also where Milvus has no BM25."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from textwrap import shorten

from common.connection import Milvus
from common.display import table
from common.fusion import reciprocal_rank_fusion, weighted_fusion
from common.sparse_text import bm25_search

import numpy as np
from numpy.typing import NDArray

Ranking = Sequence[tuple[int, float]]
"""What was found for a query: (id, score), best first."""

Rankings = list[Ranking]
"""What was found for each query."""

Asked = tuple[NDArray[np.float32], list[str]]
"""Queries as vectors, one a row, and as texts."""


@dataclass(frozen=True)
class Documents:
    """What one collection holds.

    Attributes:
        milvus: where the collection is.
        collection: its name.
        ids: the primary keys.
        vectors: float32, shape (documents, dimension).
        texts: from the name of a text field to the text of each document.
    """

    milvus: Milvus
    collection: str
    ids: list[int]
    vectors: NDArray[np.float32]
    texts: dict[str, list[str]]

    @property
    def by_milvus(self) -> bool:
        """Whether Milvus itself does BM25 and fuses; else it holds the vectors only."""
        return bool(self.milvus.can("BM25") and self.milvus.can("hybrid_search"))

    @property
    def analyzed(self) -> tuple[str, ...]:
        """The text fields that the collection has: all or, without BM25 in Milvus, none."""
        return tuple(self.texts) if self.by_milvus else ()

    def rows(self) -> list[dict]:
        """The documents as Milvus takes them: `id`, `dense` and the fields of `analyzed`."""
        columns = {"id": self.ids, "dense": self.vectors}
        columns |= {field: self.texts[field] for field in self.analyzed}
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def bm25(self, field: str, queries: list[str], limit: int) -> Rankings:
        """BM25 over a text field in process: for each query (id, score), best first."""
        return bm25_search(dict(zip(self.ids, self.texts[field], strict=True)), queries, limit)

    def fuse(self, dense: Rankings, bm25: Rankings, limit: int, weights: tuple) -> Rankings:
        """Fuse in process: by the weights of dense (COSINE) and BM25, or without any by rank."""
        pairs = zip(dense, bm25, strict=True)
        if weights:
            metrics = ("COSINE", "BM25")
            return [weighted_fusion(pair, weights, metrics, limit) for pair in pairs]
        return [reciprocal_rank_fusion(pair, limit) for pair in pairs]


def ranked(answers: Sequence[Sequence[dict]]) -> Rankings:
    """The ids and scores of the hits that a search of Milvus returned, for each query."""
    return [[(hit["id"], hit["distance"]) for hit in hits] for hits in answers]


def show_side_by_side(
    title: str, rankings: Mapping[str, Ranking], name_of: Mapping[int, str], rows: int = 5
) -> None:
    """Print the first hits of each method beside each other, by the names of what was found."""
    short = {"width": 28, "placeholder": "…", "break_on_hyphens": False}
    columns = [
        [shorten(name_of[found], **short) for found, _ in ranking[:rows]]
        for ranking in rankings.values()
    ]
    lines = zip_longest(range(1, rows + 1), *columns)
    table(title, ("", *rankings), lines)


def largest_gap(one: Rankings, other: Rankings) -> float:
    """The largest difference between the scores at the same place of two answers.

    Raises:
        ValueError: one has more queries or more hits for a query than the other, or there is none.
    """
    pairs = [
        pair for rankings in zip(one, other, strict=True) for pair in zip(*rankings, strict=True)
    ]
    return max(abs(first - second) for (_, first), (_, second) in pairs)
