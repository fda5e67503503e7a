from common.capabilities import Capability
from common.text_documents import Documents, largest_gap, ranked, show_side_by_side

import numpy as np
import pytest

VECTORS = np.eye(2, dtype=np.float32)


class Engine:
    """What a Milvus says it can do."""

    def __init__(self, *features: str) -> None:
        self.features = features

    def can(self, name: str) -> Capability:
        return Capability(name in self.features)


def documents(*features: str) -> Documents:
    return Documents(Engine(*features), "papers", [3, 5], VECTORS, {"text": ["a cat", "a dog"]})


@pytest.mark.parametrize(
    ("features", "fields"),
    [
        (("BM25", "hybrid_search"), ("text",)),
        (("BM25",), ()),
        (("hybrid_search",), ()),
        ((), ()),
    ],
)
def test_texts_are_stored_where_milvus_does_it_all(features, fields):
    docs = documents(*features)
    assert docs.by_milvus == bool(fields)
    assert docs.analyzed == fields
    first, second = docs.rows()
    assert list(first) == ["id", "dense", *fields]
    assert (first["id"], second["id"]) == (3, 5)
    assert np.array_equal(second["dense"], VECTORS[1])


def test_bm25_in_process_gives_ids():
    (dog, none) = documents().bm25("text", ["Dog", "bird"], 5)
    assert [found for found, _ in dog] == [5]
    assert none == []


def test_fuse_in_process():
    dense, bm25 = [[(3, 0.9), (5, 0.8)]], [[(5, 100.0)]]
    docs = documents()
    assert docs.fuse(dense, bm25, 2, ())[0][0] == (5, pytest.approx(1 / 62 + 1 / 61))
    assert [found for found, _ in docs.fuse(dense, bm25, 2, (1.0, 0.0))[0]] == [3, 5]
    assert [found for found, _ in docs.fuse(dense, bm25, 1, (0.5, 0.5))[0]] == [5]
    with pytest.raises(ValueError, match="longer"):
        docs.fuse(dense, bm25 * 2, 2, ())


def test_ranked():
    hits = [[{"id": 4, "distance": 0.5, "entity": {}}, {"id": 2, "distance": 0.25}], []]
    assert ranked(hits) == [[(4, 0.5), (2, 0.25)], []]


def test_side_by_side_fills_up_short_rankings(capsys):
    show_side_by_side(
        "A question", {"one": [(1, 0.9), (2, 0.5)], "two": []}, {1: "First", 2: "Second"}, rows=2
    )
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["1", "First", "–"] in lines
    assert ["2", "Second", "–"] in lines


def test_largest_gap():
    one, other = [[(1, 0.5), (2, 0.25)], [(3, 1.0)]], [[(2, 0.5), (1, 0.5)], [(3, 0.9)]]
    assert largest_gap(one, other) == 0.25
    with pytest.raises(ValueError, match=r"longer|shorter"):
        largest_gap(one, [[(1, 0.5)], [(3, 1.0)]])
