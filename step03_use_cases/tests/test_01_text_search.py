"""What 01_text_search finds, keeps up to date and measures is what can be computed by hand."""

import math
import re
import subprocess
from collections.abc import Callable
from datetime import date
from pathlib import Path
from types import ModuleType

from common.connection import Milvus
from common.datasets import constitution, constitution_questions, paper_queries, papers
from common.embedding import CachedEncoder, cached, text_encoder
from common.folder_index import FolderUpdate, Recipe
from common.late_interaction import TokenEncoder
from common.sample_folder import change_folder, write_folder

import numpy as np
import pytest
from pymilvus import MilvusClient

QUERIES = paper_queries()
METHODS = ["plain", "BM25", "hybrid (RRF)", "plain + MaxSim", "hybrid (RRF) + MaxSim", "passages"]


def ndcg(ranked: list[int], relevant: frozenset[int]) -> float:
    """Independent of common."""
    gains = [1 / math.log2(rank + 2) for rank in range(10)]
    gain = sum(g for g, found in zip(gains, ranked, strict=False) if found in relevant)
    return gain / sum(gains[: len(relevant)])


@pytest.fixture(scope="module")
def encoder() -> CachedEncoder:
    return cached(text_encoder())


@pytest.fixture(scope="module")
def by_hand(encoder: CachedEncoder) -> dict[str, list[float]]:
    """nDCG@10 of each query by plain search and by MaxSim over its first 50, without a Milvus."""
    texts, ids = [f"{p.title}. {p.abstract}" for p in papers()], [p.id for p in papers()]
    tokens = TokenEncoder(encoder)
    of_papers = [part.astype(np.float64) for part in tokens.encode("document", texts)]
    asked = [query.query for query in QUERIES]
    cosines = encoder.encode_queries(asked) @ encoder.encode_documents(texts).T
    found: dict[str, list[float]] = {"plain": [], "plain + MaxSim": []}
    for query, scores, part in zip(QUERIES, cosines, tokens.encode("query", asked), strict=True):
        best = np.argsort(-scores, kind="stable")[:50]
        found["plain"].append(ndcg([ids[row] for row in best], query.relevant))
        sims = {row: (of_papers[row] @ part.astype(np.float64).T).max(0).mean() for row in best}
        order = sorted(best, key=lambda row: -sims[row])
        found["plain + MaxSim"].append(ndcg([ids[row] for row in order], query.relevant))
    return found


def test_passes_as_a_process(
    passes_as_a_process: Callable[..., str], engine: str, tmp_path: Path
) -> None:
    printed = passes_as_a_process("--quick")
    titles = [line.split(".")[0] for line in printed.splitlines() if line.endswith("───")]
    assert [title for title in titles if title.isdigit()] == [str(n) for n in range(1, 6)]
    assert "60 Korean questions, 130 articles" in printed
    for chart in ("step03_01_papers", "step03_01_korean"):
        assert (tmp_path / "out" / f"{chart}.png").read_bytes().startswith(b"\x89PNG")
    not_run = set(re.findall(r"^not run: (.+?):", printed, re.MULTILINE))
    old = {"BM25 of Milvus; bm25s does it in process"} if "://" in engine else set()
    assert not_run - old == {"a cross-encoder"}
    assert "WARNING" not in printed


def test_ctrl_c_leaves_nothing_behind(check_ctrl_c: Callable[[str], None]) -> None:
    check_ctrl_c("4.")


def test_quality(
    lesson: ModuleType,
    milvus: Milvus,
    encoder: CachedEncoder,
    by_hand: dict[str, list[float]],
    tmp_path: Path,
) -> None:
    lesson.insert_passages(milvus.client, papers(), Recipe(encoder))
    rated = lesson.compare(milvus, encoder, (papers(), QUERIES), lesson.DEPTH)
    assert list(rated) == METHODS
    means = {method: np.mean(values["nDCG@10"]) for method, values in rated.items()}
    assert means["plain"] >= 0.47
    assert means["plain + MaxSim"] >= means["plain"] + 0.03
    assert means["hybrid (RRF)"] >= means["plain"]
    assert means["hybrid (RRF) + MaxSim"] >= means["plain"] + 0.03
    assert means["passages"] >= 0.47
    assert 0.45 <= means["BM25"] <= 0.52
    for method, values in by_hand.items():  # ties may fall otherwise
        assert rated[method]["nDCG@10"] == pytest.approx(values, abs=0.35)
        assert means[method] == pytest.approx(np.mean(values), abs=0.003)


