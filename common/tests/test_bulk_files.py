"""Files for a bulk import: written by pymilvus, and every change in them is found."""

import logging
from pathlib import Path

from common.bulk_files import (
    BucketError,
    bulk_writer_missing,
    different_rows,
    rows_in,
    upload,
    write_files,
)

import numpy as np
import pyarrow.parquet as pq
import pytest
from pymilvus import DataType, MilvusClient


@pytest.fixture
def rows() -> list[dict]:
    vectors = np.random.default_rng(0).standard_normal((500, 8)).astype(np.float32)
    return [{"id": n, "name": f"이름 {n}", "vector": v} for n, v in enumerate(vectors)]


@pytest.fixture
def files(rows: list[dict], tmp_path: Path) -> list[Path]:
    assert bulk_writer_missing() == ""
    schema = MilvusClient.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("name", DataType.VARCHAR, max_length=32)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=8)
    return write_files(schema, rows, tmp_path)


def test_what_is_read_back_is_what_was_written(rows: list[dict], files: list[Path]) -> None:
    assert len(files) >= 2
    assert rows_in(files) == 500
    assert different_rows(files, rows) == []
    assert not any(type(h) is logging.StreamHandler for h in logging.getLogger().handlers)


def test_every_difference_is_found(rows: list[dict], files: list[Path]) -> None:
    changed = [dict(row) for row in rows]
    changed[3]["name"] = "other"
    changed[5]["vector"] = np.nextafter(rows[5]["vector"], np.float32(9))
    assert different_rows(files, changed) == [3, 5]
    assert different_rows(files, rows[:-1]) == [499]  # never written
    assert different_rows(files, [*rows, {**rows[0], "id": 900}]) == [900]  # missing
    assert different_rows([*files, files[0]], rows) != []  # twice there
    table = pq.read_table(files[0])
    pq.write_table(table.drop_columns(["name"]), files[0])
    assert len(different_rows(files, rows)) == table.num_rows


@pytest.mark.parametrize(
    "bucket", ["nowhere", "http://host:9000", "ftp://host/bucket", "http:///b"]
)
def test_what_is_no_bucket_is_refused(bucket: str, files: list[Path]) -> None:
    with pytest.raises(BucketError, match="a bucket looks like"):
        upload(files, bucket, "folder")
