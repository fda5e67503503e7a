"""Vectors kept in a file from run to run: an SQLite table of keys and float32 rows.

Several processes may share a file. A broken one is put aside with a warning and made anew.
"""

import logging
import sqlite3
import zlib
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
_Answer = TypeVar("_Answer")
_log = logging.getLogger(__name__)

# Seconds to wait while another process writes to the same file.
_LOCK_TIMEOUT = 60.0
_TABLE = """CREATE TABLE IF NOT EXISTS vectors
    (key BLOB PRIMARY KEY, vector BLOB NOT NULL, checksum INTEGER NOT NULL) WITHOUT ROWID"""


class CacheError(RuntimeError):
    """The file that keeps the vectors cannot be read or written."""

    exit_code = 2


class _BrokenCacheError(Exception):
    """A row of a cache file is not what was written there."""


class VectorCache:
    """The vectors in the file `path`, by key."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def get(self, keys: Sequence[bytes]) -> dict[bytes, Float32]:
        """The vectors of those `keys` that are there, each float32 of shape (dimension,).

        Raises:
            CacheError: the file cannot be read.
        """
        return self._on_file(lambda connection: _read(connection, keys))

    def put(self, keys: Sequence[bytes], vectors: Float32 | Sequence[Float32]) -> None:
        """Keep the rows of `vectors` under `keys`; both are of the same length.

        Raises:
            CacheError: the file cannot be written.
        """
        self._on_file(lambda connection: _write(connection, keys, vectors))

    def _on_file(self, work: Callable[[sqlite3.Connection], _Answer]) -> _Answer:
        """Run `work` in a transaction; a broken file is put aside first, and a new one made.

        Each call opens the file anew. That costs a millisecond and leaves no state that threads
        or processes would have to share: SQLite's locks do the rest.
        """
        put_aside = False
        while True:
            inode = None
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                inode = self.path.stat().st_ino if self.path.exists() else None
                with closing(sqlite3.connect(self.path, timeout=_LOCK_TIMEOUT)) as connection:
                    connection.execute(_TABLE)
                    with connection:
                        return work(connection)
            except (_BrokenCacheError, sqlite3.Error, OSError) as error:
                if put_aside or not _is_broken(error):
                    raise CacheError(
                        f"the vector cache {self.path} cannot be used: {error}\n"
                        "Set CACHE_DIR to a folder that can be written."
                    ) from error
                self._put_aside(inode, error)
                put_aside = True

    def _put_aside(self, inode: int | None, error: Exception) -> None:
        aside = self.path.with_name(self.path.name + ".broken")
        journal = Path(f"{self.path}-journal")
        try:
            if self.path.stat().st_ino != inode:
                return  # another process put it aside and has made a new one
            if journal.exists():  # SQLite would apply it to the new file
                journal.replace(f"{aside}-journal")
            self.path.replace(aside)
        except FileNotFoundError:
            return  # another process is at it
        _log.warning(
            "the vector cache %s is broken (%s): put aside as %s, encoding anew",
            self.path,
            error,
            aside.name,
        )


def _read(connection: sqlite3.Connection, keys: Sequence[bytes]) -> dict[bytes, Float32]:
    found = {}
    for start in range(0, len(keys), 500):
        part = keys[start : start + 500]
        marks = ",".join("?" * len(part))
        statement = f"SELECT key, vector, checksum FROM vectors WHERE key IN ({marks})"
        for key, vector, checksum in connection.execute(statement, part):
            if type(vector) is not bytes or _checksum(key, vector) != checksum:
                raise _BrokenCacheError("a vector is not the one that was stored")
            found[key] = np.frombuffer(vector, dtype="<f4")
    return found


def _write(
    connection: sqlite3.Connection, keys: Sequence[bytes], vectors: Float32 | Sequence[Float32]
) -> None:
    blobs = [vector.astype("<f4").tobytes() for vector in vectors]
    connection.executemany(
        "INSERT OR REPLACE INTO vectors VALUES (?, ?, ?)",
        [(key, blob, _checksum(key, blob)) for key, blob in zip(keys, blobs, strict=True)],
    )


def _checksum(key: bytes, vector: bytes) -> int:
    return zlib.crc32(vector, zlib.crc32(key))


def _is_broken(error: Exception) -> bool:
    """Tell a file with wrong content from one that is locked, full or forbidden."""
    wrong = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the low byte is the primary code
    return isinstance(error, _BrokenCacheError) or code in wrong
