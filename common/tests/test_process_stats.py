"""What processes take: on known snapshots, on a process that works, and on one that listens."""

import os
import socket
import subprocess
import sys
from pathlib import Path

from common.local_server import LocalServer
from common.process_stats import (
    Snapshot,
    Usage,
    listening_process,
    snapshot,
    usage_between,
    watch,
)

import psutil
import pytest


def test_between_two_snapshots_by_hand() -> None:
    before = Snapshot(100.0, 5.0, 1_000, 10, 20)
    after = Snapshot(104.0, 11.0, 3_000, 15, 220)
    assert usage_between(before, after) == Usage(1.5, 3_000, 5, 200)
    # A process that ended meanwhile takes its past with it: nothing is then told as negative.
    gone = Snapshot(104.0, 1.0, 500, 4, 8)
    assert usage_between(before, gone) == Usage(0.0, 500, 0, 0)
    silent = Snapshot(104.0, 6.0, 500, None, None)
    assert usage_between(before, silent) == Usage(0.25, 500, None, None)


def test_a_process_that_works() -> None:
    here = psutil.Process()

    def work() -> int:
        begun, number = here.cpu_times().user, 0
        while here.cpu_times().user < begun + 0.2:
            number += sum(range(10_000))
        return number

    worked, ours, none = watch(work, client=[here], server=None)
    assert worked > 0
    assert none is None
    _, _, idle = watch(lambda: None, client=[], server=[here])
    assert idle.memory > 2**20
    assert 0 < ours.cores <= psutil.cpu_count() + 0.1
    assert ours.memory == pytest.approx(here.memory_info().rss, rel=0.5)


def test_what_is_written_to_the_disk(tmp_path: Path) -> None:
    here = psutil.Process()
    if not hasattr(here, "io_counters"):
        pytest.skip("this system does not count what processes read and write")

    def write() -> None:
        with (tmp_path / "file").open("wb") as file:
            file.write(os.urandom(4 * 2**20))
            file.flush()
            os.fsync(file.fileno())

    _, usage, _ = watch(write, client=[here], server=None)
    in_memory = any(
        part.fstype == "tmpfs" and str(tmp_path).startswith(part.mountpoint)
        for part in psutil.disk_partitions(all=True)
        if part.mountpoint != "/"
    )
    assert usage.written >= (0 if in_memory else 4 * 2**20)


def test_processes_that_are_gone_count_as_nothing() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        process = psutil.Process(child.pid)
        assert snapshot([process]).memory > 0
        child.kill()
    after = snapshot([process])
    assert (after.processor, after.memory, after.read) == (0, 0, 0)


def test_who_listens_at_an_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert listening_process(f"http://localhost:{port}").pid == os.getpid()
        assert listening_process(f"http://127.0.0.1:{port}").pid == os.getpid()
    assert listening_process(f"http://localhost:{port}") is None
    for elsewhere in ("http://192.0.2.1:19530", "https://milvus.invalid", "some/file.db"):
        assert listening_process(elsewhere) is None


def test_the_local_server_is_found(shared_server: LocalServer) -> None:
    assert listening_process(shared_server.uri).pid == shared_server.pid
