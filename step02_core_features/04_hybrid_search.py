"""Hybrid search: vectors and scalar fields together.

    python step02_core_features/04_hybrid_search.py
    python step02_core_features/04_hybrid_search.py --rows 50000 --ef 32 256

You learn the filter language by its answers, keep a user's text a text, measure what scalar indexes
and the selectivity of a filter change, and search by group, in a range, and for more hits than one
search may return.

Needs: any Milvus (Milvus Lite by default)
Read:  docs/en/step02_core_features.md#hybrid-search
"""

import sys
from collections.abc import Callable, Iterable
from functools import partial
from itertools import pairwise

from common import filter_effects as effects
from common import hybrid_options
from common.connection import Milvus, connect
from common.display import heading, left_out, quiet_pymilvus, run, say, table
from common.filters import where
from common.index_trial import params_for
from common.loading import load_rows
from common.refusals import provoke
from common.shop import FIELDS, Product, Shop, draw_shop, selective_filters
from common.vector_sets import VectorSet, vector_set
from common.vectors import Float32
from common.workspace import OURS, workspace

from pymilvus import DataType, MilvusClient, MilvusException

COLLECTIONS = tuple(f"step02_hybrid_{x}" for x in ("shop", "indexed", "graph", "many"))
SHOP, INDEXED, GRAPH, MANY = COLLECTIONS
QUERIES, MOST_HITS = 50, hybrid_options.MOST_HITS
SHARES = (0.001, 0.003, 0.01, 0.03, 0.06, 0.08, 0.1, 0.3, 1.0)
TIMEOUT = 120.0  # seconds; without one, pymilvus repeats a failing call for minutes
FLAT = {"index_type": "FLAT", "metric_type": "COSINE"}
SCALAR = {  # for each field the index types to try, the best for it first
    "cents": ("STL_SORT", "INVERTED"),
    "sku": ("Trie", "INVERTED"),
    "brand": ("INVERTED",),
    "category": ("BITMAP",),
}

Rows = Iterable[dict]
Found = list[tuple[str, list[int], list[int]]]  # the question, Milvus' ids and the true ones
FILTERS: dict[str, dict[str, Callable[[Product], bool]]] = {  # each with its meaning in Python
    "FLAT": {  # on every Milvus
        "cents >= 2000 and cents < 5000": lambda p: 2000 <= p.cents < 5000,
        'not (brand == "Aalto" or cents > 4500)': lambda p: p.brand != "Aalto" and p.cents <= 4500,
        'brand in ["Aalto", "한빛"]': lambda p: p.brand in ("Aalto", "한빛"),
        'category not in ["lamp", "rug"]': lambda p: p.category not in ("lamp", "rug"),
        'title like "Wool m%"': lambda p: p.title.startswith("Wool m"),
        'details["watt"] <= 10': lambda p: p.watt is not None and p.watt <= 10,
        'details["size"]["width"] > 80': lambda p: p.width is not None and p.width > 80,
        '(exists details["watt"]) and details["watt"] != 7': lambda p: p.watt not in (None, 7),
        'json_contains(details["ports"], "HDMI")': lambda p: "HDMI" in p.ports,
        'ARRAY_CONTAINS(tags, "gift")': lambda p: "gift" in p.tags,
        'ARRAY_CONTAINS_ANY(tags, ["gift", "sale"])': lambda p: bool({"gift", "sale"} & {*p.tags}),
        'ARRAY_CONTAINS_ALL(tags, ["gift", "sale"])': lambda p: {"gift", "sale"} <= {*p.tags},
        "ARRAY_LENGTH(tags) == 3": lambda p: len(p.tags) == 3,
        'tags[0] == "gift"': lambda p: p.tags[:1] == ("gift",),
    },
    "LIKE_INFIX": {'title like "%rug%"': lambda p: "rug" in p.title},
    "nullable": {
        "stars is null": lambda p: p.stars is None,
        "stars >= 4": lambda p: p.stars is not None and p.stars >= 4,
        "not (stars >= 4)": lambda p: p.stars is not None and p.stars < 4,
        "stars is null or stars < 4": lambda p: p.stars is None or p.stars < 4,
    },
}


