"""What 03_image_search shows is what exact arithmetic says, and good enough on all emoji."""

import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

from common.album import SPACES, Album, emoji_album
from common.connection import Milvus
from common.evaluation import paired_difference
from common.fusion import reciprocal_rank_fusion
from common.image_embedding import cached, image_encoder
from common.odd_pictures import CAN_BE_USED, CANNOT_BE_USED, draw_house, write_odd_pictures
from common.picture_report import PictureReport
from common.planted_pictures import COPIES, mix, roc_auc
from common.tests.random_clip import save_clip
from common.vectors import Float32, exact_search
from common.workspace import workspace

import numpy as np
import pytest

MODEL = "efficientnet-lite0"
SMALL, ALL = 100, 1412


@pytest.fixture(autouse=True)
def packaged_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same model for every run, also where the hub could be reached."""
    monkeypatch.setenv("IMAGE_MODEL", MODEL)


@pytest.fixture(scope="module")
def small() -> Album:
    return emoji_album(SMALL, cached(image_encoder(MODEL)))


@pytest.fixture(scope="module")
def stored(lesson: ModuleType, session_milvus: Milvus, small: Album) -> Iterator[object]:
    """A hundred emoji in the collections of the lesson."""
    with workspace(session_milvus.client, *lesson.COLLECTIONS):
        yield lesson.store(session_milvus, small)


@pytest.fixture
def report(small: Album) -> PictureReport:
    return PictureReport(small)


def exact(album: Album, space: str, queries: Float32, limit: int, kept: np.ndarray) -> list:
    """The rankings of exact search among the rows that are kept: lists of (id, score)."""
    ids = np.array([item.id for item in album.items])[kept]
    rows, scores = exact_search(album.spaces[space][kept], queries, min(limit, len(ids)))
    return [
        list(zip(ids[r].tolist(), s.tolist(), strict=True))
        for r, s in zip(rows, scores, strict=True)
    ]


def same(found: list, expected: list) -> bool:
    """Whether two rankings agree; pictures of equal score may stand in any order."""
    scores = [score for _, score in found], [score for _, score in expected]
    last = expected[-1][1] + 1e-4
    certain = [
        {number for number, score in ranking if score > last} for ranking in (found, expected)
    ]
    return certain[0] == certain[1] and scores[0] == pytest.approx(scores[1], abs=1e-4)


def test_passes_as_a_process(passes_as_a_process: Callable[..., str], tmp_path: Path) -> None:
    printed = passes_as_a_process("--quick")
    titles = [line.split(".")[0] for line in printed.splitlines() if line.endswith("───")]
    assert [title for title in titles if title.isdigit()] == [str(n) for n in range(1, 10)]
    assert MODEL in printed
    assert "stand-in for CLIP" in printed
    assert (tmp_path / "out" / "step03_03_quality.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "out" / "step03_03_gallery.html").read_text(encoding="utf-8")
    assert page.count('<img src="data:image/png;base64,') > 80
    assert "http://" not in page.replace("http://localhost", "")


def test_ctrl_c_leaves_nothing_behind(check_ctrl_c: Callable[[str], None]) -> None:
    check_ctrl_c("7.")  # its collections are there by then


def test_your_own_pictures(
    engine: str, run_script: Callable[..., subprocess.CompletedProcess], tmp_path: Path
) -> None:
    folder = tmp_path / "pictures"
    write_odd_pictures(folder / "odd ones")
    draw_house().save(folder / "red house.png")
    done = run_script(
        "--images", str(folder), "--text", "집", "--picture", str(folder / "red house.png")
    )
    assert done.returncode == 1, done.stderr  # some could not be read
    assert "Traceback" not in done.stderr
    for name in CANNOT_BE_USED:
        assert re.search(rf"Cannot be used: odd ones/{name}: \w+", done.stdout)
    assert f"{len(CAN_BE_USED) + 1} pictures, by category: odd ones" in done.stdout
    look = done.stdout.partition("집")[2]
    assert "1.000" in look  # the house finds itself
    assert (tmp_path / "out" / "step03_03_gallery.html").stat().st_size > 10_000


def test_with_a_clip(
    engine: str, run_script: Callable[..., subprocess.CompletedProcess], tmp_path: Path
) -> None:
    """With random weights: it runs, and nothing is called ConSE."""
    more = {"IMAGE_MODEL": str(save_clip(tmp_path)), "HF_HUB_OFFLINE": "1"}
    done = run_script("--quick", "--text", "a car", "--category", "travel-places", **more)
    assert done.returncode == 0, done.stderr
    assert "random-clip" in done.stdout
    assert "random weights only" in done.stdout
    assert "ConSE" not in done.stdout
    assert "not run: text to picture (ko)" in done.stdout  # the hub has its other text tower
    assert re.search(r"rank +words_en +meaning_en +together", done.stdout)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--emoji", "99"], "--emoji is 100 to 1412"),
        (["--text", " "], "--text is blank"),
        (["--category", "objects"], "--category stands without --text and --picture"),
        (["--images", "/nowhere"], "/nowhere: there is no such folder"),
        (["--picture", "/nowhere.png"], "nowhere.png: No such file or directory"),
    ],
)
def test_silly_options_are_refused(
    run_script: Callable[..., subprocess.CompletedProcess], arguments: list[str], message: str
) -> None:
    done = run_script(*arguments, uri="http://localhost:1")  # where nothing listens
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_odd_pictures(lesson: ModuleType) -> None:
    became = {name: how for name, _, how in lesson.read_odd()}
    assert {name for name, how in became.items() if how.startswith("refused")} == set(
        CANNOT_BE_USED
    )
    assert became["animated.gif"] == "first of 4 frames"
    assert became["cmyk.jpg"] == "CMYK"


def test_what_is_stored(lesson: ModuleType, milvus: Milvus, stored: object, small: Album) -> None:
    assert set(stored.collections) == set(SPACES)
    together = bool(milvus.can("several_vector_fields"))
    assert (len(set(stored.collections.values())) == 1) is together
    for name in set(stored.collections.values()):
        options = {"output_fields": ["label_ko", "category", "digest"], "limit": SMALL}
        rows = milvus.client.query(name, filter="id >= 0", **options)
        told = {row["id"]: (row["label_ko"], row["category"], row["digest"]) for row in rows}
        assert told == {i.id: (i.label_ko, i.category, i.digest) for i in small.items}


@pytest.mark.parametrize("space", SPACES)
def test_searches_equal_exact_search(
    lesson: ModuleType, milvus: Milvus, stored: object, small: Album, space: str
) -> None:
    queries, categories = small.spaces[space][10:40], np.array(small.categories)
    for condition, kept in (
        ("", np.ones(SMALL, bool)),
        ('category == "objects"', categories == "objects"),
        ("id != 11", np.arange(SMALL) != 10),
    ):
        found = lesson.search(stored, {space: queries}, 6, condition)
        expected = exact(small, space, queries, 6, kept)
        assert all(map(same, found, expected)), condition


def test_several_spaces_are_fused_by_rank(
    lesson: ModuleType, milvus: Milvus, stored: object, small: Album
) -> None:
    for spaces in (("look", "meaning_en"), ("colours", "words_ko", "meaning_ko")):
        queries = {space: small.spaces[space][20:30] for space in spaces}
        kept = np.array(small.categories) != "people-body"
        found = lesson.search(stored, queries, 6, 'category != "people-body"')
        sides = [exact(small, space, queries[space], lesson.DEPTH, kept) for space in spaces]
        expected = [reciprocal_rank_fusion(each, 6) for each in zip(*sides, strict=True)]
        agree = [same(*each) for each in zip(found, expected, strict=True)]
        assert sum(agree) >= 8  # pictures of equal score may change places before they are fused


def test_search_by_picture(
    lesson: ModuleType, milvus: Milvus, stored: object, small: Album, report: PictureReport
) -> None:
    found = lesson.search_by_picture(stored, report)
    assert len(found) == len(report.questions) == 3
    categories = np.array(small.categories)
    for number, ways in found.items():
        item, others = small.item(number), np.arange(SMALL) != small.row(number)
        for way, space, kept in (
            ("colours", "colours", others),
            ("look", "look", others),
            ("look, other categories", "look", categories != item.category),
        ):
            query = small.picture_queries(item, space)[space]
            assert same(ways[way], exact(small, space, query, 6, kept)[0])
    shown = report.questions[0].hits["by colours"]
    ids = [hit for hit, _ in found[small.examples(1)[0].id]["colours"]]
    assert [each.picture for each in shown] == [small.item(n).thumbnail for n in ids]


def test_search_by_words_and_all_together(
    lesson: ModuleType, milvus: Milvus, stored: object, small: Album, report: PictureReport
) -> None:
    everything = np.ones(SMALL, bool)
    for text, ways in lesson.search_by_words(stored, report).items():
        language = "en" if text.isascii() else "ko"
        assert list(ways) == [f"words_{language}", f"meaning_{language}"]
        for space, ranking in ways.items():
            query = small.text_queries([text], language)[space]
            assert same(ranking, exact(small, space, query, 6, everything)[0])
    together = lesson.search_all_together(stored, report)
    item = small.examples(2)[-1]
    for way, ranking in together.items():
        assert len(ranking) == 6, way
        assert {small.item(n).category for n, _ in ranking} == {item.category}
        assert item.id not in dict(ranking)


def test_copies_and_pairs(
    lesson: ModuleType, milvus: Milvus, stored: object, small: Album, report: PictureReport
) -> None:
    found = lesson.find_copies(stored, report)
    assert tuple(found) == COPIES
    number = len(small.items[:: SMALL // lesson.COUNT + 1])
    assert found["same pixels"] == (number, number, pytest.approx(1.0, abs=1e-4), number)
    assert all(copies.same_digest == 0 for kind, copies in found.items() if kind != "same pixels")
    assert found["mirrored"].nearest == number
    assert all(copies.nearest >= 0.9 * number for copies in found.values())
    assert found["half size"].median_score < found["mirrored"].median_score

    pairs = {(a, b): score for a, b, score in lesson.find_pairs(stored, report)}
    look = small.spaces["look"]
    scores = np.triu(look @ look.T, 1)
    expected = {(int(a) + 1, int(b) + 1) for a, b in np.argwhere(scores >= lesson.NEAR)}
    assert set(pairs) == expected
    assert all(scores[a - 1, b - 1] == pytest.approx(s, abs=1e-4) for (a, b), s in pairs.items())


def test_anomalies(
    lesson: ModuleType, milvus: Milvus, stored: object, small: Album, report: PictureReport
) -> None:
    found = lesson.find_anomalies(stored, report)
    mixed = mix(small, lesson.COUNT, lesson.SHARE_WRONG)
    scores = mixed.vectors @ mixed.vectors.T
    np.fill_diagonal(scores, -2)
    for k in (1, lesson.NEIGHBOURS, lesson.COUNT + lesson.NEIGHBOURS):
        for name, allowed in (("all", mixed.strange | True), ("the known good", ~mixed.strange)):
            far = 1 - np.sort(scores[:, allowed], axis=1)[:, -k:].mean(axis=1)
            auc = roc_auc(far, mixed.strange)
            assert found[f"{k} nearest of {name}"] == pytest.approx(auc, abs=0.01)
    # Strangers that resemble each other hide each other; against the known good they stand out.
    assert found["5 nearest of the known good"] > 0.9
    assert found["5 nearest of all"] < 0.5
    assert found["5 nearest of its label"] > found["5 nearest of any label"]


def test_ratings(lesson: ModuleType, milvus: Milvus, stored: object, small: Album) -> None:
    rated = lesson.rate(stored)
    assert list(rated) == ["all", "without people-body", "en", "ko"]
    categories = np.array(small.categories)
    for way, space in (("colours", "colours"), ("look", "look"), ("label", "meaning_en")):
        expected = precision(small.spaces[space], categories)
        assert np.mean(rated["all"][way]["precision@5"]) == pytest.approx(expected.mean(), abs=0.01)
    for language in ("en", "ko"):
        ways = {way: np.mean(values["recall@10"]) for way, values in rated[language].items()}
        for space in (f"words_{language}", f"meaning_{language}"):
            queries = small.text_queries(small.questions[language], language)[space]
            ranks = known_ranks(queries @ small.spaces[space].T)
            assert ways[space] == pytest.approx((ranks < 10).mean(), abs=0.011)
        assert ways[f"meaning_{language}"] > ways[f"words_{language}"] > ways["chance"]


def precision(vectors: Float32, categories: np.ndarray) -> np.ndarray:
    """Precision@5 of each row's neighbours, by NumPy."""
    scores = vectors @ vectors.T
    np.fill_diagonal(scores, -2)
    best = np.argsort(-scores, axis=1)[:, :5]
    return (categories[best] == categories[:, None]).mean(axis=1)


