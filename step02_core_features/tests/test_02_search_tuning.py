"""What 02_search_tuning finds is what independent arithmetic says, and what it chooses holds."""

import subprocess
from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import ModuleType, SimpleNamespace

from common.connection import Milvus
from common.datasets import paper_queries, papers
from common.evaluation import ndcg_at
from common.index_trial import params_told
from common.reduction import Pca
from common.tuning import (
    TargetNotReached,
    halves,
    mean_lower_bound,
    smallest_reaching,
    tuning_sample,
)
from common.vector_sets import VectorSet
from common.workspace import workspace

import numpy as np
import pytest

SEEDS = range(20)  # each draws other queries to tune with and others to confirm
TARGET, QUERIES, K = 0.95, 1_000, 10
POOL = 3 * QUERIES  # from which they are drawn


def test_passes_as_a_process(passes_as_a_process: Callable[..., str], tmp_path: Path) -> None:
    printed = passes_as_a_process("--quick")
    titles = [line.split(".")[0] for line in printed.splitlines() if line.endswith("───")]
    assert [title for title in titles if title.isdigit()] == [str(n) for n in range(1, 7)]
    for chart in ("recall_latency", "dimensions"):
        path = tmp_path / "out" / f"step02_02_{chart}.png"
        assert path.read_bytes().startswith(b"\x89PNG")


def test_ctrl_c_leaves_nothing_behind(check_ctrl_c: Callable[[str], None]) -> None:
    check_ctrl_c("2.")  # the collections of section 1 are there by then


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--target", "0.999"], "1,000 queries prove no more"),
        (["--target", "0"], "--target is over 0"),
        (["--rows", "4000"], "'4000' is not a whole number of 5,000 or more"),
        (["--vectors", "few.npy"], "few.npy: it takes 5,000 rows and 600 queries"),
        (["--vectors", "none.npy"], "none.npy: there is no such file"),
    ],
)
def test_silly_options_are_refused(
    run_script: Callable[..., subprocess.CompletedProcess],
    tmp_path: Path,
    arguments: list[str],
    message: str,
) -> None:
    np.save(tmp_path / "few.npy", np.random.default_rng(0).standard_normal((3_000, 4)))
    done = run_script(*arguments, uri="http://localhost:1")  # where nothing listens
    assert done.returncode == 2
    assert message in done.stderr


