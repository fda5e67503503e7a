"""Index types: the same vectors under each index, side by side.

    python step02_core_features/01_index_types.py
    python step02_core_features/01_index_types.py --vectors mine.npy --memory 2GB --latency 5ms

You build the same rows under each index that your Milvus has, read back what it built, compare
build time, memory, recall, latency and throughput, see what becomes of wrong parameters, and let
`recommend_index` choose, with its reasons.

Needs: any Milvus (Milvus Lite by default, which has no IVF_PQ and no SCANN)
Read:  docs/en/step02_core_features.md#index-types
"""

import argparse
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from common.connection import Milvus, connect
from common.display import heading, left_out, run, say, table
from common.index_choices import Choice, index_choices
from common.index_plans import Advice, Plan, add_plan_options, plan_of, show_advice
from common.index_report import (
    Built,
    Measured,
    answer_text,
    draw_indexes,
    first_part,
    objection,
    show_built,
)
from common.index_trial import (
    SearchFigures,
    measure_searches,
    params_for,
    params_text,
    params_told,
    told_bytes,
    wait_until_indexed,
)
from common.indexes import (
    NoIndexFitsError,
    ParameterError,
    check_build_params,
    check_search_params,
    memory_bytes,
    recommend_index,
)
from common.refusals import refusal
from common.units import whole_number
from common.vector_files import VectorFileError
from common.vector_sets import VectorSet, vector_set
from common.vectors import Float32
from common.workspace import OURS, workspace

from pymilvus import DataType, MilvusClient

K, TIMEOUT = 10, 300.0  # neighbours to find; seconds for a call, of which some wait for a build
ROWS, QUICK_ROWS = 10_000, 2_000
FEWEST_ROWS, WIDE_ROWS, WIDE_NLIST = 1_024, 2_000, 4_000  # of fewer, a server builds no index
LITE_CALLS, SERVER_CALLS, QUICK_CALLS = 20, 60, 10  # Milvus Lite takes its time for a request
RATE = {"requests": 8, "batch": 50, "threads": 4}
LITE_RATE, QUICK_RATE = {**RATE, "runs": 3}, {**RATE, "requests": 4, "runs": 3}
PREFIX = "step02_index"
PROBE, WIDE = f"{PREFIX}_probe", f"{PREFIX}_wide"  # for wrong parameters, for too many clusters
WRONG_BUILDS = (
    ("HNSW", {"M": 1, "efConstruction": 200}),
    ("HNSW", {"M": 16, "efConstruction": 0}),
    ("HNSW", {"M": 16, "efConstruction": 200, "n_trees": 50}),
    ("IVF_FLAT", {"nlist": 70_000}),
    ("IVF_PQ", {"nlist": 128, "m": 7}),
)
WRONG_SEARCHES = (
    ("HNSW", {"search_k": 1_000}),
    ("HNSW", {"ef": K - 1}),
    ("IVF_FLAT", {"ef": 64}),
    ("IVF_FLAT", {"nprobe": 0}),
    ("IVF_FLAT", {"nprobe": 60_000}),
)
PLANS = (
    Plan(1_000_000, 384, latency=0.01),
    Plan(1_000_000, 384, memory=1e9),
    Plan(5_000_000, 768, recall=1.0),
    Plan(50_000_000, 768, memory=64e9, recall=0.9),
    Plan(50_000_000, 768, memory=4e9, recall=0.99),
)


def collection_of(index: str) -> str:
    """Each index has a collection of its own, so that all are there side by side."""
    return f"{PREFIX}_{index.lower()}"


def what_runs(milvus: Milvus, known: Sequence[Choice]) -> list[Choice]:
    """The indexes that this Milvus has; each other one is named."""
    for choice in known:
        if not milvus.can(choice.index):
            left_out(choice.index, milvus.can(choice.index).reason)
    return [choice for choice in known if milvus.can(choice.index)]


def store(client: MilvusClient, name: str, vectors: Float32) -> None:
    """Make a collection without an index and insert vectors, row i under the id i."""
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=vectors.shape[1])
    client.create_collection(name, schema=schema, properties=OURS, timeout=TIMEOUT)
    for first in range(0, len(vectors), 5_000):
        part = enumerate(vectors[first : first + 5_000], start=first)
        rows = [{"id": number, "vector": vector} for number, vector in part]
        client.insert(name, rows, timeout=TIMEOUT)


