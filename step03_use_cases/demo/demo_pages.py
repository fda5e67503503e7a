"""What the web demo shows: for each kind of search a page."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import perf_counter
from typing import NamedTuple

from common.answering import WORDS_WEIGHT, is_korean
from common.datasets import constitution, milvus_questions, papers
from common.display import milliseconds
from common.emoji import Emoji, emoji, stratified
from common.filters import any_of, where
from common.gallery import Shown
from common.generation import UNKNOWN
from common.images import SUFFIXES, PictureError, read_picture
from common.passages import best_sentence
from common.vectors import Float32, normalize

import streamlit as st
from demo_cards import answer_card, card, picture_cards
from demo_searches import (
    LABELS,
    LOOKS,
    PAPERS,
    QUESTIONS,
    Looks,
    Questions,
    Texts,
    View,
    search_papers,
    search_pictures,
    search_questions,
    store_labels,
    store_looks,
    store_papers,
    store_questions,
    stored_vector,
)
from demo_words import EXAMPLES
from streamlit.runtime.uploaded_file_manager import UploadedFile

LONGEST = 1000  # characters of a query


def ready(view: View, key: str, store: Callable[..., NamedTuple]) -> NamedTuple:
    """What `store` stores, at the first call with a bar that shows how far it is."""
    place, bar = view.place, st.empty()
    with place.lock:  # a second visitor waits for the first
        if key not in place.stores:
            bar.progress(0.0, view.words["loading"])

            def report(step: str, done: int = 1, total: int = 1) -> None:
                text = view.words[step].format(done=done, total=total)
                bar.progress(done / total if step == "encoding" else 1.0, text)

            place.stores[key] = store(view, report)
            bar.empty()
        return place.stores[key]


def search_box(page: str, view: View) -> tuple[str, bool]:
    """Draw the box and examples: what was asked last, and whether the button was pressed now."""
    state, key = st.session_state, f"{page}_{view.language}"
    text_key, asked_key = f"text_{key}", f"asked_{key}"
    state.setdefault(text_key, state.get(asked_key, ""))

    def ask(text: str) -> None:
        state[text_key] = state[asked_key] = text

    with st.form(key, border=False):
        left, right = st.columns([5, 1], vertical_alignment="bottom")
        label = view.words["ask" if page == "questions" else "query"]
        text = left.text_input(label, key=text_key, placeholder=EXAMPLES[page][view.language][0])
        pressed = right.form_submit_button(view.words["search"], type="primary", width="stretch")
    if pressed:
        state[asked_key] = text
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(view.words["try"], width="content")
        for example in EXAMPLES[page][view.language]:
            st.button(example, key=f"{key} {example}", on_click=ask, args=(example,))
    return state.get(asked_key, "").strip(), pressed


def accepted(text: str, view: View) -> bool:
    """Whether a text can be searched with; if not, the page says why."""
    if len(text) > LONGEST:
        st.warning(view.words["too_long"].format(count=len(text), most=LONGEST))
    elif not any(map(str.isalnum, text)):
        st.warning(view.words["no_letters"] if text else view.words["empty"])
    else:
        if view.language == "en" and is_korean(text):
            st.info(view.words["korean"])
        return True
    return False


def told(view: View, times: Mapping[str, str], names: Sequence[str], condition: str) -> None:
    """Say how long it took, and what was sent."""
    st.caption(view.words["latency"].format(**times, milvus=view.place.milvus.label))
    with st.expander(view.words["sent"]):
        calls = [f'client.search("{n}", data=vector, filter={condition!r}, ...)' for n in names]
        st.code("\n".join(calls), language="python", wrap_lines=True)


@contextmanager
def timed(times: dict[str, str], what: str) -> Iterator[None]:
    """Note in `times` how long the block takes."""
    start = perf_counter()
    yield
    times[what] = milliseconds(perf_counter() - start)


def papers_filter(view: View) -> str:
    """Draw the filters of papers, by date and tag, or of articles, by number; the expression."""
    words, parts = view.words, []
    if view.language == "en":
        chosen = papers()[-view.options.papers :]
        years = sorted({paper.published.year for paper in chosen})
        span = st.select_slider(words["years"], years, value=(years[0], years[-1]))
        if span != (years[0], years[-1]):
            first, last = f"{span[0]}-01-01", f"{span[1]}-12-31"
            parts.append(where("day >= {first} and day <= {last}", first=first, last=last))
        known = sorted({tag for paper in chosen for tag in paper.tags}, key=str.lower)
        tags = st.multiselect(words["tags"], known, placeholder=words["choose"])
        if tags:
            parts.append(any_of([where("ARRAY_CONTAINS(tags, {tag})", tag=tag) for tag in tags]))
    else:
        most = len(constitution())
        span = st.slider(words["articles"], 1, most, (1, most))
        if span != (1, most):
            parts.append(where("document >= {a} and document <= {b}", a=span[0], b=span[1]))
    return " and ".join(parts)


def papers_page(view: View) -> None:
    """Passages of papers; in Korean those of the constitution."""
    words = view.words
    with st.sidebar:
        st.subheader(words["filters"])
        condition = papers_filter(view)
    text, pressed = search_box("papers", view)
    texts: Texts = ready(view, f"papers_{view.language}", store_papers)
    st.caption(words["papers_about"].format(count=texts.count))
    if not (text or pressed) or not accepted(text, view):
        return
    times: dict[str, str] = {}
    with timed(times, "encoding"):
        vector = texts.encoder.encode_queries([text])
    with timed(times, "search"):
        hits = search_papers(view, vector, condition)
    told(view, times, [PAPERS[view.language]], condition)
    if not hits:
        st.info(words["nothing"])
    for hit in hits:
        of = hit["entity"]
        best = best_sentence(of["text"], vector[0], texts.encoder)
        about = [of["day"], *of["tags"]]
        st.html(card(of["title"], hit["distance"], about, of["text"], text, best))


def questions_page(view: View) -> None:
    """The answer, or an honest "I don't know"."""
    words = view.words
    topics = sorted({item.topic for item in milvus_questions(view.language)})
    with st.sidebar:
        st.subheader(words["filters"])
        chosen = st.multiselect(words["topics"], topics, placeholder=words["choose"])
    condition = where("topic in {topics}", topics=chosen) if chosen else ""
    text, pressed = search_box("questions", view)
    stored: Questions = ready(view, f"questions_{view.language}", store_questions)
    faq, threshold = stored.faq, stored.threshold
    sizes = {
        "count": len(faq.parts),
        "threshold": threshold,
        "asked": stored.asked,
        "weight": WORDS_WEIGHT,
    }
    st.caption(words["questions_about"].format(**sizes))
    if not (text or pressed) or not accepted(text, view):
        return
    times: dict[str, str] = {}
    with timed(times, "encoding"):
        vectors = faq.common.remove(stored.encoder.encode_queries([text]))
    with timed(times, "search"):
        (found,) = search_questions(view, faq, vectors, [text], condition)
    told(view, times, [QUESTIONS[view.language]], condition)
    if not found:
        st.info(words["nothing"])
        return
    sure = found[0][1] > threshold
    st.html(answer_card(faq.by_id[found[0][0]].answer if sure else UNKNOWN[view.language]))
    st.subheader(words["found"])
    for number, score in found[:3]:
        item = faq.by_id[number]
        st.html(card(item.question, score, [item.topic], item.answer, text))


def picture_queries(
    view: View, labels: Texts, looks: Looks, text: str, picture: UploadedFile | int | None
) -> dict[str, Float32]:
    """From the collection that is to be searched to the vector to search it with.

    Raises:
        PictureError: the picture cannot be used.
    """
    queries: dict[str, Float32] = {}
    if text:
        queries[LABELS[view.language]] = labels.encoder.encode_queries([text])
    if isinstance(picture, UploadedFile):
        read = read_picture(picture.getvalue(), picture.name)
        queries[LOOKS] = normalize(looks.encoder.encode([read]).vectors - looks.mean)
    elif picture is not None:  # the number of an emoji, whose vector is in Milvus already
        queries[LOOKS] = stored_vector(view, picture)
    return queries


def choose_picture(view: View, items: Mapping[int, Emoji]) -> UploadedFile | int | None:
    """Draw what a picture is chosen with: an uploaded file, or else the number of an emoji."""
    left, right = st.columns(2)
    upload = left.file_uploader(view.words["upload"], sorted(SUFFIXES))
    like = right.selectbox(
        view.words["like"],
        items,
        index=None,
        placeholder=view.words["choose"],
        format_func=lambda number: f"{items[number].char} {label(items[number], view)}",
    )
    return like if upload is None else upload


def label(item: Emoji, view: View) -> str:
    """What an emoji is called in the language of the page."""
    return getattr(item, f"label_{view.language}")


def pictures_page(view: View) -> None:
    """Emoji by words, by a picture, or by both."""
    words = view.words
    items = {item.id: item for item in stratified(emoji(), view.options.emoji)}
    with st.sidebar:
        st.subheader(words["filters"])
        known = sorted({item.category for item in items.values()})
        chosen = st.multiselect(words["categories"], known, placeholder=words["choose"])
    condition = where("category in {chosen}", chosen=chosen) if chosen else ""
    text, pressed = search_box("pictures", view)
    picture = choose_picture(view, items)
    looks: Looks = ready(view, "looks", store_looks)
    labels: Texts = ready(view, f"labels_{view.language}", store_labels)
    st.caption(words["pictures_about"].format(count=len(items), model=looks.encoder.name))
    asked = text or (pressed and picture is None)
    if (asked and not accepted(text, view)) or not (asked or picture is not None):
        return
    times: dict[str, str] = {}
    try:
        with timed(times, "encoding"):
            queries = picture_queries(view, labels, looks, text, picture)
    except PictureError as error:
        st.warning(words["picture"].format(reason=error))
        return
    with timed(times, "search"):
        found = search_pictures(view, queries, condition)
    told(view, times, [*queries], condition)
    if not found:
        st.info(words["nothing"])
    hits = [(items[number], score) for number, score in found]
    st.html(picture_cards([Shown(item.png, label(item, view), f"{s:.3f}") for item, s in hits]))


PAGES = {"papers": papers_page, "questions": questions_page, "pictures": pictures_page}
