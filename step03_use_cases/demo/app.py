"""A web page for the searches of this step: text, questions and pictures, in English and Korean.

    make demo
    .venv/bin/python step03_use_cases/demo/app.py --papers 314 --port 8600

You type, filter, change the language and the Milvus, and see what is found, how sure it is, how
long it took, and which request was sent. What the page stores goes away when you stop it (Ctrl-C).
All calls of Milvus are in demo_searches.py.

Streamlit and not Gradio: the page is a script that is read from top to bottom like the lessons,
one process serves it, and it starts in half a second without a network.

Needs: any Milvus (Milvus Lite by default), and requirements-demo.txt
Read:  docs/en/step03_use_cases.md#a-web-page-for-it
"""

import argparse
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from urllib.parse import urlparse

from common.connection import DEFAULT_PORT, lite_path
from common.datasets import papers
from common.display import error_line, quiet_pymilvus, run
from common.emoji import emoji
from common.settings import Settings

import grpc
import streamlit as st
from demo_cards import STYLE
from demo_pages import PAGES
from demo_searches import LANGUAGES, Place, View, enter
from demo_words import words_of
from pymilvus import MilvusException

CONFIG = {
    "server.address": "127.0.0.1",  # this machine only: the page asks nobody for a password
    "server.headless": True,  # prints the address, opens no browser and asks for no e-mail address
    "server.fileWatcherType": "none",
    "server.maxUploadSize": 20,  # MB
    "browser.gatherUsageStats": False,  # nothing is reported to anybody
    "client.showErrorDetails": "none",  # a traceback goes to the terminal, not to a visitor
    "client.toolbarMode": "minimal",
}


def engines() -> dict[str, str]:
    """The Milvus to choose from: what MILVUS_URI names, and Milvus Lite."""
    named, own = Settings.chosen("MILVUS_URI"), {"lite": "Milvus Lite"}
    if not named:
        return own
    path, parts = lite_path(named), urlparse(named)
    return {"named": path.name if path else f"{parts.hostname}:{parts.port or DEFAULT_PORT}"} | own


@contextmanager
def explained(words: Mapping[str, str], place: Place | None = None) -> Iterator[None]:
    """Show an error that is made for people, or that Milvus gave, as a message on the page."""
    try:
        yield
    except (MilvusException, grpc.RpcError) as error:
        if place:
            place.stores.clear()  # who knows what is left of them
        st.error(words["no_milvus"].format(reason=error_line(error)))
        st.stop()
    except Exception as error:
        if not hasattr(error, "exit_code"):
            raise
        st.error(str(error).replace("\n", "  \n"))  # two spaces: a new line in Markdown
        st.stop()


def draw() -> None:
    """Draw the page; Streamlit calls this anew after every click."""
    st.set_page_config("Milvus", "🔎")
    st.html(STYLE)
    first = st.query_params.get("language")  # a link can say .../?language=ko
    place = [*LANGUAGES].index(first) if first in LANGUAGES else 0
    options = {"index": place, "format_func": LANGUAGES.get, "horizontal": True}
    language = st.sidebar.radio("Language · 언어", LANGUAGES, **options)
    words = words_of(language)
    with explained(words):
        known = engines()
    engine = st.sidebar.radio(words["engine"], known, format_func=known.get)
    sizes = read_options()

    def page_of(name: str) -> Callable[[], None]:
        def show() -> None:
            st.title(words[name], anchor=False)
            with explained(words), st.spinner(words["connecting"]):
                at = enter(engine)
            with explained(words, at):
                PAGES[name](View(at, language, words, sizes))

        return show

    pages = [st.Page(page_of(name), title=words[name], url_path=name) for name in PAGES]
    st.navigation(pages, position="top").run()


def read_options() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    add, most = parser.add_argument, len(papers())
    add("--port", type=int, default=8501, help="of the page (default: %(default)s)")
    add("--papers", type=int, default=150, help=f"20 to {most} (default: %(default)s)")
    add("--emoji", type=int, default=300, help=f"50 to {len(emoji()):,} (default: %(default)s)")
    tests = "test questions of each kind to choose the threshold, 20 to 200 (default: %(default)s)"
    add("--questions", type=int, default=40, help=tests)
    add("--quick", action="store_true", help="--papers 40 --emoji 70 --questions 20")
    options = parser.parse_args()
    if options.quick:
        options.papers, options.emoji, options.questions = 40, 70, 20
    for name, least, top in (
        ("port", 1, 65_535),
        ("papers", 20, most),
        ("emoji", 50, len(emoji())),
        ("questions", 20, 200),
    ):
        if not least <= getattr(options, name) <= top:
            parser.error(f"--{name} is {least} to {top:,}")
    return options


@asynccontextmanager
async def tidy(_: object) -> AsyncIterator[None]:
    """While the server runs; at its end everything cached is released, see `leave()`."""
    yield
    st.cache_resource.clear()


def main() -> None:
    """Serve the page until Ctrl-C; each visit and each click runs this file again, as a script."""
    port = read_options().port
    with quiet_pymilvus():  # what goes wrong stands on the page
        st.App(__file__, lifespan=tidy).run(config=CONFIG | {"server.port": port})


if __name__ == "__main__":
    if st.runtime.exists():
        draw()
    else:
        sys.exit(run(main))
