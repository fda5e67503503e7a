"""Connections: what a URI decides, timeouts, threads, asyncio, a server that dies and comes back.

    python step01_basics/02_connections.py

You reach every kind of Milvus with the same call, bound what you wait for by a timeout, serve
many threads and coroutines with one client, and see that client live through a crash.

Needs: any Milvus (embedded by default); sections 6 and 7 start local servers of their own and
       are left out where none can be started
Read:  docs/en/step01_basics.md#connections
"""

import asyncio
import socket
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import cache, partial
from itertools import cycle

from common.client_internals import Channels, channels, read_address, retry_rule
from common.connection import ConnectionFailed, Milvus, connect, lite_path
from common.display import (
    expected_error,
    heading,
    left_out,
    run,
    say,
    short_path,
    table,
)
from common.local_server import LocalServer, missing_reason
from common.measuring import (
    Comparison,
    Failure,
    compare,
    show_comparison,
    time_failure,
)
from common.outages import crash, freeze, read_options
from common.vectors import Float32, clustered_vectors
from common.workspace import OURS, workspace

from pymilvus import AsyncMilvusClient, CollectionSchema, DataType, MilvusClient

COLLECTION = "step01_connections"
DATABASE = "step01_connections"
DIMENSION = 8
THREADS = 8

Ids = list[list[int]]


def read_uris() -> list[tuple]:
    """What an address opens and where, whether it encrypts, which token and database it names."""
    heading("1. One URI decides")
    rows: list[tuple] = [
        (uri, "Milvus Lite", short_path(lite_path(uri)), False, None, None)
        for uri in ("data/demo.db", "file:///srv/demo.db")
    ]
    hosts = "http://host.example", "https://host.example", "https://ana:key@host.example/shop"
    rows += [(uri, "a server", *read_address(uri)) for uri in hosts]
    columns = ("URI", "opens", "at", "TLS", "token", "database")
    table("What pymilvus reads in an address", columns, rows)
    return rows


def schema(client: MilvusClient) -> CollectionSchema:
    """An id and a vector."""
    made = client.create_schema()
    made.add_field("id", DataType.INT64, is_primary=True)
    made.add_field("vector", DataType.FLOAT_VECTOR, dim=DIMENSION)
    return made


def use_database(milvus: Milvus) -> dict[str, bool]:
    """Make a database with a collection in it, and ask two clients whether they see that one."""
    say(f"connect() reached {milvus.label} at {milvus.address}; its kind is {milvus.kind!r}.")
    milvus.client.create_database(DATABASE)
    with closing(MilvusClient(**{**milvus.options, "db_name": DATABASE})) as inside:
        inside.create_collection("step01_inside", schema=schema(inside), properties=OURS)
        clients = {"without db_name=": milvus.client, f'db_name="{DATABASE}"': inside}
        sees = {name: "step01_inside" in c.list_collections() for name, c in clients.items()}
    table("A collection made in a database", ("client", "sees it"), sees.items())
    return sees


