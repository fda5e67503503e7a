"""Labels are dealt out evenly, and entities are the rows."""

from common.labelled_rows import labelled_rows

import numpy as np
import pytest

LABELS = {"month": ["m1", "m2", "m3"], "tenant": ["a", 'b"']}


def test_labels_are_dealt_out_evenly_and_tell_nothing_of_each_other() -> None:
    rows = labelled_rows(602, 4, queries=5, labels=LABELS)
    assert (len(rows), rows.vectors.shape, rows.queries.shape) == (602, (602, 4), (5, 4))
    assert np.linalg.norm(rows.vectors, axis=1) == pytest.approx(np.ones(602), abs=1e-6)
    counts = {field: np.unique(texts, return_counts=True) for field, texts in rows.labels.items()}
    assert counts["month"][0].tolist() == rows.values("month") == LABELS["month"]
    assert sorted(counts["month"][1]) == [200, 201, 201]
    assert counts["tenant"][1].tolist() == [301, 301]
    # Were one the other's function, a pair would have none or 200 of its rows.
    pairs = np.unique(list(zip(*rows.labels.values(), strict=True)), axis=0, return_counts=True)[1]
    assert len(pairs) == 6
    assert all(70 < pair < 130 for pair in pairs)


def test_the_same_arguments_give_the_same_rows() -> None:
    first, again, other = (
        labelled_rows(50, 4, queries=5, labels=LABELS, seed=seed) for seed in (1, 1, 2)
    )
    assert np.array_equal(first.vectors, again.vectors)
    assert np.array_equal(first.labels["month"], again.labels["month"])
    assert not np.array_equal(first.labels["month"], other.labels["month"])


def test_entities_and_batches() -> None:
    rows = labelled_rows(50, 4, queries=1, labels=LABELS)
    entity = rows.entities([7])[0]
    assert np.array_equal(entity.pop("vector"), rows.vectors[7])
    assert entity == {"id": 7, "month": rows.labels["month"][7], "tenant": rows.labels["tenant"][7]}
    assert {key: type(value) for key, value in entity.items()} == {
        "id": int,
        "month": str,
        "tenant": str,
    }
    wanted = rows.wanted("month", "m1", "m3")
    assert wanted.tolist() == [text in ("m1", "m3") for text in rows.labels["month"]]
    batches = list(rows.batches("month", "m2", size=10))
    assert [len(batch) for batch in batches] == [10, 7]
    assert {entity["month"] for batch in batches for entity in batch} == {"m2"}
    everything = [entity["id"] for batch in rows.batches("month", size=20) for entity in batch]
    assert everything == list(range(50))


@pytest.mark.parametrize(
    ("rows", "queries", "labels", "message"),
    [
        (0, 1, {}, "rows and queries must be at least 1, not 0 and 1"),
        (1, 0, {}, "rows and queries must be at least 1, not 1 and 0"),
        (2, 1, {"month": ["a", "b", "c"]}, "month has 3 texts for 2 rows"),
        (2, 1, {"month": []}, "month has 0 texts for 2 rows"),
    ],
)
def test_what_cannot_be_dealt_out(rows: int, queries: int, labels: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        labelled_rows(rows, 4, queries=queries, labels=labels)
