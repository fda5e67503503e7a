"""What the web demo says, in English and Korean."""

EXAMPLES = {
    "papers": {
        "en": ("teach a small model to imitate a large one", "vectors for the nodes of a graph"),
        "ko": ("대통령의 임기는 몇 년인가", "나라가 한 종교만 공식 종교로 삼을 수 있나요?"),
    },
    "questions": {
        "en": (
            "Does the client reconnect after a restart?",
            "How do I write a trigger in PostgreSQL?",
        ),
        "ko": ("벡터를 반정밀도로 바꿔도 되나요?", "PostgreSQL에서 트리거는 어떻게 작성하나요?"),
    },
    "pictures": {
        "en": ("a musical instrument", "something to drink"),
        "ko": ("자동차", "악기"),
    },
}
"""Queries to begin with, by page and language."""

_TEXTS = {
    "papers": ("Text search", "텍스트 검색"),
    "questions": ("Question answering", "질의응답"),
    "pictures": ("Image search", "이미지 검색"),
    "papers_about": (
        "{count:,} passages of papers about language and graphs.",
        "대한민국 헌법 조문에서 자른 구절 {count:,}개입니다.",
    ),
    "questions_about": (
        "{count:,} wordings of questions about Milvus. The best answer counts if it scores above "
        "{threshold:.3f}, chosen by {asked} test questions. Score: cosine + {weight} x BM25.",
        "Milvus에 관한 질문의 표현 {count:,}개입니다. 가장 좋은 답의 점수가 테스트 질문 "
        "{asked}개로 정한 임곗값 {threshold:.3f}보다 높아야 답으로 인정합니다. "
        "점수는 코사인 + {weight} x BM25입니다.",
    ),
    "pictures_about": (
        "{count:,} emoji. Words are compared with their labels, pictures with their pictures "
        "({model}).",
        "이모지 {count:,}개입니다. 단어는 이름표와, 그림은 그림과 비교합니다({model}).",
    ),
    "engine": ("Milvus", "Milvus"),
    "query": ("Your words", "검색어"),
    "ask": ("Your question", "질문"),
    "search": ("Search", "검색"),
    "try": ("For example", "예를 들면"),
    "filters": ("Filters", "필터"),
    "years": ("Published", "발표 연도"),
    "tags": ("Tags, any of", "태그(하나라도)"),
    "articles": ("Articles", "조문 번호"),
    "topics": ("Topics, any of", "주제(하나라도)"),
    "categories": ("Categories, any of", "분류(하나라도)"),
    "choose": ("Choose", "선택"),
    "upload": ("A picture of yours", "내 그림"),
    "like": ("Or one of these", "또는 이 가운데 하나"),
    "sent": ("Sent to Milvus", "Milvus에 보낸 요청"),
    "latency": (
        "encoding {encoding} · search {search} · {milvus}",
        "임베딩 {encoding} · 검색 {search} · {milvus}",
    ),
    "found": ("What was found, with scores", "찾은 답과 점수"),
    "nothing": (
        "Nothing fits these filters. Take one of them away.",
        "필터에 맞는 결과가 없습니다. 필터를 하나 빼 보세요.",
    ),
    "empty": ("Type something to search for.", "검색할 내용을 입력하세요."),
    "too_long": (
        "These are {count:,} characters; {most:,} is the most. A model reads the beginning only.",
        "{count:,}자입니다. {most:,}자까지만 됩니다. 모델은 어차피 앞부분만 읽습니다.",
    ),
    "no_letters": (
        "There is no letter and no digit in it: nothing to search for.",
        "글자도 숫자도 없어서 검색할 수 없습니다.",
    ),
    "korean": (
        "This looks Korean, and the model of this page knows English. Choose 한국어 at the side.",
        "",
    ),
    "picture": ("This picture cannot be used: {reason}", "이 그림은 쓸 수 없습니다: {reason}"),
    "no_milvus": (
        "Milvus did not answer as it should: {reason}. Search again to store everything anew.",
        "Milvus가 제대로 응답하지 않았습니다: {reason}. 다시 검색하면 모두 새로 저장합니다.",
    ),
    "connecting": ("connecting", "연결하는 중"),
    "loading": ("loading the model", "모델을 읽는 중"),
    "encoding": ("encoding {done:,} of {total:,}", "임베딩하는 중: {done:,}/{total:,}"),
    "storing": ("storing in Milvus", "Milvus에 저장하는 중"),
    "calibrating": ("choosing the threshold", "임곗값을 정하는 중"),
}


def words_of(language: str) -> dict[str, str]:
    """From the name of each text to the text in "en" or "ko"."""
    place = ("en", "ko").index(language)
    return {name: texts[place] for name, texts in _TEXTS.items()}