def knock(timeout: float, *, listening: bool) -> tuple[Failure, str]:
    """Connect to a port where nothing listens, or where somebody listens and says nothing.

    Returns how `MilvusClient` fails, and what `connect()` says.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        uri = f"http://127.0.0.1:{listener.getsockname()[1]}"
        if not listening:
            listener.close()
        failure = time_failure(lambda: MilvusClient(uri, timeout=timeout))
        title = "a silent port" if listening else "a closed port"
        expected_error(f"{title}, timeout={timeout:g}: {failure.seconds:.2f} s", failure.error)
        try:
            with connect(uri, timeout=timeout):
                raise RuntimeError(f"something answered at {uri}")
        except ConnectionFailed as error:
            expected_error("the same by connect() of these scripts, which knocks first", error)
            return failure, str(error)


def retries() -> tuple[int, float]:
    """How often pymilvus repeats a call without timeout=, and how many seconds it waits for it."""
    times, seconds = retry_rule()
    say(
        "That timeout is for connecting. Each call takes a timeout= of its own, and needs it: "
        f"without, pymilvus repeats what a server puts off up to {times} times, which is "
        f"{seconds:.0f} s of waiting, and no single try has a limit (section 6 shows one)."
    )
    return times, seconds


def fill(client: MilvusClient, vectors: Float32) -> None:
    """Make the small collection that the following sections search."""
    index = client.prepare_index_params()
    index.add_index("vector", index_type="FLAT", metric_type="COSINE")
    client.create_collection(COLLECTION, schema=schema(client), index_params=index, properties=OURS)
    client.insert(COLLECTION, [{"id": i, "vector": v} for i, v in enumerate(vectors)], timeout=30)
    count(client)  # waits until all rows can be seen


def count(client: MilvusClient, timeout: float | None = 30) -> int:
    """All rows; "Strong" misses none that was inserted before."""
    strong = {"output_fields": ["count(*)"], "consistency_level": "Strong"}
    return client.query(COLLECTION, timeout=timeout, **strong)[0]["count(*)"]


def search(client: MilvusClient, query: Float32) -> list[int]:
    """The ids of the five nearest."""
    hits = client.search(COLLECTION, data=[query], limit=5, timeout=30)[0]
    return [hit["id"] for hit in hits]


def one_by_one(client: MilvusClient, queries: Float32) -> Ids:
    """One search after the other."""
    return [search(client, query) for query in queries]


def in_threads(clients: Sequence[MilvusClient], queries: Float32) -> Ids:
    """The searches spread over threads, which take the clients in turns."""
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(search, cycle(clients), queries))


def share_one_client(milvus: Milvus, queries: Float32, pairs: int) -> Comparison:
    """One thread against several, all with the same client."""
    heading("3. One client for many threads")
    if milvus.kind == "lite":
        say("Milvus Lite searches in this very process: only a server gains much by what follows.")
    old = partial(one_by_one, milvus.client, queries)
    new = partial(in_threads, [milvus.client], queries)
    measured = compare(old, new, pairs)
    show_comparison("1 thread", f"{THREADS} threads", measured)
    return measured


def open_channels(milvus: Milvus) -> dict[str, Channels]:
    """What `channels()` says before, between and after some new clients."""
    heading("4. One channel for many clients")
    seen = {"before": channels(milvus.client)}
    with ExitStack() as opened:
        for title, options in (
            ("a first new client", {}),
            ("a second", {}),
            ("a third, pool_size=10", {"pool_size": 10}),
            ("a fourth, dedicated=True", {"dedicated": True}),
        ):
            new = opened.enter_context(closing(MilvusClient(**milvus.options, **options)))
            seen[title] = channels(new)
    seen["all four closed"] = channels(milvus.client)
    columns = ("after", "shared channels", "clients on those", "channels not shared")
    table("gRPC channels to this Milvus", columns, [(k, *v) for k, v in seen.items()])
    say("There is no pool: pymilvus takes pool_size= without a word, and it changes nothing.")
    return seen


def share_one_channel(milvus: Milvus, queries: Float32, pairs: int) -> Comparison:
    """As many clients as threads: all on one channel, against a channel for each."""
    with ExitStack() as opened:

        def clients(dedicated: bool) -> list[MilvusClient]:
            made = [MilvusClient(**milvus.options, dedicated=dedicated) for _ in range(THREADS)]
            return [opened.enter_context(closing(client)) for client in made]

        old = partial(in_threads, clients(False), queries)
        new = partial(in_threads, clients(True), queries)
        measured = compare(old, new, pairs)
    show_comparison("one shared channel", f"{THREADS} channels", measured)
    return measured


def use_asyncio(milvus: Milvus, queries: Float32, pairs: int) -> Comparison:
    """One search after the other, against all of them at once by one AsyncMilvusClient."""
    heading("5. One client for many coroutines")

    async def all_at_once(client: AsyncMilvusClient) -> Ids:
        searches = (client.search(COLLECTION, [q], limit=5, timeout=30) for q in queries)
        return [[hit["id"] for hit in hits[0]] for hits in await asyncio.gather(*searches)]

    with asyncio.Runner() as loop:  # the client stays with the loop in which it connects
        client = AsyncMilvusClient(**milvus.options)
        try:
            old = partial(one_by_one, milvus.client, queries)
            measured = compare(old, lambda: loop.run(all_at_once(client)), pairs)
        finally:
            loop.run(client.close())
    show_comparison("one after the other", f"asyncio, {len(queries)} at once", measured)
    return measured


def survive(rows: int, timeout: float) -> tuple[tuple, tuple]:
    """One client, and a server that freezes, dies and comes back; what both parts saw."""
    heading("6. The client outlives its server")
    # cache: the notice of the open ports is said once, and not at the restart again.
    with LocalServer(announce=cache(say)) as server:
        with closing(MilvusClient(server.uri, timeout=10)) as client:
            fill(client, clustered_vectors(rows, DIMENSION, seed=2))
            call = partial(count, client)
            seen = freeze(server, call, timeout), crash(server, call, timeout)
        server.kill()  # nobody wants its data: no need to wait for an orderly end
    return seen


def refuse() -> dict[str, str]:
    """Connect with all that a server asks for, then without one of each; what it said."""
    heading("7. TLS and tokens")
    token = "root:Milvus"
    with LocalServer(authorization=True, tls="server", announce=say) as server:
        trust = server.certificates
        with closing(MilvusClient(server.uri, token=token, timeout=10, **trust)) as client:
            users = ", ".join(client.list_users(timeout=10))
        say(f"With {', '.join(trust)} and the token of root it tells its users: {users}.")
        seen = {"all it asks for": users}
        for title, uri, offered, certificates in (
            ("a wrong password", server.uri, "root:wrong", trust),
            ("no token", server.uri, None, trust),
            ("no certificate to trust", server.uri, token, {}),
            ("http:// instead of https://", server.uri.replace("https", "http"), token, {}),
        ):
            try:
                with connect(uri, token=offered, timeout=10, **certificates):
                    raise RuntimeError(f"{title}: the server should have refused")
            except ConnectionFailed as error:
                expected_error(title, error)
                seen[title] = str(error)
        server.kill()
    return seen


def main(arguments: list[str] | None = None) -> None:
    """Give the whole lesson."""
    options = read_options(__doc__.split("\n\n")[0], arguments)
    with connect() as milvus, workspace(milvus.client, COLLECTION, databases=[DATABASE]):
        read_uris()
        use_database(milvus)
        heading("2. Timeouts")
        knock(options.timeout, listening=False)
        knock(options.timeout, listening=True)
        retries()
        vectors = clustered_vectors(options.rows + options.searches, DIMENSION, seed=1)
        queries = vectors[options.rows :]
        fill(milvus.client, vectors[: options.rows])
        share_one_client(milvus, queries, options.pairs)
        open_channels(milvus)
        share_one_channel(milvus, queries, options.pairs)
        use_asyncio(milvus, queries, options.pairs)
    if reason := missing_reason():
        left_out("6. The client outlives its server", reason)
        left_out("7. TLS and tokens", reason)
        return
    survive(options.rows, options.timeout)
    refuse()


if __name__ == "__main__":
    sys.exit(run(main))
