"""Loading rows into a collection: any iterable, in batches, at the full speed of the client.

    report = load_rows(client, "papers", rows, upsert=True)

While one batch is on its way to Milvus, the next one is converted for the wire, and the one after
that is taken from the iterable and checked: faster than a loop over `client.insert()`, and memory
stays flat however long the iterable is. Batches are stored strictly one after the other. What may
be sent again after a failure is sent again; what might store a row twice is not.
"""

import logging
import math
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from typing import Literal, NamedTuple

from common.schema import RowsRefused, check_rows

import grpc
from pymilvus import MilvusClient, MilvusException
from pymilvus.exceptions import DescribeCollectionException
from tenacity import (
    RetryCallState,
    Retrying,
    TryAgain,
    retry_if_exception_type,
    sleep_using_event,
    stop_after_attempt,
    stop_when_event_set,
    wait_exponential_jitter,
)

FIRST_WAIT = 0.5  # seconds before the first repetition; each further one waits twice as long
LONGEST_WAIT = 8.0

_log = logging.getLogger(__name__)
_THREAD = "load_rows"
_AT_ONCE = 2  # batches in threads: one is on its way, the next one is converted


@dataclass(frozen=True)
class LoadReport:
    """What a load did. `retries` counts requests that were sent again."""

    rows: int
    batches: int
    retries: int
    seconds: float

    @property
    def rows_per_second(self) -> float:
        """Rows stored in a second, with everything: reading, checking, sending, waiting."""
        return self.rows / self.seconds if self.seconds else 0.0


class LoadFailed(RuntimeError):  # noqa: N818 - it reads as a sentence where it is raised
    """A load that stopped half-way; the message says why, what is stored and how to go on.

    Attributes:
        rows_stored: so many rows, counted from the first row of the iterable, are stored: Milvus
            confirmed them. To go on, call `load_rows()` with a fresh iterable and
            `start_at=rows_stored`.
        first_row, last_row: the rows of the request that failed; None where none was sent.
        maybe_stored: whether that request may have been stored nevertheless: its answer was lost.
    """

    exit_code = 1  # the message is made for people: no traceback around it

    def __init__(
        self,
        message: str,
        *,
        rows_stored: int,
        first_row: int | None = None,
        last_row: int | None = None,
        maybe_stored: bool = False,
    ) -> None:
        super().__init__(message)
        self.rows_stored = rows_stored
        self.first_row = first_row
        self.last_row = last_row
        self.maybe_stored = maybe_stored


def load_rows(
    client: MilvusClient,
    collection: str,
    rows: Iterable[dict],
    *,
    batch_size: int = 1000,
    upsert: bool = False,
    partition: str = "",
    check: bool = True,
    timeout: float = 60.0,
    retries: int = 5,
    start_at: int = 0,
    progress: Callable[[int], object] | None = None,
) -> LoadReport:
    """Insert or upsert all rows of an iterable, batch by batch, and wait until each is confirmed.

    A request whose answer was lost may have been stored. An upsert is then simply sent again.
    An insert is sent again as an upsert, so that no row is stored twice; should the collection
    have had a row with one of these primary keys before, it is replaced. Where Milvus makes the
    keys itself (auto_id), nothing can tell the rows apart, and LoadFailed is raised instead.
    Requests that Milvus surely did not store (it was not there, or is too busy) are sent again
    as they are. A batch too large for one message is sent in smaller ones.

    Args:
        client: its `timeout` bounds how long a single attempt to connect again takes.
        collection: name or alias of the collection.
        rows: dicts from field name to value; read once, at most two batches ahead of the one
            that is on its way.
        batch_size: rows in a batch.
        upsert: whether a row replaces a row that has its primary key.
        partition: the partition that takes the rows; the default one where it is empty.
        check: whether rows are checked with `common.schema.check_rows()` before they are sent.
        timeout: seconds for one request.
        retries: how often one request is sent again, after about 0.5, 1, 2, 4 and 8 seconds.
        start_at: leave out so many rows at the beginning, which an earlier call has stored.
        progress: called after each batch with the number of rows stored, `start_at` included.

    Raises:
        RowsRefused: a row does not fit the schema. The batches before are stored (`rows_stored`
            says how many rows), nothing of its own batch is.
        LoadFailed: Milvus did not take a batch; the message says how to go on.
        ValueError: an argument is out of its range, or `rows` ends before `start_at`.
    """
    _check_arguments(batch_size, timeout, retries, start_at)
    started = time.perf_counter()
    source = iter(rows)
    _skip(source, start_at)
    sender = _Sender(client, collection, upsert, timeout, retries, start_at, partition)
    try:
        with _quiet_pymilvus(), _sending_threads(sender) as threads:
            schema = threads.submit(sender.describe).result()
            batches = _batches(source, batch_size, start_at, schema if check else None, upsert)
            count = _pump(batches, sender, threads, progress)
    except (LoadFailed, RowsRefused):
        raise
    except BaseException as error:  # Ctrl-C, or the iterable or `progress` raised
        error.add_note(f"load_rows: {sender.account()}")
        raise
    if not sender.rows_stored:
        raise RowsRefused(check_rows(schema, []))
    seconds = time.perf_counter() - started
    return LoadReport(sender.rows_stored - start_at, count, sender.repetitions, seconds)


