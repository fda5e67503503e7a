"""Questions with answers made ready: rows, ranking, words, and what counts as right."""

import math
from collections import Counter

from common.answering import (
    FEWEST_TO_CLEAN,
    MOST_WORDINGS,
    WORDS_WEIGHT,
    Answers,
    Faq,
    WordIndex,
    best_answers,
    id_of,
    is_korean,
    load_faq,
)
from common.datasets import AskedQuestion, StoredQuestion, milvus_questions
from common.embedding import cached, text_encoder
from common.sparse_text import words

import numpy as np
import pytest

SHOP = [
    StoredQuestion(3, "When do you open?", "At nine, on Sundays at ten.", ("opening hours",)),
    StoredQuestion(8, "How can I pay?", "By card, not in cash.", ("means of payment",)),
]


@pytest.fixture(scope="module")
def faq() -> Faq:
    return Faq.embed(milvus_questions("en")[:20], "en", cached(text_encoder()))


@pytest.fixture(scope="module")
def shop() -> Faq:
    return Faq.embed(SHOP, "en", cached(text_encoder()))


def hit(answer_id: int, distance: float) -> dict:
    return {"distance": distance, "entity": {"answer_id": answer_id}}


class TestRows:
    def test_each_wording_is_a_row(self, faq: Faq) -> None:
        rows = faq.rows("plain")
        wordings = [(item, *wording) for item in faq.stored for wording in item.wordings()]
        assert len(rows) == len(wordings) == 160
        for row, (item, part, _), vector in zip(rows, wordings, faq.vectors, strict=True):
            assert (row["answer_id"], row["part"]) == (item.id, part)
            assert (row["answer"], row["language"]) == (item.answer, "en")
            assert np.array_equal(row["vector"], vector)
        (alone,) = faq.encoder.encode_documents([wordings[9][2]])
        assert np.array_equal(rows[9]["vector"], alone)

    def test_no_two_rows_of_a_collection_share_an_id(self, faq: Faq) -> None:
        korean = Faq("ko", faq.stored, faq.encoder, faq.parts, faq.vectors, faq.common)
        rows = [row for one in (faq, korean) for v in ("plain", "cleaned") for row in one.rows(v)]
        assert len({row["id"] for row in rows}) == len(rows) == 640
        assert len(faq.parts) < MOST_WORDINGS

    def test_cleaned_rows_lack_what_is_common(self, faq: Faq) -> None:
        vectors = np.array([row["vector"] for row in faq.rows("cleaned")])
        assert np.abs(vectors @ faq.common.directions.T).max() < 1e-5
        assert faq.encode(["Which port?"]) @ faq.common.directions.T == pytest.approx(0, abs=1e-5)
        assert np.array_equal(
            faq.encode(["Which port?"], "plain"), faq.encoder.encode_queries(["Which port?"])
        )

    def test_few_wordings_are_not_cleaned(self, shop: Faq) -> None:
        assert len(shop.parts) < FEWEST_TO_CLEAN
        cleaned = [row["vector"] for row in shop.rows("cleaned")]
        assert cleaned == pytest.approx(shop.vectors, abs=1e-6)

    def test_only_some_kinds_of_wordings(self) -> None:
        found = Faq.embed(SHOP, "en", cached(text_encoder()), ("question",))
        assert found.parts == [
            (3, "question", "When do you open?"), (8, "question", "How can I pay?"),
        ]  # fmt: skip

    def test_a_changed_answer(self, faq: Faq) -> None:
        rows = faq.changed_rows(7, "Parts with names.")
        before = {row["id"]: row for version in ("plain", "cleaned") for row in faq.rows(version)}
        assert Counter(row["part"] for row in rows) == {"question": 2, "answer": 2, "keywords": 12}
        for row in rows:
            old = before[row["id"]]
            assert row["answer"] == "Parts with names."
            assert row["answer_id"] == old["answer_id"] == 7
            same = np.array_equal(row["vector"], old["vector"])
            assert same == (row["part"] != "answer")


class TestRanking:
    def test_an_answer_has_the_score_of_its_best_wording(self) -> None:
        hits = [hit(5, 0.9), hit(2, 0.8), hit(5, 0.7), hit(1, 0.8)]
        assert best_answers(hits) == [(5, 0.9), (1, 0.8), (2, 0.8)]
        assert best_answers([]) == []

    def test_words_can_change_the_order(self) -> None:
        ranked = best_answers([hit(5, 0.9), hit(2, 0.8)], {2: 10.0, 4: 99.0}, weight=0.03)
        assert [found for found, _ in ranked] == [2, 5]
        assert ranked[0][1] == pytest.approx(0.8 + 0.3)

    def test_the_score_of_words(self) -> None:
        index = WordIndex(SHOP, "en")
        texts = [" ".join(text for _, text in item.wordings()) for item in SHOP]
        lengths = [len(words(text)) for text in texts]
        # "card" stands once, in one of two documents: the formula of BM25 by hand.
        idf = math.log(1 + (2 - 1 + 0.5) / (1 + 0.5))
        length = 1 - 0.75 + 0.75 * lengths[1] / (sum(lengths) / 2)
        assert index.scores("card?") == {8: pytest.approx(idf * 2.2 / (1 + 1.2 * length), rel=1e-5)}
        assert index.scores("zebra") == {}
        assert WORDS_WEIGHT * max(index.scores("How can I pay by card?").values()) < 1

    def test_korean_particles_are_no_part_of_a_word(self) -> None:
        index = WordIndex([StoredQuestion(1, "별칭이란?", "두 번째 이름입니다.")], "ko")
        assert set(index.scores("별칭을 지우고 싶어요")) == {1}


ASKED = [
    AskedQuestion(1, "a", "paraphrase", 3),
    AskedQuestion(2, "b", "oblique", 3),
    AskedQuestion(3, "c", "near", None),
    AskedQuestion(4, "d", "far", None),
]


class TestAnswers:
    def test_what_is_right(self) -> None:
        found = Answers.of(ASKED, [[(3, 0.9), (8, 0.1)], [(8, 0.7)], [(3, 0.6)], []])
        assert found.found.tolist() == [3, 8, 3, -1]
        assert found.scores.tolist() == [0.9, 0.7, 0.6, -1.0]
        assert found.right.tolist() == [True, False, False, False]
        assert found.has_answer.tolist() == [True, True, False, False]
        assert found.of_kind("near", "far").tolist() == [False, False, True, True]

    def test_as_many_rankings_as_questions(self) -> None:
        with pytest.raises(ValueError, match="4 questions with 1 rankings"):
            Answers.of(ASKED, [[]])


def test_a_key_from_a_text() -> None:
    assert id_of("Is there a pool?") == id_of("Is there a pool?") != id_of("is there a pool?")
    assert all(0 <= id_of(str(number)) < 2**63 for number in range(1000))
    # Python's hash() of a text changes from process to process; this must not.
    assert id_of("") == 0xE3B0C44298FC1C14 >> 1


def test_korean_letters() -> None:
    assert is_korean("pymilvus에 풀이 있나요?")
    assert is_korean("ㅋㅋ")
    assert not is_korean("Is there a pool in 東京?")


def test_questions_of_each_kind_can_be_fewer() -> None:
    faq, asked = load_faq("en", most=25)
    assert len(faq.stored) == 120
    assert Counter(item.kind for item in asked) == {
        "paraphrase": 25, "oblique": 25, "near": 25, "far": 20,
    }  # fmt: skip
