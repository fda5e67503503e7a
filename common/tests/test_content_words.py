"""Content words: what is counted, and what two questions share."""

from common.content_words import content_words, shared_content, stem

import pytest


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("store stores stored storing", {"stor"}),
        ("query queries", {"query"}),
        ("plan planned planning", {"plan"}),
        ("call called calls calling", {"call"}),
        ("index indexed", {"index"}),
        ("ring", {"ring"}),  # nothing would be left of it
        ("class status analysis", {"class", "status", "analysis"}),
        ("use", {"use"}),
    ],
)
def test_words_of_one_stem(words: str, expected: set[str]) -> None:
    assert {stem(word) for word in words.split()} == expected


def test_english() -> None:
    found = content_words("How do I DROP the collections of use_database()?", "en")
    assert found == {"drop", "collection", "use_databas"}


def test_korean() -> None:
    found = content_words("컬렉션의 이름을 rename하려면 어떻게 하나요?", "ko")
    assert found == {"컬렉션", "이름", "rename"}


def test_shares_are_of_the_words_of_the_first() -> None:
    assert shared_content("drop a collection", "drop it", "en") == 0.5
    assert shared_content("drop it", "drop a collection", "en") == 1.0
    assert shared_content("별칭을 지우려면?", "별칭", "ko") == 0.5


def test_what_cannot_be_counted() -> None:
    with pytest.raises(ValueError, match="no content word"):
        shared_content("and so?", "and so?", "en")
    with pytest.raises(ValueError, match="en, ko"):
        content_words("text", "de")
