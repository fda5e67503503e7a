import random
from hashlib import blake2b

from common.row_digest import add_digests, as_text, row_digests

import pyarrow as pa
import pytest

VECTOR = pa.list_(pa.float32(), 2)


def batch(rows: list[dict], **types: pa.DataType) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(rows, schema=pa.schema(list(types.items())))


def test_a_digest_by_hand():
    rows = batch([{"b": "é", "a": 1}], b=pa.string(), a=pa.int64())
    first = b"a\0int64\0" + (8).to_bytes(8, "little") + (1).to_bytes(8, "little")
    second = b"b\0string\0" + (2).to_bytes(8, "little") + "é".encode()
    assert row_digests(rows) == [blake2b(first + second, digest_size=16).digest()]


@pytest.mark.parametrize(
    ("kind", "one", "other"),
    [
        (pa.int64(), 1, 2),
        (pa.int64(), 0, None),
        (pa.string(), "", None),
        (pa.string(), "a", "b"),
        (pa.float32(), 0.1, 0.2),
        (pa.bool_(), True, False),
        (pa.binary(2), b"ab", b"ac"),
        (VECTOR, [1.0, 2.0], [2.0, 1.0]),
        (VECTOR, [1.0, 2.0], None),
        (pa.list_(pa.string()), ["ab", "c"], ["a", "bc"]),
        (pa.list_(pa.string()), [], None),
        (pa.map_(pa.uint32(), pa.float32()), [(1, 0.5)], [(2, 0.5)]),
    ],
)
def test_values_that_differ_have_other_digests(kind, one, other):
    first, second = row_digests(batch([{"x": one}, {"x": other}], x=kind))
    assert first != second
    assert row_digests(batch([{"x": one}], x=kind)) == [first]  # also where no null is near
    assert row_digests(batch([{"x": other}, {"x": one}], x=kind).slice(1, 1)) == [first]


def test_a_sum_takes_any_order_and_any_pages():
    rows = [{"x": number} for number in range(100)]
    digests = row_digests(batch(rows, x=pa.int64()))
    whole = add_digests(digests)
    shuffled = random.Random(1).sample(digests, len(digests))
    assert add_digests(shuffled[40:], add_digests(shuffled[:40])) == whole
    assert add_digests(digests[1:]) != whole
    assert add_digests([*digests, digests[0]]) != whole
    assert as_text(whole) == f"{whole:032x}"
    assert as_text(1) == "0" * 31 + "1"
