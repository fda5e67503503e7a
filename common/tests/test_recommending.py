"""Splits do not leak, trials judge whom they should, and diversity is what its formula says."""

from common.factorisation import LIKED, TooFewRatingsError, factorise
from common.movielens import Film, MovieLens, MovieLensError, Ratings, load_movielens
from common.recommending import (
    FEWEST_RATINGS,
    Trial,
    coverage,
    diversify,
    genre_diversity,
    genre_vectors,
    mmr,
    split_by_time,
    split_by_user,
)

import numpy as np
import pytest


@pytest.fixture(scope="module")
def real() -> MovieLens:
    return load_movielens()


def lens_of(*rows: tuple[int, int, float, int]) -> MovieLens:
    """A data set of (user, film, stars, time), in order."""
    users, films, stars, times = (np.array(column) for column in zip(*rows, strict=True))
    ratings = Ratings(users, films, stars.astype(float), times)
    genres = ("Comedy", "Drama", "Horror")
    named = {int(film): Film(int(film), f"Film {film}", 2000, genres[: film % 4]) for film in films}
    return MovieLens("a test", named, ratings)


@pytest.fixture
def small() -> MovieLens:
    """Seven users who rate films 0 to 9, the later user the more; user u dislikes film u."""
    return lens_of(
        *(
            (user, film, 2.0 if film == user else 4.5, 100 * user + film)
            for user in range(1, 8)
            for film in range(user + 3)
        )
    )


def keys(ratings: Ratings) -> set[tuple[int, int]]:
    return set(zip(ratings.users.tolist(), ratings.films.tolist(), strict=True))


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_split_by_user_does_not_leak(real: MovieLens, share: float) -> None:
    split = split_by_user(real.ratings, share)
    assert not keys(split.train) & keys(split.test)
    assert keys(split.train) | keys(split.test) == keys(real.ratings)
    for user in np.unique(real.ratings.users).tolist():
        past, future = split.train.of(user), split.test.of(user)
        assert past.times.max() <= future.times.min(), user
        given = len(past) + len(future)
        assert share * given <= len(future) < share * given + 1, user


def test_split_by_user_keeps_one_to_judge_by() -> None:
    split = split_by_user(lens_of((1, 1, 4, 5), (1, 2, 4, 6), (2, 1, 4, 1)).ratings, 0.01)
    assert keys(split.test) == {(1, 2), (2, 1)}


def test_split_by_time_does_not_leak(real: MovieLens) -> None:
    split = split_by_time(real.ratings)
    assert split.train.times.max() < split.test.times.min()
    assert len(split.train) + len(split.test) == len(real.ratings)
    assert len(split.test) / len(real.ratings) == pytest.approx(0.2, abs=0.001)


@pytest.mark.parametrize("share", [0, 1, -0.1, 1.5])
def test_shares_that_split_nothing(small: MovieLens, share: float) -> None:
    for split in (split_by_user, split_by_time):
        with pytest.raises(ValueError, match="between 0 and 1"):
            split(small.ratings, share)


def test_who_judges_and_by_what(small: MovieLens) -> None:
    trial = Trial.by_user(small, 2)
    # User u rated films 0 to u + 2; the last fifth, rounded up, is the test, and at least five
    # must be left: users 4 to 7. User u dislikes film u, which is never in the test.
    assert [query.id for query in trial.queries] == [4, 5, 6, 7]
    assert [sorted(query.relevant) for query in trial.queries] == [[5, 6], [6, 7], [7, 8], [8, 9]]
    assert [sorted(films) for films in trial.excluded] == [[*range(u + 1)] for u in (4, 5, 6, 7)]
    assert trial.liked_by(4) == [0, 1, 2, 3]
    assert trial.seen_by(4) == [0, 1, 2, 3, 4]
    assert [q.id for q in Trial.by_user(small, 2, most=2).queries] == [4, 7]
    assert trial.factors.ids.tolist() == [0, 1, 2, 3, 4, 5, 6]


def test_a_test_film_that_was_disliked_is_not_relevant() -> None:
    rows = [(user, film, 4.0, film) for user in (1, 2, 3) for film in range(8)]
    rows[7] = (1, 7, 3.5, 7)  # the first user's last film
    trial = Trial.by_user(lens_of(*rows), 1)
    assert [sorted(query.relevant) for query in trial.queries] == [[6], [6, 7], [6, 7]]


def test_vectors_of_users(small: MovieLens) -> None:
    trial = Trial.by_user(small, 2)
    everything, latest = trial.vectors(), trial.vectors(2)
    assert everything.shape == (4, 2)
    assert everything[1] == pytest.approx(trial.factors.user_vector([0, 1, 2, 3, 4]))
    assert latest[1] == pytest.approx(trial.factors.user_vector([3, 4]))
    assert trial.vectors(100) == pytest.approx(everything)


