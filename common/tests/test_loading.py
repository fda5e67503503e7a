import gc
import logging
import re
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from concurrent import futures

from common import loading, loading_benchmark
from common.connection import connect
from common.display import quiet_pymilvus
from common.loading import LoadFailed, LoadReport, load_rows
from common.schema import RowsRefused

import grpc
import numpy as np
import pytest
from pymilvus import DataType, MilvusClient
from pymilvus.grpc_gen import common_pb2, milvus_pb2

COLLECTION, AUTO_ID = "loading", "loading_auto_id"
DIMENSION = 4
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


def make_collection(
    client: MilvusClient,
    name: str = COLLECTION,
    *,
    auto_id: bool = False,
    dimension: int = DIMENSION,
    loaded: bool = True,
) -> None:
    schema = client.create_schema(auto_id=auto_id)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dimension)
    index = client.prepare_index_params()
    if loaded:
        index.add_index("vector", index_type="FLAT", metric_type="L2")
    client.create_collection(name, schema=schema, index_params=index, timeout=60)


@pytest.fixture(scope="module")
def kept_collections(session_milvus) -> Iterator[None]:
    """Two collections for all tests: on a server it takes seconds until one can be queried."""
    client = session_milvus.client
    make_collection(client, COLLECTION)
    make_collection(client, AUTO_ID, auto_id=True)
    yield
    client.drop_collection(COLLECTION)
    client.drop_collection(AUTO_ID)


@pytest.fixture
def client(kept_collections, milvus) -> MilvusClient:
    """The client of the Milvus under test, with both collections empty."""
    for name in (COLLECTION, AUTO_ID):
        if count(milvus.client, name):
            milvus.client.delete(name, filter="id >= 0", timeout=60)
            assert count(milvus.client, name) == 0
    return milvus.client


def some_rows(count: int, first: int = 0) -> Iterator[dict]:
    """Rows whose vectors hold their keys, so that each can be told from every other."""
    for number in range(first, first + count):
        yield {"id": number, "vector": np.full(DIMENSION, number, np.float32)}


def without_keys(rows: Iterator[dict]) -> Iterator[dict]:
    for row in rows:
        yield {"vector": row["vector"]}


def stored(client: MilvusClient, name: str = COLLECTION) -> list[int]:
    """What stands in the vectors of all rows, sorted: a row that is stored twice stands twice."""
    rows = client.query(
        name,
        filter="id >= 0",
        output_fields=["vector"],
        consistency_level="Strong",
        limit=16_384,
        timeout=60,
    )
    return sorted(int(row["vector"][0]) for row in rows)


def count(client: MilvusClient, name: str = COLLECTION) -> int:
    """All rows, also those with one key."""
    answer = client.query(name, output_fields=["count(*)"], consistency_level="Strong", timeout=60)
    return answer[0]["count(*)"]


# A fault is what becomes of a write: it may call `forward` to have Milvus do it.
Fault = Callable[[Callable[[], bytes], grpc.ServicerContext], bytes]


class FaultyProxy(grpc.GenericRpcHandler):
    """A gRPC server between pymilvus and a Milvus: passes all calls on, and faults into writes.

    Milvus and pymilvus are the real ones, and so is every gRPC status that pymilvus gets.
    """

    def __init__(self, target: str, **options: int) -> None:
        unlimited = {"grpc.max_send_message_length": -1, "grpc.max_receive_message_length": -1}
        self.faults: deque[Fault | None] = deque()  # of the next writes; None lets one pass
        self.faults_of_describe: deque[Fault | None] = deque()
        self.writes: list[str] = []
        self.most_at_once = 0
        self._at_once = 0
        self._channel = grpc.insecure_channel(target, list(unlimited.items()))
        self._server = grpc.server(
            futures.ThreadPoolExecutor(8), options=list({**unlimited, **options}.items())
        )
        self._server.add_generic_rpc_handlers((self,))
        port = self._server.add_insecure_port("127.0.0.1:0")
        self.uri = f"http://127.0.0.1:{port}"
        self._server.start()

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
            def forward() -> bytes:
                return self._forward(details.method, request, context)

            name = details.method.rsplit("/", 1)[1]
            if name in WRITES:
                return self._write(name, forward, context)
            faults = self.faults_of_describe if name == "DescribeCollection" else None
            fault = faults.popleft() if faults else None
            return fault(forward, context) if fault else forward()

        return grpc.unary_unary_rpc_method_handler(answer)

    def close(self) -> None:
        self._server.stop(None).wait()
        self._channel.close()

    def _write(self, name: str, forward: Callable[[], bytes], context) -> bytes:
        self.writes.append(name)
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            fault = self.faults.popleft() if self.faults else None
            return fault(forward, context) if fault else forward()
        finally:
            self._at_once -= 1

    def _forward(self, method: str, request: bytes, context: grpc.ServicerContext) -> bytes:
        kept = ("dbname", "authorization", "identifier")
        metadata = [(k, v) for k, v in context.invocation_metadata() if k in kept]
        try:
            return self._channel.unary_unary(method)(request, metadata=metadata, timeout=60)
        except grpc.RpcError as error:
            context.abort(error.code(), error.details())


