"""Search results of the web demo as HTML, which no text in them can break out of."""

from collections.abc import Sequence
from html import escape

from common.gallery import Shown
from common.passages import mark_words

# Signs of no meaning (a private area of Unicode), which stand for tags until all else is escaped.
_MARKS = ("\ue000", "\ue001")

STYLE = """<style>
.hit { border: 1px solid rgba(128, 128, 128, .35); border-radius: .5rem; padding: .75rem 1rem;
       margin-bottom: .75rem; overflow-wrap: anywhere; }
.hit .head { display: flex; gap: 1rem; justify-content: space-between; font-weight: 600; }
.hit .score, .picture .score { font-variant-numeric: tabular-nums; opacity: .75;
                              white-space: nowrap; }
.hit .about { font-size: .85rem; opacity: .75; margin: .15rem 0 .4rem; }
.hit .rest { opacity: .65; }
.hit.best { border: 2px solid #0072B2; }
.hit mark, .hit .rest mark { background: #E69F0055; color: inherit; border-radius: .2rem; }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(7.5rem, 1fr));
            gap: .75rem; }
.picture { border: 1px solid rgba(128, 128, 128, .35); border-radius: .5rem; padding: .75rem .5rem;
           text-align: center; font-size: .85rem; overflow-wrap: anywhere; margin: 0; }
.picture img { width: 64px; height: 64px; object-fit: contain; display: block;
               margin: 0 auto .4rem; }
</style>"""
"""To stand once on the page, before the cards."""


def marked(text: str, query: str) -> str:
    """A text as HTML, with the words of the query marked."""
    html = escape(mark_words(text.translate(dict.fromkeys(map(ord, _MARKS))), query, _MARKS))
    return html.replace(_MARKS[0], "<mark>").replace(_MARKS[1], "</mark>")


def card(
    title: str, score: float, about: Sequence[str], body: str, query: str = "", best: str = ""
) -> str:
    """One text that was found.

    Args:
        title: what it is called.
        score: of the search.
        about: what else is known of it, such as its date; empty ones are left out.
        body: the text, in which the words of `query` are marked.
        query: what was asked.
        best: the part of `body` that answers best; the rest is set back. Empty: none is.
    """
    before, found, after = body.partition(best) if best else ("", body, "")
    if not found:  # `best` is no part of it
        before, found, after = "", body, ""
    parts = [f'<span class="rest">{marked(part, query)}</span>' for part in (before, after)]
    known = " · ".join(escape(each) for each in about if each)
    return (
        '<div class="hit">'
        f'<div class="head"><span>{escape(title)}</span>'
        f'<span class="score">{score:.3f}</span></div>'
        f'<div class="about">{known}</div>'
        f"<div>{parts[0]}{marked(found, query)}{parts[1]}</div></div>"
    )


def answer_card(answer: str) -> str:
    """The answer to a question."""
    return f'<div class="hit best">{escape(answer)}</div>'


def picture_cards(pictures: Sequence[Shown]) -> str:
    """Pictures in as many columns as there is room for, each with its label and its note.

    Raises:
        ValueError: a picture is no PNG, JPEG, GIF or WebP.
    """
    cards = [
        f'<figure class="picture"><img src="{each.source}" alt="{escape(each.label)}">'
        f'<figcaption>{escape(each.label)}<br><span class="score">{escape(each.note)}</span>'
        "</figcaption></figure>"
        for each in pictures
    ]
    return f'<div class="pictures">{"".join(cards)}</div>'
