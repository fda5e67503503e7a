"""Rankings of pictures shown as tables, and kept for a page of pictures."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from common.album import Album, Item
from common.display import heading, say, short_path, table
from common.gallery import Question, Shown, write_gallery
from common.images import Picture
from common.planted_pictures import Copies, Mixture
from common.ranking_quality import Ranking
from common.settings import settings

# How the page calls the spaces that were searched.
_WAYS = {
    "colours": "by colours",
    "look": "by what the encoder sees",
    "look, other categories": "by what the encoder sees, in other categories",
    "words_en": "what is seen in the picture, in English",
    "words_ko": "what is seen in the picture, in Korean",
    "meaning_en": "what the English label says",
    "meaning_ko": "what the Korean label says",
    "together": "all of these together (RRF)",
}


class PictureReport:
    """What a search for pictures has found: printed at once, kept for the page.

    Attributes:
        album: the pictures.
        questions: what the page will show.
    """

    def __init__(self, album: Album) -> None:
        self.album = album
        self.questions: list[Question] = []

    def show(
        self,
        title: str,
        ways: Mapping[str, Ranking],
        *,
        text: str = "",
        like: Item | Picture | None = None,
        language: str = "en",
    ) -> None:
        """Print the hits of one search, a column for each way, and keep them for the page.

        Args:
            title: what was asked.
            ways: from the name of a way of searching to its ranking, (id, score) best first.
            text: the words that were searched with.
            like: the picture that was searched with; its category marks hits of the same one.
            language: of the labels that are shown.
        """
        longest = max((len(ranking) for ranking in ways.values()), default=0)
        rows = [
            (
                rank + 1,
                *(
                    self._line(hits[rank], language) if rank < len(hits) else ""
                    for hits in ways.values()
                ),
            )
            for rank in range(longest)
        ]
        table(title, ("rank", *ways), rows)
        category = like.category if isinstance(like, Item) else None
        self.questions.append(
            Question(
                title,
                {
                    _WAYS.get(way, way): [
                        self._shown(number, score, language, category) for number, score in ranking
                    ]
                    for way, ranking in ways.items()
                },
                text,
                [self._asked(like, language)] if like else [],
            )
        )

    def show_copies(self, number: int, found: Mapping[str, Copies], near: float) -> None:
        """Print how `number` copies of each kind were found."""
        columns = "copy", "same digest", "original is nearest", "median score", f"score >= {near}"
        rows = [(kind, *copies) for kind, copies in found.items()]
        table(f"{number} pictures that come back", columns, rows)

    def show_pairs(
        self, title: str, pairs: Sequence[tuple[int, int, float]], most: int = 6
    ) -> None:
        """Print pairs of alike pictures, (id, id, score) best first, and keep the first ones."""
        items = [
            (self.album.item(one), self.album.item(other), score) for one, other, score in pairs
        ]
        alike = sum(one.digest == other.digest for one, other, _ in items)
        rows = [(score, one.label_en, other.label_en) for one, other, score in items[:most]]
        table(f"{title}: {len(pairs)}", ("score", "picture", "and"), rows)
        if not pairs:
            return
        say(f"{alike} of them are pixel for pixel alike.")
        together = {
            f"{score:.3f} {one.label_en}, {other.label_en}": [
                self._asked(one, "en"),
                self._asked(other, "en"),
            ]
            for one, other, score in items[:most]
        }
        self.questions.append(Question("Near duplicates", together))

    def show_suspects(self, mixed: Mixture, suspicion: Sequence[float], most: int = 10) -> None:
        """Print and keep the pictures whose label looks wrong most: the largest `suspicion`."""
        if not mixed.wrong.any():
            return
        order = sorted(range(len(suspicion)), key=lambda row: -suspicion[row])[:most]
        rows = [
            (self.album.items[row].label_en, mixed.labels[row], bool(mixed.wrong[row]))
            for row in order
        ]
        table("Labels that look wrong", ("picture", "called", "made wrong"), rows)
        shown = [
            Shown(self.album.items[row].thumbnail, label, f"called {called}", not wrong)
            for row, (label, called, wrong) in zip(order, rows, strict=True)
        ]
        number = int(mixed.wrong.sum())
        told = f"{number} labels were made wrong on purpose; those are marked with a circle."
        self.questions.append(Question("Labels that look wrong", {"": shown}, explanation=told))

    def write(self, name: str, title: str, milvus: str) -> Path:
        """Write the page into the output folder and say where it is; `milvus` is which it was."""
        heading("The gallery")
        encoder = self.album.encoder
        facts = {
            "Milvus": milvus,
            "Pictures": f"{len(self.album.items):,}",
            "Model of the pictures": f"{encoder.name} ({encoder.source})",
        }
        facts |= {
            f"Words to pictures ({name})": space.how for name, space in self.album.words.items()
        }
        path = write_gallery(settings().out_dir / f"{name}.html", title, facts, self.questions)
        size = path.stat().st_size / 1e6
        say(f"{len(self.questions)} searches in pictures ({size:.1f} MB): {short_path(path)}")
        return path

    def _line(self, hit: tuple[int, float], language: str) -> str:
        number, score = hit
        return f"{_label(self.album.item(number), language)} {score:.3f}"

    def _shown(self, number: int, score: float, language: str, category: str | None) -> Shown:
        item = self.album.item(number)
        same = None if category is None else item.category == category
        return Shown(item.thumbnail, _label(item, language), f"{score:.3f}\n{item.category}", same)

    def _asked(self, like: Item | Picture, language: str) -> Shown:
        if isinstance(like, Picture):
            return Shown(like.thumbnail(), like.name)
        return Shown(like.thumbnail, _label(like, language), like.category)


def _label(item: Item, language: str) -> str:
    return item.label_ko if language == "ko" else item.label_en