WRITES = ("Insert", "Upsert")


def lost(forward: Callable[[], bytes], context: grpc.ServicerContext) -> bytes:
    """Milvus stores the rows, and the connection breaks before the answer arrives."""
    forward()
    context.abort(UNAVAILABLE, "Socket closed")


def unreachable(_: Callable[[], bytes], context: grpc.ServicerContext) -> bytes:
    """The request never arrives; the details are those of gRPC for a closed port."""
    context.abort(UNAVAILABLE, "failed to connect to all addresses; Connection refused")


def refused(_: Callable[[], bytes], context: grpc.ServicerContext) -> bytes:
    context.abort(grpc.StatusCode.PERMISSION_DENIED, "PrivilegeInsert: permission deny to alice")


def late(forward: Callable[[], bytes], _: grpc.ServicerContext) -> bytes:
    """Milvus stores the rows, and answers after the caller has given up."""
    answer = forward()
    time.sleep(1.5)
    return answer


def answers(code: int, old_code: int, reason: str, retriable: bool = False) -> Fault:
    """Milvus answers with an error; the codes and texts are those that it was seen to give."""
    status = common_pb2.Status(code=code, error_code=old_code, reason=reason, retriable=retriable)
    return lambda *_: milvus_pb2.MutationResult(status=status).SerializeToString()


def confirms_too_few(forward: Callable[[], bytes], _: grpc.ServicerContext) -> bytes:
    result = milvus_pb2.MutationResult.FromString(forward())
    result.insert_cnt -= 1
    return result.SerializeToString()


@pytest.fixture
def target(milvus) -> str:
    """Host and port of the Milvus under test. Milvus Lite listens too, on a port of its own."""
    uri = milvus.uri
    if milvus.kind == "lite":
        from milvus_lite.server_manager import server_manager_instance

        uri = server_manager_instance.start_and_get_uri(uri)
    return uri.split("//")[1]


@pytest.fixture
def proxy(target, monkeypatch) -> Iterator[FaultyProxy]:
    monkeypatch.setattr(loading, "FIRST_WAIT", 0.01)
    proxy = FaultyProxy(target)
    yield proxy
    proxy.close()


@pytest.fixture
def through(client, proxy) -> Iterator[MilvusClient]:
    """A client whose calls go through the proxy; both collections are empty."""
    through = MilvusClient(proxy.uri, timeout=10, dedicated=True)
    yield through
    through.close()


