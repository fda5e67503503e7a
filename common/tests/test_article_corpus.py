from common.article_corpus import embed_articles
from common.datasets import constitution
from common.embedding import KOREAN

import numpy as np
import pytest


def test_the_articles_as_vectors(capsys):
    corpus = embed_articles()
    assert corpus.vectors.shape == (130, corpus.encoder.dimension)
    assert np.linalg.norm(corpus.vectors, axis=1) == pytest.approx(np.ones(130), abs=1e-5)
    (seventieth,) = corpus.encoder.encode_documents([constitution()[69].text])
    assert np.array_equal(corpus.vectors[69], seventieth)
    assert list(corpus.texts) == list(range(1, 131))
    assert corpus.texts[70] == constitution()[69].text
    assert KOREAN.name in capsys.readouterr().out
