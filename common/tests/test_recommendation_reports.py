"""What the reports of recommendations return is what hand-worked cases give."""

from pathlib import Path

from common import display
from common import recommendation_reports as reports
from common.datasets import JudgedQuery
from common.factorisation import FilmFactors
from common.movielens import Film, MovieLens, Ratings
from common.recommending import Trial
from common.settings import Settings

import numpy as np
import pytest

NAMES = ("Alien", "Brazil", "Casablanca", "Dune", "Eraserhead", "Fargo")


@pytest.fixture
def trial() -> Trial:
    """Two users; films 0 to 5, liked the less the higher the id, each genre twice."""
    films = {n: Film(n, name, None, ("ABC"[n % 3],)) for n, name in enumerate(NAMES)}
    ratings = Ratings(
        np.array([1, 1, 2]), np.array([0, 1, 0]), np.array([4.0, 5.0, 4.5]), np.array([1, 2, 3])
    )
    factors = FilmFactors(
        np.arange(6), np.array([9, 8, 7, 6, 5, 4]), np.eye(6, dtype=np.float32), np.ones(6)
    )
    queries = [
        JudgedQuery(1, "user 1", frozenset({3, 4})),
        JudgedQuery(2, "user 2", frozenset({5})),
    ]
    seen = [frozenset({0, 1}), frozenset({0})]
    return Trial(MovieLens("a test", films, ratings), factors, ratings, queries, seen)


@pytest.fixture(autouse=True)
def out_dir(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(display, "settings", lambda: Settings(out_dir=tmp_path))
    return tmp_path


def ranking(*films: int) -> list[tuple[int, float]]:
    return [(film, 1.0) for film in films]


def test_judge(trial: Trial) -> None:
    rated = reports.judge(
        {"good": [ranking(3, 4), ranking(5)], "poor": [ranking(2, 3), ranking(1, 2)]}, trial
    )
    assert rated["good"] == {"nDCG@10": [1.0, 1.0], "hit rate@10": [1.0, 1.0]}
    best = 1 + 1 / np.log2(3)
    assert rated["poor"]["nDCG@10"] == pytest.approx([(1 / np.log2(3)) / best, 0])
    assert rated["poor"]["hit rate@10"] == [1.0, 0.0]
    with pytest.raises(ValueError, match="zip"):
        reports.judge({"short": [ranking(3)]}, trial)
    with pytest.raises(ValueError, match="twice"):
        reports.judge({"twice": [ranking(3, 3), ranking(5)]}, trial)


def test_report(trial: Trial, out_dir: Path, capsys: pytest.CaptureFixture) -> None:
    lists = {"popularity": trial.popular(2), "good": [ranking(3, 4), ranking(5)]}
    rated = reports.report("Films", lists, trial, "popularity")
    assert rated == reports.judge(lists, trial)
    printed = capsys.readouterr().out
    assert "Films: 2 users, mean (95 % interval)" in printed
    assert "Coverage" not in printed
    assert not list(out_dir.iterdir())
    reports.report("Films", lists, trial, "popularity", "quality")
    assert (out_dir / "quality.png").read_bytes().startswith(b"\x89PNG")
    assert "Coverage" in capsys.readouterr().out


def test_coverage(trial: Trial, capsys: pytest.CaptureFixture) -> None:
    lists = {"a": [ranking(0, 1, 2), ranking(0, 1)], "b": [ranking(5), ranking(5)]}
    assert reports.show_coverage(lists, trial) == {"a": 3, "b": 1}
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["a", "3", "50.0%", "8"] in rows  # likes 9, 8, 7, 9, 8
    assert ["b", "1", "16.7%", "4"] in rows


def test_lists_side_by_side(trial: Trial, capsys: pytest.CaptureFixture) -> None:
    lists = {"all": ranking(0, 3), "unseen": ranking(3)}
    reports.show_lists("For user 1", lists, trial.lens.films, [0, 1])
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["1", "seen:", "Alien", "Dune"] in rows
    assert ["2", "Dune", "–"] in rows


def test_users_side_by_side(trial: Trial) -> None:
    assert reports.show_users(1, [(2, 0.5)], trial) == [(2, 0.5, 1, 1)]


def test_exclusions(trial: Trial, capsys: pytest.CaptureFixture) -> None:
    filtered = [[(2, 1.0), (3, 0.5)], [(4, 1.0)]]
    dropped = [[(2, 0.9), (3, 0.5)], [(5, 1.0)]]
    both = reports.show_exclusions(trial, [0, 1], filtered, dropped)
    assert both == [([2, 3], [2, 3]), ([4], [5])]
    printed = " ".join(capsys.readouterr().out.split())
    assert "have seen 1 to 2 films" in printed
    assert "for 1 of 2." in printed


def test_what_was_learnt(trial: Trial, capsys: pytest.CaptureFixture) -> None:
    reports.show_learnt(trial, 7)
    printed = " ".join(capsys.readouterr().out.split())
    assert "3 ratings of 6 films (a test); learnt from 3. The 6 films" in printed
    assert "1.000 for 7 likes or more and 1.000 for fewer" in printed


def test_diversity(trial: Trial, out_dir: Path) -> None:
    # Film 5 has the genre of film 2: by genres MMR puts something else before it.
    candidates = [[(2, 3.0), (5, 2.0), (3, 1.9), (4, 0.0)], [(3, 1.0), (4, 0.5)]]
    found = reports.report_diversity(trial, candidates, (1.0, 0.5), "diversity")
    assert list(found) == ["genres", "audience"]
    for outcome in found.values():
        assert [each.balance for each in outcome] == [1.0, 0.5]
        assert outcome[0].price == (0, 0, 0)
        assert outcome[0].films == 4
        assert outcome[1].price.mean == pytest.approx(outcome[1].quality - outcome[0].quality)
    assert found["genres"][1].quality > found["genres"][0].quality  # film 3 moves up to rank 2
    assert found["audience"][1].quality == found["audience"][0].quality  # all audiences differ
    assert (out_dir / "diversity.png").read_bytes().startswith(b"\x89PNG")
