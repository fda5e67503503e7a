"""The collections, aliases and databases that a script makes, and nothing else.

    with connect() as milvus, workspace(milvus.client, "step01_collections"):
        milvus.client.create_collection("step01_collections", schema=schema, properties=OURS)

At the end, also after an error or Ctrl-C, what the script made is gone. A collection of the same
name that lacks the mark was made by somebody else: that is an error and never a drop.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pymilvus import MilvusClient

MARK = "milvus_test.lesson"
LATE = 0.5  # seconds after which a call that was broken off has done what it does
OURS = {MARK: "safe to drop"}
"""Properties for `create_collection(..., properties=OURS)`: the mark of what a script may drop."""


class NameTaken(Exception):  # noqa: N818 - it reads as a sentence where it is raised
    """A name that the script needs belongs to a collection or database that it did not make."""

    exit_code = 2


@contextmanager
def workspace(
    client: MilvusClient, *collections: str, databases: Sequence[str] = ()
) -> Iterator[None]:
    """Keep the names free for a script and remove what it made under them.

    Args:
        client: on the database in which the script works.
        collections: every name that the script gives to a collection, also by renaming.
        databases: the databases that the script makes.

    Raises:
        NameTaken: a name is in use by something without the mark; nothing was touched.
    """
    # Look at everything before the first drop, so that an error leaves all as it was.
    for name in collections:
        _refuse_foreign_collection(client, name)
    for name in databases:
        _refuse_foreign_database(client, name)
    _remove(client, collections, databases)  # of an earlier run that was killed
    try:
        yield
    except BaseException as failure:
        try:
            _remove(client, collections, databases)
            if isinstance(failure, KeyboardInterrupt):
                # The call that Ctrl-C broke off may still be under way: what it makes comes late.
                time.sleep(LATE)
                _remove(client, collections, databases)
        except Exception as error:  # noqa: BLE001 - the script's own failure is the one to show
            failure.add_note(f"and the clean-up failed: {error}")
        raise
    _remove(client, collections, databases)


def is_ours(client: MilvusClient, collection: str) -> bool:
    """Whether the collection bears the mark of this project's scripts."""
    return MARK in (client.describe_collection(collection).get("properties") or {})


def aliases_of(client: MilvusClient, collection: str) -> list[str]:
    """The aliases of a collection in the client's database."""
    # The local server looks in the default database unless the request itself names another.
    return client.list_aliases(collection, db_name=client._config.db_name)["aliases"]


def _refuse_foreign_collection(client: MilvusClient, name: str) -> None:
    if client.has_collection(name) and not is_ours(client, name):
        raise NameTaken(
            f"the collection {name!r} exists and was not made by this script, so it is left "
            "alone. Rename or drop it yourself, or set MILVUS_DB_NAME to another database."
        )


def _refuse_foreign_database(client: MilvusClient, name: str) -> None:
    if name not in client.list_databases():
        return
    with _in_database(client, name) as inside:
        collections = inside.list_collections()
        foreign = [c for c in collections if not is_ours(inside, c)]
    if foreign or not collections:  # an empty one bears no mark: it may be anybody's
        raise NameTaken(_foreign_database(name, foreign))


def _foreign_database(name: str, foreign: Sequence[str]) -> str:
    holds = f"holds {', '.join(foreign)}" if foreign else "is empty"
    return (
        f"the database {name!r} exists, {holds}, and nothing shows that a script of this project "
        "made it, so it is left alone. Drop it yourself."
    )


def _remove(client: MilvusClient, collections: Sequence[str], databases: Sequence[str]) -> None:
    for name in collections:
        # An alias answers has_collection() too; what it stands for goes by its own name.
        if client.has_collection(name) and is_ours(client, name):
            real_name = client.describe_collection(name)["collection_name"]
            _drop(client, real_name)
    for name in databases:
        if name in client.list_databases():
            with _in_database(client, name) as inside:
                for collection in inside.list_collections():
                    if is_ours(inside, collection):
                        _drop(inside, collection)
                left = inside.list_collections()
            if left:
                raise NameTaken(_foreign_database(name, left))
            client.drop_database(name)


def _drop(client: MilvusClient, collection: str) -> None:
    # A dropped collection would leave its aliases dangling, and newer servers refuse to drop it.
    for alias in aliases_of(client, collection):
        client.drop_alias(alias)
    client.drop_collection(collection)


@contextmanager
def _in_database(client: MilvusClient, name: str) -> Iterator[MilvusClient]:
    """A client like `client` on another database: `use_database()` would change it for all."""
    config = client._config
    inside = MilvusClient(
        config.uri, token=config.token, db_name=name, **config.get_handler_kwargs()
    )
    try:
        yield inside
    finally:
        inside.close()
