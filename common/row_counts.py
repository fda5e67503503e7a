"""How many rows there are: counted, and as the statistics have it."""

from collections.abc import Sequence

from pymilvus import MilvusClient


def count_now(
    client: MilvusClient,
    collection: str,
    condition: str = "",
    partitions: Sequence[str] = (),
    *,
    timeout: float = 60.0,
) -> int:
    """Count the rows with `count(*)` under Strong consistency: every write before it is seen.

    A server counts what is loaded. Ask `milvus.can("count_in_partition")` before naming
    partitions: Milvus Lite counts all of them.

    Args:
        client: any.
        collection: its name; it is loaded.
        condition: a filter; all rows without one.
        partitions: names; all without any.
        timeout: seconds.
    """
    (row,) = client.query(
        collection,
        filter=condition,
        output_fields=["count(*)"],
        partition_names=list(partitions) or None,
        consistency_level="Strong",
        timeout=timeout,
    )
    return row["count(*)"]


def rows_stored(
    client: MilvusClient, collection: str, partition: str = "", *, timeout: float = 60.0
) -> int:
    """The `row_count` in the statistics of a collection, or of one of its partitions.

    A server knows flushed rows only, and counts deleted rows until a compaction has removed them.
    """
    if partition:
        return client.get_partition_stats(collection, partition, timeout=timeout)["row_count"]
    return client.get_collection_stats(collection, timeout=timeout)["row_count"]
