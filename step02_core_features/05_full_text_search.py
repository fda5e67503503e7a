"""Full-text and hybrid search: words, meanings, and both together.

    python step02_core_features/05_full_text_search.py
    python step02_core_features/05_full_text_search.py --query "your own words"

You search 314 papers by words (BM25), by meaning (vectors) and by both, fused by rank or weight,
store sparse vectors of your own, and measure on judged queries when hybrid search helps and when
not. Then the same in Korean, where an analyzer that splits at spaces fails.

Needs: any Milvus (Milvus Lite by default); where it has no BM25, bm25s does that in process
Read:  docs/en/step02_core_features.md#full-text-and-hybrid-search
"""

import argparse
import sys
from random import Random

from common.article_corpus import embed_articles
from common.connection import Milvus, connect
from common.datasets import JudgedQuery, constitution, constitution_questions, paper_queries
from common.display import heading, left_out, run, say, table
from common.evaluation import cross_fitted
from common.index_trial import params_for
from common.korean import LINDERA_KO, bigrams, forms_of, morphemes, searchable
from common.paper_corpus import PaperCorpus, embed_papers
from common.ranking_quality import Rated, rate, report_quality, show_by_group, show_extremes
from common.sparse_text import K1, B, Bm25, bm25_search, word_coverage, words
from common.text_documents import Asked, Documents, Rankings, largest_gap, ranked, show_side_by_side
from common.workspace import OURS, workspace

import numpy as np
from pymilvus import AnnSearchRequest, DataType, Function, FunctionType, RRFRanker, WeightedRanker

PAPERS, OWN = "step02_papers_text", "step02_own_weights"
ARTICLES, LINDERA = "step02_constitution", "step02_constitution_lindera"
STANDARD = {"type": "standard"}  # splits at what is no letter or digit; lower case
DEPTH, MOST = 50, 1000  # candidates that hybrid search takes from each side
QUICK_QUERIES, FEWEST_QUERIES = 60, 20
WEIGHTS = [tenths / 10 for tenths in range(1, 10)]  # of dense; BM25 has the rest
TIMEOUT = 60.0  # seconds; without one, pymilvus repeats a failing call for minutes
STORED = {"consistency_level": "Strong", "properties": OURS, "timeout": TIMEOUT}
IDS = {"output_fields": ["id"], "timeout": TIMEOUT}
MEASURES, OF_KOREAN = ("nDCG@10", "MRR@10", "recall@10"), ("nDCG@10", "MRR@10", "hit@1")
QUESTIONS = ("Self-training", "Learning to rank")
MATCHES = {  # each with its meaning: of each of these sets one word or more
    "TEXT_MATCH(text, 'graph')": [{"graph"}],
    "TEXT_MATCH(text, 'knowledge graph')": [{"knowledge", "graph"}],
    "TEXT_MATCH(text, 'knowledge') and TEXT_MATCH(text, 'graph')": [{"knowledge"}, {"graph"}],
}


def create(docs: Documents, analyzer: dict = STANDARD) -> None:
    """Make and fill a collection: a dense vector, and BM25 for each text field."""
    client, name = docs.milvus.client, docs.collection
    schema, index_params = client.create_schema(), client.prepare_index_params()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("dense", DataType.FLOAT_VECTOR, dim=docs.vectors.shape[1])
    index_params.add_index("dense", index_type="FLAT", metric_type="COSINE")
    # None on a server that accepts a BM25 function and never runs it: it must not get one.
    for text in docs.analyzed:
        analysis = {"enable_analyzer": True, "enable_match": True, "analyzer_params": analyzer}
        schema.add_field(text, DataType.VARCHAR, max_length=16384, **analysis)  # bytes
        # A row brings no value for this field: the function makes it from the text.
        sparse = f"{text}_bm25"
        schema.add_field(sparse, DataType.SPARSE_FLOAT_VECTOR)
        schema.add_function(Function(f"make_{sparse}", FunctionType.BM25, [text], [sparse]))
        # Named, since the defaults differ: k1 is 1.5 in Milvus Lite, 1.2 in a server.
        params = params_for(docs.milvus, {"bm25_k1": K1, "bm25_b": B})
        options = {"index_type": "SPARSE_INVERTED_INDEX", "metric_type": "BM25", "params": params}
        index_params.add_index(sparse, **options)
    client.create_collection(name, schema=schema, index_params=index_params, **STORED)
    client.insert(name, docs.rows(), timeout=TIMEOUT)


