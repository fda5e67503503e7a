"""Image search: pictures found by a picture, by words, and by what is known of them.

    python step03_use_cases/03_image_search.py
    python step03_use_cases/03_image_search.py --images ~/Pictures --text "a dog on the beach"
    python step03_use_cases/03_image_search.py --images ~/Pictures --picture new.jpg

You read pictures of any kind, turn them into vectors, search them by look, in English and Korean
words, by category and by all of these at once, find duplicates, strangers and wrong labels, and
measure what each way is worth. The hits are a page of pictures in out/.

Needs: any Milvus (Milvus Lite by default)
Read:  docs/en/step03_use_cases.md#image-search
"""

import argparse
import re
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from common.album import SPACES, Album, describe, emoji_album, folder_album
from common.connection import Milvus, connect
from common.display import heading, left_out, run, table
from common.filters import where
from common.fusion import reciprocal_rank_fusion
from common.image_embedding import cached, image_encoder
from common.images import find_pictures, read_picture
from common.loading import load_rows
from common.odd_pictures import read_odd_pictures
from common.picture_quality import Search, rate_known, rate_labels, rate_neighbours, rate_strangers
from common.picture_report import PictureReport
from common.planted_pictures import COPIES, Copies, copies, judge_copies, mix, near_pairs
from common.ranking_quality import Ranking, Rated
from common.vectors import Float32
from common.workspace import OURS, workspace

from pymilvus import AnnSearchRequest, DataType, MilvusClient, RRFRanker

STORE, STRANGE = "step03_images", "step03_images_strange"
COLLECTIONS = (STORE, STRANGE, *(f"{STORE}_{name}" for name in SPACES))
EMOJI, QUICK_EMOJI, ALL_EMOJI = 400, 100, 1412
COUNT, SHARE_WRONG, NEIGHBOURS = 20, 0.05, 5  # of what is planted, and how it is looked for
NEAR = 0.9  # the cosine from which on two pictures are called near duplicates
DEPTH = 20  # hits of each side that a fused search looks at
TIMEOUT = 120.0  # seconds; without one, pymilvus repeats a failing call for minutes
TEXTS = {"en": ("a musical instrument", "shoes"), "ko": ("자동차", "신발")}

Found = dict[str, Ranking]
"""From the name of a way of searching to the pictures it found: (id, score), best first."""


@dataclass(frozen=True)
class Stored:
    """Pictures in Milvus: for each vector field the collection that has it."""

    milvus: Milvus
    album: Album
    collections: Mapping[str, str]


def read_odd() -> list[tuple[str, str, str]]:
    """Read a folder of awkward pictures: for each file what it is and what became of it."""
    heading("1. Pictures of every kind")
    read = read_odd_pictures()
    table("A folder", ("file", "what it is", "read as"), read)
    return read


def build(options: argparse.Namespace) -> Album:
    """Read the pictures and turn them, and their labels, into vectors."""
    heading("2. Pictures to vectors")
    started, encoder = time.perf_counter(), cached(image_encoder(options.model))
    folder = options.images
    album = folder_album(folder, encoder) if folder else emoji_album(options.emoji, encoder)
    describe(album, time.perf_counter() - started)
    return album


def create(client: MilvusClient, name: str, spaces: Mapping[str, Float32]) -> None:
    """Make a collection with a vector field for each of the spaces."""
    schema, index_params = client.create_schema(), client.prepare_index_params()
    schema.add_field("id", DataType.INT64, is_primary=True)
    for text in ("name", "label_en", "label_ko", "category", "digest"):
        schema.add_field(text, DataType.VARCHAR, max_length=8192)
    for space, vectors in spaces.items():
        schema.add_field(space, DataType.FLOAT_VECTOR, dim=vectors.shape[1])
        index_params.add_index(space, index_type="FLAT", metric_type="COSINE")
    options = {"consistency_level": "Strong", "properties": OURS, "timeout": TIMEOUT}
    client.create_collection(name, schema=schema, index_params=index_params, **options)


def store(milvus: Milvus, album: Album) -> Stored:
    """Insert all pictures: into one collection, or into one for each vector field."""
    heading("3. Collections")
    spaces, able = album.spaces, milvus.can("several_vector_fields")
    plan = {STORE: list(spaces)} if able else {f"{STORE}_{name}": [name] for name in spaces}
    if not able:
        left_out("all vectors of a picture in one row", able.reason)

    def fill(name: str) -> int:
        create(milvus.client, name, {space: spaces[space] for space in plan[name]})
        return load_rows(milvus.client, name, album.rows(plan[name]), batch_size=500).rows

    # A server takes seconds to load a collection, however small: all of them at the same time.
    with ThreadPoolExecutor() as pool:
        counts = list(pool.map(fill, plan))
    rows = zip(plan, map(", ".join, plan.values()), counts, strict=True)
    table("Stored", ("collection", "vector fields", "pictures"), rows)
    return Stored(milvus, album, {space: name for name in plan for space in plan[name]})


