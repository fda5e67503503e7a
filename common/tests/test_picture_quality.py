"""Planted copies, strangers and wrong labels, and the measures of what finds them."""

from collections.abc import Sequence

from common.album import Album, emoji_album
from common.image_embedding import cached, image_encoder
from common.images import read_picture
from common.picture_quality import (
    NOT_CENTRED,
    PRECISION,
    RECALL,
    chance,
    rate_known,
    rate_labels,
    rate_neighbours,
    rate_strangers,
    same_category,
    without,
)
from common.planted_pictures import (
    COPIES,
    PLANTED,
    Mixture,
    copies,
    distances,
    judge_copies,
    mislabel,
    mix,
    near_pairs,
    photograph_crops,
    roc_auc,
)
from common.ranking_quality import Ranking
from common.vectors import Float32

import numpy as np
import pytest
from PIL import ImageOps


@pytest.fixture(scope="module")
def drawn() -> Album:
    return emoji_album(60, cached(image_encoder("efficientnet-lite0")))


def exact(
    vectors: Float32, labels: Sequence[str], ids: Sequence[int], rows: Sequence[int], condition: str
) -> list[list[int]]:
    """The ids by falling cosine; of the filters that are used here only these three exist."""
    allowed = np.ones(len(labels), bool)
    for part in filter(None, condition.replace("(", "").replace(")", "").split(" and ")):
        _, operator, value = part.split(" ", 2)
        equal = np.array([label == value.strip('"') for label in labels])
        allowed &= equal if operator == "==" else ~equal
    found = []
    for row in rows:
        scores = vectors @ vectors[row]
        order = [other for other in np.argsort(-scores) if allowed[other]]
        found.append([(ids[other], float(scores[other])) for other in order])
    return found


class TestPlanted:
    def test_copies(self, drawn: Album) -> None:
        picture = drawn.picture(drawn.items[5])
        changed = copies(picture)
        assert tuple(changed) == COPIES
        digests = {kind: copy.digest for kind, copy in changed.items()}
        assert digests["same pixels"] == picture.digest
        assert len(set(digests.values())) == len(COPIES)
        assert changed["half size"].image.size == (32, 32)
        assert changed["framed"].image.size == (76, 76)
        assert changed["cropped"].image.size == (54, 54)
        mirrored = ImageOps.mirror(changed["mirrored"].image)
        assert np.array_equal(np.asarray(mirrored), np.asarray(picture.image))

    def test_crops_of_photographs(self) -> None:
        crops = photograph_crops(6)
        assert len({crop.digest for crop in crops}) == 6
        assert {crop.image.size for crop in crops} == {(64, 64)}
        assert [crop.digest for crop in crops] == [crop.digest for crop in photograph_crops(6)]

    def test_mislabel(self) -> None:
        labels = ["a"] * 50 + ["b"] * 30 + ["c"] * 20
        changed, wrong = mislabel(labels, 0.1)
        assert wrong.sum() == 10
        assert [old != new for old, new in zip(labels, changed, strict=True)] == wrong.tolist()
        assert set(changed) == {"a", "b", "c"}
        assert mislabel(labels, 0.1)[0] == changed
        assert mislabel(labels, 0.1, seed=1)[0] != changed
        with pytest.raises(ValueError, match="1 categories"):
            mislabel(["a", "a"], 0.5)

    def test_mixture(self, drawn: Album) -> None:
        mixed = mix(drawn, 5, 0.1)
        assert mixed.vectors.shape == (65, 1280)
        assert (mixed.strange.sum(), mixed.wrong.sum()) == (5, 6)
        assert mixed.labels[mixed.strange].tolist() == [PLANTED] * 5
        assert not (mixed.strange & mixed.wrong).any()
        rows = list(mixed.rows())
        assert [row["id"] for row in rows] == list(range(65))
        assert rows[64]["category"] == PLANTED
        assert np.array_equal(rows[3]["look"], drawn.spaces["look"][3])


