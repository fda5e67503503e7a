"""Documents from files: .txt, .md and .pdf, decoded and cleaned, with a title, a day and tags.

What cannot be read raises a DocumentError that says why, so that the caller can name the file.
"""

import logging
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from io import BytesIO
from pathlib import Path, PurePosixPath

import yaml

SUFFIXES = (".txt", ".md", ".pdf")
LONGEST_TITLE = 200  # characters
MOST_TAGS, LONGEST_TAG = 16, 64  # tags, characters

_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.*?)\n---[ \t]*(?:\n|\Z)", re.DOTALL)
_HEADING = re.compile(r"^ {0,3}#{1,6}[ \t]+(.+?)[ \t]*#*$", re.MULTILINE)
# Without a meaning in a search: control characters, soft hyphens, spaces of no width.
_UNSEEN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u200b-\u200f\u2060\ufeff]")
_HANGUL = re.compile(r"[\uac00-\ud7a3]")


class DocumentError(ValueError):
    """A file or folder that cannot be read as documents; the message says why."""

    exit_code = 2


class NoText(DocumentError):  # noqa: N818 - it reads as a sentence where it is raised
    """A file that can be read and holds no text."""


@dataclass(frozen=True, slots=True)
class Document:
    """A document; `path` counts from its folder, with "/" on every system.

    `day` is that of the front matter, or else on which the file was last changed. `tags` are
    those of the front matter and the folders in which the file lies.
    """

    path: str
    title: str
    text: str
    day: date
    tags: tuple[str, ...] = ()


def find_files(folder: Path) -> tuple[list[str], dict[str, str]]:
    """Find the documents in a folder and below it; what is hidden (".git") is passed over.

    Returns:
        The paths of the files from the folder on, sorted; and from each folder that could not be
        listed to the reason.

    Raises:
        DocumentError: there is no such folder.
    """
    if not folder.is_dir():
        raise DocumentError(f"{folder} is no folder: name one that holds {', '.join(SUFFIXES)}")
    found, failed = [], {}

    def note(error: OSError) -> None:
        failed[Path(error.filename).relative_to(folder).as_posix()] = str(error.strerror)

    for parent, inside, files in os.walk(folder, onerror=note):
        inside[:] = [name for name in inside if not name.startswith(".")]
        for name in files:
            if name.lower().endswith(SUFFIXES) and not name.startswith("."):
                found.append((Path(parent) / name).relative_to(folder).as_posix())
    return sorted(found), failed


def read_document(path: str, data: bytes, changed: float) -> Document:
    """Make a document of the bytes of a file.

    Args:
        path: from its folder on, with "/"; tells the kind of file, and the folders as tags.
        data: what the file holds.
        changed: when it was last changed, in seconds since 1970.

    Raises:
        NoText: it is empty, or a PDF of pictures, as a scanner makes it.
        DocumentError: it is broken, protected by a password or no text.
    """
    name = PurePosixPath(path)
    about: dict[str, object] = {}
    title = ""
    if name.suffix.lower() == ".pdf":
        title, text = _read_pdf(data)
    else:
        text = decode(data)
        if name.suffix.lower() == ".md":
            about, text = _split_front_matter(text)
            heading = _HEADING.search(text)
            title = _one_line(_plain_markdown(heading[1])) if heading else ""
            text = clean(_plain_markdown(text))
        else:
            text = clean(text)
    if not text:
        raise NoText("it holds no text")
    title = _one_line(str(about.get("title") or title or name.stem))[:LONGEST_TITLE]
    day = _day(about.get("date")) or datetime.fromtimestamp(changed).date()
    tags = dict.fromkeys([*_tags(about.get("tags")), *name.parts[:-1]])
    return Document(path, title, text, day, tuple(tag[:LONGEST_TAG] for tag in tags)[:MOST_TAGS])


