"""Insert and search: 314 papers, found by what they mean.

    python step01_basics/05_insert_and_search.py
    python step01_basics/05_insert_and_search.py --query "your own words"

You turn texts into vectors, store and search them, filter, page, upsert and delete, find all that
lies in a range of scores, and measure what the metric type changes, what a consistency level costs
and how good the search is.

Needs: any Milvus (Milvus Lite by default)
Read:  docs/en/step01_basics.md#insert-and-search
"""

import argparse
import sys
from datetime import date
from textwrap import shorten

from common.connection import Milvus, connect
from common.consistency import Level, read_own_writes
from common.datasets import paper_queries
from common.display import bars, figure, heading, milliseconds, run, save_chart, say, table
from common.evaluation import MeanWithInterval, mean_with_interval, ndcg_at
from common.paper_corpus import PaperCorpus, embed_papers
from common.vectors import exact_search
from common.workspace import OURS, workspace

import numpy as np
from pymilvus import DataType, MilvusClient

COLLECTION = "step01_papers"
METRICS = {metric: f"{COLLECTION}_{metric.lower()}" for metric in ("COSINE", "IP", "L2")}
STRETCHED, WRITTEN = 100_000, 200_000  # where the ids of copies begin
WRITES, QUICK_WRITES = 20, 5  # for each consistency level
TIMEOUT = 60.0  # seconds; without one, pymilvus repeats a failing call for minutes
QUESTIONS = (
    "teach a small model to imitate a large one",
    "finding names of people and places in a text",
)
FILTERS = {  # each with its meaning in Python
    'published >= "2020-01-01"': lambda p: p.published >= date(2020, 1, 1),
    'ARRAY_CONTAINS(tags, "BERT")': lambda p: "BERT" in p.tags,
    'title like "Learning %"': lambda p: p.title.startswith("Learning "),
    'published like "2019%" and not ARRAY_CONTAINS(tags, "BERT")': (
        lambda p: p.published.year == 2019 and "BERT" not in p.tags
    ),
}


def embed() -> PaperCorpus:
    """Turn each paper, its title and abstract, into a vector."""
    heading("1. Embed")
    return embed_papers()


def create(client: MilvusClient, corpus: PaperCorpus, name: str, metric: str = "COSINE") -> None:
    """Make a collection for papers."""
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("title", DataType.VARCHAR, max_length=256)
    schema.add_field("abstract", DataType.VARCHAR, max_length=4096)
    schema.add_field("published", DataType.VARCHAR, max_length=10)
    tag = {"element_type": DataType.VARCHAR, "max_length": 64}
    schema.add_field("tags", DataType.ARRAY, max_capacity=16, **tag)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=corpus.encoder.dimension)
    index_params = client.prepare_index_params()
    # FLAT compares with every vector: exact, and quick for a few thousand. A graph such as HNSW
    # pays when there are more, and a server builds none for a segment of under 1,024 rows.
    index_params.add_index("vector", index_type="FLAT", metric_type=metric)
    options = {"consistency_level": "Strong", "properties": OURS, "timeout": TIMEOUT}
    client.create_collection(name, schema=schema, index_params=index_params, **options)


def insert(client: MilvusClient, corpus: PaperCorpus) -> int:
    """Make the collection and insert all papers; the number of rows stored."""
    heading("2. Insert")
    create(client, corpus, COLLECTION)
    stored = client.insert(COLLECTION, corpus.rows(), timeout=TIMEOUT)["insert_count"]
    say(f"insert() took a list of dicts and stored {stored}; for more see common/loading.py.")
    return stored


def search(
    client: MilvusClient, corpus: PaperCorpus, question: str, condition: str = ""
) -> list[dict]:
    """Show and return the five papers nearest to a question, best first."""
    (hits,) = client.search(
        COLLECTION,
        data=corpus.encoder.encode_queries([question]),
        filter=condition,
        limit=5,
        output_fields=["title", "published"],
        timeout=TIMEOUT,
    )
    rows = [(h["distance"], h["entity"]["published"], h["entity"]["title"]) for h in hits]
    title = f"{question} | {condition}" if condition else question
    table(title, ("score", "published", "title"), rows)
    return hits


def use_filters(client: MilvusClient, corpus: PaperCorpus) -> list[tuple[str, set[int], set[int]]]:
    """Ask Milvus and Python for the same papers: each filter with the ids from both."""
    heading("4. Filter")
    found = []
    for condition, means in FILTERS.items():
        rows = client.query(COLLECTION, filter=condition, output_fields=["id"], timeout=TIMEOUT)
        meant = {paper.id for paper in corpus.papers if means(paper)}
        found.append((condition, {row["id"] for row in rows}, meant))
    shown = [(condition, len(ids), ids == meant) for condition, ids, meant in found]
    table("Filters", ("filter", "papers", "the same in Python"), shown)
    return found


