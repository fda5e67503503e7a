"""What a comparison of indexes shows: tables and charts of what was built and measured."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from common.connection import Milvus
from common.display import bars, figure, lines, save_chart, say, table
from common.index_choices import Choice
from common.index_memory import MemoryEstimate, size_text
from common.index_trial import SearchFigures, params_text, params_told
from common.indexes import ParameterError

import numpy as np


@dataclass(frozen=True)
class Built:
    """An index that Milvus built.

    Attributes:
        choice: what was ordered.
        told: what `describe_index` says of it.
        seconds: from the order until all rows were covered.
        computed: what it takes, by its layout.
        file: its bytes as the engine has them, None where it does not tell (`told_bytes`).
    """

    choice: Choice
    told: Mapping[str, object]
    seconds: float
    computed: MemoryEstimate
    file: int | None


@dataclass(frozen=True)
class Measured:
    """One index with one setting of its search."""

    choice: Choice
    params: Mapping[str, object]
    figures: SearchFigures


def show_built(milvus: Milvus, built: Sequence[Built]) -> None:
    """What Milvus says it built, and what that took."""
    rows = []
    for each in built:
        told = each.told["index_type"], params_text(params_told(each.told))
        file = size_text(each.file) if each.file else None
        sizes = size_text(each.computed.bytes), file
        rows.append((*told, each.told["indexed_rows"], f"{each.seconds:.2f} s", *sizes))
    columns = "index", "parameters", "rows", "built in", "size, computed", "its file"
    table("What describe_index() says, and what it took", columns, rows)
    if milvus.kind == "lite":
        say(
            "Milvus Lite keeps indexes in files, against which the computed size can be checked. "
            "For IVF_FLAT it leaves out a table of 8 bytes a row that a server has."
        )
    else:
        say(
            "A server tells no client the size of an index, so it is computed from the layout. "
            "It looks after its builds about once a second, so that times come in such steps."
        )


def draw_indexes(
    milvus: Milvus, built: Sequence[Built], measured: Sequence[Measured], k: int, name: str
) -> None:
    """Two charts, `name`_recall and `name`_sizes: recall@k against throughput, and sizes."""
    _draw_recall_and_rate(milvus, measured, k, f"{name}_recall")
    _draw_sizes(milvus, built, f"{name}_sizes")


def _draw_recall_and_rate(milvus: Milvus, measured: Sequence[Measured], k: int, name: str) -> None:
    """Each index as a line through its settings: recall@k against queries a second.

    A thin upright line at each point goes from the slowest of its runs to the fastest.
    """
    title = f"Recall and throughput of each index: {milvus.label}"
    label = "queries answered a second (median; thin lines: all runs)"
    drawing, axes = figure(title, f"recall@{k}", label, size=(10, 6))
    series: dict[str, tuple[list[float], list[float]]] = {}
    for each in measured:
        rates = each.figures.rates
        x, y = series.setdefault(each.choice.index, ([], []))
        x.append(each.figures.recall)
        y.append(rates.median)
        axes.vlines(x[-1], rates.lowest, rates.highest, color="#8a8f98", linewidth=0.8)
    lines(axes, series, points=_labels(series))
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))  # beside the chart, which is full
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter("{x:,.0f}")
    save_chart(drawing, name)


def _labels(series: Mapping[str, tuple[list[float], list[float]]]) -> dict[str, list[str]]:
    """The name of each series beside that one of its points which is farthest from all others."""
    every = np.array([point for x, y in series.values() for point in zip(x, y, strict=True)])
    size = np.ptp(every, axis=0)
    size[size == 0] = 1
    found = {}
    for name, (x, y) in series.items():
        own = np.column_stack([x, y])
        others = every[~(every[:, None] == own[None]).all(axis=2).any(axis=1)]
        apart = np.linalg.norm((own[:, None] - others[None]) / size, axis=2)
        best = int(apart.min(axis=1).argmax()) if len(others) else 0
        found[name] = [name if number == best else "" for number in range(len(own))]
    return found


def _draw_sizes(milvus: Milvus, built: Sequence[Built], name: str) -> None:
    """The size of each index: computed and, where the engine tells it, as it is."""
    drawing, axes = figure(f"Size of each index: {milvus.label}", "index", "size (MB)", size=(9, 5))
    sizes = {"computed from its layout": [each.computed.bytes / 1e6 for each in built]}
    if all(each.file for each in built):
        sizes["its file"] = [each.file / 1e6 for each in built]
    bars(axes, [each.choice.index for each in built], sizes, "%.2f")
    save_chart(drawing, name)


def answer_text(said: tuple[str, str] | None) -> str:
    """What `refusal()` brought back, without the parts of an engine that it came through."""
    if said is None:
        return "takes it silently"
    return said[1].split("in json: ")[-1].split(": service")[0].split("Error: ")[-1]


def first_part(objection: str) -> str:
    """The beginning of an objection: which value it is and what is wrong with it."""
    return re.split(r" \(|\. ", objection)[0].removesuffix(".")


def objection(check: Callable[..., None], *arguments: object, **options: object) -> str:
    """What `check_build_params` or `check_search_params` objects to; "fine" if to nothing."""
    try:
        check(*arguments, **options)
    except ParameterError as error:
        return str(error)
    return "fine"