class TestLoading:
    @pytest.mark.parametrize("upsert", [False, True])
    def test_every_row_is_stored_once(self, client, upsert):
        report = load_rows(client, COLLECTION, some_rows(2345), batch_size=500, upsert=upsert)
        assert (report.rows, report.batches, report.retries) == (2345, 5, 0)
        assert stored(client) == list(range(2345))

    def test_an_upsert_replaces(self, client):
        load_rows(client, COLLECTION, some_rows(30), batch_size=20)
        moved = ({**row, "vector": row["vector"] + 100} for row in some_rows(30))
        load_rows(client, COLLECTION, moved, batch_size=7, upsert=True)
        assert stored(client) == list(range(100, 130))

    def test_the_first_rows_are_left_out(self, client):
        report = load_rows(client, COLLECTION, some_rows(100), batch_size=30, start_at=45)
        assert (report.rows, report.batches) == (55, 2)
        assert stored(client) == list(range(45, 100))

    def test_nothing_is_left_to_do_at_the_end(self, client):
        report = load_rows(client, COLLECTION, some_rows(10), start_at=10)
        assert (report.rows, report.batches) == (0, 0)

    def test_progress_is_told_after_each_batch(self, client):
        told = []
        load_rows(client, COLLECTION, some_rows(50), batch_size=20, progress=told.append)
        assert len(told) == 3
        assert told == sorted(told)
        assert told[-1] == 50
        load_rows(client, COLLECTION, some_rows(50), start_at=49, progress=told.append)
        assert told[-1] == 50

    def test_batches_are_stored_one_after_the_other(self, through, proxy):
        """Also when one takes long: the next one is made ready, but it is not sent."""
        proxy.faults.extend([None, late, None])
        load_rows(through, COLLECTION, some_rows(100), batch_size=10)
        assert proxy.writes == ["Insert"] * 10
        assert proxy.most_at_once == 1
        assert stored(through) == list(range(100))

    def test_rows_per_second(self):
        assert LoadReport(rows=100, batches=1, retries=0, seconds=4.0).rows_per_second == 25
        assert LoadReport(rows=0, batches=0, retries=0, seconds=0.0).rows_per_second == 0

    @pytest.mark.parametrize(
        ("argument", "value"),
        [
            ("batch_size", 0),
            ("timeout", 0),
            ("timeout", float("inf")),
            ("retries", -1),
            ("start_at", -1),
        ],
    )
    def test_arguments_out_of_range(self, argument, value):
        with pytest.raises(ValueError, match=rf"{argument} is {value}; it is"):
            load_rows(None, COLLECTION, [], **{argument: value})

    def test_a_start_behind_the_end(self, client):
        with pytest.raises(ValueError, match="start_at is 11, but there are only 10 rows"):
            load_rows(client, COLLECTION, some_rows(10), start_at=11)
        assert count(client) == 0


class TestBadRows:
    def test_the_batches_before_a_bad_row_are_stored_and_its_own_is_not(self, through, proxy):
        rows = list(some_rows(35))
        rows[27]["vector"] = np.array([1, np.nan, 1, 1], np.float32)
        rows[29] = {"id": "29", "vector": [1.0]}
        with pytest.raises(RowsRefused) as caught:
            load_rows(through, COLLECTION, rows, batch_size=10)
        assert [(p.row, p.field) for p in caught.value.problems] == [
            (27, "vector"),
            (29, "id"),
            (29, "vector"),
        ]
        assert 'row 27, field "vector": NaN at position 1' in str(caught.value)
        assert "go on with start_at=20" in str(caught.value)
        assert caught.value.rows_stored == 20
        assert proxy.writes == ["Insert"] * 2
        assert stored(through) == list(range(20))
        rows[27:30:2] = [{"id": 27, "vector": [27] * 4}, {"id": 29, "vector": [29] * 4}]
        load_rows(through, COLLECTION, rows, batch_size=10, start_at=caught.value.rows_stored)
        assert stored(through) == list(range(35))

    def test_a_failure_before_the_bad_row_is_told_first(self, through, proxy):
        """Its batch is on its way when the bad row is found, and then it is not stored."""

        def slowly_refused(forward, context) -> bytes:
            time.sleep(0.5)
            return refused(forward, context)

        proxy.faults.extend([None, slowly_refused])
        with pytest.raises(LoadFailed, match="rows 10 to 19 were not stored") as caught:
            load_rows(through, COLLECTION, [*some_rows(25), {"id": 25}], batch_size=10)
        assert caught.value.rows_stored == 10
        assert stored(through) == list(range(10))

    def test_rows_are_numbered_from_the_first_of_all(self, client):
        rows = [*some_rows(25), {"id": 25}]
        with pytest.raises(RowsRefused, match='row 25, field "vector": no value') as caught:
            load_rows(client, COLLECTION, rows, batch_size=10, start_at=20)
        assert caught.value.rows_stored == 20

    def test_no_rows(self, client):
        with pytest.raises(RowsRefused, match="there are no rows; give at least one row"):
            load_rows(client, COLLECTION, iter([]))
        assert count(client) == 0

    def test_without_the_check_milvus_refuses(self, through, proxy):
        rows = [*some_rows(20), {"id": 20, "vector": [1.0]}]
        with pytest.raises(LoadFailed) as caught:
            load_rows(through, COLLECTION, rows, batch_size=10, check=False)
        assert str(caught.value).startswith("rows 20 to 20 ")
        assert re.search(r"expected dim 4, got 1|length\(1\)", str(caught.value))
        assert (caught.value.rows_stored, caught.value.first_row) == (20, 20)
        assert proxy.writes == ["Insert"] * 3  # it is of no use to send that one again
        assert stored(through) == list(range(20))

    def test_without_the_check_pymilvus_refuses(self, through, proxy):
        rows = [*some_rows(20), {"id": "x", "vector": [1.0] * 4}]
        with pytest.raises(LoadFailed, match=r"were not stored.*pymilvus refused them") as caught:
            load_rows(through, COLLECTION, rows, batch_size=10, check=False)
        assert (caught.value.rows_stored, caught.value.maybe_stored) == (20, False)
        assert proxy.writes == ["Insert"] * 2
        assert stored(through) == list(range(20))