def make(
    client: MilvusClient, name: str, dimension: int, fields: dict, rows: Rows, **indexes: dict
) -> int:
    """Make and fill a collection, FLAT or sealed and with these indexes: the number of rows."""
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dimension)
    for field, options in fields.items():
        schema.add_field(field, **options)
    client.create_collection(name, schema=schema, properties=OURS, timeout=TIMEOUT)
    load_rows(client, name, rows, batch_size=5_000)
    if indexes:  # they are built for what is sealed
        client.flush(name, timeout=TIMEOUT)
    index_params = client.prepare_index_params()
    for field, options in (indexes or {"vector": FLAT}).items():
        index_params.add_index(field, **options)
    client.create_index(name, index_params, timeout=TIMEOUT)
    client.load_collection(name, timeout=TIMEOUT)
    strong = {"consistency_level": "Strong", "timeout": TIMEOUT}
    return client.query(name, output_fields=["count(*)"], **strong)[0]["count(*)"]


def show(title: str, what: str, found: Found) -> None:
    """Print what was asked, how much was found, and whether it is the truth."""
    rows = [(asked, len(ids), ids == true) for asked, ids, true in found]
    table(title, (what, "products", "the same in Python"), rows)


def open_shop(milvus: Milvus, shop: Shop) -> int:
    """Store the products, with their stars where a field may be null."""
    heading("1. A shop")
    fields = {name: FIELDS[name] for name in FIELDS if name != "stars" or milvus.can("nullable")}
    stored = make(milvus.client, SHOP, shop.dimension, fields, shop.rows(*fields), vector=FLAT)
    say(f"{stored:,} products, for example {shop.products[7]}")
    return stored


def ask(client: MilvusClient, condition: str, **more: object) -> list[int]:
    """The ids of the products that fulfil a condition, in order."""
    rows = client.query(SHOP, filter=condition, output_fields=["id"], timeout=TIMEOUT, **more)
    return sorted(row["id"] for row in rows)


def use_filters(milvus: Milvus, shop: Shop) -> Found:
    """Ask Milvus and Python for the same products."""
    heading("2. The filter language")
    found: Found = []
    for feature, filters in FILTERS.items():
        if not (able := milvus.can(feature)):
            left_out(", ".join(filters), able.reason)
            continue
        for condition, means in filters.items():
            found.append((condition, ask(milvus.client, condition), sorted(shop.ids(means))))
    show("Filters", "filter", found)
    say("A product without a watt passes `!=` on some engines only: say (exists ...) before it.")
    return found


def keep_text(milvus: Milvus, shop: Shop) -> list[tuple[str, int | None, int, int]]:
    """Count what users type: by an f-string (None: an error), by where(), and in Python."""
    heading("3. A user's text stays a text")
    pose, found = '" or id >= 0 or title == "', []
    for text in (shop.products[0].title, shop.products[7].title, pose):
        try:
            with quiet_pymilvus():
                careless = len(ask(milvus.client, f'title == "{text}"'))
        except MilvusException:
            careless = None
        careful = len(ask(milvus.client, where("title == {text}", text=text)))
        found.append((text, careless, careful, [p.title for p in shop.products].count(text)))
    rows = [(text, "error" if a is None else a, b, c) for text, a, b, c in found]
    table("Products of this title", ("typed", "f-string", "where()", "Python"), rows)
    say(f"where() writes the last one as {where('title == {text}', text=pose)}")
    if able := milvus.can("filter_templates"):
        templated = ask(milvus.client, "title == {text}", filter_params={"text": pose})
        say(f"Milvus fills the template itself: {len(templated)} products.")
    else:
        left_out("templates that Milvus fills itself (filter_params=)", able.reason)
    return found


