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
from collections.abc import Sequence
from contextlib import closing

from pymilvus import DataType, MilvusClient, MilvusException

from common.connection import Milvus, connect
from common.display import expected_error, heading, left_out, quiet_pymilvus, run, say, table
from common.workspace import OURS, workspace

COLLECTION = "step01_collections"
QUICK = f"{COLLECTION}_quick"
BLUE = f"{COLLECTION}_blue"  # the version in use
GREEN = f"{COLLECTION}_green"  # the version that takes its place
ALIAS = f"{COLLECTION}_alias"  # what an application asks for
DATABASE = f"{COLLECTION}_database"
TIMEOUT = 60.0  # seconds; without one, pymilvus repeats a failing call for minutes

Rgb = tuple[int, int, int]
COLORS: dict[str, Rgb] = {
    "black": (0, 0, 0),
    "white": (255, 255, 255),
    "gray": (128, 128, 128),
    "maroon": (128, 0, 0),
    "red": (255, 0, 0),
    "olive": (128, 128, 0),
    "yellow": (255, 255, 0),
    "green": (0, 128, 0),
    "teal": (0, 128, 128),
    "navy": (0, 0, 128),
    "blue": (0, 0, 255),
    "purple": (128, 0, 128),
}
MORE_COLORS = {**COLORS, "orange": (255, 165, 0), "salmon": (250, 128, 114)}
DARK_RED = (130, 0, 0)
TANGERINE = (250, 150, 10)


def quick_setup(client: MilvusClient) -> int:
    """Make a collection in one call: Milvus chooses everything but the dimension."""
    client.create_collection(QUICK, dimension=3, properties=OURS, timeout=TIMEOUT)
    rows = [{"id": n, "vector": rgb, "name": name} for n, (name, rgb) in enumerate(COLORS.items())]
    return client.insert(QUICK, rows, timeout=TIMEOUT)["insert_count"]


def explicit_schema(
    client: MilvusClient, name: str = COLLECTION, colors: dict[str, Rgb] = COLORS
) -> int:
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
    rows = [
        {"id": color, "hex": "#{:02x}{:02x}{:02x}".format(*rgb), "rgb": rgb}
        for color, rgb in colors.items()
    ]
    return client.insert(name, rows, timeout=TIMEOUT)["insert_count"]


def describe(client: MilvusClient, names: Sequence[str]) -> list[tuple[str, ...]]:
    """What Milvus made of each collection: a row for each thing, a column for each collection."""
    columns = []
    for name in names:
        about = client.describe_collection(name)
        indexes = [client.describe_index(name, index) for index in client.list_indexes(name)]
        key = next(field for field in about["fields"] if field.get("is_primary"))
        columns.append(
            {
                "fields": "\n".join(map(field_text, about["fields"])),
                "primary key": key["name"],
                "auto_id": "yes" if key.get("auto_id") or about["auto_id"] else "no",
                "dynamic field": "yes" if about["enable_dynamic_field"] else "no",
                "indexes": "\n".join(map(index_text, indexes)) or "none",
                "consistency level": about["consistency_level_name"],
                "load state": load_state(client, name),
                "aliases": "\n".join(about["aliases"]) or "none",
            }
        )
    return [(label, *(column[label] for column in columns)) for label in columns[0]]


def field_text(field: dict) -> str:
    """A field as describe_collection() tells it, in one line: "hex: VARCHAR, max_length 7"."""
    limits = [f"{name} {value}" for name, value in field["params"].items()]
    return f"{field['name']}: " + ", ".join([DataType(field["type"]).name, *limits])


def index_text(index: dict) -> str:
    """An index as describe_index() tells it, in one line: "vector: AUTOINDEX, COSINE"."""
    kinds = [index["index_type"], index.get("metric_type", "")]
    return f"{index['field_name']}: " + ", ".join(filter(None, kinds))


def load_state(client: MilvusClient, name: str) -> str:
    """Whether a collection is in memory: "Loaded", "Loading" or "NotLoad"."""
    return client.get_load_state(name)["state"].name


def compare_searches(client: MilvusClient) -> dict[str, list[tuple[str, float]]]:
    """Ask both collections the same; each answers with names and distances."""
    options = {"data": [DARK_RED], "limit": 2, "consistency_level": "Strong"}
    quick = client.search(QUICK, output_fields=["name"], **options)[0]
    explicit = client.search(COLLECTION, output_fields=["hex"], **options)[0]
    return {
        "COSINE": [(hit["entity"]["name"], hit["distance"]) for hit in quick],
        "L2": [(hit["id"], hit["distance"]) for hit in explicit],
    }


def misspell_a_field(client: MilvusClient) -> MilvusException | None:
    """Insert rows with a field that the schema does not have: the error, if there was one."""
    client.insert(QUICK, [{"id": 99, "vector": (255, 192, 203), "nmae": "pink"}], timeout=TIMEOUT)
    say(f"{QUICK} took a row with the field 'nmae': its dynamic field takes any.")
    try:
        with quiet_pymilvus():
            row = {"id": "pink", "hexx": "#ffc0cb", "rgb": (255, 192, 203)}
            client.insert(COLLECTION, [row], timeout=TIMEOUT)
    except MilvusException as error:
        expected_error("a row with the field 'hexx' for the explicit schema", error)
        return error
    return None


def count(client: MilvusClient, name: str) -> int:
    """The number of rows, counted now; works on a loaded collection."""
    return client.query(name, output_fields=["count(*)"], consistency_level="Strong")[0]["count(*)"]


def statistics(client: MilvusClient) -> list[tuple[str, int, int]]:
    """Compare the statistics with a count after an insert, a flush and a delete."""

    def moment(name: str) -> tuple[str, int, int]:
        row_count = client.get_collection_stats(COLLECTION)["row_count"]
        return name, row_count, count(client, COLLECTION)

    moments = [moment("after the insert")]
    client.flush(COLLECTION, timeout=TIMEOUT)
    moments.append(moment("after a flush"))
    client.delete(COLLECTION, ids=["black", "white"], timeout=TIMEOUT)
    return [*moments, moment("after deleting two rows")]


def release_and_load(client: MilvusClient) -> tuple[list[tuple[str, str]], MilvusException | None]:
    """Take a collection out of memory and back in: the states, and what a search says between."""
    states, refused = [("after create_collection()", load_state(client, COLLECTION))], None
    client.release_collection(COLLECTION, timeout=TIMEOUT)
    states.append(("after release_collection()", load_state(client, COLLECTION)))
    try:
        with quiet_pymilvus():
            client.search(COLLECTION, data=[DARK_RED], limit=1, timeout=TIMEOUT)
    except MilvusException as error:
        refused = error
    client.load_collection(COLLECTION, timeout=TIMEOUT)
    states.append(("after load_collection()", load_state(client, COLLECTION)))
    return states, refused
