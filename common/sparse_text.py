"""BM25 in process, by bm25s: for a Milvus that has none, and for sparse vectors of your own.

Milvus does the same inside: an analyzer cuts a text into tokens, BM25 gives each token of a
document a weight, and the score of a query is the sum of the weights of its tokens.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence, Set

import bm25s
import numpy as np
from scipy.sparse import csr_array

K1 = 1.2  # how soon more of the same word stops to count: the default of a Milvus server
B = 0.75  # how much long documents are held back: 0 not at all, 1 in full

_WORD = re.compile(r"\w+")


def words(text: str) -> list[str]:
    """Cut a text as the analyzer `standard` of Milvus Lite does: runs of letters, in lower case."""
    return _WORD.findall(text.lower())


class Bm25:
    """BM25 over documents that are cut into tokens already.

    The weight of a token t in a document d, with N documents, n(t) of them with the token, f(t, d)
    times in d, and |d| tokens in d:

        log(1 + (N - n(t) + 0.5) / (n(t) + 0.5))
        * f(t, d) * (k1 + 1) / (f(t, d) + k1 * (1 - b + b * |d| / mean of |d|))

    This is what Milvus computes: BM25 as Robertson and Zaragoza (2009) give it, with the idf of
    Lucene. bm25s leaves the constant k1 + 1 out; here it is in, so that scores are alike.

    Attributes:
        vocabulary: from each token of the documents to its number, from 0, in sorted order.
        weights: float32, shape (documents, tokens): a row holds the weights of a document.
    """

    def __init__(self, documents: Sequence[Sequence[str]], *, k1: float = K1, b: float = B) -> None:
        """Count and weigh the tokens of `documents`.

        Raises:
            ValueError: there is no token at all, or a parameter is out of its range.
        """
        if not any(documents):
            raise ValueError("BM25 needs documents with at least one token")
        if k1 < 0 or not 0 <= b <= 1:
            raise ValueError(f"k1 is 0 or more and b lies within 0 and 1, not {k1} and {b}")
        index = bm25s.BM25(method="lucene", k1=k1, b=b)
        tokens = [list(document) for document in documents]
        index.index(tokens, create_empty_token=False, show_progress=False)
        # bm25s numbers tokens in the order of a set, which changes from process to process.
        self.vocabulary = {token: n for n, token in enumerate(sorted(index.vocab_dict))}
        self.weights = _by_document(index, self.vocabulary, len(tokens)) * np.float32(k1 + 1)

    def document_vectors(self) -> list[dict[int, float]]:
        """The documents as Milvus takes sparse vectors: for each a dict from number to weight."""
        rows = (self.weights[[row]] for row in range(self.weights.shape[0]))
        return [dict(zip(row.indices.tolist(), row.data.tolist(), strict=True)) for row in rows]

    def query_vector(self, tokens: Sequence[str]) -> dict[int, float]:
        """A query as a sparse vector: how often it has each token; unknown tokens are left out.

        Its inner product with a document vector is the BM25 score.
        """
        numbers = (self.vocabulary[token] for token in tokens if token in self.vocabulary)
        return {number: float(count) for number, count in Counter(numbers).items()}

    def search(self, tokens: Sequence[str], limit: int) -> list[tuple[int, float]]:
        """The best documents for a query, each with its score, best first.

        A document is its position among those that were given. Those without any token of the
        query are no hits. Of equal scores the earlier document comes first.
        """
        vector = self.query_vector(tokens)
        if not vector:
            return []
        counts = np.array(list(vector.values()), dtype=np.float32)
        scores = self.weights[:, list(vector)] @ counts
        best = np.argsort(-scores, kind="stable")[:limit]
        return [(int(row), float(scores[row])) for row in best if scores[row] > 0]


def bm25_search(
    documents: dict[int, str],
    queries: Sequence[str],
    limit: int,
    tokenize: Callable[[str], list[str]] = words,
) -> list[list[tuple[int, float]]]:
    """Search texts with BM25 in process.

    Args:
        documents: from the id of each to its text.
        queries: texts.
        limit: how many hits are returned at most for each query.
        tokenize: cuts documents and queries.

    Returns:
        For each query (id, score), best first; only documents with a token of the query.

    Raises:
        ValueError: no document has a token.
    """
    ids = list(documents)
    bm25 = Bm25([tokenize(text) for text in documents.values()])
    found = [bm25.search(tokenize(query), limit) for query in queries]
    return [[(ids[row], score) for row, score in hits] for hits in found]


def word_coverage(query: str, documents: Sequence[Set[str]]) -> str:
    """Where the words of a query stand, known before any search: the name of one of four groups.

    Args:
        query: a text.
        documents: the words of each document.
    """
    asked = set(words(query))
    together = sum(asked <= document for document in documents)
    if together > 10:
        return "d. all in each of more than 10"
    if together:
        return "c. all in each of 1 to 10"
    if any(asked & document for document in documents):
        return "b. not all in one of them"
    return "a. no word in any of them"


def _by_document(index: bm25s.BM25, vocabulary: dict[str, int], documents: int) -> csr_array:
    """Turn the columns that bm25s keeps, one a token, into a row a document."""
    number_of = np.empty(len(vocabulary), dtype=np.int64)
    for token, column in index.vocab_dict.items():
        number_of[column] = vocabulary[token]
    scores = index.scores
    tokens = np.repeat(number_of, np.diff(scores["indptr"]))
    weights = scores["data"].astype(np.float32)
    return csr_array((weights, (scores["indices"], tokens)), shape=(documents, len(vocabulary)))
