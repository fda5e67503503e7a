import dataclasses
import json
import shutil
from datetime import date

from common import datasets
from common.datasets import (
    DatasetError,
    constitution,
    constitution_questions,
    paper_queries,
    papers,
)

import pytest


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """A copy of the data that a test may break."""
    folder = tmp_path / "data"
    shutil.copytree(datasets.DATA_FOLDER, folder, copy_function=shutil.copyfile)
    monkeypatch.setattr(datasets, "DATA_FOLDER", folder)
    return folder


def change_line(path, number, **changes):
    lines = path.read_text(encoding="utf-8").splitlines()
    values = {**json.loads(lines[number - 1]), **changes}
    kept = {field: value for field, value in values.items() if value is not ...}
    lines[number - 1] = json.dumps(kept)
    path.write_text("\n".join(lines), encoding="utf-8")


class TestPapers:
    def test_all_are_there(self):
        found = papers()
        assert [paper.id for paper in found] == list(range(314))
        assert len({paper.arxiv for paper in found}) == 314

    def test_the_first_one(self):
        paper = papers()[0]
        assert paper.arxiv == "1805.04174"
        assert paper.title == "Joint Embedding of Words and Labels for Text Classification"
        assert paper.published == date(2018, 5, 10)
        assert paper.tags == ("Attention mechanism", "Label Embedding", "Text Classification")

    def test_the_text_is_title_and_abstract_and_nothing_else(self):
        for paper in papers():
            assert paper.text == paper.title + ". " + paper.abstract

    def test_the_text_does_not_change_with_the_tags(self):
        paper = papers()[0]
        marked = dataclasses.replace(paper, tags=("a tag that stands nowhere else",))
        assert marked.text == paper.text

    def test_callers_cannot_change_what_others_get(self):
        found = papers()
        with pytest.raises(dataclasses.FrozenInstanceError):
            found[0].title = "another"
        found.clear()
        assert len(papers()) == 314

    def test_the_file_is_read_once(self, copied):
        first = papers()
        (copied / "papers.jsonl").unlink()
        assert papers()[0] is first[0]


class TestPaperQueries:
    def test_counts(self):
        queries = paper_queries()
        assert len(queries) == 179
        assert sum(len(query.relevant) for query in queries) == 652

    def test_a_query_is_a_tag_and_its_papers_bear_it(self):
        tags = {paper.id: paper.tags for paper in papers()}
        for query in paper_queries():
            assert 2 <= len(query.relevant) <= 30
            assert {id for id, of_paper in tags.items() if query.query in of_paper} == (
                query.relevant
            )


class TestConstitution:
    def test_all_articles_are_there_in_order(self):
        articles = constitution()
        assert [article.id for article in articles] == list(range(1, 131))
        assert [article.article for article in articles] == [f"제{n}조" for n in range(1, 131)]
        assert articles[0].text.startswith("제1조 ① 대한민국은 민주공화국이다.")


class TestConstitutionQuestions:
    def test_counts(self):
        questions = constitution_questions()
        assert [question.id for question in questions] == list(range(1, 61))
        assert len({question.query for question in questions}) == 60
        assert sum(len(question.relevant) for question in questions) == 66

    def test_they_are_korean_questions_about_articles(self):
        known = {article.id for article in constitution()}
        for question in constitution_questions():
            assert question.query.endswith(("?", "죠?"))
            assert any("가" <= letter <= "힣" for letter in question.query)
            assert question.relevant <= known

    def test_they_are_asked_in_other_words(self):
        # Not copied: no three words in a row stand in an article that answers.
        texts = {article.id: article.text for article in constitution()}
        for question in constitution_questions():
            asked = question.query.split()
            for start in range(len(asked) - 2):
                phrase = " ".join(asked[start : start + 3])
                assert all(phrase not in texts[id] for id in question.relevant), phrase

    def test_one_of_them(self):
        question = constitution_questions()[45]
        assert question.query == "대통령을 두 번 할 수 있나요?"
        assert question.relevant == {70}


class TestBrokenFiles:
    def test_a_missing_file(self, copied):
        (copied / "papers.jsonl").unlink()
        with pytest.raises(DatasetError) as caught:
            papers()
        assert str(copied / "papers.jsonl") in str(caught.value)
        assert "git checkout -- common/data" in str(caught.value)

    def test_an_empty_file(self, copied):
        (copied / "constitution_ko.jsonl").write_text("")
        with pytest.raises(DatasetError, match=r"constitution_ko\.jsonl is empty"):
            constitution()

    def test_a_file_cut_in_the_middle_of_a_line(self, copied):
        path = copied / "papers.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines()
        path.write_text("\n".join([*lines[:9], lines[9][:100]]), encoding="utf-8")
        with pytest.raises(DatasetError, match=r"papers\.jsonl, line 10: .*(Unterminated|Expect)"):
            papers()

    def test_a_file_that_is_no_text(self, copied):
        (copied / "papers.jsonl").write_bytes(b"\xff\xfe\x00")
        with pytest.raises(DatasetError, match=r"papers\.jsonl cannot be read: .*decode"):
            papers()

    @pytest.mark.parametrize(
        ("line", "changes", "problem"),
        [
            (3, {"abstract": ...}, "line 3: the field 'abstract' is missing"),
            (4, {"abstract": ""}, "line 4: the field 'abstract' must be a filled str, not ''"),
            (5, {"title": None}, "line 5: the field 'title' must be a filled str, not None"),
            (6, {"id": "5"}, "line 6: the field 'id' must be a filled int, not '5'"),
            (7, {"published": "May 2018"}, "line 7: Invalid isoformat string: 'May 2018'"),
            (8, {"tags": "NLP"}, "line 8: the field 'tags' must be a filled list, not 'NLP'"),
            (9, {"tags": [1]}, "line 9: the field 'tags' must be a list of str"),
            (10, {"id": 0}, "line 10: the id 0 stands in an earlier line too"),
        ],
    )
    def test_a_broken_line_is_named(self, copied, line, changes, problem):
        change_line(copied / "papers.jsonl", line, **changes)
        with pytest.raises(DatasetError) as caught:
            papers()
        assert problem in str(caught.value)

    def test_a_line_that_is_no_object(self, copied):
        path = copied / "constitution_ko.jsonl"
        path.write_text("[1, 2]\n")
        with pytest.raises(DatasetError, match="line 1: the line is no JSON object"):
            constitution()

    def test_a_query_without_papers(self, copied):
        change_line(copied / "paper_queries.jsonl", 2, relevant=[])
        with pytest.raises(DatasetError, match="line 2: the query has no relevant papers"):
            paper_queries()

    def test_a_query_for_papers_that_are_not_there(self, copied):
        change_line(copied / "paper_queries.jsonl", 1, relevant=[1, 999])
        with pytest.raises(DatasetError, match=r"line 1: there are no papers with the ids \[999\]"):
            paper_queries()

    def test_a_question_about_an_article_that_is_not_there(self, copied):
        change_line(copied / "constitution_questions_ko.jsonl", 1, relevant=[131])
        with pytest.raises(DatasetError, match=r"there are no articles with the ids \[131\]"):
            constitution_questions()
