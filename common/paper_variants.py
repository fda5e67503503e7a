"""The papers and their queries as other vectors, side by side: quality, memory, latency.

variants = {"384 dimensions": (documents, queries), "128 dimensions": (fewer, asked)}
rated = rate_variants(milvus, corpus, variants, names, rows=10_000, calls=30)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median

from common.connection import Milvus
from common.datasets import paper_queries
from common.display import figure, lines, milliseconds, save_chart, table
from common.evaluation import MeanWithInterval, mean_with_interval, ndcg_at, paired_difference
from common.index_building import build_indexes, store_vectors
from common.index_memory import memory_bytes, size_text
from common.index_trial import ids_of
from common.paper_corpus import PaperCorpus
from common.side_by_side import in_turns
from common.vectors import Float32, exact_search, recall_by_query

import numpy as np

K = 10
IN_MEMORY = 1_000_000  # rows for which the memory is computed

Variant = tuple[Float32, Float32]
"""The papers and the judged queries, each a row, of one and the same dimension."""


@dataclass(frozen=True)
class Rated:
    """How a variant finds papers.

    Attributes:
        dimension: of its vectors.
        recall: recall@10 against exact search in the first variant, the mean over the queries.
        ndcg: nDCG@10 with its 95 % interval.
        difference: of the nDCG@10 from that of the first variant, paired, with its interval.
        seconds: the median of a search for one query.
    """

    dimension: int
    recall: float
    ndcg: MeanWithInterval
    difference: MeanWithInterval
    seconds: float


def rate_variants(
    milvus: Milvus,
    corpus: PaperCorpus,
    variants: Mapping[str, Variant],
    collections: Sequence[str],
    *,
    rows: int,
    calls: int,
    timeout: float = 60.0,
) -> dict[str, Rated]:
    """Store each variant under FLAT and COSINE, and search it with all judged queries.

    FLAT finds the best there is, so what is lost is lost by the vectors and not by an index. The
    papers are few, and comparing them takes less than the request around it: so copies of them
    fill the collections up to `rows`. The latency is that of a search among all rows; where the
    quality is measured, a filter keeps the copies out.

    Args:
        milvus: where to store.
        corpus: the papers.
        variants: from its name to its vectors, the one to compare with first.
        collections: a name for each; none of them exists yet.
        rows: in each collection, copies included, at least as many as there are papers.
        calls: timed searches of each, in turns.
        timeout: seconds, for each call.
    """
    client, judged = milvus.client, paper_queries()
    named = dict(zip(variants, collections, strict=True))
    for variant, name in named.items():
        documents = variants[variant][0]
        copies = np.resize(documents, (rows, documents.shape[1]))  # over and over
        store_vectors(client, name, copies, timeout=timeout)
    build_indexes(milvus, dict.fromkeys(named.values(), ("FLAT", {})), "COSINE")
    options = {"limit": K, "output_fields": ["id"], "timeout": timeout}

    def ask(number: int, variant: str) -> None:
        one = number % len(judged)
        client.search(named[variant], variants[variant][1][one : one + 1], **options)

    seconds = in_turns([partial(ask, variant=variant) for variant in variants], calls)
    whole, asked = next(iter(variants.values()))
    exact = exact_search(whole, asked, K)[1]
    rated, base = {}, None
    for (variant, (documents, queries)), taken in zip(variants.items(), seconds, strict=True):
        only = f"number < {len(documents)}"
        found = ids_of(client.search(named[variant], queries, filter=only, **options))
        ids = [[corpus.papers[row].id for row in each] for each in found]
        ndcg = [ndcg_at(each, query.relevant) for each, query in zip(ids, judged, strict=True)]
        base = base or ndcg
        rated[variant] = Rated(
            documents.shape[1],
            float(recall_by_query(found, exact, whole, asked).mean()),
            mean_with_interval(ndcg),
            paired_difference(ndcg, base),
            median(taken),
        )
    return rated


def show_variants(rated: Mapping[str, Rated], title: str) -> None:
    """Print the table: quality, computed memory, latency."""
    first = next(iter(rated))
    columns = "vectors", "recall@10", "nDCG@10", f"against {first}, 95 %", "memory", "a query"
    rows = []
    for variant, each in rated.items():
        interval = f"{each.difference.low:+.3f} to {each.difference.high:+.3f}"
        memory = size_text(memory_bytes("FLAT", IN_MEMORY, each.dimension, {}).bytes)
        shown = None if variant == first else interval
        took = milliseconds(each.seconds)
        rows.append((variant, each.recall, f"{each.ndcg.mean:.3f}", shown, memory, took))
    table(f"{title}; memory computed for {IN_MEMORY:,} rows", columns, rows)


def draw_variants(rated: Mapping[str, Rated], title: str, chart: str) -> None:
    """Draw recall and nDCG@10 against the dimension."""
    drawing, axes = figure(title, "dimensions", "mean over the judged queries (0 to 1)")
    dimensions = [each.dimension for each in rated.values()]
    series = {
        "recall@10 against all dimensions": [each.recall for each in rated.values()],
        "nDCG@10": [each.ndcg.mean for each in rated.values()],
    }
    lines(axes, {name: (dimensions, values) for name, values in series.items()})
    axes.set_xticks(dimensions)
    axes.set_ylim(0, 1.03)
    axes.legend(loc="lower right")
    save_chart(drawing, chart)
