"""What the web demo stores in Milvus, and how it searches."""

import argparse
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from tempfile import TemporaryDirectory
from typing import NamedTuple

from common.answer_reports import choose
from common.answering import Answers, Faq, best_answers
from common.connection import Milvus, connect
from common.datasets import KINDS, constitution, milvus_questions, milvus_test_questions, papers
from common.display import error_line, say
from common.embedding import TextEncoder, cached, text_encoder
from common.emoji import Emoji, emoji, stratified
from common.folder_index import passage_rows
from common.fusion import reciprocal_rank_fusion
from common.image_embedding import ImageEncoder, image_encoder
from common.image_embedding import cached as cached_pictures
from common.images import read_picture
from common.passages import best_of_each, split
from common.sample_folder import paper_document
from common.vectors import Float32, normalize
from common.workspace import OURS, workspace

import grpc
import numpy as np
import streamlit as st
from pymilvus import DataType, MilvusClient, MilvusException

LANGUAGES = {"en": "English", "ko": "한국어"}
PAPERS = {language: f"step03_demo_papers_{language}" for language in LANGUAGES}
QUESTIONS = {language: f"step03_demo_questions_{language}" for language in LANGUAGES}
LABELS = {language: f"step03_demo_labels_{language}" for language in LANGUAGES}
LOOKS = "step03_demo_looks"
COLLECTIONS = (*PAPERS.values(), *QUESTIONS.values(), *LABELS.values(), LOOKS)
TIMEOUT = 30.0  # seconds; without one, pymilvus repeats a failing call for minutes
MOST_FALSE = 0.05  # of the questions without an answer, when the threshold is chosen


@dataclass(frozen=True)
class Place:
    """A Milvus with what the page has stored there, for all visitors."""

    milvus: Milvus
    stack: ExitStack  # what is closed at the end
    stores: dict[str, NamedTuple] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)


class Texts(NamedTuple):
    """Stored passages or labels: how many, and the encoder for queries."""

    count: int
    encoder: TextEncoder


class Questions(NamedTuple):
    """Stored questions, the encoder for new ones, and the score above which an answer counts."""

    faq: Faq
    encoder: TextEncoder
    threshold: float
    asked: int


class Looks(NamedTuple):
    """Stored pictures by what they look like: the encoder, and the mean of all of them."""

    encoder: ImageEncoder
    mean: Float32


class View(NamedTuple):
    """What a page needs: the Milvus, the language with its words, the sizes."""

    place: Place
    language: str
    words: dict[str, str]
    options: argparse.Namespace


# Milvus


def leave(place: Place) -> None:
    """Drop what the page made. A server that is gone keeps it until the next start."""
    try:
        place.milvus.client.list_collections(timeout=5)  # what follows would wait for minutes
        place.stack.close()
    except (MilvusException, grpc.RpcError) as error:
        say(f"{place.milvus.address}: {error_line(error)}. The next start of the demo tidies up.")


@st.cache_resource(show_spinner=False, on_release=leave)
def enter(engine: str) -> Place:
    """Connect once for all visitors, and keep our names free; `engine` is "named" or "lite"."""
    with ExitStack() as stack:
        # A database of its own: Milvus Lite takes one process at a time, and lessons want theirs.
        own = f"{stack.enter_context(TemporaryDirectory())}/demo.db" if engine == "lite" else None
        milvus = stack.enter_context(connect(own))
        stack.enter_context(workspace(milvus.client, *COLLECTIONS))
        return Place(milvus, stack.pop_all())


@st.cache_resource(show_spinner=False)
def text_model(language: str) -> TextEncoder:
    """The model of a language, loaded, so that the first query does not wait for it."""
    encoder = text_encoder(language=language)
    encoder.encode_queries(["warm up"])
    return encoder


def create(client: MilvusClient, name: str, dimension: int, fields: dict[str, DataType]) -> None:
    """Make a collection for these fields and a vector."""
    if client.has_collection(name, timeout=TIMEOUT):
        client.drop_collection(name, timeout=TIMEOUT)  # it was broken off half-way
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    for each, kind in fields.items():
        sizes = {DataType.VARCHAR: {"max_length": 65_535}}
        sizes[DataType.ARRAY] = {"element_type": DataType.VARCHAR, "max_length": 256}
        sizes[DataType.ARRAY]["max_capacity"] = 16
        schema.add_field(each, kind, **sizes.get(kind, {}))
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dimension)
    index_params = client.prepare_index_params()
    index_params.add_index("vector", index_type="FLAT", metric_type="COSINE")
    options = {"consistency_level": "Strong", "properties": OURS, "timeout": TIMEOUT}
    client.create_collection(name, schema=schema, index_params=index_params, **options)


def store_papers(view: View, report: Callable[..., None]) -> Texts:
    """Encode and insert passages: of papers in English, of the constitution in Korean."""
    client, name = view.place.milvus.client, PAPERS[view.language]
    encoder = text_model(view.language)
    rows = passages(view.language, view.options.papers)
    rows = with_vectors(rows, "text", cached(encoder), lambda *done: report("encoding", *done))
    report("storing")
    fields = dict.fromkeys(("title", "text", "day"), DataType.VARCHAR)
    fields |= {"document": DataType.INT64, "tags": DataType.ARRAY}
    create(client, name, encoder.dimension, fields)
    client.insert(name, rows, timeout=TIMEOUT)
    return Texts(len(rows), encoder)


def search_papers(view: View, vector: Float32, condition: str) -> list[dict]:
    """The five best documents, each by its best passage."""
    (hits,) = view.place.milvus.client.search(
        PAPERS[view.language],
        data=vector,
        filter=condition,
        limit=50,
        output_fields=["document", "title", "text", "day", "tags"],
        timeout=TIMEOUT,
    )
    return best_of_each(hits, lambda hit: hit["entity"]["document"])[:5]


