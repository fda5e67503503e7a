"""Vectors from a file of the learner's own: `.npy`, Parquet, or HDF5 as of ann-benchmarks.

    read_vector_file("sift-128-euclidean.hdf5", limit=100_000)

Only the rows that are asked for are read. A `.npy` file of float32 is mapped, not loaded: what of
it is in memory is the system's choice, and it can be larger than that.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from common.vectors import Float32

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import h5py
    import pyarrow

ROWS_AT_ONCE = 16_384

# What ann-benchmarks calls a distance, in its files and in their names, and Milvus a metric type.
METRIC_OF_DISTANCE = {"euclidean": "L2", "angular": "COSINE", "dot": "IP", "ip": "IP"}
_NOT_DENSE = ("hamming", "jaccard")


class VectorFileError(Exception):
    """A file cannot be read as vectors; the message names it, what is wrong and what to do."""

    exit_code = 2


@dataclass(frozen=True)
class VectorFile:
    """The vectors of a file.

    Attributes:
        train: float32 of shape (rows, dimension): what goes into the collection.
        test: float32 of shape (queries, dimension), None where the file has no queries.
        neighbors: for each query the numbers of its true nearest rows, best first. None where the
            file has none, or where `limit` left rows out: the nearest may be among those.
        distances: of the neighbors, as the file has them.
        metric: "L2", "IP" or "COSINE", None where the file does not tell.
    """

    train: Float32
    test: Float32 | None = None
    neighbors: NDArray[np.int64] | None = None
    distances: Float32 | None = None
    metric: str | None = None


def read_vector_file(
    path: str | Path, *, column: str | None = None, limit: int | None = None
) -> VectorFile:
    """Read the vectors of a file, chosen by the end of its name.

    .npy: one matrix. .parquet: a column of lists of numbers, all of one length. .hdf5, .h5: the
    matrix `train` and, where they are there, `test`, `neighbors` and `distances`.

    Args:
        path: the file.
        column: of a Parquet file; may be left out where there is one column of lists only. In an
            HDF5 file, the name of the matrix to take in place of `train`.
        limit: read at most so many rows from the start.

    Raises:
        VectorFileError: no such file, cut short, of another kind; not a matrix of numbers; rows
            with NaN or infinity, which are numbered from 0; no such column.
        ValueError: `limit` is below 1.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1, not {limit}")
    path = Path(path).expanduser()
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise VectorFileError(
            f"{path}: the name must end in one of {', '.join(_READERS)}, which tells how to read it"
        )
    if not path.is_file():
        raise VectorFileError(f"{path}: there is no such file")
    return reader(path, column, limit)


def _read_npy(path: Path, column: str | None, limit: int | None) -> VectorFile:
    if column is not None:
        raise VectorFileError(f"{path}: a .npy file has no columns, so {column!r} is not in it")
    try:
        matrix = np.lib.format.open_memmap(path, mode="r")
    except (ValueError, EOFError) as error:
        raise VectorFileError(f"{path}: {_why_not_npy(path, error)}") from error
    return VectorFile(_vectors(matrix, limit, str(path)))


def _why_not_npy(path: Path, error: Exception) -> str:
    with path.open("rb") as file:
        if file.read(6) != b"\x93NUMPY":
            return "this is no file of np.save(), though its name says so"
    if "Python objects" in str(error):
        return (
            "it holds Python objects and not a matrix of numbers; lists of different lengths "
            "become such an array. Save np.array(vectors, dtype=np.float32)"
        )
    return f"it is cut short or broken ({_first_line(error)}). Copy or download it again"


def _read_parquet(path: Path, column: str | None, limit: int | None) -> VectorFile:
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            name = _list_column(file.schema_arrow, column, path)
            rows = file.metadata.num_rows
            wanted = rows if limit is None else min(limit, rows)
            return VectorFile(_rows_of_lists(file, name, wanted, f"{path}, column {name!r}"))
    except pyarrow.ArrowInvalid as error:
        raise VectorFileError(
            f"{path}: it is cut short or no Parquet file ({_first_line(error)})"
        ) from error
    except (pyarrow.ArrowException, OSError) as error:
        raise VectorFileError(
            f"{path}: it is cut short or broken ({_first_line(error)}). Copy or download it again"
        ) from error


