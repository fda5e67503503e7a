"""The gallery: one file that asks nothing of a network, with every picture in it."""

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

from common.gallery import Question, Shown, write_gallery

import pytest
from PIL import Image


def png(colour: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(buffer, "PNG")
    return buffer.getvalue()


class Page(HTMLParser):
    """The pictures, addresses and texts of a page, and the elements that do not load anything."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.pictures: list[dict[str, str]] = []
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list) -> None:
        values = dict(attributes)
        self.tags.append(tag)
        self.addresses += [values[name] for name in ("src", "href", "srcset") if name in values]
        if tag == "img":
            self.pictures.append(values)

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append(" ".join(data.split()))


@pytest.fixture
def page(tmp_path: Path) -> Page:
    questions = [
        Question(
            'Like <a "taxi">',
            {
                "by colours": [Shown(png("red"), "택시 & co", "0.9", good=True)],
                "by look": [Shown(png("blue"), "bus", "0.5", good=False), Shown(png("lime"), "x")],
                "by nothing": [],
            },
            pictures=[Shown(png("yellow"), "taxi")],
        ),
        Question("shoes", {"": []}, text="<script>alert(1)</script>", explanation="told"),
    ]
    path = write_gallery(tmp_path / "deep" / "g.html", "Image search", {"Milvus": "any"}, questions)
    return Page(path.read_text(encoding="utf-8"))


def test_every_picture_is_inside(page: Page) -> None:
    colours = []
    for picture in page.pictures:
        kind, _, data = picture["src"].partition(";base64,")
        assert kind == "data:image/png"
        colours.append(Image.open(io.BytesIO(base64.b64decode(data))).getpixel((0, 0)))
    assert colours == [(255, 255, 0), (255, 0, 0), (0, 0, 255), (0, 255, 0)]
    assert [picture["alt"] for picture in page.pictures] == ["taxi", "택시 & co", "bus", "x"]


def test_it_asks_nothing_of_a_network(page: Page) -> None:
    assert all(address.startswith("data:") for address in page.addresses)
    assert not {"script", "iframe", "object", "form", "a"} & set(page.tags)


def test_texts_are_texts(page: Page) -> None:
    for text in ('Like <a "taxi">', "택시 & co", "<script>alert(1)</script>", "told", "any"):
        assert text in page.texts
    assert page.texts.count("nothing") == 2
    assert page.texts.count("✓") == page.texts.count("○") == 1


def test_the_page_may_load_only_what_is_in_it() -> None:
    source = (Path(__file__).parents[1] / "templates" / "gallery.html.j2").read_text()
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', source)[1]
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert "url(" not in source
    assert "@import" not in source


def test_what_browsers_cannot_show_is_refused(tmp_path: Path) -> None:
    bad = Question("x", {"": [Shown(b"II*\0 a TIFF", "scan")]})
    with pytest.raises(ValueError, match="the picture of 'scan' is no PNG, JPEG, GIF or WebP"):
        write_gallery(tmp_path / "g.html", "t", {}, [bad])
    assert not (tmp_path / "g.html").exists()
