"""Files of vectors: each kind, and every way in which a file can be wrong."""

import tracemalloc
from pathlib import Path

from common.vector_files import ROWS_AT_ONCE, VectorFileError, read_vector_file

import h5py
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

MATRIX = np.arange(12, dtype=np.float32).reshape(4, 3)


def save_npy(path: Path, array) -> Path:
    np.save(path, array)
    return path


def save_parquet(path: Path, columns: dict, **options) -> Path:
    parquet.write_table(pa.table(columns), path, **options)
    return path


def save_hdf5(path: Path, arrays: dict, **attributes) -> Path:
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array
        file.attrs.update(attributes)
    return path


def refusal(path: Path, **options) -> str:
    with pytest.raises(VectorFileError) as caught:
        read_vector_file(path, **options)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert caught.value.exit_code == 2
    return message


class TestAnyFile:
    def test_an_ending_that_says_nothing(self, tmp_path):
        message = refusal(tmp_path / "vectors.csv")
        assert message.endswith(
            "the name must end in one of .npy, .parquet, .hdf5, .h5, which tells how to read it"
        )

    @pytest.mark.parametrize("name", ["a.npy", "a.parquet", "a.hdf5"])
    def test_no_such_file(self, tmp_path, name):
        assert refusal(tmp_path / name).endswith("there is no such file")

    @pytest.mark.parametrize("name", ["a.npy", "a.parquet", "a.hdf5"])
    @pytest.mark.parametrize("content", [b"", b"no such thing as vectors"])
    def test_another_kind_of_file(self, tmp_path, name, content):
        path = tmp_path / name
        path.write_bytes(content)
        message = refusal(path)
        assert "this is no file of np.save()" in message or "it is cut short" in message

    def test_the_ending_may_be_in_capitals(self, tmp_path):
        with (tmp_path / "C.NPY").open("wb") as file:
            np.save(file, MATRIX)
        np.testing.assert_array_equal(read_vector_file(tmp_path / "C.NPY").train, MATRIX)

    def test_a_limit_below_one(self, tmp_path):
        with pytest.raises(ValueError, match="limit must be at least 1, not 0"):
            read_vector_file(tmp_path / "a.npy", limit=0)


class TestNpy:
    def test_float32_is_mapped_and_not_loaded(self, tmp_path):
        path = save_npy(tmp_path / "a.npy", MATRIX)
        found = read_vector_file(path)
        np.testing.assert_array_equal(found.train, MATRIX)
        assert isinstance(found.train, np.memmap)
        assert (found.test, found.neighbors, found.metric) == (None, None, None)

    def test_a_large_file_takes_little_memory(self, tmp_path):
        path = save_npy(tmp_path / "a.npy", np.zeros((200_000, 64), dtype=np.float32))
        tracemalloc.start()
        read_vector_file(path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert path.stat().st_size > 51_000_000
        assert peak < 5_000_000

    @pytest.mark.parametrize("dtype", ["float64", "float16", ">f4", "int8", "uint8", "int64"])
    def test_other_numbers_become_float32(self, tmp_path, dtype):
        found = read_vector_file(save_npy(tmp_path / "a.npy", MATRIX.astype(dtype))).train
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, MATRIX)

    @pytest.mark.parametrize("limit", [1, 3, 4, 99])
    def test_a_limit(self, tmp_path, limit):
        path = save_npy(tmp_path / "a.npy", MATRIX)
        np.testing.assert_array_equal(read_vector_file(path, limit=limit).train, MATRIX[:limit])

    def test_rows_beyond_the_limit_may_be_wrong(self, tmp_path):
        broken = MATRIX.copy()
        broken[3, 0] = np.nan
        path = save_npy(tmp_path / "a.npy", broken)
        assert len(read_vector_file(path, limit=3).train) == 3
        assert "row 3 has NaN" in refusal(path)

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_rows_with_nan_are_numbered(self, tmp_path, dtype):
        # Far from the start, so that blocks are counted right.
        many = np.zeros((40_000, 2), dtype=dtype)
        many[[20_001, 32_000], 1] = np.nan, np.inf
        message = refusal(save_npy(tmp_path / "a.npy", many))
        assert "rows 20001, 32000 have NaN, infinity or numbers beyond float32" in message
        assert "Remove these rows (counted from 0)" in message

    def test_many_wrong_rows(self, tmp_path):
        message = refusal(save_npy(tmp_path / "a.npy", np.full((25, 2), np.nan)))
        assert "rows 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and at least 15 more have NaN" in message

    def test_a_number_beyond_float32(self, tmp_path):
        assert "row 0 has NaN, infinity or numbers beyond float32" in refusal(
            save_npy(tmp_path / "a.npy", np.array([[1e39, 0.0]]))
        )

    @pytest.mark.parametrize(
        ("array", "shape"),
        [(np.zeros(3), "(3,)"), (np.zeros((2, 3, 4)), "(2, 3, 4)"), (np.zeros((0, 3)), "(0, 3)")],
    )
    def test_no_matrix(self, tmp_path, array, shape):
        message = refusal(save_npy(tmp_path / "a.npy", array))
        assert f"a row for each vector, not an array of shape {shape}" in message

    @pytest.mark.parametrize(
        ("array", "said"),
        [
            (np.array([["a", "b"]]), "it holds <U1 and not numbers"),
            (np.ones((2, 2), dtype=bool), "it holds bool and not numbers"),
            (np.ones((2, 2), dtype=complex), "it holds complex128 and not numbers"),
        ],
    )
    def test_no_numbers(self, tmp_path, array, said):
        assert said in refusal(save_npy(tmp_path / "a.npy", array))

    def test_python_objects_are_never_unpickled(self, tmp_path):
        lists = np.array([[1, 2], [3]], dtype=object)
        message = refusal(save_npy(tmp_path / "a.npy", lists))
        assert "it holds Python objects and not a matrix of numbers" in message

    def test_cut_short(self, tmp_path):
        path = save_npy(tmp_path / "a.npy", MATRIX)
        path.write_bytes(path.read_bytes()[:-5])
        assert "it is cut short or broken" in refusal(path)

    def test_an_archive_of_several_arrays(self, tmp_path):
        np.savez(tmp_path / "a.npz", MATRIX)
        path = (tmp_path / "a.npz").rename(tmp_path / "a.npy")
        assert "this is no file of np.save()" in refusal(path)

    def test_it_has_no_columns(self, tmp_path):
        path = save_npy(tmp_path / "a.npy", MATRIX)
        assert "a .npy file has no columns, so 'x' is not in it" in refusal(path, column="x")


