"""Partitions: rows kept apart, so that a search reads some of them and a month goes in one call.

    python step02_core_features/03_partitions.py

You store the same rows in partitions by month, by category and by a partition key for many tenants;
measure a search in one, several and all, and which question each layout serves; drop, delete,
release and load single months; and see what keeps tenants apart and what does not.

Needs: any Milvus (Milvus Lite by default)
Read:  docs/en/step02_core_features.md#partitions
"""

import argparse
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from common.connection import Milvus, connect
from common.display import heading, left_out, milliseconds, run, say, table
from common.filters import where
from common.index_trial import wait_until_indexed
from common.labelled_rows import LabelledRows, labelled_rows
from common.measuring import wait_until
from common.refusals import provoke
from common.row_counts import count_now, rows_stored
from common.subset_search import Outcome, Way, ask_in_turns, draw_outcomes, show_outcomes
from common.units import whole_number
from common.workspace import OURS, workspace

import numpy as np
from pymilvus import DataType, MilvusClient

LAYOUTS = {field: f"step02_by_{field}" for field in ("month", "category", "tenant")}
MONTH, _, TENANT = NAMES = tuple(LAYOUTS.values())
ODD_NAME = 'O"Brien & Sons'  # a tenant whose name would end a quoted text
INTRUDER = 'nobody" or tenant != "nobody'  # a "name" that is a condition
NUM_PARTITIONS, K = 16, 10  # of the partition key; the neighbours that a search finds
ROWS_LITE, ROWS_SERVER = 9_000, 20_000
QUICK = {"rows": 3_000, "dimension": 64, "tenants": 200, "queries": 10, "patience": 0}
TIMEOUT = 60.0  # seconds; without one, pymilvus repeats a failing call for minutes


def make_rows(rows: int, dimension: int, months: int, tenants: int, queries: int) -> LabelledRows:
    """Draw vectors, and give each a month, a category and a tenant."""
    labels = {
        "month": [f"m{2026 + n // 12}_{n % 12 + 1:02d}" for n in range(months)],
        "category": ["books", "films", "games", "music", "tools"],
        "tenant": [ODD_NAME, *(f"tenant_{n:05d}" for n in range(1, tenants))],
    }
    return labelled_rows(rows, dimension, queries=queries, labels=labels)


def lay_out(client: MilvusClient, rows: LabelledRows, field: str) -> None:
    """Store all rows in a collection, in partitions by one of their fields."""
    name, by_key = LAYOUTS[field], field == "tenant"
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("month", DataType.VARCHAR, max_length=16)
    schema.add_field("category", DataType.VARCHAR, max_length=16)
    # With a partition key, Milvus makes the partitions and chooses one for each row.
    schema.add_field("tenant", DataType.VARCHAR, max_length=64, is_partition_key=by_key)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=rows.vectors.shape[1])
    index_params = client.prepare_index_params()
    # FLAT compares with every row: what a search reads is what it costs.
    index_params.add_index("vector", index_type="FLAT", metric_type="COSINE")
    options = {"num_partitions": NUM_PARTITIONS} if by_key else {}
    client.create_collection(name, schema=schema, properties=OURS, timeout=TIMEOUT, **options)
    client.create_index(name, index_params, timeout=TIMEOUT)
    for value in [""] if by_key else rows.values(field):
        if value:
            client.create_partition(name, value, timeout=TIMEOUT)
        for entities in rows.batches(field, value):
            client.insert(name, entities, partition_name=value, timeout=TIMEOUT)


def lay_out_all(client: MilvusClient, rows: LabelledRows) -> dict[str, list[str]]:
    """Store the rows in each layout: the partitions of each collection."""
    heading("1. The same rows in three layouts")
    with ThreadPoolExecutor() as pool:  # a server makes them side by side
        list(pool.map(partial(lay_out, client, rows), LAYOUTS))
    made = {name: client.list_partitions(name, timeout=TIMEOUT) for name in NAMES}
    shown = [(name, len(names), ", ".join(names[:4]) + ", …") for name, names in made.items()]
    table(f"{len(rows):,} rows in each", ("collection", "partitions", "their names"), shown)
    return made