def search_vectors(docs: Documents, vectors: np.ndarray, limit: int) -> Rankings:
    """Search by meaning, with a vector for each query."""
    options = {"data": vectors, "anns_field": "dense", "limit": limit, **IDS}
    return ranked(docs.milvus.client.search(docs.collection, **options))


def search_words(docs: Documents, texts: list[str], limit: int, field: str = "text") -> Rankings:
    """Search by words: Milvus takes each query as a text and analyzes it like the documents."""
    if not docs.by_milvus:
        return docs.bm25(field, texts, limit)
    options = {"data": texts, "anns_field": f"{field}_bm25", "limit": limit, **IDS}
    answers = ranked(docs.milvus.client.search(docs.collection, **options))
    # Milvus Lite gives a BM25 score a minus sign here, a server does not.
    return [[(found, abs(score)) for found, score in ranking] for ranking in answers]


def search_both(
    docs: Documents, asked: Asked, depth: int, weights: tuple = (), field: str = "text"
) -> Rankings:
    """Search both ways and fuse: by the weights of dense and BM25, or without any by rank (RRF)."""
    vectors, texts = asked
    if not docs.by_milvus:
        sides = search_vectors(docs, vectors, depth), search_words(docs, texts, depth, field)
        return docs.fuse(*sides, depth, weights)
    requests = [
        AnnSearchRequest(list(vectors), "dense", {"metric_type": "COSINE"}, limit=depth),
        AnnSearchRequest(texts, f"{field}_bm25", {"metric_type": "BM25"}, limit=depth),
    ]
    ranker = WeightedRanker(*weights, norm_score=True) if weights else RRFRanker(60)
    client, name = docs.milvus.client, docs.collection
    return ranked(client.hybrid_search(name, requests, ranker, limit=depth, **IDS))


def store(milvus: Milvus, corpus: PaperCorpus) -> Documents:
    """Put each paper, its title and abstract, into a collection as a vector and as words."""
    ids, texts = [paper.id for paper in corpus.papers], [paper.text for paper in corpus.papers]
    docs = Documents(milvus, PAPERS, ids, corpus.vectors, {"text": texts})
    create(docs)
    if not docs.by_milvus:
        left_out("BM25 and hybrid_search() of Milvus", milvus.can("BM25").reason)
        say("Instead bm25s does BM25 in process, Milvus searches vectors, and Python fuses.")
    return docs


def search(docs: Documents, corpus: PaperCorpus, question: str, depth: int) -> dict:
    """Show and return the best of dense, BM25 and hybrid search (RRF), side by side."""
    vector = corpus.encoder.encode_queries([question])
    ways = {
        "dense": search_vectors(docs, vector, 5)[0],
        "BM25": search_words(docs, [question], 5)[0],
        "hybrid (RRF)": search_both(docs, (vector, [question]), depth)[0][:5],
    }
    show_side_by_side(question, ways, {paper.id: paper.title for paper in corpus.papers})
    return ways


def match_words(docs: Documents) -> list[tuple[str, set[int], set[int]]]:
    """Filter by words: each condition with the ids from Milvus and those that it means."""
    milvus, client, found = docs.milvus, docs.milvus.client, []
    having = {i: set(words(text)) for i, text in zip(docs.ids, docs.texts["text"], strict=True)}
    for condition, sets in MATCHES.items() if milvus.can("TEXT_MATCH") else ():
        rows = client.query(PAPERS, filter=condition, **IDS)
        meant = {i for i, of_paper in having.items() if all(of_paper & one for one in sets)}
        found.append((condition, {row["id"] for row in rows}, meant))
    shown = [(condition, len(ids), ids == meant) for condition, ids, meant in found]
    if shown:
        table("Filters by words", ("filter", "papers", "the same in Python"), shown)
    if milvus.can("PHRASE_MATCH"):
        phrase = "PHRASE_MATCH(text, 'knowledge graph')"
        say(f"{phrase}: {len(client.query(PAPERS, filter=phrase, **IDS))} papers.")
    if milvus.can("run_analyzer"):
        say(f"{client.run_analyzer('State-of-the-art BERTs!', STANDARD, timeout=TIMEOUT)}")
    for feature in ("TEXT_MATCH", "PHRASE_MATCH", "run_analyzer"):
        if not milvus.can(feature):
            left_out(feature, milvus.can(feature).reason)
    return found