def store_questions(view: View, report: Callable[..., None]) -> Questions:
    """Encode and insert all wordings, and choose the threshold by test questions."""
    client, name = view.place.milvus.client, QUESTIONS[view.language]
    encoder, stored = text_model(view.language), milvus_questions(view.language)
    texts = [text for item in stored for _, text in item.wordings()]
    known, total = cached(encoder), len(texts)
    known.encode_documents(texts, progress=lambda done: report("encoding", done, total))
    faq = Faq.embed(stored, view.language, known)
    report("storing")
    topics = {item.id: item.topic for item in stored}
    rows = [row | {"topic": topics[row["answer_id"]]} for row in faq.rows()]
    fields = dict.fromkeys(("part", "version", "language", "answer", "topic"), DataType.VARCHAR)
    create(client, name, encoder.dimension, {"answer_id": DataType.INT64, **fields})
    client.insert(name, rows, timeout=TIMEOUT)
    report("calibrating")
    tests, most = milvus_test_questions(view.language), view.options.questions
    asked = [one for kind in KINDS for one in [each for each in tests if each.kind == kind][:most]]
    texts = [item.question for item in asked]
    ranked = search_questions(view, faq, faq.encode(texts), texts)
    threshold = choose(Answers.of(asked, ranked), MOST_FALSE).middle
    return Questions(faq, encoder, threshold, len(asked))


def search_questions(
    view: View, faq: Faq, vectors: Float32, texts: list[str], condition: str = ""
) -> list[list[tuple[int, float]]]:
    """For each text the ids of the answers, best first, by vectors and by words."""
    answers = view.place.milvus.client.search(
        QUESTIONS[view.language],
        data=vectors,
        filter=condition,
        limit=50,
        output_fields=["answer_id"],
        timeout=TIMEOUT,
    )
    words = map(faq.words.scores, texts)
    return [best_answers(hits, scores) for hits, scores in zip(answers, words, strict=True)]


def store_looks(view: View, report: Callable[..., None]) -> Looks:
    """Encode and insert the pictures of emoji."""
    client, encoder = view.place.milvus.client, image_encoder()
    items = stratified(emoji(), view.options.emoji)
    pictures, total = [read_picture(item.png, item.char) for item in items], len(items)
    encode = cached_pictures(encoder).encode
    vectors = encode(pictures, progress=lambda done: report("encoding", done, total)).vectors
    mean = vectors.mean(axis=0)  # what all pictures have in common tells none from another
    report("storing")
    insert_emoji(client, LOOKS, items, normalize(vectors - mean))
    return Looks(encoder, mean)


def store_labels(view: View, report: Callable[..., None]) -> Texts:
    """Encode and insert the labels of emoji."""
    client, encoder = view.place.milvus.client, text_model(view.language)
    items = stratified(emoji(), view.options.emoji)
    labels = [getattr(item, f"label_{view.language}") for item in items]
    vectors = cached(encoder).encode_documents(labels)
    report("storing")
    insert_emoji(client, LABELS[view.language], items, vectors)
    return Texts(len(items), encoder)


def insert_emoji(client: MilvusClient, name: str, items: list[Emoji], vectors: Float32) -> None:
    """Store a vector for each emoji, with its category."""
    create(client, name, vectors.shape[1], {"category": DataType.VARCHAR})
    pairs = zip(items, vectors, strict=True)
    rows = [{"id": item.id, "category": item.category, "vector": v} for item, v in pairs]
    client.insert(name, rows, timeout=TIMEOUT)


def search_pictures(
    view: View, queries: dict[str, Float32], condition: str, limit: int = 12
) -> list[tuple[int, float]]:
    """The best pictures, (id, score): by one collection, or fused by rank over several."""
    client, options = view.place.milvus.client, {"output_fields": ["id"], "timeout": TIMEOUT}
    rankings = []
    for name, vector in queries.items():
        (hits,) = client.search(name, data=vector, filter=condition, limit=limit, **options)
        rankings.append([(hit["id"], hit["distance"]) for hit in hits])
    # Where Milvus has several vector fields, hybrid_search() does both steps: see script 03.
    return rankings[0] if len(rankings) == 1 else reciprocal_rank_fusion(rankings, limit)


def stored_vector(view: View, number: int) -> Float32:
    """The vector of a stored picture, shape (1, dimension): nothing needs to be encoded."""
    options = {"output_fields": ["vector"], "timeout": TIMEOUT}
    (row,) = view.place.milvus.client.get(LOOKS, ids=[number], **options)
    return np.array([row["vector"]], np.float32)


# Rows


def passages(language: str, count: int) -> list[dict]:
    """Passages as rows: of the last `count` papers in English, of all articles in Korean.

    An article has the number of the article as `document`, and neither a day nor tags.
    """
    if language == "ko":
        return [
            {"document": article.id, "title": article.article, "text": text, "day": "", "tags": []}
            for article in constitution()
            for text in split(article.text)
        ]
    kept = ("title", "text", "day", "tags")
    return [
        {"document": paper.id, **{name: row[name] for name in kept}}
        for paper in papers()[-count:]
        for document in [paper_document(paper)]
        for row in passage_rows(document, split(document.text), "")
    ]


def with_vectors(
    rows: Sequence[dict], text: str, encoder: TextEncoder, report: Callable[[int, int], object]
) -> list[dict]:
    """The rows numbered from 1, each with the vector of its field `text`."""
    texts = [row[text] for row in rows]
    vectors = encoder.encode_documents(texts, progress=lambda done: report(done, len(texts)))
    return [
        {"id": number, **row, "vector": vector}
        for number, (row, vector) in enumerate(zip(rows, vectors, strict=True), start=1)
    ]