class TestLostAnswers:
    """Milvus stored the rows, but the caller cannot know."""

    @pytest.mark.parametrize(("upsert", "again"), [(False, "Upsert"), (True, "Upsert")])
    def test_with_keys_nothing_is_stored_twice(self, through, proxy, upsert, again):
        proxy.faults.extend([None, lost])
        report = load_rows(through, COLLECTION, some_rows(35), batch_size=10, upsert=upsert)
        assert (report.rows, report.retries) == (35, 1)
        first = "Upsert" if upsert else "Insert"
        assert proxy.writes == [first, first, again, first, first]
        assert stored(through) == list(range(35))
        assert count(through) == 35

    def test_where_milvus_makes_the_keys_nothing_is_sent_again(self, through, proxy):
        proxy.faults.extend([None, lost])
        rows = without_keys(some_rows(35))
        with pytest.raises(LoadFailed) as caught:
            load_rows(through, AUTO_ID, rows, batch_size=10)
        assert str(caught.value) == (
            'rows 10 to 19 may or may not be stored in "loading_auto_id": the connection broke '
            "(gRPC UNAVAILABLE: Socket closed). The 10 rows before them are stored; Milvus makes "
            "the keys itself (auto_id), so that sending them again could store them twice: count "
            "the rows of the collection, and go on with start_at=10 if they are missing, or with "
            "start_at=20 if they are there."
        )
        error = caught.value
        assert (error.rows_stored, error.first_row, error.last_row) == (10, 10, 19)
        assert error.maybe_stored
        assert proxy.writes == ["Insert"] * 2
        assert count(through, AUTO_ID) == 20  # so start_at=20 is right
        load_rows(through, AUTO_ID, without_keys(some_rows(35)), batch_size=10, start_at=20)
        assert stored(through, AUTO_ID) == list(range(35))

    def test_an_answer_that_comes_too_late(self, through, proxy):
        proxy.faults.extend([None, late])
        report = load_rows(through, COLLECTION, some_rows(30), batch_size=10, timeout=1.0)
        assert report.retries == 1
        assert proxy.writes == ["Insert", "Insert", "Upsert", "Insert"]
        assert count(through) == 30

    def test_an_answer_that_confirms_too_few_rows(self, through, proxy):
        proxy.faults.append(confirms_too_few)
        with pytest.raises(LoadFailed, match="Milvus confirmed 9 of 10 rows") as caught:
            load_rows(through, COLLECTION, some_rows(30), batch_size=10)
        assert (caught.value.rows_stored, caught.value.maybe_stored) == (0, True)
        assert proxy.writes == ["Insert"]