def bring_vectors(docs: Documents, queries: list[JudgedQuery]) -> tuple[Rankings, Rankings]:
    """Search sparse vectors made outside: the answers of Milvus and those of exact arithmetic."""
    heading("3. Sparse vectors of your own")
    milvus, client = docs.milvus, docs.milvus.client
    bm25 = Bm25([words(text) for text in docs.texts["text"]])
    known, filled = len(bm25.vocabulary), bm25.weights.nnz / len(docs.ids)
    say(f"Of {known:,} components, one a word, a paper fills {filled:.0f}: only those are stored.")
    asked = [query.query for query in queries]
    exact = [ranking for ranking in docs.bm25("text", asked, 10) if ranking]  # of known words
    if not milvus.can("SPARSE_FLOAT_VECTOR"):
        left_out("SPARSE_FLOAT_VECTOR", milvus.can("SPARSE_FLOAT_VECTOR").reason)
        return [], exact
    schema, index_params = client.create_schema(), client.prepare_index_params()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("weights", DataType.SPARSE_FLOAT_VECTOR)  # no dimension, no function
    index_params.add_index("weights", index_type="SPARSE_INVERTED_INDEX", metric_type="IP")
    client.create_collection(OWN, schema=schema, index_params=index_params, **STORED)
    rows = zip(docs.ids, bm25.document_vectors(), strict=True)
    client.insert(OWN, [{"id": i, "weights": vector} for i, vector in rows], timeout=TIMEOUT)
    vectors = [vector for text in asked if (vector := bm25.query_vector(words(text)))]
    found = ranked(client.search(OWN, data=vectors, anns_field="weights", limit=10, **IDS))
    gap, hits = largest_gap(found, exact), sum(map(len, found))
    say(f"{hits:,} scores from Milvus, none off its exact inner product by more than {gap:.0e}.")
    return found, exact


def compare(
    docs: Documents, corpus: PaperCorpus, queries: list[JudgedQuery], depth: int
) -> tuple[Rated, list[float]]:
    """Judge dense, BM25, RRF and weighted fusion; the weight of dense for each query."""
    heading("4. Which is best?")
    texts = [query.query for query in queries]
    vectors = corpus.encoder.encode_queries(texts)
    weighted = {w: search_both(docs, (vectors, texts), depth, (w, 1 - w)) for w in WEIGHTS}
    tried = rate(weighted, queries, MEASURES[:1])
    chosen = cross_fitted({weight: values["nDCG@10"] for weight, values in tried.items()})
    answers = {
        "dense": search_vectors(docs, vectors, depth),
        "BM25": search_words(docs, texts, depth),
        "RRF": search_both(docs, (vectors, texts), depth),
        "weighted, fixed": weighted[0.5],
        "weighted, chosen": [weighted[weight][row] for row, weight in enumerate(chosen)],
    }
    title = f"{len(queries)} queries, {len(docs.ids)} papers"
    rated = report_quality(title, answers, queries, MEASURES, "dense", "step02_05_papers")
    say(
        f"Fixed is 0.5 for both. Chosen is {' and '.join(map(str, sorted(set(chosen))))} for "
        "dense, by one half of the queries for the other: none is judged by its own choice."
    )
    return rated, chosen


def explain(docs: Documents, queries: list[JudgedQuery], rated: Rated) -> dict:
    """Show when hybrid helps, by where the words of the query stand."""
    heading("5. When does hybrid search help?")
    papers = [set(words(text)) for text in docs.texts["text"]]
    groups = [word_coverage(query.query, papers) for query in queries]
    shown = {method: rated[method] for method in ("dense", "BM25", "RRF")}
    title = "nDCG@10 by where the words of the query are"
    found = show_by_group(title, shown, "nDCG@10", groups, "RRF", "dense")
    show_extremes("Most gained, most lost", shown, "nDCG@10", queries, "RRF", "dense")
    return found


