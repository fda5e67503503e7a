"""Which words of a question carry its meaning, and how many of them another question shares.

A paraphrase that repeats the words of the original tests nothing: any search for words would find
it. The test questions of this project therefore share at most half of theirs with the original.
"""

import re
from collections.abc import Callable

from common.korean import morphemes

from bm25s.stopwords import STOPWORDS_EN_PLUS

_WORD = re.compile(r"\w+")
_STOPWORDS = frozenset(STOPWORDS_EN_PLUS)
_VOWEL = re.compile("[aeiouy]")
# Verbs and adjectives in nearly every question: do, become, be there, be how, be so, be what.
_KOREAN_STOPWORDS = frozenset({"하", "되", "있", "어떻", "그렇", "이렇", "어떠하"})


def content_words(text: str, language: str) -> set[str]:
    """The words of a text that carry a meaning, each in one form.

    English: runs of letters, digits and underscores in lower case, without the 179 stop words of
    NLTK's list, each without its ending (`stem`). Korean: the nouns, verbs, adjectives, roots,
    numbers and foreign words that the analyzer Kiwi finds, without particles, endings and the verbs
    of nearly every question; foreign words in lower case.

    Raises:
        ValueError: a language other than "en" and "ko".
    """
    if language not in _CUT:
        raise ValueError(f"language must be one of {', '.join(_CUT)}, not {language!r}")
    return _CUT[language](text)


def shared_content(text: str, other: str, language: str) -> float:
    """The share of the content words of `text` that `other` has too, 0 to 1.

    Raises:
        ValueError: `text` has no content word, or what `content_words` raises.
    """
    words = content_words(text, language)
    if not words:
        raise ValueError(f"{text!r} has no content word")
    return len(words & content_words(other, language)) / len(words)


def stem(word: str) -> str:
    """An English word without -s, -es, -ies, -ed, -ing and a last -e; rough, but the same for all.

    store, stores, stored and storing give stor; query and queries give query.
    """
    if len(word) > 4 and word.endswith("ies"):
        return f"{word[:-3]}y"
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    for ending in ("ing", "ed"):
        base = word.removesuffix(ending)
        if base != word and len(base) > 2 and _VOWEL.search(base):
            # planned is plan, but called is call
            double = base[-1] == base[-2] and base[-1] not in "lsz"
            return base[:-1] if double else base.removesuffix("e")
    return word.removesuffix("e") if len(word) > 3 else word


def _english(text: str) -> set[str]:
    return {stem(word) for word in _WORD.findall(text.lower()) if word not in _STOPWORDS}


def _korean(text: str) -> set[str]:
    return set(morphemes(text)) - _KOREAN_STOPWORDS


_CUT: dict[str, Callable[[str], set[str]]] = {"en": _english, "ko": _korean}