def search(
    stored: Stored, queries: Mapping[str, Float32], limit: int, condition: str = ""
) -> list[Ranking]:
    """The best pictures for each query, (id, score): by one space, or by several together (RRF)."""
    milvus, options = stored.milvus, {"output_fields": ["id"], "timeout": TIMEOUT}
    if len(queries) == 1:
        ((space, vectors),) = queries.items()
        options |= {"filter": condition, "limit": limit, "anns_field": space}
        answers = milvus.client.search(stored.collections[space], vectors, **options)
    elif milvus.can("hybrid_search"):
        sides = [AnnSearchRequest(v, name, {}, DEPTH, condition) for name, v in queries.items()]
        answers = milvus.client.hybrid_search(STORE, sides, RRFRanker(60), limit, **options)
    else:
        sides = [search(stored, {name: v}, DEPTH, condition) for name, v in queries.items()]
        return [reciprocal_rank_fusion(both, limit) for both in zip(*sides, strict=True)]
    return [[(hit["id"], hit["distance"]) for hit in hits] for hits in answers]


def search_by_picture(stored: Stored, report: PictureReport) -> dict[int, Found]:
    """Search with pictures of the collection: by colours, and by what the network sees."""
    heading("4. Search by a picture")
    found, album = {}, stored.album
    for item in album.examples(3):
        colours, look = (album.picture_queries(item, space) for space in ("colours", "look"))
        others = where("category != {c}", c=item.category)
        found[item.id] = {
            "colours": search(stored, colours, 6, f"id != {item.id}")[0],
            "look": search(stored, look, 6, f"id != {item.id}")[0],
            "look, other categories": search(stored, look, 6, others)[0],
        }
        report.show(f"Like {item.label_en}", found[item.id], like=item)
    return found


def search_by_words(stored: Stored, report: PictureReport) -> dict[str, Found]:
    """Search with words: among what is seen in the pictures, and among what their labels say."""
    heading("5. Search by words, in English and Korean")
    found = {}
    for language, texts in TEXTS.items():
        for text in texts:
            queries = stored.album.text_queries([text], language)
            found[text] = {name: search(stored, {name: v}, 6)[0] for name, v in queries.items()}
            report.show(text, found[text], text=text, language=language)
    return found


def search_all_together(stored: Stored, report: PictureReport) -> Found:
    """Search with a picture and words at the same time, within a category."""
    heading("6. A picture, words and a category together")
    album, item, text = stored.album, stored.album.examples(2)[-1], "a book"
    like = album.picture_queries(item, "look")
    words = {"meaning_en": album.text_queries([text], "en")["meaning_en"]}
    within = where("category == {c} and id != {id}", c=item.category, id=item.id)
    queries = {"like the picture": like, f"{text}, by label": words, "both": like | words}
    found = {way: search(stored, query, 6, within)[0] for way, query in queries.items()}
    report.show(f"{item.label_en} + {text}, in {item.category}", found, text=text, like=item)
    return found


