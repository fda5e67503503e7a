"""What 05_full_text_search measures is what can be computed by hand from the words and vectors."""

import math
import re
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from common.connection import Milvus
from common.datasets import constitution, constitution_questions, paper_queries, papers
from common.embedding import cached, text_encoder
from common.korean import bigrams, morphemes

import numpy as np
import pytest

QUERIES = paper_queries()
DEPTH = 50
METHODS = ["dense", "BM25", "RRF", "weighted, fixed", "weighted, chosen"]

# Independent of common: BM25, fusion and measures written out once more.


def tokens(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def bm25_scores(documents: dict[int, list[str]], query: list[str]) -> dict[int, float]:
    """The score of each document with a word of the query; k1 = 1.2, b = 0.75."""
    mean = sum(map(len, documents.values())) / len(documents)
    counts = {found: Counter(words) for found, words in documents.items()}
    scores: dict[int, float] = {}
    for word in query:
        holding = sum(word in words for words in counts.values())
        idf = math.log(1 + (len(documents) - holding + 0.5) / (holding + 0.5))
        for found, words in counts.items():
            if word in words:
                length = 0.25 + 0.75 * len(documents[found]) / mean
                gain = idf * words[word] * 2.2 / (words[word] + 1.2 * length)
                scores[found] = scores.get(found, 0.0) + gain
    return scores


def best(scores: dict[int, float], limit: int = DEPTH) -> list[tuple[int, float]]:
    return sorted(scores.items(), key=lambda item: (-item[1], item[0]))[:limit]


def by_rank(*rankings: list[tuple[int, float]]) -> list[tuple[int, float]]:
    fused: dict[int, float] = {}
    for ranking in rankings:
        for rank, (found, _) in enumerate(ranking):
            fused[found] = fused.get(found, 0.0) + 1 / (61 + rank)
    return best(fused)


def by_weight(dense: list, bm25: list, weight: float) -> list[tuple[int, float]]:
    fused = {found: weight * (1 + cosine) / 2 for found, cosine in dense}
    for found, score in bm25:
        part = (1 - weight) * 2 / math.pi * math.atan(score)
        fused[found] = fused.get(found, 0.0) + part
    return best(fused)


def judged(ranking: list[tuple[int, float]], relevant: frozenset[int]) -> dict[str, float]:
    hits = [found in relevant for found, _ in ranking[:10]]
    gain = sum(1 / math.log2(rank + 2) for rank, hit in enumerate(hits) if hit)
    ideal = sum(1 / math.log2(rank + 2) for rank in range(min(10, len(relevant))))
    return {
        "nDCG@10": gain / ideal,
        "MRR@10": 1 / (hits.index(True) + 1) if True in hits else 0.0,
        "recall@10": sum(hits) / len(relevant),
        "hit@1": float(hits[:1] == [True]),
    }


def means(rankings: list, relevant: list[frozenset[int]], measure: str) -> float:
    pairs = zip(rankings, relevant, strict=True)
    return float(np.mean([judged(ranking, of)[measure] for ranking, of in pairs]))


@pytest.fixture(scope="module")
def corpus(lesson: ModuleType) -> object:
    return lesson.embed_papers()


@pytest.fixture(scope="module")
def by_hand(corpus: object) -> dict[str, list]:
    """Each method's answer to each judged query, without any Milvus."""
    documents = {paper.id: tokens(paper.title + ". " + paper.abstract) for paper in papers()}
    asked = corpus.encoder.encode_queries([query.query for query in QUERIES])
    cosines = asked.astype(np.float64) @ corpus.vectors.T.astype(np.float64)
    dense = [best(dict(zip(documents, row.tolist(), strict=True))) for row in cosines]
    bm25 = [best(bm25_scores(documents, tokens(query.query))) for query in QUERIES]
    pairs = list(zip(dense, bm25, strict=True))
    answers = {"dense": dense, "BM25": bm25, "RRF": [by_rank(*pair) for pair in pairs]}
    for weight in range(1, 10):
        answers[weight / 10] = [by_weight(*pair, weight / 10) for pair in pairs]
    return answers


def check_scores(found: list, expected: list) -> None:
    """Equal scores place by place; which of several equal ones comes first is left open."""
    for one, other in zip(found, expected, strict=True):
        assert [score for _, score in one] == pytest.approx([s for _, s in other], abs=2e-5)


def test_passes_as_a_process(
    passes_as_a_process: Callable[..., str], engine: str, tmp_path: Path
) -> None:
    printed = passes_as_a_process("--quick")
    titles = [line.split(".")[0] for line in printed.splitlines() if line.endswith("───")]
    assert [title for title in titles if title.isdigit()] == [str(n) for n in range(1, 8)]
    assert "60 queries, 314 papers" in printed
    assert "60 Korean questions, 130 articles" in printed
    assert "includes 0" in printed
    for chart in ("step02_05_papers", "step02_05_korean"):
        assert (tmp_path / "out" / f"{chart}.png").read_bytes().startswith(b"\x89PNG")
    not_run = set(re.findall(r"^not run: (.+?):", printed, re.MULTILINE))
    newer = {"PHRASE_MATCH", "run_analyzer", "lindera, Milvus' own Korean tokenizer"}
    if engine.endswith(".db"):
        assert not_run == newer
    elif "Instead bm25s does BM25" in printed:  # the local server
        old = {"BM25 and hybrid_search() of Milvus", "TEXT_MATCH", "SPARSE_FLOAT_VECTOR"}
        assert not_run == newer | old


def test_ctrl_c_leaves_nothing_behind(check_ctrl_c: Callable[[str], None]) -> None:
    check_ctrl_c("4.")  # its collections are there by then


def test_your_own_words(
    engine: str, run_script: Callable[..., subprocess.CompletedProcess]
) -> None:
    done = run_script("--query", "Masakhane")  # a word that no model knows
    assert done.returncode == 0, done.stderr
    assert "hybrid (RRF)" in done.stdout
    assert "3. Sparse" not in done.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--query", " "), "--query is blank"),
        (("--depth", "9"), "--depth is 10 to 1000"),
        (("--queries", "19"), "--queries 20 to 179"),
    ],
)
def test_silly_options_are_refused(
    run_script: Callable[..., subprocess.CompletedProcess], options: tuple, message: str
) -> None:
    done = run_script(*options, uri="http://localhost:1")  # where nothing listens
    assert done.returncode == 2
    assert message in done.stderr


