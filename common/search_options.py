"""The options of the text search, its filters, and how well a model tells texts apart."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

from common.cross_encoding import CROSS_ENCODER
from common.datasets import JudgedQuery, Paper
from common.display import say
from common.filters import where
from common.passages import OVERLAP, WORDS
from common.workspace import NameTaken, is_ours

import numpy as np
from numpy.typing import NDArray
from pymilvus import MilvusClient

Judged = tuple[list[Paper], list[JudgedQuery]]
"""Papers, and the queries that are judged on them."""


def parse(
    description: str, arguments: list[str] | None, papers: int, depth: int, quick: int
) -> argparse.Namespace:
    """Read the command line; what makes no sense is refused with exit code 2.

    Args:
        description: what the script does.
        arguments: those of the process if None.
        papers: how many there are.
        depth: the default of --depth.
        quick: how many papers --quick takes.
    """
    parser = argparse.ArgumentParser(description=description)
    add = parser.add_argument
    add("--folder", type=Path, help="search the .txt, .md and .pdf files in it (default: papers)")
    add("--collection", help="keep the index of --folder under this name (default: drop it)")
    add("--query", help="search with these words and stop (default: give the lesson)")
    add("--tag", help="only documents with this tag or in this folder (default: all)")
    add("--since", type=_day, metavar="DATE", help="from this day on, 2020-01-31 (default: all)")
    add("--until", type=_day, metavar="DATE", help="up to this day (default: all)")
    add("--language", choices=("en", "ko"), default="en", help="of --folder (default: %(default)s)")
    words = "words of a passage, 10 to 500 (default: %(default)s)"
    add("--words", type=int, default=WORDS, metavar="N", help=words)
    overlap = "words shared with the passage before, below --words (default: %(default)s)"
    add("--overlap", type=int, default=OVERLAP, metavar="N", help=overlap)
    add("--papers", type=int, default=papers, metavar="N", help="40 or more (default: %(default)s)")
    candidates = "candidates to fuse and rerank, 10 to 200 (default: %(default)s)"
    add("--depth", type=int, default=depth, metavar="N", help=candidates)
    cross = (
        f"rerank with it as well; a folder or a name on the hub (default: none; {CROSS_ENCODER})"
    )
    add("--cross-encoder", nargs="?", const=CROSS_ENCODER, metavar="MODEL", help=cross)
    add("--quick", action="store_true", help=f"{quick} papers")
    options = parser.parse_args(arguments)
    options.papers = min(quick, options.papers) if options.quick else options.papers
    if not 10 <= options.words <= 500 or not 0 <= options.overlap < options.words:
        parser.error("--words is 10 to 500 and --overlap from 0 to below it")
    if not 40 <= options.papers <= papers or not 10 <= options.depth <= 200:
        parser.error(f"--papers is 40 to {papers}, --depth 10 to 200")
    if options.query is not None and not options.query.strip():
        parser.error("--query is blank")
    if options.collection and not options.folder:
        parser.error("--collection needs --folder")
    if not options.query and (options.tag or options.since or options.until):
        parser.error("--tag, --since and --until need --query")
    return options


def condition_of(options: argparse.Namespace) -> str:
    """A filter by `tag`, `since` and `until`, both days included; empty where none is given."""
    parts = []
    if options.tag:
        parts.append(where("ARRAY_CONTAINS(tags, {tag})", tag=options.tag))
    if options.since:
        parts.append(where("day >= {day}", day=options.since.isoformat()))
    if options.until:
        parts.append(where("day <= {day}", day=options.until.isoformat()))
    return " and ".join(parts)


def check_kept(client: MilvusClient, name: str, dimension: int) -> None:
    """Look at the collection of an earlier run before it is updated.

    Raises:
        NameTaken: something else made it, or a model with vectors of another dimension.
    """
    fields = client.describe_collection(name)["fields"]
    vector = next((field for field in fields if field["name"] == "vector"), None)
    if not is_ours(client, name) or vector is None:
        raise NameTaken(f"the collection {name!r} was not made by this script: take another name")
    if vector["params"]["dim"] != dimension:
        raise NameTaken(
            f"the collection {name!r} holds vectors of {vector['params']['dim']} numbers, the "
            f"model makes {dimension}: take another name or the model of before"
        )


def judged_part(papers: Sequence[Paper], queries: Sequence[JudgedQuery], number: int) -> Judged:
    """The first papers, and the queries with what is relevant to them among those."""
    kept = list(papers[:number])
    ids = {paper.id for paper in kept}
    within = [replace(query, relevant=query.relevant & ids) for query in queries]
    return kept, [query for query in within if query.relevant]


def show_fit(
    name: str,
    ids: Sequence[int],
    vectors: NDArray[np.float32],
    asked: NDArray[np.float32],
    queries: Sequence[JudgedQuery],
) -> tuple[float, float]:
    """Say and return the mean cosine of queries with what is relevant, and with all else.

    Args:
        name: of the model.
        ids: of the documents.
        vectors: theirs, of length 1, shape (documents, dimension).
        asked: those of the queries.
        queries: in the order of `asked`.
    """
    cosines = asked @ vectors.T
    relevant = np.array([[found in query.relevant for found in ids] for query in queries])
    right, wrong = float(cosines[relevant].mean()), float(cosines[~relevant].mean())
    say(
        f"{name}: mean cosine {right:.3f} with a relevant text and {wrong:.3f} with any other, "
        f"{right - wrong:.3f} apart."
    )
    return right, wrong


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no day such as 2020-01-31") from None
