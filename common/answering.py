"""Questions with answers, made ready to be searched: wordings, vectors, words."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from common.common_directions import CommonDirections
from common.datasets import (
    KINDS,
    AskedQuestion,
    StoredQuestion,
    asked_file,
    faq_file,
    milvus_questions,
    milvus_test_questions,
)
from common.display import say
from common.embedding import TextEncoder, cached, text_encoder
from common.korean import morphemes
from common.sparse_text import Bm25, words

import numpy as np
from numpy.typing import NDArray

WORDS_WEIGHT = 0.03  # of a BM25 score, which is 5 to 30 for a good answer, beside a cosine
LANGUAGES = {"en": "English", "ko": "Korean"}
PARTS = ("question", "answer", "keywords")
VERSIONS = ("plain", "cleaned")  # vectors as they were encoded; without what all have in common
FEWEST_TO_CLEAN = 100  # wordings; what fewer have in common may be what they are about
MOST_WORDINGS = 1_000_000  # of one language: where the ids of the next ones begin


@dataclass(frozen=True)
class Faq:
    """Questions with answers in one language, and their vectors by one encoder.

    Attributes:
        language: "en" or "ko".
        stored: the questions with their answers.
        encoder: of the wordings and of what is asked.
        parts: for each wording the id of its question, what it is, and its text.
        vectors: of the wordings as they were encoded, float32, rows of length 1.
        common: what the vectors have in common.
    """

    language: str
    stored: list[StoredQuestion]
    encoder: TextEncoder
    parts: list[tuple[int, str, str]]
    vectors: NDArray[np.float32]
    common: CommonDirections

    @classmethod
    def embed(
        cls,
        stored: Sequence[StoredQuestion],
        language: str,
        encoder: TextEncoder,
        kept: Sequence[str] = PARTS,
    ) -> "Faq":
        """Encode the wordings; `kept` tells which kinds of them.

        Raises:
            EncoderError: the model cannot be loaded.
        """
        parts = [
            (item.id, part, text)
            for item in stored
            for part, text in item.wordings()
            if part in kept
        ]
        vectors = encoder.encode_documents([text for _, _, text in parts])
        enough = len(parts) >= FEWEST_TO_CLEAN
        common = CommonDirections.fit(vectors) if enough else CommonDirections.none(vectors)
        return cls(language, list(stored), encoder, parts, vectors, common)

    @cached_property
    def by_id(self) -> dict[int, StoredQuestion]:
        """The questions by their ids."""
        return {item.id: item for item in self.stored}

    @cached_property
    def words(self) -> "WordIndex":
        """What each question's wordings say, word for word."""
        return WordIndex(self.stored, self.language)

    def encode(self, questions: Sequence[str], version: str = "cleaned") -> NDArray[np.float32]:
        """Encode what is asked; "plain" as it is, "cleaned" without what is common.

        Raises:
            ValueError: a question is blank.
        """
        vectors = self.encoder.encode_queries(questions)
        return vectors if version == "plain" else self.common.remove(vectors)

    def rows(self, version: str = "cleaned") -> list[dict]:
        """The wordings as Milvus takes them, each with the answer that it leads to."""
        vectors = self.vectors if version == "plain" else self.common.remove(self.vectors)
        first = MOST_WORDINGS * (2 * VERSIONS.index(version) + (self.language == "ko"))
        return [
            {
                "id": first + place,
                "answer_id": answer_id,
                "part": part,
                "version": version,
                "language": self.language,
                "answer": self.by_id[answer_id].answer,
                "vector": vector,
            }
            for place, ((answer_id, part, _), vector) in enumerate(
                zip(self.parts, vectors, strict=True)
            )
        ]

    def changed_rows(self, answer_id: int, answer: str) -> list[dict]:
        """The rows of one question, both versions, with another answer; its vector as well.

        Raises:
            ValueError: the answer is blank.
        """
        (plain,) = self.encoder.encode_documents([answer])
        vector_of = {"plain": plain, "cleaned": self.common.remove([plain])[0]}
        rows = [row for version in VERSIONS for row in self.rows(version)]
        changed = [row | {"answer": answer} for row in rows if row["answer_id"] == answer_id]
        return [
            row | {"vector": vector_of[row["version"]]} if row["part"] == "answer" else row
            for row in changed
        ]


def is_korean(text: str) -> bool:
    """Whether a text has a Korean letter."""
    return any("가" <= letter <= "힣" or "ㄱ" <= letter <= "ㆎ" for letter in text)


