"""Collections: the tables of a vector database.

    python step01_basics/03_collections.py
    python step01_basics/03_collections.py --describe my_collection

You make a collection in one call and another from an explicit schema, and see what Milvus made of
each. Then you count, release, load and rename, put an alias in front, change a collection while it
is in use, keep one of the same name in a second database, and drop it all.

The vectors are colours: red, green and blue from 0 to 255, so that near is what looks alike.

Needs: any Milvus (Milvus Lite by default)
Read:  docs/en/step01_basics.md#collections
"""

import argparse
import sys
import time
from collections.abc import Mapping
from contextlib import closing

from common.connection import Milvus, connect
from common.display import heading, left_out, run, say, table
from common.refusals import provoke
from common.schema import describe_fields
from common.workspace import OURS, workspace

from pymilvus import DataType, MilvusClient, MilvusException

COLLECTION = "step01_collections"
QUICK = f"{COLLECTION}_quick"
BLUE, GREEN = f"{COLLECTION}_blue", f"{COLLECTION}_green"  # the version in use, and the next
ALIAS, DATABASE = f"{COLLECTION}_alias", f"{COLLECTION}_database"
PATIENCE = 60  # seconds that rows get to expire
TIMEOUT = 60.0  # seconds; without one, pymilvus repeats a failing call for minutes

COLORS = {
    "black": [0, 0, 0],
    "maroon": [128, 0, 0],
    "red": [255, 0, 0],
    "yellow": [255, 255, 0],
    "blue": [0, 0, 255],
}
DARK_RED, TANGERINE = [130, 0, 0], [250, 150, 10]


def quick_setup(client: MilvusClient) -> None:
    """Make a collection in one call: Milvus chooses everything but the dimension."""
    heading("1. Quick set-up: one call")
    client.create_collection(QUICK, dimension=3, properties=OURS, timeout=TIMEOUT)
    rows = [{"id": n, "vector": rgb, "name": name} for n, (name, rgb) in enumerate(COLORS.items())]
    client.insert(QUICK, rows, timeout=TIMEOUT)
    say(f"{QUICK} holds {len(rows)} rows; its dynamic field took their names.")


def explicit_schema(
    client: MilvusClient, name: str = COLLECTION, colors: Mapping[str, list[int]] = COLORS
) -> None:
    """Make a collection as you would in earnest: every decision is written down."""
    schema = client.create_schema(enable_dynamic_field=False)
    schema.add_field("id", DataType.VARCHAR, max_length=32, is_primary=True)
    schema.add_field("hex", DataType.VARCHAR, max_length=7)
    schema.add_field("rgb", DataType.FLOAT_VECTOR, dim=3)
    index_params = client.prepare_index_params()
    build = {"M": 16, "efConstruction": 100}
    index_params.add_index("rgb", index_type="HNSW", metric_type="L2", params=build)
    client.create_collection(
        name,
        schema=schema,
        index_params=index_params,  # with an index, Milvus loads the collection at once
        consistency_level="Strong",  # each read sees every write before it
        properties=OURS,  # the mark of what these scripts may drop
        timeout=TIMEOUT,
    )
    code = "#{:02x}{:02x}{:02x}"
    rows = [{"id": key, "hex": code.format(*rgb), "rgb": rgb} for key, rgb in colors.items()]
    client.insert(name, rows, timeout=TIMEOUT)


def describe(client: MilvusClient, *names: str) -> dict[str, list[str]]:
    """Show what Milvus made of each collection: for each thing its value in each of them."""
    made: dict[str, list[str]] = {}
    for name in names:
        about = client.describe_collection(name)
        indexes = [client.describe_index(name, index) for index in client.list_indexes(name)]
        for label, value in (
            ("fields", "\n".join(" ".join(filter(None, f[:3])) for f in describe_fields(about))),
            ("auto_id", "yes" if any(field.get("auto_id") for field in about["fields"]) else "no"),
            ("dynamic field", "yes" if about["enable_dynamic_field"] else "no"),
            ("index", "\n".join(f"{i['index_type']} {i.get('metric_type', '')}" for i in indexes)),
            ("consistency level", about["consistency_level_name"]),
            ("load state", load_state(client, name)),
            ("aliases", "\n".join(about["aliases"])),
        ):
            made.setdefault(label, []).append(value.strip() or "-")
    table("What Milvus made", ("", *names), [(label, *values) for label, values in made.items()])
    return made


def load_state(client: MilvusClient, name: str) -> str:
    """Whether a collection is in memory: "Loaded", "Loading" or "NotLoad"."""
    return client.get_load_state(name)["state"].name


