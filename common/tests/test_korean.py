from common.datasets import constitution, constitution_questions
from common.korean import bigrams, forms_of, morphemes, searchable
from common.sparse_text import words


class TestMorphemes:
    def test_particles_fall_off(self):
        forms = ("국회는 법률을 의결한다.", "국회의 법률", "국회에서 법률로")
        assert all({"국회", "법률"} <= set(morphemes(text)) for text in forms)
        assert not {"는", "을", "의", "에서"} & {m for text in forms for m in morphemes(text)}

    def test_a_verb_is_its_stem(self):
        assert "구하" in morphemes("변호사를 구하면")
        assert "구하" in morphemes("변호사를 구해 주나요")

    def test_numbers_and_other_scripts_stay(self):
        assert {"40", "ai"} <= set(morphemes("40세에 AI를 배운다"))

    def test_nothing_to_find(self):
        assert morphemes("?!") == []

    def test_the_standard_analyzer_keeps_them_whole(self):
        # They are joined by spaces and cut again: a sign or a capital in one would be lost.
        for text in (
            *(a.text for a in constitution()),
            *(q.query for q in constitution_questions()),
        ):
            cut = morphemes(text)
            assert words(" ".join(cut)) == cut


class TestBigrams:
    def test_within_words(self):
        assert bigrams("국회는 법률을, 못") == ["국회", "회는", "법률", "률을", "못"]

    def test_the_noun_is_in_all_its_forms(self):
        assert all("국회" in bigrams(text) for text in ("국회는", "국회의", "국회에서"))

    def test_nothing(self):
        assert bigrams(" .") == []


def test_searchable_cuts_every_text_alike():
    fields = searchable(["국회는 연다.", "못"])
    assert fields["standard"] == ["국회는 연다.", "못"]
    assert fields["bigrams"] == ["국회 회는 연다", "못"]
    assert fields["morphemes"][0].split()[0] == "국회"
    assert [len(texts) for texts in fields.values()] == [2, 2, 2]


def test_forms_of_counts_texts_and_not_tokens():
    texts = ["국회는 국회는 국회의", "국회는", "대통령은"]
    assert forms_of("국회", texts, str.split) == {"국회는": 2, "국회의": 1}
    assert forms_of("국회", texts, bigrams) == {"국회": 2}
