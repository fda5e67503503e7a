"""Text search: papers, or a folder of your own documents, by passages, and reranked.

    python step03_use_cases/01_text_search.py
    python step03_use_cases/01_text_search.py --folder ~/Documents --query "your own words"
    python step03_use_cases/01_text_search.py --folder ~/Documents --collection my_documents

You cut documents into passages, search them with filters by date and tag, keep a folder and its
index alike, rerank by token vectors (MaxSim), and measure what each of it is worth on judged
queries. Then the same with a model that does not know the language.

Needs: any Milvus (Milvus Lite by default); where it has no BM25, bm25s does that in process
Read:  docs/en/step03_use_cases.md#text-search
"""

import argparse
import sys
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory

from common.article_corpus import embed_articles
from common.connection import Milvus, connect
from common.cross_encoding import cross_encoder
from common.datasets import Paper, constitution_questions, paper_queries, papers
from common.display import heading, left_out, quiet_pymilvus, run, say, table
from common.embedding import CachedEncoder, cached, text_encoder
from common.folder_index import FolderUpdate, Recipe, StoredPassage, passage_rows
from common.late_interaction import TokenEncoder, rerank
from common.passages import best_of_each, best_sentence, mark_words
from common.ranking_quality import Rated, report_quality
from common.sample_folder import change_folder, paper_document, write_folder
from common.search_options import Judged, check_kept, condition_of, judged_part, parse, show_fit
from common.text_documents import Asked, Documents, Rankings, ranked
from common.workspace import OURS, workspace

import numpy as np
from pymilvus import AnnSearchRequest, DataType, Function, FunctionType, MilvusClient, RRFRanker

PASSAGES, FOLDER, WHOLE = "step03_passages", "step03_folder", "step03_papers"
FITTING, OTHER = "step03_korean", "step03_korean_by_english_model"
DEPTH, IN_FOLDER = 50, 30  # candidates to rerank; papers written into the folder
QUICK_PAPERS = 60
TIMEOUT = 60.0  # seconds; without one, pymilvus repeats a failing call for minutes
STORED = {"consistency_level": "Strong", "properties": OURS, "timeout": TIMEOUT}
ABOUT = ["path", "title", "text", "day", "tags"]
QUESTIONS = {  # each with a filter
    "teach a small model to imitate a large one": "",
    "finding names of people and places in a text": 'day >= "2019-01-01"',
    "vectors for the nodes of a graph": 'ARRAY_CONTAINS(tags, "Knowledge Graph Embeddings")',
}


def create_passages(client: MilvusClient, name: str, dimension: int) -> None:
    """Make a collection of passages: a row for each, with what is known of its document."""
    schema = client.create_schema()
    schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=64)
    schema.add_field("path", DataType.VARCHAR, max_length=1024)  # bytes: 256 characters
    schema.add_field("version", DataType.VARCHAR, max_length=32)  # of the content
    schema.add_field("passage", DataType.INT64)  # its number in the document, from 0
    schema.add_field("passages", DataType.INT64)  # how many the document has
    schema.add_field("title", DataType.VARCHAR, max_length=1024)
    schema.add_field("text", DataType.VARCHAR, max_length=16384)
    schema.add_field("day", DataType.VARCHAR, max_length=10)  # "2019-05-31" sorts by date
    tag = {"element_type": DataType.VARCHAR, "max_length": 256}
    schema.add_field("tags", DataType.ARRAY, max_capacity=16, **tag)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dimension)
    index_params = client.prepare_index_params()
    index_params.add_index("vector", index_type="FLAT", metric_type="COSINE")
    client.create_collection(name, schema=schema, index_params=index_params, **STORED)


