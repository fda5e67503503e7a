"""The questions about Milvus: what the files promise, and files of the user's own."""

import json
from collections import Counter
from pathlib import Path

from common.content_words import content_words, shared_content
from common.datasets import (
    DatasetError,
    asked_file,
    faq_file,
    milvus_questions,
    milvus_test_questions,
)

import pytest

both_languages = pytest.mark.parametrize("language", ["en", "ko"])


def write(path: Path, *lines: object) -> Path:
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("\n".join(texts), encoding="utf-8")
    return path


def has_korean(text: str) -> bool:
    return any("가" <= letter <= "힣" for letter in text)


class TestTheData:
    @both_languages
    def test_120_questions_with_answers(self, language: str) -> None:
        stored = milvus_questions(language)
        assert [item.id for item in stored] == list(range(1, 121))
        for item in stored:
            assert all(text.strip() == text and text for _, text in item.wordings())
            assert len(item.answer) > len("Python 3.11, 3.12")
            assert len(item.keywords) == 6

    def test_an_id_is_the_same_subject_in_both_languages(self) -> None:
        pairs = list(zip(milvus_questions("en"), milvus_questions("ko"), strict=True))
        assert all(english.topic == korean.topic for english, korean in pairs)
        for english, korean in pairs:
            assert not has_korean(english.question + english.answer)
            assert has_korean(korean.question)
            assert has_korean(korean.answer)

    @both_languages
    def test_test_questions(self, language: str) -> None:
        asked = milvus_test_questions(language)
        assert [item.id for item in asked] == list(range(1, 461))
        kinds = Counter(item.kind for item in asked)
        assert kinds == {"paraphrase": 200, "oblique": 200, "near": 40, "far": 20}
        for kind in ("paraphrase", "oblique"):
            times = Counter(item.answered_by for item in asked if item.kind == kind)
            assert set(times) == set(range(1, 121))
            assert set(times.values()) == {1, 2}
        for item in asked:
            assert (item.answered_by is None) == (item.kind in ("near", "far"))
            assert has_korean(item.question) == (language == "ko")

    @both_languages
    def test_no_text_stands_there_twice(self, language: str) -> None:
        wordings = [
            text
            for item in milvus_questions(language)
            for part, text in item.wordings()
            if part != "answer"
        ]
        asked = [item.question for item in milvus_test_questions(language)]
        times = Counter(text.casefold() for text in [*wordings, *asked])
        assert [text for text, count in times.items() if count > 1] == []

    @both_languages
    def test_paraphrases_share_at_most_half_of_their_content_words(self, language: str) -> None:
        stored = {item.id: item for item in milvus_questions(language)}
        shares = {"paraphrase": [], "oblique": []}
        for item in milvus_test_questions(language):
            if item.answered_by is None:
                continue
            answers = stored[item.answered_by]
            shares[item.kind].append(shared_content(item.question, answers.question, language))
            assert shares[item.kind][-1] <= 0.5, item
            if item.kind == "paraphrase":
                for keywords in answers.keywords:
                    assert shared_content(item.question, keywords, language) <= 0.5, item
        means = {kind: sum(values) / len(values) for kind, values in shares.items()}
        assert means["oblique"] < 0.05
        assert 0.25 < means["paraphrase"] < 0.35

    @both_languages
    def test_every_question_says_something(self, language: str) -> None:
        for item in milvus_test_questions(language):
            assert content_words(item.question, language), item


class TestOwnFiles:
    def test_a_minimal_file(self, tmp_path: Path) -> None:
        path = write(
            tmp_path / "faq.jsonl",
            {"question": "When do you open?", "answer": "At nine."},
            {"question": "언제 닫나요?", "answer": "여섯 시.", "keywords": ["closing"], "id": 7},
        )
        first, second = faq_file(path)
        assert (first.id, first.question, first.answer, first.keywords) == (
            1, "When do you open?", "At nine.", (),
        )  # fmt: skip
        assert second.wordings() == [
            ("question", "언제 닫나요?"), ("answer", "여섯 시."), ("keywords", "closing"),
        ]  # fmt: skip
        assert second.id == 7

    @pytest.mark.parametrize(
        ("line", "problem"),
        [
            ("{", "line 2: Expecting property name"),
            ("[]", "line 2: the line is no JSON object"),
            ({"question": "b"}, "line 2: the field 'answer' is missing"),
            ({"question": " ", "answer": "c"}, "line 2: a question, answer or keyword is blank"),
            ({"question": "b", "answer": 3}, "line 2: the field 'answer' must be a filled str"),
            ({"question": "A ", "answer": "c"}, "line 2: the same question stands in line 1"),
            ({"question": "b", "answer": "c", "id": 1}, "line 2: the id 1 stands in an earlier"),
            ({"question": "b", "answer": "c", "keywords": "d"}, "line 2: the field 'keywords'"),
            ({"question": "b", "answer": "가" * 21_846}, "line 2: the answer has 65,538 bytes"),
            ({"question": "b", "answer": "c", "id": 2**63}, "does not fit into an INT64"),
        ],
    )
    def test_a_wrong_line_is_named(self, tmp_path: Path, line: object, problem: str) -> None:
        path = write(tmp_path / "faq.jsonl", {"question": "a", "answer": "b"}, line)
        with pytest.raises(DatasetError) as caught:
            faq_file(path)
        assert problem in str(caught.value)
        assert '{"question": "...", "answer": "..."' in str(caught.value)
        assert "git checkout" not in str(caught.value)

    def test_a_file_that_cannot_be_read(self, tmp_path: Path) -> None:
        with pytest.raises(DatasetError, match="cannot be read"):
            faq_file(tmp_path / "none.jsonl")
        with pytest.raises(DatasetError, match="is empty"):
            faq_file(write(tmp_path / "faq.jsonl"))

    def test_own_test_questions(self, tmp_path: Path) -> None:
        stored = milvus_questions("en")
        lines = [{"question": f"q{n}", "answered_by": n} for n in range(1, 11)]
        lines += [{"question": f"n{n}", "answered_by": None} for n in range(10)]
        asked = asked_file(write(tmp_path / "asked.jsonl", *lines), stored)
        assert [item.answered_by for item in asked] == [*range(1, 11), *[None] * 10]
        assert Counter(item.kind for item in asked) == {"paraphrase": 10, "near": 10}
        with pytest.raises(DatasetError, match="9 questions with an answer and 10 without"):
            asked_file(write(tmp_path / "asked.jsonl", *lines[1:]), stored)

    @pytest.mark.parametrize(
        ("line", "problem"),
        [
            ({"question": "a"}, "the field 'answered_by' is missing"),
            ({"question": "a", "answered_by": 121}, "no stored question with the id 121"),
            ({"question": "a", "answered_by": True}, "no stored question with the id True"),
            ({"question": "a", "answered_by": 3, "kind": "far"}, "one of paraphrase, oblique"),
            ({"question": " ", "answered_by": 3}, "the question is blank"),
        ],
    )
    def test_a_wrong_test_question_is_named(
        self, tmp_path: Path, line: object, problem: str
    ) -> None:
        with pytest.raises(DatasetError, match="line 1: ") as caught:
            asked_file(write(tmp_path / "asked.jsonl", line), milvus_questions("en"))
        assert problem in str(caught.value)
