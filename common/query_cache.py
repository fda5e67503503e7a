"""Answers to searches that were asked before: in this process, or in Redis for all processes.

    cache = QueryCache(MemoryStore(entries=10_000), seconds=60)
    hits = cache.answer(lambda: client.search("papers", [vector], **options),
                        "papers", vector, options)
    with cache.writing("papers"):
        client.upsert("papers", rows)

A key is made of the collection, the query, all options and a mark that each write to the
collection makes anew: after a write no older answer has a key any more. Writes that go around the
cache are not noticed; for them an answer is as old as `seconds` at most.
"""

import hashlib
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import orjson
import redis
from cachetools import TLRUCache
from numpy.typing import ArrayLike

Hits = Sequence[Mapping]
BOUNDED = 5.0
"""Seconds by which a Bounded search may lag behind a write (Milvus' common.gracefulTime)."""


class StoreFailed(RuntimeError):  # noqa: N818 - it reads as a sentence where it is raised
    """The store of the cache does not answer; the message says what that means."""

    exit_code = 2


class Store(Protocol):
    """Where answers are kept, for a time. Errors of the store are `StoreFailed`."""

    def get(self, *keys: str) -> list[bytes | None]:
        """What is kept under each key; None where there is nothing."""

    def put(self, key: str, value: bytes, seconds: float | None) -> None:
        """Keep a value for so many seconds, or without an end."""

    def clear(self) -> None:
        """Forget everything that was kept through stores of this name."""


class MemoryStore:
    """Keeps answers in this process: the least recently used ones go first. For several threads.

    Args:
        entries: so many at most.
        clock: seconds.

    Raises:
        ValueError: `entries` is below 1.
    """

    def __init__(self, entries: int = 10_000, clock: Callable[[], float] = time.monotonic) -> None:
        if entries < 1:
            raise ValueError(f"entries must be at least 1, not {entries}")
        self._kept = TLRUCache(entries, lambda _, kept, now: now + kept[1], timer=clock)
        self._endless: dict[str, bytes] = {}  # these may not be driven out by answers
        self._lock = threading.Lock()

    def get(self, *keys: str) -> list[bytes | None]:
        """What is kept under each key; None where there is nothing."""
        with self._lock:
            return [self._endless.get(key) or self._kept.get(key, (None, 0))[0] for key in keys]

    def put(self, key: str, value: bytes, seconds: float | None) -> None:
        """Keep a value for so many seconds, or without an end."""
        with self._lock:
            if seconds is None:
                self._endless[key] = value
            else:
                self._kept[key] = value, seconds

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._kept.clear()
            self._endless.clear()


class RedisStore:
    """Keeps answers in Redis, where other processes find them too.

    Set `maxmemory` and `maxmemory-policy` in Redis: then old answers make room for new ones.

    Args:
        url: as in "redis://localhost:6379/0".
        name: begins each key: one for each Milvus and database that share a Redis.
        timeout: seconds for a request.

    Raises:
        StoreFailed: the URL is none, or nothing answers there.
    """

    def __init__(self, url: str, name: str, timeout: float = 1.0) -> None:
        self._name = name
        times = {"socket_timeout": timeout, "socket_connect_timeout": timeout}
        try:
            self._redis = redis.Redis.from_url(url, **times)
        except ValueError as error:
            raise StoreFailed(f"this is no URL of a Redis: {error}") from error
        with _redis_errors(f"there is no Redis at {_address(self._redis)}"):
            self._redis.ping()

    def get(self, *keys: str) -> list[bytes | None]:
        """What is kept under each key; None where there is nothing."""
        with _redis_errors("Redis gives no answers"):
            return self._redis.mget([self._key(key) for key in keys])

    def put(self, key: str, value: bytes, seconds: float | None) -> None:
        """Keep a value for so many seconds, or without an end."""
        end = None if seconds is None else max(1, round(1000 * seconds))
        with _redis_errors("Redis keeps no answers"):
            self._redis.set(self._key(key), value, px=end)

    def clear(self) -> None:
        """Forget everything under this name."""
        pattern = "".join(f"[{char}]" if char in "*?[]^\\" else char for char in self._name)
        with _redis_errors("Redis does not forget"):
            for key in self._redis.scan_iter(f"{pattern}:*", count=1000):
                self._redis.unlink(key)

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    def _key(self, key: str) -> str:
        return f"{self._name}:{key}"


@dataclass
class CacheCounts:
    """How often answers were found (`hits`) or not, and how often the store failed."""

    hits: int = 0
    misses: int = 0
    store_failures: int = 0

    @property
    def hit_rate(self) -> float:
        """The share of searches that were answered from the cache."""
        asked = self.hits + self.misses
        return self.hits / asked if asked else 0.0