def known_ranks(scores: np.ndarray) -> np.ndarray:
    """How many pictures score more than the one that is meant, for each query."""
    return (scores > np.diag(scores)[:, None]).sum(axis=1)


def test_quality_on_all_emoji(
    lesson: ModuleType, milvus: Milvus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The floors of this lesson, on all emoji, searched in Milvus."""
    monkeypatch.setattr(lesson, "STORE", "step03_images_all")
    every = emoji_album(ALL, cached(image_encoder(MODEL)))
    stored = lesson.store(milvus, every)
    categories, items = np.array(every.categories), every.items
    for condition, kept, gain in (
        ("", np.ones(ALL, bool), 0.05),
        ('category != "people-body"', categories != "people-body", 0.09),
    ):
        rows, values = np.flatnonzero(kept), {}
        for space in ("colours", "look"):
            found = lesson.search(stored, {space: every.spaces[space][rows]}, 6, condition)
            hits = [
                [number - 1 for number, _ in ranking if number != items[row].id][:5]
                for row, ranking in zip(rows, found, strict=True)
            ]
            values[space] = (categories[np.array(hits)] == categories[rows][:, None]).mean(axis=1)
        counts = {name: np.sum(categories[rows] == name) for name in set(categories[rows])}
        chance = np.mean([(counts[name] - 1) / (len(rows) - 1) for name in categories[rows]])
        difference = paired_difference(values["look"], values["colours"])
        assert difference.mean >= gain
        assert difference.low > 0
        assert values["colours"].mean() > 2 * chance

    # Words to pictures by ConSE: better than chance, which is 10 of 1,412.
    labels = [item.label_en for item in items]
    query = {"words_en": every.text_queries(labels, "en")["words_en"]}
    found = lesson.search(stored, query, 10)
    hit = [item.id in dict(ranking) for item, ranking in zip(items, found, strict=True)]
    assert paired_difference(hit, np.full(ALL, 10 / ALL)).low > 5 * 10 / ALL