def test_one_moment_for_all(real: MovieLens) -> None:
    trial = Trial.by_time(real, 4)
    moment = trial.train.times.max()
    for query in trial.queries:
        own = real.ratings.of(query.id)
        future = own.films[(own.times > moment) & (own.stars >= LIKED)]
        assert query.relevant == set(future.tolist())
        assert len(trial.seen_by(query.id)) >= FEWEST_RATINGS
    assert 15 <= len(trial.queries) <= 30  # few have a past and a future


def test_nothing_is_learnt_from_newcomers(real: MovieLens) -> None:
    trial = Trial.of_newcomers(real, 4)
    judged = {query.id for query in trial.queries}
    train = split_by_user(real.ratings).train
    rest = train.where(~np.isin(train.users, sorted(judged)))
    # Learnt from no more than those who are not judged: no film has more likes than they gave.
    likes = factorise(rest, 4)
    assert all(
        trial.factors.likes_of(film) <= likes.likes_of(film) for film in trial.factors.ids.tolist()
    )
    assert 300 < len(judged) < 336
    assert trial.queries[0].relevant <= set(real.films)


def test_nothing_is_learnt_of_new_films(real: MovieLens) -> None:
    films = Trial.of_all(real, 4).factors.most_liked(200)
    trial = Trial.of_new_films(real, 4, films, most=50)
    new = set(films) - set(trial.factors.ids.tolist())
    assert len(new) == 40
    assert len(trial.queries) == 50
    for query in trial.queries:
        assert query.relevant <= new
        assert not new & set(trial.seen_by(query.id))
    assert trial.excluded == [frozenset()] * 50
    assert sum(len(query.relevant) for query in trial.queries) > 50


def test_too_little_to_judge_by() -> None:
    rows = [(user, film, 4.0, film) for user in (1, 2, 3) for film in range(5)]
    with pytest.raises(TooFewRatingsError, match="no user has 5 ratings"):
        Trial.by_user(lens_of(*rows), 1)


def test_popularity(small: MovieLens) -> None:
    trial = Trial.by_user(small, 2)
    likes = {film: trial.factors.likes_of(film) for film in trial.factors.ids.tolist()}
    best = sorted(likes, key=lambda film: (-likes[film], film))
    for ranking, seen in zip(trial.popular(2), trial.excluded, strict=True):
        assert ranking == [(film, float(likes[film])) for film in best if film not in seen][:2]
    own = [[(8, 1.0), (9, 0.5)], [], [(1, 1.0)], []]
    filled = trial.filled(own, 1)
    assert filled == [[(8, 1.0)], trial.popular(1)[1], [(1, 1.0)], trial.popular(1)[3]]


def test_rows_to_store(small: MovieLens) -> None:
    trial = Trial.by_user(small, 2)
    rows = list(trial.film_rows())
    assert [row["id"] for row in rows] == trial.factors.ids.tolist()
    assert rows[2]["title"] == "Film 2 (2000)"
    assert rows[2]["genres"] == ["Comedy", "Drama"]
    assert [row["likes"] for row in rows] == trial.factors.likes.tolist()
    assert np.array([row["vector"] for row in rows]) == pytest.approx(trial.factors.vectors)
    (new,) = trial.film_rows([np.ones(2)], [9])  # the factors do not know it
    assert (new["id"], new["likes"], new["vector"].tolist()) == (9, 0, [1, 1])
    users = {row["id"]: row for row in trial.user_rows(3)}
    assert users[7]["seen"] == [5, 6, 7]  # the latest three
    assert users[7]["vector"] == pytest.approx(trial.factors.user_vector([0, 1, 2, 3, 4, 5, 6]))


def test_who_liked_nothing_is_not_stored() -> None:
    rows = [(user, film, 4.0, film) for user in (1, 2, 3) for film in range(8)]
    rows += [(4, film, 1.0, film) for film in range(8)]
    trial = Trial.of_all(lens_of(*rows), 1)
    assert {row["id"] for row in trial.user_rows(10)} == {1, 2, 3}
    with pytest.raises(MovieLensError, match="user 4 liked no film that has a genre"):
        trial.favourite_genre(4)


def test_favourite_genre(small: MovieLens) -> None:
    assert Trial.of_all(small, 2).favourite_genre(7) == "Comedy"


def test_a_spread_of_users(real: MovieLens) -> None:
    trial = Trial.by_user(real, 4)
    seen = [len(trial.excluded[row]) for row in trial.spread(5)]
    known = trial.vectors().any(axis=1)
    liked = [len(films) for films, any_like in zip(trial.excluded, known, strict=True) if any_like]
    assert seen == sorted(seen)
    assert (seen[0], seen[-1]) == (min(liked), max(liked))
    assert seen[2] == pytest.approx(np.median(liked), abs=1)