@pytest.fixture(scope="module")
def built(lesson: ModuleType, session_milvus: Milvus) -> Iterator[SimpleNamespace]:
    """The collections of section 1, fewer of them, with what `build` returned.

    It comes after the tests of the whole script, which would drop these collections as its own.
    """
    sample = tuning_sample(None, rows=5_000, queries=POOL // 2)
    with workspace(session_milvus.client, *lesson.BUILDS, lesson.SCANN):
        measured = lesson.build(session_milvus, sample, lesson.QUICK_BUILDS)
        yield SimpleNamespace(milvus=session_milvus, sample=sample, measured=measured)


@pytest.fixture(scope="module")
def recall_of(lesson: ModuleType, built: SimpleNamespace) -> Callable[..., np.ndarray]:
    """`recall_of(collection, "ef", 32)`: the recall of every query, by sets and sorting."""
    sample: VectorSet = built.sample
    nearest = np.argsort(-(sample.queries @ sample.vectors.T), axis=1)[:, :K].tolist()

    @cache
    def recalls(name: str, parameter: str, value: int) -> np.ndarray:
        options = {"limit": K, "output_fields": ["id"], "timeout": 60}
        params = {"params": {parameter: value}}
        hits = built.milvus.client.search(name, sample.queries, search_params=params, **options)
        found = [{hit["id"] for hit in each} for each in hits]
        pairs = zip(found, nearest, strict=True)
        return np.array([len(ids & set(exact)) / K for ids, exact in pairs])

    return recalls


def test_builds(
    lesson: ModuleType, built: SimpleNamespace, recall_of: Callable[..., np.ndarray]
) -> None:
    coarse, fine, lists = built.measured
    for name, measured in zip(lesson.QUICK_BUILDS, built.measured, strict=True):
        told = built.milvus.client.describe_index(name, "vector")
        assert told["index_type"] == measured.what
        assert params_told(told) == measured.params
        ((parameter, value),) = lesson.COMPARED_WITH[measured.what].items()
        expected = recall_of(name, parameter, value)[lesson.SOME].mean()
        # The local server's first search after a load can differ from later ones in some hits.
        assert measured.recall == pytest.approx(expected, abs=0.01)
        assert measured.seconds > 0
    assert coarse.recall + 0.01 < fine.recall
    assert lists.recall > 0.9


def test_sweep(
    lesson: ModuleType, built: SimpleNamespace, recall_of: Callable[..., np.ndarray]
) -> None:
    measured = lesson.sweep(built.milvus, built.sample, 1)
    swept = {line: [m for m in measured if m.what == line] for line in lesson.SWEPT}
    assert bool(swept["SCANN: reorder_k"]) == bool(built.milvus.can("SCANN"))
    for line, points in swept.items():
        if not points:
            continue
        assert [m.params for m in points] == lesson.SWEPT[line][1]
        shares = [m.recall for m in points]
        assert all(b > a - 0.005 for a, b in pairwise(shares)), line
        assert shares[0] < 0.9
        assert shares[-1] > 0.98
        assert all(m.seconds > 0 and m.alone > 0 for m in points)
    exact = swept["IVF_FLAT: nprobe"][-1]
    assert exact.recall == 1.0  # it looks into every cluster
    sixteen = next(m for m in swept["HNSW: ef"] if m.params == {"ef": 16})
    expected = recall_of(lesson.HNSW, "ef", 16)[lesson.SOME].mean()
    assert sixteen.recall == pytest.approx(expected, abs=0.002)


def test_tune(
    lesson: ModuleType, built: SimpleNamespace, recall_of: Callable[..., np.ndarray]
) -> None:
    found = lesson.tune(built.milvus.client, built.sample, TARGET)
    tuning, held_out = halves(built.sample)
    for name, parameter in ((lesson.HNSW, "ef"), (lesson.IVF, "nprobe")):
        tuned, confirmed = found[name]
        value = tuned.chosen.value
        enough, less = recall_of(name, parameter, value), recall_of(name, parameter, value - 1)
        assert mean_lower_bound(enough[tuning]) >= TARGET
        assert mean_lower_bound(less[tuning]) < TARGET
        assert tuned.queries == POOL // 2
        assert confirmed.mean == pytest.approx(enough[held_out].mean(), abs=0.002)
        assert confirmed.low < confirmed.mean < confirmed.high
    assert found[lesson.HNSW][0].chosen.value > K


def test_the_choice_reaches_the_target_on_queries_it_never_saw(
    lesson: ModuleType, built: SimpleNamespace, recall_of: Callable[..., np.ndarray]
) -> None:
    for name, parameter, low in ((lesson.HNSW, "ef", K), (lesson.IVF, "nprobe", 1)):
        reached, chosen = 0, []
        for seed in SEEDS:
            drawn = np.random.default_rng(seed).permutation(POOL)
            tuning, held_out = drawn[:QUERIES], drawn[QUERIES : 2 * QUERIES]
            tuned = smallest_reaching(
                lambda value, tuning=tuning: recall_of(name, parameter, value)[tuning],  # noqa: B023
                TARGET,
                low,
                lesson.NLIST,
            )
            chosen.append(tuned.chosen.value)
            reached += recall_of(name, parameter, tuned.chosen.value)[held_out].mean() >= TARGET
        assert reached >= 19, (name, chosen)
        # and it is no more than it must be: a good deal less would do in none of the cases
        assert recall_of(name, parameter, int(0.7 * min(chosen))).mean() < TARGET


def test_a_target_out_of_reach_is_an_answer(
    lesson: ModuleType, recall_of: Callable[..., np.ndarray]
) -> None:
    with pytest.raises(TargetNotReached, match="Allow higher values") as error:
        smallest_reaching(lambda value: recall_of(lesson.IVF, "nprobe", value), TARGET, 1, 2)
    assert error.value.best.value == 2
    assert error.value.best.mean == recall_of(lesson.IVF, "nprobe", 2).mean()


def test_batches_and_costs(lesson: ModuleType, built: SimpleNamespace) -> None:
    ratios = lesson.batch(built.milvus.client, built.sample, 32, 3)
    assert list(ratios) == ["10", "100", "1,000"]
    assert ratios["100"].ratio > 1  # a query among 100 takes less than one alone
    assert ratios["1,000"].ratio > 1
    ratios = lesson.costs(built.milvus, built.sample, 8, 1)
    assert all(ratio.lowest > 0 for ratio in ratios.values())
    assert ("Strong consistency" in ratios) == bool(built.milvus.can("consistency_levels"))
    if "Strong consistency" in ratios:
        assert ratios["Strong consistency"].ratio > 1
    assert {"filter keeps 1 %", "limit=1000", "limit=100, and the vectors"} <= set(ratios)


def test_fewer_dimensions(lesson: ModuleType, milvus: Milvus) -> None:
    corpus = lesson.embed_papers()
    rated = lesson.reduce(milvus, corpus, 400, 1)
    right = [rated[f"{dimension} dimensions"] for dimension in (384, 256, 128, 64)]
    assert [each.dimension for each in right] == [384, 256, 128, 64]
    shares = [each.recall for each in right]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] == 1.0
    assert all(a >= b for a, b in zip(shares, (1.0, 0.95, 0.85, 0.7), strict=True))
    assert rated[lesson.SUBTRACTED].recall < 0.7
    assert rated[lesson.SECOND].recall < 0.1
    assert rated[lesson.SECOND].ndcg.mean < 0.1
    assert right[0].difference.mean == 0
    assert rated[lesson.SUBTRACTED].difference.high < 0  # clearly worse
    # 128 dimensions once more, by NumPy alone: projected, compared by angle, judged.
    judged = paper_queries()
    queries = corpus.encoder.encode_queries([query.query for query in judged])
    pca = Pca.fit(corpus.vectors, 128)
    documents, asked = corpus.vectors @ pca.components.T, queries @ pca.components.T
    cosines = (asked @ documents.T) / np.linalg.norm(documents, axis=1)
    ids = [paper.id for paper in papers()]
    ranked = [[ids[row] for row in np.argsort(-each)[:K]] for each in cosines]
    ndcg = [ndcg_at(found, query.relevant) for found, query in zip(ranked, judged, strict=True)]
    assert right[2].ndcg.mean == pytest.approx(np.mean(ndcg), abs=0.002)
    nearest = np.argsort(-(queries @ corpus.vectors.T), axis=1)[:, :K]
    named = [{ids[row] for row in rows} for rows in nearest]
    share = np.mean(
        [len(set(found) & exact) / K for found, exact in zip(ranked, named, strict=True)]
    )
    assert right[2].recall == pytest.approx(share, abs=0.002)
