"""Albums: the vectors belong to their pictures, whatever could be read, in spaces of their own."""

from collections import Counter
from pathlib import Path

from common.album import SPACES, Album, emoji_album, folder_album
from common.emoji import emoji
from common.image_embedding import ImageEncoder, cached, image_encoder
from common.images import PictureError, colour_histogram, read_picture
from common.odd_pictures import CAN_BE_USED, CANNOT_BE_USED, draw_house, write_odd_pictures
from common.picture_report import PictureReport
from common.tests.random_clip import DIMENSION, save_clip, save_text_tower

import numpy as np
import pytest


@pytest.fixture(scope="module")
def encoder() -> ImageEncoder:
    return cached(image_encoder("efficientnet-lite0"))


@pytest.fixture(scope="module")
def drawn(encoder: ImageEncoder) -> Album:
    return emoji_album(30, encoder)


def test_each_row_is_of_its_picture(drawn: Album, encoder: ImageEncoder) -> None:
    assert [item.id for item in drawn.items] == list(range(1, 31))
    assert tuple(drawn.spaces) == SPACES
    by_char = {each.char: each for each in emoji()}
    for row in (0, 11, 29):
        item = drawn.items[row]
        known = by_char[item.name]
        picture = read_picture(known.png)
        assert (item.label_en, item.label_ko) == (known.label_en, known.label_ko)
        assert (item.category, item.digest) == (known.category, picture.digest)
        assert np.array_equal(drawn.colours[row], colour_histogram(picture))
        assert np.array_equal(drawn.raw[row], encoder.encode([picture]).vectors[0])
        label = drawn.labels["ko"].encode_documents([known.label_ko])[0]
        assert np.array_equal(drawn.spaces["meaning_ko"][row], label)
    for vectors in drawn.spaces.values():
        assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(30), abs=1e-5)


def test_the_mean_is_taken_away_from_pictures_and_queries_alike(drawn: Album) -> None:
    expected = drawn.raw - drawn.raw.mean(axis=0)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert drawn.spaces["look"] == pytest.approx(expected, abs=1e-6)
    item = drawn.items[7]
    assert drawn.encode([drawn.picture(item)])[0] == pytest.approx(expected[7], abs=1e-6)
    assert np.array_equal(drawn.picture_queries(item, "look")["look"][0], drawn.spaces["look"][7])


def test_rows_for_milvus(drawn: Album) -> None:
    rows = list(drawn.rows(["look", "words_en"]))
    assert len(rows) == 30
    texts = {"id", "name", "label_en", "label_ko", "category", "digest"}
    assert set(rows[3]) == texts | {"look", "words_en"}
    assert rows[3]["id"] == drawn.items[3].id
    assert np.array_equal(rows[3]["words_en"], drawn.spaces["words_en"][3])


def test_questions_and_examples(drawn: Album) -> None:
    assert set(drawn.questions) == {"en", "ko"}
    assert all(len(texts) == 30 and all(texts) for texts in drawn.questions.values())
    assert list(drawn.text_queries(["a", "b"], "ko")) == ["words_ko", "meaning_ko"]
    sizes = Counter(drawn.categories)
    first, second = drawn.examples(2)
    assert sizes[first.category] == max(sizes.values())
    assert first.category != second.category


class TestFolder:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        write_odd_pictures(tmp_path / "odd ones")
        draw_house().save(tmp_path / "my_red-house.png")
        return tmp_path

    def test_what_can_be_read_is_there_and_the_rest_is_named(
        self, folder: Path, encoder: ImageEncoder
    ) -> None:
        album = folder_album(folder, encoder)
        items = {item.name: item for item in album.items}
        assert set(items) == {"my_red-house.png", *(f"odd ones/{name}" for name in CAN_BE_USED)}
        assert {error.name for error in album.refused} == {
            f"odd ones/{name}" for name in CANNOT_BE_USED
        }
        house = items["my_red-house.png"]
        assert (house.label_en, house.label_ko) == ("my red house", "my red house")
        assert {item.category for item in album.items} == {folder.name, "odd ones"}
        assert house.category == folder.name
        assert all(album.picture(item).digest == item.digest for item in album.items)
        assert items["odd ones/transparent.png"].digest == house.digest
        assert read_picture(house.thumbnail).size == (64, 48)
        assert not album.mean.any()  # too few to tell a mean from their own
        assert album.questions == {}
        assert album.drawings is False

    def test_many_equal_pictures_have_no_mean(self, tmp_path: Path, encoder: ImageEncoder) -> None:
        for number in range(25):
            draw_house().save(tmp_path / f"{number}.png")
        album = folder_album(tmp_path, encoder)
        assert not album.mean.any()
        assert np.linalg.norm(album.spaces["look"], axis=1) == pytest.approx(np.ones(25), abs=1e-5)

    def test_one_picture_is_not_enough(self, tmp_path: Path, encoder: ImageEncoder) -> None:
        draw_house().save(tmp_path / "a.png")
        (tmp_path / "b.png").write_bytes(b"x")
        with pytest.raises(PictureError, match="1 readable pictures; a search needs 2 or more"):
            folder_album(tmp_path, encoder)


class TestClip:
    """With random weights: both languages meet the pictures in their own space."""

    @pytest.fixture
    def clip(self, tmp_path: Path) -> str:
        return str(save_clip(tmp_path))

    def test_with_both_towers(
        self, clip: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        tower = save_text_tower(tmp_path / "tower")
        album = emoji_album(30, image_encoder(clip, multilingual=str(tower)))
        assert tuple(album.spaces) == SPACES
        for language in ("en", "ko"):
            assert np.array_equal(album.spaces[f"words_{language}"], album.raw)
            queries = album.text_queries(["x"], language)
            assert queries[f"words_{language}"].shape == (1, DIMENSION)
        assert "ConSE" not in album.words["en"].how
        assert len(album.text_queries(["many words " * 50], "en")) == 2  # what is too long is cut
        assert capsys.readouterr().out == ""

    def test_without_the_second_tower_korean_is_left_out(
        self, clip: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        nowhere = str(tmp_path / "nowhere")
        album = emoji_album(30, image_encoder(clip, multilingual=nowhere))
        assert "words_ko" not in album.spaces
        assert set(album.questions) == {"en"}
        assert capsys.readouterr().out.startswith("not run: text to picture (ko): No text encoder")


def test_a_report_keeps_what_it_shows(drawn: Album, capsys: pytest.CaptureFixture[str]) -> None:
    report = PictureReport(drawn)
    item = drawn.items[0]
    report.show("Like it", {"look": [(2, 0.5), (30, 0.25)], "colours": [(3, 0.9)]}, like=item)
    printed = capsys.readouterr().out
    for number, score in ((2, "0.500"), (30, "0.250"), (3, "0.900")):
        assert f"{drawn.item(number).label_en} {score}" in printed
    (question,) = report.questions
    look, colours = question.hits.values()
    assert [shown.picture for shown in look] == [drawn.item(n).thumbnail for n in (2, 30)]
    assert look[0].good is (drawn.item(2).category == item.category)
    assert look[1].good is (drawn.item(30).category == item.category)
    assert (len(colours), question.pictures[0].picture) == (1, item.thumbnail)
