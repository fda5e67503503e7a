"""What 03_collections shows is what Milvus does."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from common.capabilities import is_local_server
from common.connection import Milvus, connect

import pytest
from pymilvus import MilvusClient, MilvusException

RED, INDIGO = [255, 0, 0], [75, 0, 130]


def test_passes_as_a_process(passes_as_a_process: Callable[..., str], milvus: Milvus) -> None:
    printed = passes_as_a_process("--quick")
    titles = [line.split(" ─")[0] for line in printed.splitlines() if line[:1].isdigit()]
    assert [title.split(".")[0] for title in titles] == [str(n) for n in range(1, 13)]
    left_out = [line.split(":")[1].strip() for line in printed.splitlines() if "not run:" in line]
    features = ("ttl", "add_collection_field", "truncate_collection", "use_database")
    assert len(left_out) == sum(not milvus.can(feature) for feature in features)


def test_ctrl_c_leaves_nothing_behind(check_ctrl_c: Callable[[str], None]) -> None:
    check_ctrl_c("9.")  # its collections are there by then


def test_describe_tells_about_your_own_collection_and_keeps_it(
    run_script: Callable[..., subprocess.CompletedProcess], engine: str, tmp_path: Path
) -> None:
    uri = str(tmp_path / "own.db") if engine.endswith(".db") else engine
    name = "test_03_own"
    with connect(uri) as milvus:
        milvus.client.create_collection(name, dimension=5, metric_type="IP", auto_id=True)
    try:
        done = run_script("--describe", name, uri=uri)
        assert done.returncode == 0, done.stderr
        rows = [line.split() for line in done.stdout.splitlines()]
        assert ["auto_id", "yes"] in rows
        assert ["vector", "FLOAT_VECTOR", "dim", "5"] in rows
        assert ["index", "AUTOINDEX", "IP"] in rows
        assert "1. Quick set-up" not in done.stdout
        done = run_script("--describe", name, "no_such", uri=uri)
        assert done.returncode == 2
        assert done.stderr.endswith("has no collection no_such\n")
    finally:
        with connect(uri) as milvus:
            assert milvus.client.has_collection(name)
            milvus.client.drop_collection(name)


def test_the_two_ways_to_create_differ(lesson: ModuleType, client: MilvusClient) -> None:
    lesson.quick_setup(client)
    lesson.explicit_schema(client)
    made = lesson.describe(client, lesson.QUICK, lesson.COLLECTION)
    assert made["fields"][0].splitlines() == ["id INT64", "vector FLOAT_VECTOR dim 3", "$meta JSON"]
    assert [line.split()[:2] for line in made["fields"][1].splitlines()] == [
        ["id", "VARCHAR"],
        ["hex", "VARCHAR"],
        ["rgb", "FLOAT_VECTOR"],
    ]
    assert made["auto_id"] == ["no", "no"]
    assert made["dynamic field"] == ["yes", "no"]
    assert made["index"] == ["AUTOINDEX COSINE", "HNSW L2"]
    assert made["consistency level"][1] == "Strong"
    assert made["load state"] == ["Loaded", "Loaded"]
    # To COSINE the two reds are one, and L2 tells them apart.
    quick, explicit = [], []
    for name, color, distance in lesson.compare(client):
        (quick if name == lesson.QUICK else explicit).append((color, distance))
    assert {color for color, _ in quick} == {"maroon", "red"}
    assert [distance for _, distance in quick] == pytest.approx([1, 1])
    assert explicit == [("maroon", 4.0), ("red", 125.0**2)]


def test_statistics_and_load_state(lesson: ModuleType, milvus: Milvus) -> None:
    client = milvus.client
    lesson.explicit_schema(client)
    rows = lesson.count_rows(client)
    total = len(lesson.COLORS)
    assert [counted for _, _, counted in rows] == [total, total, total - 1]
    statistics = [row_count for _, row_count, _ in rows]
    if milvus.kind == "lite":
        assert statistics == [total, total, total - 1]
    elif is_local_server(milvus.version):
        assert statistics == [0, total, total]

    states, error = lesson.release_and_load(client)
    assert states == ["Loaded", "NotLoad", "Loaded"]
    assert isinstance(error, MilvusException)
    assert "not loaded" in error.message or "released" in error.message
    assert lesson.nearest(client, lesson.COLLECTION, RED) == "red"


def test_rename_and_alias(lesson: ModuleType, client: MilvusClient) -> None:
    lesson.explicit_schema(client)
    lesson.rename(client)
    assert client.has_collection(lesson.BLUE)
    assert not client.has_collection(lesson.COLLECTION)
    answers = lesson.switch_alias(client)
    assert answers == [(lesson.BLUE, "yellow"), (lesson.GREEN, "orange")]
    # What an alias hides from the application is still there.
    assert lesson.nearest(client, lesson.BLUE, lesson.TANGERINE) == "yellow"
    # Dropped with a thought or without one: nothing is left, the alias neither.
    lesson.drop(client)
    assert not any(name.startswith(lesson.COLLECTION) for name in client.list_collections())
    with pytest.raises(MilvusException, match=r"not found|does not exist"):
        client.describe_alias(lesson.ALIAS)


def test_ttl_is_kept_and_works_where_it_can(lesson: ModuleType, milvus: Milvus) -> None:
    lesson.quick_setup(milvus.client)
    kept, rows = lesson.expire(milvus)
    assert kept == "1"
    assert rows == (0 if milvus.can("ttl") else None)


def test_change_while_loaded(lesson: ModuleType, milvus: Milvus) -> None:
    lesson.explicit_schema(milvus.client, lesson.BLUE)
    seen = lesson.change_while_loaded(milvus)
    expected: dict[str, object] = {}
    if milvus.can("add_collection_field"):
        expected["old row"] = {"id": "red", "warm": None}
    if milvus.can("truncate_collection"):
        expected["truncated"] = (len(lesson.COLORS), 0)
    assert seen == expected


def test_databases_keep_namesakes_apart(lesson: ModuleType, milvus: Milvus) -> None:
    lesson.explicit_schema(milvus.client, lesson.GREEN, {"red": RED})
    seen = lesson.two_databases(milvus)
    assert seen["nearest"] == ["red", "indigo"]
    assert "not empty" in seen["refused"].message
    assert seen.get("moved") == ("indigo" if milvus.can("use_database") else None)
    # The client of the lesson has not moved, and the database is gone.
    assert lesson.nearest(milvus.client, lesson.GREEN, INDIGO) == "red"
    assert lesson.DATABASE not in milvus.client.list_databases()
