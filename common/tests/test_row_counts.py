"""Counted rows and those of the statistics, on each engine."""

from common.connection import Milvus
from common.row_counts import count_now, rows_stored

import numpy as np

NAME = "test_row_counts"


def test_count_and_statistics(milvus: Milvus) -> None:
    client = milvus.client
    client.create_collection(NAME, dimension=4, consistency_level="Eventually", timeout=60)
    client.create_partition(NAME, "part", timeout=60)
    vectors = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    rows = [{"id": number, "vector": vector} for number, vector in enumerate(vectors)]
    client.insert(NAME, rows[:30], timeout=60)
    client.insert(NAME, rows[30:], partition_name="part", timeout=60)
    assert count_now(client, NAME) == 50  # at once, whatever the level of the collection is
    assert count_now(client, NAME, "id < 35") == 35
    assert count_now(client, NAME, "id > 99") == 0
    if milvus.can("count_in_partition"):
        assert count_now(client, NAME, partitions=["part"]) == 20
        assert count_now(client, NAME, "id < 35", ["part"]) == 5
    client.flush(NAME, timeout=60)
    assert rows_stored(client, NAME) == 50
    assert rows_stored(client, NAME, "part") == 20
    client.delete(NAME, ids=[0, 49], timeout=60)
    assert count_now(client, NAME) == 48
    assert rows_stored(client, NAME) == (48 if milvus.kind == "lite" else 50)