def test_profiles_and_chance(small: MovieLens) -> None:
    trial = Trial.by_user(small, 2)
    content = {film: np.full(3, 10.0**film, np.float32) for film in (0, 2, 6)}
    # All liked films 0 and 2; the last user liked film 6 as well, as did nobody else in training.
    assert trial.profiles(content)[:, 0].tolist() == [101, 101, 101, 1_000_101]
    assert trial.profiles(content).shape == (4, 3)
    drawn = trial.chance(range(100, 200), 5)
    assert drawn == trial.chance(range(100, 200), 5)
    assert len({film for ranking in drawn for film, _ in ranking}) > 5
    assert all(len({film for film, _ in ranking}) == 5 for ranking in drawn)


# Diversity

SCORES = [10.0, 9.0, 8.0, 2.0, 0.0]
DIRECTIONS = [[1, 0], [2, 0], [0, 1], [0, 3], [-1, 0]]


@pytest.mark.parametrize(
    ("balance", "chosen"),
    [
        (1.0, [0, 1, 2, 3, 4]),
        # Relevance 1, .9, .8, .2, 0. After 0: 1 is its double, .45 - .5; 2 has .4; 3 has .1; 4 is
        # opposite, 0 + .5. After 4: 2 has .4 - 0; then 1 and 3 are like a chosen one: -.05, -.4.
        (0.5, [0, 4, 2, 1, 3]),
        # After 0: 1 has .72 - .2, 2 has .64. After 2: 1 has .52, 3 has .16 - .2, 4 has 0 - 0.
        (0.8, [0, 2, 1, 4, 3]),
        (0.0, [0, 4, 2, 1, 3]),
    ],
)
def test_mmr_by_hand(balance: float, chosen: list[int]) -> None:
    assert mmr(SCORES, DIRECTIONS, 5, balance) == chosen
    assert mmr(SCORES, DIRECTIONS, 2, balance) == chosen[:2]


def test_mmr_equals_its_formula() -> None:
    generator = np.random.default_rng(5)
    scores, vectors = generator.normal(size=30), generator.normal(size=(30, 6))
    vectors[7] = 0
    for balance in (0.3, 0.7):
        chosen = mmr(scores, vectors, 12, balance)

        def cosine(a: np.ndarray, b: np.ndarray) -> float:
            lengths = np.linalg.norm(a) * np.linalg.norm(b)
            return a @ b / lengths if lengths else 0.0

        for place in range(1, 12):

            def value(i: int, before: list[int] = chosen[:place], b: float = balance) -> float:
                relevance = (scores[i] - scores.min()) / (scores.max() - scores.min())
                likeness = max(cosine(vectors[i], vectors[j]) for j in before)
                return b * relevance - (1 - b) * likeness

            rest = [i for i in range(30) if i not in chosen[:place]]
            assert chosen[place] == max(rest, key=value)
        assert len(set(chosen)) == 12


def test_mmr_of_few_and_of_equals() -> None:
    assert mmr([1.0], [[1.0]], 10, 0.5) == [0]
    assert mmr([2.0, 2.0, 2.0], [[1, 0], [1, 0], [0, 1]], 3, 0.5) == [0, 2, 1]


@pytest.mark.parametrize(
    ("scores", "vectors", "k", "balance", "message"),
    [
        ([1.0, 2.0], [[1.0]], 1, 0.5, "one vector for each score"),
        ([[1.0]], [[1.0]], 1, 0.5, "one vector for each score"),
        ([1.0], [[1.0]], 0, 0.5, "k is at least 1"),
        ([1.0], [[1.0]], 1, 1.1, "balance 0 to 1, not 1 and 1.1"),
        ([1.0], [[1.0]], 1, -0.1, "balance 0 to 1"),
    ],
)
def test_mmr_refuses(scores: list, vectors: list, k: int, balance: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mmr(scores, vectors, k, balance)


def test_diversify() -> None:
    vectors = {film: DIRECTIONS[film] for film in range(5)}
    candidates = [list(enumerate(SCORES)), [], [(3, 1.0)]]
    assert diversify(candidates, vectors, 0.8, 3) == [
        [(0, 10.0), (2, 8.0), (1, 9.0)], [], [(3, 1.0)],
    ]  # fmt: skip


def test_coverage_and_genres() -> None:
    films = {
        number: Film(number, "x", None, genres)
        for number, genres in enumerate([("A", "B"), ("A",), ("C",), (), ()])
    }
    lists = [[(0, 1.0), (1, 1.0), (2, 1.0)], [(3, 1.0), (4, 1.0)], [(0, 1.0)]]
    assert coverage(lists) == 5
    # A, B and A share one of two; A, B and C, and A and C, share none; no genres count nothing.
    assert genre_diversity(lists, films) == pytest.approx((0.5 + 1 + 1) / 3)
    assert np.isnan(genre_diversity([[(0, 1.0)]], films))
    vectors = genre_vectors(films)
    assert [vectors[number].tolist() for number in (0, 2, 3)] == [[1, 1, 0], [0, 0, 1], [0, 0, 0]]
