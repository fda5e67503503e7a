"""One collection spread by the application over several Milvus: the last resort of scaling.

    shards = {"a": milvus_a, "b": milvus_b, "c": milvus_c}
    papers = Sharded(shards, "papers")
    papers.upsert(rows)
    hits = papers.search(vectors, limit=10, output_fields=["title"])
    moved = papers.grow({"d": milvus_d})

A cluster shards by itself: take query nodes first. Several Milvus are for what one cannot be:
regions, one failing without the others, or more rows than one cluster's metadata bears. The price
is that nothing spans them: no consistency level, no transaction, no unique key but by routing.
"""

import heapq
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, TypeVar

from common.display import error_line
from common.key_paging import pages_by_key

import grpc
from pymilvus import MilvusClient, MilvusException

Answer = TypeVar("Answer")
Key = int | str
LARGER_IS_BETTER = {"COSINE": True, "IP": True, "L2": False}
_TIMEOUT = 60.0  # seconds


class ShardError(RuntimeError):
    """Shards did not answer; the message names each with its error.

    Attributes:
        errors: the error of each shard that failed, by its name.
        answered: the names of the shards that did what they were asked to.
    """

    exit_code = 1

    def __init__(self, errors: Mapping[str, Exception], answered: Sequence[str]) -> None:
        self.errors, self.answered = dict(errors), tuple(answered)
        said = "; ".join(f"{name}: {error_line(error)}" for name, error in errors.items())
        done = f"; done on {', '.join(answered)}" if answered else ""
        super().__init__(f"{len(errors)} of {len(errors) + len(answered)} shards: {said}{done}")


def shard_of(key: Key, shards: Iterable[str]) -> str:
    """The shard that a key belongs to: the one whose hash with the key is the largest.

    Rendezvous hashing (Thaler and Ravishankar, 1998): with a shard added, a key moves only to the
    new one, and one in n does; with a shard removed, only its own keys move. BLAKE2b and not
    Python's hash(), which differs from process to process. The order of `shards` does not matter.

    Args:
        key: a primary key; 1 and "1" are different keys.
        shards: names, at least one, none twice.

    Raises:
        TypeError: the key is neither int nor str.
        ValueError: no shards.
    """
    if isinstance(key, bool) or not isinstance(key, int | str):
        raise TypeError(f"a key is an int or a str, not {key!r}")
    kind = "i" if isinstance(key, int) else "s"

    def weight(shard: str) -> tuple[bytes, str]:
        # The name's length keeps ("a", "b:c") and ("a:b", "c") apart.
        text = f"{len(shard)}:{shard}{kind}{key}"
        return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), shard

    try:
        return max(shards, key=weight)
    except ValueError:
        raise ValueError("there is no shard for the key: name at least one") from None


def split_rows(
    rows: Iterable[Mapping[str, Any]], shards: Iterable[str], key: str = "id"
) -> dict[str, list[Mapping[str, Any]]]:
    """The rows of each shard, in their order; shards without rows are left out.

    Raises:
        KeyError: a row has no key.
    """
    names, parts = tuple(shards), defaultdict(list)
    for number, row in enumerate(rows):
        if key not in row:
            raise KeyError(f"row {number} has no {key!r}, by which it would find its shard")
        parts[shard_of(row[key], names)].append(row)
    return dict(parts)


def merge_hits(
    answers: Iterable[Sequence[Mapping[str, Any]]], limit: int, metric: str, key: str = "id"
) -> list[Mapping[str, Any]]:
    """The best hits of all shards, best first: exactly those of one collection with all rows.

    Each answer must hold the best `limit` hits of its shard (with an offset: offset and limit).
    Equal scores are ordered by key, so that the result does not depend on who answered first. A
    row that two shards hold, as while it moves, counts once.

    Args:
        answers: the hits of each shard for one query, best first.
        limit: how many to return, at least 1.
        metric: "COSINE", "IP" or "L2".
        key: what a hit calls its primary key.

    Raises:
        ValueError: an unknown metric or a limit below 1.
    """
    if metric not in LARGER_IS_BETTER or limit < 1:
        raise ValueError(f"metric must be COSINE, IP or L2 and limit at least 1: {metric}, {limit}")
    sign = -1 if LARGER_IS_BETTER[metric] else 1

    def place(hit: Mapping[str, Any]) -> tuple[float, Any]:
        return sign * hit["distance"], hit[key]

    # Each is sorted again: Milvus leaves open which of two equal hits comes first.
    ordered = heapq.merge(*(sorted(answer, key=place) for answer in answers), key=place)
    best: dict[Key, Mapping[str, Any]] = {}
    for hit in ordered:
        best.setdefault(hit[key], hit)
        if len(best) == limit:
            break
    return list(best.values())


@dataclass(frozen=True)
class Moved:
    """What a rebalancing did.

    Attributes:
        rows: how many there are in all.
        moved: how many of them changed their shard.
        per_shard: the rows of each shard afterwards.
    """

    rows: int
    moved: int
    per_shard: dict[str, int]

    @property
    def share(self) -> float:
        """The share of the rows that moved, from 0 to 1; 0 where there are none."""
        return self.moved / self.rows if self.rows else 0.0


