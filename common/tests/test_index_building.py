"""Collections for measurements: what is stored, and indexes that are really built and loaded."""

from common.connection import Milvus
from common.index_building import TEXT, build_indexes, store_vectors
from common.index_catalogue import ParameterError
from common.index_trial import params_told
from common.vectors import clustered_vectors
from common.workspace import is_ours

import numpy as np
import pytest

ROWS = 1_200  # a server builds no index for a segment of fewer than 1,024
BUILDS = {
    "step02_build_graph": ("HNSW", {"M": 6, "efConstruction": 40}),
    "step02_build_lists": ("IVF_FLAT", {"nlist": 12}),
    "step02_build_flat": ("FLAT", {}),
}


def test_indexes_are_built_as_told_and_loaded(milvus: Milvus) -> None:
    client = milvus.client
    vectors = clustered_vectors(ROWS, 8)
    for name in BUILDS:
        store_vectors(client, name, vectors)
        assert is_ours(client, name)
    seconds = build_indexes(milvus, BUILDS, "COSINE")
    assert list(seconds) == list(BUILDS)
    assert min(seconds.values()) > 0
    for name, (index, params) in BUILDS.items():
        told = client.describe_index(name, "vector")
        assert (told["index_type"], told["metric_type"]) == (index, "COSINE")
        assert (told["indexed_rows"], told["pending_index_rows"]) == (ROWS, 0)
        assert params_told(told) == params
        (row,) = client.query(name, filter="number == 77", output_fields=["id", "text", "vector"])
        assert (row["id"], row["text"]) == (77, TEXT)
        assert np.allclose(row["vector"], vectors[77])
        options = {"limit": 1, "output_fields": ["id"], "timeout": 60}
        assert client.search(name, vectors[77:78], **options)[0][0]["id"] == 77


def test_parameters_out_of_range_are_refused_before_anything_is_sent() -> None:
    builds = {"step02_build_none": ("HNSW", {"M": 1, "efConstruction": 40})}
    with pytest.raises(ParameterError, match="M=1 must be a whole number from 2"):
        build_indexes(None, builds, "COSINE")  # without a Milvus it could send nothing
