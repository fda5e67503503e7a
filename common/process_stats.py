"""What processes take: processor, memory and disk, of the client and of a server on this machine.

    before = snapshot(processes)
    ...
    usage = usage_between(before, snapshot(processes))

Nothing samples in the background: while a load is measured, that would take part in it.
"""

import ipaddress
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlparse

import psutil

Result = TypeVar("Result")

PROXIES = ("docker-proxy", "rootlessport", "pasta")  # they listen for a server in a container
DEFAULT_PORT = 19530


@dataclass(frozen=True)
class Snapshot:
    """What some processes have used since they began, and when that was looked up.

    Attributes:
        at: on `time.perf_counter`.
        processor: seconds.
        memory: bytes that are resident now.
        read, written: bytes from and to the disk, caches left out; None where the system does not
            tell.
    """

    at: float
    processor: float
    memory: int
    read: int | None
    written: int | None


@dataclass(frozen=True)
class Usage:
    """What processes took between two snapshots.

    Attributes:
        cores: processor seconds in each second: 1.0 is one core, all the time.
        memory: bytes resident at the end.
        read, written: bytes from and to the disk, None where the system does not tell.
    """

    cores: float
    memory: int
    read: int | None
    written: int | None


def snapshot(processes: Iterable[psutil.Process]) -> Snapshot:
    """Look up what processes have used; one that is gone counts as nothing."""
    found = [values for process in processes if (values := _values(process)) is not None]
    read, written = ([values[place] for values in found] for place in (2, 3))
    return Snapshot(
        time.perf_counter(),
        sum(values[0] for values in found),
        sum(values[1] for values in found),
        None if None in read else sum(read),
        None if None in written else sum(written),
    )


def _values(process: psutil.Process) -> tuple[float, int, int | None, int | None] | None:
    try:
        times, memory = process.cpu_times(), process.memory_info().rss
    except psutil.Error:
        return None
    try:
        disk = process.io_counters()
        read, written = disk.read_bytes, disk.write_bytes
    except (psutil.Error, AttributeError, OSError):  # macOS does not count, containers may not tell
        read = written = None
    return times.user + times.system, memory, read, written


def usage_between(before: Snapshot, after: Snapshot) -> Usage:
    """What was used between two snapshots of the same processes."""

    def more(old: int | None, new: int | None) -> int | None:
        return None if old is None or new is None else max(0, new - old)

    seconds = after.at - before.at
    return Usage(
        max(0.0, after.processor - before.processor) / seconds if seconds > 0 else 0.0,
        after.memory,
        more(before.read, after.read),
        more(before.written, after.written),
    )


def watch(
    work: Callable[[], Result],
    *,
    client: Sequence[psutil.Process],
    server: Sequence[psutil.Process] | None,
) -> tuple[Result, Usage, Usage | None]:
    """Do some work: what it returned, and what client and server took meanwhile.

    Args:
        work: what to do.
        client: the processes that make up the client.
        server: those of the server; None where nothing can be known of them.
    """
    before = snapshot(client), snapshot(server or ())
    result = work()
    after = snapshot(client), snapshot(server or ())
    ours, its = (usage_between(*pair) for pair in zip(before, after, strict=True))
    return result, ours, its if server else None


def listening_process(uri: str) -> psutil.Process | None:
    """The process on this machine that listens at the address of a URI.

    None where the address is that of another machine, where nothing listens, where the system does
    not tell (the process of another user), and where a container's proxy listens for it.
    """
    parts = urlparse(uri)
    if parts.scheme not in ("http", "https", "tcp"):
        return None
    if not _is_here(parts.hostname or "localhost"):
        return None
    port = parts.port or (443 if parts.scheme == "https" else DEFAULT_PORT)
    try:
        listening = psutil.net_connections("tcp")
    except psutil.AccessDenied:  # macOS tells root only
        return None
    pids = {
        each.pid
        for each in listening
        if each.status == psutil.CONN_LISTEN and each.laddr.port == port and each.pid
    }
    try:
        process = psutil.Process(min(pids)) if len(pids) == 1 else None
        return None if process is None or process.name() in PROXIES else process
    except psutil.Error:
        return None


def _is_here(host: str) -> bool:
    """Whether a host's name or address is that of this machine."""
    try:
        found = {info[4][0] for info in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    own = {each.address for cards in psutil.net_if_addrs().values() for each in cards}
    return all(ipaddress.ip_address(a.split("%")[0]).is_loopback or a in own for a in found)
