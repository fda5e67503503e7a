"""Load from processes: they share what is in flight, and one that ends is an error."""

import os
import signal

from common.load_processes import WorkerFailed, Workers
from common.local_server import LocalServer
from common.vectors import clustered_vectors

import psutil
import pytest
from pymilvus import MilvusClient

NAME = "load_processes_test"
REQUEST = {"collection_name": NAME, "limit": 3, "output_fields": ["id"], "timeout": 10}


@pytest.fixture(scope="module")
def options(shared_server: LocalServer):
    """How to connect to a Milvus that has a small collection."""
    client = MilvusClient(shared_server.uri)
    client.create_collection(NAME, dimension=8, metric_type="COSINE", timeout=60)
    rows = [{"id": n, "vector": v} for n, v in enumerate(clustered_vectors(50, 8))]
    client.insert(NAME, rows, timeout=60)
    client.query(NAME, filter="id >= 0", limit=1, consistency_level="Strong", timeout=60)
    yield {"uri": shared_server.uri}
    client.drop_collection(NAME, timeout=60)
    client.close()


def test_workers_share_the_requests_and_one_that_is_killed_is_an_error(options: dict) -> None:
    queries = clustered_vectors(50, 8)[:4]
    with Workers(2, options, REQUEST, queries) as workers:
        pids = workers.pids
        assert len(set(pids)) == 2
        assert os.getpid() not in pids
        run = workers.closed_loop(in_flight=5, seconds=0.4)
        assert run.in_flight == 5
        assert run.failed == 0
        assert run.answered == run.answers.total() > 0
        # Each finds itself first: the queries are stored rows.
        assert {(query, keys[0]) for query, keys in run.answers} == {(n, n) for n in range(4)}
        assert run.elapsed >= 0.4
        assert workers.closed_loop(in_flight=1, seconds=0.1).in_flight == 1
        with pytest.raises(ValueError, match="in_flight is 1 or more"):
            workers.closed_loop(in_flight=0, seconds=1)
        os.kill(pids[1], signal.SIGKILL)
        with pytest.raises(WorkerFailed, match=f"process {pids[1]} ended with exit code -9"):
            workers.closed_loop(in_flight=2, seconds=0.1)
    assert not any(psutil.pid_exists(pid) for pid in pids)
    with pytest.raises(ValueError, match="at least 1 worker"):
        Workers(0, options, REQUEST, queries)


def test_requests_that_fail_come_back_as_errors(options: dict) -> None:
    wrong = {**REQUEST, "collection_name": "no_such_collection"}
    with Workers(1, options, wrong, clustered_vectors(2, 8)) as workers:
        run = workers.closed_loop(in_flight=2, seconds=0.2)
    assert run.answered == 0
    assert run.failed > 0
    assert "no_such_collection" in next(iter(run.errors))
