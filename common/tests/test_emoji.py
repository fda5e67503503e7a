"""The emoji: all there, each with a picture; a part of them keeps the shares of the categories."""

import shutil
from collections import Counter
from pathlib import Path

from common import emoji as module
from common.datasets import DATA_FOLDER, DatasetError
from common.emoji import emoji, stratified
from common.images import read_picture

import pyarrow as pa
import pyarrow.parquet as pq
import pytest


def test_all_are_there() -> None:
    every = emoji()
    assert len(every) == len({each.id for each in every}) == len({each.label_ko for each in every})
    assert Counter(each.category for each in every) == {
        "people-body": 386,
        "objects": 264,
        "travel-places": 218,
        "smileys-emotion": 169,
        "animals-nature": 159,
        "food-drink": 131,
        "activities": 85,
    }
    grinning = every[0]
    assert (grinning.char, grinning.label_en) == ("😀", "grinning face")
    assert (grinning.label_ko, "웃음" in grinning.tags_ko) == ("활짝 웃는 얼굴", True)
    assert {read_picture(each.png).size for each in every[:50]} == {(64, 64)}


def test_a_part_keeps_the_shares() -> None:
    every = emoji()
    sizes = Counter(each.category for each in every)
    for count in (7, 100, 400, 1412):
        part = stratified(every, count)
        assert len(part) == len({each.id for each in part}) == count
        assert [each.id for each in part] == sorted(each.id for each in part)
        for category, number in Counter(each.category for each in part).items():
            assert abs(number - count * sizes[category] / 1412) < 1 or number == 1
    assert {each.id for each in stratified(every, 100)} <= {
        each.id for each in stratified(every, 400)
    }
    assert stratified(every, 100, seed=1) != stratified(every, 100)
    assert stratified(every, 1412) == every


@pytest.mark.parametrize("count", [6, 1413])
def test_too_few_and_too_many(count: int) -> None:
    with pytest.raises(ValueError, match="count must lie within 7 and 1412"):
        stratified(emoji(), count)


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"emoji\.parquet cannot be read"):
        module._emoji(tmp_path)
    (tmp_path / "emoji.parquet").write_bytes(b"no parquet")
    with pytest.raises(DatasetError, match="git checkout"):
        module._emoji(tmp_path)
    shutil.copy(DATA_FOLDER / "emoji.parquet", tmp_path)
    table = pq.read_table(tmp_path / "emoji.parquet").slice(0, 3)
    bad = table.set_column(table.schema.get_field_index("png"), "png", pa.array([b"x"] * 3))
    (tmp_path / "bad").mkdir()
    pq.write_table(bad, tmp_path / "bad" / "emoji.parquet")
    with pytest.raises(DatasetError, match="the emoji 1 has no PNG picture"):
        module._emoji(tmp_path / "bad")
