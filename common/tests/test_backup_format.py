from pathlib import Path

from common.backup import chain_of
from common.backup_format import (
    FORMAT,
    BackupDamaged,
    BackupRefused,
    Manifest,
    arrow_schema,
    encode_part,
    read_manifest,
    to_batch,
    to_rows,
    write_manifest,
)
from common.object_storage import Storage, StorageError, open_storage
from common.row_digest import row_digests

import ml_dtypes
import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

# What no Milvus of the tests holds too: as pymilvus gives it, and as it takes it.
HALF = np.array([1.5, -2.25], np.float16)
BRAIN = np.array([1.5, -2.0], ml_dtypes.bfloat16)
FIELDS = {
    "id": ("INT64", {}, 1, 1),
    "float16": ("FLOAT16_VECTOR", {"dim": 2}, [HALF.tobytes()], HALF),
    "bfloat16": ("BFLOAT16_VECTOR", {"dim": 2}, [BRAIN.tobytes()], BRAIN.tobytes()),
    "int8": ("INT8_VECTOR", {"dim": 2}, [b"\x01\xff"], np.array([1, -1], np.int8)),
    "binary": ("BINARY_VECTOR", {"dim": 16}, [b"\x01\x80"], b"\x01\x80"),
    "sparse": ("SPARSE_FLOAT_VECTOR", {}, {7: 0.5, 2: 1.0}, {2: 1.0, 7: 0.5}),
    "json": ("JSON", {}, {"b": [1, None], "a": 2**60}, {"a": 2**60, "b": [1, None]}),
    "text": ("TEXT", {}, "긴 글", "긴 글"),
    "nothing": ("FLOAT_VECTOR", {"dim": 2}, None, None),
}


def description(**fields: tuple) -> dict:
    told = [
        {"name": name, "type": kind, "params": params} for name, (kind, params) in fields.items()
    ]
    return {"fields": told, "structs": [], "enable_dynamic_field": True, "collection": "x"}


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return open_storage(tmp_path)


def test_types_go_there_and_back():
    told = description(**{name: (kind, params) for name, (kind, params, *_) in FIELDS.items()})
    row = {name: value for name, (*_, value, _) in FIELDS.items()} | {"extra": [1, {"b": "글"}]}
    schema = arrow_schema(told)
    batch = to_batch([row], told, schema)
    file = pq.ParquetFile(pa.BufferReader(encode_part([batch])))
    (read,) = file.iter_batches(10)
    assert row_digests(read) == row_digests(batch)
    (back,) = to_rows(read, told)
    for name, (*_, wanted) in FIELDS.items():
        assert type(back[name]) is type(wanted), name
        assert np.array_equal(back[name], wanted) if name != "nothing" else back[name] is None
    assert back["extra"] == row["extra"]
    assert back.keys() == row.keys()


def test_what_cannot_be_held_is_refused_by_name():
    with pytest.raises(BackupRefused, match="'strange' is of type MOL"):
        arrow_schema(description(strange=("MOL", {})))
    told = description(id=("INT64", {})) | {"structs": ["pages"]}
    with pytest.raises(BackupRefused, match="'pages' is an ARRAY of STRUCT"):
        arrow_schema(told)


def test_a_manifest_goes_there_and_back(storage: Storage):
    manifest = Manifest("one", "Milvus", "2026-01-01", description(id=("INT64", {})), mark=5)
    write_manifest(storage, manifest)
    assert read_manifest(storage, "one") == manifest
    assert not list(Path(storage.root).rglob("*.unfinished"))


def test_a_newer_or_changed_manifest_is_refused(storage: Storage):
    manifest = Manifest("one", "Milvus", "2026-01-01", description(id=("INT64", {})))
    write_manifest(storage, manifest)
    path = Path(storage.root) / "one" / "manifest.json"
    content = orjson.loads(path.read_bytes())
    for change, message in (
        ({"format": FORMAT + 1, "unknown": 1}, "newer than this program"),
        ({"rows_of_somebody": 1}, "does not match its checksum"),
        ({"format": None}, "does not say its format"),
    ):
        path.write_bytes(orjson.dumps(content | change))
        with pytest.raises(BackupDamaged, match=message):
            read_manifest(storage, "one")
    path.write_text("{")
    with pytest.raises(BackupDamaged, match="no JSON"):
        read_manifest(storage, "one")


def test_a_chain_without_its_base_is_refused(storage: Storage):
    told = description(id=("INT64", {}))
    base = Manifest("base", "Milvus", "2026-01-01", told, digest="0a")
    top = Manifest("top", "Milvus", "2026-01-02", told, base="base", base_digest="0a")
    write_manifest(storage, top)
    with pytest.raises(BackupDamaged, match=r"top builds on base: .*missing"):
        chain_of(storage, "top")
    write_manifest(storage, base)
    assert chain_of(storage, "top") == [base, top]
    write_manifest(storage, Manifest("base", "Milvus", "2026-01-01", told, digest="0b"))
    with pytest.raises(BackupDamaged, match="not the backup on which top was made"):
        chain_of(storage, "top")


@pytest.mark.parametrize("location", ["ftp://host/x", "", "s3://bucket?nonsense=1"])
def test_places_that_are_none(location: str):
    with pytest.raises(StorageError):
        open_storage(location)


def test_a_folder_stores_whole_files(storage: Storage, tmp_path: Path):
    storage.write("a/b.bin", b"one")
    storage.write("a/b.bin", b"three")
    assert (storage.read("a/b.bin"), storage.size("a/b.bin")) == (b"three", 5)
    assert storage.folders() == ["a"]
    with pytest.raises(FileNotFoundError, match=r"none\.bin is missing"):
        storage.read("a/none.bin")
    storage.remove("a/b.bin")
    storage.remove("a/b.bin")
    assert storage.size("a/b.bin") is None
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="is a file"):
        open_storage(tmp_path / "file")
    assert open_storage(tmp_path / "later").folders() == []