class TestParquet:
    @pytest.mark.parametrize(
        "kind",
        [
            pa.list_(pa.float32()),
            pa.list_(pa.float32(), 3),
            pa.large_list(pa.float64()),
            pa.list_(pa.float16()),
            pa.list_(pa.int8()),
        ],
    )
    def test_the_only_column_of_lists(self, tmp_path, kind):
        vectors = pa.array(MATRIX.astype(kind.value_type.to_pandas_dtype()).tolist(), kind)
        path = save_parquet(tmp_path / "a.parquet", {"id": [1, 2, 3, 4], "vector": vectors})
        found = read_vector_file(path)
        np.testing.assert_array_equal(found.train, MATRIX)
        assert found.train.dtype == np.float32
        assert found.test is None

    def test_a_column_by_name(self, tmp_path):
        columns = {"a": MATRIX.tolist(), "b": (MATRIX + 1).tolist()}
        path = save_parquet(tmp_path / "a.parquet", columns)
        np.testing.assert_array_equal(read_vector_file(path, column="b").train, MATRIX + 1)
        message = refusal(path)
        assert "there must be one column of lists of numbers, but it has a, b; name the" in message
        assert "Its columns: a (list<element: double>), b (list<element: double>)" in message

    def test_no_such_column(self, tmp_path):
        path = save_parquet(tmp_path / "a.parquet", {"id": [1], "vector": [[1.0]]})
        message = refusal(path, column="vectors")
        assert "it has no column 'vectors'. Its columns: id (int64), vector (list" in message

    def test_a_column_of_something_else(self, tmp_path):
        path = save_parquet(tmp_path / "a.parquet", {"id": [1], "words": [["a"]], "v": [[1.0]]})
        assert "the column 'id' holds int64 and not lists of numbers. Columns that do: v" in (
            refusal(path, column="id")
        )
        assert "the column 'words' holds list<element: string>" in refusal(path, column="words")

    def test_no_column_of_lists(self, tmp_path):
        path = save_parquet(tmp_path / "a.parquet", {"id": [1], "name": ["x"]})
        assert "but it has none; there is nothing to read. Its columns: id (int64), name" in (
            refusal(path)
        )

    def test_a_limit_over_several_row_groups(self, tmp_path):
        many = np.random.default_rng(0).random((1_000, 4), dtype=np.float32)
        vectors = pa.FixedSizeListArray.from_arrays(many.ravel(), 4)
        path = save_parquet(tmp_path / "a.parquet", {"v": vectors}, row_group_size=64)
        for limit in (1, 64, 65, 999, 1_000, 5_000):
            found = read_vector_file(path, limit=limit).train
            np.testing.assert_array_equal(found, many[:limit])
        np.testing.assert_array_equal(read_vector_file(path).train, many)

    def test_lists_of_different_lengths(self, tmp_path):
        rows = [[1.0, 2.0]] * 20_000
        rows[17_000] = [1.0]
        path = save_parquet(tmp_path / "a.parquet", {"v": rows})
        message = refusal(path)
        assert "row 17000 has another number of components than the 2 of row 0" in message
        assert message.endswith("row 17000 has 1")
        assert len(read_vector_file(path, limit=17_000).train) == 17_000

    def test_a_length_that_changes_between_two_batches(self, tmp_path):
        rows = [[1.0, 2.0]] * ROWS_AT_ONCE + [[1.0]] * 20
        path = save_parquet(tmp_path / "a.parquet", {"v": rows})
        assert f"rows {ROWS_AT_ONCE}, {ROWS_AT_ONCE + 1}, " in refusal(path)
        assert "and at least 10 more have another number of components than the 2" in refusal(path)

    @pytest.mark.parametrize("kind", [pa.list_(pa.float32()), pa.list_(pa.float32(), 2)])
    def test_rows_without_a_vector(self, tmp_path, kind):
        vectors = pa.array([[1, 2], None, [3, 4], None], kind)
        path = save_parquet(tmp_path / "a.parquet", {"v": vectors})
        assert "rows 1, 3 have no vector (null)" in refusal(path)

    def test_components_that_are_null(self, tmp_path):
        vectors = pa.array([[1, 2], [3, 4], [None, None]], pa.list_(pa.float32()))
        path = save_parquet(tmp_path / "a.parquet", {"v": vectors})
        assert "row 2 has components that are null" in refusal(path)

    def test_nan(self, tmp_path):
        rows = [[1.0, 2.0]] * 20_000
        rows[17_000] = [1.0, float("nan")]
        path = save_parquet(tmp_path / "a.parquet", {"v": rows})
        assert "row 17000 has NaN" in refusal(path)

    @pytest.mark.parametrize("rows", [[], [[], []]])
    def test_no_vectors(self, tmp_path, rows):
        vectors = pa.array(rows, pa.list_(pa.float32()))
        path = save_parquet(tmp_path / "a.parquet", {"v": vectors})
        assert "there are no vectors in it" in refusal(path)

    def test_cut_short(self, tmp_path):
        path = save_parquet(tmp_path / "a.parquet", {"v": MATRIX.tolist()})
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        assert "it is cut short or no Parquet file" in refusal(path)

    def test_broken_inside(self, tmp_path):
        path = save_parquet(tmp_path / "a.parquet", {"v": [[float(n)] for n in range(5_000)]})
        content = bytearray(path.read_bytes())
        content[4:400] = bytes(396)
        path.write_bytes(content)
        assert "it is cut short" in refusal(path)