def decode(data: bytes) -> str:
    """Decode a text file: by its byte order mark, else UTF-8, else CP949 (Korean), else CP1252.

    The last two take nearly any bytes. CP949 is chosen only where what is not ASCII becomes
    Hangul nearly throughout.

    Raises:
        DocumentError: it is no text, or in another encoding.
    """
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return _decoded(data, "utf-16")
    if b"\0" in data:
        raise DocumentError("it is no text: it holds zero bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        pass  # then it is one of the encodings of single systems
    try:
        text = data.decode("cp949")
    except UnicodeDecodeError:
        return _decoded(data, "cp1252")
    foreign = [character for character in text if not character.isascii()]
    if sum(map(bool, map(_HANGUL.match, foreign))) >= 0.9 * len(foreign):
        return text
    return _decoded(data, "cp1252")


def clean(text: str) -> str:
    """Clean a text: composed characters, one line a paragraph, an empty line between two.

    Characters are composed (NFC), since macOS writes Hangul in parts, which no search would find.
    """
    text = unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n"))
    paragraphs = re.split(r"\n\s*\n", _UNSEEN.sub("", text))
    return "\n\n".join(line for line in map(_one_line, paragraphs) if line)


def _decoded(data: bytes, encoding: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise DocumentError(f"its encoding is unknown: save it as UTF-8 ({error})") from error


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _split_front_matter(text: str) -> tuple[dict[str, object], str]:
    """The values between two lines of "---" at the beginning, and the text after them."""
    text = text.replace("\r\n", "\n")
    match = _FRONT_MATTER.match(text)
    try:
        values = yaml.safe_load(match[1]) if match else None
    except yaml.YAMLError:
        values = None  # such as prose between two rules: then it belongs to the text
    return (values, text[match.end() :]) if isinstance(values, dict) else ({}, text)


def _plain_markdown(text: str) -> str:
    """Leave out the marks of Markdown and keep what people read."""
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r"^[ \t]*(```|~~~).*$", "\n", text, flags=re.MULTILINE)  # the code stays
    text = re.sub(r"!\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", text)
    text = _HEADING.sub(r"\n\1\n", text)
    text = re.sub(r"^[ \t]*(?:[-*+]|\d+[.)])[ \t]+", "\n", text, flags=re.MULTILINE)
    text = re.sub(r"^[ \t]*(?:>[ \t]?)+", "", text, flags=re.MULTILINE)
    text = re.sub(r"^[ \t|:-]*-{3,}[ \t|:-]*$", "", text, flags=re.MULTILINE)  # rules
    return re.sub(r"(\*\*|__|`)(?=\S)(.+?)(?<=\S)\1", r"\2", text)


def _day(value: object) -> date | None:
    if isinstance(value, datetime):
        return value.date()
    if isinstance(value, date):
        return value
    try:
        return date.fromisoformat(str(value))
    except ValueError:
        return None


def _tags(value: object) -> list[str]:
    listed = value.split(",") if isinstance(value, str) else value
    listed = listed if isinstance(listed, list) else []
    return [tag for tag in (_one_line(str(item)) for item in listed) if tag]


def _read_pdf(data: bytes) -> tuple[str, str]:
    """The title that the metadata tell, may be empty, and the text of all pages."""
    if not data:
        raise NoText("it is empty")
    from pypdf import PdfReader

    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # it warns of each flaw that it mends
    try:
        reader = PdfReader(BytesIO(data))
        if reader.is_encrypted and not reader.decrypt(""):
            raise DocumentError("it is protected by a password")
        pages = [page.extract_text() for page in reader.pages]
        title = (reader.metadata and reader.metadata.title) or ""
    except DocumentError:
        raise
    except Exception as error:
        raise DocumentError(f"it is no PDF that can be read ({error})") from error
    text = clean(_join_pages(pages))
    if not text:
        raise NoText(f"its {len(pages)} pages hold no text: scanned? Run OCR over it first")
    return _one_line(title), text


def _join_pages(pages: Sequence[str]) -> str:
    """The pages as one text, without headers, footers and page numbers, words in one piece."""
    lines = [[line for line in page.splitlines() if line.strip()] for page in pages]
    edges = Counter(_shape(line) for page in lines for line in {*page[:1], *page[-1:]})
    repeated = {shape for shape, times in edges.items() if times > max(2, len(pages) / 2)}
    kept = []
    for page in lines:
        if page and (_shape(page[0]) in repeated or page[0].strip().isdigit()):
            page = page[1:]
        if page and (_shape(page[-1]) in repeated or page[-1].strip().isdigit()):
            page = page[:-1]
        kept += page
    text = unicodedata.normalize("NFKC", "\n".join(kept))  # "ﬁ" is one character in many PDFs
    return re.sub(r"(?<=[a-z])-\n(?=[a-z])", "", text)


def _shape(line: str) -> str:
    """A line with its numbers left open: "Page 3" and "Page 4" are alike."""
    return re.sub(r"\d+", "0", line.strip())