def load(client: MilvusClient, number: int, name: str) -> None:
    """Load what is flushed and indexed: rows in a growing segment cost a search more."""
    client.flush(name, timeout=TIMEOUT)
    wait_until_indexed(client, name, number, timeout=TIMEOUT)
    client.load_collection(name, timeout=TIMEOUT)


def count_rows(milvus: Milvus, rows: LabelledRows) -> dict[str, list[int]]:
    """For each month the statistics before and after a flush, and count(*) asked in two ways."""
    heading("2. How many rows are in a partition?")
    client = milvus.client
    numbers = {month: [rows_stored(client, MONTH, month)] for month in rows.values("month")}
    with ThreadPoolExecutor() as pool:
        list(pool.map(partial(load, client, len(rows)), NAMES))
    for month, found in numbers.items():
        condition = where("month == {month}", month=month)
        counts = count_now(client, MONTH, partitions=[month]), count_now(client, MONTH, condition)
        found += [rows_stored(client, MONTH, month), *counts]
    columns = "partition", "row_count", "after flush", "count(*) in it", "count(*) by filter"
    table(f"Rows of {MONTH}", columns, [(month, *found) for month, found in numbers.items()])
    if not (able := milvus.can("count_in_partition")):
        left_out("count(*) of a single partition", able.reason)
    return numbers


def ask(client: MilvusClient, name: str, query: np.ndarray, **where_to: object) -> list[int]:
    """The ids nearest to a query: in `partition_names`, or by a `filter`, or among all."""
    options = {"limit": K, "output_fields": ["id"], "timeout": TIMEOUT}
    return [hit["id"] for hit in client.search(name, data=query, **where_to, **options)[0]]


def way(
    client: MilvusClient, rows: LabelledRows, layout: str, field: str, *values: str, how: str
) -> Way:
    """Ask in a layout for the rows of some values: `how` is "partition_names" or "filter"."""
    condition = where(f"{field} in {{values}}", values=values)
    where_to = {how: list(values) if how == "partition_names" else condition}
    return Way(how, rows.wanted(field, *values), partial(ask, client, LAYOUTS[layout], **where_to))


