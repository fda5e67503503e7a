"""Pages by key against a client of the test, which plays what engines do at their worst."""

from types import SimpleNamespace

from common.key_paging import PagesOutOfOrder, check_order, ordering, pages_by_key

import pytest
from pymilvus import MilvusException


class Table:
    """A client of keys alone; `answer` makes the page of those that are left."""

    def __init__(self, keys, answer=lambda keys, limit: sorted(keys)[:limit]):
        self.keys, self.answer, self.filters, self.limits = set(keys), answer, [], []

    def query(self, _, filter="", limit=None, output_fields=(), **options):
        if list(output_fields) == ["count(*)"]:
            return [{"count(*)": len(self.keys)}]
        self.filters.append(filter)
        self.limits.append(limit)
        after = filter.split("id > ")[1] if filter else "None"
        left = [key for key in self.keys if after == "None" or key > int(after.strip("()"))]
        return [{"id": key} for key in self.answer(left, limit)]


def milvus(table, kind="lite", version="3.2.2"):
    return SimpleNamespace(client=table, kind=kind, version=version)


def read(table, **options):
    pages = pages_by_key(milvus(table), "x", key="id", **options)
    return [row["id"] for page in pages for row in page]


def test_every_key_once_in_order():
    table = Table(range(-50, 50))
    assert read(table, page_rows=7) == list(range(-50, 50))
    assert table.filters[0] == ""
    assert table.filters[1] == "id > (-44)"
    assert read(Table(range(10)), after=6) == [7, 8, 9]


def test_who_inserts_larger_keys_does_not_keep_it_going():
    table = Table(range(100))

    def growing(left, limit):
        table.keys.add(max(table.keys) + 1)
        return sorted(left)[:limit]

    table.answer = growing
    found = read(table, page_rows=40)
    assert set(range(100)) <= set(found)
    assert len(table.filters) < 10


def test_one_short_page_is_no_end():
    lengths = iter([1, 40, 40, 40, 40])
    table = Table(range(100), lambda keys, limit: sorted(keys)[: next(lengths)])
    assert read(table, page_rows=40) == list(range(100))


def test_pages_out_of_order_are_an_error():
    table = Table(range(10), lambda keys, limit: sorted(keys, reverse=True)[:limit])
    with pytest.raises(PagesOutOfOrder, match="the key 8 after 9"):
        read(table)
    with pytest.raises(PagesOutOfOrder):
        check_order([3, 3], None)
    with pytest.raises(PagesOutOfOrder):
        check_order([3], 3)


def test_a_page_that_is_too_large_is_halved():
    def at_most_ten(keys, limit):
        if limit > 10:
            raise MilvusException(65535, "query results exceed the maxOutputSize Limit")
        return sorted(keys)[:limit]

    table = Table(range(30), at_most_ten)
    assert read(table, page_rows=40) == list(range(30))
    assert table.limits[:3] == [40, 20, 10]
    with pytest.raises(MilvusException, match="broken"):
        read(Table([1], lambda keys, limit: (_ for _ in ()).throw(MilvusException(1, "broken"))))


def test_how_each_engine_is_asked_to_order():
    assert ordering(milvus(None)) == {"iterator": "True", "reduce_stop_for_best": "True"}
    assert ordering(milvus(None, "standalone", "2.3.5-lite")) == {"consistency_level": "Strong"}
    assert "iterator" in ordering(milvus(None, "cluster", "3.0.2"))
