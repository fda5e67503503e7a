"""What has to be done so that a collection holds the passages of a folder as it is now.

    update = FolderUpdate(folder, stored, split, b"model and sizes")
    for rows in update.batches():  # of new and changed files; add the vectors and upsert
        ...
    for ids, rows in update.moved():  # of renamed files; take the vectors of the rows `ids`
        ...
    update.stale  # the ids of rows to delete at the end

A file is known by its content. What is stored is read from the collection itself and kept nowhere
else, so nothing can disagree with it: an update that was stopped is made good by the next one.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from common.documents import Document, DocumentError, NoText, find_files, read_document
from common.embedding import TextEncoder
from common.passages import OVERLAP, WORDS, split

LONGEST_PATH = 256  # characters
BATCH = 256  # passages


class StoredPassage(NamedTuple):
    """A row that is in the collection, without its text and vector."""

    id: str
    path: str
    version: str
    passages: int


@dataclass(frozen=True)
class Recipe:
    """How texts become rows: the model, and the sizes of the passages in words."""

    encoder: TextEncoder
    words: int = WORDS
    overlap: int = OVERLAP

    def split(self, text: str) -> list[str]:
        """Cut a text into passages."""
        return split(text, self.words, self.overlap)

    def with_vectors(self, rows: Sequence[dict]) -> list[dict]:
        """The rows, each with the vector of its text."""
        vectors = self.encoder.encode_documents([row["text"] for row in rows])
        return [{**row, "vector": vector} for row, vector in zip(rows, vectors, strict=True)]

    @property
    def settings(self) -> bytes:
        """What decides about the rows of a file besides its content."""
        return f"{self.encoder.fingerprint} {self.words} {self.overlap}".encode()


class FolderUpdate:
    """The difference between a folder and what is stored of it, by the content of the files.

    Attributes:
        new, changed, unchanged: paths of files, from the folder on.
        renamed: from the new path of a file to the old one; its content is the same.
        deleted: paths that are stored and no longer in the folder.
        problems: from the path of a file that could not be taken to the reason. What is stored of
            an unreadable one stays; of one that has lost its text nothing does.
    """

    def __init__(
        self,
        folder: Path,
        stored: Iterable[StoredPassage],
        split: Callable[[str], Sequence[str]],
        settings: bytes = b"",
    ) -> None:
        """Read all files and compare; nothing is taken apart yet.

        Args:
            folder: the files.
            stored: all rows of the collection.
            split: cuts a text into passages.
            settings: what else decides about the rows, such as the model: a change of it makes
                every file a changed one.

        Raises:
            DocumentError: there is no such folder, or it holds no document at all. The latter is
                refused, since an update would delete all that is stored: think of a disk that is
                not mounted.
        """
        self.problems: dict[str, str] = {}
        self._folder, self._split, self._settings = folder, split, settings
        self._stored: dict[str, list[StoredPassage]] = defaultdict(list)
        for row in stored:
            self._stored[row.path].append(row)
        self._versions, unlisted = self._scan()
        self._written: dict[str, set[str]] = {}  # by path, what the collection shall hold
        self._compare(unlisted)

    @property
    def stale(self) -> list[str]:
        """The ids of rows that do not belong there any more; complete after all rows are written.

        Delete them last: a search in between finds a file twice, but never not at all.
        """
        return [
            row.id
            for path, ids in self._written.items()
            for row in self._stored.get(path, ())
            if row.id not in ids
        ]

    def batches(self, size: int = BATCH) -> Iterator[list[dict]]:
        """The rows of new and changed files without their vectors, about `size` at a time."""
        rows: list[dict] = []
        for path in [*self.new, *self.changed]:
            rows += self._rows(path)
            if len(rows) >= size:
                yield rows
                rows = []
        if rows:
            yield rows

    def moved(self) -> Iterator[tuple[list[str], list[dict]]]:
        """For each renamed file the ids of its old rows and, in the same order, its new rows."""
        for path, before in self.renamed.items():
            version = self._versions[path]
            rows = self._rows(path)
            if self._versions[path] != version:  # then the stored vectors are not its own
                self.problems[path] = "it was changed during the update: run it again"
                self._written.pop(path, None)
            elif rows:
                yield [passage_id(before, row["passage"]) for row in rows], rows
                self._written[before] = set()

    def counts(self) -> dict[str, int]:
        """How many files are new, changed, renamed, deleted, unchanged and not taken."""
        kinds = ("new", "changed", "renamed", "deleted", "unchanged", "problems")
        return {kind: len(getattr(self, kind)) for kind in kinds}

    def _scan(self) -> tuple[dict[str, str], list[str]]:
        """The version of each file that can be read, and the folders that cannot be listed."""
        versions = {}
        files, failed = find_files(self._folder)
        if not files and not failed:
            raise DocumentError(f"{self._folder} holds no .txt, .md or .pdf file")
        self.problems.update(failed)
        for path in files:
            try:
                versions[path] = self._version((self._folder / path).read_bytes())
            except OSError as error:
                self.problems[path] = str(error.strerror)
        return versions, list(failed)

    def _version(self, data: bytes) -> str:
        return hashlib.sha256(self._settings + b"\0" + data).hexdigest()[:32]

    def _compare(self, unlisted: Sequence[str]) -> None:
        stored = {path: self._complete_version(path) for path in self._stored}
        gone = [
            path
            for path in stored
            if path not in self._versions and not _is_in(path, [*self.problems, *unlisted])
        ]
        same = defaultdict(list)  # from the version to the old paths that have it
        for path in sorted(gone, reverse=True):
            same[stored[path]].append(path)
        self.new, self.changed, self.unchanged, self.renamed = [], [], [], {}
        for path, version in self._versions.items():
            if path in stored:
                (self.unchanged if stored[path] == version else self.changed).append(path)
            elif same[version]:
                self.renamed[path] = same[version].pop()
            else:
                self.new.append(path)
        self.deleted = sorted({*gone} - {*self.renamed.values()})
        self._written |= {path: set() for path in self.deleted}

    def _complete_version(self, path: str) -> str:
        """The version of a file that is stored; empty where parts are missing or mixed."""
        rows = self._stored[path]
        (version, _), *others = Counter(row.version for row in rows).most_common()
        complete = not others and all(row.passages == len(rows) for row in rows)
        return version if complete else ""

    def _rows(self, path: str) -> list[dict]:
        """The rows of a file, none where there is a problem with it."""
        try:
            document = self._read(path)
        except NoText as error:
            self._note(path, str(error))
            self._written[path] = set()
            return []
        except (OSError, DocumentError) as error:
            self._note(path, getattr(error, "strerror", None) or str(error))
            return []
        parts = self._split(document.text)
        rows = passage_rows(document, parts, self._versions[path])
        self._written[path] = {row["id"] for row in rows}
        return rows

    def _note(self, path: str, reason: str) -> None:
        self.problems[path] = reason
        for paths in (self.new, self.changed):
            if path in paths:
                paths[:] = [other for other in paths if other != path]

    def _read(self, path: str) -> Document:
        if len(path) > LONGEST_PATH:
            raise DocumentError(f"its path has {len(path)} characters, {LONGEST_PATH} is the most")
        file = self._folder / path
        data = file.read_bytes()
        self._versions[path] = self._version(data)  # what is stored now, should it have changed
        return read_document(path, data, file.stat().st_mtime)


def passage_rows(document: Document, parts: Sequence[str], version: str) -> list[dict]:
    """The passages of a document as rows, without their vectors."""
    about = {
        "path": document.path,
        "version": version,
        "passages": len(parts),
        "title": document.title,
        "day": document.day.isoformat(),  # such texts sort by date
        "tags": list(document.tags),
    }
    return [
        {"id": passage_id(document.path, number), "passage": number, "text": text, **about}
        for number, text in enumerate(parts)
    ]


def passage_id(path: str, number: int) -> str:
    """The primary key of a passage: the same whenever it is stored, so an upsert replaces it."""
    return f"{hashlib.sha256(path.encode(errors='surrogateescape')).hexdigest()[:24]}-{number}"


def _is_in(path: str, places: Iterable[str]) -> bool:
    return any(path == place or place == "." or path.startswith(f"{place}/") for place in places)
