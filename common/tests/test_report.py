import base64
import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

from common import display
from common.report import FAILED, NOT_RUN, PASSED, Outcome, Script, duration, read_events
from common.report import write_report as write
from common.settings import Settings

import pytest

HOSTILE = "</pre><script>alert('x')</script> & \"quoted\" <b>한국어</b>"
VOID = {"meta", "link", "img", "br", "hr", "input", "wbr"}


class Page(HTMLParser):
    """A page that was parsed: its elements, its text, and whether its tags are balanced."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open and self._open[-1] != "style":
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def script(name: str, title: str = "", summary: str = "") -> Script:
    return Script(Path(f"/somewhere/{name}.py"), title, summary)


def write_report(path: Path, outcomes: list[Outcome], **options) -> Path:
    started = datetime(2026, 11, 23, 14, 5, tzinfo=UTC)
    return write(path, outcomes, started=started, seconds=61.2, **options)


@pytest.fixture
def chart(tmp_path, monkeypatch):
    monkeypatch.setattr(display, "settings", lambda: Settings(out_dir=tmp_path))
    drawing, axes = display.figure("Recall & cost", "ef", "recall")
    axes.plot([1, 2], [3, 4])
    return display.save_chart(drawing, "recall")


@pytest.fixture
def page(tmp_path, chart):
    """The report on a tour of three scripts: one passed, one failed, one did not run."""
    passed = [
        {"event": "milvus", "label": "Milvus Lite 3.2.2", "uri": "x"},
        {"event": "heading", "text": "1. Create"},
        {"event": "text", "text": "A collection is a table."},
        {
            "event": "table",
            "title": "Rows & types",
            "columns": ["name", "rows"],
            "rows": [["papers", "314"], ["<i>", "5"]],
        },
        {"event": "chart", "path": str(chart), "title": "Recall", "description": "Chart: recall."},
        {"event": "heading", "text": "2. Users"},
        {"event": "left_out", "what": "users", "reason": "Milvus Lite has none"},
        {"event": "expected_error", "title": "no such field", "error": "MilvusException: <no>"},
    ]
    failed = [
        {"event": "milvus", "label": "Milvus Lite 3.2.2", "uri": "x"},
        {"event": "milvus", "label": "Milvus standalone 2.3.5", "uri": "y"},
        {"event": "heading", "text": HOSTILE},
        {"event": "table", "title": HOSTILE, "columns": [HOSTILE], "rows": [[HOSTILE]]},
        {"event": "chart", "path": str(tmp_path / "gone.png"), "title": "Gone"},
        {"event": "unknown to the report"},
    ]
    log = tmp_path / "logs" / "step01_basics" / "02 b.txt"
    outcomes = [
        Outcome(script("step01_basics/01_a", "A: one", "What you see."), PASSED, "", 3.21, passed),
        Outcome(
            script("step01_basics/02_b", HOSTILE, HOSTILE),
            FAILED,
            "exit code 1",
            58.0,
            failed,
            ["Traceback:", HOSTILE],
            log,
        ),
        Outcome(script("step02_more/01_c", "C: three"), NOT_RUN, "step01_basics/02_b failed"),
    ]
    path = write_report(tmp_path / "report.html", outcomes)
    return Page(path.read_text(encoding="utf-8"))


def test_the_page_needs_nothing_from_elsewhere(page):
    links = [
        value
        for _, attributes in page.elements
        for name, value in attributes.items()
        if name in ("src", "href", "srcset", "action", "data", "poster")
    ]
    assert [link for link in links if not link.startswith(("data:", "#", "logs/"))] == []
    assert {tag for tag, _ in page.elements}.isdisjoint({"script", "iframe", "object", "embed"})


def test_its_style_asks_for_nothing_and_knows_light_and_dark(tmp_path):
    html = write_report(tmp_path / "report.html", []).read_text(encoding="utf-8")
    style = re.search(r"<style>(.*)</style>", html, re.DOTALL)[1]
    assert "url(" not in style
    assert "@import" not in style
    assert "@media (prefers-color-scheme: dark)" in style
    assert not re.search(r"https?://", html)


def test_it_says_what_ran_where_and_how_it_went(page):
    text = " ".join(page.text.split())
    assert "1 of 3 scripts passed, 1 failed, 1 not run in 1 min 01 s." in text
    assert "2026-11-23 14:05 UTC" in text
    assert "Milvus Lite 3.2.2, Milvus standalone 2.3.5" in text
    assert re.search(r"Python ?\d+\.\d+\.\d+", text)
    assert re.search(r"\d+ cores", text)
    assert re.search(r"Memory ?\d+ GiB", text)
    assert "Failed: exit code 1" in text
    assert "Not run: step01_basics/02_b failed" in text
    assert "What you see." in text


def test_it_shows_the_sections_in_order_with_what_was_left_out(page):
    order = [
        "1. Create",
        "A collection is a table.",
        "Rows & types",
        "2. Users",
        "Not run: users.",
        "Milvus Lite has none",
        "no such field",
        "MilvusException: <no>",
    ]
    positions = [page.text.index(text) for text in order]
    assert positions == sorted(positions)


def test_texts_of_scripts_are_shown_and_never_obeyed(page):
    assert page.text.count(HOSTILE) >= 6  # title, summary, heading, caption, column, cell, tail
    assert page.all("b") == []
    assert page.all("i") == []


def test_charts_are_inside_and_described(page, chart):
    [image] = page.all("img")
    assert image["src"].startswith("data:image/png;base64,")
    assert base64.b64decode(image["src"].partition(",")[2]) == chart.read_bytes()
    assert image["alt"] == "Chart: recall."
    assert (image["width"], image["height"]) == ("1200", "675")
    assert "Gone: the file gone.png cannot be read" in page.text


def test_it_can_be_read_by_a_screen_reader(page):
    assert page.all("html") == [{"lang": "en"}]
    assert len(page.all("h1")) == len(page.all("main")) == 1
    assert all(header.get("scope") for header in page.all("th"))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = [link["href"][1:] for link in page.all("a") if link["href"].startswith("#")]
    assert set(targets) <= set(ids)
    named = [a["aria-labelledby"] for _, a in page.elements if "aria-labelledby" in a]
    assert set(named) <= set(ids)


def test_numbers_stand_on_the_right(page):
    headers = [h.get("class") for h in page.all("th") if h.get("scope") == "col"]
    assert headers[-3:] == [None, "number", None]  # name, rows, and the hostile one


def test_the_output_is_linked_and_its_last_lines_are_shown(page):
    assert [a["href"] for a in page.all("a") if a["href"].startswith("logs/")] == [
        "logs/step01_basics/02%20b.txt"
    ]
    assert "Traceback:\n" + HOSTILE in page.text


def test_a_good_tour_is_called_good(tmp_path):
    outcomes = [Outcome(script("step01_basics/01_a"), PASSED, seconds=1.0)]
    path = write_report(tmp_path / "new" / "report.html", outcomes, quick=True)
    page = Page(path.read_text(encoding="utf-8"))
    assert "1 of 1 scripts passed in" in " ".join(page.text.split())
    assert {"class": "verdict passed"} in page.all("p")
    assert "small (--quick)" in page.text
    assert "none was reached" in page.text


def test_half_a_pair_of_code_units_does_not_break_the_report(tmp_path):
    events = [{"event": "text", "text": "\ud800"}]
    outcomes = [Outcome(script("step01_basics/01_a"), PASSED, events=events)]
    path = write_report(tmp_path / "report.html", outcomes)
    text = Page(path.read_text(encoding="utf-8")).text
    assert "1 of 1 scripts passed in" in " ".join(text.split())
    assert "\ud800" not in text


def test_events_of_a_crashed_script_are_read_as_far_as_they_go():
    lines = [
        '{"event": "heading", "text": "1. 검색"}',
        "",
        "[1, 2]",
        '{"no": "event"}',
        '{"event": "text", "te',
    ]
    assert read_events(lines) == [{"event": "heading", "text": "1. 검색"}]


def test_an_outcome_names_each_engine_once():
    labels = ["Milvus Lite 3.2.2", "Milvus Lite 3.2.2", "Milvus standalone 2.3.5"]
    events = [{"event": "milvus", "label": label} for label in labels]
    outcome = Outcome(script("step01_basics/01_a"), PASSED, events=events)
    assert outcome.engine == "Milvus Lite 3.2.2, Milvus standalone 2.3.5"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.7, "1 min 00 s"),
        (125, "2 min 05 s"),
        (3700, "61 min 40 s"),
    ],
)
def test_a_duration_is_short(seconds, text):
    assert duration(seconds) == text