def build_twin(milvus: Milvus, shop: Shop) -> dict[str, str]:
    """Store the products once more, with scalar indexes: the type of each index, read back."""
    heading("4. Scalar indexes")
    scalar = effects.choose_indexes(milvus, SCALAR)
    indexes = {field: {"index_type": kind} for field, kind in scalar.items()} | {"vector": FLAT}
    fields, rows = {field: FIELDS[field] for field in SCALAR}, shop.rows(*SCALAR)
    make(milvus.client, INDEXED, shop.dimension, fields, rows, **indexes)
    told = {
        field: milvus.client.describe_index(INDEXED, field, timeout=TIMEOUT)["index_type"]
        for field in sorted(milvus.client.list_indexes(INDEXED))
    }
    table(f"describe_index() of {INDEXED}", ("field", "index type"), told.items())
    return told


def compare_twins(client: MilvusClient, shop: Shop, calls: int) -> list[effects.IndexEffect]:
    """Make the same searches without and with indexes, in turns."""

    def search(name: str, condition: str) -> list[int]:
        options = {"filter": condition, "limit": 10, "output_fields": ["id"], "timeout": TIMEOUT}
        return [hit["id"] for hit in client.search(name, data=shop.queries[:1], **options)[0]]

    found = []
    for each in selective_filters(shop):
        count = {"filter": each.text, "output_fields": ["count(*)"], "timeout": TIMEOUT}
        rows = client.query(INDEXED, **count)[0]["count(*)"]
        twins = [partial(search, name, each.text) for name in (SHOP, INDEXED)]
        found.append(effects.index_effect(each.name, rows, *twins, calls))
    effects.show_index_effects(f"The same search of {len(shop.products):,} products", found)
    return found


def build_graph(milvus: Milvus, data: VectorSet, m: int = hybrid_options.M) -> int:
    """Store vectors under HNSW, each with a rank in random order: rank < n lets n rows through."""
    heading("5. Selectivity")
    pairs = zip(effects.ranks(len(data.vectors)).tolist(), data.vectors, strict=True)
    rows = ({"id": i, "rank": rank, "vector": v} for i, (rank, v) in enumerate(pairs))
    fields = {"rank": {"datatype": DataType.INT64}}
    params = params_for(milvus, {"M": m, "efConstruction": 100})
    index = {"index_type": "HNSW", "metric_type": data.metric, "params": params}
    return make(milvus.client, GRAPH, data.dimension, fields, rows, vector=index)


def try_selectivity(
    milvus: Milvus, data: VectorSet, efs: list[int], repeat: int
) -> list[effects.Selected]:
    """Let more and more rows through, with each ef and by iterative filtering where that runs."""

    def search(queries: Float32, condition: str, params: dict) -> list[list[int]]:
        options = {"search_params": params, "output_fields": ["id"], "timeout": TIMEOUT}
        answers = milvus.client.search(GRAPH, queries, condition, limit=10, **options)
        return [[hit["id"] for hit in hits] for hits in answers]

    ways = {f"ef={ef}": {"params": {"ef": ef}} for ef in efs}
    if able := milvus.can("iterative_filter"):
        ways["iterative filtering"] = {"params": {"ef": efs[-1]}, "hints": "iterative_filter"}
    else:
        left_out("iterative filtering (hints: iterative_filter)", able.reason)
    points = effects.measure_selectivity(search, data, ways, SHARES, repeat)
    effects.show_selectivity(milvus.label, points, threshold=milvus.kind != "lite")
    say("Fewer than 10 hits: such rows are there, and the graph does not reach them.")
    return points


