"""Korean text cut into what can be searched.

A Korean noun carries its particle: 국회는, 국회의 and 국회에서 are "the assembly" as a topic, of it
and in it. To an analyzer that splits at spaces these are three words without anything in common.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from functools import cache
from typing import TYPE_CHECKING

from common.sparse_text import words

if TYPE_CHECKING:  # loads in seconds, which only a text to cut is worth
    from kiwipiepy import Kiwi

# Sejong tags of what carries a meaning: nouns, roots, verbs and adjectives, numbers, other scripts.
# Left out are particles (J...), endings (E...), pronouns, dependent nouns and auxiliary verbs.
CONTENT_TAGS = frozenset({"NNG", "NNP", "NR", "XR", "VV", "VA", "SN", "SL", "SH"})


_SIGNS = ["SP", "SSC", "SSO", "SC", "SE", "SF"]
_PARTICLES_AND_ENDINGS = ["JKS", "JKC", "JKG", "JKO", "JKB", "JKV", "JKQ", "JX", "JC"]
_PARTICLES_AND_ENDINGS += ["EP", "EF", "EC", "ETM"]
_LEAVE_OUT = {"kind": "korean_stop_tags", "tags": _SIGNS + _PARTICLES_AND_ENDINGS}
LINDERA_KO = {"tokenizer": {"type": "lindera", "dict_kind": "ko-dic", "filter": [_LEAVE_OUT]}}
"""`analyzer_params` with which a server (2.6 or later) itself does much the same."""


def morphemes(text: str) -> list[str]:
    """The content words of a text, without particles and endings, by the analyzer Kiwi.

    A verb or adjective is its stem: 구하면 and 구해 give 구하. Other scripts are in lower case.
    """
    found = _kiwi().tokenize(text)
    # The ending of a tag tells how a verb is inflected: VV-I, VV-R.
    forms = [token.form for token in found if token.tag.split("-")[0] in CONTENT_TAGS]
    return [word for form in forms for word in words(form)]  # "17." is a number to Kiwi


def bigrams(text: str) -> list[str]:
    """All pairs of neighbouring characters within each word; a word of one character is itself.

    Needs no dictionary: 국회는 gives 국회 and 회는, and the first is in 국회의 as well.
    """
    return [
        word[start : start + 2] for word in words(text) for start in range(max(1, len(word) - 1))
    ]


def searchable(texts: Iterable[str]) -> dict[str, list[str]]:
    """Texts as fields for the analyzer `standard`: as they are, as bigrams, as morphemes.

    Documents and queries must be cut alike, so both go through here.

    Returns:
        From the name of a field (standard, bigrams, morphemes) to what it holds for each text.
    """
    cut = {"bigrams": bigrams, "morphemes": morphemes}
    whole = list(texts)
    spaced = {field: [" ".join(by(text)) for text in whole] for field, by in cut.items()}
    return {"standard": whole, **spaced}


def forms_of(noun: str, texts: Iterable[str], cut: Callable[[str], Iterable[str]]) -> Counter[str]:
    """The tokens that begin with `noun`, and in how many of the texts each of them stands."""
    return Counter(token for text in texts for token in set(cut(text)) if token.startswith(noun))


@cache
def _kiwi() -> "Kiwi":
    from kiwipiepy import Kiwi

    # Without the dictionaries of long names and of misspellings it starts in half the time.
    return Kiwi(num_workers=1, load_multi_dict=False, load_typo_dict=False)