def _check_arguments(batch_size: int, timeout: float, retries: int, start_at: int) -> None:
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; it is 1 or more")
    if not 0 < timeout < math.inf:
        raise ValueError(f"timeout is {timeout}; it is a number of seconds above 0")
    if retries < 0:
        raise ValueError(f"retries is {retries}; it is 0 or more")
    if start_at < 0:
        raise ValueError(f"start_at is {start_at}; it is 0 or more")


def _skip(source: Iterator[dict], count: int) -> None:
    """Pass over the first rows."""
    skipped = sum(1 for _ in islice(source, count))
    if skipped < count:
        raise ValueError(f"start_at is {count}, but there are only {skipped} rows")


def _batches(
    source: Iterator[dict],
    batch_size: int,
    first_row: int,
    schema: Mapping | None,
    upsert: bool,
) -> Iterator[tuple[int, list[dict]]]:
    """Batches with the number of their first row, checked against the schema if one is given."""
    while batch := list(islice(source, batch_size)):
        if schema is not None:
            problems = check_rows(schema, batch, first_row=first_row, upsert=upsert)
            if problems:
                raise RowsRefused(problems, rows_stored=first_row)
        yield first_row, batch
        first_row += len(batch)


def _pump(
    batches: Iterator[tuple[int, list[dict]]],
    sender: "_Sender",
    threads: Executor,
    progress: Callable[[int], object] | None,
) -> int:
    """Send all batches; the number of batches."""
    count, under_way = 0, deque()

    def finish_one() -> None:
        under_way.popleft().result()
        if progress is not None:
            progress(sender.rows_stored)

    while True:
        try:
            prepared = next(batches, None)
        except Exception:
            while under_way:  # what is on its way comes first, and counts
                finish_one()
            raise
        while under_way and (prepared is None or len(under_way) == _AT_ONCE):
            finish_one()
        if prepared is None:
            return count
        before = under_way[-1] if under_way else None
        under_way.append(threads.submit(sender.send, *prepared, before))
        count += 1


@contextmanager
def _sending_threads(sender: "_Sender") -> Iterator[Executor]:
    """The threads that convert and send. They have ended when this ends, also after Ctrl-C."""
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix=_THREAD) as threads:
        try:
            yield threads
        except BaseException as error:
            if not isinstance(error, Exception):
                # Ctrl-C: the request under way is waited for, but nothing is sent after it.
                sender.stopped.set()
            raise


# Sending


class _OneAttempt(float):
    """A timeout in seconds for a single attempt.

    pymilvus repeats a request on most errors until its timeout is over: also an insert whose
    answer was lost, which then is stored twice. It asks `elapsed >= timeout`, in which Python
    lets the right side answer first, because its type is a subclass of the other.
    """

    def __le__(self, elapsed: object) -> bool:
        return True


class _Abandoned(BaseException):
    """A request is not to be sent, since the one before failed or the load was stopped.

    No Exception, which pymilvus would wrap into one of its own.
    """


