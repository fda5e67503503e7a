"""Around a recommender: splits of ratings by time, users to judge it by, and diversity."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, groupby, islice

from common.datasets import JudgedQuery
from common.factorisation import LIKED, FilmFactors, TooFewRatingsError, factorise
from common.movielens import Film, MovieLens, MovieLensError, Ratings

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pymilvus import MilvusClient

Float32 = NDArray[np.float32]
Ranking = list[tuple[int, float]]
"""The ids of films with their scores, best first."""

MOST_HITS = 16_384  # of one search, by the configuration of a server
FEWEST_RATINGS = 5  # in training, for a user to be judged by


@dataclass(frozen=True)
class Split:
    """Ratings to learn from, and later ones to judge by."""

    train: Ratings
    test: Ratings


@dataclass(frozen=True)
class Trial:
    """A recommender and the users to judge it by. All lists are in the order of `queries`.

    Attributes:
        lens: the data set.
        factors: what was learnt.
        train: from which ratings; a user's vector is made of their own among them.
        queries: one for each user to judge by, whose id is the query's; relevant are the films to
            be found.
        excluded: the films not to recommend to the user: what the user has seen.
    """

    lens: MovieLens
    factors: FilmFactors
    train: Ratings
    queries: list[JudgedQuery]
    excluded: list[frozenset[int]]

    @classmethod
    def of_all(cls, lens: MovieLens, factors: int) -> "Trial":
        """Learn from all ratings, to recommend; there is nothing left to judge by.

        Raises:
            TooFewRatingsError: for so many factors; so do all of these.
        """
        return cls(lens, factorise(lens.ratings, factors), lens.ratings, [], [])

    @classmethod
    def by_user(cls, lens: MovieLens, factors: int, most: int | None = None) -> "Trial":
        """Learn from the past of each user and judge by the future (`split_by_user`).

        Args:
            lens: the data set.
            factors: components of a vector.
            most: judge by at most so many users, evenly spread; by default by all.

        Raises:
            TooFewRatingsError: no user is left; so do all of these.
        """
        split = split_by_user(lens.ratings)
        return cls._judged(lens, factorise(split.train, factors), split, most=most)

    @classmethod
    def by_time(cls, lens: MovieLens, factors: int) -> "Trial":
        """Learn from the time before a moment and judge by that after it (`split_by_time`)."""
        split = split_by_time(lens.ratings)
        return cls._judged(lens, factorise(split.train, factors), split)

    @classmethod
    def of_newcomers(cls, lens: MovieLens, factors: int, most: int | None = None) -> "Trial":
        """Learn from the past of half of the users, drawn at random; judge by the other half."""
        split, users = split_by_user(lens.ratings), np.unique(lens.ratings.users)
        known = np.random.default_rng(0).permutation(users)[: len(users) // 2]
        learnt = factorise(split.train.where(np.isin(split.train.users, known)), factors)
        return cls._judged(lens, learnt, split, {*known.tolist()}, most)

    @classmethod
    def of_new_films(
        cls, lens: MovieLens, factors: int, films: Collection[int], most: int | None = None
    ) -> "Trial":
        """Learn without every fifth of the films, drawn at random, and judge by who likes these.

        They are new: the factors do not know them, and nobody has seen them.
        """
        draw = np.random.default_rng(0)
        new = draw.choice(sorted(films), max(1, len(films) // 5), replace=False)
        hidden = np.isin(lens.ratings.films, new)
        split = Split(lens.ratings.where(~hidden), lens.ratings.where(hidden))
        trial = cls._judged(lens, factorise(split.train, factors), split, most=most)
        return replace(trial, excluded=[frozenset()] * len(trial.queries))

    @classmethod
    def _judged(
        cls,
        lens: MovieLens,
        factors: FilmFactors,
        split: Split,
        without: Collection[int] = (),
        most: int | None = None,
    ) -> "Trial":
        """Judge by users with FEWEST_RATINGS or more in training and a liked film in the test."""
        queries, seen = [], []
        for user in np.unique(split.test.users).tolist():
            past, future = split.train.of(user), split.test.of(user)
            relevant = frozenset(future.films[future.stars >= LIKED].tolist())
            if len(past) >= FEWEST_RATINGS and relevant and user not in without:
                queries.append(JudgedQuery(user, f"user {user}", relevant))
                seen.append(frozenset(past.films.tolist()))
        if not queries:
            raise TooFewRatingsError(
                f"{lens.source}: no user has {FEWEST_RATINGS} ratings to learn from and a later "
                "one that can be judged by"
            )
        kept = range(len(queries))
        if most is not None and most < len(queries):
            kept = np.linspace(0, len(queries) - 1, most).astype(int).tolist()
        chosen = [queries[row] for row in kept], [seen[row] for row in kept]
        return cls(lens, factors, split.train, *chosen)

    def film_rows(
        self, vectors: Iterable | None = None, films: Iterable[int] | None = None
    ) -> Iterator[dict]:
        """What is stored of films: id, title with the year, genres, likes, vector.

        Args:
            vectors: one for each film; by default those of the factors.
            films: ids; by default those that the factors know. The likes of another are 0.
        """
        factors = self.factors
        ids = factors.ids.tolist() if films is None else films
        chosen = factors.vectors if vectors is None else vectors
        for number, vector in zip(ids, chosen, strict=True):
            film, likes = self.lens.films[number], factors.likes_of(number)
            shown = {"title": film.name, "genres": [*film.genres], "likes": likes}
            yield {"id": number, **shown, "vector": vector}

    def user_rows(self, most_seen: int) -> Iterator[dict]:
        """What is stored of users: id, the latest films that they have seen, vector.

        Whoever liked nothing is left out: a vector of zeros has no direction.
        """
        for user in np.unique(self.train.users).tolist():
            vector = self.factors.user_vector(self.liked_by(user))
            if vector.any():
                yield {"id": user, "seen": self.seen_by(user)[-most_seen:], "vector": vector}

    def favourite_genre(self, user: int) -> str:
        """The genre of most of the films that a user liked; of several the first by name.

        Raises:
            MovieLensError: no film that the user liked has a genre.
        """
        films = (self.lens.films[number] for number in self.liked_by(user))
        genres = [genre for film in films for genre in film.genres]
        if not genres:
            raise MovieLensError(f"user {user} liked no film that has a genre")
        return max(sorted({*genres}), key=genres.count)

    def spread(self, number: int) -> list[int]:
        """Rows of `queries`, of so many users who liked something, by how much they have seen."""
        known = [row for row, query in enumerate(self.queries) if self.liked_by(query.id)]
        by_seen = sorted(known, key=lambda row: len(self.excluded[row]))
        return [by_seen[int(place)] for place in np.linspace(0, len(by_seen) - 1, number)]

    def liked_by(self, user: int) -> list[int]:
        """The films that a user liked in training, oldest first."""
        own = self.train.of(user)
        return own.films[own.stars >= LIKED].tolist()

    def seen_by(self, user: int) -> list[int]:
        """The films that a user rated in training, oldest first."""
        return self.train.of(user).films.tolist()

    def vectors(self, latest: int | None = None) -> Float32:
        """The vectors of the users to judge by, of all their likes or the latest so many.

        Shape (users, k); a row of zeros for one who liked nothing.
        """
        first = 0 if latest is None else -latest
        each = [self.factors.user_vector(self.liked_by(q.id)[first:]) for q in self.queries]
        return np.array(each)

    def profiles(self, content: Mapping[int, Float32]) -> Float32:
        """The sums of the content vectors of the films that the users to judge by liked.

        Args:
            content: from the id of a film to its vector; a film without one adds nothing.

        Returns:
            Shape (users, dimension of the content); a row of zeros where nothing is known.
        """
        dimension = len(next(iter(content.values())))
        sums = np.zeros((len(self.queries), dimension), dtype=np.float32)
        for row, query in enumerate(self.queries):
            for film in self.liked_by(query.id):
                sums[row] += content.get(film, 0)
        return sums

    def chance(self, films: Sequence[int], limit: int = 10) -> list[Ranking]:
        """For each user some of the films, drawn at random; the seed is fixed."""
        generator = np.random.default_rng(0)
        drawn = (generator.permutation(films)[:limit].tolist() for _ in self.queries)
        return [[(film, 0.0) for film in each] for each in drawn]

    def popular(self, limit: int = 10) -> list[Ranking]:
        """For each user the films that most people liked and that are not excluded."""
        order = np.lexsort((self.factors.ids, -self.factors.likes))
        ranked = [(int(self.factors.ids[row]), float(self.factors.likes[row])) for row in order]
        return [
            list(islice((pair for pair in ranked if pair[0] not in films), limit))
            for films in self.excluded
        ]

    def filled(self, rankings: Sequence[Ranking], limit: int = 10) -> list[Ranking]:
        """The first of each ranking; a user without one, who has liked nothing, gets `popular`."""
        popular = self.popular(limit)
        return [own[:limit] or most for own, most in zip(rankings, popular, strict=True)]


def split_by_user(ratings: Ratings, share: float = 0.2) -> Split:
    """Put the last `share` of each user's ratings, at least one, into the test.

    Each user has a past and a future, but their times differ: what others did after a user's cut
    is in the training, which a recommender in use could not know.

    Raises:
        ValueError: the share is not between 0 and 1.
    """
    _check_share(share)
    _, starts, counts = np.unique(ratings.users, return_index=True, return_counts=True)
    place = np.arange(len(ratings)) - np.repeat(starts, counts)
    later = place >= np.repeat(counts - np.ceil(counts * share).astype(int), counts)
    return Split(ratings.where(~later), ratings.where(later))


def split_by_time(ratings: Ratings, share: float = 0.2) -> Split:
    """Put the last `share` of all ratings into the test: one moment that cuts for everybody.

    Nothing of the future is in the training. But few users have a past and a future then.

    Raises:
        ValueError: the share is not between 0 and 1.
    """
    _check_share(share)
    moment = np.sort(ratings.times)[int(len(ratings) * (1 - share))]
    return Split(ratings.where(ratings.times < moment), ratings.where(ratings.times >= moment))


def recommend_unseen(
    client: MilvusClient,
    name: str,
    trial: Trial,
    vectors: Float32,
    *,
    limit: int = 10,
    condition: str = "",
    timeout: float = 120.0,
) -> list[Ranking]:
    """Search for all users of a trial with few requests, without what each has seen.

    A request has one filter for all of its vectors, so that it cannot leave out other films for
    each. Therefore more hits are asked for, and those that a user has seen are dropped. Users who
    have seen about as many films share a request.

    Args:
        client: connected.
        name: the collection of the films.
        trial: the users, and what is not to be recommended to each.
        vectors: one for each of its users, shape (users, k). For a row of zeros, which has no
            direction, the ranking is empty.
        limit: films for each user.
        condition: a filter for all.
        timeout: of a request, in seconds.
    """
    found: list[Ranking] = [[] for _ in vectors]
    seen = trial.excluded
    known = np.flatnonzero(vectors.any(axis=1)).tolist()
    order = sorted(known, key=lambda user: len(seen[user]))
    for _, group in groupby(order, key=lambda user: len(seen[user]).bit_length()):
        users = list(group)
        most = min(limit + len(seen[users[-1]]), MOST_HITS)
        options = {"limit": most, "output_fields": ["id"], "timeout": timeout}
        answers = client.search(name, data=vectors[users], filter=condition, **options)
        for user, hits in zip(users, answers, strict=True):
            unseen = [(h["id"], h["distance"]) for h in hits if h["id"] not in seen[user]]
            found[user] = unseen[:limit]
    return found


def mmr(scores: ArrayLike, vectors: ArrayLike, k: int, balance: float) -> list[int]:
    """Choose k candidates that are good and unlike each other (maximal marginal relevance).

    One after the other, that candidate i is chosen for which

        balance * relevance(i) - (1 - balance) * max over the chosen j of cosine(i, j)

    is largest (Carbonell and Goldstein, SIGIR 1998). The relevance is the score, stretched so that
    the best candidate has 1 and the worst 0: a cosine and an inner product have no common scale.

    Args:
        scores: of the candidates, larger is better, shape (n,).
        vectors: of the candidates, in which likeness is measured, shape (n, d); a row of zeros is
            like none.
        k: how many to choose; all, in a new order, where there are fewer.
        balance: 1 is the ranking by score, 0 looks at likeness only (after the best one).

    Returns:
        Positions of the chosen candidates, in the order of choice.

    Raises:
        ValueError: shapes that do not fit, k below 1, or a balance outside 0..1.
    """
    values, rows = np.asarray(scores, dtype=np.float64), np.asarray(vectors, dtype=np.float64)
    if values.ndim != 1 or rows.ndim != 2 or len(values) != len(rows):
        raise ValueError(f"one vector for each score is needed: {values.shape}, {rows.shape}")
    if k < 1 or not 0 <= balance <= 1:
        raise ValueError(f"k is at least 1 and balance 0 to 1, not {k} and {balance}")
    spread = np.ptp(values)
    relevance = (values - values.min()) / spread if spread else np.zeros(len(values))
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    units = rows / np.where(lengths == 0, 1, lengths)
    chosen = [int(values.argmax())]
    likeness = units @ units[chosen[0]]
    while len(chosen) < min(k, len(values)):
        marginal = balance * relevance - (1 - balance) * likeness
        marginal[chosen] = -np.inf
        chosen.append(int(marginal.argmax()))
        likeness = np.maximum(likeness, units @ units[chosen[-1]])
    return chosen


def diversify(
    candidates: Sequence[Ranking], vectors: Mapping[int, ArrayLike], balance: float, k: int = 10
) -> list[Ranking]:
    """Choose k of each user's candidates by `mmr`; `vectors` tell which films are alike.

    A user without candidates gets no film.
    """
    chosen = []
    for ranking in candidates:
        scores, rows = [score for _, score in ranking], [vectors[film] for film, _ in ranking]
        places = mmr(scores, rows, k, balance) if ranking else []
        chosen.append([ranking[place] for place in places])
    return chosen


def genre_vectors(films: Mapping[int, Film]) -> dict[int, Float32]:
    """From the id of a film to its genres: a component for each genre, 1 where it has it."""
    genres = sorted({genre for film in films.values() for genre in film.genres})
    return {
        number: np.array([genre in film.genres for genre in genres], dtype=np.float32)
        for number, film in films.items()
    }


def coverage(rankings: Iterable[Ranking]) -> int:
    """How many different films are recommended to somebody."""
    return len({film for ranking in rankings for film, _ in ranking})


def genre_diversity(rankings: Iterable[Ranking], films: Mapping[int, Film]) -> float:
    """How unlike the genres within a list are, 0 to 1: the mean over the pairs of all lists.

    Two films differ by 1 - (genres of both) / (genres of either), the Jaccard distance; a pair
    without any genre counts nothing. NaN where there is no pair.
    """
    distances = []
    for ranking in rankings:
        genres = [{*films[film].genres} for film, _ in ranking]
        distances += [1 - len(a & b) / len(a | b) for a, b in combinations(genres, 2) if a | b]
    return float(np.mean(distances)) if distances else float("nan")


def _check_share(share: float) -> None:
    if not 0 < share < 1:
        raise ValueError(f"the share of the test lies between 0 and 1, not at {share}")
