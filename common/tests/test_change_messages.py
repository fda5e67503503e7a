"""Messages are read as they were written, and each kind of nonsense is told with its reason."""

import json
from collections import Counter

from common.change_messages import (
    Batch,
    MessageReader,
    NotStreamable,
    Received,
    delete_message,
    upsert_message,
)
from common.sample_changes import MAX_TITLE, poisoned_messages, sample_changes

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymilvus import CollectionSchema, DataType, MilvusClient


def schema_of(key: DataType = DataType.INT64, **options: object) -> CollectionSchema:
    schema = MilvusClient.create_schema()
    length = {"max_length": 16} if key == DataType.VARCHAR else {}
    schema.add_field("id", key, is_primary=True, **length, **options)
    schema.add_field("title", DataType.VARCHAR, max_length=MAX_TITLE)
    schema.add_field("version", DataType.INT64)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=2)
    return schema


READER = MessageReader(schema_of().to_dict())


def row(id: int | str, version: int = 0, **others: object) -> dict:
    return {"id": id, "title": "a", "version": version, "vector": [0.5, 1.0]} | others


def received(*messages: tuple[bytes | None, bytes | None], partition: int = 0) -> list[Received]:
    return [Received("t", partition, n, key, value) for n, (key, value) in enumerate(messages)]


def read(*messages: tuple[bytes | None, bytes | None]) -> Batch:
    return READER.read(received(*messages))


def test_the_last_operation_of_each_key_is_left() -> None:
    batch = read(
        upsert_message(row(1, 1)),
        upsert_message(row(2, 2)),
        upsert_message(row(1, 3)),
        delete_message(2),
        delete_message(3),
        upsert_message(row(3, 4)),
    )
    assert batch.rows == [row(1, 3), row(3, 4)]
    assert batch.deleted == [2]
    assert batch.superseded == 3
    assert batch.refused == []
    assert batch.offsets == {0: 6}


def test_a_message_that_is_refused_supersedes_nothing() -> None:
    batch = read(upsert_message(row(1, 1)), upsert_message(row(1, 2, vector=[1.0])))
    assert batch.rows == [row(1, 1)]
    assert [each.message.offset for each in batch.refused] == [1]
    assert batch.offsets == {0: 2}


def test_offsets_are_those_of_each_partition() -> None:
    messages = received(upsert_message(row(1))) + received(*[delete_message(2)] * 3, partition=5)
    assert READER.read(messages).offsets == {0: 1, 5: 3}


def test_a_message_without_a_value_deletes() -> None:
    batch = read((b"7", None))
    assert (batch.rows, batch.deleted) == ([], [7])


def test_numpy_vectors_are_written_as_numbers() -> None:
    key, value = upsert_message(row(1, vector=np.array([0.1, 0.2], np.float32)))
    assert key == b"1"
    assert json.loads(value)["row"]["vector"] == [0.1, 0.2]


