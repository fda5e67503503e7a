"""What 05_insert_and_search shows is what the papers and exact arithmetic say."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

from common.connection import Milvus
from common.datasets import paper_queries, papers
from common.evaluation import ndcg_at
from common.vectors import exact_search

import numpy as np
import pytest
from pymilvus import MilvusClient

IDS = [paper.id for paper in papers()]


@pytest.fixture(scope="module")
def corpus(lesson: ModuleType) -> object:
    return lesson.embed()


@pytest.fixture
def stored(lesson: ModuleType, client: MilvusClient, corpus: object) -> Iterator[MilvusClient]:
    """The client, with all papers in the collection of the lesson."""
    lesson.insert(client, corpus)
    return client


def exact_ids(vectors: np.ndarray, question: np.ndarray, metric: str, k: int = 5) -> list[int]:
    rows, _ = exact_search(vectors, question, k, metric)
    return [IDS[row] for row in rows[0]]


def test_passes_as_a_process(passes_as_a_process: Callable[..., str], tmp_path: Path) -> None:
    printed = passes_as_a_process("--quick")
    titles = [line.split(".")[0] for line in printed.splitlines() if line.endswith("───")]
    assert [title for title in titles if title.isdigit()] == [str(n) for n in range(1, 11)]
    assert "all-MiniLM-L6-v2" in printed
    chart = tmp_path / "out" / "step01_05_consistency.png"
    assert chart.read_bytes().startswith(b"\x89PNG")


def test_ctrl_c_leaves_nothing_behind(check_ctrl_c: Callable[[str], None]) -> None:
    check_ctrl_c("7.")  # its collections are there by then


def test_your_own_words(
    engine: str, run_script: Callable[..., subprocess.CompletedProcess]
) -> None:
    done = run_script("--query", "finding names of people and places in a text")
    assert done.returncode == 0, done.stderr
    assert "Named Entity Recognition with Extremely Limited Data" in done.stdout
    assert "4. Filter" not in done.stdout


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [("--writes", "0", "--writes is 1 or more"), ("--query", " ", "--query is blank")],
)
def test_silly_options_are_refused(
    run_script: Callable[..., subprocess.CompletedProcess], option: str, value: str, message: str
) -> None:
    done = run_script(option, value, uri="http://localhost:1")  # where nothing listens
    assert done.returncode == 2
    assert message in done.stderr


def test_what_is_embedded(corpus: object) -> None:
    paper = papers()[17]
    (vector,) = corpus.encoder.encode_documents([f"{paper.title}. {paper.abstract}"])
    assert np.array_equal(corpus.vectors[17], vector)
    assert corpus.vectors.shape == (314, corpus.encoder.dimension)
    assert np.linalg.norm(corpus.vectors, axis=1) == pytest.approx(np.ones(314), abs=1e-6)


def test_searches_equal_exact_search(
    lesson: ModuleType, stored: MilvusClient, corpus: object
) -> None:
    for question in lesson.QUESTIONS:
        vector = corpus.encoder.encode_queries([question])
        hits = lesson.search(stored, corpus, question)
        assert [hit["id"] for hit in hits] == exact_ids(corpus.vectors, vector, "COSINE")
        _, scores = exact_search(corpus.vectors, vector, 5, "COSINE")
        assert [hit["distance"] for hit in hits] == pytest.approx(scores[0].tolist(), abs=1e-5)
        title = next(paper.title for paper in papers() if paper.id == hits[0]["id"])
        assert hits[0]["entity"]["title"] == title
    # With a filter: the best of those that fulfil it, not those of the best that fulfil it.
    tagged = np.array(["BERT" in paper.tags for paper in papers()])
    hits = lesson.search(stored, corpus, lesson.QUESTIONS[0], 'ARRAY_CONTAINS(tags, "BERT")')
    vector = corpus.encoder.encode_queries(lesson.QUESTIONS[:1])
    among = np.flatnonzero(tagged)[exact_search(corpus.vectors[tagged], vector, 5)[0][0]]
    assert [hit["id"] for hit in hits] == [IDS[row] for row in among]


def test_filters_equal_python(lesson: ModuleType, stored: MilvusClient, corpus: object) -> None:
    found = lesson.use_filters(stored, corpus)
    assert len(found) == len(lesson.FILTERS)
    for condition, ids, meant in found:
        assert ids == meant, condition
        assert 0 < len(ids) < len(IDS), condition


def test_reads(lesson: ModuleType, stored: MilvusClient) -> None:
    by_id, *pages = lesson.read(stored).values()
    assert sorted(by_id) == [3, 7]
    of_2016 = [paper.id for paper in papers() if paper.published.year == 2016]
    assert [len(page) for page in pages] == [10, 10, 5]
    assert sorted(number for page in pages for number in page) == of_2016


def test_upsert_and_delete(lesson: ModuleType, stored: MilvusClient, corpus: object) -> None:
    steps = lesson.change(stored, corpus)
    before_2012 = sum(paper.published.year < 2012 for paper in papers())
    assert [count for _, count, _ in steps] == [314, 314, 312, 312 - before_2012, 314]
    assert [hit == "Bread" for _, _, hit in steps] == [False, True, False, False, False]
    assert steps[-1][2] == steps[0][2]
    (paper,) = stored.get(lesson.COLLECTION, ids=[7], output_fields=["title", "tags"])
    assert (paper["title"], tuple(paper["tags"])) == (papers()[7].title, papers()[7].tags)


def test_metrics_and_ranges(lesson: ModuleType, client: MilvusClient, corpus: object) -> None:
    found = lesson.compare_metrics(client, corpus)
    question = corpus.encoder.encode_queries(lesson.QUESTIONS[:1])
    unit = {metric: [hit["id"] for hit in hits] for metric, (hits, _) in found.items()}
    assert unit["COSINE"] == unit["IP"] == unit["L2"]
    assert unit["COSINE"] == exact_ids(corpus.vectors, question, "COSINE")
    scores = {m: np.array([hit["distance"] for hit in hits]) for m, (hits, _) in found.items()}
    assert scores["IP"] == pytest.approx(scores["COSINE"], abs=1e-5)
    assert scores["L2"] == pytest.approx(2 - 2 * scores["COSINE"], abs=1e-5)
    # Other lengths: each metric by itself is right, and two of the rankings have changed.
    lengths = np.random.default_rng(0).uniform(0.5, 2, len(IDS)).astype(np.float32)
    stretched = corpus.vectors * lengths[:, None]
    other = {m: [hit["id"] - lesson.STRETCHED for hit in hits] for m, (_, hits) in found.items()}
    for metric in lesson.METRICS:
        assert other[metric] == exact_ids(stretched, question, metric)
    assert other["COSINE"] == unit["COSINE"]
    assert other["IP"] != unit["IP"]
    assert other["L2"] != unit["L2"]

    ranges = lesson.search_range(client, corpus)
    for reads, ids, exact in ranges:
        assert ids == exact, reads
    (_, cosine, _), (_, l2, _) = ranges
    assert cosine == l2  # 0.2 < score <= 0.4 is 1.2 <= distance < 1.6
    assert 10 < len(cosine) < len(IDS)


def test_consistency_levels(
    lesson: ModuleType, milvus: Milvus, stored: MilvusClient, corpus: object
) -> None:
    writes = 6
    levels = {level.name: level for level in lesson.measure_levels(stored, corpus, writes)}
    assert list(levels) == ["Strong", "Session", "Bounded", "Eventually"]
    assert levels["Strong"].found == levels["Session"].found == writes
    assert all(level.found_later == writes for level in levels.values())
    assert all(level.seconds > 0 and level.seconds_later > 0 for level in levels.values())
    if milvus.can("consistency_levels"):
        assert levels["Eventually"].found < writes
    else:
        assert levels["Eventually"].found == levels["Bounded"].found == writes
    assert lesson.count(stored) == len(IDS)  # what was written is deleted


def test_the_search_is_good(lesson: ModuleType, stored: MilvusClient, corpus: object) -> None:
    result = lesson.rate(stored, corpus)
    assert result.mean >= 0.47
    queries = paper_queries()
    vectors = corpus.encoder.encode_queries([query.query for query in queries])
    rows, _ = exact_search(corpus.vectors, vectors, 10)
    exact = [
        ndcg_at([IDS[row] for row in found], query.relevant)
        for found, query in zip(rows, queries, strict=True)
    ]
    assert result.mean == pytest.approx(np.mean(exact), abs=0.002)  # ties may fall otherwise
    assert result.low < result.mean < result.high