def insert_passages(client: MilvusClient, corpus: list[Paper], recipe: Recipe) -> int:
    """Cut papers into passages and store each with its vector; the number of rows."""
    heading("1. Papers to passages")
    encoder, rows = recipe.encoder, []
    for document in map(paper_document, corpus):
        rows += passage_rows(document, recipe.split(document.text), "of the data set")
    say(f"{encoder.name} ({encoder.source}); each text is encoded once and kept in a cache.")
    create_passages(client, PASSAGES, encoder.dimension)
    stored = client.insert(PASSAGES, recipe.with_vectors(rows), timeout=TIMEOUT)["insert_count"]
    say(
        f"{len(corpus)} papers, {stored} passages of at most {recipe.words} words, up to "
        f"{recipe.overlap} shared with the passage before; {encoder.encoded} encoded now."
    )
    return stored


def search(
    client: MilvusClient, name: str, encoder: CachedEncoder, question: str, condition: str = ""
) -> list[dict]:
    """Show and return the five best documents, each by its best passage."""
    vector = encoder.encode_queries([question])
    options = {"filter": condition, "output_fields": ABOUT, "timeout": TIMEOUT}
    (hits,) = client.search(name, data=vector, limit=50, **options)
    best = best_of_each(hits, lambda hit: hit["entity"]["path"])[:5]
    rows = []
    for hit in best:
        of = hit["entity"]
        sentence = mark_words(best_sentence(of["text"], vector[0], encoder), question)
        rows.append((hit["distance"], of["day"], of["title"], sentence))
    title = f"{question} | {condition}" if condition else question
    table(title, ("score", "date", "title", "best sentence of the best passage"), rows)
    return best


def read_stored(client: MilvusClient, name: str) -> list[StoredPassage]:
    """What the collection holds of each file, read from all its rows."""
    fields = list(StoredPassage._fields)
    options = {"batch_size": 1000, "output_fields": fields, "timeout": TIMEOUT}
    with quiet_pymilvus():  # it warns that Milvus Lite has no time stamps
        iterator, stored = client.query_iterator(name, filter='id != ""', **options), []
    while rows := iterator.next():
        stored += [StoredPassage(*(row[field] for field in fields)) for row in rows]
    iterator.close()
    return stored


def update_index(client: MilvusClient, name: str, folder: Path, recipe: Recipe) -> FolderUpdate:
    """Make the collection hold the folder as it is now; encode only what is new."""
    update = FolderUpdate(folder, read_stored(client, name), recipe.split, recipe.settings)
    for rows in update.batches():
        client.upsert(name, recipe.with_vectors(rows), timeout=TIMEOUT)
    for old_ids, rows in update.moved():  # the same content: its vectors are there already
        old = client.get(name, ids=old_ids, output_fields=["id", "vector"], timeout=TIMEOUT)
        vector_of = {row["id"]: row["vector"] for row in old}
        for old_id, row in zip(old_ids, rows, strict=True):
            row["vector"] = vector_of[old_id]
        client.upsert(name, rows, timeout=TIMEOUT)
    stale = update.stale
    for start in range(0, len(stale), 1000):
        client.delete(name, ids=stale[start : start + 1000], timeout=TIMEOUT)
    return update


def keep_up(client: MilvusClient, corpus: list[Paper], recipe: Recipe) -> list[tuple]:
    """Index a folder, then again after nothing and after four changes; what was done each time."""
    heading("3. A folder, kept up to date")
    steps, encoder, (*inside, added) = [], recipe.encoder, corpus[: IN_FOLDER + 1]
    create_passages(client, FOLDER, encoder.dimension)

    def step(what: str, folder: Path) -> FolderUpdate:
        before = encoder.hits, encoder.encoded
        update = update_index(client, FOLDER, folder, recipe)
        asked = encoder.hits - before[0], encoder.encoded - before[1]
        steps.append((what, *update.counts().values(), *asked, len(read_stored(client, FOLDER))))
        return update

    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_folder(folder, inside)
        update = step("first", folder)
        step("nothing changed", folder)
        change_folder(folder, inside, added)
        step("four changes", folder)
    columns = ("run", *update.counts(), "from cache", "encoded", "rows")
    table("Updates of the index", columns, steps)
    table("Problems", ("file", "why it is not taken"), sorted(update.problems.items()))
    search(client, FOLDER, encoder, "how to bake bread")
    return steps


