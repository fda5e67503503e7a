"""Load from several processes, each with its own interpreter, client and connection.

    with Workers(2, milvus.options, request, queries) as workers:
        load = workers.closed_loop(in_flight=64, seconds=10)

A worker is `python -m common.load_processes`. A child that Python itself spawns would import the
script that started it, and a file whose name begins with a number cannot be imported. What a worker
has to know goes to its standard input, one JSON object a line, and so no password shows in a list
of processes; what it measured comes back from its standard output in the same way.
"""

import asyncio
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import IO

from common.load_generation import Load, closed_loop, joined
from common.vectors import Float32

import numpy as np
from pymilvus import AsyncMilvusClient

COMMAND = (sys.executable, "-m", "common.load_processes")
PATIENCE = 5.0  # seconds that a worker has to end


class WorkerFailed(RuntimeError):  # noqa: N818 - it reads as a sentence where it is raised
    """A worker process ended; what it says of it stands on stderr."""

    exit_code = 1


class Workers:
    """Worker processes, ready to send searches. A context manager: they end with it.

    Args:
        count: how many.
        options: of the client, as in `Milvus.options`.
        request: the arguments of `search` besides `data`; what JSON can hold.
        queries: of shape (n, dimension).
    """

    def __init__(
        self,
        count: int,
        options: Mapping[str, object],
        request: Mapping[str, object],
        queries: Float32,
    ) -> None:
        if count < 1:
            raise ValueError(f"there must be at least 1 worker, not {count}")
        self._count, self._queries = count, queries
        self._setup = {"options": dict(options), "request": dict(request)}
        self._running: list[subprocess.Popen] = []

    def __enter__(self) -> "Workers":
        with tempfile.TemporaryDirectory(prefix="load-") as folder:
            path = Path(folder, "queries.npy")
            np.save(path, self._queries)
            try:
                for _ in range(self._count):
                    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
                    self._running.append(subprocess.Popen(COMMAND, **pipes))
                for worker in self._running:
                    _tell(worker, {**self._setup, "queries": str(path)})
                for worker in self._running:
                    _hear(worker)
            except BaseException:
                self.__exit__()
                raise
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._running:
            worker.kill()  # there is nothing that it would have to put in order
        for worker in self._running:
            worker.wait(PATIENCE)
            worker.stdout.close()
            try:
                worker.stdin.close()
            except BrokenPipeError:
                continue  # what was written last found nobody to read it
        self._running = []

    @property
    def pids(self) -> list[int]:
        """The ids of the processes."""
        return [worker.pid for worker in self._running]

    def closed_loop(self, *, in_flight: int, seconds: float) -> Load:
        """The closed loop of all workers together, which share the requests in flight.

        Raises:
            WorkerFailed: one ended.
            ValueError: a number out of its range.
        """
        if in_flight < 1 or seconds <= 0:
            raise ValueError(
                f"in_flight is 1 or more and seconds over 0, not {in_flight} and {seconds:g}"
            )
        working = self._running[:in_flight]
        whole, rest = divmod(in_flight, len(working))
        for number, worker in enumerate(working):
            _tell(worker, {"in_flight": whole + (number < rest), "seconds": seconds})
        for worker in working:
            _hear(worker)
        for worker in working:  # all are warm: they begin together
            _tell(worker, {})
        return joined([Load.from_json(_hear(worker)) for worker in working])


def _tell(worker: subprocess.Popen, values: Mapping[str, object]) -> None:
    try:
        worker.stdin.write(json.dumps(values) + "\n")
        worker.stdin.flush()
    except BrokenPipeError:
        raise _failure(worker) from None


def _hear(worker: subprocess.Popen) -> dict:
    line = worker.stdout.readline()
    if not line:
        raise _failure(worker)
    return json.loads(line)


def _failure(worker: subprocess.Popen) -> WorkerFailed:
    code = worker.wait(PATIENCE)
    return WorkerFailed(f"the worker process {worker.pid} ended with exit code {code}")


async def work(source: IO[str], sink: IO[str]) -> None:
    """Be a worker: read what to do, do it, write what came of it, until `source` ends."""

    def answer(values: Mapping[str, object]) -> None:
        sink.write(json.dumps(values) + "\n")
        sink.flush()

    async def begin() -> None:
        answer({})
        source.readline()

    setup = json.loads(source.readline())
    queries, request = np.load(setup["queries"]), setup["request"]
    client = AsyncMilvusClient(**setup["options"])

    async def search(query: int) -> list:
        (hits,) = await client.search(data=[queries[query]], **request)
        return hits.ids

    try:
        answer({})
        for line in source:
            how = {**json.loads(line), "queries": len(queries), "begin": begin}
            load = await closed_loop(search, **how)
            answer(load.as_json())
    finally:
        await client.close()


def main(run: Callable[[Awaitable[None]], None] = asyncio.run) -> None:
    """Serve whoever started this process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the script, which ends this
    sink, sys.stdout = sys.stdout, sys.stderr  # so that nothing else is printed among the answers
    run(work(sys.stdin, sink))


if __name__ == "__main__":
    main()