def _list_column(schema: "pyarrow.Schema", column: str | None, path: Path) -> str:
    from pyarrow import types

    def is_list(kind: "pyarrow.DataType") -> bool:
        return types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)

    lists = [f.name for f in schema if is_list(f.type) and _is_numeric(f.type.value_type)]
    every = ", ".join(f"{f.name} ({f.type})" for f in schema)
    if column is None and len(lists) == 1:
        return lists[0]
    if column is None:
        found = f"it has {', '.join(lists)}" if lists else "it has none"
        what = "name the column of vectors with column=" if lists else "there is nothing to read"
        raise VectorFileError(
            f"{path}: there must be one column of lists of numbers, but {found}; {what}. "
            f"Its columns: {every}"
        )
    if column not in schema.names:
        raise VectorFileError(f"{path}: it has no column {column!r}. Its columns: {every}")
    if column not in lists:
        raise VectorFileError(
            f"{path}: the column {column!r} holds {schema.field(column).type} and not lists of "
            f"numbers. Columns that do: {', '.join(lists) or 'none'}"
        )
    return column


def _is_numeric(kind: "pyarrow.DataType") -> bool:
    from pyarrow import types

    return types.is_integer(kind) or types.is_floating(kind)


def _rows_of_lists(
    file: "pyarrow.parquet.ParquetFile", name: str, wanted: int, where: str
) -> Float32:
    """Fill one matrix batch by batch, so that the lists are never all in memory at once."""
    matrix, start = None, 0
    for batch in file.iter_batches(batch_size=ROWS_AT_ONCE, columns=[name]):
        if start == wanted:
            break
        lists = batch.column(0)[: wanted - start]
        dimension = None if matrix is None else matrix.shape[1]
        part = _matrix_of_lists(lists, dimension, start, where)
        if matrix is None:
            matrix = np.empty((wanted, part.shape[1]), dtype=np.float32)
        matrix[start : start + len(part)] = _float32(part, where, start)
        start += len(part)
    if matrix is None or matrix.shape[1] == 0:
        raise VectorFileError(f"{where}: there are no vectors in it")
    return matrix


def _matrix_of_lists(
    lists: "pyarrow.Array", dimension: int | None, start: int, where: str
) -> NDArray[np.generic]:
    """A batch of lists as a matrix, each as long as `dimension`, or the first where it is None."""
    import pyarrow.compute as pc

    missing = np.flatnonzero(lists.is_null().to_numpy(zero_copy_only=False))
    if len(missing):
        raise VectorFileError(f"{where}: {_rows(missing, start)} no vector (null)")
    lengths = pc.list_value_length(lists).to_numpy(zero_copy_only=False)
    expected = lengths[0] if dimension is None else dimension
    uneven = np.flatnonzero(lengths != expected)
    if len(uneven):
        raise VectorFileError(
            f"{where}: {_rows(uneven, start)} another number of components than the {expected} of "
            f"row 0: row {uneven[0] + start} has {lengths[uneven[0]]}"
        )
    values = lists.flatten()
    if values.null_count:
        holes = np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False))
        raise VectorFileError(
            f"{where}: {_rows(np.unique(holes // expected), start)} components that are null"
        )
    return values.to_numpy(zero_copy_only=False).reshape(len(lists), expected)


def _read_hdf5(path: Path, column: str | None, limit: int | None) -> VectorFile:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            return _vectors_of_hdf5(file, path, column, limit)
    except OSError as error:
        raise VectorFileError(
            f"{path}: it is cut short, broken or no HDF5 file ({_first_line(error)}). Copy or "
            "download it again"
        ) from error


def _vectors_of_hdf5(
    file: "h5py.File", path: Path, column: str | None, limit: int | None
) -> VectorFile:
    name = "train" if column is None else column
    found = _datasets(file)
    if name not in found:
        raise VectorFileError(
            f"{path}: it has no matrix {name!r}; name the matrix of vectors with column=. "
            f"It has: {', '.join(f'{n} {s}' for n, s in found.items()) or 'nothing'}"
        )
    metric = _metric(file, path)
    train = _vectors(file[name], limit, f"{path}, {name!r}")
    if name != "train" or "test" not in found:
        return VectorFile(train, metric=metric)
    test = _vectors(file["test"], None, f"{path}, 'test'")
    if test.shape[1] != train.shape[1]:
        raise VectorFileError(
            f"{path}: 'train' has the dimension {train.shape[1]} and 'test' {test.shape[1]}; "
            "queries must have that of the rows"
        )
    if "neighbors" not in found or len(train) < len(file["train"]):
        return VectorFile(train, test, metric=metric)
    neighbors = _neighbors(file["neighbors"], len(test), len(train), path)
    distances = file["distances"][:].astype(np.float32) if "distances" in found else None
    if distances is not None and distances.shape != neighbors.shape:
        raise VectorFileError(
            f"{path}: 'distances' has the shape {distances.shape} and 'neighbors' "
            f"{neighbors.shape}; they must be the same"
        )
    return VectorFile(train, test, neighbors, distances, metric)


