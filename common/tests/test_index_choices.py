"""The indexes to compare: parameters that fit, or a clear refusal."""

from common.index_choices import index_choices
from common.indexes import ParameterError, check_build_params, check_search_params

import pytest

NAMES = ("FLAT", "IVF_FLAT", "IVF_SQ8", "IVF_PQ", "IVF_RABITQ", "SCANN", "HNSW", "HNSW_SQ")
NAMES += ("HNSW_PQ", "DISKANN")


@pytest.mark.parametrize("rows", [1_024, 10_000, 3_000_000])
@pytest.mark.parametrize("dimension", [2, 64, 96, 97, 768])
def test_all_of_them_fit(rows: int, dimension: int) -> None:
    found = {choice.index: choice for choice in index_choices(rows, dimension, "L2")}
    assert [*found] == [name for name in NAMES if name != "SCANN" or dimension % 2 == 0]
    for index, choice in found.items():
        check_build_params(index, choice.build, dimension=dimension, rows=rows, metric="L2")
        for params in choice.searches:
            check_search_params(index, params, limit=10, build=choice.build)
    assert len(found["FLAT"].searches) == 1
    assert all(len(found[name].searches) == 3 for name in found if name != "FLAT")
    assert found["IVF_FLAT"].build["nlist"] == min(128, rows // 39)
    assert [search["ef"] for search in found["HNSW"].searches] == [10, 30, 120]


def test_parts_of_a_code() -> None:
    parts = {d: index_choices(5_000, d, "IP")[3].build["m"] for d in (2, 64, 97, 384)}
    assert parts == {2: 1, 64: 16, 97: 1, 384: 96}


def test_your_own_parameters() -> None:
    found = {c.index: c for c in index_choices(5_000, 8, "COSINE", nlist=3, links=8, k=20)}
    assert found["IVF_SQ8"].build == {"nlist": 3}
    assert found["IVF_SQ8"].searches == ({"nprobe": 1},)
    assert found["HNSW"].build == {"M": 8, "efConstruction": 200}
    assert found["SCANN"].searches[0]["reorder_k"] == 200


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"nlist": 70_000}, r"nlist=70000 must be a whole number from 1 to 65,536"),
        ({"nlist": 0}, r"nlist=0 must be a whole number from 1 to 65,536"),
        ({"nlist": 6_000}, r"nlist=6000 is more than the 5,000 rows"),
        ({"links": 1}, r"M=1 must be a whole number from 2 to 2,048"),
        ({"k": 20_000}, r"limit=20000 must be a whole number from 1 to 16,384"),
    ],
)
def test_what_does_not_fit_is_refused(wrong: dict[str, int], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        index_choices(5_000, 8, "COSINE", **wrong)
