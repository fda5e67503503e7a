"""What 03_partitions shows is what the rows and exact arithmetic say."""

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from common.capabilities import is_local_server
from common.connection import Milvus
from common.filters import where
from common.labelled_rows import LabelledRows
from common.workspace import workspace

import numpy as np
import pytest
from pymilvus import MilvusClient

FEATURES = ("count_in_partition", "load_partitions")


@dataclass(frozen=True)
class Stored:
    """A Milvus that has the rows in all three layouts, and what the first sections returned."""

    milvus: Milvus
    client: MilvusClient
    rows: LabelledRows
    partitions: dict[str, list[str]]
    numbers: dict[str, list[int]]


@pytest.fixture(scope="module")
def stored(lesson: ModuleType, session_milvus: Milvus) -> Iterator[Stored]:
    """Made once for each engine: loading takes seconds on a server."""
    client, rows = session_milvus.client, lesson.make_rows(1_203, 16, 4, 40, 8)
    with workspace(client, *lesson.NAMES):
        partitions = lesson.lay_out_all(client, rows)
        numbers = lesson.count_rows(session_milvus, rows)
        yield Stored(session_milvus, client, rows, partitions, numbers)


def exact_ids(rows: LabelledRows, query: int, wanted: np.ndarray, k: int = 10) -> list[int]:
    """The nearest of the wanted rows, by the cosines of unit vectors."""
    cosines = rows.vectors.astype(np.float64) @ rows.queries[query].astype(np.float64)
    return np.argsort(np.where(wanted, -cosines, np.inf))[: min(k, wanted.sum())].tolist()


def ids_in(client: MilvusClient, name: str, condition: str = "id >= 0", **where_to) -> set[int]:
    options = {"output_fields": ["id"], "limit": 10_000, "consistency_level": "Strong"}
    return {row["id"] for row in client.query(name, filter=condition, **options, **where_to)}


# These come first: they take the names of the collections that the tests below keep.


def test_passes_as_a_process(
    passes_as_a_process: Callable[..., str], milvus: Milvus, tmp_path: Path
) -> None:
    printed = passes_as_a_process("--quick")
    titles = [line.split(".")[0] for line in printed.splitlines() if line.endswith("───")]
    assert [title for title in titles if title.isdigit()] == [str(n) for n in range(1, 10)]
    assert printed.count("not run:") == sum(not milvus.can(feature) for feature in FEATURES)
    assert "9 of these 9 gave exactly" in printed
    chart = tmp_path / "out" / "step02_03_partitions.png"
    assert chart.read_bytes().startswith(b"\x89PNG")


def test_ctrl_c_leaves_nothing_behind(check_ctrl_c: Callable[[str], None]) -> None:
    check_ctrl_c("5.")  # its collections are there by then


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--rows", "99"), "argument --rows: '99' is not a whole number of 100 or more"),
        (("--months", "2"), "argument --months: '2' is not"),
        (("--rows", "500", "--tenants", "501"), "--tenants and --months are at most --rows"),
    ],
)
def test_silly_options_are_refused(
    run_script: Callable[..., subprocess.CompletedProcess], options: tuple[str, ...], message: str
) -> None:
    done = run_script(*options, uri="http://localhost:1")  # where nothing listens
    assert done.returncode == 2
    assert message in done.stderr


def test_each_row_is_in_the_partition_of_its_layout(lesson: ModuleType, stored: Stored) -> None:
    rows, everything = stored.rows, set(range(1_203))
    assert rows.values("month") == ["m2026_01", "m2026_02", "m2026_03", "m2026_04"]
    for field in ("month", "category"):
        name = lesson.LAYOUTS[field]
        assert set(stored.partitions[name]) == {"_default", *rows.values(field)}
        for value in rows.values(field):
            there = ids_in(stored.client, name, partition_names=[value])
            assert there == set(np.flatnonzero(rows.labels[field] == value)), value
        assert ids_in(stored.client, name) == everything
    assert ids_in(stored.client, lesson.TENANT) == everything
    made_by_key = [name for name in stored.partitions[lesson.TENANT] if name != "_default"]
    assert len(made_by_key) == lesson.NUM_PARTITIONS
    about = stored.client.describe_collection(lesson.TENANT)["fields"]
    assert [field["name"] for field in about if field.get("is_partition_key")] == ["tenant"]


def test_counts(stored: Stored) -> None:
    for month, (before, after, there, by_filter) in stored.numbers.items():
        here = np.count_nonzero(stored.rows.labels["month"] == month)
        assert after == by_filter == here
        assert before in (0, here)  # a server may have flushed by itself
        counts_one = stored.milvus.can("count_in_partition")
        assert there == (here if counts_one else len(stored.rows))


def test_search_in_parts_equals_exact_search(lesson: ModuleType, stored: Stored) -> None:
    outcomes = lesson.search_months(stored.client, stored.rows)
    sizes = [(one.name, one.rows) for one in outcomes]
    month = {m: np.count_nonzero(stored.rows.labels["month"] == m) for m in stored.numbers}
    one, two, four = month["m2026_04"], month["m2026_04"] + month["m2026_03"], 1_203
    parts = [(how, n) for n in (one, two, four) for how in ("partition_names", "filter")]
    assert sizes == [("unrestricted", 1_203), *parts]
    assert [(one.recall, one.strays) for one in outcomes] == [(1, 0)] * 7
    # The same again, without the code that judged it.
    for months in (["m2026_04"], ["m2026_01", "m2026_03"], list(stored.numbers)):
        wanted = np.isin(stored.rows.labels["month"], months)
        for where_to in (
            {"partition_names": months},
            {"filter": where("month in {months}", months=months)},
        ):
            for query in range(8):
                vector = stored.rows.queries[query : query + 1]
                found = lesson.ask(stored.client, lesson.MONTH, vector, **where_to)
                assert found == exact_ids(stored.rows, query, wanted)


