"""A folder of documents to practise on: papers as files, with one of each trouble, then changed."""

from collections.abc import Sequence
from pathlib import Path

from common.datasets import Paper
from common.documents import Document, clean

FEWEST = 6  # papers


def paper_document(paper: Paper) -> Document:
    """A paper as a document; its path is its id."""
    return Document(str(paper.id), paper.title, clean(paper.text), paper.published, paper.tags)


def write_folder(folder: Path, papers: Sequence[Paper]) -> None:
    """Write each paper as a .md or .txt file, and a scanned PDF, a broken one and an empty file.

    Raises:
        ValueError: fewer than `FEWEST` papers.
    """
    from pypdf import PdfWriter

    if len(papers) < FEWEST:
        raise ValueError(f"the folder needs {FEWEST} papers or more, not {len(papers)}")
    for number, paper in enumerate(papers):
        _write(folder, paper, ".txt" if number % 3 == 2 else ".md")
    scanned = PdfWriter()
    scanned.add_blank_page(width=595, height=842)  # points: A4
    scanned.write(folder / "scanned.pdf")
    (folder / "broken.pdf").write_bytes(b"%PDF-1.7\nthe rest was lost on the way")
    (folder / "empty.txt").write_text("", encoding="utf-8")


def change_folder(folder: Path, papers: Sequence[Paper], added: Paper) -> dict[str, list[str]]:
    """Add a file, append a sentence to one, rename one, delete one; what was done to which path."""
    changed, renamed, deleted = (_name(paper, ".md") for paper in (papers[0], papers[1], papers[3]))
    with (folder / changed).open("a", encoding="utf-8") as file:
        file.write("\nThis note was added later: sourdough bread needs a starter and patience.\n")
    moved = Path("read") / Path(renamed).name  # its folder becomes a tag
    (folder / moved.parent).mkdir()
    (folder / renamed).rename(folder / moved)
    (folder / deleted).unlink()
    return {
        "new": [_write(folder, added, ".md")],
        "changed": [changed],
        "renamed": [moved.as_posix()],
        "deleted": [deleted],
    }


def _name(paper: Paper, suffix: str) -> str:
    return f"{paper.published.year}/{paper.arxiv.replace('/', '_')}{suffix}"


def _write(folder: Path, paper: Paper, suffix: str) -> str:
    name = _name(paper, suffix)
    text = f"{paper.title}\n\n{paper.abstract}\n"
    if suffix == ".md":
        tags = "".join(f"\n  - {tag!r}" for tag in paper.tags)
        front = f"---\ndate: {paper.published}\ntags:{tags}\n---\n"
        text = f"{front}\n# {paper.title}\n\n{paper.abstract}\n"
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")
    return name
