"""A folder compared with what is stored of it: every kind of change, and interrupted updates."""

from pathlib import Path

from common.documents import DocumentError
from common.folder_index import LONGEST_PATH, FolderUpdate, StoredPassage

import pytest

TEXT = "First part. Second part. Third part."


def cut(text: str) -> list[str]:
    return [part.strip() for part in text.split(".") if part.strip()]


class Table:
    """What a collection would hold, by id, and which rows were written without a stored vector."""

    def __init__(self) -> None:
        self.rows: dict[str, dict] = {}
        self.encoded: list[str] = []

    def update(self, folder: Path, settings: bytes = b"") -> FolderUpdate:
        fields = StoredPassage._fields
        stored = [StoredPassage(*(row[field] for field in fields)) for row in self.rows.values()]
        update = FolderUpdate(folder, stored, cut, settings)
        for rows in update.batches(size=2):
            self.encoded += [row["text"] for row in rows]
            self.rows |= {row["id"]: row for row in rows}
        for old_ids, rows in update.moved():
            assert [self.rows[i]["text"] for i in old_ids] == [row["text"] for row in rows]
            self.rows |= {row["id"]: row for row in rows}
        for stale in update.stale:
            del self.rows[stale]
        return update

    def texts(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for row in sorted(self.rows.values(), key=lambda row: (row["path"], row["passage"])):
            found.setdefault(row["path"], []).append(row["text"])
        return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.txt", "b.txt", "c.txt", "d.txt"):
        (tmp_path / name).write_text(f"{name[0]}. {TEXT}")
    return tmp_path


@pytest.fixture
def table(folder: Path) -> Table:
    table = Table()
    assert table.update(folder).new == ["a.txt", "b.txt", "c.txt", "d.txt"]
    table.encoded.clear()
    return table


def test_every_kind_of_change(table: Table, folder: Path) -> None:
    (folder / "a.txt").write_text("a. Short.")
    (folder / "in").mkdir()
    (folder / "b.txt").rename(folder / "in" / "moved.txt")
    (folder / "c.txt").unlink()
    (folder / "e.txt").write_text("e.")
    update = table.update(folder)
    assert update.changed == ["a.txt"]
    assert update.renamed == {"in/moved.txt": "b.txt"}
    assert update.deleted == ["c.txt"]
    assert update.new == ["e.txt"]
    assert update.unchanged == ["d.txt"]
    assert table.encoded == ["e", "a", "Short"]
    parts = cut(TEXT)
    assert table.texts() == {
        "a.txt": ["a", "Short"],
        "d.txt": ["d", *parts],
        "e.txt": ["e"],
        "in/moved.txt": ["b", *parts],
    }
    moved = next(row for row in table.rows.values() if row["path"] == "in/moved.txt")
    assert moved["tags"] == ["in"]
    assert table.update(folder).counts()["unchanged"] == 4


def test_unreadable_keeps_what_is_stored_and_empty_does_not(table: Table, folder: Path) -> None:
    (folder / "a.txt").unlink()
    (folder / "a.txt").symlink_to(folder / "nowhere")
    (folder / "b.txt").write_bytes(b"\x00 no text any more")
    (folder / "c.txt").write_text(" \n")
    (folder / "f.pdf").write_bytes(b"%PDF broken")
    update = table.update(folder)
    assert set(update.problems) == {"a.txt", "b.txt", "c.txt", "f.pdf"}
    assert "No such file" in update.problems["a.txt"]
    assert not update.new
    assert not update.changed
    assert not update.deleted
    assert sorted(table.texts()) == ["a.txt", "b.txt", "d.txt"]
    assert table.encoded == []


def test_an_interrupted_update_is_made_good(table: Table, folder: Path) -> None:
    whole = table.texts()
    lost = next(i for i, row in table.rows.items() if row["path"] == "a.txt")
    mixed = next(i for i, row in table.rows.items() if row["path"] == "b.txt")
    del table.rows[lost]
    table.rows[mixed] = {**table.rows[mixed], "version": "of before"}
    assert table.update(folder).changed == ["a.txt", "b.txt"]
    assert table.texts() == whole


def test_other_settings_make_every_file_a_changed_one(table: Table, folder: Path) -> None:
    assert len(table.update(folder, b"another model").changed) == 4


def test_copies_and_swapped_names(table: Table, folder: Path) -> None:
    (folder / "copy.txt").write_bytes((folder / "a.txt").read_bytes())
    assert table.update(folder).new == ["copy.txt"]  # a.txt is still there: no renaming
    (folder / "b.txt").rename(folder / "x")
    (folder / "c.txt").rename(folder / "b.txt")
    (folder / "x").rename(folder / "c.txt")
    assert table.update(folder).changed == ["b.txt", "c.txt"]
    assert table.texts()["b.txt"][0] == "c"


def test_an_empty_folder_deletes_nothing(table: Table, folder: Path, tmp_path: Path) -> None:
    for file in folder.iterdir():
        file.unlink()
    with pytest.raises(DocumentError, match=r"holds no \.txt"):
        table.update(folder)
    assert len(table.texts()) == 4


def test_too_long_a_path(folder: Path) -> None:
    deep = folder / ("x" * 200) / ("y" * 100)
    deep.mkdir(parents=True)
    (deep / "z.txt").write_text("text")
    update, table = None, Table()
    update = table.update(folder)
    (problem,) = update.problems.values()
    assert f"{LONGEST_PATH} is the most" in problem
