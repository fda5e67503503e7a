"""Documents: encodings, cleaning, front matter, PDFs with and without text, what cannot be read."""

import unicodedata
from datetime import date, datetime
from io import BytesIO
from pathlib import Path

from common.documents import DocumentError, NoText, clean, decode, find_files, read_document

import pytest
from pypdf import PdfWriter

NOON = datetime(2024, 2, 29, 12).timestamp()


def pdf(*pages: str) -> bytes:
    """A PDF with a line of text for each line of each page."""
    objects = ["<< /Type /Catalog /Pages 2 0 R >>", ""]
    kids = []
    for page in pages:
        shown = " ".join(f"({line}) Tj T*" for line in page.split("\n"))
        stream = f"BT /F1 12 Tf 14 TL 50 800 Td {shown} ET"
        objects.append(f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream")
        font = "/Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >>"
        contents = f"/Contents {len(objects)} 0 R /Resources << {font} >>"
        objects.append(f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] {contents} >>")
        kids.append(f"{len(objects)} 0 R")
    objects[1] = f"<< /Type /Pages /Kids [{' '.join(kids)}] /Count {len(kids)} >>"
    data, places = b"%PDF-1.4\n", []
    for number, text in enumerate(objects, start=1):
        places.append(len(data))
        data += f"{number} 0 obj\n{text}\nendobj\n".encode()
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    size = len(objects) + 1
    end = f"xref\n0 {size}\n0000000000 65535 f \n{table}trailer\n<< /Size {size} /Root 1 0 R >>\n"
    return data + f"{end}startxref\n{len(data)}\n%%EOF\n".encode()


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("Größe".encode(), "Größe"),
        ("\ufeff국회".encode(), "국회"),
        ("국회".encode("utf-16"), "국회"),
        ("국회는 법률을 만든다".encode("cp949"), "국회는 법률을 만든다"),
        ("Café “naïve”".encode("cp1252"), "Café “naïve”"),
    ],
)
def test_encodings(data: bytes, text: str) -> None:
    assert decode(data) == text


@pytest.mark.parametrize("data", [b"\x00\x01\x02", b"caf\xe9 \x81 \xff.", b"\xff\xfea"])
def test_what_is_no_text_is_refused(data: bytes) -> None:
    with pytest.raises(DocumentError):
        decode(data)


def test_cleaning() -> None:
    apart = unicodedata.normalize("NFD", "국회")
    assert clean(f" {apart}\r\nand\u00ad  more\u200b\n \n\n\x07next ") == "국회 and more\n\nnext"


def test_markdown_with_front_matter() -> None:
    text = (
        "---\ntitle: Of graphs\ndate: 2020-05-06\ntags: [one, two words]\n---\n"
        "# Heading *here*\n\n- a **bold** [link](http://x.y)\n\n```python\ncode = 1\n```\n"
        "<!-- unseen -->\n> said\n"
    )
    document = read_document("notes/deep/a.md", text.encode(), NOON)
    assert document.title == "Of graphs"
    assert document.day == date(2020, 5, 6)
    assert document.tags == ("one", "two words", "notes", "deep")
    assert document.text == "Heading *here*\n\na bold link\n\ncode = 1\n\nsaid"


def test_without_front_matter_the_heading_and_the_day_of_the_file() -> None:
    document = read_document("a.md", b"Before\n\n## A `title`\n\nText", NOON)
    assert (document.title, document.day, document.tags) == ("A title", date(2024, 2, 29), ())
    rules = read_document("b.md", b"---\nno: [front matter\n---\nText", NOON)
    assert "no: [front matter" in rules.text


def test_pdf_is_read_without_headers_and_page_numbers() -> None:
    pages = [f"The Journal\nText of page {n} in exam-\nples\n{n}" for n in ("one", "two", "three")]
    document = read_document("a.pdf", pdf(*(p.replace("one\n", "one ") for p in pages)), NOON)
    assert document.title == "a"
    assert "The Journal" not in document.text
    assert "Text of page two in examples" in document.text


def test_pdf_that_cannot_be_read() -> None:
    blank, locked = PdfWriter(), PdfWriter()
    for writer in (blank, locked):
        writer.add_blank_page(width=100, height=100)
    locked.encrypt("secret", algorithm="RC4-128")
    scanned, encrypted = BytesIO(), BytesIO()
    blank.write(scanned)
    locked.write(encrypted)
    with pytest.raises(NoText, match="OCR"):
        read_document("a.pdf", scanned.getvalue(), NOON)
    with pytest.raises(DocumentError, match="password"):
        read_document("a.pdf", encrypted.getvalue(), NOON)
    with pytest.raises(DocumentError, match="no PDF"):
        read_document("a.pdf", b"%PDF-1.7 broken", NOON)
    for name in ("a.pdf", "a.txt", "a.md"):
        with pytest.raises(NoText):
            read_document(name, b"", NOON)


def test_files_are_found_below_and_hidden_ones_are_not(tmp_path: Path) -> None:
    for name in ("b.TXT", "a/c.md", "a/d.png", ".git/e.md", ".f.txt", "국회.pdf"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    assert find_files(tmp_path) == (["a/c.md", "b.TXT", "국회.pdf"], {})
    with pytest.raises(DocumentError, match="is no folder"):
        find_files(tmp_path / "none")