class Sharded:
    """A collection of the same name and schema on several Milvus.

    Reads ask all shards at once and fail if one fails: an answer without a shard would be wrong
    and look right. Writes go to the shard of each key. Where some shards fail, the others have
    written (`ShardError.answered`); upserts and deletes may simply be repeated.

    Args:
        shards: a connected `common.connection.Milvus` for each name. The names decide where rows
            go: give a shard that moves to another address its old name.
        collection: its name; it exists on each, is loaded, and has the primary key `key`.
        metric: of its vector field.
        key: the primary key's field.
        timeout: seconds for each call.
    """

    def __init__(
        self,
        shards: Mapping[str, Any],
        collection: str,
        *,
        metric: str = "COSINE",
        key: str = "id",
        timeout: float = _TIMEOUT,
    ) -> None:
        if not shards:
            raise ValueError("there is no shard: name at least one")
        if metric not in LARGER_IS_BETTER:
            raise ValueError(f"metric must be COSINE, IP or L2, not {metric}")
        self.shards = dict(shards)
        self.collection, self.metric, self.key = collection, metric, key
        self._timeout = timeout

    def upsert(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
        """Write each row to its shard; how many each took.

        Raises:
            ShardError: some did not; the rows of the others are written.
            KeyError: a row has no key; nothing was sent.
        """
        parts = split_rows(rows, self.shards, self.key)

        def write(name: str, client: MilvusClient) -> int:
            done = client.upsert(self.collection, list(parts[name]), timeout=self._timeout)
            return done["upsert_count"]

        return self._on_each(write, parts)

    def delete(self, keys: Sequence[Key]) -> None:
        """Delete these keys, each on its shard.

        Raises:
            ShardError: some shards did not.
        """
        parts = split_rows([{self.key: key} for key in keys], self.shards, self.key)

        def remove(name: str, client: MilvusClient) -> None:
            wanted = [row[self.key] for row in parts[name]]
            client.delete(self.collection, ids=wanted, timeout=self._timeout)

        self._on_each(remove, parts)

    def search(
        self, data: Sequence, *, limit: int = 10, **options: Any
    ) -> list[list[Mapping[str, Any]]]:
        """Ask all shards and merge: for each query the hits that one collection would give.

        Args:
            data: query vectors, shape (queries, dimension).
            limit: hits of each query.
            options: as `MilvusClient.search` takes them; `offset` is done here, by asking each
                shard for offset + limit.

        Raises:
            ShardError: a shard failed.
        """
        offset = options.pop("offset", 0)
        options.setdefault("output_fields", [self.key])
        options.setdefault("timeout", self._timeout)

        def ask(name: str, client: MilvusClient) -> list:
            return client.search(self.collection, data=data, limit=offset + limit, **options)

        answers = self._on_each(ask, self.shards).values()
        return [
            merge_hits(of_one, offset + limit, self.metric)[offset:]
            for of_one in zip(*answers, strict=True)
        ]

    def get(self, keys: Sequence[Key], output_fields: Sequence[str] = ("*",)) -> list[dict]:
        """The rows of these keys, in no order; only the shards that can have them are asked.

        Raises:
            ShardError: a shard failed.
        """
        parts = split_rows([{self.key: key} for key in keys], self.shards, self.key)

        def read(name: str, client: MilvusClient) -> list[dict]:
            ids = [row[self.key] for row in parts[name]]
            fields = list(output_fields)
            return client.get(self.collection, ids=ids, output_fields=fields, timeout=self._timeout)

        return [row for rows in self._on_each(read, parts).values() for row in rows]

    def counts(self) -> dict[str, int]:
        """The rows of each shard, all that was written before included.

        Raises:
            ShardError: a shard failed.
        """

        def count(name: str, client: MilvusClient) -> int:
            options = {"consistency_level": "Strong", "timeout": self._timeout}
            (row,) = client.query(self.collection, output_fields=["count(*)"], **options)
            return row["count(*)"]

        return self._on_each(count, self.shards)

    def grow(self, added: Mapping[str, Any], page_rows: int = 1000) -> Moved:
        """Take in more shards: move to them the rows that are theirs now.

        A row is first written to its new shard and then deleted from the old one, so that at no
        moment it is missing; a search meanwhile may meet it twice and counts it once. Stop writers
        for that time: a row that changes after it was copied would go back to what it was. Broken
        off at any point, it can be called again.

        Args:
            added: a connected Milvus for each new name, with the collection.
            page_rows: rows that are moved at a time.

        Raises:
            ShardError: a shard failed; nothing is lost.
            ValueError: a name is taken.
        """
        if taken := self.shards.keys() & added.keys():
            raise ValueError(f"there is a shard of that name already: {', '.join(sorted(taken))}")
        before, self.shards = dict(self.shards), {**self.shards, **added}
        moved = 0
        for name, milvus in before.items():
            pages = pages_by_key(milvus, self.collection, key=self.key, page_rows=page_rows)
            for rows in pages:
                leaving = [r for r in rows if shard_of(r[self.key], self.shards) != name]
                if leaving:
                    self.upsert(leaving)
                    gone = [row[self.key] for row in leaving]
                    milvus.client.delete(self.collection, ids=gone, timeout=self._timeout)
                    moved += len(leaving)
        counts = self.counts()
        return Moved(sum(counts.values()), moved, counts)

    def _on_each(
        self, call: Callable[[str, MilvusClient], Answer], names: Iterable[str]
    ) -> dict[str, Answer]:
        """Call for each of these shards at once; the answers by name, in the order of names."""
        names = list(names)
        if not names:
            return {}
        with ThreadPoolExecutor(len(names)) as pool:
            running = {name: pool.submit(call, name, self.shards[name].client) for name in names}
        failures = (MilvusException, grpc.RpcError)
        errors = {n: e for n, each in running.items() if (e := each.exception()) is not None}
        if not errors:
            return {name: each.result() for name, each in running.items()}
        for error in errors.values():
            if not isinstance(error, failures):
                raise error  # a mistake of the caller, the same for each shard
        raise ShardError(errors, [name for name in names if name not in errors])