def count(client: MilvusClient, condition: str = "") -> int:
    """The number of papers that fulfil a condition, counted now."""
    options = {"output_fields": ["count(*)"], "timeout": TIMEOUT}
    return client.query(COLLECTION, filter=condition, **options)[0]["count(*)"]


def read(client: MilvusClient) -> dict[str, list[int]]:
    """Read without a vector: by id, and page by page what fulfils a condition."""
    heading("5. Get, query, count")
    options, of_2016 = {"output_fields": ["title"], "timeout": TIMEOUT}, 'published like "2016%"'
    answers = {"get ids 7, 3 and 999": client.get(COLLECTION, ids=[7, 3, 999], **options)}
    for offset in range(0, count(client, of_2016), 10):
        page = client.query(COLLECTION, filter=of_2016, limit=10, offset=offset, **options)
        answers[f"{of_2016}, offset {offset}"] = page
    ids = {what: [row["id"] for row in rows] for what, rows in answers.items()}
    table("get() and query()", ("what", "rows", "ids"), [(w, len(i), i) for w, i in ids.items()])
    say(f"count(*) with {of_2016}: {count(client, of_2016)}; without a filter: {count(client)}.")
    return ids


def change(client: MilvusClient, corpus: PaperCorpus) -> list[tuple[str, int, str]]:
    """Upsert and delete: what was done, the number of papers then, the best hit for bread."""
    heading("6. Upsert and delete")
    rows, question = corpus.rows(), corpus.encoder.encode_queries(["how to bake bread"])

    def now(done: str) -> tuple[str, int, str]:
        hits = client.search(COLLECTION, data=question, limit=1, output_fields=["title"])[0]
        return done, count(client), shorten(hits[0]["entity"]["title"], 50)

    steps = [now("insert")]
    (vector,) = corpus.encoder.encode_documents(["Bread. Flour, water, salt, yeast and an oven."])
    client.upsert(COLLECTION, [{**rows[7], "title": "Bread", "vector": vector}], timeout=TIMEOUT)
    steps.append(now("upsert of paper 7"))
    client.delete(COLLECTION, ids=[7, 8], timeout=TIMEOUT)
    steps.append(now("delete of ids 7 and 8"))
    client.delete(COLLECTION, filter='published < "2012"', timeout=TIMEOUT)
    steps.append(now('delete of published < "2012"'))
    client.upsert(COLLECTION, rows, timeout=TIMEOUT)
    steps.append(now("upsert of all papers"))
    table("Changes", ("after", "count(*)", "best hit for: how to bake bread"), steps)
    return steps


def compare_metrics(client: MilvusClient, corpus: PaperCorpus) -> dict[str, list[list[dict]]]:
    """Search by three metrics: for each the hits at length 1 and those at other lengths."""
    heading("7. Metric types")
    lengths = np.random.default_rng(0).uniform(0.5, 2, len(corpus.papers)).astype(np.float32)
    rows, copies = corpus.rows(), corpus.rows()
    for copy, length in zip(copies, lengths, strict=True):
        copy |= {"id": copy["id"] + STRETCHED, "vector": copy["vector"] * length}
    length_of = {copy["id"]: length for copy, length in zip(copies, lengths, strict=True)}
    options = {"data": corpus.encoder.encode_queries(QUESTIONS[:1]), "output_fields": ["id"]}
    found, shown = {}, []
    for metric, name in METRICS.items():
        create(client, corpus, name, metric)
        client.insert(name, rows + copies, timeout=TIMEOUT)
        unit, other = found[metric] = [
            client.search(name, filter=which, limit=5, timeout=TIMEOUT, **options)[0]
            for which in (f"id < {STRETCHED}", f"id >= {STRETCHED}")
        ]
        ids = [[hit["id"] % STRETCHED for hit in hits] for hits in (unit, other)]
        shown.append((metric, *ids, np.mean([length_of[hit["id"]] for hit in other])))
    columns = "metric", "best 5 at length 1", "best 5 at lengths 0.5 to 2", "mean length"
    table("The same papers by three metrics (ids)", columns, shown)
    cosine, ip, l2 = (found[metric][0][0]["distance"] for metric in METRICS)
    say(
        f"The best at length 1 has COSINE {cosine:.4f}, IP {ip:.4f} and L2 {l2:.4f}, and 2 - 2 "
        f"COSINE is {2 - 2 * cosine:.4f}. IP favours long vectors, L2 short ones, COSINE neither."
    )
    return found


