import math
import subprocess
import sys

from common.sparse_text import Bm25, bm25_search, word_coverage, words

import numpy as np
import pytest

DOCUMENTS = [["a", "b"], ["b", "c", "c"], ["d"]]  # 6 tokens, 2 a document


def weight(holding: int, times: int, length: int, k1: float = 1.2, b: float = 0.75) -> float:
    """BM25 by hand: 3 documents of mean length 2, of which `holding` hold the token."""
    idf = math.log(1 + (3 - holding + 0.5) / (holding + 0.5))
    return idf * times * (k1 + 1) / (times + k1 * (1 - b + b * length / 2))


class TestWords:
    def test_letters_and_digits_in_lower_case(self):
        assert words("BERT-base, e.g. GPT_2!") == ["bert", "base", "e", "g", "gpt_2"]

    def test_korean_stays_with_its_particle(self):
        assert words("②국회는 국무총리·국무위원") == ["②국회는", "국무총리", "국무위원"]

    def test_nothing(self):
        assert words(" .,!") == []


class TestBm25:
    def test_weights_by_hand(self):
        bm25 = Bm25(DOCUMENTS)
        assert bm25.vocabulary == {"a": 0, "b": 1, "c": 2, "d": 3}
        expected = [
            [weight(1, 1, 2), weight(2, 1, 2), 0, 0],
            [0, weight(2, 1, 3), weight(1, 2, 3), 0],
            [0, 0, 0, weight(1, 1, 1)],
        ]
        assert bm25.weights.toarray() == pytest.approx(np.array(expected), rel=1e-6)

    def test_parameters_count(self):
        bm25 = Bm25(DOCUMENTS, k1=2.0, b=0.0)
        assert bm25.weights.toarray()[1, 2] == pytest.approx(weight(1, 2, 3, k1=2.0, b=0.0))

    def test_search_adds_the_weights_of_the_query(self):
        (first, second) = Bm25(DOCUMENTS).search(["b", "c", "unknown"], 5)
        assert first == (1, pytest.approx(weight(2, 1, 3) + weight(1, 2, 3)))
        assert second == (0, pytest.approx(weight(2, 1, 2)))

    def test_a_word_twice_in_the_query_counts_twice(self):
        assert Bm25(DOCUMENTS).search(["d", "d"], 5) == [(2, pytest.approx(2 * weight(1, 1, 1)))]

    def test_limit_and_ties(self):
        bm25 = Bm25([["x"], ["y"], ["x"], ["x"]])
        assert [row for row, _ in bm25.search(["x"], 2)] == [0, 2]

    def test_no_known_word_no_hit(self):
        assert Bm25(DOCUMENTS).search(["zzz"], 5) == []
        assert Bm25(DOCUMENTS).search([], 5) == []

    def test_vectors_give_the_scores_as_inner_products(self):
        bm25 = Bm25([*DOCUMENTS, []])
        query = bm25.query_vector(["b", "c", "b"])
        assert query == {1: 2.0, 2: 1.0}
        vectors = bm25.document_vectors()
        products = [sum(v.get(n, 0) * x for n, x in query.items()) for v in vectors]
        found = dict(bm25.search(["b", "c", "b"], 9))
        assert products == pytest.approx([found.get(row, 0) for row in range(4)])
        assert vectors[3] == {}

    def test_numbers_of_tokens_are_the_same_in_each_process(self):
        code = (
            "from common.sparse_text import Bm25\n"
            "b = Bm25([[f't{n}' for n in range(50)]])\n"
            "print(list(b.vocabulary.items()), b.weights.toarray().sum())"
        )
        outputs = {
            subprocess.run(
                [sys.executable, "-c", code],
                env={"PYTHONHASHSEED": seed},
                capture_output=True,
                text=True,
                check=True,
                timeout=120,
            ).stdout
            for seed in ("1", "2")
        }
        assert len(outputs) == 1

    def test_wrong_input(self):
        with pytest.raises(ValueError, match="at least one token"):
            Bm25([[], []])
        with pytest.raises(ValueError, match="k1 is 0 or more"):
            Bm25(DOCUMENTS, k1=-1)
        with pytest.raises(ValueError, match="b lies within 0 and 1"):
            Bm25(DOCUMENTS, b=1.5)


def test_bm25_search_gives_ids():
    texts = {7: "The cat sat.", 9: "A dog sat, a dog ran."}
    (cats, dogs, nothing) = bm25_search(texts, ["Cat", "dog sat", "bird"], 5)
    assert [found for found, _ in cats] == [7]
    assert [found for found, _ in dogs] == [9, 7]
    assert nothing == []
    assert bm25_search(texts, ["sat."], 5, str.split)[0][0][0] == 7  # "sat," is another token


@pytest.mark.parametrize(
    ("query", "letter"),
    [("zebra", "a"), ("cat zebra", "b"), ("cat dog", "b"), ("Cat!", "c"), ("dog", "d")],
)
def test_word_coverage(query, letter):
    documents = [{"cat"}, *[{"dog"}] * 11]
    assert word_coverage(query, documents).startswith(f"{letter}. ")
