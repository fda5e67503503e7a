"""Passages cover a text, begin at sentences and overlap; highlights mark what was asked."""

from itertools import pairwise

from common.datasets import constitution, papers
from common.embedding import cached, text_encoder
from common.passages import (
    LONGEST,
    best_of_each,
    best_sentence,
    mark_words,
    sentences,
    split,
)

import pytest

FOUR = "One two three. Four five six. Seven eight nine. Ten eleven twelve."


def test_sentences() -> None:
    text = 'See Smith et al. 2020, e.g. Fig. 3. He asked: "Why?" It is 3.5 m.\n국회는 만든다. 끝'
    assert sentences(text) == [
        "See Smith et al. 2020, e.g. Fig. 3.",
        'He asked: "Why?"',
        "It is 3.5 m.",
        "국회는 만든다.",
        "끝",
    ]


def test_passages_by_hand() -> None:
    assert split(FOUR, words=6, overlap=3) == [
        "One two three. Four five six.",
        "Four five six. Seven eight nine.",
        "Seven eight nine. Ten eleven twelve.",
    ]
    assert split(FOUR, words=6, overlap=2) == [
        "One two three. Four five six.",
        "Seven eight nine. Ten eleven twelve.",
    ]
    assert split("a b c d e", words=2, overlap=0) == ["a b", "c d", "e"]
    assert split(" \n ", words=5, overlap=0) == []


@pytest.mark.parametrize(("words", "overlap"), [(60, 15), (30, 29), (10, 0)])
def test_every_sentence_is_whole_in_a_passage_and_in_order(words: int, overlap: int) -> None:
    for text in [*(p.text for p in papers()[:60]), *(a.text for a in constitution()[:40])]:
        passages = split(text, words, overlap)
        assert all(len(passage.split()) <= words for passage in passages)
        for sentence in sentences(text):
            if len(sentence.split()) <= words:
                assert any(" ".join(sentence.split()) in passage for passage in passages)
        for before, after in pairwise(passages):
            assert not before.endswith(after)  # each brings something new


def test_a_text_without_spaces_is_cut() -> None:
    passages = split("x" * 10_000, words=60, overlap=10)
    assert all(len(passage) <= LONGEST for passage in passages)
    assert sum(passage.count("x") for passage in passages) == 10_000


@pytest.mark.parametrize(("words", "overlap"), [(0, 0), (5, 5), (5, -1)])
def test_silly_sizes(words: int, overlap: int) -> None:
    with pytest.raises(ValueError, match="overlap"):
        split("text", words, overlap)


def test_best_of_each_keeps_the_first() -> None:
    assert best_of_each(["a1", "b1", "a2", "c1", "b2"], lambda hit: hit[0]) == ["a1", "b1", "c1"]


def test_marked_words() -> None:
    assert mark_words("The Graph of graphs", "the graph", ("<", ">")) == "The <Graph> of graphs"
    assert mark_words("국회는 국회의원을", "국회") == "[국회는] [국회의원을]"


def test_best_sentence_is_the_nearest() -> None:
    encoder = cached(text_encoder())
    (query,) = encoder.encode_queries(["a pet that meows"])
    passage = "Stocks fell on Monday. The cat slept on the sofa. Rain is expected."
    assert best_sentence(passage, query, encoder) == "The cat slept on the sofa."
    assert best_sentence("Only one.", query, encoder) == "Only one."