class TestMeasures:
    def test_auc_by_hand(self) -> None:
        assert roc_auc([0.1, 0.4, 0.35, 0.8], [False, False, True, True]) == 0.75  # 3 of 4 pairs
        assert roc_auc([1, 1], [True, False]) == 0.5
        for marks in ([True, True], [False, False]):
            with pytest.raises(ValueError, match="needs both"):
                roc_auc([1, 2], marks)

    def test_distances(self) -> None:
        found = distances([[(1, 0.8), (2, 0.4)], []])
        assert found == pytest.approx([0.4, 1.0])

    def test_without_itself(self) -> None:
        rankings = [[(7, 1.0), (8, 0.9), (9, 0.8)], [(7, 0.5), (9, 0.4), (8, 0.3)]]
        assert without(rankings, [7, 5], 2) == [[(8, 0.9), (9, 0.8)], [(7, 0.5), (9, 0.4)]]

    def test_precision_and_chance(self, drawn: Album) -> None:
        a, b = drawn.items[0], drawn.items[-1]
        assert a.category != b.category
        same = [item.id for item in drawn.items if item.category == a.category and item != a]
        ranking = [(same[0], 0.9), (b.id, 0.8), (same[1], 0.7), (b.id - 1, 0.6)]
        assert same_category(drawn, [ranking], [a], 4) == [0.5]
        assert same_category(drawn, [ranking], [a], 5) == [0.4]  # a hit that is missing is none
        assert chance(drawn.items)[0] == len(same) / 59

    def test_copies_by_hand(self, drawn: Album) -> None:
        first, second = drawn.items[:2]
        pictures = [read_picture(item.thumbnail) for item in (first, second)]
        known = [{"digest": first.digest}]
        rankings: list[Ranking] = [[(first.id, 0.95), (9, 0.9)], [(9, 0.8), (second.id, 0.7)]]
        judged = judge_copies([first, second], pictures, known, rankings, 0.9)
        assert judged == (1, 1, pytest.approx(0.825), 1)
        lost = judge_copies([first], pictures[:1], [], [[(9, 0.8)]], 0.9)
        assert lost == (0, 0, 0.0, 0)

    def test_pairs(self, drawn: Album) -> None:
        rankings: list[Ranking] = [[] for _ in drawn.items]
        rankings[0] = [(1, 1.0), (3, 0.95), (4, 0.2)]
        rankings[2] = [(3, 1.0), (1, 0.95), (2, 0.97)]
        assert near_pairs(drawn, rankings, 0.9) == [(2, 3, 0.97), (1, 3, 0.95)]

    def test_known_pictures(self, drawn: Album) -> None:
        right = [[(item.id, 1.0)] for item in drawn.items]
        late = [[(n % 60 + 1, 1.0) for n in range(row + 1, row + 11)] for row in range(60)]
        later = [[(n % 60 + 1, 1.0) for n in range(row - 9, row + 1)] for row in range(60)]
        ways = {"right": right, "tenth": later, "missed": late}
        rated = rate_known(drawn, "en", ways, "right")
        assert {way: np.mean(values[RECALL]) for way, values in rated.items()} == pytest.approx(
            {"chance": 10 / 60, "right": 1.0, "tenth": 1.0, "missed": 0.0}
        )

    def test_neighbours(self, drawn: Album, monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
        monkeypatch.setattr("common.display.settings", lambda: type("S", (), {"out_dir": tmp_path}))
        ids = [item.id for item in drawn.items]

        def look(rows: Sequence[int], limit: int, condition: str) -> list[Ranking]:
            found = exact(drawn.spaces["look"], drawn.categories, ids, rows, condition)
            return [ranking[:limit] for ranking in found]

        rated = rate_neighbours(drawn, {"look": look}, "look", "chart")
        assert list(rated) == ["all", "without people-body"]
        assert list(rated["all"]) == ["chance", "look", NOT_CENTRED]
        for part, categories in (("all", set(drawn.categories)), ("without people-body", None)):
            kept = [
                c in (categories or set(drawn.categories) - {"people-body"})
                for c in drawn.categories
            ]
            names = np.array(drawn.categories)[kept]
            for way, vectors in (("look", drawn.spaces["look"]), (NOT_CENTRED, drawn.raw)):
                scores = vectors[kept] @ vectors[kept].T
                np.fill_diagonal(scores, -2)
                best = np.argsort(-scores, axis=1)[:, :5]
                expected = (names[best] == names[:, None]).mean(axis=1)
                assert rated[part][way][PRECISION] == pytest.approx(expected.tolist())
        assert (tmp_path / "chart.png").exists()


class TestAnomalies:
    @pytest.fixture(scope="class")
    @classmethod
    def mixed(cls, drawn: Album) -> Mixture:
        return mix(drawn, 6, 0.1)

    @pytest.fixture
    def look(self, mixed: Mixture):
        ids = range(len(mixed.labels))

        def search(rows: Sequence[int], limit: int, condition: str) -> list[Ranking]:
            found = exact(mixed.vectors, mixed.labels, ids, rows, condition)
            return [ranking[:limit] for ranking in found]

        return search

    def test_strangers(self, mixed: Mixture, look) -> None:
        found = rate_strangers(mixed, look, (3,))
        scores = mixed.vectors @ mixed.vectors.T
        np.fill_diagonal(scores, -2)
        among_all = 1 - np.sort(scores, axis=1)[:, -3:].mean(axis=1)
        among_good = 1 - np.sort(scores[:, ~mixed.strange], axis=1)[:, -3:].mean(axis=1)
        assert found == pytest.approx(
            {
                "3 nearest of all": roc_auc(among_all, mixed.strange),
                "3 nearest of the known good": roc_auc(among_good, mixed.strange),
            }
        )
        assert found["3 nearest of the known good"] > found["3 nearest of all"]

    def test_labels(self, mixed: Mixture, look) -> None:
        found, suspicion = rate_labels(mixed, look, 3)
        good = ~mixed.strange
        scores, labels = (mixed.vectors @ mixed.vectors.T)[good][:, good], mixed.labels[good]
        np.fill_diagonal(scores, -2)
        own, others = (
            np.array(
                [
                    1 - np.sort(row[((labels == name) == same) & (row > -2)])[-3:].mean()
                    for row, name in zip(scores, labels, strict=True)
                ]
            )
            for same in (True, False)
        )
        assert suspicion == pytest.approx(own - others, abs=1e-5)
        *_, both = found.values()
        assert both == pytest.approx(roc_auc(own - others, mixed.wrong[good]))
        assert len(found) == 3