def test_layouts_give_the_same_answers(lesson: ModuleType, stored: Stored) -> None:
    found = lesson.compare_layouts(stored.client, stored.rows)
    labels = stored.rows.labels
    for field, value in (("month", "m2026_04"), ("category", "books"), ("tenant", lesson.ODD_NAME)):
        for layout in lesson.LAYOUTS:
            one = found[field, layout]
            assert (one.recall, one.strays) == (1, 0), (field, layout)
            assert one.rows == np.count_nonzero(labels[field] == value)
            by_hand = layout == field != "tenant"
            assert one.name == ("partition_names" if by_hand else "filter")
    assert len(found) == 9


def test_tenants_are_kept_apart_by_their_filter(lesson: ModuleType, stored: Stored) -> None:
    client, rows = stored.client, stored.rows
    seen = lesson.keep_apart(client, rows)
    assert sum(seen["sizes"]) == len(rows)
    assert sum(size > 0 for size in seen["sizes"]) > lesson.NUM_PARTITIONS / 2
    assert [(one.recall, one.strays) for one in seen["own"]] == [(1, 0)] * len(seen["own"])
    mine = rows.labels["tenant"] == lesson.ODD_NAME
    nearest = exact_ids(rows, 0, np.full(len(rows), True))
    assert seen["others"] == sum(not mine[number] for number in nearest) > 0
    assert seen["leaked"] == [len(rows), 0]
    for name in rows.values("tenant"):
        own = ids_in(client, lesson.TENANT, where("tenant == {name}", name=name))
        assert own == set(np.flatnonzero(rows.labels["tenant"] == name)), name


def test_what_goes_wrong(lesson: ModuleType, stored: Stored) -> None:
    (missing, hyphen, by_hand), copies = lesson.go_wrong(stored.client, stored.rows)
    assert "partition" in by_hand.message
    if stored.milvus.kind == "lite":
        assert (missing, hyphen, copies) == (None, None, 1)
        query = stored.rows.queries[:1]
        assert lesson.ask(stored.client, lesson.MONTH, query, partition_names=["m1999_01"]) == []
    else:
        assert "m1999_01 not found" in missing.message
        assert "2026-01" in hyphen.message
    if is_local_server(stored.milvus.version):
        assert copies == 2
    assert ids_in(stored.client, lesson.MONTH) == set(range(1_203))


def test_release_and_load(lesson: ModuleType, stored: Stored) -> None:
    seen = lesson.release_and_load(stored.milvus, stored.rows)
    if not stored.milvus.can("load_partitions"):
        assert seen == {}
        return
    latest = np.count_nonzero(stored.rows.labels["month"] == "m2026_04")
    assert seen["states"] == ["NotLoad", "Loaded"]
    assert "not loaded" in seen["error"].message
    assert (seen["rows"], seen["left"]) == (1_203, 1_203 - latest)
    assert ids_in(stored.client, lesson.MONTH) == set(range(1_203))


def test_drop_and_delete(lesson: ModuleType, stored: Stored, full: bool) -> None:
    """Last, since the months are gone after it."""
    client, month = stored.client, stored.rows.labels["month"]
    dropped, deleted = (np.count_nonzero(month == m) for m in ("m2026_01", "m2026_02"))
    steps = lesson.drop_and_delete(stored.milvus, stored.rows)
    left = 1_203 - dropped - deleted
    released = [1_203 - dropped] if stored.milvus.can("load_partitions") else []
    counted = [count for _, _, count, _ in steps]
    assert counted == [1_203, *released, 1_203 - dropped, left, left]
    stored_after = {what.split()[0]: stored for what, _, _, stored in steps}
    assert stored_after["nothing"] == 1_203
    # Milvus Lite subtracts what is deleted, a server does so after a compaction; and the
    # statistics of a server may learn of the drop a moment later.
    lite = stored.milvus.kind == "lite"
    marked, late = (0, 0) if lite else (deleted, dropped)
    assert stored_after["drop"] in (1_203 - dropped, 1_203 - dropped + late)
    assert stored_after["delete"] in (left + marked, left + marked + late)
    assert not client.has_partition(lesson.MONTH, "m2026_01")
    assert client.has_partition(lesson.MONTH, "m2026_02")
    kept = np.isin(month, ["m2026_03", "m2026_04"])
    assert ids_in(client, lesson.MONTH) == set(np.flatnonzero(kept))
    query = stored.rows.queries[:1]
    assert lesson.ask(client, lesson.MONTH, query) == exact_ids(stored.rows, 0, kept)
    counted, stale = lesson.wait_for_compaction(client, 120 if full else 0)
    assert counted == left
    # Two more are those of the test of what goes wrong, where a server keeps them.
    assert stale == 0 if full else 0 <= stale <= marked + late + 2
