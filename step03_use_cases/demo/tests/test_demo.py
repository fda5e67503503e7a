"""The web demo in a real browser: Chromium without a window, driven by Playwright."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from common.connection import connect
from common.datasets import milvus_questions, papers
from common.emoji import emoji, stratified
from common.local_server import LocalServer
from common.settings import PROJECT_ROOT
from conftest import TAKES_CTRL_C, what_is_there

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

DEMO = PROJECT_ROOT / "step03_use_cases" / "demo"
PATIENCE = 60_000  # milliseconds: a guard against hanging, not a measurement
PAPERS = papers()[-40:]  # of --quick
EMOJI = stratified(emoji(), 70)
MINE = "mine"  # a collection that is none of the demo's
ENGLISH, KOREAN = "English", "한국어"
STORED = {  # what a page says when all is stored
    ENGLISH: r"passages of|wordings of|emoji\. Words",
    KOREAN: r"구절 \d|표현 \d|이모지 \d",
}

expect.set_options(timeout=PATIENCE)


@dataclass
class Demo:
    """A running demo: its process, its address, what it printed, and what was in its Milvus."""

    process: subprocess.Popen
    url: str
    log: Path
    before: dict[str, object] = field(default_factory=dict)

    def stop(self) -> str:
        """Press Ctrl-C and wait; what the demo printed."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(60)
        return self.log.read_text()


