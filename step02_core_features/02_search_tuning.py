"""Search tuning: the smallest setting that reaches a recall, and what everything else costs.

    python step02_core_features/02_search_tuning.py
    python step02_core_features/02_search_tuning.py --vectors mine.npy --target 0.98

You build indexes with coarse and fine parameters, draw recall against latency, let a search find
the ef and nprobe that surely reach a target, confirm it on queries that had no part in it, measure
batches, filters, output fields, limits and consistency, and reduce dimensions by PCA.

Needs: any Milvus (Milvus Lite by default)
Read:  docs/en/step02_core_features.md#search-tuning
"""

import argparse
import sys
from collections.abc import Iterable, Mapping
from functools import partial
from statistics import median

from common.connection import Milvus, connect
from common.datasets import paper_queries, papers
from common.display import heading, left_out, milliseconds, run, say, table
from common.evaluation import MeanWithInterval, mean_with_interval
from common.index_building import build_indexes, store_vectors
from common.index_memory import memory_bytes, size_text
from common.index_trial import ids_of, params_text
from common.measuring import PairedRatio, paired_ratio
from common.paper_corpus import PaperCorpus, embed_papers
from common.paper_variants import Rated, draw_variants, rate_variants, show_variants
from common.reduction import Pca
from common.side_by_side import Measured, draw_sweep, in_turns, seconds_of, show_ratios
from common.tuning import (
    Tuned,
    halves,
    provable_recall,
    show_trials,
    smallest_reaching,
    tuning_sample,
)
from common.units import whole_number
from common.vector_sets import VectorSet
from common.vectors import Float32, Float64
from common.workspace import workspace

from pymilvus import MilvusClient

PREFIX = "step02_tuning"
HNSW, IVF, SCANN = f"{PREFIX}_hnsw_16_200", f"{PREFIX}_ivf_128", f"{PREFIX}_scann"
NLIST, FEWEST_ROWS = 128, 5_000  # Knowhere wants 39 rows for each cluster
BUILDS = {
    f"{PREFIX}_hnsw_{m}_{ef}": ("HNSW", {"M": m, "efConstruction": ef})
    for m, ef in ((8, 40), (8, 200), (16, 200), (32, 200))
} | {f"{PREFIX}_ivf_{n}": ("IVF_FLAT", {"nlist": n}) for n in (32, NLIST)}
QUICK_BUILDS = f"{PREFIX}_hnsw_8_40", HNSW, IVF
COMPARED_WITH = {"HNSW": {"ef": 32}, "IVF_FLAT": {"nprobe": 8}}
SWEPT = {  # the collection and the settings of each line of the chart
    "HNSW: ef": (HNSW, [{"ef": n} for n in (10, 16, 32, 64, 128, 256)]),
    "IVF_FLAT: nprobe": (IVF, [{"nprobe": n} for n in (1, 2, 4, 8, 16, 32, 64, NLIST)]),
    "SCANN: reorder_k": (SCANN, [{"nprobe": 64, "reorder_k": n} for n in (10, 20, 50, 100)]),
}
BATCHES = (10, 100, 1_000)
DIMENSIONS, MISTAKES_AT = (256, 128, 64), 128
SUBTRACTED = f"{MISTAKES_AT}, mean subtracted"
SECOND = f"{MISTAKES_AT}, second PCA"
PAPERS = [f"{PREFIX}_papers_{name}" for name in ("all", *DIMENSIONS, "subtracted", "second")]
K, AT_ONCE = 10, 100
SOME, FEWEST_QUERIES = slice(0, 300), 300  # the tuning queries that the tables are made with
QUICK = {"rows": FEWEST_ROWS, "queries": 300, "calls": 5, "pairs": 3, "paper_rows": 1_000}
TIMEOUT = 60.0  # seconds; without one, pymilvus repeats a failing call for minutes