def id_of(text: str) -> int:
    """A primary key made from a text: the same for the same text, in every process and version.

    63 bits of its SHA-256: two of a million texts share one in about one of twenty million cases.
    """
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1


def load_faq(
    language: str, faq: Path | None = None, tests: Path | None = None, most: int | None = None
) -> tuple[Faq, list[AskedQuestion]]:
    """Read and encode questions with answers, and say which model did it.

    Args:
        language: "en" or "ko".
        faq: a file of your own (see `faq_file`); without one the questions about Milvus.
        tests: test questions for it (see `asked_file`).
        most: how many test questions of each kind are kept, the first ones; None keeps all.

    Returns:
        What to search, and the test questions: none for a file of your own without `tests`.

    Raises:
        DatasetError: a file cannot be used.
        EncoderNotFound: there is no model.
    """
    if faq:
        stored = faq_file(faq)
        asked = asked_file(tests, stored) if tests else []
    else:
        stored, asked = milvus_questions(language), milvus_test_questions(language)
    kept = [item for kind in KINDS for item in [one for one in asked if one.kind == kind][:most]]
    encoder = cached(text_encoder(language=language))
    made = Faq.embed(stored, language, encoder)
    say(
        f"{LANGUAGES[language]}: {len(stored)} answers, {len(made.parts)} wordings by "
        f"{encoder.name} ({encoder.source}), {encoder.hits} of them from the cache."
    )
    return made, kept


class WordIndex:
    """BM25 over the wordings of each question together: English by words, Korean by morphemes."""

    def __init__(self, stored: Sequence[StoredQuestion], language: str) -> None:
        self._cut = words if language == "en" else morphemes
        self._ids = [item.id for item in stored]
        texts = [" ".join(text for _, text in item.wordings()) for item in stored]
        self._bm25 = Bm25([self._cut(text) for text in texts])

    def scores(self, question: str) -> dict[int, float]:
        """From the id of each stored question that shares a word with `question` to its score."""
        found = self._bm25.search(self._cut(question), len(self._ids))
        return {self._ids[row]: score for row, score in found}


def best_answers(
    hits: Iterable[dict], words: Mapping[int, float] | None = None, weight: float = WORDS_WEIGHT
) -> list[tuple[int, float]]:
    """The answers to which the hits of one search lead, best first, each with its score.

    An answer has the score of its best wording, and with `words` also weight times its BM25 score.
    Of equal scores the smaller id comes first.

    Args:
        hits: of a search with COSINE, with `answer_id` among its output fields.
        words: BM25 scores by id, as of `WordIndex.scores`.
        weight: of a BM25 score.
    """
    scores: dict[int, float] = {}
    for hit in hits:
        answer_id = hit["entity"]["answer_id"]
        scores[answer_id] = max(hit["distance"], scores.get(answer_id, -1.0))
    words = words or {}
    ranked = [(found, score + weight * words.get(found, 0.0)) for found, score in scores.items()]
    return sorted(ranked, key=lambda item: (-item[1], item[0]))


@dataclass(frozen=True)
class Answers:
    """The best answer to each of some questions.

    Attributes:
        asked: the questions.
        found: the id of the best answer, -1 where there was none at all.
        scores: its score; lower than any other where there was none.
    """

    asked: list[AskedQuestion]
    found: NDArray[np.int64]
    scores: NDArray[np.float64]

    @classmethod
    def of(
        cls, asked: Sequence[AskedQuestion], rankings: Sequence[Sequence[tuple[int, float]]]
    ) -> "Answers":
        """Take the first of each ranking.

        Raises:
            ValueError: there are not as many rankings as questions.
        """
        if len(asked) != len(rankings):
            raise ValueError(f"{len(asked)} questions with {len(rankings)} rankings")
        best = [ranking[0] if ranking else (-1, -1.0) for ranking in rankings]
        found = np.array([answer for answer, _ in best], dtype=np.int64)
        return cls(list(asked), found, np.array([score for _, score in best], dtype=np.float64))

    @cached_property
    def has_answer(self) -> NDArray[np.bool_]:
        """Which questions have an answer."""
        return np.array([item.answered_by is not None for item in self.asked], dtype=bool)

    @cached_property
    def right(self) -> NDArray[np.bool_]:
        """For which questions the best answer is the right one."""
        truth = [-2 if item.answered_by is None else item.answered_by for item in self.asked]
        return self.found == np.array(truth, dtype=np.int64)

    def of_kind(self, *kinds: str) -> NDArray[np.bool_]:
        """Which questions are of one of these kinds."""
        return np.array([item.kind in kinds for item in self.asked], dtype=bool)
