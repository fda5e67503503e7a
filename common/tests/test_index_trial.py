"""An index on trial: it is waited for, measured with held-out queries, and told as it is."""

import threading
from collections.abc import Iterator, Mapping

from common.connection import Milvus
from common.index_trial import (
    IndexFailed,
    Search,
    SearchFigures,
    ids_of,
    measure_search,
    measure_searches,
    params_for,
    params_text,
    params_told,
    told_bytes,
    wait_until_indexed,
)
from common.measuring import Latencies, Spread, Throughput, measure_throughput
from common.vector_sets import VectorSet, vector_set

import numpy as np
import pytest
from pymilvus import DataType, MilvusClient, MilvusException

ROWS, DIMENSION, TIMEOUT = 1200, 16, 60  # a server builds no index for less than 1,024 rows


class Describing:
    """Stands where a client stands and describes an index as the next of `answers`."""

    def __init__(self, *answers: Mapping) -> None:
        self.answers = list(answers)

    def describe_index(self, collection: str, field: str, timeout: float) -> Mapping:
        assert (collection, field) == ("papers", "vector")
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def description(state: str, indexed: int, pending: int, **more: object) -> dict:
    return {"state": state, "indexed_rows": indexed, "pending_index_rows": pending, **more}


def test_waits_until_all_rows_are_covered() -> None:
    done = description("Finished", 100, 0, index_type="HNSW")
    client = Describing(
        description("Finished", 0, 0),  # before the server has seen the flushed segment
        description("InProgress", 0, 100),
        description("InProgress", 60, 40),
        description("Finished", 60, 40),
        done,
    )
    assert wait_until_indexed(client, "papers", 100, timeout=10, pause=0) == done
    with pytest.raises(TimeoutError, match="the index of papers covers 101 rows: not within"):
        wait_until_indexed(client, "papers", 101, timeout=0.05, pause=0.01)


def test_a_build_that_failed_is_an_error() -> None:
    client = Describing(description("Failed", 0, 100, index_state_fail_reason="no memory"))
    with pytest.raises(IndexFailed, match="papers cannot be built: no memory"):
        wait_until_indexed(client, "papers", 100, timeout=10)


def test_parameters_in_both_forms() -> None:
    about = {"index_type": "HNSW", "metric_type": "L2", "field_name": "v", "index_name": "v"}
    flat = {**about, **description("Finished", 1, 0, total_rows=1), "M": "16", "refine": "true"}
    assert params_told(flat) == {"M": 16, "refine": "true"}
    nested = {**about, **description("Finished", 1, 0, total_rows=1), "params": {"M": 16}}
    assert params_told(nested) == {"M": 16}
    assert params_told(about) == {}


def sample_of(queries: int = 7) -> VectorSet:
    return vector_set(None, rows=60, queries=queries, dimension=8, k=4)


class Searches:
    """A search that finds the first `kept` of the true neighbours, and fails at some queries."""

    def __init__(self, sample: VectorSet, kept: int, failing: int | None = None) -> None:
        self.sample, self.kept, self.failing = sample, kept, failing
        self.number = {query.tobytes(): n for n, query in enumerate(sample.queries)}
        self.asked: list[int] = []
        self.lock = threading.Lock()

    def __call__(self, vectors: np.ndarray) -> list[list[dict]]:
        numbers = [self.number[vector.tobytes()] for vector in vectors]
        with self.lock:
            self.asked += numbers
        if numbers == [self.failing]:
            raise MilvusException(message="busy")
        ids = self.sample.exact[0][numbers, : self.kept]
        return [[{"id": int(row), "distance": 0.0} for row in found] for found in ids]


def test_measures_what_the_search_does() -> None:
    sample = sample_of()
    search = Searches(sample, kept=3)
    figures = measure_search(search, sample, calls=14, threads=2, runs=3, warmup=7)
    assert figures.recall_by_query.tolist() == [0.75] * 7
    assert figures.recall == 0.75
    assert len(figures.latencies.seconds) == 14
    assert figures.latencies.first > 0
    assert len(figures.rates.values) == 3
    assert min(figures.rates.values) > 0
    assert figures.failed == 0
    # All queries in turn, each as often as the others: warm-up, latency, and then three runs.
    assert search.asked[:21] == [*range(7)] * 3
    assert {search.asked[:-7].count(number) for number in range(7)} <= {9, 10}
    assert search.asked[-7:] == [*range(7)]  # the recall, in one search


def test_batches_count_their_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    sample, sizes, measured = sample_of(), [], []
    search = Searches(sample, kept=4)

    def counting(vectors: np.ndarray) -> list[list[dict]]:
        sizes.append(len(vectors))
        return search(vectors)

    def remembering(*arguments: object, **options: object) -> Throughput:
        measured.append(measure_throughput(*arguments, **options))
        return measured[-1]

    monkeypatch.setattr("common.index_trial.measure_throughput", remembering)
    how = {"calls": 5, "requests": 4, "batch": 5, "threads": 1, "runs": 2, "warmup": 1}
    figures = measure_search(counting, sample, **how)
    assert sizes == [1] * 6 + [5] * (2 * (1 + 4)) + [7]
    assert search.asked[:6] == [*range(6)]
    assert search.asked[6:16] == [n % 7 for n in range(30, 40)]  # the next of seven, in turn
    assert figures.rates.values == tuple(5 * each.per_second for each in measured)
    assert [each.completed for each in measured] == [4, 4]
    with pytest.raises(ValueError, match="batch and runs must be at least 1, not 0 and 5"):
        measure_search(search, sample, calls=1, threads=1, batch=0)


