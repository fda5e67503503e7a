"""What happens to copies and backups, tried: lost rows, damaged files, killed processes."""

import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from common.backup import chain_of, check_files
from common.backup_format import FORMAT, MANIFEST, PROGRESS, BackupDamaged, Manifest, read_manifest
from common.object_storage import Storage, open_storage

import orjson

PATIENCE = 120.0  # seconds for a process to get to the point at which it is killed


@dataclass(frozen=True)
class Copied:
    """What became of the rows that were in a collection all the time while it was copied."""

    way: str
    there: int  # so many they are
    lost: int
    twice: int

    @property
    def whole(self) -> bool:
        """Whether each row was copied once."""
        return not (self.lost or self.twice)


def judge_copy(way: str, keys: Iterable[int], lasting: set[int]) -> Copied:
    """Compare the keys that were copied with those that were there from the begin to the end."""
    times = Counter(key for key in keys if key in lasting)
    twice = sum(count > 1 for count in times.values())
    return Copied(way, len(lasting), len(lasting) - len(times), twice)


def damaged_copies(
    storage: Storage, manifest: Manifest, folder: Path
) -> Iterator[tuple[str, Storage]]:
    """Copies of a backup in a folder, each with one damage: what it is, and its storage."""
    source, part = Path(storage.root) / manifest.name, manifest.parts[-1].name
    damages: dict[str, Callable[[Path], object]] = {
        "one byte flipped": lambda copy: _flip_byte(copy / part),
        "a file cut off": lambda copy: _cut_off(copy / part),
        "a file missing": lambda copy: (copy / part).unlink(),
        "a byte of the manifest flipped": lambda copy: _flip_byte(copy / MANIFEST),
        "a newer format": lambda copy: _newer(copy / MANIFEST),
    }
    for number, (what, damage) in enumerate(damages.items()):
        copy = folder / str(number) / manifest.name
        shutil.copytree(source, copy)
        damage(copy)
        yield what, open_storage(copy.parent)
        shutil.rmtree(copy.parent)


def refusal_of(storage: Storage, name: str) -> BackupDamaged | None:
    """How a backup is refused; None where nothing is found wrong."""
    try:
        check_files(storage, chain_of(storage, name))
    except BackupDamaged as error:
        return error
    return None


def _flip_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _newer(path: Path) -> None:
    content = orjson.loads(path.read_bytes())
    content["format"] = FORMAT + 1
    path.write_bytes(orjson.dumps(content))


def kill_midway(
    command: Sequence[str | Path], environment: dict[str, str], folder: Path, parts: int
) -> int:
    """Start a backup as a process and kill it (SIGKILL) once so many of its files are there.

    Returns:
        The rows that its progress tells of; fewer than the collection has.

    Raises:
        RuntimeError: it ended, or got nowhere, before it could be killed.
    """
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            [sys.executable, *command], env=environment, stdout=output, stderr=output
        )
        try:
            until = time.monotonic() + PATIENCE
            while _parts_written(folder) < parts:
                if process.poll() is not None or time.monotonic() > until:
                    output.seek(0)
                    raise RuntimeError(f"it was not there to be killed: {output.read()[-2000:]}")
                time.sleep(0.002)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.wait()
    return _progress(folder).rows


def _parts_written(folder: Path) -> int:
    return len(_progress(folder).parts) if list(folder.glob(f"*/{PROGRESS}")) else 0


def _progress(folder: Path) -> Manifest:
    (path,) = folder.glob(f"*/{PROGRESS}")
    return read_manifest(open_storage(folder), path.parent.name, PROGRESS)


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder that is there for a while."""
    with tempfile.TemporaryDirectory(prefix="milvus-backup-") as folder:
        yield Path(folder)
