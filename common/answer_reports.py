"""How good an answerer is: tables and charts of the lesson on question answering."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from common.answering import LANGUAGES, Answers
from common.calibration import Calibration, Share, calibrate, halves, share
from common.display import figure, save_chart, say, table

import numpy as np
from numpy.typing import ArrayLike

CACHE_THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)
OTHER_CUTS = 20  # of the questions into halves, to show what is due to chance
_WITH_ANSWER = ("paraphrase", "oblique")


def top_1(answers: Answers, kind: str) -> Share | None:
    """The share of the questions of a kind whose best answer is right; None if there are none."""
    of_kind = answers.right[answers.of_kind(kind)]
    return share(of_kind) if len(of_kind) else None


def show_quality(language: str, by_way: Mapping[str, Answers]) -> None:
    """Print how often the best answer is right, before any threshold, for each way of searching."""
    rows = [
        (way, *(value or "–" for value in (top_1(answers, kind) for kind in _WITH_ANSWER)))
        for way, answers in by_way.items()
    ]
    title = f"{language}: how often the best answer is right (95 %)"
    table(title, ("searched", *_WITH_ANSWER), rows)


@dataclass(frozen=True)
class Decided:
    """What a calibrated threshold lets through, pooled over both halves.

    Attributes:
        right: paraphrases that are answered, and rightly.
        wrong: paraphrases that are answered wrongly; the rest gets no answer.
        false: questions without an answer that are answered.
        oblique: oblique questions that are answered rightly, None if there are none.
        by_kind: `false` for each kind of question without an answer.
    """

    right: Share
    wrong: Share
    false: Share
    oblique: Share | None
    by_kind: dict[str, Share]


def decided(answers: Answers, calibration: Calibration) -> Decided:
    """Count what the thresholds of a calibration let through."""
    answered, right = calibration.answered, calibration.answered & answers.right
    given = answers.of_kind("paraphrase")
    oblique = answers.of_kind("oblique")
    kinds = [kind for kind in ("near", "far") if answers.of_kind(kind).any()]
    return Decided(
        right=share(right[given]),
        wrong=share((answered & ~answers.right)[given]),
        false=share(answered[~answers.has_answer]),
        oblique=share(right[oblique]) if oblique.any() else None,
        by_kind={kind: share(answered[answers.of_kind(kind)]) for kind in kinds},
    )


def show_calibration(
    title: str, by_way: Mapping[str, tuple[Answers, Calibration]]
) -> dict[str, Decided]:
    """Print what the thresholds do, pooled over both halves, for each way of searching."""
    found = {way: decided(*pair) for way, pair in by_way.items()}
    rows = []
    for way, (_, calibration) in by_way.items():
        result, thresholds = found[way], calibration.thresholds
        rows += [
            (way, "thresholds", " and ".join(f"{value:.3f}" for value in thresholds)),
            ("", "answered rightly", result.right),
            ("", "answered wrongly", result.wrong),
            ("", "oblique, answered rightly", result.oblique or "–"),
            ("", "false answers", result.false),
            *(("", f"false answers, {kind}", value) for kind, value in result.by_kind.items()),
        ]
    table(title, ("searched", "figure", "pooled (95 %)"), rows)
    return found


def choose(answers: Answers, most_false: float, seed: int = 0) -> Calibration:
    """Choose the threshold on one half of the questions, apply it to the other, and swap.

    Oblique questions choose nothing: they get the threshold of their half.

    Args:
        answers: the best ones.
        most_false: which share of the questions without an answer may be answered in the half
            that chooses.
        seed: of the halves; all wordings of one question are in the same.
    """
    strata = [item.kind if item.answered_by is None else "answerable" for item in answers.asked]
    first = halves(_groups(answers), strata, seed)
    return calibrate(answers.scores, answers.has_answer, first, most_false)


def report_thresholds(
    language: str, by_way: Mapping[str, Answers], compared: Sequence[str], most_false: float
) -> Calibration:
    """Calibrate some ways, print what the thresholds do, and draw the scores of the last one.

    Args:
        language: "en" or "ko".
        by_way: from the name of a way to its answers.
        compared: the ways to show.
        most_false: as for `choose`.

    Returns:
        The calibration of the last way.
    """
    calibrated = {way: (by_way[way], choose(by_way[way], most_false)) for way in compared}
    title = LANGUAGES[language]
    show_calibration(f"{title}: with a threshold", calibrated)
    way = compared[-1]
    answers, calibration = calibrated[way]
    others = [decided(answers, choose(answers, most_false, seed)) for seed in range(1, OTHER_CUTS)]
    right, false = ([getattr(cut, name).value for cut in others] for name in ("right", "false"))
    say(
        f"{way}: other halves give {min(right):.3f} to {max(right):.3f} answered rightly and "
        f"{min(false):.3f} to {max(false):.3f} false answers ({len(others)} other cuts)."
    )
    draw_scores(f"{title}: scores with and without an answer", answers, calibration, language)
    return calibration


def draw_scores(title: str, answers: Answers, calibration: Calibration, language: str) -> None:
    """Draw the scores of the best answers: right, wrong, and to questions that have none."""
    given = answers.of_kind("paraphrase")
    groups = {
        "no answer exists": answers.scores[~answers.has_answer],
        "best answer is wrong": answers.scores[given & ~answers.right],
        "best answer is right": answers.scores[given & answers.right],
    }
    drawing, axes = figure(
        title, "score of the best answer (cosine + words)", "number of questions"
    )
    everything = np.concatenate(list(groups.values()))
    edges = np.linspace(everything.min(), everything.max(), 31)
    _, _, drawn = axes.hist(
        list(groups.values()),
        bins=edges,
        stacked=True,
        label=[f"{label} ({len(values)})" for label, values in groups.items()],
        edgecolor="white",
        linewidth=0.5,
    )
    for patches, hatch in zip(drawn, ("xxxx", "....", ""), strict=True):
        for patch in patches:
            patch.set_hatch(hatch)
    for threshold, chosen, dash in zip(
        calibration.thresholds, ("first", "second"), ("--", ":"), strict=True
    ):
        label = f"threshold by the {chosen} half: {threshold:.3f}"
        axes.axvline(threshold, color="#333333", linestyle=dash, label=label)
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.legend(loc="upper center", bbox_to_anchor=(0.47, -0.16), ncols=2)
    save_chart(drawing, f"step03_02_scores_{language}")


@dataclass(frozen=True)
class Cached:
    """What a cache would answer to each of some questions.

    Attributes:
        answers: the nearest cached answer to each question.
        size: how many questions the cache holds, each of another answer.
    """

    answers: Answers
    size: int

    def calibrate(self, most_wrong: float) -> Calibration:
        """Choose thresholds on halves, so that at most that share of all lookups hits wrongly."""
        wrong = ~self.answers.right
        first = halves(_groups(self.answers), [item.kind for item in self.answers.asked])
        # A hit is wrong where the nearest cached question has another answer: those are the ones
        # to keep out, as questions without an answer are for a search.
        most = min(most_wrong * len(wrong) / max(1, int(wrong.sum())), 0.999)
        return calibrate(self.answers.scores, self.answers.right, first, most)

    def rates(self, hit: ArrayLike) -> dict[str, Share]:
        """The share of right hits of each kind of question, and of wrong hits of all questions.

        Args:
            hit: which questions get an answer from the cache, shape (n,).
        """
        taken, right = np.asarray(hit, dtype=bool), self.answers.right
        rates = {
            kind: share((taken & right)[self.answers.of_kind(kind)])
            for kind in _WITH_ANSWER
            if self.answers.of_kind(kind).any()
        }
        return {**rates, "wrong": share(taken & ~right)}


def show_cache(
    language: str, cache: Cached, most_wrong: float
) -> tuple[Calibration, dict[str, Share]]:
    """Print hits and wrong hits for some thresholds and for the calibrated ones.

    Returns:
        The calibration, and the rates that it gives.
    """
    calibration = cache.calibrate(most_wrong)
    rates = cache.rates(calibration.answered)
    scores = cache.answers.scores
    rows = [(f"{at:.2f}", *cache.rates(scores > at).values()) for at in CACHE_THRESHOLDS]
    chosen = " and ".join(f"{threshold:.2f}" for threshold in calibration.thresholds)
    rows.append((f"calibrated: {chosen}", *rates.values()))
    title = f"{language}: {len(scores)} questions looked up among {cache.size} cached"
    columns = [f"hits, {kind}" for kind in rates if kind != "wrong"]
    table(title, ("threshold", *columns, "wrong hits, all"), rows)
    return calibration, rates


def _groups(answers: Answers) -> list[int]:
    """What stays together in a half: all wordings of a stored question; else each for itself."""
    return [item.id if item.answered_by is None else item.answered_by for item in answers.asked]
