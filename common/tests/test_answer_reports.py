"""Figures of an answerer and of a cache, counted by hand."""

from pathlib import Path

from common import display
from common.answer_reports import (
    Cached,
    choose,
    decided,
    report_thresholds,
    show_cache,
    show_quality,
    top_1,
)
from common.answering import Answers
from common.calibration import Calibration
from common.datasets import AskedQuestion
from common.settings import Settings

import numpy as np
import pytest


def answers(*rows: tuple[str, int | None, int, float]) -> Answers:
    """Each row: kind, the right answer, the answer found, its score."""
    asked = [
        AskedQuestion(number, f"q{number}", kind, right)
        for number, (kind, right, _, _) in enumerate(rows, start=1)
    ]
    return Answers.of(asked, [[(found, score)] for _, _, found, score in rows])


SIX = answers(
    ("paraphrase", 1, 1, 0.9),
    ("paraphrase", 2, 2, 0.5),
    ("paraphrase", 3, 4, 0.8),
    ("oblique", 4, 4, 0.7),
    ("near", None, 5, 0.6),
    ("far", None, 6, 0.1),
)


@pytest.fixture
def many() -> Answers:
    """100 paraphrases of 50 questions and 40 questions without an answer, which score lower."""
    generator = np.random.default_rng(0)
    scores = generator.normal(0.8, 0.1, 100), generator.normal(0.5, 0.1, 40)
    rows = [("paraphrase", n // 2, n // 2 if n % 10 else -5, s) for n, s in enumerate(scores[0])]
    rows += [("near" if n % 2 else "far", None, 3, s) for n, s in enumerate(scores[1])]
    return answers(*rows)


@pytest.fixture
def charts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(display, "settings", lambda: Settings(out_dir=tmp_path))
    return tmp_path


def test_the_best_answer_is_right() -> None:
    assert top_1(SIX, "paraphrase").value == pytest.approx(2 / 3)
    assert top_1(SIX, "oblique").value == 1.0
    assert top_1(answers(("near", None, 1, 0.5)), "oblique") is None


def test_what_a_threshold_lets_through() -> None:
    answered = np.array([True, False, True, True, True, False])
    found = decided(SIX, Calibration((0.5, 0.5), answered, answered))
    assert (found.right.count, found.right.total) == (1, 3)
    assert (found.wrong.count, found.wrong.total) == (1, 3)
    assert (found.false.count, found.false.total) == (1, 2)
    assert (found.oblique.count, found.oblique.total) == (1, 1)
    assert {kind: share.count for kind, share in found.by_kind.items()} == {"near": 1, "far": 0}


def test_paraphrases_of_a_question_are_in_one_half(many: Answers) -> None:
    first = choose(many, 0.1).first_half
    assert first[:100:2].tolist() == first[1:100:2].tolist()
    assert int(first[:100].sum()) == 50
    assert int(first[100:].sum()) == 20


def test_tables_and_a_chart(many: Answers, charts: Path, capsys) -> None:
    show_quality("English", {"one": many})
    found = report_thresholds("en", {"one": many, "two": many}, ("one", "two"), 0.05)
    assert found.thresholds == choose(many, 0.05).thresholds
    shown = capsys.readouterr().out
    assert "0.900 (0.83 to 0.94)   –" in shown  # 90 of 100 paraphrases, no oblique ones
    assert shown.count("false answers, near") == 2
    assert "two: other halves give" in shown
    assert (charts / "step03_02_scores_en.png").read_bytes().startswith(b"\x89PNG")


class TestCache:
    cache = Cached(
        answers(
            ("paraphrase", 1, 1, 0.9),
            ("paraphrase", 2, 3, 0.7),
            ("oblique", 3, 3, 0.6),
            ("near", None, 1, 0.8),
        ),
        size=3,
    )

    def test_hits_and_wrong_hits(self) -> None:
        rates = self.cache.rates(self.cache.answers.scores > 0.65)
        assert rates["paraphrase"][:2] == (1, 2)
        assert rates["oblique"][:2] == (0, 1)
        assert rates["wrong"][:2] == (2, 4)

    def test_the_threshold_keeps_wrong_hits_few(self, many: Answers, capsys) -> None:
        cache = Cached(many, size=50)
        calibration, rates = show_cache("English", cache, 0.02)
        # In the half that chose: at most the share that was asked for.
        for threshold, half in zip(
            calibration.thresholds,
            (calibration.first_half, ~calibration.first_half),
            strict=True,
        ):
            wrong = (many.scores > threshold) & ~many.right & half
            assert wrong.sum() <= 0.02 * half.sum() + 1
        assert rates == cache.rates(calibration.answered)
        assert "140 questions looked up among 50 cached" in capsys.readouterr().out