@contextmanager
def running(folder: Path, uri: str, *options: str) -> Iterator[Demo]:
    """The demo as `make demo` starts it, on a free port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {"OUT_DIR": str(folder / "out"), "MILVUS_URI": uri, "OMP_NUM_THREADS": "1"}
    environment |= {"IMAGE_MODEL": "efficientnet-lite0", "PYTHONUNBUFFERED": "1"}
    log = folder / "demo.log"
    with log.open("w") as file:
        process = subprocess.Popen(
            [*TAKES_CTRL_C, DEMO / "app.py", "--port", str(port), *(options or ["--quick"])],
            cwd=folder,
            env=os.environ | environment,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        demo = Demo(process, f"http://127.0.0.1:{port}", log)
        wait_for(demo)
        yield demo
    finally:
        process.kill()
        process.wait()


def wait_for(demo: Demo) -> None:
    """Wait until the page is served."""
    for _ in range(300):
        assert demo.process.poll() is None, demo.log.read_text()
        try:
            with urllib.request.urlopen(f"{demo.url}/_stcore/health", timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    pytest.fail(f"the page is not served: {demo.log.read_text()}")


@pytest.fixture(scope="module")
def browser(part: Callable[[str, str], str]) -> Iterator[Browser]:
    chromium = part("chromium", "apt-get install chromium")
    # Chromium has no sandbox for root, and containers have little of /dev/shm.
    flags = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=flags)
        yield started
        started.close()


@pytest.fixture(scope="module")
def demo(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """The demo on each engine, beside a collection of somebody else."""
    folder = tmp_path_factory.mktemp("demo")
    # The engine's own Milvus Lite is open in this process, and it takes one at a time.
    uri = str(folder / "demo.db") if engine.endswith(".db") else engine
    with connect(uri) as milvus:
        milvus.client.create_collection(MINE, dimension=2)
        before = what_is_there(milvus.client)
    try:
        with running(folder, uri) as demo:
            demo.before = before
            yield demo
    finally:
        with connect(uri) as milvus:
            milvus.client.drop_collection(MINE)


@pytest.fixture(scope="module")
def tab(browser: Browser) -> Iterator[Page]:
    tab = browser.new_page(viewport={"width": 1280, "height": 1000})
    tab.set_default_timeout(PATIENCE)
    yield tab
    tab.close()


@pytest.fixture
def page(tab: Page) -> Iterator[Page]:
    """A tab of the browser; at the end of a test no error of Python stands in it."""
    yield tab
    expect(tab.get_by_test_id("stException")).to_have_count(0)
    assert "Traceback" not in tab.inner_text("body")


@pytest.fixture
def once(engine: str, request: pytest.FixtureRequest) -> None:
    """What is the same on every Milvus is tried on one of the two."""
    if request.config.getoption("--milvus") == "both" and not engine.endswith(".db"):
        pytest.skip("the same on every Milvus, and tried on Milvus Lite")


def open_page(page: Page, demo: Demo, name: str, language: str = ENGLISH) -> None:
    """Open a page of the demo in a language, and wait until all is stored."""
    path = "" if name == "papers" else name
    page.goto(f"{demo.url}/{path}?language={'ko' if language == KOREAN else 'en'}")
    expect(page.get_by_text(re.compile(STORED[language]))).to_be_visible()


def search(page: Page, text: str) -> None:
    box = page.get_by_role("textbox").first
    box.fill(text)
    box.press("Enter")


def texts_of(page: Page, selector: str) -> list[str]:
    return page.locator(selector).all_inner_texts()


def until(check: Callable[[], bool], page: Page) -> None:
    """Wait until something holds for what the page shows."""
    for _ in range(PATIENCE // 100):
        if check():
            return
        page.wait_for_timeout(100)
    pytest.fail(f"it did not come true; the page shows:\n{page.inner_text('body')}")


def choose(page: Page, label: str, value: str, *, several: bool = True) -> None:
    """Choose from a list by typing; a list of several stays open, and is closed."""
    box = page.get_by_role("combobox", name=label)
    box.fill(value)
    page.get_by_role("option", name=value, exact=True).click()
    if several:
        box.press("Escape")


def titles(page: Page) -> list[str]:
    return texts_of(page, ".hit .head span:first-child")


def scores(page: Page) -> list[float]:
    return [float(text) for text in texts_of(page, ".score")]


# Text search


def test_text_search_finds_a_known_paper_and_obeys_its_filters(demo: Demo, page: Page) -> None:
    open_page(page, demo, "papers")
    search(page, "a taxonomy of datasets for reading comprehension")
    expect(page.locator(".hit")).to_have_count(5)
    assert titles(page)[0].startswith("QA Dataset Explosion")
    assert scores(page) == sorted(scores(page), reverse=True)
    assert "reading" in [word.lower() for word in texts_of(page, ".hit mark")]
    expect(page.get_by_text(re.compile(r"encoding [\d.,]+ ms · search [\d.,]+ ms"))).to_be_visible()

    tag = "Knowledge distillation"
    choose(page, "Tags, any of", tag)
    tagged = sorted(paper.title for paper in PAPERS if tag in paper.tags)
    assert len(tagged) == 3
    until(lambda: sorted(titles(page)) == tagged, page)

    last = max(paper.published.year for paper in PAPERS)
    thumb = page.get_by_role("slider").last
    thumb.focus()
    for _ in range(3):
        thumb.press("ArrowLeft")
    late = [p.title for p in PAPERS if tag in p.tags and p.published.year > last - 3]
    until(lambda: sorted(titles(page)) == sorted({*tagged} - {*late}), page)
    assert late
    page.get_by_text("Sent to Milvus").click()
    sent = page.get_by_test_id("stCode").inner_text()
    assert f'"{last - 3}-12-31"' in sent
    assert f'ARRAY_CONTAINS(tags, "{tag}")' in sent


def test_text_search_in_korean(once: None, demo: Demo, page: Page) -> None:
    open_page(page, demo, "papers")
    page.get_by_text(KOREAN, exact=True).click()
    expect(page.get_by_text(re.compile(STORED[KOREAN]))).to_be_visible()
    search(page, "대통령의 임기는 몇 년인가")
    expect(page.locator(".hit").first).to_contain_text("제70조")
    thumb = page.get_by_role("slider").last
    thumb.focus()
    thumb.press("Home")  # articles 1 to 1
    until(lambda: titles(page) == ["제1조"], page)


def test_bad_input_gets_a_message(once: None, demo: Demo, page: Page) -> None:
    open_page(page, demo, "papers")
    for text, message in (
        ("   ", "Type something to search for."),
        ("?!", "There is no letter and no digit in it"),
        ("long " * 250, "These are 1,249 characters; 1,000 is the most."),
        ("대통령의 임기", "Choose 한국어 at the side."),
    ):
        search(page, text)
        expect(page.get_by_text(message)).to_be_visible()
    for text in ('" or id >= 0 or "" == "', "<img src=x onerror=alert(1)>", "$x$ *y* `z`"):
        search(page, text)  # odd, and no reason to refuse it
        expect(page.locator(".hit")).to_have_count(5)
    search(page, "")
    expect(page.get_by_text("Type something to search for.")).to_be_visible()
    expect(page.locator(".hit")).to_have_count(0)


# Questions


def test_a_question_is_answered_or_not(once: None, demo: Demo, page: Page) -> None:
    open_page(page, demo, "questions")
    page.get_by_role("button", name="Does the client reconnect after a restart?").click()
    expect(page.locator(".hit.best")).to_have_count(1)
    right = next(q for q in milvus_questions("en") if q.question.startswith("Must I reconnect"))
    assert texts_of(page, ".hit.best") == [right.answer]
    assert titles(page)[0] == right.question
    page.get_by_role("button", name="How do I write a trigger in PostgreSQL?").click()
    expect(page.locator(".hit.best")).to_have_text("I don't know.")
    choose(page, "Topics, any of", "indexes")
    topics = {item.question: item.topic for item in milvus_questions("en")}
    until(lambda: {topics[title] for title in titles(page)} == {"indexes"}, page)


def test_a_question_in_korean(once: None, demo: Demo, page: Page) -> None:
    open_page(page, demo, "questions", KOREAN)
    page.get_by_role("button", name="벡터를 반정밀도로 바꿔도 되나요?").click()
    expect(page.locator(".hit.best")).to_contain_text("FLOAT16")
    page.get_by_role("button", name="PostgreSQL에서 트리거는 어떻게 작성하나요?").click()
    expect(page.locator(".hit.best")).to_have_text("잘 모르겠습니다.")


# Pictures


def picture_labels(page: Page) -> list[str]:
    return [text.splitlines()[0] for text in texts_of(page, ".picture")]


def test_pictures_are_found_by_words_and_category(demo: Demo, page: Page) -> None:
    open_page(page, demo, "pictures")
    search(page, "an instrument with strings to play music on")
    expect(page.locator(".picture")).to_have_count(12)
    assert picture_labels(page)[0] == "guitar"
    widths = "pictures => pictures.map(picture => picture.naturalWidth)"
    assert page.locator(".picture img").evaluate_all(widths) == [64] * 12
    choose(page, "Categories, any of", "food-drink")
    food = {each.label_en for each in EMOJI if each.category == "food-drink"}
    until(lambda: {*picture_labels(page)} == food, page)


def test_pictures_are_found_by_a_picture(demo: Demo, page: Page) -> None:
    open_page(page, demo, "pictures", KOREAN)
    guitar, crown = (next(e for e in EMOJI if e.label_en == name) for name in ("guitar", "crown"))
    search(page, "머리에 쓰는 것")
    expect(page.locator(".picture")).to_have_count(12)
    by_words = picture_labels(page)
    search(page, "")
    expect(page.locator(".picture")).to_have_count(0)
    choose(page, "또는 이 가운데 하나", f"{crown.char} {crown.label_ko}", several=False)
    expect(page.locator(".picture").first).to_contain_text(crown.label_ko)
    assert scores(page)[0] == pytest.approx(1.0, abs=1e-3)
    upload = page.locator("input[type=file]")
    upload.set_input_files({"name": "g.png", "mimeType": "image/png", "buffer": guitar.png})
    expect(page.locator(".picture").first).to_contain_text(guitar.label_ko)
    assert scores(page)[0] == pytest.approx(1.0, abs=1e-3)
    by_look = picture_labels(page)
    search(page, "머리에 쓰는 것")  # both together, fused by rank
    until(lambda: scores(page)[0] < 0.1, page)
    fused: dict[str, float] = {}
    for ranking in (by_words, by_look):
        for rank, name in enumerate(ranking, start=1):
            fused[name] = fused.get(name, 0) + 1 / (60 + rank)
    assert scores(page) == pytest.approx(sorted(fused.values(), reverse=True)[:12], abs=6e-4)
    assert {*picture_labels(page)} <= {*by_words, *by_look}


def test_an_odd_picture_gets_a_message(once: None, demo: Demo, page: Page) -> None:
    open_page(page, demo, "pictures")
    broken = {"name": "x.png", "mimeType": "image/png", "buffer": EMOJI[0].png[:100]}
    page.locator("input[type=file]").set_input_files(broken)
    expect(page.get_by_text("This picture cannot be used: x.png: broken")).to_be_visible()


# The Milvus


def test_the_milvus_can_be_changed(demo: Demo, page: Page) -> None:
    open_page(page, demo, "papers")
    page.get_by_text("Milvus Lite", exact=True).click()
    search(page, "a taxonomy of datasets for reading comprehension")
    expect(page.get_by_text(re.compile("· Milvus Lite 3"))).to_be_visible()
    assert titles(page)[0].startswith("QA Dataset Explosion")


def test_nothing_is_left_behind(demo: Demo, engine: str) -> None:
    """The last test on an engine, since it ends the demo."""
    uri = str(demo.log.parent / "demo.db") if engine.endswith(".db") else engine
    if not engine.endswith(".db"):
        with connect(uri) as milvus:
            assert "step03_demo_looks" in milvus.client.list_collections()
    assert demo.stop().endswith("stopped\n")
    assert "Traceback" not in demo.log.read_text()
    assert demo.process.returncode == 130
    with connect(uri) as milvus:
        assert what_is_there(milvus.client) == demo.before


def test_no_milvus_and_a_foreign_collection(page: Page, tmp_path: Path) -> None:
    with running(tmp_path, "http://127.0.0.1:9") as demo:
        page.goto(demo.url)
        expect(page.get_by_text("nothing listens at 127.0.0.1:9")).to_be_visible()
    uri = str(tmp_path / "theirs.db")
    with connect(uri) as milvus:
        milvus.client.create_collection("step03_demo_looks", dimension=2)
    with running(tmp_path, uri) as demo:
        page.goto(demo.url)
        expect(page.get_by_text("was not made by this script")).to_be_visible()
        demo.stop()
    with connect(uri) as milvus:
        assert milvus.client.list_collections() == ["step03_demo_looks"]


def test_a_server_that_goes_away(page: Page, throwaway_server: LocalServer, tmp_path: Path) -> None:
    with running(tmp_path, throwaway_server.uri) as demo:
        open_page(page, demo, "papers")
        throwaway_server.kill()
        search(page, "reading comprehension")
        expect(page.get_by_text("Milvus did not answer as it should")).to_be_visible()
        assert "The next start of the demo tidies up." in demo.stop()


# Without a browser


def test_make_starts_it() -> None:
    told = ["make", "-n", "demo", "DEMO_ARGS=--quick"]
    done = subprocess.run(told, cwd=PROJECT_ROOT, capture_output=True, text=True, check=True)
    assert "step03_use_cases/demo/app.py --quick" in done.stdout


@pytest.mark.parametrize("option", ["--papers=5", "--emoji=9999", "--questions=1", "--port=0"])
def test_silly_options_are_refused(option: str) -> None:
    done = subprocess.run([sys.executable, DEMO / "app.py", option], capture_output=True, text=True)
    assert done.returncode == 2
    assert option.partition("=")[0] in done.stderr.splitlines()[-1]


def test_no_text_breaks_out_of_a_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(DEMO)
    from demo_cards import card

    html = card(
        "<b>", 0.5, ["<i>", ""], 'a <script> of "sun" light. More.', "sun <script>", "More."
    )
    assert "<b>" not in html
    assert "<i>" not in html
    assert "&lt;<mark>script</mark>&gt; of &quot;<mark>sun</mark>&quot;" in html
    assert '<div class="about">&lt;i&gt;</div>' in html


def test_both_languages_fill_in_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(DEMO)
    from demo_words import EXAMPLES, words_of

    holes = re.compile(r"\{(\w+)")
    english, korean = words_of("en"), words_of("ko")
    for name, text in english.items():
        assert (
            sorted(holes.findall(text)) == sorted(holes.findall(korean[name])) or not korean[name]
        )
    assert all({*examples} == {"en", "ko"} for examples in EXAMPLES.values())