class TestRefusals:
    """Milvus surely did not store the rows."""

    @pytest.mark.parametrize("name", [COLLECTION, AUTO_ID])
    def test_what_never_arrived_is_sent_again_as_it_was(self, through, proxy, name):
        proxy.faults.extend([None, unreachable, unreachable])
        rows = without_keys(some_rows(30)) if name == AUTO_ID else some_rows(30)
        report = load_rows(through, name, rows, batch_size=10)
        assert report.retries == 2
        assert proxy.writes == ["Insert"] * 5
        assert stored(through, name) == list(range(30))

    def test_what_breaks_before_the_rows_are_sent_leaves_no_doubt(self, through, proxy):
        """pymilvus asks for the schema before the first insert: there the connection breaks."""
        proxy.faults_of_describe.extend([None, lost])
        load_rows(through, AUTO_ID, without_keys(some_rows(10)))
        assert proxy.writes == ["Insert"]
        assert count(through, AUTO_ID) == 10

    def test_a_doubt_stays_although_the_next_attempt_does_not_arrive(self, through, proxy):
        proxy.faults.extend([lost, unreachable])
        load_rows(through, COLLECTION, some_rows(10))
        assert proxy.writes == ["Insert", "Upsert", "Upsert"]
        assert count(through) == 10

    def test_a_rate_limit_is_waited_for(self, through, proxy):
        limited = answers(8, common_pb2.RateLimit, "rate limit exceeded[rate=524288]")
        proxy.faults.extend([limited, limited])
        report = load_rows(through, AUTO_ID, without_keys(some_rows(10)))
        assert report.retries == 2
        assert count(through, AUTO_ID) == 10

    def test_after_the_last_attempt_the_load_fails(self, through, proxy):
        proxy.faults.extend([None, *[unreachable] * 3])
        with pytest.raises(LoadFailed) as caught:
            load_rows(through, COLLECTION, some_rows(30), batch_size=10, retries=2)
        assert str(caught.value) == (
            'rows 10 to 19 were not stored in "loading": Milvus cannot be reached '
            "(gRPC UNAVAILABLE: failed to connect to all addresses; Connection refused). "
            "The 10 rows before them are stored; go on with start_at=10."
        )
        assert not caught.value.maybe_stored
        assert isinstance(caught.value.__cause__, Exception)
        assert proxy.writes == ["Insert"] * 4
        start_at = caught.value.rows_stored
        load_rows(through, COLLECTION, some_rows(30), batch_size=10, start_at=start_at)
        assert stored(through) == list(range(30))

    def test_after_the_last_attempt_in_doubt_an_upsert_goes_on(self, through, proxy):
        proxy.faults.extend([None, lost, unreachable])
        with pytest.raises(LoadFailed, match="upsert=True, so that no row is stored") as caught:
            load_rows(through, COLLECTION, some_rows(30), batch_size=10, retries=1)
        assert caught.value.maybe_stored
        start_at = caught.value.rows_stored
        load_rows(through, COLLECTION, some_rows(30), start_at=start_at, upsert=True)
        assert count(through) == 30

    def test_a_permission_that_is_missing(self, through, proxy):
        proxy.faults.append(refused)
        with pytest.raises(LoadFailed, match="PERMISSION_DENIED: PrivilegeInsert: permission"):
            load_rows(through, COLLECTION, some_rows(10))
        assert proxy.writes == ["Insert"]

    @pytest.mark.parametrize(
        ("code", "old_code", "reason", "doubtful"),
        [
            (9, common_pb2.ForceDeny, "quota exceeded[reason=disk quota exceeded]", False),
            (1, 0, "[Errno 28] No space left on device", True),
        ],
        ids=["server", "lite"],
    )
    def test_not_enough_disk(self, through, proxy, code, old_code, reason, doubtful):
        proxy.faults.extend([None, answers(code, old_code, reason)])
        with pytest.raises(LoadFailed) as caught:
            load_rows(through, COLLECTION, some_rows(30), batch_size=10)
        assert "Milvus has not enough disk" in str(caught.value)
        assert reason in str(caught.value)
        assert "free some or raise its quota" in str(caught.value)
        assert (caught.value.rows_stored, caught.value.maybe_stored) == (10, doubtful)
        assert proxy.writes == ["Insert"] * 2

    def test_an_error_that_milvus_says_will_pass(self, through, proxy):
        proxy.faults.append(answers(5, 1, "channel is being moved", retriable=True))
        load_rows(through, COLLECTION, some_rows(10))
        assert proxy.writes == ["Insert", "Upsert"]
        assert count(through) == 10

    def test_an_error_of_unknown_kind_is_not_repeated(self, through, proxy):
        proxy.faults.append(answers(65535, 1, "something broke"))
        with pytest.raises(LoadFailed, match=r"Milvus failed \(code 65535: something broke"):
            load_rows(through, COLLECTION, some_rows(10))
        assert proxy.writes == ["Insert"]

    def test_a_collection_that_does_not_exist(self, client):
        with pytest.raises(LoadFailed) as caught:
            load_rows(client, "no_such_collection", some_rows(10))
        assert 'nothing was loaded into "no_such_collection"' in str(caught.value)
        assert "the collection does not exist" in str(caught.value)
        assert "create it first" in str(caught.value)
        assert caught.value.rows_stored == 0

    def test_a_collection_that_is_dropped_in_the_middle(self, client, milvus):
        name = "loading_dropped"
        make_collection(client, name, loaded=False)
        other = MilvusClient(**milvus.options, dedicated=True)

        def rows() -> Iterator[dict]:
            yield from some_rows(50)
            other.drop_collection(name)
            yield from some_rows(50, first=50)

        with pytest.raises(LoadFailed, match="the collection does not exist") as caught:
            load_rows(client, name, rows(), batch_size=10)
        assert 30 <= caught.value.rows_stored <= 60
        other.close()