def store_papers(milvus: Milvus, name: str, docs: Documents) -> None:
    """Store a vector for each text and, where Milvus does BM25, the text itself."""
    client = milvus.client
    schema, index_params = client.create_schema(), client.prepare_index_params()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("dense", DataType.FLOAT_VECTOR, dim=docs.vectors.shape[1])
    index_params.add_index("dense", index_type="FLAT", metric_type="COSINE")
    for text in docs.analyzed:
        schema.add_field(text, DataType.VARCHAR, max_length=16384, enable_analyzer=True)
        schema.add_field("words", DataType.SPARSE_FLOAT_VECTOR)
        schema.add_function(Function("bm25", FunctionType.BM25, [text], ["words"]))
        index_params.add_index("words", index_type="SPARSE_INVERTED_INDEX", metric_type="BM25")
    client.create_collection(name, schema=schema, index_params=index_params, **STORED)
    client.insert(name, docs.rows(), timeout=TIMEOUT)


def search_three_ways(docs: Documents, asked: Asked, depth: int) -> dict[str, Rankings]:
    """Plain, by words (BM25), and both fused by rank (RRF)."""
    vectors, texts = asked
    client, options = docs.milvus.client, {"output_fields": ["id"], "timeout": TIMEOUT}
    plain = client.search(docs.collection, data=vectors, anns_field="dense", limit=depth, **options)
    if not docs.by_milvus:
        words = docs.bm25("text", texts, depth)
        both = docs.fuse(ranked(plain), words, depth, ())
        return {"plain": ranked(plain), "BM25": words, "hybrid (RRF)": both}
    words = client.search(docs.collection, data=texts, anns_field="words", limit=depth, **options)
    requests = [
        AnnSearchRequest(list(vectors), "dense", {"metric_type": "COSINE"}, limit=depth),
        AnnSearchRequest(texts, "words", {"metric_type": "BM25"}, limit=depth),
    ]
    both = client.hybrid_search(docs.collection, requests, RRFRanker(60), limit=depth, **options)
    return {"plain": ranked(plain), "BM25": ranked(words), "hybrid (RRF)": ranked(both)}


def search_passages(client: MilvusClient, vectors: np.ndarray, depth: int) -> Rankings:
    """The papers by their best passage."""
    options = {"output_fields": ["path"], "timeout": TIMEOUT}
    answers = client.search(PASSAGES, data=vectors, limit=8 * depth, **options)
    pairs = [[(int(hit["entity"]["path"]), hit["distance"]) for hit in hits] for hits in answers]
    return [best_of_each(hits, lambda pair: pair[0])[:depth] for hits in pairs]


def compare(
    milvus: Milvus, encoder: CachedEncoder, judged: Judged, depth: int, model: str | None = None
) -> Rated:
    """Judge plain, BM25, hybrid, passages and reranking on the same queries."""
    heading("4. Which ranking is best?")
    corpus, queries = judged
    tokens, texts = TokenEncoder(encoder), [paper.text for paper in corpus]  # without the tags
    ids, asked = [paper.id for paper in corpus], [query.query for query in queries]
    of_texts = (found.astype(np.float32) for found in tokens.encode("document", texts))
    tokens_of = dict(zip(ids, of_texts, strict=True))
    say(
        f"MaxSim keeps {sum(map(len, tokens_of.values())):,} vectors of {encoder.dimension} "
        f"numbers, one a token; plain search keeps {len(ids)}. Encoded now: {tokens.encoded} texts."
    )
    docs = Documents(milvus, WHOLE, ids, encoder.encode_documents(texts), {"text": texts})
    store_papers(milvus, WHOLE, docs)
    if not docs.by_milvus:
        left_out("BM25 of Milvus; bm25s does it in process", milvus.can("BM25").reason)
    vectors = encoder.encode_queries(asked)
    answers = search_three_ways(docs, (vectors, asked), depth)
    query_tokens = tokens.encode("query", asked)
    for name in ("plain", "hybrid (RRF)"):
        pairs = zip(answers[name], query_tokens, strict=True)
        answers[f"{name} + MaxSim"] = [rerank(hits, query, tokens_of) for hits, query in pairs]
    answers["passages"] = search_passages(milvus.client, vectors, depth)
    scorer = cross_encoder(model)  # None, and a line that says why, where it cannot be had
    if scorer:
        by_id = dict(zip(ids, texts, strict=True))
        pairs = zip(answers["plain"], asked, strict=True)
        answers["plain + cross-encoder"] = [scorer.rerank(hits[:10], q, by_id) for hits, q in pairs]
    title = f"{len(queries)} queries, {len(ids)} papers"
    return report_quality(title, answers, queries, ("nDCG@10",), "plain", "step03_01_papers")