class QueryCache:
    """Answers searches that were asked before, until a write. For several threads.

    Args:
        store: where the answers are kept.
        seconds: for how long at most.
        settling: seconds after a write in which answers are not kept unless they come from a
            Strong search: others may not know of the write yet, and would be kept beyond that.
            0 where every search is Strong, as in Milvus Lite.

    Raises:
        ValueError: `seconds` is not over 0, or `settling` is below 0.
    """

    def __init__(self, store: Store, *, seconds: float = 60.0, settling: float = BOUNDED) -> None:
        if not seconds > 0 or settling < 0:
            raise ValueError(
                f"seconds must be over 0 and settling not below, not {seconds} and {settling}"
            )
        self.counts = CacheCounts()
        self._store, self._seconds, self._settling = store, seconds, settling
        self._lock = threading.Lock()

    def answer(
        self,
        search: Callable[[], Sequence[Hits]],
        collection: str,
        query: ArrayLike | str,
        options: Mapping[str, object],
    ) -> list[dict]:
        """The hits for one query: those of the cache, or else those that `search` finds.

        Where the store fails, Milvus is asked. Hits that JSON cannot hold are not kept.

        Args:
            search: asks Milvus with this query and these options; its answers are for one query.
            collection: which is searched.
            query: a vector of shape (dimension,), or a text.
            options: all that the answer depends on: filter, limit, output_fields ...

        Returns:
            The hits as dicts of the caller's own, best first.

        Raises:
            TypeError: an option that JSON cannot hold, so that there is no key for it.
        """
        asked = _digest(query, options)
        try:
            mark, recent = self._store.get(_mark(collection), _recent(collection))
            if mark is None:  # nothing was written yet, or the store has lost it
                mark = self._renew(collection)
            key = f"{collection}:{mark.decode()}:{asked}"
            (kept,) = self._store.get(key)
        except StoreFailed:
            self._count(store_failures=1, misses=1)
            return [dict(hit) for hit in search()[0]]
        if kept is not None:
            self._count(hits=1)
            return orjson.loads(kept)
        self._count(misses=1)
        hits = [dict(hit) for hit in search()[0]]
        if recent is None or options.get("consistency_level") == "Strong":
            self._keep(key, hits)
        return hits

    @contextmanager
    def writing(self, collection: str) -> Iterator[None]:
        """Around a write to a collection: afterwards no earlier answer is given any more.

        Also where the write fails, since its answer may have been lost.

        Raises:
            StoreFailed: the store could not be told, before the write, which then is not made; or
                after it, and the message says so.
        """
        # First as well: should this process die in the write, no answer from before it is given.
        self._forget(collection)
        try:
            yield
        finally:
            try:
                self._forget(collection)
            except StoreFailed as error:
                raise StoreFailed(
                    f"{error}. The write to {collection} is made, but for up to "
                    f"{self._seconds:g} s the cache may give answers from before it"
                ) from error

    def _forget(self, collection: str) -> None:
        if self._settling:
            self._store.put(_recent(collection), b"1", self._settling)
        self._renew(collection)

    def _renew(self, collection: str) -> bytes:
        """Make a new mark of the writes: no answer is kept under it yet."""
        mark = secrets.token_hex(12).encode()
        self._store.put(_mark(collection), mark, None)
        return mark

    def _keep(self, key: str, hits: list[dict]) -> None:
        try:
            self._store.put(
                key, orjson.dumps(hits, option=orjson.OPT_SERIALIZE_NUMPY), self._seconds
            )
        except TypeError:  # bytes of a vector, for example: not kept
            return
        except StoreFailed:
            self._count(store_failures=1)

    def _count(self, **more: int) -> None:
        with self._lock:
            for name, number in more.items():
                setattr(self.counts, name, getattr(self.counts, name) + number)


def _mark(collection: str) -> str:
    return f"{collection}:mark"


def _recent(collection: str) -> str:
    return f"{collection}:recent"


def _digest(query: ArrayLike | str, options: Mapping[str, object]) -> str:
    """A digest of a query and of all that its answer depends on; a timeout is not among that."""
    relevant = {name: value for name, value in options.items() if name != "timeout"}
    digest = hashlib.blake2b(orjson.dumps(relevant, option=orjson.OPT_SORT_KEYS), digest_size=24)
    if isinstance(query, str):
        digest.update(b"\0text" + query.encode())
    else:
        digest.update(b"\0vector" + np.asarray(query, dtype=np.float32).tobytes())
    return digest.hexdigest()


@contextmanager
def _redis_errors(what: str) -> Iterator[None]:
    try:
        yield
    except redis.RedisError as error:
        raise StoreFailed(f"{what}: {error}") from error


def _address(client: redis.Redis) -> str:
    """Where a client connects to, without the password that a URL can carry."""
    options = client.connection_pool.connection_kwargs
    return options.get("path") or f"{options.get('host')}:{options.get('port')}"