class TestLargeMessages:
    """The proxy takes messages of up to 2 kB, as Milvus takes 64 MiB and Milvus Lite 256 MiB."""

    @pytest.fixture
    def proxy(self, target) -> Iterator[FaultyProxy]:
        proxy = FaultyProxy(target, **{"grpc.max_receive_message_length": 2000})
        yield proxy
        proxy.close()

    def test_a_batch_that_is_too_large_goes_in_parts(self, through, proxy):
        told = []
        report = load_rows(
            through, COLLECTION, some_rows(500), batch_size=250, progress=told.append
        )
        assert (report.rows, report.batches) == (500, 2)
        assert told[-1] == 500
        # 18 bytes a row: 250 and 125 rows are too many for a message, 63 are not. What is too
        # large does not get as far as to be counted.
        assert proxy.writes == ["Insert"] * 8
        assert stored(through) == list(range(500))

    def test_a_row_that_is_too_large(self, client, through, proxy):
        make_collection(client, "loading_large", dimension=600, loaded=False)
        rows = [{"id": n, "vector": [0.5] * 600} for n in range(3)]
        with pytest.raises(LoadFailed) as caught:
            load_rows(through, "loading_large", rows)
        assert str(caught.value).startswith(
            'rows 0 to 0 were not stored in "loading_large": they are too large for one message '
            "(gRPC RESOURCE_EXHAUSTED: "
        )
        assert (caught.value.rows_stored, caught.value.maybe_stored) == (0, False)
        assert proxy.writes == []

    def test_the_limit_of_the_server_itself(self, shared_server):
        """64 MiB; the rows are 79 MB."""
        client, name = MilvusClient(shared_server.uri, timeout=10), "loading_64_mib"
        make_collection(client, name, dimension=32_768)
        vector = np.ones(32_768, np.float32)
        rows = ({"id": n, "vector": vector} for n in range(600))
        try:
            report = load_rows(client, name, rows, batch_size=600)
            assert (report.rows, report.batches) == (600, 1)
            assert count(client, name) == 600
        finally:
            client.drop_collection(name)
            client.close()