def order(milvus: Milvus, name: str, choice: Choice, sample: VectorSet) -> Built:
    """Order an index, and wait until it covers all rows."""
    client, rows = milvus.client, len(sample.vectors)
    params = params_for(milvus, choice.build)  # as they are, but for Milvus Lite
    ask, metric = client.prepare_index_params(), sample.metric
    ask.add_index("vector", index_type=choice.index, metric_type=metric, params=params)
    start = time.perf_counter()
    client.create_index(name, ask, sync=False, timeout=TIMEOUT)
    told = wait_until_indexed(client, name, rows, timeout=TIMEOUT)
    seconds = time.perf_counter() - start
    about = choice.index, rows, sample.dimension, choice.build
    computed = memory_bytes(*about, metric=metric)
    return Built(choice, told, seconds, computed, told_bytes(milvus, name))


def build(milvus: Milvus, sample: VectorSet, chosen: Sequence[Choice]) -> list[Built]:
    """Store the rows once for each index, build one index after the other, load all."""
    heading("2. Build")
    client, names = milvus.client, [collection_of(choice.index) for choice in chosen]
    for name in names:
        store(client, name, sample.vectors)
    store(client, WIDE, sample.vectors[:WIDE_ROWS])  # for section 4
    with ThreadPoolExecutor() as threads:
        # A flush seals segments. Rows in an open one have no index: all of them are compared.
        list(threads.map(partial(client.flush, timeout=TIMEOUT), [*names, WIDE]))
        built = [order(milvus, collection_of(choice.index), choice, sample) for choice in chosen]
        list(threads.map(partial(client.load_collection, timeout=TIMEOUT), names))
    show_built(milvus, built)
    return built


def search(
    client: MilvusClient, name: str, params: Mapping[str, object], vectors: Float32, limit: int = K
) -> list[list[dict]]:
    """Find the nearest rows of each vector with one setting of the search."""
    return client.search(
        name,
        data=vectors,
        limit=limit,
        search_params={"params": dict(params)},
        output_fields=["id"],
        timeout=TIMEOUT,
    )


def compare(
    milvus: Milvus, sample: VectorSet, chosen: Sequence[Choice], calls: int, rate: Mapping[str, int]
) -> list[Measured]:
    """Measure each index with each setting."""
    heading("3. Search")
    settings = [(choice, params) for choice in chosen for params in choice.searches]
    searches = [
        partial(search, milvus.client, collection_of(choice.index), params)
        for choice, params in settings
    ]
    figures = measure_searches(searches, sample, calls=calls, **rate)
    measured = [Measured(*setting, each) for setting, each in zip(settings, figures, strict=True)]
    rows = [(m.choice.index, params_text(m.params), *m.figures.cells) for m in measured]
    table(f"{sample.name}, {sample.metric}", ("index", "search", *SearchFigures.columns), rows)
    say(
        f"Recall: the share of the true {K} nearest that was found, over {len(sample.queries)} "
        f"held-out queries. Times: {calls} requests with one query each, the first one apart. "
        f"Rate: {rate['threads']} threads with {rate['batch']} queries a request, so that it tells "
        "of the index: around a single query the request takes longer than a small index."
    )
    if milvus.kind == "lite":
        say("Milvus Lite is Python around faiss and no server: these times say nothing of one.")
    return measured


def try_wrong(milvus: Milvus, sample: VectorSet) -> list[tuple[str, str, str]]:
    """Send wrong parameters where that is safe: what Milvus says, and our check before it."""
    heading("4. Wrong parameters")
    client, tried = milvus.client, []
    for index, params in WRONG_BUILDS:
        store(client, PROBE, sample.vectors[:0])  # without rows nothing is built
        ask, sent = client.prepare_index_params(), params_for(milvus, params)
        ask.add_index("vector", index_type=index, metric_type=sample.metric, params=sent)
        said = refusal(client.create_index, PROBE, ask, sync=False, timeout=TIMEOUT)
        check = objection(check_build_params, index, params, dimension=sample.dimension)
        tried.append((f"{index} {params_text(params)}", answer_text(said), check))
        client.drop_collection(PROBE, timeout=TIMEOUT)
    for index, params in WRONG_SEARCHES:
        name = collection_of(index)
        said = refusal(search, client, name, params, sample.queries[:1])
        told = params_told(client.describe_index(name, "vector", timeout=TIMEOUT))
        check = objection(check_search_params, index, params, limit=K, build=told)
        tried.append((f"{index} {params_text(params)}", answer_text(said), check))
    columns = "sent all the same", milvus.label, "our check would have said"
    table("Wrong parameters", columns, [(*told, first_part(said)) for *told, said in tried])
    return tried


