"""Micro-batching: searches that wait at the same time go to Milvus in one request.

    async with AsyncMilvusClient(uri) as client, SearchBatcher(client) as batcher:
        hits = await batcher.search("papers", vector, limit=10, output_fields=["title"], timeout=5)

A request costs the server and the client far more than one more query in it. So a search waits up
to a millisecond for others of the same collection, filter and parameters; they travel together,
and each caller is given the hits of his own query, as if he had been alone. One caller's bad query,
timeout or cancellation does not touch the others.
"""

import asyncio
from collections import deque
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field

import ml_dtypes
import numpy as np
from numpy.typing import ArrayLike, NDArray
from pymilvus import AsyncMilvusClient

Query = ArrayLike | str | bytes
"""A vector as a list or a NumPy row; bytes of a binary one; a text where Milvus embeds it."""

MOST = 64  # queries in a request
WAIT = 0.001  # seconds that the first one waits for others
MOST_REQUESTS = 16  # under way at once
MOST_WAITING = 10_000  # searches that are not answered yet
TIMEOUT = 30.0  # seconds for a search whose caller names none
LAG = 1.0  # seconds that a request is given beyond its callers: they have their own clocks
# Vectors that go as they are; everything else becomes float32.
_KEPT = {np.float32, np.float16, ml_dtypes.bfloat16, np.int8, np.uint8}


class BatcherClosed(RuntimeError):  # noqa: N818 - it reads as a sentence where it is raised
    """A search came after `close()`."""


class TooManyWaiting(RuntimeError):  # noqa: N818 - it reads as a sentence where it is raised
    """So many searches wait already that one more would only wait in vain: try again later."""


@dataclass
class BatchCounts:
    """What a batcher did.

    Attributes:
        searches: that went to Milvus.
        requests: in which they went, without the repeated ones.
        repeated: searches that were sent once more, alone, because their request had failed.
    """

    searches: int = 0
    requests: int = 0
    repeated: int = 0

    @property
    def mean_batch(self) -> float:
        """Searches in a request, the mean."""
        return self.searches / self.requests if self.requests else 0.0


@dataclass(eq=False)
class _Request:
    """One request under way: `callers` of it still wait, and without any it is broken off."""

    callers: int
    task: asyncio.Task | None = None


@dataclass(eq=False)
class _Waiting:
    """One search: its query, until when its caller waits, and where the hits go."""

    query: NDArray | str | bytes
    deadline: float  # on the clock of the event loop
    hits: asyncio.Future
    request: _Request | None = None  # None until it is sent


@dataclass(eq=False)
class _Group:
    """Searches that may share a request, and the arguments that they share."""

    key: Hashable
    collection: str
    options: Mapping[str, object]
    waiting: deque[_Waiting] = field(default_factory=deque)
    timer: asyncio.TimerHandle | None = None
    due: bool = False