def cut_korean() -> dict[str, dict[str, int]]:
    """Show what becomes of 국회, the assembly: the tokens that begin with it."""
    heading("6. Korean words")
    ways = {"at spaces": str.split, "standard": words, "bigrams": bigrams, "morphemes": morphemes}
    texts = [article.text for article in constitution()]
    forms = {name: forms_of("국회", texts, cut) for name, cut in ways.items()}
    rows = [
        (name, len(found), ", ".join(f"{token} {n}" for token, n in found.most_common(6)))
        for name, found in forms.items()
    ]
    table(
        "Tokens that begin with 국회",
        ("cut", "forms", "the first six, and in how many articles"),
        rows,
    )
    for name, cut in ways.items():
        say(f"{name}: {' | '.join(cut(constitution_questions()[7].query))}")
    return forms


def search_korean(milvus: Milvus, depth: int) -> Rated:
    """Judge six ways to search the constitution with questions of citizens."""
    heading("7. Korean questions")
    corpus, queries = embed_articles(), constitution_questions()
    ids, fields = list(corpus.texts), searchable(corpus.texts.values())
    docs = Documents(milvus, ARTICLES, ids, corpus.vectors, fields)
    create(docs)  # four vector fields: one dense, three by BM25 functions
    asked = searchable([query.query for query in queries])
    raw, cut = asked["standard"], asked["morphemes"]
    vectors = corpus.encoder.encode_queries(raw)
    answers = {
        "at spaces, bm25s": bm25_search(corpus.texts, raw, depth, str.split),
        **{field: search_words(docs, asked[field], depth, field) for field in asked},
        "dense": search_vectors(docs, vectors, depth),
        "morphemes + dense": search_both(docs, (vectors, cut), depth, (), "morphemes"),  # RRF
    }
    if milvus.can("lindera"):
        by_server = Documents(milvus, LINDERA, ids, corpus.vectors, {"text": fields["standard"]})
        create(by_server, LINDERA_KO)
        answers["lindera ko-dic"] = search_words(by_server, raw, depth)
    else:
        left_out("lindera, Milvus' own Korean tokenizer", milvus.can("lindera").reason)
    title = f"{len(queries)} Korean questions, {len(ids)} articles"
    return report_quality(title, answers, queries, OF_KOREAN, "morphemes", "step02_05_korean")


def main(arguments: list[str] | None = None) -> None:
    """Give the lesson, or search the papers with your own words."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    add, every = parser.add_argument, len(paper_queries())
    add("--query", help="search with these words and stop (default: give the lesson)")
    depth = "candidates that hybrid search takes from each side (default: %(default)s)"
    add("--depth", type=int, default=DEPTH, metavar="N", help=depth)
    number = f"judged queries, {FEWEST_QUERIES} or more (default: {every})"
    add("--queries", type=int, default=every, metavar="N", help=number)
    add("--quick", action="store_true", help=f"{QUICK_QUERIES} judged queries")
    options = parser.parse_args(arguments)
    number = QUICK_QUERIES if options.quick else options.queries
    if not 10 <= options.depth <= MOST or not FEWEST_QUERIES <= number <= every:
        parser.error(f"--depth is 10 to {MOST}, --queries {FEWEST_QUERIES} to {every}")
    if not (options.query or "all").strip():
        parser.error("--query is blank")
    with connect() as milvus, workspace(milvus.client, PAPERS, OWN, ARTICLES, LINDERA):
        heading("1. Papers as vectors and as words")
        corpus = embed_papers()
        docs = store(milvus, corpus)
        heading("2. By meaning, by words, by both")
        for question in [options.query] if options.query else QUESTIONS:
            search(docs, corpus, question, options.depth)
        if options.query:
            return
        match_words(docs)
        queries = sorted(Random(0).sample(paper_queries(), number), key=lambda query: query.id)
        bring_vectors(docs, queries)
        rated, _ = compare(docs, corpus, queries, options.depth)
        explain(docs, queries, rated)
        cut_korean()
        search_korean(milvus, options.depth)


if __name__ == "__main__":
    sys.exit(run(main))