class _Rows(list):
    """Rows that are converted early and sent in their turn.

    pymilvus loops over the rows of a request to convert them, which takes as long as Milvus takes
    to store them, and sends them then. A loop over these does not end before `its_turn` returns.
    """

    def __init__(self, rows: Iterable[dict], its_turn: Callable[[], None]) -> None:
        super().__init__(rows)
        self._its_turn = its_turn

    def __iter__(self) -> Iterator[dict]:
        return chain(super().__iter__(), self._wait())

    def _wait(self) -> Iterator[dict]:
        self._its_turn()
        yield from ()


@dataclass
class _Request:
    """Rows that go to Milvus in one message."""

    first_row: int
    rows: list[dict]
    maybe_stored: bool = False  # whether they may be stored although nothing has confirmed it
    error: BaseException | None = None  # of the last attempt

    @property
    def end(self) -> int:
        return self.first_row + len(self.rows)

    def __str__(self) -> str:
        return f"rows {self.first_row} to {self.end - 1}"


class _Sender:
    """Sends batches, one after the other, and keeps account of what Milvus confirmed."""

    def __init__(
        self,
        client: MilvusClient,
        collection: str,
        upsert: bool,
        timeout: float,
        retries: int,
        rows_stored: int,
        partition: str = "",
    ) -> None:
        self.rows_stored = rows_stored  # confirmed, from the first row of the iterable on
        self.repetitions = 0
        self.stopped = threading.Event()
        self._client = client
        self._collection = collection
        self._upsert = upsert
        self._place = {"partition_name": partition} if partition else {}
        self._timeout = timeout
        self._attempts = retries + 1
        self._keys_are_given = True
        self._most_rows: int | None = None  # in a message, once the server has refused more
        self._under_way: _Request | None = None

    def describe(self) -> Mapping:
        """The collection as Milvus describes it."""
        try:
            schema = self._client.describe_collection(self._collection, timeout=self._timeout)
        except (MilvusException, grpc.RpcError) as error:
            raise LoadFailed(
                f'nothing was loaded into "{self._collection}": {_judge(error).reason}',
                rows_stored=self.rows_stored,
            ) from error
        self._keys_are_given = not any(field.get("auto_id") for field in schema["fields"])
        return schema

    def send(self, first_row: int, batch: list[dict], before: Future | None) -> None:
        """Have a batch stored after the one `before`; in several requests if one cannot hold it.

        Raises:
            LoadFailed: a request failed, and repeating it did not help or would not be right.
        """

        def its_turn() -> None:
            if (before is not None and before.exception()) or self.stopped.is_set():
                raise _Abandoned

        start = 0
        while start < len(batch):
            part = batch[start : start + (self._most_rows or len(batch))]
            if self._store(_Request(first_row + start, part), its_turn):
                start += len(part)
            else:
                self._most_rows = (len(part) + 1) // 2

    def account(self) -> str:
        """What is stored, in words."""
        text = f"{self.rows_stored:,} rows are stored"
        if self._under_way and self._under_way.maybe_stored:
            text += f", and {self._under_way} may be"
        return f"{text}; go on with start_at={self.rows_stored}"

    def _store(self, request: _Request, its_turn: Callable[[], None]) -> bool:
        """Have the rows of a request stored; False if they are too large for one message."""
        retrying = Retrying(
            retry=retry_if_exception_type(TryAgain),
            stop=stop_after_attempt(self._attempts) | stop_when_event_set(self.stopped),
            wait=wait_exponential_jitter(
                multiplier=FIRST_WAIT, max=LONGEST_WAIT, jitter=FIRST_WAIT
            ),
            sleep=sleep_using_event(self.stopped),
            before_sleep=self._tell_retry,
            reraise=True,
        )
        try:
            retrying(self._attempt, request, its_turn)
        except (TryAgain, MilvusException, grpc.RpcError):
            verdict = _judge(request.error)
            if verdict.too_large and len(request.rows) > 1:
                return False
            raise self._failure(request, verdict.reason) from request.error
        self.rows_stored, self._under_way = request.end, None
        return True

    def _attempt(self, request: _Request, its_turn: Callable[[], None]) -> None:
        """Send a request once. TryAgain is raised where sending it once more is right."""
        in_doubt = request.maybe_stored

        def start() -> None:
            its_turn()
            request.maybe_stored, self._under_way = True, request

        upsert = self._upsert or in_doubt
        write = self._client.upsert if upsert else self._client.insert
        try:
            rows = _Rows(request.rows, start)
            limit = _OneAttempt(self._timeout)
            answer = write(self._collection, rows, timeout=limit, **self._place)
        except (MilvusException, grpc.RpcError) as error:
            verdict = _judge(error)
            sent = request.maybe_stored
            request.error = error
            request.maybe_stored = in_doubt or (sent and verdict.maybe_stored)
            if verdict.again and (self._keys_are_given or not request.maybe_stored):
                raise TryAgain from error
            raise
        confirmed = answer.get("upsert_count" if upsert else "insert_count", 0)
        if confirmed != len(request.rows):
            reason = f"Milvus confirmed {confirmed} of {len(request.rows)} rows"
            raise self._failure(request, reason)

    def _tell_retry(self, state: RetryCallState) -> None:
        self.repetitions += 1
        request = state.args[0]
        _log.warning(
            "%s: %s; attempt %d of %d in %.1f s",
            request,
            _judge(request.error).reason,
            state.attempt_number + 1,
            self._attempts,
            state.next_action.sleep,
        )

    def _failure(self, request: _Request, reason: str) -> LoadFailed:
        text = f'{request} were not stored in "{self._collection}": {reason}.'
        advice = f"go on with start_at={request.first_row}"
        if request.maybe_stored:
            text = f'{request} may or may not be stored in "{self._collection}": {reason}.'
            advice += " and upsert=True, so that no row is stored twice"
        if request.maybe_stored and not self._keys_are_given:
            advice = (
                "Milvus makes the keys itself (auto_id), so that sending them again could store "
                "them twice: count the rows of the collection, and go on with "
                f"start_at={request.first_row} if they are missing, or with "
                f"start_at={request.end} if they are there"
            )
        return LoadFailed(
            f"{text} The {request.first_row:,} rows before them are stored; {advice}.",
            rows_stored=request.first_row,
            first_row=request.first_row,
            last_row=request.end - 1,
            maybe_stored=request.maybe_stored,
        )