def count_clusters(milvus: Milvus, sample: VectorSet) -> tuple[int, int, float]:
    """Ask for more clusters than rows: nlist as told, clusters searched, rows found in those."""
    few_rows = VectorSet("", sample.vectors[:WIDE_ROWS], sample.queries, sample.metric)
    client, rows = milvus.client, len(few_rows.vectors)
    built = order(milvus, WIDE, Choice("IVF_FLAT", {"nlist": WIDE_NLIST}), few_rows)
    client.load_collection(WIDE, timeout=TIMEOUT)
    nlist, few = params_told(built.told)["nlist"], rows // 39  # a server makes no more of them
    hits = search(client, WIDE, {"nprobe": few}, sample.queries[:10], limit=rows)
    seen = statistics.mean(map(len, hits))
    say(
        f"{rows:,} rows, and describe_index() says nlist={nlist:,}. In the nearest {few} clusters "
        f"lie {seen:,.0f} rows: there are {'no other' if seen == rows else 'other'} clusters."
    )
    if milvus.kind == "lite":
        say("Milvus Lite made one for each row. Its warning above, from faiss, was meant for you.")
    return nlist, few, seen


def advise(milvus: Milvus, own: Plan) -> list[Advice]:
    """Recommend an index for your plan, with the reasons, and for some others."""
    heading("5. Which index?")
    plans, advice = (own, *PLANS), []
    for plan in plans:
        try:
            advice.append(recommend_index(*plan, can=milvus.can))
        except NoIndexFitsError as error:
            advice.append(error)
    show_advice(plans, advice)
    return advice


def parse(arguments: list[str] | None) -> tuple[argparse.Namespace, VectorSet, list[Choice]]:
    """The options, the vectors and the indexes to compare; what is wrong ends the script here."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    add, count = parser.add_argument, partial(whole_number, least=1)
    add("--vectors", metavar="FILE", help=".npy, Parquet or HDF5 (default: clustered vectors)")
    add("--column", help="of vectors in a Parquet file (default: the only one)")
    rows = f"rows to store, {FEWEST_ROWS:,} or more (default: {ROWS:,})"
    add("--rows", type=partial(whole_number, least=FEWEST_ROWS), metavar="N", help=rows)
    meanings = {"dimension": "of clustered vectors", "queries": "held out", "links": "M of HNSW"}
    for (name, meaning), value in zip(meanings.items(), (64, 200, 16), strict=True):
        text = f"{meaning} (default: {value})"
        add(f"--{name}", type=count, default=value, metavar="N", help=text)
    add("--nlist", type=count, metavar="N", help="clusters of IVF (default: 128, or fewer)")
    calls = f"requests timed (default: {SERVER_CALLS}, {LITE_CALLS} on Milvus Lite)"
    add("--calls", type=count, metavar="N", help=calls)
    add_plan_options(parser)
    quick = f"{QUICK_ROWS:,} rows, {QUICK_CALLS} requests, and no look for clusters"
    add("--quick", action="store_true", help=quick)
    options = parser.parse_args(arguments)
    rows = options.rows or (QUICK_ROWS if options.quick else ROWS)
    sizes = {"rows": rows, "dimension": options.dimension, "queries": options.queries, "k": K}
    drawn = {"clusters": max(1, rows // 20), "spread": 0.9}
    try:
        sample = vector_set(options.vectors, column=options.column, **sizes, **drawn)
        if len(sample.vectors) < FEWEST_ROWS:
            parser.error(f"{options.vectors}: {FEWEST_ROWS:,} rows are needed besides the queries")
        about = len(sample.vectors), sample.dimension, sample.metric
        chosen = index_choices(*about, k=K, nlist=options.nlist, links=options.links)
    except (VectorFileError, ParameterError) as error:
        parser.error(str(error))
    return options, sample, chosen


def main(arguments: list[str] | None = None) -> int:
    """Give the lesson."""
    options, sample, known = parse(arguments)
    names = [*(collection_of(choice.index) for choice in known), PROBE, WIDE]
    with connect() as milvus, workspace(milvus.client, *names):
        heading("1. Vectors")
        say(f"{sample.name}, and {len(sample.queries)} queries apart. Milvus: {milvus.label}.")
        chosen = what_runs(milvus, known)
        lite = milvus.kind == "lite"
        calls, rate = (LITE_CALLS, LITE_RATE) if lite else (SERVER_CALLS, RATE)
        if options.quick:
            calls, rate = QUICK_CALLS, QUICK_RATE
        built = build(milvus, sample, chosen)
        measured = compare(milvus, sample, chosen, options.calls or calls, rate)
        draw_indexes(milvus, built, measured, K, "step02_01")
        try_wrong(milvus, sample)
        if not options.quick:
            count_clusters(milvus, sample)
        advise(milvus, plan_of(options, len(sample.vectors), sample.dimension))
        failed = sum(m.figures.failed + m.figures.latencies.failed for m in measured)
        if failed:
            say(f"{failed:,} searches failed, so the figures above are not to be trusted.")
        return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(run(main))
