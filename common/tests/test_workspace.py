"""workspace(): what a script makes is gone at the end, and nothing else is touched."""

import threading
from collections.abc import Callable

from common.connection import Milvus
from common.workspace import MARK, OURS, NameTaken, aliases_of, is_ours, workspace
from conftest import what_is_there

import pytest
from pymilvus import DataType, MilvusClient

NAME, OTHER, DATABASE = "workspace_one", "workspace_two", "workspace_database"


def add(client: MilvusClient, name: str, **options: object) -> None:
    """A collection without an index: made in a moment, on any Milvus."""
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=4)
    client.create_collection(name, schema=schema, **options)


def add_and_raise(client: MilvusClient, error: BaseException) -> None:
    """A script that fails half-way."""
    add(client, NAME, properties=OURS)
    raise error


@pytest.fixture
def in_database(milvus: Milvus):
    """A client on a database that the test makes."""
    clients = []

    def make(name: str = DATABASE) -> MilvusClient:
        milvus.client.create_database(name)
        clients.append(MilvusClient(**{**milvus.options, "db_name": name}))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


def test_what_was_made_is_gone(
    client: MilvusClient, in_database: Callable[..., MilvusClient]
) -> None:
    before = what_is_there(client)
    with workspace(client, NAME, OTHER, databases=[DATABASE]):
        add(client, NAME, properties=OURS)
        client.create_alias(NAME, "workspace_alias")
        inside = in_database()
        add(inside, NAME, properties=OURS)
        inside.create_alias(NAME, "workspace_alias_inside")
        assert what_is_there(client) != before
    assert what_is_there(client) == before


def test_a_script_may_make_nothing_of_it(client: MilvusClient) -> None:
    before = what_is_there(client)
    with workspace(client, NAME, databases=[DATABASE]):
        pass
    assert what_is_there(client) == before


@pytest.mark.parametrize("error", [LookupError, KeyboardInterrupt, SystemExit])
def test_it_is_gone_after_an_error_too(client: MilvusClient, error: type[BaseException]) -> None:
    before = what_is_there(client)
    with pytest.raises(error), workspace(client, NAME):
        add_and_raise(client, error())
    assert what_is_there(client) == before


def test_what_comes_late_after_ctrl_c_is_gone_too(client: MilvusClient) -> None:
    late = threading.Timer(0.2, add, (client, NAME), {"properties": OURS})
    late.start()  # after the clean-up, which takes milliseconds
    with pytest.raises(KeyboardInterrupt), workspace(client, NAME):
        raise KeyboardInterrupt
    late.join()
    assert NAME not in client.list_collections()


def test_a_renamed_collection_is_gone(client: MilvusClient) -> None:
    with workspace(client, NAME, OTHER):
        add(client, NAME, properties=OURS)
        client.rename_collection(NAME, OTHER)
    assert not {NAME, OTHER} & set(client.list_collections())


def test_what_a_killed_run_left_is_removed_first(
    client: MilvusClient, in_database: Callable[..., MilvusClient]
) -> None:
    add(client, NAME, properties=OURS)
    client.create_alias(NAME, "workspace_alias")
    add(in_database(), NAME, properties=OURS)
    with workspace(client, NAME, databases=[DATABASE]):
        assert NAME not in client.list_collections()
        assert DATABASE not in client.list_databases()


def test_a_collection_of_somebody_else_is_an_error_and_stays(client: MilvusClient) -> None:
    add(client, OTHER)
    add(client, NAME, properties=OURS)  # ours, of a run that was killed
    with pytest.raises(NameTaken) as caught, workspace(client, NAME, OTHER):
        pytest.fail("the script must not begin")
    assert str(caught.value).startswith(
        f"the collection '{OTHER}' exists and was not made by this script, so it is left alone."
    )
    assert caught.value.exit_code == 2
    assert {NAME, OTHER} <= set(client.list_collections()), "an error must touch nothing"