# What an error means


class _Verdict(NamedTuple):
    """What an error means for the rows that were sent."""

    reason: str
    again: bool = False  # whether the same request may succeed a little later
    maybe_stored: bool = False  # whether the rows may be stored in spite of the error
    too_large: bool = False  # whether the request was too large
    refused: bool = False  # whether the rows themselves are what is wrong


_TOO_LARGE = re.compile(r"larger than max|exceeds? maxInsertSize", re.IGNORECASE)
_NEVER_SENT = re.compile(r"failed to connect|connection refused|name resolution", re.IGNORECASE)
_NO_DISK = re.compile(r"no space left|disk quota|disk.*exceed|not enough disk", re.IGNORECASE)
_NO_MEMORY = re.compile(r"memory quota|memory.*exceed|out of memory", re.IGNORECASE)
_NOT_READY = re.compile(r"service not ready|not healthy|initializing", re.IGNORECASE)

# The server looked at the request and refused it.
_REFUSALS = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.UNIMPLEMENTED,
}
_SCHEMA_REFUSED = 6  # Milvus Lite
_RATE_LIMIT = 8
_FORCE_DENY = 9
_COLLECTION_NOT_FOUND = 100
_PARAMETERS_REFUSED = range(1100, 1200)


def outlook(error: BaseException) -> Literal["passing", "refused", "hopeless"]:
    """What to expect of sending the same rows once more after an error of a write.

    "refused": Milvus, or pymilvus, looked at these rows and will never take them as they are.
    "hopeless": no rows would be taken: the collection is gone, or it is forbidden.
    "passing": Milvus is away, busy or short of something; the same rows may go through later.
    """
    origin = _origin(error)
    if isinstance(origin, grpc.RpcError):
        if origin.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.OUT_OF_RANGE):
            return "refused"
        return "hopeless" if origin.code() in _REFUSALS else "passing"
    if not isinstance(origin, MilvusException):
        return "hopeless"  # no error of a write at all
    if origin.code == _COLLECTION_NOT_FOUND:
        return "hopeless"
    verdict = _judge(error)
    if verdict.too_large or (not verdict.again and verdict.refused):
        return "refused"
    return "passing"


