"""The 130 articles of the Korean constitution as vectors, as several lessons search them."""

from dataclasses import dataclass

from common.datasets import Article, constitution
from common.display import say
from common.embedding import TextEncoder, cached, text_encoder

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ArticleCorpus:
    """The articles, for each a vector of length 1 (a float32 row), and the encoder of both."""

    articles: list[Article]
    vectors: NDArray[np.float32]
    encoder: TextEncoder

    @property
    def texts(self) -> dict[int, str]:
        """From the id of each article to its text."""
        return {article.id: article.text for article in self.articles}


def embed_articles() -> ArticleCorpus:
    """Turn each article into a vector, and say which model did it.

    Raises:
        EncoderNotFound: there is no model.
    """
    encoder = cached(text_encoder(language="ko"))
    vectors = encoder.encode_documents([article.text for article in constitution()])
    say(
        f"{encoder.name} ({encoder.source}): {len(vectors)} articles to vectors of "
        f"{vectors.shape[1]} numbers, {encoder.hits} of them from the cache."
    )
    return ArticleCorpus(constitution(), vectors, encoder)
