"""Token vectors are encoded once; MaxSim is what one computes by hand."""

from pathlib import Path

from common.embedding import EncoderError, cached, text_encoder
from common.late_interaction import TokenEncoder, max_sim, rerank

import numpy as np
import pytest

TEXTS = ["A cat sleeps.", "Graph neural networks learn from the links between nodes."]
X, Y = np.float16([[1, 0]]), np.float16([[0, 1]])
BETWEEN = np.float16([[0.6, 0.8]])


def test_max_sim_by_hand() -> None:
    assert max_sim(np.vstack([X, Y]), BETWEEN) == pytest.approx(0.7, abs=1e-3)
    assert max_sim(X, np.vstack([Y, BETWEEN])) == pytest.approx(0.6, abs=1e-3)
    with pytest.raises(ValueError, match="at least one token"):
        max_sim(X[:0], Y)


def test_rerank_sorts_and_keeps_the_order_of_equals() -> None:
    ranking = [(1, 0.9), (2, 0.8), (3, 0.7), (4, 0.6)]
    found = rerank(ranking, X, {1: Y, 2: BETWEEN, 3: X, 4: BETWEEN})
    assert [document for document, _ in found] == [3, 2, 4, 1]
    assert found[0][1] == pytest.approx(1)


def test_tokens_are_encoded_once_and_give_the_vectors_of_the_texts(tmp_path: Path) -> None:
    plain = text_encoder()
    encoder = cached(plain, tmp_path / "vectors")
    tokens = TokenEncoder(encoder, tmp_path / "tokens")
    first = tokens.encode("document", [*TEXTS, TEXTS[0]])
    assert (tokens.encoded, tokens.hits) == (2, 1)
    assert [part.shape[1] for part in first] == [384, 384, 384]
    assert len(first[0]) < len(first[1])
    for part in first:
        assert np.linalg.norm(part.astype(np.float32), axis=1) == pytest.approx(1, abs=2e-3)
    vectors = encoder.encode_documents(TEXTS)  # of the same pass
    assert encoder.encoded == 0
    assert vectors == pytest.approx(plain.encode_documents(TEXTS), abs=1e-5)
    again = TokenEncoder(encoder, tmp_path / "tokens")
    assert all(map(np.array_equal, again.encode("document", TEXTS), first[:2]))
    assert (again.encoded, again.hits) == (0, 2)
    again.encode("query", TEXTS[:1])  # another thing for a model with prompts
    assert again.encoded == 1


def test_a_model_without_tokens_says_so(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="one vector a text"):
        TokenEncoder(text_encoder(language="ko"), tmp_path).encode("query", ["국회"])