class SearchBatcher:
    """Gathers searches and sends them in common requests. Belongs to one event loop, as its client.

    Args:
        client: sends the requests; it stays open when the batcher closes.
        most: queries in a request.
        wait: seconds that a search waits for others. While all requests are under way it waits
            longer, and the batches grow: a busy server is given fewer and larger requests.
        most_requests: requests under way at once.
        most_waiting: searches that wait or are under way; one more is refused.
        timeout: seconds for a search whose caller names none.

    Raises:
        ValueError: a number that is too small.
    """

    def __init__(
        self,
        client: AsyncMilvusClient,
        *,
        most: int = MOST,
        wait: float = WAIT,
        most_requests: int = MOST_REQUESTS,
        most_waiting: int = MOST_WAITING,
        timeout: float = TIMEOUT,
    ) -> None:
        if min(most, most_requests, most_waiting) < 1 or wait < 0 or not timeout > 0:
            raise ValueError(
                "most, most_requests and most_waiting are 1 or more, wait 0 or more and timeout "
                f"over 0, not {most}, {most_requests}, {most_waiting}, {wait} and {timeout}"
            )
        self.counts = BatchCounts()
        self._client = client
        self._most, self._wait, self._most_requests = most, wait, most_requests
        self._most_waiting, self._timeout = most_waiting, timeout
        self._groups: dict[Hashable, _Group] = {}
        self._due: deque[_Group] = deque()
        self._requests: set[asyncio.Task] = set()
        self._unanswered = 0
        self._closed = False

    async def __aenter__(self) -> "SearchBatcher":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def search(
        self, collection: str, query: Query, *, timeout: float | None = None, **options: object
    ) -> Sequence[Mapping]:
        """Search with one query; its hits, best first.

        They equal `(await client.search(collection, data=[query], **options))[0]`.

        Args:
            collection: its name.
            query: a vector of shape (dimension,), bytes or a text.
            timeout: seconds that this caller waits at most, with all that he waits for.
            options: further arguments of `AsyncMilvusClient.search`: filter, limit, output_fields,
                search_params, partition_names, anns_field, consistency_level ... Searches share a
                request only where all of them are equal.

        Raises:
            ValueError: the vector has another shape, or values that are not finite numbers.
            TimeoutError: there was no answer in time.
            TooManyWaiting: `most_waiting` searches wait already.
            BatcherClosed: the batcher is closed.
            MilvusException, grpc.RpcError: what Milvus says of this very search.
        """
        checked, kind = _checked(query)
        seconds = self._timeout if timeout is None else timeout
        if self._closed:
            raise BatcherClosed("the batcher is closed and takes no more searches")
        if self._unanswered >= self._most_waiting:
            raise TooManyWaiting(f"{self._unanswered:,} searches wait already")
        loop = asyncio.get_running_loop()
        member = _Waiting(checked, loop.time() + seconds, loop.create_future())
        self._unanswered += 1
        try:
            async with asyncio.timeout_at(member.deadline):
                group = self._add(member, collection, kind, options)
                try:
                    return await member.hits
                except asyncio.CancelledError:
                    _leave(group, member)
                    raise
        finally:
            self._unanswered -= 1

    async def close(self) -> None:
        """Take no more searches, send those that wait, and return when all are answered."""
        self._closed = True
        for group in list(self._groups.values()):
            self._make_due(group)
        while self._requests:
            await asyncio.wait(self._requests)

    def _add(
        self, member: _Waiting, collection: str, kind: Hashable, options: Mapping[str, object]
    ) -> _Group:
        """Put a search into its group, which is sent when it is full or has waited."""
        key = (collection, kind, _frozen(options))
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = _Group(key, collection, dict(options))
        group.waiting.append(member)
        if len(group.waiting) >= self._most:
            self._make_due(group)
        elif group.timer is None and not group.due:
            loop = asyncio.get_running_loop()
            group.timer = loop.call_later(self._wait, self._make_due, group)
        return group

    def _make_due(self, group: _Group) -> None:
        if group.timer is not None:
            group.timer.cancel()
            group.timer = None
        if not group.due:
            group.due = True
            self._due.append(group)
        self._send_due()

    def _send_due(self) -> None:
        """Start requests, as many as may be under way, in the order in which groups fell due."""
        while self._due and len(self._requests) < self._most_requests:
            group = self._due.popleft()
            group.due = False
            count = min(self._most, len(group.waiting))
            members = [group.waiting.popleft() for _ in range(count)]
            if group.waiting:  # these have waited: they go next, after the other groups
                group.due = True
                self._due.append(group)
            else:
                self._groups.pop(group.key, None)
            if members:
                self._start(group, members)

    def _start(self, group: _Group, members: Sequence[_Waiting]) -> None:
        request = _Request(len(members))
        for member in members:
            member.request = request
        request.task = asyncio.get_running_loop().create_task(self._answer(group, members))
        self._requests.add(request.task)
        request.task.add_done_callback(self._request_done)

    def _request_done(self, task: asyncio.Task) -> None:
        self._requests.discard(task)
        self._send_due()

    async def _answer(self, group: _Group, members: Sequence[_Waiting]) -> None:
        """Send a request and give each of its callers the hits of his own query."""
        self.counts.requests += 1
        self.counts.searches += len(members)
        try:
            answers = await self._ask(group, members)
        except Exception as error:  # noqa: BLE001 - it goes to the caller
            if len(members) == 1:
                _give_error(members[0], error)
            else:  # whose fault it was fails alone, and no other does
                await asyncio.gather(*(self._answer_alone(group, member) for member in members))
        else:
            for member, hits in zip(members, answers, strict=True):
                _give(member, hits)
        finally:
            for member in members:  # where the event loop ends, nobody is left waiting
                member.hits.cancel()

    async def _answer_alone(self, group: _Group, member: _Waiting) -> None:
        """Send one search of a failed request once more; what comes of it is its caller's."""
        if member.hits.done():  # he has gone away
            return
        self.counts.repeated += 1
        try:
            (hits,) = await self._ask(group, [member])
        except Exception as error:  # noqa: BLE001 - it goes to the caller
            _give_error(member, error)
        else:
            _give(member, hits)

    async def _ask(self, group: _Group, members: Sequence[_Waiting]) -> Sequence[Sequence[Mapping]]:
        """One request, which is given as long as the most patient of its callers waits."""
        now = asyncio.get_running_loop().time()
        patience = max(member.deadline for member in members) - now
        answers = await self._client.search(
            group.collection,
            data=[member.query for member in members],
            timeout=patience + LAG,
            **group.options,
        )
        if len(answers) != len(members):
            raise RuntimeError(f"{len(members)} queries were answered by {len(answers)} lists")
        return answers