def _datasets(file: "h5py.File") -> dict[str, tuple[int, ...]]:
    """The arrays of a file with their shapes, also those in groups."""
    found: dict[str, tuple[int, ...]] = {}

    def note(name: str, thing: object) -> None:
        if hasattr(thing, "shape"):
            found[name] = thing.shape

    file.visititems(note)
    return found


def _neighbors(dataset: "h5py.Dataset", queries: int, rows: int, path: Path) -> NDArray[np.int64]:
    if dataset.ndim != 2 or len(dataset) != queries or dataset.dtype.kind not in "iu":
        raise VectorFileError(
            f"{path}: 'neighbors' must hold row numbers, in a row for each of the {queries} "
            f"queries; it has the shape {dataset.shape} of {dataset.dtype}"
        )
    numbers = dataset[:].astype(np.int64)
    outside = numbers[(numbers < 0) | (numbers >= rows)]
    if len(outside):
        raise VectorFileError(
            f"{path}: 'neighbors' names row {outside[0]}, but 'train' has the rows 0 to {rows - 1}"
        )
    return numbers


def _metric(file: "h5py.File", path: Path) -> str | None:
    """The metric that the file names, or else its own name: "sift-128-euclidean.hdf5"."""
    told = file.attrs.get("distance", "")
    told = (told.decode() if isinstance(told, bytes) else str(told)).lower()
    distance = told or path.stem.lower().rpartition("-")[2]
    if distance in _NOT_DENSE:
        raise VectorFileError(
            f"{path}: its distance is {distance}, for vectors of bits; only dense vectors of "
            f"numbers are read ({', '.join(METRIC_OF_DISTANCE)})"
        )
    if told and told not in METRIC_OF_DISTANCE:
        raise VectorFileError(
            f"{path}: it names the distance {told!r}, which is none of "
            f"{', '.join(METRIC_OF_DISTANCE)}"
        )
    return METRIC_OF_DISTANCE.get(distance)


def _vectors(matrix: "np.ndarray | h5py.Dataset", limit: int | None, where: str) -> Float32:
    """The first rows of a matrix as checked float32; a mapped float32 matrix stays mapped."""
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise VectorFileError(
            f"{where}: vectors must be a matrix with a row for each vector, not an array of shape "
            f"{tuple(matrix.shape)}"
        )
    if matrix.dtype.kind not in "iuf":
        raise VectorFileError(f"{where}: it holds {matrix.dtype} and not numbers")
    rows = len(matrix) if limit is None else min(limit, len(matrix))
    if matrix.dtype == np.float32 and isinstance(matrix, np.ndarray):
        for start, block in _blocks(matrix, rows):
            _check(block, where, start)
        return matrix[:rows]
    result = np.empty((rows, matrix.shape[1]), dtype=np.float32)
    for start, block in _blocks(matrix, rows):
        result[start : start + len(block)] = _float32(block, where, start)
    return result


def _blocks(
    matrix: "np.ndarray | h5py.Dataset", rows: int
) -> Iterator[tuple[int, NDArray[np.generic]]]:
    for start in range(0, rows, ROWS_AT_ONCE):
        yield start, matrix[start : min(start + ROWS_AT_ONCE, rows)]


def _float32(block: NDArray[np.generic], where: str, start: int) -> Float32:
    with np.errstate(over="ignore"):  # what is beyond float32 becomes infinity, and is refused
        values = block.astype(np.float32)
    _check(values, where, start)
    return values


def _check(block: Float32, where: str, start: int) -> None:
    bad = np.flatnonzero(~np.isfinite(block).all(axis=1))
    if len(bad):
        raise VectorFileError(
            f"{where}: {_rows(bad, start)} NaN, infinity or numbers beyond float32, which Milvus "
            "refuses. Remove these rows (counted from 0)"
        )


def _rows(numbers: NDArray[np.int64], start: int) -> str:
    """The rows of a block in words: "rows 3, 17 have"."""
    shown = ", ".join(str(number + start) for number in numbers[:10])
    more = f" and at least {len(numbers) - 10} more" if len(numbers) > 10 else ""
    return f"row {shown} has" if len(numbers) == 1 else f"rows {shown}{more} have"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


_Reader = Callable[[Path, str | None, int | None], VectorFile]
_READERS: dict[str, _Reader] = {
    ".npy": _read_npy,
    ".parquet": _read_parquet,
    ".hdf5": _read_hdf5,
    ".h5": _read_hdf5,
}
