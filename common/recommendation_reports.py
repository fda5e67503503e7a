"""Lists of recommendations judged and shown: quality with intervals, coverage, diversity."""

from collections.abc import Collection, Mapping, Sequence
from itertools import zip_longest
from textwrap import shorten
from typing import NamedTuple

from common.display import figure, lines, save_chart, say, table
from common.evaluation import MeanWithInterval, hit_rate_at, ndcg_at, paired_difference
from common.movielens import Film
from common.ranking_quality import (
    Rated,
    draw_quality,
    show_differences,
    show_quality,
    with_interval,
)
from common.recommending import Ranking, Trial, coverage, diversify, genre_diversity, genre_vectors

import numpy as np

MEASURES = {"nDCG@10": ndcg_at, "hit rate@10": hit_rate_at}
MEASURE = "nDCG@10"


class Balanced(NamedTuple):
    """Lists that MMR made at one balance.

    Attributes:
        balance: 1 is the ranking by score alone.
        quality: mean nDCG@10.
        price: how far it is from that at the first balance, paired by user.
        diversity: of genres within a list (`genre_diversity`).
        films: how many are recommended to somebody.
    """

    balance: float
    quality: float
    price: MeanWithInterval
    diversity: float
    films: int


def show_learnt(trial: Trial, often: int) -> None:
    """Print from how many ratings a trial learnt, and how long the vectors of its films are.

    Films with `often` likes or more are told apart from the others.
    """
    lens, factors = trial.lens, trial.factors
    lengths, known = np.linalg.norm(factors.vectors, axis=1), factors.likes >= often
    say(
        f"{len(lens.ratings):,} ratings of {len(lens.films):,} films ({lens.source}); learnt from "
        f"{len(trial.train):,}. The {len(factors.ids):,} films that somebody liked are vectors of "
        f"{factors.vectors.shape[1]} factors, with a mean length of {lengths[known].mean():.3f} "
        f"for {often} likes or more and {lengths[~known].mean():.3f} for fewer."
    )


def judge(lists: Mapping[str, Sequence[Ranking]], trial: Trial) -> Rated:
    """Judge each way to recommend, user by user.

    Args:
        lists: from the name of a way to its ranking for each user, in the order of `trial`.
        trial: knows what each user should get.

    Raises:
        ValueError: a way has not one ranking for each user, or names a film twice in one.
    """
    return {
        way: {
            name: [
                measure([film for film, _ in ranking], query.relevant)
                for ranking, query in zip(rankings, trial.queries, strict=True)
            ]
            for name, measure in MEASURES.items()
        }
        for way, rankings in lists.items()
    }


def report(
    title: str, lists: Mapping[str, Sequence[Ranking]], trial: Trial, base: str, chart: str = ""
) -> Rated:
    """Judge and print: means with intervals, and paired differences from the way `base`.

    With the name of a chart, draw nDCG@10, and print the coverage too. Raises what `judge` raises.
    """
    title, rated = f"{title}: {len(trial.queries)} users", judge(lists, trial)
    show_quality(f"{title}, mean (95 % interval)", rated)
    show_differences(rated, base, MEASURE)
    if chart:
        draw_quality(title, rated, MEASURE, base, chart)
        show_coverage(lists, trial)
    return rated


def show_lists(
    title: str,
    lists: Mapping[str, Ranking],
    films: Mapping[int, Film],
    seen: Collection[int] = (),
) -> None:
    """Print the films of several rankings beside each other, best first, with the seen marked."""
    width = 84 // len(lists)  # so that a row takes one line of a page
    names = (
        [("seen: " if film in seen else "") + films[film].name for film, _ in ranking]
        for ranking in lists.values()
    )
    columns = [[shorten(name, width, placeholder="…") for name in column] for column in names]
    numbered = zip_longest(range(1, max(map(len, columns)) + 1), *columns)
    table(title, ("", *lists), numbered)


def show_users(
    user: int, hits: Sequence[tuple[int, float]], trial: Trial
) -> list[tuple[int, float, int, int]]:
    """Print the users who are like a user: id, cosine, how many films they and both liked."""
    own, rows = {*trial.liked_by(user)}, []
    for other, score in hits:
        liked = {*trial.liked_by(other)}
        rows.append((other, score, len(liked), len(liked & own)))
    columns = "user", "cosine", "films liked", "liked by both"
    table(f"Most similar to user {user}, who liked {len(own)} films", columns, rows)
    return rows