def _leave(group: _Group, member: _Waiting) -> None:
    """Forget a search whose caller has gone away: it is not sent, or nobody waits for it."""
    if member.request is None:
        group.waiting.remove(member)
        return
    if member.hits.done() and not member.hits.cancelled():
        member.hits.exception()  # seen: else Python reports an error that nobody took
    member.request.callers -= 1
    if member.request.callers == 0:
        member.request.task.cancel()


def _give(member: _Waiting, hits: Sequence[Mapping]) -> None:
    if not member.hits.done():
        member.hits.set_result(hits)


def _give_error(member: _Waiting, error: Exception) -> None:
    if not member.hits.done():
        member.hits.set_exception(error)


def _checked(query: Query) -> tuple[NDArray | str | bytes, Hashable]:
    """A query that may share a request, and the kind of queries with which it may.

    A wrong dimension is another kind: such searches fail among themselves.
    """
    if isinstance(query, str | bytes):
        return query, (type(query), len(query) if isinstance(query, bytes) else None)
    try:
        # A copy: the caller may fill his array anew while the search waits.
        vector = np.array(query)
    except (TypeError, ValueError) as error:
        raise ValueError(f"a query is a vector of numbers, a text or bytes: {error}") from error
    if vector.dtype.type not in _KEPT:
        if vector.dtype.kind not in "fiu":
            raise ValueError(f"a query is a vector of numbers, not of {vector.dtype}")
        with np.errstate(over="ignore"):  # what is too large for float32 is refused below
            vector = vector.astype(np.float32)
    if vector.ndim != 1 or not len(vector):
        raise ValueError(f"a query is one vector of shape (dimension,), not {vector.shape}")
    if not np.isfinite(vector).all():
        raise ValueError("the query holds values that are not finite numbers")
    return vector, (vector.dtype.type, len(vector))


def _frozen(value: object) -> Hashable:
    """A stand-in for arguments that is equal where they are: also in type, as 1 and True are not.

    What cannot be compared is equal to itself only, so that its search goes alone.
    """
    if isinstance(value, Mapping):
        return dict, frozenset((name, _frozen(inner)) for name, inner in value.items())
    if isinstance(value, list | tuple):
        return list, tuple(map(_frozen, value))
    try:
        hash(value)
    except TypeError:
        return type(value), id(value)
    return type(value), value
