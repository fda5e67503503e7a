"""1,412 emoji with English and Korean labels, from common/data/emoji.parquet.

The pictures are Noto Emoji by Google, 64 x 64 pixels; labels and tags are those of Unicode CLDR
(SOURCES.md beside the file tells more). The file is read and checked once in a process.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from common.datasets import DATA_FOLDER, DatasetError

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

_TEXTS = ("char", "label_en", "label_ko", "category", "subcategory")
_LISTS = ("tags_en", "tags_ko")
_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, slots=True)
class Emoji:
    """One emoji. `png` is the picture as a file; tags are further words for it, often several."""

    id: int
    char: str
    label_en: str
    label_ko: str
    tags_en: tuple[str, ...]
    tags_ko: tuple[str, ...]
    category: str
    subcategory: str
    png: bytes = field(repr=False)


def emoji() -> list[Emoji]:
    """Return the 1,412 emoji, in seven categories, in the order of their ids.

    Raises:
        DatasetError: the file is missing or broken.
    """
    return list(_emoji(DATA_FOLDER))


def stratified(items: Sequence[Emoji], count: int, seed: int = 0) -> list[Emoji]:
    """Draw `count` of the emoji so that each category keeps its share, in the order given.

    The shares are rounded so that they add up: the categories with the largest remainders get
    what is left over. Of one seed, a category's draw of fewer is part of its draw of more.

    Raises:
        ValueError: `count` is below the number of categories or above that of the emoji.
    """
    groups: dict[str, list[int]] = defaultdict(list)
    for place, each in enumerate(items):
        groups[each.category].append(place)
    if not len(groups) <= count <= len(items):
        raise ValueError(f"count must lie within {len(groups)} and {len(items)}, not {count}")
    shares = {name: count * len(places) / len(items) for name, places in groups.items()}
    taken = {name: max(1, int(share)) for name, share in shares.items()}
    by_remainder = sorted(shares, key=lambda name: taken[name] - shares[name])
    for name in by_remainder[: count - sum(taken.values())]:
        taken[name] += 1
    while sum(taken.values()) > count:  # categories so small that 1 is more than their share
        taken[max(taken, key=taken.get)] -= 1
    generator = np.random.default_rng(seed)
    chosen = [
        place
        for name in sorted(groups)
        for place in generator.permutation(groups[name])[: taken[name]]
    ]
    return [items[place] for place in sorted(chosen)]


@cache
def _emoji(folder: Path) -> tuple[Emoji, ...]:
    path = folder / "emoji.parquet"
    columns = ["id", *_TEXTS, *_LISTS, "png"]
    try:
        rows = pq.read_table(path, columns=columns).to_pylist()
        found = tuple(_checked(row) for row in rows)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise DatasetError(
            f"{path} cannot be read: {error}\n"
            "The file is part of the project. To get it back: git checkout -- common/data"
        ) from error
    if not found or len({each.id for each in found}) != len(found):
        raise DatasetError(f"{path} is empty or holds an id twice")
    return tuple(sorted(found, key=lambda each: each.id))


def _checked(row: dict) -> Emoji:
    for name in _TEXTS:
        if not row[name]:
            raise ValueError(f"the emoji {row['id']} has no {name}")
    if not (row["png"] or b"").startswith(_PNG):
        raise ValueError(f"the emoji {row['id']} has no PNG picture")
    lists = {name: tuple(row[name] or ()) for name in _LISTS}
    return Emoji(row["id"], png=row["png"], **{name: row[name] for name in _TEXTS}, **lists)