def compare(client: MilvusClient) -> list[tuple[str, str, float]]:
    """Ask both for the two colours nearest to a dark red: collection, colour, distance."""
    heading("4. What each finds")
    rows = []
    for name, field in ((QUICK, "name"), (COLLECTION, "id")):
        fields = {"output_fields": [field], "consistency_level": "Strong"}
        for hit in client.search(name, data=[DARK_RED], limit=2, **fields)[0]:
            rows.append((name, hit["entity"].get(field, hit["id"]), hit["distance"]))
    table(f"Nearest to {DARK_RED}", ("collection", "colour", "distance"), rows)
    say(
        "The quick set-up chose COSINE, which compares directions: red and maroon are the same "
        "to it. Colours need L2. The metric belongs to the data, so choose it yourself."
    )
    return rows


def count_rows(client: MilvusClient) -> list[tuple[str, int, int]]:
    """List the collections, and compare statistics with a count as the rows change."""
    heading("5. List and count")

    def now(moment: str) -> tuple[str, int, int]:
        row_count = client.get_collection_stats(COLLECTION)["row_count"]
        return moment, row_count, count(client, COLLECTION)

    ours = [name for name in client.list_collections() if name.startswith(COLLECTION)]
    say(f"list_collections() names everybody's; those of this script: {', '.join(sorted(ours))}.")
    rows = [now("inserted")]
    client.flush(COLLECTION, timeout=TIMEOUT)
    rows.append(now("flushed"))
    client.delete(COLLECTION, ids=["black"], timeout=TIMEOUT)
    rows.append(now("one deleted"))
    table(f"Rows of {COLLECTION}", ("", "get_collection_stats()", "query count(*)"), rows)
    say("A server's statistics know flushed rows only, and miss deletes. To know, count.")
    return rows


def count(client: MilvusClient, name: str) -> int:
    """The number of rows, counted now."""
    return client.query(name, output_fields=["count(*)"], consistency_level="Strong")[0]["count(*)"]


def nearest(client: MilvusClient, name: str, rgb: list[int], timeout: float = TIMEOUT) -> str:
    """The colour nearest to `rgb`."""
    return client.search(name, data=[rgb], limit=1, timeout=timeout)[0][0]["id"]


def release_and_load(client: MilvusClient) -> tuple[list[str], MilvusException | None]:
    """Take a collection out of memory and back in: the load states, the error in between."""
    heading("6. Release and load")
    states = [load_state(client, COLLECTION)]
    client.release_collection(COLLECTION, timeout=TIMEOUT)
    states.append(load_state(client, COLLECTION))
    error = provoke("search in a released collection", nearest, client, COLLECTION, DARK_RED)
    client.load_collection(COLLECTION, timeout=TIMEOUT)
    states.append(load_state(client, COLLECTION))
    say("Load state: {}; released: {}; loaded again: {}.".format(*states))
    return states, error


def rename(client: MilvusClient) -> str:
    """Give the collection a name that tells its version; the load state right after that."""
    heading("7. Rename")
    client.rename_collection(COLLECTION, BLUE)
    state = load_state(client, BLUE)
    say(f"{COLLECTION} is now {BLUE}, with its rows; load state: {state}.")
    if state != "Loaded":
        say("This Milvus releases what it renames, so load it again.")
        client.load_collection(BLUE, timeout=TIMEOUT)
    return state


def switch_alias(client: MilvusClient) -> list[tuple[str, str]]:
    """Move an application from one version of its data to the next without touching it."""
    heading("8. Alias")
    explicit_schema(client, GREEN, {**COLORS, "orange": [255, 165, 0]})
    client.create_alias(BLUE, ALIAS)
    answers = []
    for version in (BLUE, GREEN):
        client.alter_alias(version, ALIAS)
        stands_for = client.describe_collection(ALIAS)["collection_name"]
        answers.append((stands_for, nearest(client, ALIAS, TANGERINE)))
    table(f"search({ALIAS!r}, ...)", ("stands for", f"nearest to {TANGERINE}"), answers)
    say("alter_alias() is the whole switch of a blue-green deployment, and the way back too.")
    return answers


def expire(milvus: Milvus, patience: float = PATIENCE) -> tuple[str, int | None]:
    """Set a property and read it back; where TTL works, how many rows are left after a while."""
    heading("9. Time to live")
    client, name, rows = milvus.client, "collection.ttl.seconds", None
    client.alter_collection_properties(QUICK, properties={name: "1"})
    kept = client.describe_collection(QUICK)["properties"][name]
    say(f"{name} of {QUICK} is {kept} now: no row should get older than a second.")
    if able := milvus.can("ttl"):
        deadline = time.monotonic() + patience
        while (rows := count(client, QUICK)) and time.monotonic() < deadline:
            time.sleep(0.5)
        say(f"{patience - deadline + time.monotonic():.1f} s later {rows} rows are left.")
    else:
        left_out("waiting until the rows are gone", able.reason)
    return kept, rows