def search_range(client: MilvusClient, corpus: PaperCorpus) -> list[tuple[str, set[int], set[int]]]:
    """Find all in a range of scores: each range with the ids found and those of exact search."""
    heading("8. Search in a range")
    question, found = corpus.encoder.encode_queries(QUESTIONS[:1]), []
    for metric, radius, range_filter in (("COSINE", 0.2, 0.4), ("L2", 1.6, 1.2)):
        limits = {"params": {"radius": radius, "range_filter": range_filter}}
        options = {"limit": len(corpus.papers), "output_fields": ["id"], "timeout": TIMEOUT}
        copies, name = f"id < {STRETCHED}", METRICS[metric]
        hits = client.search(name, question, copies, search_params=limits, **options)[0]
        rows, scores = exact_search(corpus.vectors, question, len(corpus.papers), metric)
        if metric == "L2":  # the smaller the nearer
            reads = f"L2: {range_filter} (range_filter) <= distance < {radius} (radius)"
            inside = (range_filter <= scores) & (scores < radius)
        else:
            reads = f"COSINE: {radius} (radius) < score <= {range_filter} (range_filter)"
            inside = (radius < scores) & (scores <= range_filter)
        exact = {corpus.papers[row].id for row in rows[inside]}
        found.append((reads, {hit["id"] for hit in hits}, exact))
    shown = [(reads, len(ids), ids == exact) for reads, ids, exact in found]
    table("radius and range_filter", ("range", "papers", "as by exact search"), shown)
    return found


def measure_levels(client: MilvusClient, corpus: PaperCorpus, writes: int) -> list[Level]:
    """Write papers and look for each of them at once, and a second later, at every level."""
    heading("9. Consistency levels")
    template = corpus.rows()[0]

    def write(number: int) -> None:
        client.insert(COLLECTION, [{**template, "id": WRITTEN + number}], timeout=TIMEOUT)

    def read(number: int, level: str) -> int:
        condition = f"id == {WRITTEN + number}"
        return len(client.query(COLLECTION, filter=condition, consistency_level=level))

    levels = read_own_writes(write, read, writes)
    client.delete(COLLECTION, filter=f"id >= {WRITTEN}", timeout=TIMEOUT)
    return levels


def show_levels(milvus: Milvus, levels: list[Level], writes: int) -> None:
    """Print the consistency levels and draw them."""
    columns = "level", "own writes found", "median read", "a second later", "median read "
    rows = [
        (x.name, x.found, milliseconds(x.seconds), x.found_later, milliseconds(x.seconds_later))
        for x in levels
    ]
    table(f"{writes} times write one paper and read it", columns, rows)
    title = f"Reads at each consistency level: {milvus.label}"
    if milvus.can("consistency_levels"):
        say(
            "Strong waits for all writes, Session for those of this process; Bounded and "
            "Eventually answer from what has arrived. Nothing is lost: look a second later."
        )
    else:
        title += ", always Strong"
        say("This Milvus is Strong at all levels: differences are noise. On a server they differ.")
    drawing, axes = figure(title, "consistency level", "median of a read (ms)")
    series = {
        "right after a write": [1000 * level.seconds for level in levels],
        "a second later": [1000 * level.seconds_later for level in levels],
    }
    bars(axes, [level.name for level in levels], series, "%.1f")
    save_chart(drawing, "step01_05_consistency")


def rate(client: MilvusClient, corpus: PaperCorpus) -> MeanWithInterval:
    """Search with all judged queries: the mean nDCG@10 with its 95 % interval."""
    heading("10. How good is the search?")
    queries = paper_queries()
    vectors = corpus.encoder.encode_queries([query.query for query in queries])
    options = {"limit": 10, "output_fields": ["id"], "timeout": TIMEOUT}
    answers = client.search(COLLECTION, data=vectors, **options)
    rankings = [[hit["id"] for hit in hits] for hits in answers]
    relevant = [query.relevant for query in queries]
    result = mean_with_interval(list(map(ndcg_at, rankings, relevant)))
    interval = f"95 % interval {result.low:.3f} to {result.high:.3f}"
    say(f"nDCG@10 over {len(queries)} judged queries: {result.mean:.3f}, {interval}.")
    say("It is a lower bound: a good paper that nobody labelled counts as wrong.")
    return result


def main(arguments: list[str] | None = None) -> None:
    """Give the lesson, or search the papers with your own words."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    add = parser.add_argument
    add("--query", help="search with these words and stop (default: give the lesson)")
    writes = "writes for each consistency level (default: %(default)s)"
    add("--writes", type=int, default=WRITES, metavar="N", help=writes)
    add("--quick", action="store_true", help=f"{QUICK_WRITES} writes for each consistency level")
    options = parser.parse_args(arguments)
    writes = QUICK_WRITES if options.quick else options.writes
    if writes < 1 or not (options.query or "all").strip():
        parser.error("--writes is 1 or more" if writes < 1 else "--query is blank")
    with connect() as milvus, workspace(milvus.client, COLLECTION, *METRICS.values()):
        client = milvus.client
        corpus = embed()
        insert(client, corpus)
        heading("3. Search")
        for question in [options.query] if options.query else QUESTIONS:
            search(client, corpus, question)
        if options.query:
            return
        use_filters(client, corpus)
        search(client, corpus, QUESTIONS[0], 'ARRAY_CONTAINS(tags, "BERT")')
        read(client)
        change(client, corpus)
        compare_metrics(client, corpus)
        search_range(client, corpus)
        show_levels(milvus, measure_levels(client, corpus, writes), writes)
        rate(client, corpus)


if __name__ == "__main__":
    sys.exit(run(main))
