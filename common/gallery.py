"""A page of pictures found: one HTML file with the pictures in it, which needs no network."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

_TYPES = {b"\x89PNG": "png", b"\xff\xd8\xff": "jpeg", b"GIF8": "gif", b"RIFF": "webp"}


@dataclass(frozen=True)
class Shown:
    """A picture of the page: the bytes of its file, what it shows, and a line below that."""

    picture: bytes = field(repr=False)
    label: str
    note: str = ""
    good: bool | None = None

    @property
    def source(self) -> str:
        """The picture as a data URI.

        Raises:
            ValueError: it is no PNG, JPEG, GIF or WebP.
        """
        kind = next(
            (kind for start, kind in _TYPES.items() if self.picture[:4].startswith(start)), None
        )
        if kind is None:
            raise ValueError(f"the picture of {self.label!r} is no PNG, JPEG, GIF or WebP")
        return f"data:image/{kind};base64,{base64.b64encode(self.picture).decode('ascii')}"


@dataclass(frozen=True)
class Question:
    """One search: what was asked, and for each way of searching its hits, best first.

    Attributes:
        title: a short heading.
        hits: from the name of a way to what it found; empty lists are shown as "nothing".
        text: the words that were searched with.
        pictures: those that were searched with.
        explanation: a sentence below the heading.
    """

    title: str
    hits: Mapping[str, Sequence[Shown]]
    text: str = ""
    pictures: Sequence[Shown] = ()
    explanation: str = ""


def write_gallery(
    path: Path, title: str, facts: Mapping[str, str], questions: Sequence[Question]
) -> Path:
    """Write the page to `path`, a folder of which is made where it is not there.

    Args:
        path: of the HTML file.
        title: its heading.
        facts: what stands below it, by name: the Milvus, the model.
        questions: in the order of the page.

    Raises:
        ValueError: a picture is none that browsers show.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.get_template("gallery.html.j2")
    html = template.render(title=title, facts=facts, questions=questions)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(html, encoding="utf-8", errors="replace")
    return path
