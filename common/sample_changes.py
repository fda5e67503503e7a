"""A topic's worth of changes to learn and to test with, and messages that no collection takes."""

import json
from collections.abc import Callable

from common.change_messages import delete_message, upsert_message
from common.vectors import clustered_vectors

import numpy as np

UPDATES, DELETES, AGAIN = 0.10, 0.05, 0.02  # shares of the messages
MAX_TITLE = 64  # bytes
KeyAndValue = tuple[bytes, bytes | None]


def sample_changes(count: int, dimension: int, seed: int = 0) -> list[KeyAndValue]:
    """Messages for a collection of products: 10 % change a row, 5 % delete one, the rest store one.

    Rows have `id`, `title`, `version` (the number of the message) and `vector`. Half of the updates
    follow hard upon another change of the row, and some rows come again after their delete.
    """
    generator = np.random.default_rng(seed)
    vectors = clustered_vectors(count, dimension, seed=seed)
    alive: list[int] = []
    gone: list[int] = []
    messages, fresh = [], 0
    for number, chance in enumerate(generator.random(count)):
        if alive and chance < DELETES:
            gone.append(alive.pop(int(generator.integers(len(alive)))))
            messages.append(delete_message(gone[-1]))
            continue
        if alive and chance < DELETES + UPDATES:
            latest = generator.random() < 0.5
            id = alive[-1 if latest else int(generator.integers(len(alive)))]
        elif gone and chance > 1 - AGAIN:
            id = gone.pop()
            alive.append(id)
        else:
            id, fresh = fresh, fresh + 1
            alive.append(id)
        row = {"id": id, "title": f"Product {id}, revision {number}", "version": number}
        messages.append(upsert_message(row | {"vector": vectors[number]}))
    return messages


def poisoned_messages(count: int, dimension: int, first_id: int) -> list[KeyAndValue]:
    """Messages that cannot be stored, of nine kinds in turns; their keys begin with `first_id`."""
    return [_POISONS[n % len(_POISONS)](first_id + n, dimension) for n in range(count)]


def _row(id: int, dimension: int, **other: object) -> dict:
    row = {"id": id, "title": f"Product {id}", "version": 0, "vector": [0.1] * dimension}
    return row | other


def _written(id: int, content: object, key: bytes | None = b"") -> KeyAndValue:
    # Python's own writer, since it writes NaN, which is what goes wrong in practice.
    return str(id).encode() if key == b"" else key, json.dumps(content).encode()


def _upsert(id: int, dimension: int, **other: object) -> KeyAndValue:
    return _written(id, {"op": "upsert", "row": _row(id, dimension, **other)})


_POISONS: tuple[Callable[[int, int], KeyAndValue], ...] = (
    lambda id, _: (str(id).encode(), b'{"op": "upsert", "row": {"id": '),
    lambda id, dimension: _upsert(id, dimension, vector=[0.1] * (dimension - 1)),
    lambda id, dimension: _upsert(id, dimension, vector=[0.1] * (dimension - 1) + [float("nan")]),
    lambda id, dimension: _upsert(id, dimension, title="x" * (MAX_TITLE + 1)),
    lambda id, dimension: _written(id, {"op": "replace", "row": _row(id, dimension)}),
    lambda id, _: _written(id, {"op": "upsert", "row": {"title": "a row without its key"}}),
    lambda id, dimension: _written(id, {"op": "upsert", "row": _row(id, dimension)}, key=None),
    lambda id, dimension: _written(id, {"op": "upsert", "row": _row(id + 1, dimension)}),
    lambda id, dimension: _upsert(id, dimension, colour="red"),
)
