"""What 01_performance shows is measured, and every way stores and finds the same."""

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

from common import performance_options as sizing
from common.connection import Milvus
from common.index_building import build_indexes, store_vectors
from common.local_server import free_ports
from common.performance_trials import gain_of, in_rounds, timed
from common.query_cache import RedisStore, StoreFailed
from common.row_counts import count_now
from common.vector_sets import VectorSet, vector_set

import pytest
from pymilvus import DataType, MilvusClient

ROWS, DIMENSION = 2_000, 32
SIZES = sizing.Sizes(ROWS, 1, 1_000, 40, 0)


@pytest.fixture(scope="module")
def sample() -> VectorSet:
    return vector_set(None, rows=ROWS, dimension=DIMENSION, queries=sizing.QUERIES)


@pytest.fixture(scope="module")
def stored(lesson: ModuleType, session_milvus: Milvus, sample: VectorSet) -> Iterator[Milvus]:
    """Milvus with the collection that the lesson searches."""
    store_vectors(session_milvus.client, lesson.MAIN, sample.vectors)
    build_indexes(session_milvus, {lesson.MAIN: lesson.HNSW}, sample.metric)
    yield session_milvus
    session_milvus.client.drop_collection(lesson.MAIN, timeout=60)


@pytest.fixture(scope="module")
def redis_url(
    part: Callable[[str, str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    program, port = part("redis-server", "apt-get install redis-server"), free_ports(1)[0]
    folder = tmp_path_factory.mktemp("redis")
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        url = f"redis://127.0.0.1:{port}/0"
        while True:
            try:
                RedisStore(url, "ready").close()
                break
            except StoreFailed:
                assert process.poll() is None
                time.sleep(0.05)
        yield url
        process.terminate()


def test_passes_as_a_process(
    passes_as_a_process: Callable[..., str], redis_url: str, tmp_path: Path
) -> None:
    printed = passes_as_a_process("--quick", "--redis", redis_url)
    titles = [line.split(".")[0] for line in printed.splitlines() if line.endswith("───")]
    assert [title for title in titles if title.isdigit()] == [str(n) for n in range(1, 11)]
    assert "recall@10" in printed
    assert "1,000 rows in 3 Parquet files; read back, 0 differ." in printed
    assert "not run: memory of load against mmap: --quick" in printed
    chart = tmp_path / "out" / "step04_01_gains.png"
    assert chart.read_bytes().startswith(b"\x89PNG")


def test_ctrl_c_leaves_nothing_behind(check_ctrl_c: Callable[[str], None]) -> None:
    check_ctrl_c("3.")  # its collections are there by then


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rows", "99"], "--rows is 100 or more"),
        (["--dimension", "1"], "--dimension is 2 to 32,768"),
        (["--searches", "19"], "--searches is 20 or more"),
        (["--rounds", "0"], "'0' is not a whole number of 1 or more"),
        (["--callers", "none"], "'none' is not a whole number"),
    ],
)
def test_silly_options_are_refused(
    lesson: ModuleType, options: list[str], message: str, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit) as caught:
        lesson.main(options)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_what_cannot_be_had_is_told(
    run_script: Callable[..., subprocess.CompletedProcess], tmp_path: Path
) -> None:
    done = run_script("--redis", "redis://127.0.0.1:1/0", uri="http://localhost:1")
    assert done.returncode == 2
    assert "no Redis at 127.0.0.1:1" in done.stderr  # before Milvus is asked
    done = run_script("--rows", "10001", uri=str(tmp_path / "script.db"))
    assert done.returncode == 2
    assert "10,001 rows are too many for Milvus Lite" in done.stderr
    assert "Traceback" not in done.stderr


def test_every_way_to_insert_stores_its_rows(
    lesson: ModuleType, client: MilvusClient, sample: VectorSet
) -> None:
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True, auto_id=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIMENSION)
    index_params = client.prepare_index_params()
    index_params.add_index("vector", index_type="FLAT", metric_type="COSINE")
    client.create_collection(lesson.INGEST, schema=schema, index_params=index_params, timeout=60)
    stored = 0
    for way, (work, rows) in lesson.ways_to_insert(client, sample, 1_500).items():
        work()
        stored += rows
        assert count_now(client, lesson.INGEST) == stored, way
        assert rows == (lesson.FEW if way.startswith("1 row") else 1_500)
    (hits,) = client.search(
        lesson.INGEST, data=sample.vectors[7:8], limit=6, consistency_level="Strong", timeout=60,
        output_fields=["id"],
    )  # fmt: skip
    assert [hit["distance"] for hit in hits][:5] == pytest.approx([1] * 5, abs=1e-5)