def test_who_does_the_words(lesson: ModuleType, milvus: Milvus, corpus: object) -> None:
    docs = lesson.store(milvus, corpus)
    told = milvus.client.describe_collection(lesson.PAPERS)
    fields = [field["name"] for field in told["fields"]]
    if milvus.can("BM25"):
        assert docs.by_milvus
        assert fields == ["id", "dense", "text", "text_bm25"]
        (function,) = told["functions"]
        assert (function["input_field_names"], function["output_field_names"]) == (
            ["text"],
            ["text_bm25"],
        )
    else:  # it would accept the function and never run it
        assert not docs.by_milvus
        assert fields == ["id", "dense"]
        assert not told.get("functions")
    assert docs.texts["text"] == [f"{paper.title}. {paper.abstract}" for paper in papers()]


def test_searches_are_those_by_hand(
    lesson: ModuleType, milvus: Milvus, corpus: object, by_hand: dict[str, list]
) -> None:
    docs = lesson.store(milvus, corpus)
    texts = [query.query for query in QUERIES]
    asked = corpus.encoder.encode_queries(texts), texts
    check_scores(lesson.search_vectors(docs, asked[0], DEPTH), by_hand["dense"])
    check_scores(lesson.search_words(docs, texts, DEPTH), by_hand["BM25"])
    check_scores(lesson.search_both(docs, asked, DEPTH), by_hand["RRF"])
    check_scores(lesson.search_both(docs, asked, DEPTH, (0.3, 0.7)), by_hand[0.3])


def test_quality_is_that_by_hand(
    lesson: ModuleType, milvus: Milvus, corpus: object, by_hand: dict[str, list], tmp_path: Path
) -> None:
    docs = lesson.store(milvus, corpus)
    rated, chosen = lesson.compare(docs, corpus, QUERIES, DEPTH)
    assert list(rated) == METHODS
    of_weight = [by_hand[weight][row] for row, weight in enumerate(chosen)]
    expected = {**by_hand, "weighted, fixed": by_hand[0.5], "weighted, chosen": of_weight}
    relevant = [query.relevant for query in QUERIES]
    for method in METHODS:
        for measure, values in rated[method].items():
            by_arithmetic = means(expected[method], relevant, measure)
            assert np.mean(values) == pytest.approx(by_arithmetic, abs=5e-4), (method, measure)
    ndcg = {method: np.mean(values["nDCG@10"]) for method, values in rated.items()}
    assert ndcg["RRF"] >= ndcg["dense"] >= 0.47
    assert ndcg["weighted, chosen"] >= ndcg["dense"]
    # Each half of the queries has one weight: the best of the other half.
    per_query = {
        weight: [judged(by_hand[weight][row], of)["nDCG@10"] for row, of in enumerate(relevant)]
        for weight in lesson.WEIGHTS
    }
    order = np.random.default_rng(0).permutation(len(QUERIES))
    for half, other in ((order[:89], order[89:]), (order[89:], order[:89])):
        (weight,) = {chosen[row] for row in half}
        fitted = {w: np.mean(np.array(values)[other]) for w, values in per_query.items()}
        assert fitted[weight] >= max(fitted.values()) - 1e-3


