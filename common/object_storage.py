"""Files in a folder or in an S3 bucket under one interface, through `pyarrow.fs`.

    storage = open_storage("~/backups")
    storage = open_storage("s3://bucket/prefix")
    storage = open_storage("s3://bucket/prefix?scheme=http&endpoint_override=localhost:9000")

Keys and region of S3 come from where AWS' own tools take them: AWS_ACCESS_KEY_ID,
AWS_SECRET_ACCESS_KEY, AWS_DEFAULT_REGION, `~/.aws`. What stands after the "?" are the options of
`pyarrow.fs.S3FileSystem`, with which any other S3 is reached (MinIO, SeaweedFS, Ceph).
"""

from dataclasses import dataclass
from pathlib import Path

from pyarrow import fs

_UNFINISHED = ".unfinished"  # the end of the name of a file that is being written


class StorageError(Exception):
    """A folder or bucket that cannot be used; the message says which, and why."""

    exit_code = 2


@dataclass(frozen=True)
class Storage:
    """Files below one place. Their names are relative to it, with "/" between the parts."""

    location: str  # as the user wrote it, without the options of S3
    filesystem: fs.FileSystem
    root: str

    @property
    def is_local(self) -> bool:
        """Whether it is a folder of this machine."""
        return isinstance(self.filesystem, fs.LocalFileSystem)

    def write(self, name: str, data: bytes | memoryview) -> None:
        """Write a whole file: under its name there is the old content or the new, never a part.

        An object of S3 appears when it is complete; in a folder the file is renamed at the end.
        """
        path = self._path(name)
        target = path + _UNFINISHED if self.is_local else path
        try:
            if self.is_local:
                Path(path).parent.mkdir(parents=True, exist_ok=True)
            with self.filesystem.open_output_stream(target) as stream:
                stream.write(data)
            if target != path:
                self.filesystem.move(target, path)
        except OSError as error:
            raise StorageError(f"cannot write {self._shown(name)}: {_why(error)}") from error

    def read(self, name: str) -> bytes:
        """A whole file.

        Raises:
            FileNotFoundError: there is none of this name.
            StorageError: it cannot be read.
        """
        try:
            with self.filesystem.open_input_stream(self._path(name)) as stream:
                return stream.read()
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{self._shown(name)} is missing") from error
        except OSError as error:
            raise StorageError(f"cannot read {self._shown(name)}: {_why(error)}") from error

    def size(self, name: str) -> int | None:
        """The bytes of a file; None where there is no such file."""
        info = self._info(name)
        return info.size if info.is_file else None

    def folders(self) -> list[str]:
        """The names of the folders right below the root, in alphabetical order."""
        selector = fs.FileSelector(self.root, allow_not_found=True)
        try:
            infos = self.filesystem.get_file_info(selector)
        except OSError as error:
            raise StorageError(f"cannot list {self.location}: {_why(error)}") from error
        return sorted(info.base_name for info in infos if info.type == fs.FileType.Directory)

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        if self.size(name) is not None:
            try:
                self.filesystem.delete_file(self._path(name))
            except OSError as error:
                raise StorageError(f"cannot remove {self._shown(name)}: {_why(error)}") from error

    def _info(self, name: str) -> fs.FileInfo:
        try:
            return self.filesystem.get_file_info(self._path(name))
        except OSError as error:
            raise StorageError(f"cannot look at {self._shown(name)}: {_why(error)}") from error

    def _path(self, name: str) -> str:
        return f"{self.root}/{name}"

    def _shown(self, name: str) -> str:
        return f"{self.location}/{name}"


def open_storage(location: str | Path) -> Storage:
    """The storage at a path or an `s3://bucket/prefix`; a folder is made with its first file.

    Raises:
        StorageError: another scheme, options that `pyarrow.fs` does not know, or no path.
    """
    text = str(location)
    shown = text.partition("?")[0].rstrip("/")
    if text.startswith("s3://"):
        try:
            filesystem, root = fs.FileSystem.from_uri(text)
        except (OSError, ValueError) as error:
            raise StorageError(f"cannot use {shown}: {_why(error)}") from error
        return Storage(shown, filesystem, root.rstrip("/"))
    if "://" in text or not text.strip():
        raise StorageError(f"{shown!r} is neither a folder nor an s3://bucket/prefix")
    folder = Path(text).expanduser().resolve()
    if folder.exists() and not folder.is_dir():
        raise StorageError(f"{shown} is a file; name a folder")
    return Storage(shown, fs.LocalFileSystem(), folder.as_posix())


def _why(error: Exception) -> str:
    return " ".join(str(error).split())
