"""What 04_hybrid_search shows is what Python and exact arithmetic say of the same rows."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

from common import display
from common.connection import Milvus
from common.index_trial import params_told
from common.settings import Settings
from common.shop import Shop, draw_shop, selective_filters
from common.vector_sets import VectorSet, vector_set

import numpy as np
import pytest
from pymilvus import MilvusClient

ROWS = 3_000
SMALL = draw_shop(1_500, 16, queries=1)


@pytest.fixture(scope="module")
def stored(lesson: ModuleType, session_milvus: Milvus) -> Iterator[Milvus]:
    """The Milvus with the products in the shop of the lesson."""
    assert lesson.open_shop(session_milvus, SMALL) == len(SMALL.products)
    yield session_milvus
    session_milvus.client.drop_collection(lesson.SHOP)


def test_passes_as_a_process(passes_as_a_process: Callable[..., str], tmp_path: Path) -> None:
    printed = passes_as_a_process("--quick")
    titles = [line.split(".")[0] for line in printed.splitlines() if line.endswith("───")]
    assert [title for title in titles if title.isdigit()] == [str(n) for n in range(1, 9)]
    assert "17000   17000       17000   yes" in printed
    for name in ("recall", "latency"):
        chart = tmp_path / "out" / f"step02_04_selectivity_{name}.png"
        assert chart.read_bytes().startswith(b"\x89PNG")


def test_ctrl_c_leaves_nothing_behind(check_ctrl_c: Callable[[str], None]) -> None:
    check_ctrl_c("4.")  # the shop is there by then, and its twin is being made


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--rows", "1999"), "--rows is 2000 to 1000000"),
        (("--many", "16384"), "--many is over 16384"),
        (("--ef", "16", "9"), "each --ef 10 or more"),
    ],
)
def test_silly_options_are_refused(
    run_script: Callable[..., subprocess.CompletedProcess], options: tuple[str, ...], message: str
) -> None:
    done = run_script(*options, uri="http://localhost:1")  # where nothing listens
    assert done.returncode == 2
    assert message in done.stderr


def test_every_filter_equals_python(
    lesson: ModuleType, stored: Milvus, capsys: pytest.CaptureFixture[str]
) -> None:
    found = lesson.use_filters(stored, SMALL)
    able = [feature for feature in lesson.FILTERS if stored.can(feature)]
    assert [text for text, _, _ in found] == [t for name in able for t in lesson.FILTERS[name]]
    means = {text: f for filters in lesson.FILTERS.values() for text, f in filters.items()}
    for text, ids, true in found:
        assert ids == true == sorted(p.id for p in SMALL.products if means[text](p)), text
        assert 0 < len(ids) < len(SMALL.products), text
    printed = capsys.readouterr().out
    assert printed.count("not run: ") == len(lesson.FILTERS) - len(able)


def test_a_text_that_poses_as_an_expression_stays_a_text(
    lesson: ModuleType, stored: Milvus, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, quoted, pose = lesson.keep_text(stored, SMALL)
    assert plain[1:] == (1, 1, 1)
    assert quoted[1:] == (None, 1, 1)  # quotation marks in a title: the f-string does not parse
    assert pose[1:] == (len(SMALL.products), 0, 0)  # the f-string gives everything away
    printed = capsys.readouterr().out
    templates = bool(stored.can("filter_templates"))
    assert ("Milvus fills the template itself: 0 products." in printed) is templates
    assert ("not run: templates" in printed) is not templates


def test_scalar_indexes_are_there_and_change_no_answer(
    lesson: ModuleType, stored: Milvus, client: MilvusClient
) -> None:
    indexes = lesson.build_twin(stored, SMALL)
    able = {
        field: [kind for kind in kinds if stored.can(kind.upper())]
        for field, kinds in lesson.SCALAR.items()
    }
    best = {field: kinds[0] for field, kinds in able.items() if kinds}
    assert indexes == {**best, "vector": "FLAT"}
    assert client.list_indexes(lesson.SHOP) == ["vector"]
    effects = lesson.compare_twins(client, SMALL, 2)
    filters = selective_filters(SMALL)
    assert [effect.filter for effect in effects] == [each.name for each in filters]
    for effect, each in zip(effects, filters, strict=True):
        true = {p.id for p in SMALL.products if each.means(p)}
        assert effect.rows == len(true) > 0, each.name
        assert len(effect.seconds.pairs) == 7
        for name in (lesson.SHOP, lesson.INDEXED):
            rows = client.query(name, filter=each.text, output_fields=["id"], timeout=60)
            assert {row["id"] for row in rows} == true, (name, each.name)


@pytest.fixture(scope="module")
def vectors() -> VectorSet:
    return vector_set(None, rows=ROWS, dimension=32, queries=40)


def true_neighbours(data: VectorSet, passing: np.ndarray) -> list[set[int]]:
    """The ten nearest of the rows that pass, by NumPy alone."""
    scores = data.queries @ data.vectors[passing].T
    return [set(passing[np.argsort(-row)[:10]].tolist()) for row in scores]


def test_selectivity(
    lesson: ModuleType,
    milvus: Milvus,
    vectors: VectorSet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(display, "settings", lambda: Settings(out_dir=tmp_path))
    assert lesson.build_graph(milvus, vectors) == ROWS
    index = milvus.client.describe_index(lesson.GRAPH, "vector", timeout=60)
    assert (index["index_type"], index["indexed_rows"]) == ("HNSW", ROWS)
    assert params_told(index) == {"M": 8, "efConstruction": 100}
    points = lesson.try_selectivity(milvus, vectors, [16, 128], 2)
    by_way = {way: [p for p in points if p.way == way] for way in ("ef=16", "ef=128")}
    for way, of_way in by_way.items():
        assert [p.share for p in of_way] == list(lesson.SHARES)
        assert [p.rows for p in of_way] == [round(share * ROWS) for share in lesson.SHARES]
        # The recall of the lesson is that of the neighbours found here, in another way.
        params = {"params": {"ef": int(way.removeprefix("ef="))}}
        for point in of_way[-2:]:
            rows = lesson.effects.ranks(ROWS) < point.rows
            answers = milvus.client.search(
                lesson.GRAPH,
                vectors.queries,
                f"rank < {point.rows}",
                limit=10,
                search_params=params,
                output_fields=["id"],
                timeout=60,
            )
            true = true_neighbours(vectors, np.flatnonzero(rows))
            shares = [
                len(ids & {hit["id"] for hit in hits}) / 10
                for ids, hits in zip(true, answers, strict=True)
            ]
            # A server walks its graph not quite the same way twice.
            assert np.mean(shares) == pytest.approx(point.recall, abs=0.07)
    low, high = ({p.share: p for p in by_way[way]} for way in by_way)
    assert high[1.0].recall >= 0.99
    assert high[1.0].recall >= low[1.0].recall >= 0.85
    assert high[1.0].hits == high[1.0].asked == 10
    if milvus.kind == "lite":
        # A graph alone: the fewer rows pass, the more of them it misses, and it gives fewer hits.
        assert low[0.003].recall < low[0.1].recall < low[1.0].recall
        assert low[0.003].hits < low[0.003].asked
        assert low[0.03].recall < high[0.03].recall
    else:
        # Below 7 % a server compares all rows that pass, whatever ef is.
        for share in (0.001, 0.003, 0.01, 0.03, 0.06):
            assert low[share].recall == high[share].recall == 1.0, share
            assert low[share].hits == low[share].asked
        assert low[0.08].recall < 1.0


def first_of_groups(shop: Shop, field: str, groups: int, size: int) -> list[int]:
    """The best of the best groups, by NumPy alone."""
    chosen: dict[str, list[int]] = {}
    for number in np.argsort(-(shop.vectors @ shop.queries[0])).tolist():
        value = getattr(shop.products[number], field)
        if value in chosen or len(chosen) < groups:
            chosen.setdefault(value, []).append(number)
    return [number for ids in chosen.values() for number in ids[:size]]


def test_grouping(lesson: ModuleType, stored: Milvus, capsys: pytest.CaptureFixture[str]) -> None:
    found = lesson.search_groups(stored, SMALL)
    if not stored.can("group_by"):
        assert found == []
        assert "not run: group_by_field" in capsys.readouterr().out
        return
    one, two, category = found
    for (_, ids, true), size in ((one, 1), (two, 2)):
        assert ids == true == first_of_groups(SMALL, "brand", 5, size)
        brands = [SMALL.products[number].brand for number in ids]
        assert len(set(brands)) == 5
        assert all(brands.count(brand) == size for brand in brands)
    # Milvus Lite groups the 50 nearest only, and these are of few categories.
    _, ids, true = category
    assert true == first_of_groups(SMALL, "category", 5, 1)
    if stored.kind == "lite":
        assert ids == true[: len(ids)]
        assert 1 <= len(ids) < len(true) == 5
    else:
        assert ids == true


def test_range_search_with_a_filter(lesson: ModuleType, stored: Milvus) -> None:
    found = lesson.search_range(stored.client, SMALL)
    scores = SMALL.vectors @ SMALL.queries[0]
    cheap = [product.cents < 30_000 for product in SMALL.products]
    bounds = ((0.5, 1.0), (0.3, 0.5))
    for (reads, ids, true), (low, high) in zip(found, bounds, strict=True):
        inside = (low < scores) & (scores <= high) & np.array(cheap)
        assert set(ids) == set(np.flatnonzero(inside).tolist()), reads
        assert ids == true
        assert [scores[number] for number in ids] == sorted(scores[ids], reverse=True)
        assert len(ids) > 5


def test_iterator_gives_more_than_one_search_may(
    lesson: ModuleType, client: MilvusClient, milvus: Milvus, capsys: pytest.CaptureFixture[str]
) -> None:
    data = vector_set(None, rows=17_000, dimension=8, queries=1)
    found = lesson.iterate(client, data)
    ids, scores = [number for number, _ in found], [score for _, score in found]
    assert sorted(ids) == list(range(17_000))
    assert scores == sorted(scores, reverse=True)
    exact = data.vectors @ data.queries[0]
    assert scores == pytest.approx(exact[ids].tolist(), abs=1e-5)
    printed = capsys.readouterr().out
    if milvus.kind == "lite":
        assert "This Milvus allows it: one search for 16,385 hits." in printed
    else:
        assert "expected error: one search for 16,385 hits" in printed