def _judge(error: BaseException) -> _Verdict:
    """What an error of a write means: whether the rows may be stored, and what to do."""
    origin = _origin(error)
    if isinstance(origin, grpc.RpcError):
        return _judge_grpc(origin.code(), str(origin.details() or ""))
    if type(origin) in (MilvusException, DescribeCollectionException):
        return _judge_status(origin)
    # One of pymilvus' own kinds of error: it did not even send the request.
    return _Verdict(f"pymilvus refused them ({_one_line(origin.message)})", refused=True)


def _judge_grpc(code: grpc.StatusCode, details: str) -> _Verdict:
    """Errors of the connection, and refusals before Milvus looked at the request."""
    said = f"gRPC {code.name}: {_one_line(details)}"
    if code in _REFUSALS:
        return _Verdict(f"Milvus refused them ({said})")
    if _TOO_LARGE.search(details):
        return _Verdict(f"they are too large for one message ({said})", too_large=True)
    if code == grpc.StatusCode.RESOURCE_EXHAUSTED:
        return _Verdict(f"Milvus is too busy ({said})", again=True)
    if code == grpc.StatusCode.DEADLINE_EXCEEDED:
        reason = f"no answer in time ({said}); raise timeout or lower batch_size"
        return _Verdict(reason, again=True, maybe_stored=True)
    if code == grpc.StatusCode.UNAVAILABLE and _NEVER_SENT.search(details):
        return _Verdict(f"Milvus cannot be reached ({said})", again=True)
    return _Verdict(f"the connection broke ({said})", again=True, maybe_stored=True)


def _judge_status(error: MilvusException) -> _Verdict:
    """Errors that Milvus answered with."""
    message = _one_line(error.message)
    if message.startswith("Unexpected error, message=<"):
        # What pymilvus makes of any exception in its own code, before it sends.
        return _Verdict(f"pymilvus refused them ({message})", refused=True)
    said = f"code {int(error.code)}: {message}"
    if error.code == _COLLECTION_NOT_FOUND:
        return _Verdict(f"the collection does not exist ({said}); create it first")
    if _NO_DISK.search(message):
        # A full disk may have cut the write short.
        denied = error.code == _FORCE_DENY
        reason = f"Milvus has not enough disk ({said}); free some or raise its quota"
        return _Verdict(reason, maybe_stored=not denied)
    if _NO_MEMORY.search(message):
        reason = f"Milvus has not enough memory ({said}); give it more or load less"
        return _Verdict(reason, maybe_stored=error.code != _FORCE_DENY)
    if _TOO_LARGE.search(message):
        return _Verdict(f"they are too large for one request ({said})", too_large=True)
    if error.code == _RATE_LIMIT or _NOT_READY.search(message):
        return _Verdict(f"Milvus is too busy ({said})", again=True)
    refused = {_SCHEMA_REFUSED, _FORCE_DENY, *_PARAMETERS_REFUSED}
    if error.code in refused or error.is_input_error:
        denied = error.code == _FORCE_DENY  # all writes, whatever the rows are
        return _Verdict(f"Milvus refused them ({said})", refused=not denied)
    # Part of a batch may be stored when the error came up. Milvus says if it will pass.
    return _Verdict(f"Milvus failed ({said})", again=error.retriable, maybe_stored=True)


def _origin(error: BaseException) -> BaseException:
    """The error that pymilvus met first: it wraps errors in others that say less."""
    found, seen = error, set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, (MilvusException, grpc.RpcError)):
            found = error
        error = error.__context__
    return found


def _one_line(text: str, longest: int = 300) -> str:
    line = " ".join(text.split())
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


@contextmanager
def _quiet_pymilvus() -> Iterator[None]:
    """Keep pymilvus from logging the traceback of every failed attempt of the sending thread.

    Failures are told by this module; whatever other threads do with pymilvus is logged as ever.
    """

    def is_elsewhere(record: logging.LogRecord) -> bool:
        return not str(record.threadName).startswith(_THREAD)

    names = [name for name in logging.root.manager.loggerDict if name.startswith("pymilvus")]
    for name in names:
        logging.getLogger(name).addFilter(is_elsewhere)
    try:
        yield
    finally:
        for name in names:
            logging.getLogger(name).removeFilter(is_elsewhere)