def search(
    client: MilvusClient, name: str, queries: Float32, params: Mapping[str, int]
) -> list[list[int]]:
    """The ids that a search with these parameters finds, for each query."""
    options = {"limit": K, "output_fields": ["id"], "timeout": TIMEOUT}
    return ids_of(client.search(name, queries, search_params={"params": params}, **options))


def recalls(
    client: MilvusClient, sample: VectorSet, name: str, queries: slice, params: Mapping[str, int]
) -> Float64:
    """The recall of each query of a slice, all asked in one request."""
    return sample.recall(search(client, name, sample.queries[queries], params), queries)


def build(milvus: Milvus, sample: VectorSet, names: Iterable[str]) -> list[Measured]:
    """Build indexes: the seconds, and the recall with one and the same search parameter."""
    heading("1. Build parameters")
    builds = {name: BUILDS[name] for name in names}
    scann = {SCANN: ("SCANN", {"nlist": NLIST})} if milvus.can("SCANN") else {}
    if not scann:
        left_out("SCANN and its reorder_k", milvus.can("SCANN").reason)
    for name in builds | scann:
        store_vectors(milvus.client, name, sample.vectors, timeout=TIMEOUT)
    seconds = build_indexes(milvus, builds | scann, sample.metric)
    measured, shown = [], []
    for name, (index, params) in builds.items():
        searched = COMPARED_WITH[index]
        found = float(recalls(milvus.client, sample, name, SOME, searched).mean())
        measured.append(Measured(index, params, found, seconds[name]))
        size = size_text(memory_bytes(index, *sample.vectors.shape, params).bytes)
        took = f"{seconds[name]:.2f} s"
        shown.append((index, params_text(params), took, size, params_text(searched), found))
    columns = "index", "built with", "build", "memory, computed", "searched with", "recall@10"
    table(sample.name, columns, shown)
    return measured