def test_a_database_of_somebody_else_is_an_error_and_stays(
    client: MilvusClient, in_database: Callable[..., MilvusClient]
) -> None:
    inside = in_database()
    add(inside, "somebodys")
    add(inside, NAME, properties=OURS)
    with pytest.raises(NameTaken) as caught, workspace(client, databases=[DATABASE]):
        pytest.fail("the script must not begin")
    assert f"the database '{DATABASE}' exists, holds somebodys, and" in str(caught.value)
    assert sorted(inside.list_collections()) == ["somebodys", NAME]


def test_an_empty_database_may_be_anybodys(
    client: MilvusClient, in_database: Callable[..., MilvusClient]
) -> None:
    in_database()
    with (
        pytest.raises(NameTaken, match="is empty, and nothing shows"),
        workspace(client, databases=[DATABASE]),
    ):
        pytest.fail("the script must not begin")
    assert DATABASE in client.list_databases()


def test_a_database_is_kept_for_what_somebody_put_into_it_meanwhile(
    client: MilvusClient, in_database: Callable[..., MilvusClient]
) -> None:
    inside = None
    with (  # noqa: PT012 - what is raised comes from the end of the block
        pytest.raises(NameTaken, match="holds somebodys, and"),
        workspace(client, databases=[DATABASE]),
    ):
        inside = in_database()
        add(inside, "somebodys")
        add(inside, NAME, properties=OURS)
    assert inside.list_collections() == ["somebodys"]


def test_a_collection_that_somebody_made_meanwhile_is_not_dropped(client: MilvusClient) -> None:
    with workspace(client, NAME):
        add(client, NAME)  # without the mark
    assert NAME in client.list_collections()


def test_other_collections_and_aliases_are_not_touched(client: MilvusClient) -> None:
    add(client, "workspace_bystander")
    client.create_alias("workspace_bystander", "workspace_bystander_alias")
    before = what_is_there(client)
    with workspace(client, NAME):
        add(client, NAME, properties=OURS)
    assert what_is_there(client) == before


def test_an_alias_of_our_name_stands_for_what_it_names(client: MilvusClient) -> None:
    """A run that was killed after it had given the name away as an alias."""
    add(client, OTHER, properties=OURS)
    client.create_alias(OTHER, NAME)
    with workspace(client, NAME):
        assert OTHER not in client.list_collections()
        add(client, NAME, properties=OURS)


def test_an_alias_of_somebody_else_is_an_error_and_stays(client: MilvusClient) -> None:
    add(client, OTHER)
    client.create_alias(OTHER, NAME)
    with pytest.raises(NameTaken), workspace(client, NAME):
        pytest.fail("the script must not begin")
    assert aliases_of(client, OTHER) == [NAME]


def test_the_mark_is_told_by_milvus(client: MilvusClient) -> None:
    add(client, NAME, properties={**OURS, "collection.ttl.seconds": 3600})
    add(client, OTHER, properties={"collection.ttl.seconds": 3600})
    assert is_ours(client, NAME)
    assert not is_ours(client, OTHER)
    assert MARK in client.describe_collection(NAME)["properties"]


def test_a_failed_clean_up_does_not_hide_the_failure(client: MilvusClient) -> None:
    class Broken:
        def __getattr__(self, name: str):
            if name == "drop_collection":
                raise ConnectionError("the server is gone")
            return getattr(client, name)

    with pytest.raises(LookupError) as caught, workspace(Broken(), NAME):
        add_and_raise(client, LookupError("the script's own"))
    assert caught.value.__notes__ == ["and the clean-up failed: the server is gone"]


def test_it_works_in_the_database_of_its_client(
    client: MilvusClient, in_database: Callable[..., MilvusClient]
) -> None:
    inside = in_database()
    add(client, NAME)  # somebody's, in the default database: another room
    with workspace(inside, NAME):
        add(inside, NAME, properties=OURS)
        inside.create_alias(NAME, "workspace_alias")
    assert inside.list_collections() == []
    assert NAME in client.list_collections()
