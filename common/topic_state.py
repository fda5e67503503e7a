"""What a collection should hold after all changes of a topic, and whether it does.

The topic is read here on its own, one message after the other, and not by the code under test.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from common.kafka_topics import read_topic
from common.row_counts import count_now

from pymilvus import MilvusClient

PAGE, MOST = 5_000, 16_384  # keys of one query; rows that Milvus returns at most


@dataclass(frozen=True)
class Differences:
    """How a collection differs from the final state of a topic, in rows.

    Attributes:
        expected: rows that should be there.
        lost: should be there and are not.
        left_over: should have been deleted.
        stale: hold an older version.
        copies: further rows under a key that is there already.
    """

    expected: int
    lost: int
    left_over: int
    stale: int
    copies: int

    @property
    def none(self) -> bool:
        """Whether the collection equals the final state exactly."""
        return not (self.lost or self.left_over or self.stale or self.copies)


def final_versions(config: Mapping, topic: str, poisoned: Collection[int] = ()) -> dict[int, int]:
    """From each id to its version after all messages of a topic, without the poisoned ids."""
    versions: dict[int, int] = {}
    for message, _ in read_topic(config, topic):
        if message.key is None or int(message.key) in poisoned:
            continue
        content = json.loads(message.value)
        if content["op"] == "upsert":
            versions[content["row"]["id"]] = content["row"]["version"]
        else:
            versions.pop(content["id"], None)
    return versions


def differences(
    client: MilvusClient, collection: str, expected: Mapping[int, int], *, timeout: float = 60.0
) -> Differences:
    """Compare the ids and versions of all rows of a loaded collection with what is expected."""
    held: dict[int, int] = {}
    end = max(expected, default=0) + 1
    # By ranges and not by query_iterator(), which is not Strong on an old server: it reads as of
    # the client's clock and may not see what was acknowledged just now.
    pages = [f"id >= {first} and id < {min(first + PAGE, end)}" for first in range(0, end, PAGE)]
    for page in [*pages, f"id < 0 or id >= {end}"]:
        options = {"limit": MOST, "consistency_level": "Strong", "timeout": timeout}
        rows = client.query(collection, filter=page, output_fields=["id", "version"], **options)
        held.update({row["id"]: row["version"] for row in rows})
    return Differences(
        expected=len(expected),
        lost=len(expected.keys() - held.keys()),
        left_over=len(held.keys() - expected.keys()),
        stale=sum(held[id] != expected[id] for id in held.keys() & expected.keys()),
        copies=count_now(client, collection, timeout=timeout) - len(held),
    )