def show_exclusions(
    trial: Trial, rows: Sequence[int], filtered: Sequence[Ranking], dropped: Sequence[Ranking]
) -> list[tuple[list[int], list[int]]]:
    """Print for how many users two ways to leave out seen films agree; the films of both ways.

    Args:
        trial: knows what the users have seen.
        rows: which of its users, in the order of the rankings.
        filtered, dropped: for each of them the ranking by either way.
    """
    both = [
        ([film for film, _ in a], [film for film, _ in b])
        for a, b in zip(filtered, dropped, strict=True)
    ]
    seen = sorted(len(trial.excluded[row]) for row in rows)
    same = sum(a == b for a, b in both)
    say(
        f"Users who have seen {seen[0]} to {seen[-1]:,} films: `id not in [...]` gives the films "
        f"that asking for more and dropping gives for {same} of {len(both)}."
    )
    return both


def show_coverage(lists: Mapping[str, Sequence[Ranking]], trial: Trial) -> dict[str, int]:
    """Print how many films each way recommends to somebody, and how well known these are."""
    factors, covered, rows = trial.factors, {}, []
    for way, rankings in lists.items():
        covered[way] = coverage(rankings)
        chosen = [factors.row_of[film] for ranking in rankings for film, _ in ranking]
        share = f"{covered[way] / len(factors.ids):.1%}"
        rows.append((way, covered[way], share, int(np.median(factors.likes[chosen]))))
    columns = "method", "films", "of all", "likes of a recommended film (median)"
    table("Coverage: films that somebody is recommended", columns, rows)
    return covered


def report_diversity(
    trial: Trial, candidates: Sequence[Ranking], balances: Sequence[float], chart: str
) -> dict[str, list[Balanced]]:
    """Choose ten of each user's candidates by MMR; print and draw what that gains and costs.

    Films are alike by their genres, or by their audience (`FilmFactors.directions`).

    Args:
        trial: knows what each user should get.
        candidates: a long ranking for each of its users.
        balances: of MMR; the first is what the others are compared with.
        chart: the name of its file.

    Returns:
        From what makes films alike to the outcome of each balance.
    """
    films, factors = trial.lens.films, trial.factors
    by_audience = dict(zip(factors.ids.tolist(), factors.directions, strict=True))
    found, rows = {}, []
    for likeness, vectors in (("genres", genre_vectors(films)), ("audience", by_audience)):
        lists = {b: trial.filled(diversify(candidates, vectors, b)) for b in balances}
        rated = judge({str(balance): rankings for balance, rankings in lists.items()}, trial)
        values = {balance: rated[str(balance)][MEASURE] for balance in lists}
        found[likeness] = [
            Balanced(
                balance,
                float(np.mean(values[balance])),
                paired_difference(values[balance], values[balances[0]]),
                genre_diversity(rankings, films),
                coverage(rankings),
            )
            for balance, rankings in lists.items()
        ]
        for each in found[likeness]:
            price = with_interval(each.price, signed=True)
            rows.append((likeness, each.balance, each.quality, price, each.diversity, each.films))
    columns = "alike by", "balance", MEASURE, "difference (95 %)", "genre diversity", "films"
    table(f"MMR for {len(trial.queries)} users", columns, rows)
    _draw_diversity(found, trial, chart)
    return found


def _draw_diversity(found: Mapping[str, Sequence[Balanced]], trial: Trial, chart: str) -> None:
    popular = trial.popular()
    at_popular = float(np.mean(judge({MEASURE: popular}, trial)[MEASURE][MEASURE]))
    title = f"What diversity costs {len(trial.queries)} users"
    quality = f"{MEASURE} (0 to 1, higher is better)"
    drawing, axes = figure(title, quality, "different films recommended")
    series = {
        f"MMR, alike by {likeness}": ([x.quality for x in each], [x.films for x in each])
        for likeness, each in found.items()
    }
    lines(axes, {**series, "popularity": ([at_popular], [coverage(popular)])})
    for number, each in enumerate(found.values()):
        below = number == 0  # the lines begin in one point, so that one has its numbers below
        for x in each[not below :]:
            options = {"textcoords": "offset points", "fontsize": 8, "ha": "center"}
            place = (10, -3) if x is each[0] else (0, -14 if below else 7)
            axes.annotate(f"{x.balance:g}", (x.quality, x.films), place, **options)
    axes.legend(title="a number is the balance; 1 is no MMR")
    save_chart(drawing, chart)