def sweep(milvus: Milvus, sample: VectorSet, calls: int) -> list[Measured]:
    """Search with each setting: its recall over the tuning queries and its latency."""
    heading("2. Recall against latency")
    client = milvus.client
    settings = [
        (line, name, params)
        for line, (name, several) in SWEPT.items()
        for params in several
        if name != SCANN or milvus.can("SCANN")
    ]

    def ask(number: int, size: int, name: str, params: dict[str, int]) -> None:
        first = number * size % (len(sample.queries) - size)
        search(client, name, sample.queries[first : first + size], params)

    alone, together = (
        in_turns([partial(ask, size=n, name=name, params=p) for _, name, p in settings], rounds)
        for n, rounds in ((1, calls), (AT_ONCE, max(3, calls // 4)))
    )
    measured = []
    for (line, name, params), one, many in zip(settings, alone, together, strict=True):
        found = float(recalls(client, sample, name, SOME, params).mean())
        measured.append(Measured(line, params, found, min(many) / AT_ONCE, median(one)))
    return measured


def show_sweep(milvus: Milvus, measured: list[Measured], target: float) -> None:
    """Print and draw the sweep, and show what a score of target over latency would choose."""
    rows = [
        (m.what, params_text(m.params), m.recall, milliseconds(m.alone), milliseconds(m.seconds))
        for m in measured
    ]
    columns = "index: parameter", "setting", "recall@10", "a query alone", f"among {AT_ONCE}"
    table(f"Measured in turns: median of one, fastest request of {AT_ONCE}", columns, rows)
    scored = max(measured, key=lambda each: target / each.seconds)
    say(
        f"The score {target:g} / latency picks {params_text(scored.params)} with a recall of "
        f"{scored.recall:.3f}. The target is a constant, and the recall that was measured is not "
        "in it: such a score always names what was fastest."
    )
    draw_sweep(milvus, measured, target, "step02_02_recall_latency")


def tune(
    client: MilvusClient, sample: VectorSet, target: float
) -> dict[str, tuple[Tuned, MeanWithInterval]]:
    """Find the smallest ef and nprobe for a target, and ask the held-out queries about them."""
    heading("3. The smallest setting for a target")
    tuning, held_out = halves(sample)
    ef = "ef", K, 4_096  # ef is at least the limit
    found, shown = {}, []
    for name, (parameter, low, high) in {HNSW: ef, IVF: ("nprobe", 1, NLIST)}.items():

        def measure(value: int, name: str = name, parameter: str = parameter) -> Float64:
            return recalls(client, sample, name, tuning, {parameter: value})

        tuned = smallest_reaching(measure, target, low, high)
        chosen = {parameter: tuned.chosen.value}
        mean, low, high = mean_with_interval(recalls(client, sample, name, held_out, chosen))
        found[name] = tuned, MeanWithInterval(mean, low, high)
        show_trials(tuned, BUILDS[name][0], parameter)
        interval = f"{low:.4f} to {high:.4f}"
        shown.append((params_text(chosen), f"{mean:.4f}", interval, mean >= target))
    columns = "chosen", "mean recall", "95 % interval", "reaches the target"
    table(f"Confirmed on {tuned.queries:,} queries that had no part in it", columns, shown)
    return found


def batch(client: MilvusClient, sample: VectorSet, ef: int, pairs: int) -> dict[str, PairedRatio]:
    """The time of a query alone in its request over its time among others in one request."""
    heading("4. Many queries in one request")

    def seconds(size: int) -> float:
        ask = partial(search, client, HNSW, sample.queries[:size], {"ef": ef})
        return seconds_of(ask, max(1, 10 // size)) / size

    ratios = {
        f"{size:,}": paired_ratio(partial(seconds, 1), partial(seconds, size), pairs=pairs)
        for size in BATCHES
        if size <= len(sample.queries)
    }
    columns = "queries in a request", "one each", "together"
    show_ratios(f"HNSW, ef={ef}", columns, ratios, form=lambda s: f"{1 / s:,.0f} q/s")
    return ratios


def costs(milvus: Milvus, sample: VectorSet, nprobe: int, pairs: int) -> dict[str, PairedRatio]:
    """What options of a search cost: its time over that of the same search without the option."""
    heading("5. What options cost")
    rows = len(sample.vectors)
    options = {
        "filter keeps half": {"filter": f"number < {rows // 2}"},
        "filter keeps 1 %": {"filter": f"number < {rows // 100}"},
        "limit=100": {"limit": 100},
        "limit=1000": {"limit": 1_000},
        "limit=100, and a text of each": {"limit": 100, "output_fields": ["id", "text"]},
        "limit=100, and the vectors": {"limit": 100, "output_fields": ["id", "vector"]},
    }
    if able := milvus.can("consistency_levels"):
        options["Strong consistency"] = {"consistency_level": "Strong"}
    else:
        left_out("Strong against Eventually", able.reason)
    params = {"search_params": {"params": {"nprobe": nprobe}}, "timeout": TIMEOUT}
    base = {"limit": K, "output_fields": ["id"], "consistency_level": "Eventually", **params}

    def seconds(**other: object) -> float:
        ask = partial(milvus.client.search, IVF, sample.queries[:1], **{**base, **other})
        return seconds_of(ask, 3)

    ratios = {
        what: paired_ratio(partial(seconds, **other), seconds, pairs=pairs)
        for what, other in options.items()
    }
    title = f"One query: IVF_FLAT, nprobe={nprobe}, limit={K}, only ids"
    show_ratios(title, ("option", "with it", "without"), ratios)
    return ratios


def reduce(milvus: Milvus, corpus: PaperCorpus, rows: int, calls: int) -> dict[str, Rated]:
    """Search the papers in fewer dimensions by one PCA for both sides, then by two mistakes."""
    heading("6. Fewer dimensions by PCA")
    documents = corpus.vectors
    queries = corpus.encoder.encode_queries([query.query for query in paper_queries()])
    variants = {f"{documents.shape[1]} dimensions": (documents, queries)}
    for dimension in DIMENSIONS:
        pca = Pca.fit(documents, dimension)
        variants[f"{dimension} dimensions"] = pca.transform(documents), pca.transform(queries)
        say(f"{dimension} of {documents.shape[1]} directions keep {pca.kept:.1%} of the variance.")
    fewer, asked = variants[f"{MISTAKES_AT} dimensions"]
    mean = fewer.mean(axis=0)
    second = Pca.fit(queries, MISTAKES_AT)
    variants[SUBTRACTED] = fewer - mean, asked - mean
    variants[SECOND] = fewer, second.transform(queries)
    rated = rate_variants(milvus, corpus, variants, PAPERS, rows=rows, calls=calls)
    show_variants(rated, f"{len(documents)} papers, {len(queries)} judged queries")
    right = {name: each for name, each in rated.items() if name not in (SUBTRACTED, SECOND)}
    draw_variants(right, f"PCA of {len(documents)} papers", "step02_02_dimensions")
    say(
        "Subtracting the mean turns all angles, by which COSINE compares. A second PCA gives the "
        "queries axes of their own, whose numbers have nothing to do with those of the papers."
    )
    return rated


def main(arguments: list[str] | None = None) -> None:
    """Give the lesson on clustered vectors, or on those of a file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    add, default = parser.add_argument, " (default: %(default)s)"
    vectors = "tune on the vectors of this .npy, .parquet or .hdf5 file (default: clustered ones)"
    add("--vectors", metavar="FILE", help=vectors)
    add("--column", metavar="NAME", help="of the file, where it has several (default: the only)")
    add("--target", type=float, default=0.95, help=f"mean recall to reach{default}")
    numbers = {
        "rows": (10_000, FEWEST_ROWS, "rows stored"),
        "dimension": (64, 2, "of the clustered vectors"),
        "queries": (1_000, FEWEST_QUERIES, "queries to tune with, and as many to confirm"),
        "calls": (20, 1, "timed searches of each setting"),
        "pairs": (5, 1, "paired measurements of each ratio"),
        "paper-rows": (5_000, len(papers()), "rows for the PCA: the papers over and over"),
    }
    for name, (value, least, what) in numbers.items():
        number = partial(whole_number, least=least)
        add(f"--{name}", type=number, default=value, metavar="N", help=f"{what}{default}")
    quick = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in QUICK.items())
    add("--quick", action="store_true", help=f"fewer indexes, and {quick}")
    options = parser.parse_args(arguments)
    vars(options).update(QUICK if options.quick else {})
    most = provable_recall(options.queries)
    if not 0 < options.target <= most:
        parser.error(
            f"--target is over 0 and at most {most:.4f}: {options.queries:,} queries prove no "
            "more, even if each finds all; raise --queries"
        )
    given = {"rows": options.rows, "queries": options.queries, "column": options.column}
    sample = tuning_sample(options.vectors, dimension=options.dimension, k=K, **given)
    if len(sample.vectors) < FEWEST_ROWS or len(sample.queries) < 2 * FEWEST_QUERIES:
        fewest = f"{FEWEST_ROWS:,} rows and {2 * FEWEST_QUERIES} queries"
        parser.error(f"{options.vectors}: it takes {fewest}, held out or the file's own")
    with connect() as milvus, workspace(milvus.client, *BUILDS, SCANN, *PAPERS):
        build(milvus, sample, QUICK_BUILDS if options.quick else BUILDS)
        show_sweep(milvus, sweep(milvus, sample, options.calls), options.target)
        chosen = tune(milvus.client, sample, options.target)
        batch(milvus.client, sample, chosen[HNSW][0].chosen.value, options.pairs)
        costs(milvus, sample, chosen[IVF][0].chosen.value, options.pairs)
        reduce(milvus, embed_papers(), options.paper_rows, options.calls)


if __name__ == "__main__":
    sys.exit(run(main))
