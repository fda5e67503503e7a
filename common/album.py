"""Pictures made ready to be searched: what is known of each, and its vectors in several spaces.

album = emoji_album(400, cached(image_encoder()))
album.spaces["look"]      # one vector for each picture, the mean of all taken away
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from pathlib import Path

from common.display import left_out, progress, say
from common.embedding import EncoderNotFound, TextEncoder, cached, text_encoder
from common.emoji import emoji, stratified
from common.image_embedding import ImageEncoder, class_names, conse
from common.images import (
    Picture,
    PictureError,
    colour_histogram,
    find_pictures,
    read_picture,
    read_pictures,
)
from common.vectors import Float32, normalize

import numpy as np

LANGUAGES = ("en", "ko")
# What is searched: colours, what the encoder sees, that in words, and the labels.
SPACES = ("colours", "look", "words_en", "words_ko", "meaning_en", "meaning_ko")
_AT_ONCE = 64  # pictures in memory
_FEW = 20  # pictures whose mean says little about pictures in general


@dataclass(frozen=True)
class Item:
    """What is known of a picture besides its pixels.

    Attributes:
        id: 1 or more.
        name: a file, or the emoji itself.
        label_en, label_ko: what it shows; for files their names in words, in both.
        category: for files the folder.
        tags_en, tags_ko: other words for it, with commas; empty for files.
        digest: the sha256 of the pixels.
        source: the file, or the bytes of one.
        thumbnail: a small PNG.
        notes: what was done to it when it was read.
    """

    id: int
    name: str
    label_en: str
    label_ko: str
    category: str
    tags_en: str
    tags_ko: str
    digest: str
    source: Path | bytes = field(repr=False)
    thumbnail: bytes = field(repr=False)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class TextSpace:
    """Where texts of one language and pictures meet.

    Attributes:
        encoder: turns a text into a vector of that space.
        vectors: float32 of shape (pictures, dimension): the pictures there.
        how: by which model.
    """

    encoder: TextEncoder
    vectors: Float32 = field(repr=False)
    how: str = ""


@dataclass(frozen=True)
class Album:
    """Pictures with all their vectors; row i of each array is that of `items[i]`.

    Attributes:
        items: the pictures that could be read.
        refused: those that could not.
        encoder: of the pictures.
        raw: float32 of shape (pictures, dimension), as the encoder gave them, length 1.
        mean: of `raw`, or zeros where there are too few pictures to tell.
        colours: float32 of shape (pictures, 512), their colour histograms.
        words: for each language where a text and the pictures meet.
        labels: for each language the encoder of the labels.
        label_vectors: for each language float32 of shape (pictures, dimension).
        drawings: whether all of them are known to be drawings.
    """

    items: Sequence[Item]
    refused: Sequence[PictureError]
    encoder: ImageEncoder
    raw: Float32 = field(repr=False)
    mean: Float32 = field(repr=False)
    colours: Float32 = field(repr=False)
    words: dict[str, TextSpace] = field(repr=False)
    labels: dict[str, TextEncoder] = field(repr=False)
    label_vectors: dict[str, Float32] = field(repr=False)
    drawings: bool = False

    def centred(self, vectors: Float32) -> Float32:
        """Vectors of the encoder without what all pictures have in common, at length 1."""
        return normalize(vectors - self.mean) if self.mean.any() else vectors

    @cached_property
    def spaces(self) -> dict[str, Float32]:
        """From the name of a vector field (one of SPACES) to its vectors, one for each picture."""
        found = {"colours": self.colours, "look": self.centred(self.raw)}
        found |= {f"words_{language}": space.vectors for language, space in self.words.items()}
        return found | {f"meaning_{name}": vectors for name, vectors in self.label_vectors.items()}

    def encode(self, pictures: Iterable[Picture]) -> Float32:
        """Vectors of other pictures in the space `look`: float32 of shape (pictures, dimension)."""
        return self.centred(self.encoder.encode(pictures).vectors)

    def picture_queries(self, item: Item, *spaces: str) -> dict[str, Float32]:
        """The vectors of one of the pictures, by the name of the space: float32, shape (1, ...)."""
        row = self.row(item.id)
        return {space: self.spaces[space][row : row + 1] for space in spaces}

    def text_queries(self, texts: Sequence[str], language: str) -> dict[str, Float32]:
        """Texts as vectors of the spaces they can be searched in, by the name of the space.

        `words_...` is where they meet what is seen in the pictures (not for every encoder and
        language), `meaning_...` where they meet the labels; each float32 of shape (texts, ...).
        """
        encoders = {f"meaning_{language}": self.labels[language]}
        if language in self.words:
            encoders = {f"words_{language}": self.words[language].encoder} | encoders
        return {space: encoder.encode_queries(texts) for space, encoder in encoders.items()}

    def examples(self, count: int) -> list[Item]:
        """One picture of each of the `count` largest categories, to search with."""
        sizes = Counter(self.categories)
        largest = sorted(sizes, key=lambda name: (-sizes[name], name))[:count]
        of_each = ([item for item in self.items if item.category == name] for name in largest)
        return [items[len(items) // 2] for items in of_each]

    @cached_property
    def questions(self) -> dict[str, list[str]]:
        """For each language of `words` the tags of each picture, to look for it with.

        The label stands for tags that a picture lacks; pictures without any tags have no questions.
        """
        found = {}
        for language in self.words:
            tags = [getattr(item, f"tags_{language}") for item in self.items]
            labels = [getattr(item, f"label_{language}") for item in self.items]
            if any(tags):
                found[language] = [own or label for own, label in zip(tags, labels, strict=True)]
        return found

    def item(self, number: int) -> Item:
        """The picture with this id."""
        return self.items[self.row(number)]

    def row(self, number: int) -> int:
        """The row of the picture with this id."""
        return number - self.items[0].id

    @cached_property
    def categories(self) -> list[str]:
        """The category of each picture, row by row."""
        return [item.category for item in self.items]

    def rows(self, fields: Iterable[str]) -> Iterator[dict[str, object]]:
        """The pictures as Milvus takes them, with the vectors of these fields."""
        spaces = self.spaces
        chosen = {name: spaces[name] for name in fields}
        for row, item in enumerate(self.items):
            yield {
                "id": item.id,
                "name": item.name,
                "label_en": item.label_en,
                "label_ko": item.label_ko,
                "category": item.category,
                "digest": item.digest,
                **{name: vectors[row] for name, vectors in chosen.items()},
            }

    def picture(self, item: Item) -> Picture:
        """The picture itself, read anew.

        Raises:
            PictureError: the file has gone or changed for the worse.
        """
        return read_picture(item.source, item.name)


def emoji_album(count: int, encoder: ImageEncoder) -> Album:
    """The album of `count` emoji, drawn so that each category keeps its share.

    Raises:
        DatasetError: the data file is missing or broken.
        ValueError: more than there are, or fewer than their categories.
        EncoderError: a model cannot be had.
    """
    chosen = stratified(emoji(), count)

    def pictures() -> Iterator[tuple[Item, Picture]]:
        for each in chosen:
            picture = read_picture(each.png, each.char)
            tags = (", ".join(words) for words in (each.tags_en, each.tags_ko))
            labels = each.label_en, each.label_ko
            known = (each.char, *labels, each.category, *tags)
            yield Item(0, *known, picture.digest, each.png, each.png, picture.notes), picture

    return _album(pictures(), len(chosen), [], encoder)


def folder_album(folder: Path, encoder: ImageEncoder) -> Album:
    """The album of the pictures in a folder and those below.

    A picture's label is its file's name in words, its category the folder that it is in.

    Raises:
        PictureError: there is no such folder, no picture in it, or fewer than two can be read.
        EncoderError: a model cannot be had.
    """
    paths, refused = find_pictures(folder), []

    def pictures() -> Iterator[tuple[Item, Picture]]:
        for path, picture in read_pictures(paths, folder, refused):
            label = _in_words(Path(picture.name).stem)
            category = Path(picture.name).parent.name or folder.resolve().name
            known = (picture.name, label, label, category, "", "")
            sources = path, picture.thumbnail()
            yield Item(0, *known, picture.digest, *sources, picture.notes), picture

    return _album(pictures(), len(paths), refused, encoder, folder)


def _album(
    pictures: Iterator[tuple[Item, Picture]],
    total: int,
    refused: list[PictureError],
    encoder: ImageEncoder,
    folder: Path | None = None,
) -> Album:
    items, vectors, probabilities, colours = [], [], [], []
    pictures = iter(progress(pictures, "encoding pictures", total))
    while batch := list(islice(pictures, _AT_ONCE)):  # memory stays flat, however many there are
        items += [item for item, _ in batch]
        encoded = encoder.encode([picture for _, picture in batch])
        vectors.append(encoded.vectors)
        probabilities.append(encoded.probabilities)
        colours += [colour_histogram(picture) for _, picture in batch]
    if len(items) < 2:
        raise PictureError(str(folder), f"{len(items)} readable pictures; a search needs 2 or more")
    items = [replace(item, id=number) for number, item in enumerate(items, start=1)]
    raw = np.concatenate(vectors)
    labels = {name: cached(text_encoder(language=name)) for name in LANGUAGES}
    return Album(
        items=items,
        refused=refused,
        encoder=encoder,
        raw=raw,
        mean=_mean(raw),
        colours=np.stack(colours),
        drawings=folder is None,
        words=_word_spaces(encoder, raw, np.concatenate(probabilities), labels),
        labels=labels,
        label_vectors={
            name: labels[name].encode_documents([getattr(item, f"label_{name}") for item in items])
            for name in LANGUAGES
        },
    )


def _word_spaces(
    encoder: ImageEncoder, raw: Float32, probabilities: Float32, labels: dict[str, TextEncoder]
) -> dict[str, TextSpace]:
    found = {}
    for language in LANGUAGES:
        try:
            tower = encoder.text_encoder(language)
        except EncoderNotFound as error:
            lines = str(error).splitlines()  # the first line, and the first place that was tried
            left_out(f"text to picture ({language})", " ".join(line.strip() for line in lines[:2]))
            continue
        if tower:
            found[language] = TextSpace(cached(tower), raw, f"{tower.name}, {tower.source}")
        elif encoder.classes:
            names = labels[language].encode_documents(class_names())
            how = f"ConSE over {encoder.name} and {labels[language].name}, a stand-in for CLIP"
            found[language] = TextSpace(labels[language], conse(probabilities, names), how)
    return found


def describe(album: Album, seconds: float) -> None:
    """Print what the album holds and which models made its vectors."""
    groups = Counter(album.categories)
    listed = ", ".join(f"{name} {number}" for name, number in groups.most_common(8))
    more = f" and {len(groups) - 8} more" if len(groups) > 8 else ""
    say(f"{len(album.items):,} pictures, by category: {listed}{more}.")
    encoder, spaces = album.encoder, album.spaces
    known = getattr(encoder, "hits", 0)
    say(
        f"{encoder.name} ({encoder.source}): vectors of {album.raw.shape[1]} numbers, "
        f"{known} of them from the cache; all models together {seconds:.1f} s."
    )
    for language, space in album.words.items():
        say(f"Text to picture ({language}): {space.how}.")
    if not encoder.classes:
        say("This project tests CLIP with random weights only: judge its hits for yourself.")
    if not album.mean.any():
        say("So few or so equal pictures: their mean is not taken away.")
    sizes = ", ".join(f"{name} {vectors.shape[1]}" for name, vectors in spaces.items())
    say(f"Vector fields and their dimensions: {sizes}.")
    say("words_...: what is seen, in words of a language. meaning_...: what the label says.")
    if not album.questions:
        left_out("finding a known picture by its tags", "these have none")
    for error in album.refused:
        say(f"Cannot be used: {error}")


def _mean(raw: Float32) -> Float32:
    mean = raw.mean(axis=0, dtype=np.float64).astype(np.float32)
    nothing_left = np.linalg.norm(raw - mean, axis=1) < 1e-3  # all pictures the same
    return np.zeros_like(mean) if len(raw) < _FEW or nothing_left.any() else mean


def _in_words(name: str) -> str:
    """ "red_apple-2" is "red apple 2"."""
    words = " ".join("".join(c if c.isalnum() else " " for c in name).split())
    return words or name.strip() or "picture"