def find_copies(stored: Stored, report: PictureReport) -> dict[str, Copies]:
    """Search with changed copies of stored pictures: is each known by digest, by distance?"""
    heading("7. Duplicates")
    album, found = stored.album, {}
    originals = album.items[:: len(album.items) // COUNT + 1]
    changed = [copies(album.picture(item)) for item in originals]
    for kind in COPIES:
        pictures = [each[kind] for each in changed]
        same = where("digest in {digests}", digests=[picture.digest for picture in pictures])
        options = {"filter": same, "output_fields": ["digest"], "timeout": TIMEOUT}
        known = stored.milvus.client.query(stored.collections["look"], **options)
        hits = search(stored, {"look": album.encode(pictures)}, DEPTH)
        found[kind] = judge_copies(originals, pictures, known, hits, NEAR)
    report.show_copies(len(originals), found, NEAR)
    return found


def find_pairs(stored: Stored, report: PictureReport) -> list[tuple[int, int, float]]:
    """Look for near duplicates among the stored pictures: pairs of ids with their scores."""
    hits = search(stored, {"look": stored.album.spaces["look"]}, DEPTH)
    pairs = near_pairs(stored.album, hits, NEAR)
    report.show_pairs(f"Stored pairs that score {NEAR} or more", pairs)
    return pairs


def find_anomalies(stored: Stored, report: PictureReport) -> dict[str, float]:
    """Find photographs among drawings, and wrong labels, by distance: the AUC of each way."""
    heading("8. Anomalies")
    album, mixed = stored.album, mix(stored.album, COUNT, SHARE_WRONG)
    create(stored.milvus.client, STRANGE, {"look": mixed.vectors})
    load_rows(stored.milvus.client, STRANGE, mixed.rows(), batch_size=500)
    inside = Stored(stored.milvus, album, {"look": STRANGE})

    def look(rows: Sequence[int], limit: int, condition: str) -> list[Ranking]:
        return search(inside, {"look": mixed.vectors[rows]}, limit, condition)

    strangers = rate_strangers(mixed, look, (1, NEIGHBOURS, COUNT + NEIGHBOURS))
    labels, suspicion = rate_labels(mixed, look, NEIGHBOURS)
    report.show_suspects(mixed, suspicion)
    return strangers | labels


def rate(stored: Stored) -> dict[str, Rated]:
    """Judge what is near by category, and words by whether they find the picture they mean."""
    heading("9. How good is it?")
    album, spaces = stored.album, stored.album.spaces

    def by(*names: str) -> Search:
        return lambda rows, limit, condition: search(
            stored, {name: spaces[name][rows] for name in names}, limit, condition
        )

    ways = {"colours": by("colours"), "look": by("look"), "label": by("meaning_en")}
    ways["look and label"] = by("look", "meaning_en")
    found = rate_neighbours(album, ways, "colours", "step03_03_quality")
    for language, texts in album.questions.items():
        queries = album.text_queries(texts, language)
        rankings = {name: search(stored, {name: v}, 10) for name, v in queries.items()}
        rankings["both"] = search(stored, queries, 10)
        found[language] = rate_known(album, language, rankings, f"meaning_{language}")
    return found


def answer(stored: Stored, report: PictureReport, options: argparse.Namespace) -> Found:
    """Search with the words, the picture and the category of the command line."""
    heading("4. Your search")
    text, picture, queries = options.text, options.picture, {}
    language = "ko" if re.search("[가-힣]", text) else "en"
    queries |= {"look": stored.album.encode([picture])} if picture else {}
    queries |= stored.album.text_queries([text], language) if text else {}
    condition = where("category == {c}", c=options.category) if options.category else ""
    found = {name: search(stored, {name: v}, 8, condition)[0] for name, v in queries.items()}
    if len(queries) > 1:
        found["together"] = search(stored, queries, 8, condition)[0]
    report.show(
        f"{text or picture.name} {condition}", found, text=text, like=picture, language=language
    )
    return found


def read_options(arguments: list[str] | None) -> argparse.Namespace:
    """The options of the command line, checked, with the picture read."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    add, default = parser.add_argument, "(default: %(default)s)"
    add("--images", type=Path, metavar="FOLDER", help="your pictures (default: emoji)")
    add("--emoji", type=int, default=EMOJI, help=f"how many, a share of each category {default}")
    every = {"dest": "emoji", "action": "store_const"}
    add("--all", **every, const=ALL_EMOJI, help=f"all {ALL_EMOJI:,} emoji")
    add("--model", help="efficientnet-lite0, or a CLIP: folder or hub name (default: IMAGE_MODEL)")
    add("--text", default="", help="search with these words and stop (default: give the lesson)")
    add("--picture", type=Path, metavar="FILE", help="search with this picture and stop")
    add("--category", default="", help="search in this category, or folder, only (default: all)")
    add("--quick", **every, const=QUICK_EMOJI, help=f"{QUICK_EMOJI} emoji")
    options = parser.parse_args(arguments)
    if not QUICK_EMOJI <= options.emoji <= ALL_EMOJI:
        parser.error(f"--emoji is {QUICK_EMOJI} to {ALL_EMOJI}")
    if options.text.isspace() or (options.category and not (options.text or options.picture)):
        parser.error("--text is blank, or --category stands without --text and --picture")
    options.picture = read_picture(options.picture) if options.picture else None
    if options.images:
        find_pictures(options.images)  # or an error, before anything is made
    return options


def main(arguments: list[str] | None = None) -> int:
    """Give the lesson, or search your pictures; 1 if some of them could not be read."""
    options = read_options(arguments)
    with connect() as milvus, workspace(milvus.client, *COLLECTIONS):
        read_odd()
        album = build(options)
        stored, report = store(milvus, album), PictureReport(album)
        if options.text or options.picture:
            answer(stored, report, options)
        else:
            search_by_picture(stored, report)
            search_by_words(stored, report)
            search_all_together(stored, report)
            find_copies(stored, report)
            find_pairs(stored, report)
            find_anomalies(stored, report)
            rate(stored)
        report.write("step03_03_gallery", "Image search", milvus.label)
    return 1 if album.refused else 0


if __name__ == "__main__":
    sys.exit(run(main))