class TestStopping:
    def test_an_iterable_that_fails(self, client):
        def rows() -> Iterator[dict]:
            yield from some_rows(35)
            raise OSError("the source is gone")

        with pytest.raises(OSError, match="the source is gone") as caught:
            load_rows(client, COLLECTION, rows(), batch_size=10)
        assert caught.value.__notes__ == ["load_rows: 30 rows are stored; go on with start_at=30"]
        assert stored(client) == list(range(30))

    def test_ctrl_c_leaves_no_thread_and_no_doubt(self, through, proxy):
        """Ctrl-C while one batch is on its way and the next one waits for its turn."""
        proxy.faults.extend([None, late, None])

        def rows() -> Iterator[dict]:
            yield from some_rows(30)
            while len(proxy.writes) < 2:
                time.sleep(0.01)
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt) as caught:
            load_rows(through, COLLECTION, rows(), batch_size=10)
        assert not [t for t in threading.enumerate() if t.name.startswith("load_rows")]
        assert caught.value.__notes__ == ["load_rows: 20 rows are stored; go on with start_at=20"]
        assert proxy.writes == ["Insert"] * 2
        assert stored(through) == list(range(20))

    def test_ctrl_c_ends_the_waiting_for_another_attempt(self, through, proxy, monkeypatch):
        monkeypatch.setattr(loading, "FIRST_WAIT", 3600.0)
        monkeypatch.setattr(loading, "LONGEST_WAIT", 3600.0)
        proxy.faults.extend([None, lost])

        def rows() -> Iterator[dict]:
            yield from some_rows(30)
            while len(proxy.writes) < 2:
                time.sleep(0.01)
            time.sleep(0.5)
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt) as caught:
            load_rows(through, COLLECTION, rows(), batch_size=10)
        assert caught.value.__notes__ == [
            "load_rows: 10 rows are stored, and rows 10 to 19 may be; go on with start_at=10"
        ]
        assert proxy.writes == ["Insert"] * 2

    def test_ctrl_c_in_a_process(self, milvus, client, tmp_path):
        """A real SIGINT: what the process says is stored is what Milvus has."""
        uri = milvus.uri
        if milvus.kind == "lite":  # its files belong to one process at a time
            uri = str(tmp_path / "interrupted.db")
            with connect(uri) as own:
                make_collection(own.client)
        script = f"""if True:
            import itertools
            from common.loading import load_rows
            from pymilvus import MilvusClient

            rows = ({{"id": n, "vector": [n] * {DIMENSION}}} for n in itertools.count())
            load_rows(MilvusClient({uri!r}), {COLLECTION!r}, rows, batch_size=10,
                      progress=lambda done: print(done, flush=True))
        """
        process = subprocess.Popen(
            [sys.executable, "-c", script],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            for line in process.stdout:
                if int(line) >= 100:
                    break
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
        assert process.returncode != 0
        assert "KeyboardInterrupt" in errors
        (said,) = re.findall(r"load_rows: ([\d,]+) rows are stored; go on with", errors)
        rows_stored = int(said.replace(",", ""))
        assert rows_stored >= 100
        with connect(uri) as again:
            again.client.load_collection(COLLECTION, timeout=60)
            assert count(again.client) == rows_stored


class TestServerGone:
    """A real server that is killed (SIGKILL) while rows are loaded."""

    def test_it_comes_back_and_nothing_is_lost_or_doubled(self, throwaway_server, full):
        client = MilvusClient(throwaway_server.uri, timeout=10)
        make_collection(client)
        size = 20_000 if full else 4000

        def rows() -> Iterator[dict]:
            yield from some_rows(size)
            throwaway_server.kill()
            back.start()
            yield from some_rows(size, first=size)

        for upsert in (False, True) if full else (False,):
            back = threading.Thread(target=throwaway_server.start)
            report = load_rows(client, COLLECTION, rows(), batch_size=250, upsert=upsert, retries=8)
            back.join()
            assert report.rows == 2 * size
            assert report.retries >= 1
            wait_until_queries_work(client)
            assert count(client) == 2 * size
            assert stored(client) == list(range(2 * size))[:16_384]
        client.close()
        throwaway_server.kill()  # quicker than to stop it

    def test_it_stays_away(self, throwaway_server, caplog):
        client = MilvusClient(throwaway_server.uri, timeout=10)
        make_collection(client)

        def rows() -> Iterator[dict]:
            yield from some_rows(2000)
            throwaway_server.kill()
            yield from some_rows(2000, first=2000)

        with pytest.raises(LoadFailed) as caught:
            load_rows(client, COLLECTION, rows(), batch_size=250, retries=1)
        error = caught.value
        assert re.search("Milvus cannot be reached|the connection broke", str(error))
        assert f"go on with start_at={error.rows_stored}" in str(error)
        assert error.rows_stored == error.first_row
        told = [r.getMessage() for r in caplog.records if r.name == "common.loading"]
        assert re.match(rf"rows {error.first_row} to .*; attempt 2 of 2 in \d\.\d s", told[0])
        # The tracebacks that pymilvus logs of each attempt are kept away.
        assert not [r for r in caplog.records if r.name.startswith("pymilvus")]
        throwaway_server.start()
        wait_until_queries_work(client)
        load_rows(client, COLLECTION, some_rows(4000), start_at=error.rows_stored, upsert=True)
        assert stored(client) == list(range(4000))
        client.close()
        throwaway_server.kill()


def wait_until_queries_work(client: MilvusClient) -> None:
    """After a crash a collection can be queried again when the dead session has expired."""
    deadline = time.monotonic() + 60
    while True:
        try:
            with quiet_pymilvus():
                count(client)
        except Exception:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)
        else:
            return