def change_while_loaded(milvus: Milvus) -> dict[str, object]:
    """Add a field to a collection that is in use, and empty one in a single call."""
    heading("10. Change it while it is loaded")
    client, seen = milvus.client, {}
    if able := milvus.can("add_collection_field"):
        client.add_collection_field(BLUE, "warm", DataType.BOOL, nullable=True, timeout=TIMEOUT)
        seen["old row"] = client.query(BLUE, filter='id == "red"', output_fields=["warm"])[0]
        say(f"The field 'warm' is there; a row of before has no value: {seen['old row']}")
    else:
        left_out("add_collection_field()", able.reason)
    if able := milvus.can("truncate_collection"):
        before = count(client, BLUE)
        client.truncate_collection(BLUE, timeout=TIMEOUT)
        seen["truncated"] = before, count(client, BLUE)
        say("Rows before and after truncate_collection(): {} and {}.".format(*seen["truncated"]))
    else:
        left_out("truncate_collection()", able.reason)
    return seen


def two_databases(milvus: Milvus) -> dict[str, object]:
    """Keep a collection of the same name, with other rows, in a second database."""
    heading("11. Databases")
    client, seen = milvus.client, {}
    client.create_database(DATABASE)
    with closing(MilvusClient(**{**milvus.options, "db_name": DATABASE})) as inside:
        explicit_schema(inside, GREEN, {"indigo": [75, 0, 130]})
        seen["nearest"] = [nearest(each, GREEN, TANGERINE) for each in (client, inside)]
        rows = zip(("the script's", DATABASE), seen["nearest"], strict=True)
        table(f"search({GREEN!r}, ...)", ("database", f"nearest to {TANGERINE}"), rows)
        title = "drop_database() while it holds a collection"
        seen["refused"] = provoke(title, client.drop_database, DATABASE, timeout=TIMEOUT)
        if able := milvus.can("use_database"):
            with closing(MilvusClient(**milvus.options)) as moved:
                moved.use_database(DATABASE)  # for all who share this client: better make another
                seen["moved"] = nearest(moved, GREEN, TANGERINE)
            say(f"A client that use_database() has moved there finds {seen['moved']}.")
        else:
            left_out("use_database()", able.reason)
        inside.drop_collection(GREEN)
    client.drop_database(DATABASE)
    return seen


def drop(client: MilvusClient) -> MilvusException | None:
    """Drop all, at first without a thought for the alias: the error, where Milvus refuses that."""
    heading("12. Drop")
    try:
        title = f"dropping {GREEN}, which has an alias"
        error = provoke(title, client.drop_collection, GREEN, timeout=TIMEOUT)
        if error is None:
            say("Now the alias leads nowhere. Milvus 2.5.5 and later refuse: drop the alias first.")
    finally:
        client.drop_alias(ALIAS)
    for name in (GREEN, BLUE, QUICK):
        client.drop_collection(name)  # where there is none of that name, nothing happens
    return error


def main(arguments: list[str] | None = None) -> None:
    """Give the lesson, or describe collections of your own."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    add = parser.add_argument
    add("--describe", nargs="+", metavar="NAME", help="describe your collections and stop")
    add("--quick", action="store_true", help=f"wait 5 s for rows to expire (default: {PATIENCE})")
    options = parser.parse_args(arguments)
    with connect() as milvus:
        client, names = milvus.client, (COLLECTION, QUICK, BLUE, GREEN, ALIAS)
        if options.describe:
            if missing := [n for n in options.describe if not client.has_collection(n)]:
                parser.error(f"{milvus.label} has no collection {', '.join(missing)}")
            describe(client, *options.describe)
            return
        say(f"Milvus: {milvus.label}")
        with workspace(client, *names, databases=[DATABASE]):
            quick_setup(client)
            heading("2. Explicit schema: your decisions")
            explicit_schema(client)
            heading("3. What Milvus made of each")
            describe(client, QUICK, COLLECTION)
            compare(client)
            count_rows(client)
            release_and_load(client)
            rename(client)
            switch_alias(client)
            expire(milvus, patience=5 if options.quick else PATIENCE)
            change_while_loaded(milvus)
            two_databases(milvus)
            drop(client)


if __name__ == "__main__":
    sys.exit(run(main))