def search_months(client: MilvusClient, rows: LabelledRows) -> list[Outcome]:
    """Search all rows, then the latest month, two, half and all months, by partition and filter."""
    heading("3. Search in one, several, all")
    months = rows.values("month")
    ways = [Way("unrestricted", np.full(len(rows), True), partial(ask, client, MONTH))]
    for some in [months[-n:] for n in sorted({1, 2, (len(months) + 1) // 2, len(months)})]:
        for how in ("partition_names", "filter"):
            ways.append(way(client, rows, "month", "month", *some, how=how))
    outcomes = ask_in_turns(ways, rows.vectors, rows.queries, k=K)
    show_outcomes(f"The {K} nearest of the latest of {len(months)} months", outcomes)
    return outcomes


def compare_layouts(client: MilvusClient, rows: LabelledRows) -> dict[tuple[str, str], Outcome]:
    """Ask for one month, one category and one tenant in each layout."""
    heading("4. A layout serves one question")
    ways, shown = {}, []
    asked = {"month": rows.values("month")[-1], "category": "books", "tenant": ODD_NAME}
    for field, value in asked.items():
        for layout in LAYOUTS:
            # A partition key takes the filter, and finds the partition by itself.
            how = "partition_names" if layout == field != "tenant" else "filter"
            ways[field, layout] = way(client, rows, layout, field, value, how=how)
    outcomes = ask_in_turns(list(ways.values()), rows.vectors, rows.queries, k=K)
    found = dict(zip(ways, outcomes, strict=True))
    for field, value in asked.items():
        medians = [milliseconds(found[field, layout].median) for layout in LAYOUTS]
        shown.append((value, found[field, field].rows, *medians))
    table("Median latency", ("only rows of", "rows", *NAMES), shown)
    exact = sum(one.exact for one in outcomes)
    say(f"{exact} of these {len(ways)} gave exactly what exact search finds among those rows.")
    return found


def drop_and_delete(milvus: Milvus, rows: LabelledRows) -> list[tuple[str, float | None, int, int]]:
    """Drop the oldest month, delete the next: what, seconds, rows counted, rows in statistics."""
    heading("5. Old months go: drop and delete")
    client, (dropped, deleted, *kept) = milvus.client, rows.values("month")
    steps = [("nothing", None, count_now(client, MONTH), rows_stored(client, MONTH))]

    def step(what: str, call: Callable[..., object], *arguments: object, **more: object) -> None:
        start = time.perf_counter()
        call(*arguments, **more, timeout=TIMEOUT)
        seconds = time.perf_counter() - start
        steps.append((what, seconds, count_now(client, MONTH), rows_stored(client, MONTH)))

    if milvus.can("load_partitions"):  # a server wants a partition released before its drop
        step(f"release of {dropped}", client.release_partitions, MONTH, [dropped])
    step(f"drop of {dropped}", client.drop_partition, MONTH, dropped)
    condition = where("month == {month}", month=deleted)
    step(f"delete by {condition}", client.delete, MONTH, filter=condition)
    step("flush", client.flush, MONTH)
    client.compact(MONTH, timeout=TIMEOUT)  # in the background: section 9 sees what became of it
    shown = [(what, s and milliseconds(s), *numbers) for what, s, *numbers in steps]
    table(f"Rows of {MONTH}", ("after", "took", "count(*)", "in the statistics"), shown)
    rest = Way("the rest", rows.wanted("month", *kept), partial(ask, client, MONTH))
    (found,) = ask_in_turns([rest], rows.vectors, rows.queries, k=K)
    say(f"Recall@{K} in the rest: {found.recall:.3f}; hits in the old months: {found.strays}.")
    return steps


def release_and_load(milvus: Milvus, rows: LabelledRows) -> dict[str, object]:
    """Release the latest month, search in it and in all, and load it again."""
    heading("6. Load and release single partitions")
    if not (able := milvus.can("load_partitions")):
        left_out("release_partitions() and load_partitions()", able.reason)
        return {}
    client, latest = milvus.client, rows.values("month")[-1]
    number, inside = count_now(client, MONTH), {"partition_names": [latest]}
    state = partial(client.get_load_state, MONTH, latest, timeout=TIMEOUT)
    client.release_partitions(MONTH, [latest], timeout=TIMEOUT)
    states, left = [state()["state"].name], count_now(client, MONTH)
    error = provoke(f"search in {latest}, released", ask, client, MONTH, rows.queries[:1], **inside)
    say(f"A search in all is no error: it reads the {left:,} of {number:,} rows that are loaded.")
    start = time.perf_counter()
    client.load_partitions(MONTH, [latest], timeout=TIMEOUT)
    states.append(state()["state"].name)
    say(f"{latest} was {states[0]}, and is {states[1]} after {time.perf_counter() - start:.1f} s.")
    wait_until(lambda: count_now(client, MONTH) == number, TIMEOUT, f"{latest} is read again")
    say(f"Searches in all read it again after {time.perf_counter() - start:.1f} s.")
    return {"states": states, "error": error, "rows": number, "left": left}


def go_wrong(client: MilvusClient, rows: LabelledRows) -> tuple[list[Exception | None], int]:
    """Do what does not work: the errors, None where this Milvus lets it pass; copies of an id."""
    heading("7. What goes wrong")
    create, inside = partial(client.create_partition, timeout=TIMEOUT), ["m1999_01"]
    search = partial(ask, client, MONTH, rows.queries[:1], partition_names=inside)
    errors = [
        provoke("search in a partition that is not there", search),
        provoke("a hyphen in the name of a partition", create, MONTH, "2026-01"),
        provoke("a partition beside a partition key", create, TENANT, "mine"),
    ]
    if errors[0] is None:
        say(f"It found {len(search())} rows, as if the partition were there and empty.")
    before, after = rows.values("month")[-2:]
    for month in (before, after):
        row = {**rows.entities([0])[0], "id": len(rows), "month": month}
        client.upsert(MONTH, [row], partition_name=month, timeout=TIMEOUT)
    copies = count_now(client, MONTH, f"id == {len(rows)}")
    say(f"One id upserted into {before}, then into {after}: count(*) finds {copies} of it.")
    client.delete(MONTH, ids=[len(rows)], timeout=TIMEOUT)
    return errors, copies


def keep_apart(client: MilvusClient, rows: LabelledRows) -> dict[str, object]:
    """Show what keeps tenants apart: the filter, and only one that quotes its values."""
    heading("8. Many tenants: a partition key")
    names = rows.values("tenant")
    sizes = [rows_stored(client, TENANT, each) for each in client.list_partitions(TENANT)]
    say(f"{len(names):,} tenants in {len(sizes)} partitions of {min(sizes)} to {max(sizes)} rows.")
    sample = [ODD_NAME, *names[1 :: max(1, len(names) // 20)]]
    ways = [way(client, rows, "tenant", "tenant", name, how="filter") for name in sample]
    own = ask_in_turns(ways, rows.vectors, rows.queries[:3], k=K)
    exact, strays = sum(one.exact for one in own), sum(one.strays for one in own)
    say(f"With a filter, {exact} of {len(own)} tenants find their own nearest, {strays} of others.")
    others = np.count_nonzero(~ways[0].wanted[ask(client, TENANT, rows.queries[:1])])
    say(f"Without a filter, {others} of the {K} hits of {ODD_NAME} are rows of others.")
    unsafe, safe = f'tenant == "{INTRUDER}"', where("tenant == {name}", name=INTRUDER)
    leaked = [count_now(client, TENANT, condition) for condition in (unsafe, safe)]
    shown = [("an f-string", unsafe, leaked[0]), ("where()", safe, leaked[1])]
    table(f"A tenant that calls itself {INTRUDER}", ("made by", "filter", "rows"), shown)
    return {"sizes": sizes, "own": own, "others": others, "leaked": leaked}


def wait_for_compaction(client: MilvusClient, patience: float) -> tuple[int, int]:
    """Wait until nothing deleted is stored: rows counted, and deleted rows that are left."""
    heading("9. Compaction")
    number, deadline = count_now(client, MONTH), time.monotonic() + patience
    while (left := max(0, rows_stored(client, MONTH) - number)) and time.monotonic() < deadline:
        time.sleep(0.5)
    say(f"count(*) finds {number:,} rows; {left:,} deleted rows are still stored.")
    return number, left


def main(arguments: list[str] | None = None) -> None:
    """Give the lesson."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    for name, least, default, meaning in (
        ("--rows", 100, None, "rows in each layout"),
        ("--dimension", 2, 128, "components of a vector"),
        ("--months", 3, 6, "partitions by month"),
        ("--tenants", 2, 2_000, "values of the partition key"),
        ("--queries", 3, 60, "queries that are timed"),
        ("--patience", 0, 10, "seconds to wait for a compaction"),
    ):
        text = f"{meaning} (default: {default or f'{ROWS_LITE}; on a server {ROWS_SERVER}'})"
        kind = partial(whole_number, least=least)
        parser.add_argument(name, type=kind, default=default, metavar="N", help=text)
    parser.add_argument("--quick", action="store_true", help=f"small sizes: {QUICK}")
    given = parser.parse_args(arguments)
    vars(given).update(QUICK if given.quick else {})
    if max(given.tenants, given.months) > (given.rows or ROWS_LITE):
        parser.error("--tenants and --months are at most --rows: each has a row")
    with connect() as milvus, workspace(milvus.client, *NAMES):
        say(f"Milvus: {milvus.label}")
        number = given.rows or (ROWS_LITE if milvus.kind == "lite" else ROWS_SERVER)
        rows = make_rows(number, given.dimension, given.months, given.tenants, given.queries)
        lay_out_all(milvus.client, rows)
        count_rows(milvus, rows)
        title = f"Search in a part of {len(rows):,} rows: {milvus.label}"
        draw_outcomes(title, "step02_03_partitions", search_months(milvus.client, rows))
        compare_layouts(milvus.client, rows)
        drop_and_delete(milvus, rows)
        release_and_load(milvus, rows)
        go_wrong(milvus.client, rows)
        keep_apart(milvus.client, rows)
        wait_for_compaction(milvus.client, given.patience)


if __name__ == "__main__":
    sys.exit(run(main))
