"""Several ways of searching, judged on the same queries: tables, paired intervals and a chart."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from functools import partial
from itertools import compress

from common.datasets import JudgedQuery
from common.display import figure, save_chart, say, table
from common.evaluation import (
    MeanWithInterval,
    hit_rate_at,
    mean_with_interval,
    ndcg_at,
    paired_difference,
    recall_at,
    reciprocal_rank,
)

Measure = Callable[[Sequence[int], Set[int]], float]
MEASURES: dict[str, Measure] = {
    "nDCG@10": ndcg_at,
    "MRR@10": partial(reciprocal_rank, k=10),
    "recall@10": recall_at,
    "hit@1": partial(hit_rate_at, k=1),
}
"""What `rate` knows, by name: each takes the ids that were found and those that are relevant."""

Ranking = Sequence[tuple[int, float]]
Rated = dict[str, dict[str, list[float]]]
"""From the name of a method and that of a measure to one value for each query."""


def rate(
    rankings: Mapping[str, Sequence[Ranking]],
    queries: Sequence[JudgedQuery],
    measures: Sequence[str],
) -> Rated:
    """Judge the rankings of each method, query by query.

    Args:
        rankings: from the name of a method to its ranking for each query, (id, score) best first.
        queries: in the order of the rankings.
        measures: names of `MEASURES`.

    Raises:
        ValueError: a method has not one ranking for each query, or an id stands twice in one.
    """
    return {
        method: {
            name: [
                MEASURES[name]([found for found, _ in ranking], query.relevant)
                for ranking, query in zip(answers, queries, strict=True)
            ]
            for name in measures
        }
        for method, answers in rankings.items()
    }


def report_quality(
    title: str,
    rankings: Mapping[str, Sequence[Ranking]],
    queries: Sequence[JudgedQuery],
    measures: Sequence[str],
    base: str,
    chart: str,
) -> Rated:
    """Judge, print and draw: means with intervals, and the differences from `base`.

    Args:
        title: of the table and the chart.
        rankings, queries, measures: as for `rate`; differences and chart are of the first measure.
        base: the method that the others are compared with.
        chart: the name of its file.

    Raises:
        ValueError: what `rate` raises.
    """
    rated = rate(rankings, queries, measures)
    show_quality(f"{title}: mean (95 % interval)", rated)
    show_differences(rated, base, measures[0])
    draw_quality(f"Quality of the ranking: {title}", rated, measures[0], base, chart)
    return rated


def show_extremes(
    title: str,
    rated: Rated,
    measure: str,
    queries: Sequence[JudgedQuery],
    method: str,
    base: str,
    number: int = 3,
) -> None:
    """Print the queries that gain and lose most by `method` instead of `base`."""
    values = [rated[name][measure] for name in rated]
    pairs = zip(rated[method][measure], rated[base][measure], strict=True)
    gains = [better - worse for better, worse in pairs]
    order = sorted(range(len(queries)), key=gains.__getitem__)
    rows = [
        (queries[row].query, *(f"{column[row]:.2f}" for column in values), f"{gains[row]:+.2f}")
        for row in (*order[: -number - 1 : -1], *order[:number])
    ]
    table(title, ("query", *rated, f"{method} - {base}"), rows)


def show_quality(title: str, rated: Rated) -> None:
    """Print for each method the mean of each measure with its 95 % interval."""
    measures = list(next(iter(rated.values())))
    rows = [
        (method, *(with_interval(mean_with_interval(values[name])) for name in measures))
        for method, values in rated.items()
    ]
    table(title, ("method", *measures), rows)


def show_differences(rated: Rated, base: str, measure: str) -> dict[str, MeanWithInterval]:
    """Print how far each method is from `base`, paired query by query, and what that shows.

    Returns the difference of each other method; above 0 it is better than `base`.
    """
    values_of_base = rated[base][measure]
    found = {
        method: paired_difference(values[measure], values_of_base)
        for method, values in rated.items()
        if method != base
    }
    rows = [
        (method, with_interval(difference, signed=True), verdict(difference))
        for method, difference in found.items()
    ]
    table(f"{measure}, difference from {base}", ("method", "mean (95 %)", "verdict"), rows)
    unclear = [method for method, difference in found.items() if difference.holds(0)]
    if unclear:
        say(
            f"The interval includes 0 for {', '.join(unclear)}: {len(values_of_base)} queries do "
            f"not show whether that is better or worse than {base}."
        )
    return found


def show_by_group(
    title: str, rated: Rated, measure: str, groups: Sequence[str], method: str, base: str
) -> dict[str, MeanWithInterval]:
    """Print the means within groups of queries, and how far `method` is from `base` in each.

    Args:
        title: of the table.
        rated: of `rate`.
        measure: the one to show.
        groups: for each query the name of its group; they are shown in sorted order. A group of
            one query is left out: nothing can be said of it.
        method, base: two methods of `rated`.

    Returns:
        The paired difference in each group that is shown.
    """
    found, rows = {}, []
    for group, number in sorted(Counter(groups).items()):
        if number < 2:
            continue
        inside = [name == group for name in groups]
        values = {name: list(compress(rated[name][measure], inside)) for name in rated}
        found[group] = paired_difference(values[method], values[base])
        means = (f"{sum(part) / number:.3f}" for part in values.values())
        rows.append((group, number, *means, with_interval(found[group], signed=True)))
    table(title, ("", "queries", *rated, f"{method} - {base} (95 %)"), rows)
    return found


def verdict(difference: MeanWithInterval) -> str:
    """What a paired interval shows: "better", "worse" or "not clear"."""
    if difference.holds(0):
        return "not clear: includes 0"
    return "better" if difference.low > 0 else "worse"


def with_interval(result: MeanWithInterval, *, signed: bool = False) -> str:
    """A mean and its interval as a text: "0.483 (0.435 to 0.531)"."""
    form = "+.3f" if signed else ".3f"
    return f"{result.mean:{form}} ({result.low:{form}} to {result.high:{form}})"


def draw_quality(title: str, rated: Rated, measure: str, base: str, name: str) -> None:
    """Draw the mean of each method with its interval, and a line at that of `base`."""
    methods = list(rated)[::-1]  # the first one on top
    results = [mean_with_interval(rated[method][measure]) for method in methods]
    drawing, axes = figure(title, f"{measure} (0 to 1, higher is better)", "method")
    below = [result.mean - result.low for result in results]
    above = [result.high - result.mean for result in results]
    places = range(len(methods))
    axes.errorbar(
        [result.mean for result in results],
        places,
        xerr=[below, above],
        fmt="o",
        capsize=5,
        label="mean with 95 % interval",
    )
    behind = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}  # no line crosses a number
    above_point = {"xytext": (0, 8), "textcoords": "offset points", "ha": "center", "fontsize": 9}
    for place, result in zip(places, results, strict=True):
        point = (result.mean, place)
        axes.annotate(f"{result.mean:.3f}", point, bbox=behind, **above_point)
    at_base = results[methods.index(base)].mean
    axes.axvline(at_base, color="#333333", linestyle="--", linewidth=1.2, label=f"mean of {base}")
    axes.set_yticks(places, methods)
    axes.set_ylim(-0.6, len(methods) - 0.2)
    axes.grid(axis="y", visible=False)
    axes.legend(loc="upper center", bbox_to_anchor=(0.4, -0.16), ncols=2)
    save_chart(drawing, name)
