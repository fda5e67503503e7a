"""Passages: a text cut at the borders of sentences, and what in it answers a query.

A model reads so many tokens of a text (256 here) and makes one vector of all of them: of a long
document it sees the beginning, and the details drown. So documents are searched by passages.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from common.embedding import TextEncoder

import numpy as np
from bm25s.stopwords import STOPWORDS_EN_PLUS
from numpy.typing import NDArray

WORDS, OVERLAP = 60, 15
LONGEST = 4000  # characters of a passage, at most 16,000 bytes
STOPWORDS = frozenset(STOPWORDS_EN_PLUS)
_LONGEST_WORD = 200  # characters: text without spaces is cut

_Hit = TypeVar("_Hit")

# After . ! ? or … and closing quotes, before a space. Korean sentences end like that too.
_END = re.compile(r"(?<=[.!?…。])[\"'”’)\]]*\s+")
_NO_END = re.compile(
    r"(?:^|[\s(])(?:[A-Z]|[A-Z]\.[A-Z]|e\.g|i\.e|cf|vs|al|etc|Fig|Figs|Eq|Eqs|Sec|No|Dr|Mr|Mrs|Ms|"
    r"Prof|St|approx|resp|w\.r\.t)\.$"
)
_WORD = re.compile(r"\w+")
_HANGUL = re.compile(r"[\uac00-\ud7a3]")


def sentences(text: str) -> list[str]:
    """The sentences of a text in order; a line break ends a sentence, "et al." does not."""
    found = []
    for line in text.splitlines():
        start = 0
        for end in _END.finditer(line):
            if not _NO_END.search(line[: end.start()]):
                found.append(line[start : end.end()].strip())
                start = end.end()
        found.append(line[start:].strip())
    return [sentence for sentence in found if sentence]


def split(text: str, words: int = WORDS, overlap: int = OVERLAP) -> list[str]:
    """Cut a text into passages of whole sentences.

    Each passage takes as many sentences as fit, and the next one begins with the last sentences
    of it, so that what stands at a border is whole in one of the two. A sentence that is longer
    than a passage is cut between words.

    Args:
        text: paragraphs are separated by line breaks.
        words: how many a passage has at most.
        overlap: how many words of the passage before are taken at most.

    Raises:
        ValueError: `words` is below 1, or `overlap` not from 0 to below `words`.
    """
    if words < 1 or not 0 <= overlap < words:
        raise ValueError(f"words is 1 or more and overlap below it, not {words} and {overlap}")
    passages, current = [], []
    for unit in _units(text, words):
        if current and not _fits([*current, unit], words):
            passages.append(current)
            current = _last(current, unit, words, overlap)
        current = [*current, unit]
    return [" ".join(passage) for passage in [*passages, current] if passage]


def best_of_each(hits: Iterable[_Hit], document: Callable[[_Hit], object]) -> list[_Hit]:
    """The best passage of each document: of hits, best first, the first one of each."""
    first: dict[object, _Hit] = {}
    for hit in hits:
        first.setdefault(document(hit), hit)
    return list(first.values())


def best_sentence(passage: str, query: NDArray[np.float32], encoder: TextEncoder) -> str:
    """The sentence of a passage that is nearest to a query by meaning.

    Args:
        passage: not blank.
        query: the vector of the query, shape (dimension,), of length 1.
        encoder: the one that made it.
    """
    parts = sentences(passage)
    if len(parts) == 1:
        return parts[0]
    return parts[int(np.argmax(encoder.encode_documents(parts) @ query))]


def mark_words(text: str, query: str, marks: tuple[str, str] = ("[", "]")) -> str:
    """Put marks around the words of a query in a text, without regard to upper and lower case.

    A Korean word is found with its particle: 국회 also marks 국회는. Words such as "the", which
    bm25s leaves out of English searches, and those of one character are not marked.
    """
    asked = {word for word in map(str.lower, _WORD.findall(query)) if _counts(word)}
    before, after = marks

    def marked(match: re.Match[str]) -> str:
        word = match[0].lower()
        with_particle = _HANGUL.match(word) and any(word.startswith(other) for other in asked)
        return f"{before}{match[0]}{after}" if word in asked or with_particle else match[0]

    return _WORD.sub(marked, text)


def _counts(word: str) -> bool:
    return len(word) > 1 and word not in STOPWORDS


def _units(text: str, words: int) -> list[str]:
    """Sentences, the long ones in pieces that fit."""
    return [piece for sentence in sentences(text) for piece in _pieces(sentence, words)]


def _pieces(sentence: str, words: int) -> list[str]:
    parts = [
        word[start : start + _LONGEST_WORD]
        for word in sentence.split()
        for start in range(0, len(word), _LONGEST_WORD)
    ]
    pieces, current = [], []
    for part in parts:
        if current and not _fits([*current, part], words):
            pieces.append(" ".join(current))
            current = []
        current.append(part)
    return [*pieces, " ".join(current)]


def _last(passage: Sequence[str], following: str, words: int, overlap: int) -> list[str]:
    """The last sentences of a passage that the next one begins with, before `following`."""
    taken: list[str] = []
    for unit in reversed(passage[1:]):  # never all of it
        longer = [unit, *taken]
        if not _fits(longer, overlap) or not _fits([*longer, following], words):
            break
        taken = longer
    return taken


def _fits(units: Sequence[str], words: int) -> bool:
    text = " ".join(units)
    return len(text.split()) <= words and len(text) <= LONGEST