class TestMemory:
    def test_only_a_few_batches_are_alive_at_once(self, client):
        alive: weakref.WeakSet = weakref.WeakSet()
        most = 0

        def rows() -> Iterator[dict]:
            nonlocal most
            for row in some_rows(3000):
                row["vector"] = Watched(row["vector"])
                alive.add(row["vector"])
                yield row

        def look(_: int) -> None:
            nonlocal most
            gc.collect()
            most = max(most, len(alive))

        load_rows(client, COLLECTION, rows(), batch_size=100, check=False, progress=look)
        assert 0 < most <= 4 * 100

    def test_streaming_keeps_the_process_small(self, shared_server, full):
        """In small: fewer rows of more dimensions, which still are more than the bar in all."""
        rows, dimension = (
            (loading_benchmark.MEMORY_ROWS, loading_benchmark.MEMORY_DIMENSION)
            if full
            else (60_000, 512)
        )
        assert rows * dimension * 4 / 1e6 > loading_benchmark.MEMORY_BAR
        client = MilvusClient(shared_server.uri, timeout=10)
        growth = loading_benchmark.measure_growth(client, rows, dimension)
        assert growth.rows == rows
        assert growth.growth <= loading_benchmark.MEMORY_BAR
        client.close()


class Watched(list):
    """A vector that can be watched: a plain list takes no weak references."""

    __hash__ = object.__hash__


class TestQuiet:
    def test_other_threads_log_as_ever(self, through, proxy, caplog):
        """While a load goes on: its own failed attempts are quiet, and only these."""
        proxy.faults.extend([None, lost])
        logger = logging.getLogger("pymilvus.decorators")
        filters = list(logger.filters)

        def rows() -> Iterator[dict]:
            yield from some_rows(25)
            while len(proxy.writes) < 3:
                time.sleep(0.01)
            logger.error("of this thread")
            yield from some_rows(5, first=25)

        logger.propagate, before = True, logger.propagate
        try:
            load_rows(through, COLLECTION, rows(), batch_size=10)
        finally:
            logger.propagate = before
        said = [r.getMessage() for r in caplog.records if r.name.startswith("pymilvus")]
        assert said == ["of this thread"]
        assert logger.filters == filters


class TestBenchmark:
    def test_it_compares_and_leaves_nothing_behind(self, shared_server, capsys):
        """The figures are for people: on a busy machine they may be below the bar."""
        arguments = ["--uri", shared_server.uri, "--rows", "3000", "--dimension", "8"]
        code = loading_benchmark.main([*arguments, "--pairs", "3"])
        output = capsys.readouterr().out
        assert "Milvus 2.3.5 (local server)" in output
        assert "NumPy rows" in output
        assert "lists of floats" in output
        (numpy_ratio, _) = re.findall(r"median ratio: (\d\.\d{3})", output)
        reached = float(numpy_ratio) >= loading_benchmark.BAR
        assert code == (0 if reached else 1)
        assert ("NOT reached" not in output) == reached
        client = MilvusClient(shared_server.uri, timeout=10)
        prefix = loading_benchmark.COLLECTION_PREFIX
        assert not [name for name in client.list_collections() if name.startswith(prefix)]
        client.close()

    def test_the_rows_of_both_kinds_are_the_same(self):
        arrays, lists = (
            make(5, 3) for make in (loading_benchmark.numpy_rows, loading_benchmark.list_rows)
        )
        assert [row["id"] for row in arrays] == [row["id"] for row in lists] == list(range(5))
        assert [row["vector"].tolist() for row in arrays] == [row["vector"] for row in lists]

    def test_streamed_rows_are_as_many_as_asked_for(self):
        rows = list(loading_benchmark.streamed_rows(2500, 3, block=1000))
        assert [row["id"] for row in rows] == list(range(2500))
        assert {row["vector"].shape for row in rows} == {(3,)}

    def test_the_ratio_of_a_pair(self):
        assert loading_benchmark.Pair(ours=30.0, bare=20.0).ratio == 1.5