def mismatch(milvus: Milvus) -> Rated:
    """Ask Korean questions of a model that knows Korean, and of one that does not."""
    heading("5. A model that does not know the language")
    corpus, english = embed_articles(), cached(text_encoder())
    queries = constitution_questions()
    asked, answers = [query.query for query in queries], {}
    texts, models = corpus.texts, {"multilingual": corpus.encoder, "English only": english}
    for name, (label, encoder) in zip((FITTING, OTHER), models.items(), strict=True):
        docs = Documents(milvus, name, list(texts), encoder.encode_documents(texts.values()), {})
        store_papers(milvus, name, docs)
        vectors = encoder.encode_queries(asked)
        options = {"anns_field": "dense", "limit": 10, "output_fields": ["id"], "timeout": TIMEOUT}
        answers[label] = ranked(milvus.client.search(name, data=vectors, **options))
        show_fit(encoder.name, docs.ids, docs.vectors, vectors, queries)
    title = f"{len(queries)} Korean questions, {len(corpus.articles)} articles"
    measures = ("nDCG@10", "hit@1")
    return report_quality(title, answers, queries, measures, "multilingual", "step03_01_korean")


def search_folder(client: MilvusClient, options: argparse.Namespace) -> FolderUpdate:
    """Bring the index of your folder up to date, and search it."""
    heading(f"The folder {options.folder}")
    encoder = cached(text_encoder(language=options.language))
    name = options.collection or FOLDER
    if not client.has_collection(name, timeout=TIMEOUT):
        create_passages(client, name, encoder.dimension)
    check_kept(client, name, encoder.dimension)
    recipe = Recipe(encoder, options.words, options.overlap)
    update = update_index(client, name, options.folder, recipe)
    table("Files", tuple(update.counts()), [tuple(update.counts().values())])
    table("Problems", ("file", "why it is not taken"), sorted(update.problems.items()))
    say(f"{encoder.name} encoded {encoder.encoded} passages now.")
    if options.query:
        search(client, name, encoder, options.query, condition_of(options))
    return update


def main(arguments: list[str] | None = None) -> None:
    """Give the lesson, or search the papers or your own folder."""
    title = __doc__.split("\n\n")[0]
    options = parse(title, arguments, len(papers()), DEPTH, QUICK_PAPERS)
    names = PASSAGES, FOLDER, WHOLE, FITTING, OTHER
    with connect() as milvus:
        client = milvus.client
        with nullcontext() if options.collection else workspace(client, *names):
            if options.folder:
                search_folder(client, options)
                return
            judged = judged_part(papers(), paper_queries(), options.papers)
            recipe = Recipe(cached(text_encoder()), options.words, options.overlap)
            insert_passages(client, judged[0], recipe)
            heading("2. Search")
            asked = {options.query: condition_of(options)} if options.query else QUESTIONS
            for question, condition in asked.items():
                search(client, PASSAGES, recipe.encoder, question, condition)
            if not options.query:
                keep_up(client, judged[0], recipe)
                compare(milvus, recipe.encoder, judged, options.depth, options.cross_encoder)
                mismatch(milvus)


if __name__ == "__main__":
    sys.exit(run(main))