def search_groups(milvus: Milvus, shop: Shop) -> Found:
    """Ask for the best products of the best five groups."""
    heading("6. Grouping search")
    able, found = milvus.can("group_by"), []
    if not able:
        left_out("group_by_field", able.reason)
        return found
    for field, size in (("brand", 1), ("brand", 2), ("category", 1)):
        groups = {"group_by_field": field, "group_size": size, "strict_group_size": size > 1}
        options = {"limit": 5, "output_fields": [field], "timeout": TIMEOUT, **groups}
        (hits,) = milvus.client.search(SHOP, shop.queries[:1], **options)
        true = shop.best_of_groups(0, field, 5, size)
        found.append((f"best 5 by {field}, {size} each", [hit["id"] for hit in hits], true))
    show("group_by_field", "groups", found)
    if milvus.kind == "lite":
        say("Milvus Lite groups only 10 times the limit: where these are of one group, one comes.")
    return found


def search_range(client: MilvusClient, shop: Shop) -> Found:
    """Find all products in a range of scores that pass a filter, best first."""
    heading("7. Range search with a filter")
    cheap, found = "cents < 30000", []
    among = shop.exact(0, lambda p: p.cents < 30_000)
    for radius, range_filter in ((0.5, 1.0), (0.3, 0.5)):
        limits = {"params": {"radius": radius, "range_filter": range_filter}}
        options = {"limit": MOST_HITS, "output_fields": ["id"], "timeout": TIMEOUT}
        (hits,) = client.search(SHOP, shop.queries[:1], cheap, search_params=limits, **options)
        true = [number for number, score in among if radius < score <= range_filter]
        reads = f"{radius} < score <= {range_filter} and {cheap}"
        found.append((reads, [hit["id"] for hit in hits], true))
    show("radius and range_filter", "range and filter", found)
    return found


def iterate(client: MilvusClient, data: VectorSet) -> list[tuple[int, float]]:
    """Get more hits than one search may return, page by page: the id and score of each."""
    heading("8. More than 16,384 results")
    rows = ({"id": i, "vector": v} for i, v in enumerate(data.vectors))
    # FLAT: over a graph, an iterator misses the rows to which no edge leads it.
    count = make(client, MANY, data.dimension, {}, rows)
    options = {"output_fields": ["id"], "timeout": TIMEOUT}
    query, limit = data.queries[:1], MOST_HITS + 1
    provoke(f"one search for {limit:,} hits", client.search, MANY, query, limit=limit, **options)
    # Without a limit it looks for one more page in vain, 20 times over.
    options |= {"batch_size": MOST_HITS // 2, "limit": count, "search_params": {}}
    found, pages = [], []
    with quiet_pymilvus():  # it warns where the server is older than 2.5.2
        iterator = client.search_iterator(MANY, query, **options)
        while page := iterator.next():
            found += [(hit["id"], hit["distance"]) for hit in page]
            pages.append(len(page))
        iterator.close()
    best_first = all(a >= b for (_, a), (_, b) in pairwise(found))
    columns = "rows", "hits", "different", "best first", "hits of each page"
    table("search_iterator()", columns, [(count, len(found), len(dict(found)), best_first, pages)])
    return found


def main(arguments: list[str] | None = None) -> None:
    """Give the lesson."""
    options = hybrid_options.read_options(__doc__.split("\n\n")[0], arguments)
    with connect() as milvus, workspace(milvus.client, *COLLECTIONS):
        rows = hybrid_options.rows_for(milvus, options)
        shop = draw_shop(rows, 16, queries=1)
        open_shop(milvus, shop)
        use_filters(milvus, shop)
        keep_text(milvus, shop)
        build_twin(milvus, shop)
        compare_twins(milvus.client, shop, max(2, options.repeat // 4))
        data = vector_set(None, rows=rows, dimension=64, queries=QUERIES)
        build_graph(milvus, data, options.m)
        try_selectivity(milvus, data, list(options.ef), options.repeat)
        search_groups(milvus, shop)
        search_range(milvus.client, shop)
        iterate(milvus.client, vector_set(None, rows=options.many, dimension=8, queries=1))


if __name__ == "__main__":
    sys.exit(run(main))