REFUSED = {
    "the message has no key": (None, upsert_message(row(1))[1]),
    "the message's key is no UTF-8": (b"\xff", upsert_message(row(1))[1]),
    "is no whole number": (b"x", None),
    "not JSON: unexpected": (b"1", b'{"op"'),
    "not an object of JSON, but list": (b"1", b"[1]"),
    "NaN or infinity": (b"1", b'{"op": "upsert", "row": {"id": 1, "vector": [NaN]}}'),
    "unknown operation None": (b"1", b"{}"),
    "unknown operation 'replace'": (b"1", b'{"op": "replace"}'),
    "no row: an upsert": (b"1", b'{"op": "upsert", "row": 1}'),
    "the row has no primary key 'id'": (b"1", b'{"op": "upsert", "row": {"title": "a"}}'),
    "no primary key: a delete": (b"1", b'{"op": "delete"}'),
    "the message's key is '1', the primary key 2": (b"1", upsert_message(row(2))[1]),
    "the primary key '2'": (b"1", b'{"op": "delete", "id": "2"}'),
    "field 'id': str of '1'": (b"1", b'{"op": "delete", "id": "1"}'),
    "field 'id': True": (b"True", b'{"op": "delete", "id": true}'),
    "field 'vector': 1 dimension": upsert_message(row(1, vector=[1.0])),
    "field 'title': 65 bytes": upsert_message(row(1, title="x" * 65)),
    "field 'title': no value": (b"1", b'{"op": "upsert", "row": {"id": 1}}'),
    "field 'colour'": upsert_message(row(1, colour="red")),
    "no filter can name this key": delete_message(-(2**63)),
    "out of range": (str(2**63).encode(), b'{"op": "delete", "id": 9223372036854775808}'),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_nonsense_is_refused_with_its_reason(reason: str) -> None:
    good = upsert_message(row(9))
    batch = read(good, REFUSED[reason], good)
    assert batch.rows == [row(9)]
    (refused,) = batch.refused
    assert (refused.message.key, refused.message.value) == REFUSED[reason]
    assert refused.message.offset == 1
    if not reason.startswith("field 'id'"):
        assert reason in refused.reason
    assert batch.offsets == {0: 3}


def test_keys_that_are_texts() -> None:
    reader = MessageReader(schema_of(DataType.VARCHAR).to_dict())
    messages = [upsert_message(row("가나")), delete_message('a"b'), (b"gone", None)]
    batch = reader.read(received(*messages))
    assert batch.rows == [row("가나")]
    assert batch.deleted == ['a"b', "gone"]
    assert batch.refused == []


def test_indices_of_sparse_vectors_become_numbers() -> None:
    schema = schema_of()
    schema.add_field("words", DataType.SPARSE_FLOAT_VECTOR)
    reader = MessageReader(schema.to_dict())
    value = json.dumps({"op": "upsert", "row": row(1, words={"7": 0.5})}).encode()
    assert reader.read(received((b"1", value))).rows == [row(1, words={7: 0.5})]


def test_collections_that_no_topic_can_feed() -> None:
    with pytest.raises(NotStreamable, match="auto_id"):
        MessageReader(schema_of(auto_id=True).to_dict())
    schema = schema_of()
    schema.add_field("bits", DataType.BINARY_VECTOR, dim=8)
    with pytest.raises(NotStreamable, match="'bits' is a BINARY_VECTOR"):
        MessageReader(schema.to_dict())


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from("ud")), max_size=40))
def test_a_batch_ends_as_its_messages_one_by_one(operations: list[tuple[int, str]]) -> None:
    messages, state = [], {}
    for number, (id, kind) in enumerate(operations):
        if kind == "u":
            messages.append(upsert_message(row(id, number)))
            state[id] = number
        else:
            messages.append(delete_message(id))
            state[id] = None
    batch = read(*messages)
    assert {each["id"]: each["version"] for each in batch.rows} == {
        id: version for id, version in state.items() if version is not None
    }
    assert sorted(batch.deleted) == sorted(id for id, version in state.items() if version is None)
    assert batch.superseded == len(operations) - len(state)


def test_halves_hold_every_change_once() -> None:
    batch = read(*[upsert_message(row(n)) for n in range(5)])
    one, two = batch.halves()
    assert one.rows + two.rows == batch.rows
    assert len(one.rows) == 2


def test_samples_have_the_shares_that_they_say() -> None:
    messages = sample_changes(5_000, 2)
    assert messages == sample_changes(5_000, 2)
    kinds, alive = Counter(), set()
    for key, value in messages:
        change = json.loads(value)
        kind = "update" if change["op"] == "upsert" and key in alive else change["op"]
        assert change["op"] == "upsert" or key in alive  # nothing is deleted that is not there
        (alive.add if change["op"] == "upsert" else alive.discard)(key)
        kinds[kind] += 1
    assert 0.09 < kinds["update"] / 5_000 < 0.11
    assert 0.04 < kinds["delete"] / 5_000 < 0.06
    assert read(*messages).refused == []


def test_all_poisoned_messages_are_refused() -> None:
    messages = poisoned_messages(45, 2, 100)
    batch = read(*messages)
    assert batch.changes == []
    assert len(batch.refused) == 45