def test_when_hybrid_helps(lesson: ModuleType, milvus: Milvus, corpus: object) -> None:
    docs = lesson.store(milvus, corpus)
    queries = QUERIES[::2]
    texts = [query.query for query in queries]
    asked = corpus.encoder.encode_queries(texts), texts
    answers = {
        "dense": lesson.search_vectors(docs, asked[0], DEPTH),
        "BM25": lesson.search_words(docs, texts, DEPTH),
        "RRF": lesson.search_both(docs, asked, DEPTH),
    }
    rated = lesson.rate(answers, queries, lesson.MEASURES)
    found = lesson.explain(docs, queries, rated)
    # Where no word of the query is known, BM25 has no hits and RRF is dense search.
    unknown = next(name for name in found if name.startswith("a."))
    assert found[unknown] == (0, 0, 0)
    assert len(found) >= 3


def test_filters_by_words(lesson: ModuleType, milvus: Milvus, corpus: object) -> None:
    found = lesson.match_words(lesson.store(milvus, corpus))
    assert len(found) == (len(lesson.MATCHES) if milvus.can("TEXT_MATCH") else 0)
    of_paper = {paper.id: set(tokens(f"{paper.title}. {paper.abstract}")) for paper in papers()}
    for condition, ids, meant in found:
        assert ids == meant, condition
        assert 0 < len(ids) < len(of_paper)
    if found:
        _, (_, either, _), (_, both, _) = found
        assert either == {i for i, words in of_paper.items() if words & {"knowledge", "graph"}}
        assert both == {i for i, words in of_paper.items() if {"knowledge", "graph"} <= words}


def test_own_sparse_vectors(
    lesson: ModuleType, milvus: Milvus, corpus: object, by_hand: dict[str, list]
) -> None:
    found, exact = lesson.bring_vectors(lesson.store(milvus, corpus), QUERIES)
    expected = [ranking[:10] for ranking in by_hand["BM25"] if ranking]
    check_scores(exact, expected)
    if milvus.can("SPARSE_FLOAT_VECTOR"):
        check_scores(found, expected)
        (row,) = milvus.client.query(lesson.OWN, filter="id == 7", output_fields=["weights"])
        paper = papers()[7]
        assert len(row["weights"]) == len(set(tokens(f"{paper.title}. {paper.abstract}")))
    else:
        assert found == []


def test_korean_words(lesson: ModuleType) -> None:
    forms = lesson.cut_korean()
    texts = [article.text for article in constitution()]
    assert forms["at spaces"]["국회는"] == sum("국회는" in text.split() for text in texts)
    assert len(forms["at spaces"]) > 10
    assert len(forms["standard"]) > 10
    assert forms["bigrams"] == {"국회": sum("국회" in text for text in texts)}
    assert set(forms["morphemes"]) == {"국회", "국회의원"}


def test_korean_quality_is_that_by_hand(lesson: ModuleType, milvus: Milvus) -> None:
    rated = lesson.search_korean(milvus, DEPTH)
    texts = {article.id: article.text for article in constitution()}
    questions = constitution_questions()
    relevant = [question.relevant for question in questions]

    def by_words(cut: Callable[[str], list[str]]) -> list:
        documents = {found: cut(text) for found, text in texts.items()}
        return [best(bm25_scores(documents, cut(question.query))) for question in questions]

    encoder = cached(text_encoder(language="ko"))
    vectors = encoder.encode_documents(list(texts.values()))
    cosines = encoder.encode_queries([question.query for question in questions]) @ vectors.T
    dense = [best(dict(zip(texts, row.tolist(), strict=True))) for row in cosines]
    expected = {
        "at spaces, bm25s": by_words(str.split),
        "standard": by_words(tokens),
        "bigrams": by_words(bigrams),
        "morphemes": by_words(morphemes),
        "dense": dense,
    }
    pairs = zip(dense, expected["morphemes"], strict=True)
    expected["morphemes + dense"] = [by_rank(*pair) for pair in pairs]
    for method, answers in expected.items():
        for measure, values in rated[method].items():
            by_arithmetic = means(answers, relevant, measure)
            assert np.mean(values) == pytest.approx(by_arithmetic, abs=5e-4), (method, measure)
    ndcg = {method: np.mean(values["nDCG@10"]) for method, values in rated.items()}
    # Particles glue to nouns: cutting them off more than doubles what is found.
    assert max(ndcg["standard"], ndcg["at spaces, bm25s"]) < 0.2
    for better in ("bigrams", "morphemes", "dense", "morphemes + dense"):
        assert ndcg[better] > 2 * ndcg["standard"]
    assert ndcg["morphemes + dense"] >= max(ndcg["morphemes"], ndcg["dense"])
    told = milvus.client.describe_collection(lesson.ARTICLES)
    assert len(told.get("functions") or []) == (3 if milvus.can("BM25") else 0)