def test_searches_take_turns() -> None:
    sample = sample_of()
    names: list[str] = []

    def named(name: str, kept: int) -> Search:
        search = Searches(sample, kept)

        def ask(vectors: np.ndarray) -> list[list[dict]]:
            names.append(name)
            return search(vectors)

        return ask

    how = {"calls": 4, "requests": 1, "threads": 1, "runs": 2, "warmup": 1}
    poor, good = measure_searches([named("a", 1), named("b", 4)], sample, **how)
    assert (poor.recall, good.recall) == (0.25, 1)
    turns = [name for name, before in zip(names, [None, *names], strict=False) if name != before]
    assert turns == ["a", "b"] * 4  # latency, two runs, recall
    assert len(poor.rates.values) == len(good.rates.values) == 2


def test_figures_as_texts() -> None:
    latencies = Latencies((0.002, 0.004, 0.003), first=0.05)
    figures = SearchFigures(np.array([1.0, 0.5]), latencies, Spread((1200.0, 900.0, 1000.0)), 0)
    assert len(figures.cells) == len(SearchFigures.columns)
    assert figures.cells == ("0.750", "50.0 ms", "3.00 ms", "4.00 ms", "1,000", "900 to 1,200")
    assert params_text({"M": 16, "refine": "true"}) == "M=16, refine=true"
    assert params_text({}) == ""


def test_failures_are_counted() -> None:
    sample = sample_of()
    search = Searches(sample, kept=4, failing=5)  # which no warm-up asks for
    figures = measure_search(search, sample, calls=14, threads=1, runs=1, warmup=1)
    assert (figures.latencies.failed, figures.failed) == (2, 2)
    assert figures.recall == 1


def test_ids() -> None:
    assert ids_of([[{"id": 3, "distance": 0.5}, {"id": 1, "distance": 0.2}], []]) == [[3, 1], []]


@pytest.fixture
def filled(milvus: Milvus) -> Iterator[tuple[Milvus, MilvusClient, np.ndarray]]:
    client = milvus.client
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIMENSION)
    client.create_collection("trial_rows", schema=schema, timeout=TIMEOUT)
    vectors = np.random.default_rng(1).standard_normal((ROWS, DIMENSION)).astype(np.float32)
    rows = [{"id": number, "vector": vector} for number, vector in enumerate(vectors)]
    client.insert("trial_rows", rows, timeout=TIMEOUT)
    client.flush("trial_rows", timeout=TIMEOUT)
    return milvus, client, vectors


def test_an_engine_builds_with_what_it_is_given(
    filled: tuple[Milvus, MilvusClient, np.ndarray],
) -> None:
    """The table in `params_for` must not lie: in that form, the parameters arrive."""
    milvus, client, vectors = filled
    params = client.prepare_index_params()
    given = params_for(milvus, {"nlist": 10})
    params.add_index("vector", index_type="IVF_FLAT", metric_type="L2", params=given)
    client.create_index("trial_rows", params, sync=False, timeout=TIMEOUT)
    told = wait_until_indexed(client, "trial_rows", ROWS, timeout=TIMEOUT)
    assert (told["index_type"], params_told(told)) == ("IVF_FLAT", {"nlist": 10})
    client.load_collection("trial_rows", timeout=TIMEOUT)
    # That there are ten clusters shows in the search: ten probes compare with every row.
    exact = np.argsort(((vectors[:20, None] - vectors[None]) ** 2).sum(axis=2), axis=1)[:, :10]
    shares = []
    for probes in (1, 10):
        hits = client.search(
            "trial_rows",
            data=vectors[:20],
            limit=10,
            search_params={"params": {"nprobe": probes}},
            output_fields=["id"],
            timeout=TIMEOUT,
        )
        pairs = zip(ids_of(hits), exact.tolist(), strict=True)
        shares.append(np.mean([len({*found} & {*true}) / 10 for found, true in pairs]))
    assert shares[0] < 0.9
    assert shares[1] == 1
    size = told_bytes(milvus, "trial_rows")
    if milvus.kind == "lite":
        assert ROWS * DIMENSION * 4 < size < ROWS * (DIMENSION * 4 + 20) + 4000
    else:
        assert size is None
        assert all(part.mem_size == 0 for part in client.list_loaded_segments("trial_rows"))


def test_milvus_lite_overlooks_the_usual_form(
    filled: tuple[Milvus, MilvusClient, np.ndarray],
) -> None:
    milvus, client, _ = filled
    params = client.prepare_index_params()
    params.add_index("vector", index_type="HNSW", metric_type="L2", params={"M": 4})
    if milvus.kind == "lite":
        client.create_index("trial_rows", params, timeout=TIMEOUT)
        assert params_told(client.describe_index("trial_rows", "vector")) == {}
    else:
        assert params_for(milvus, {"M": 4}) == {"M": 4}