def test_a_model_that_does_not_know_korean(lesson: ModuleType, milvus: Milvus) -> None:
    rated = lesson.mismatch(milvus)
    by_korean = cached(text_encoder(language="ko"))
    texts, ids = [a.text for a in constitution()], [a.id for a in constitution()]
    asked = by_korean.encode_queries([q.query for q in constitution_questions()])
    order = np.argsort(-(asked @ by_korean.encode_documents(texts).T), axis=1)[:, :10]
    expected = [
        ndcg([ids[row] for row in rows], query.relevant)
        for rows, query in zip(order, constitution_questions(), strict=True)
    ]
    assert np.mean(rated["multilingual"]["nDCG@10"]) == pytest.approx(np.mean(expected), abs=0.003)
    assert np.mean(expected) >= 0.40
    assert np.mean(rated["English only"]["nDCG@10"]) <= 0.10


def test_search_filters_and_shows_each_document_once(
    lesson: ModuleType, client: MilvusClient, encoder: CachedEncoder
) -> None:
    corpus = papers()[:60]
    stored = lesson.insert_passages(client, corpus, Recipe(encoder))
    (count,) = client.query(lesson.PASSAGES, output_fields=["count(*)"])
    assert count["count(*)"] == stored > 60
    tag = corpus[0].tags[0]
    for condition, means in (
        ("", lambda paper: True),
        ('day >= "2019-01-01"', lambda paper: paper.published >= date(2019, 1, 1)),
        (f'ARRAY_CONTAINS(tags, "{tag}")', lambda paper: tag in paper.tags),
    ):
        allowed = {str(paper.id) for paper in corpus if means(paper)}
        hits = lesson.search(client, lesson.PASSAGES, encoder, "graphs", condition)
        paths = [hit["entity"]["path"] for hit in hits]
        assert set(paths) <= allowed
        assert len(set(paths)) == len(paths) == min(5, len(allowed))
        assert hits == sorted(hits, key=lambda hit: -hit["distance"])


def texts_of(client: MilvusClient, name: str) -> dict[str, list[str]]:
    fields = ["path", "passage", "text", "vector"]
    rows = client.query(name, filter='id != ""', limit=1000, output_fields=fields)
    found: dict[str, list[str]] = {}
    for row in sorted(rows, key=lambda row: (row["path"], row["passage"])):
        found.setdefault(row["path"], []).append(row["text"])
    return found