def test_the_fastest_way_to_insert_is_as_fast_as_any_bare_loop(
    lesson: ModuleType, client: MilvusClient, sample: VectorSet
) -> None:
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True, auto_id=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIMENSION)
    client.create_collection(lesson.INGEST, schema=schema, timeout=60)
    ways = {
        way: timed(*work)
        for way, work in lesson.ways_to_insert(client, sample, ROWS).items()
        if not way.startswith("1 row")
    }
    rows = [{"vector": vector} for vector in sample.vectors]

    def bare(size: int) -> None:
        for start in range(0, ROWS, size):
            client.insert(lesson.INGEST, rows[start : start + size], timeout=60)

    loops = {f"bare {size}": timed(bare, ROWS, size) for size in (500, 1_000, 5_000)}
    for rounds in (5, 15):  # what five rounds leave open on a busy machine, fifteen decide
        rates = in_rounds(ways | loops, rounds)
        best = max(loops, key=lambda loop: rates[loop].median)
        reached = {way: gain_of(rates, way, best).pairs.ratio for way in ways}
        if max(reached.values()) >= 0.95:
            break
    assert max(reached.values()) >= 0.95, reached


def test_clients_and_callers(lesson: ModuleType, stored: Milvus, sample: VectorSet) -> None:
    rates = lesson.ask_at_once(stored, sample, SIZES)
    assert ("2 processes, 4 threads" in rates) == bool(stored.can("several_processes"))
    assert all(spread.median > 0 for spread in rates.values())
    # A connection for each search costs more than the search, on any engine.
    assert gain_of(rates, "one client", "a connection each").pairs.ratio > 1


def test_requests_of_many_queries(lesson: ModuleType, stored: Milvus, sample: VectorSet) -> None:
    rates, same = lesson.ask_in_batches(stored.client, sample, SIZES._replace(rounds=5))
    assert same
    assert gain_of(rates, "requests of 100", "requests of 1").pairs.ratio > 1
    hits = stored.client.search(lesson.MAIN, data=sample.queries[:100], **lesson.SEARCH)
    assert sample.recall([[hit["id"] for hit in found] for found in hits], slice(100)).mean() > 0.95


def test_fields_and_levels(lesson: ModuleType, stored: Milvus, sample: VectorSet) -> None:
    sizes = SIZES._replace(rounds=3)
    rates = lesson.read_fields(stored.client, sample, sizes)
    assert list(rates) == ["all fields", "the text", "the id only"]
    levels = lesson.compare_levels(stored, sample, SIZES)
    if stored.can("consistency_levels"):
        assert gain_of(levels, "Bounded", "Strong").pairs.ratio > 2
    else:
        assert levels == {}


def test_the_cache(
    lesson: ModuleType, stored: Milvus, sample: VectorSet, redis_url: str
) -> None:  # fmt: skip
    redis = RedisStore(redis_url, "lesson")
    rates, reports = lesson.use_cache(stored, sample, SIZES, redis)
    assert list(rates) == ["no cache", "cache in memory", "cache in Redis"]
    nearest = int(sample.exact[0][0, 0])
    for report in reports.values():
        # 40 searches for 20 queries at the most: all but the first of each are found.
        assert 0.5 <= report.hit_rate < 1
        assert report.before == nearest
        assert report.after == ROWS  # the row that was written, at once
        if stored.can("consistency_levels"):
            assert report.hit_rate_after == 0  # Bounded answers are not kept so soon
    assert reports["cache in memory"].hit_rate == reports["cache in Redis"].hit_rate
    assert count_now(stored.client, lesson.MAIN) == ROWS
    redis.close()


def test_micro_batching(lesson: ModuleType, stored: Milvus, sample: VectorSet) -> None:
    rates = lesson.gather_searches(stored, sample, SIZES._replace(searches=200, rounds=3), 50)
    assert gain_of(rates, "SearchBatcher", "AsyncMilvusClient").pairs.ratio > 1.5


def test_what_is_left_out_says_so(
    lesson: ModuleType, stored: Milvus, sample: VectorSet, capsys: pytest.CaptureFixture
) -> None:
    if not stored.can("FLOAT16_VECTOR"):
        assert lesson.halve_vectors(stored, sample, SIZES) == {}
        assert "not run: float16 vectors" in capsys.readouterr().out
    assert lesson.write_bulk_files(stored, sample, SIZES, None) == []
    printed = capsys.readouterr().out
    assert "read back, 0 differ" in printed
    assert "not run: the import of these files" in printed


def test_every_step_of_the_summary_is_measured(lesson: ModuleType) -> None:
    ways = {way for step in sizing.STEPS for way in step}
    source = Path(lesson.__file__).read_text("utf-8")
    names = {"THREADS": lesson.THREADS, "WRITERS": lesson.WRITERS}
    for name, value in names.items():
        source = source.replace(f"{{{name}}}", str(value))
    source = source.replace("{size}", "100") + source.replace("{size}", "1")
    assert [way for way in ways if way not in source] == []