@pytest.fixture
def benchmark_arrays() -> dict[str, np.ndarray]:
    return {
        "train": MATRIX,
        "test": MATRIX[:2] + 0.25,
        "neighbors": np.array([[0, 1], [1, 0]], dtype=np.int32),
        "distances": np.array([[0.1, 0.2], [0.1, 0.2]]),
    }


class TestHdf5:
    def test_a_benchmark(self, tmp_path, benchmark_arrays):
        path = save_hdf5(tmp_path / "tiny.hdf5", benchmark_arrays, distance="angular")
        found = read_vector_file(path)
        np.testing.assert_array_equal(found.train, MATRIX)
        np.testing.assert_array_equal(found.test, MATRIX[:2] + 0.25)
        np.testing.assert_array_equal(found.neighbors, [[0, 1], [1, 0]])
        np.testing.assert_allclose(found.distances, [[0.1, 0.2], [0.1, 0.2]])
        assert found.metric == "COSINE"
        kinds = (found.train.dtype, found.test.dtype, found.neighbors.dtype, found.distances.dtype)
        assert kinds == (np.float32, np.float32, np.int64, np.float32)

    @pytest.mark.parametrize(
        ("name", "attributes", "metric"),
        [
            ("sift-128-euclidean.hdf5", {}, "L2"),
            ("glove-25-angular.h5", {}, "COSINE"),
            ("lastfm-64-dot.hdf5", {}, "IP"),
            ("mine.hdf5", {}, None),
            ("sift-128-euclidean.hdf5", {"distance": "angular"}, "COSINE"),
            ("mine.hdf5", {"distance": b"euclidean"}, "L2"),
        ],
    )
    def test_the_metric(self, tmp_path, name, attributes, metric):
        path = save_hdf5(tmp_path / name, {"train": MATRIX}, **attributes)
        assert read_vector_file(path).metric == metric

    def test_a_metric_that_cannot_be_used(self, tmp_path):
        for name, attributes in (("a-256-hamming.hdf5", {}), ("a.hdf5", {"distance": "jaccard"})):
            path = save_hdf5(tmp_path / name, {"train": MATRIX}, **attributes)
            assert "for vectors of bits; only dense vectors of numbers" in refusal(path)
        path = save_hdf5(tmp_path / "b.hdf5", {"train": MATRIX}, distance="far")
        assert "it names the distance 'far', which is none of euclidean, angular" in refusal(path)

    def test_a_limit_leaves_the_neighbours_out(self, tmp_path, benchmark_arrays):
        path = save_hdf5(tmp_path / "a.hdf5", benchmark_arrays)
        some = read_vector_file(path, limit=3)
        np.testing.assert_array_equal(some.train, MATRIX[:3])
        assert len(some.test) == 2
        assert (some.neighbors, some.distances) == (None, None)
        assert read_vector_file(path, limit=4).neighbors is not None

    def test_rows_only(self, tmp_path):
        found = read_vector_file(save_hdf5(tmp_path / "a.h5", {"train": MATRIX}))
        assert (found.test, found.neighbors, found.distances) == (None, None, None)

    def test_another_matrix(self, tmp_path):
        path = save_hdf5(tmp_path / "a.h5", {"group/emb": MATRIX.astype(np.uint8), "x": [1, 2]})
        np.testing.assert_array_equal(read_vector_file(path, column="group/emb").train, MATRIX)
        message = refusal(path)
        assert "it has no matrix 'train'; name the matrix of vectors with column=" in message
        assert "It has: group/emb (4, 3), x (2,)" in message
        assert "not an array of shape (2,)" in refusal(path, column="x")

    def test_nothing_in_it(self, tmp_path):
        assert "It has: nothing" in refusal(save_hdf5(tmp_path / "a.h5", {}))

    def test_vectors_of_bits(self, tmp_path):
        path = save_hdf5(tmp_path / "a.h5", {"train": np.ones((2, 8), dtype=bool)})
        assert "'train': it holds bool and not numbers" in refusal(path)

    def test_nan_in_rows_and_in_queries(self, tmp_path, benchmark_arrays):
        broken = {**benchmark_arrays, "test": np.array([[0, 0, 0], [0, np.nan, 0]])}
        assert "'test': row 1 has NaN" in refusal(save_hdf5(tmp_path / "a.h5", broken))

    @pytest.mark.parametrize(
        ("arrays", "said"),
        [
            ({"test": np.zeros((2, 4))}, "'train' has the dimension 3 and 'test' 4"),
            ({"neighbors": np.zeros((3, 2), int)}, "the 2 queries; it has the shape (3, 2) of int"),
            ({"neighbors": np.zeros((2, 2))}, "it has the shape (2, 2) of float64"),
            ({"neighbors": [[0, 4], [1, 0]]}, "names row 4, but 'train' has the rows 0 to 3"),
            ({"neighbors": [[0, -1], [1, 0]]}, "names row -1, but"),
            ({"distances": np.zeros((2, 1))}, "'distances' has the shape (2, 1) and 'neighbors'"),
        ],
    )
    def test_parts_that_do_not_fit(self, tmp_path, benchmark_arrays, arrays, said):
        path = save_hdf5(tmp_path / "a.h5", {**benchmark_arrays, **arrays})
        assert said in refusal(path)

    def test_cut_short(self, tmp_path, benchmark_arrays):
        path = save_hdf5(tmp_path / "a.h5", benchmark_arrays)
        path.write_bytes(path.read_bytes()[:-100])
        message = refusal(path)
        assert "it is cut short, broken or no HDF5 file" in message
        assert "truncated" in message

    def test_only_the_rows_asked_for_are_read(self, tmp_path):
        many = np.zeros((300_000, 32), dtype=np.float32)
        path = save_hdf5(tmp_path / "a.h5", {"train": many})
        del many
        tracemalloc.start()
        read_vector_file(path, limit=1_000)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 2_000_000