def test_a_folder_is_kept_up_to_date_and_nothing_is_encoded_twice(
    lesson: ModuleType, client: MilvusClient, tmp_path: Path
) -> None:
    encoder, folder = cached(text_encoder(), tmp_path / "cache"), tmp_path / "docs"
    recipe, name = Recipe(encoder), "step03_update_test"
    *inside, added = papers()[:9]
    folder.mkdir()
    write_folder(folder, inside)
    lesson.create_passages(client, name, encoder.dimension)

    def update() -> tuple[FolderUpdate, int, int]:
        before = encoder.encoded, encoder.hits
        result = lesson.update_index(client, name, folder, recipe)
        return result, encoder.encoded - before[0], encoder.hits - before[1]

    first, encoded, _ = update()
    before = texts_of(client, name)
    assert len(first.new) == len(before) == 8
    assert encoded == len({text for texts in before.values() for text in texts})
    assert set(first.problems) == {"broken.pdf", "empty.txt", "scanned.pdf"}

    again, encoded, hits = update()
    assert (len(again.unchanged), encoded, hits) == (8, 0, 0)

    done = change_folder(folder, inside, added)
    second, encoded, _ = update()
    for kind, paths in done.items():
        assert list(getattr(second, kind)) == paths
    after = texts_of(client, name)
    known = {text for texts in before.values() for text in texts}
    new = {text for texts in after.values() for text in texts} - known
    assert encoded == len(new)  # each new text once, what was known never
    (moved,), (old,) = done["renamed"], second.renamed.values()
    assert after[moved] == before[old]
    assert old not in after
    assert done["deleted"][0] not in after
    (changed,) = done["changed"]
    assert "sourdough" in after[changed][-1]
    assert len(second.unchanged) == 5
    rows = client.query(
        name, filter=f'path == "{moved}"', output_fields=["vector", "text", "tags"], limit=100
    )
    assert all("read" in row["tags"] for row in rows)
    vectors = encoder.encode_documents([row["text"] for row in rows])
    assert np.array([row["vector"] for row in rows]) == pytest.approx(vectors, abs=1e-6)

    (folder / changed).unlink()
    (folder / changed).symlink_to(folder / "nowhere")
    third, encoded, _ = update()
    assert changed in third.problems
    assert texts_of(client, name) == after  # what cannot be read now is kept
    assert encoded == 0


def test_your_own_folder(
    run_script: Callable[..., subprocess.CompletedProcess], client: MilvusClient, tmp_path: Path
) -> None:
    folder = tmp_path / "mine"
    (folder / "kitchen").mkdir(parents=True)
    (folder / "kitchen" / "bread.md").write_text("# Bread\n\nFlour, water, salt and an oven.")
    (folder / "stars.txt").write_text("A telescope shows the rings of Saturn.")
    (folder / "broken.pdf").write_bytes(b"%PDF")
    options = ("--folder", str(folder), "--query", "how to bake")
    done = run_script(*options)
    assert done.returncode == 0, done.stderr
    assert done.stdout.index("Flour") < done.stdout.index("Saturn")
    assert "broken.pdf" in done.stdout
    filtered = run_script(*options, "--tag", "kitchen", "--since", "2000-01-01")
    assert "Saturn" not in filtered.stdout
    assert "Flour" in filtered.stdout
    assert "encoded 0 passages" in filtered.stdout


def test_a_kept_collection(
    lesson: ModuleType, client: MilvusClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_text("One. Two.")
    options = lesson.parse(
        "", ["--folder", str(tmp_path), "--collection", "step03_kept"], 314, 50, 60
    )
    assert lesson.search_folder(client, options).new == ["a.txt"]
    assert lesson.search_folder(client, options).unchanged == ["a.txt"]
    options.language = "ko"  # 512 numbers instead of 384
    with pytest.raises(Exception, match="holds vectors of 384 numbers"):
        lesson.search_folder(client, options)
    client.create_collection("step03_others", dimension=4)
    options.collection = "step03_others"
    with pytest.raises(Exception, match="was not made by this script"):
        lesson.search_folder(client, options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--query", " "), "--query is blank"),
        (("--words", "5"), "--words is 10 to 500"),
        (("--words", "50", "--overlap", "50"), "--overlap from 0 to below it"),
        (("--papers", "39"), "--papers is 40 to 314"),
        (("--depth", "9"), "--depth 10 to 200"),
        (("--collection", "x"), "--collection needs --folder"),
        (("--tag", "x"), "need --query"),
        (("--query", "x", "--since", "May"), "'May' is no day"),
    ],
)
def test_silly_options_are_refused(
    lesson: ModuleType,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    message: str,
) -> None:
    with pytest.raises(SystemExit) as stopped:
        lesson.main(list(options))
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_a_folder_that_is_not_there(run_script: Callable, tmp_path: Path) -> None:
    uri = str(tmp_path / "none.db")
    done = run_script("--folder", str(tmp_path / "nowhere"), uri=uri)
    assert done.returncode == 2
    assert "is no folder" in done.stderr
    assert "Traceback" not in done.stderr
