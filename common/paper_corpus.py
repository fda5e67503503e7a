"""The 314 papers as vectors, as several lessons search them."""

import time
from dataclasses import dataclass

from common.datasets import Paper, papers
from common.display import say
from common.embedding import TextEncoder, cached, text_encoder

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class PaperCorpus:
    """The papers, for each a vector of length 1 (a float32 row), and the encoder of both."""

    papers: list[Paper]
    vectors: NDArray[np.float32]
    encoder: TextEncoder

    def rows(self) -> list[dict]:
        """The papers as Milvus takes them: for each a dict from field to value."""
        return [
            {
                "id": paper.id,
                "title": paper.title,
                "abstract": paper.abstract,
                "published": paper.published.isoformat(),  # such texts sort by date
                "tags": list(paper.tags),
                "vector": vector,
            }
            for paper, vector in zip(self.papers, self.vectors, strict=True)
        ]


def embed_papers() -> PaperCorpus:
    """Turn each paper, its title and abstract, into a vector, and say which model did it.

    Raises:
        EncoderNotFound: there is no model.
    """
    say("Each text is encoded once, which takes a while, and from then on read from a cache.")
    encoder = cached(text_encoder())
    started = time.perf_counter()
    vectors = encoder.encode_documents([paper.text for paper in papers()])
    seconds = time.perf_counter() - started
    say(
        f"{encoder.name} ({encoder.source}): {len(vectors)} texts to vectors of "
        f"{vectors.shape[1]} numbers in {seconds:.1f} s, {encoder.hits} of them from the cache."
    )
    return PaperCorpus(papers(), vectors, encoder)
