"""Question answering: the right answer, or an honest "I don't know".

    python step03_use_cases/02_question_answering.py
    python step03_use_cases/02_question_answering.py --ask "Is there a connection pool?"
    python step03_use_cases/02_question_answering.py --faq my_faq.jsonl --ask "your own question"

You find the answer to a question among 120 in English and 120 in Korean, measure step by step what
makes it the right one, choose when to say nothing, keep a cache that understands paraphrases, and
build the prompt from which a language model writes the answer.

Needs: any Milvus (Milvus Lite by default); a language model only if LLM_BASE_URL names one
Read:  docs/en/step03_use_cases.md#question-answering
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from textwrap import shorten

from common.answer_reports import Cached, choose, report_thresholds, show_cache, show_quality
from common.answering import LANGUAGES, Answers, Faq, best_answers, id_of, is_korean, load_faq
from common.connection import connect
from common.datasets import AskedQuestion
from common.display import heading, run, say, table
from common.generation import UNKNOWN, Passage, write_answer
from common.loading import load_rows
from common.workspace import OURS, workspace

from pymilvus import DataType, MilvusClient

Loaded = tuple[Faq, list[AskedQuestion]]
STORED = {language: f"step03_answers_{language}" for language in LANGUAGES}
CACHES = {language: f"step03_answer_cache_{language}" for language in LANGUAGES}
QUICK_QUESTIONS, FEWEST = 40, 20  # to test with, of each kind
MOST_FALSE = 0.05  # of the questions without an answer: chosen by half of them, so with a margin
MOST_WRONG = 0.02  # of what is looked up in a cache
CANDIDATES, BEST_ANSWERS = 50, 3  # wordings searched for; answers shown, and for a language model
PARTS = ("question", "answer", "keywords")
TIMEOUT = 60.0  # seconds; without one, pymilvus repeats a failing call for minutes
# Session sees what this process inserted. A delete it may miss, so a changed answer needs Strong.
READ = {"output_fields": ["answer_id", "answer"], "consistency_level": "Strong", "timeout": TIMEOUT}
WAYS = {  # which wordings are searched, which version of their vectors, and do words count too
    "question": (("question",), "plain", False),
    "+ answer": (("question", "answer"), "plain", False),
    "+ keywords": (PARTS, "plain", False),
    "+ cleaned vectors": (PARTS, "cleaned", False),
    "+ words": (PARTS, "cleaned", True),
}
BEST, COMPARED = "+ words", ("+ keywords", "+ cleaned vectors", "+ words")
EXAMPLES = {
    "en": ("Does the client reconnect after a restart?", "How do I write a trigger in PostgreSQL?"),
    "ko": ("벡터를 반정밀도로 바꿔도 되나요?", "PostgreSQL에서 트리거는 어떻게 작성하나요?"),
}
POOL, POOL_QUESTION = 29, "Is there a connection pool?"
POOL_AGAIN = "Does pymilvus pool connections?"
NEW_ANSWER = "No, and none is needed: one gRPC channel carries any number of calls."


def create(client: MilvusClient, name: str, dimension: int) -> None:
    """Make a collection for wordings, or for cached questions, each with its answer."""
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("answer_id", DataType.INT64)
    for field, most in (("part", 16), ("version", 16), ("language", 2), ("answer", 65_535)):
        schema.add_field(field, DataType.VARCHAR, max_length=most)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dimension)
    index_params = client.prepare_index_params()
    index_params.add_index("vector", index_type="FLAT", metric_type="COSINE")
    options = {"consistency_level": "Session", "properties": OURS, "timeout": TIMEOUT}
    client.create_collection(name, schema=schema, index_params=index_params, **options)


def store(client: MilvusClient, faq: Faq) -> int:
    """Make the collection of a language and load its wordings, plain and cleaned: the rows."""
    create(client, STORED[faq.language], faq.encoder.dimension)
    rows = [*faq.rows("plain"), *faq.rows("cleaned")]
    return load_rows(client, STORED[faq.language], rows, timeout=TIMEOUT).rows


def search(
    client: MilvusClient, faq: Faq, questions: Sequence[str], way: str = BEST, name: str = ""
) -> list[list[tuple[int, float]]]:
    """For each question the ids of the answers found, best first, each with its score."""
    parts, version, use_words = WAYS[way]
    answers = client.search(
        name or STORED[faq.language],
        data=faq.encode(questions, version),
        filter=f'language == "{faq.language}" and version == "{version}" and part in {[*parts]}',
        limit=CANDIDATES,
        output_fields=["answer_id"],
        timeout=TIMEOUT,
    )
    words = [faq.words.scores(question) if use_words else {} for question in questions]
    return [best_answers(hits, found) for hits, found in zip(answers, words, strict=True)]


def read_answers(client: MilvusClient, faq: Faq, ids: Sequence[int]) -> dict[int, str]:
    """The answers with these ids, as they are stored now."""
    condition = f'answer_id in {[*ids]} and part == "question" and version == "cleaned"'
    rows = client.query(STORED[faq.language], filter=condition, **READ)
    return {row["answer_id"]: row["answer"] for row in rows}


def ask(
    client: MilvusClient, faq: Faq, question: str, threshold: float | None = None
) -> list[tuple[int, float]]:
    """Show and return the best answers; with a threshold say whether the first one counts."""
    best = search(client, faq, [question])[0][:BEST_ANSWERS]
    texts = read_answers(client, faq, [found for found, _ in best])
    rows = [(f"{score:.3f}", found, shorten(texts[found], 65)) for found, score in best]
    table(question, ("score", "id", "answer"), rows)
    found, score = best[0]
    if threshold is not None:
        verdict = texts[found] if score > threshold else UNKNOWN[faq.language]
        say(f"{verdict} (score {score:.3f}, threshold {threshold:.3f})")
    return best


def rate(
    client: MilvusClient, faq: Faq, asked: Sequence[AskedQuestion], english: Faq | None = None
) -> dict[str, Answers]:
    """Ask all test questions in every way, and with `english` by its model: the best answers."""
    questions, ways = [item.question for item in asked], {}
    if english:
        foreign = Faq.embed(faq.stored, faq.language, english.encoder, ("question",))
        load_rows(client, STORED["en"], foreign.rows("plain"), timeout=TIMEOUT)
        ranked = search(client, foreign, questions, "question", STORED["en"])
        ways[f"question, {english.encoder.name}"] = Answers.of(asked, ranked)
    for way in WAYS:
        ways[way] = Answers.of(asked, search(client, faq, questions, way))
    show_quality(LANGUAGES[faq.language], ways)
    return ways


def remember(client: MilvusClient, faq: Faq, questions: Sequence[str], ids: Sequence[int]) -> None:
    """Put answered questions into the cache; one that is there already is replaced."""
    texts = read_answers(client, faq, sorted(set(ids)))
    same = {"part": "question", "version": "cleaned", "language": faq.language}
    rows = [
        same | {"id": id_of(asked), "answer_id": found, "answer": texts[found], "vector": vector}
        for asked, found, vector in zip(questions, ids, faq.encode(questions), strict=True)
    ]
    client.upsert(CACHES[faq.language], rows, timeout=TIMEOUT)


def look_up(client: MilvusClient, faq: Faq, questions: Sequence[str]) -> list[tuple | None]:
    """For each question the id of the nearest cached answer, its score and the answer, or None."""
    found = client.search(CACHES[faq.language], data=faq.encode(questions), limit=1, **READ)
    near = [(hits[0]["entity"], hits[0]["distance"]) if hits else None for hits in found]
    return [hit and (hit[0]["answer_id"], hit[1], hit[0]["answer"]) for hit in near]


def change_answer(client: MilvusClient, faq: Faq, answer_id: int, text: str) -> None:
    """Store another answer, and forget what the cache took from the old one."""
    client.upsert(STORED[faq.language], faq.changed_rows(answer_id, text), timeout=TIMEOUT)
    client.delete(CACHES[faq.language], filter=f"answer_id == {answer_id}", timeout=TIMEOUT)


def ask_with_cache(
    client: MilvusClient, faq: Faq, question: str, threshold: float
) -> tuple[str, float | None, str]:
    """Answer from the cache or by a search: which it was, the nearest score cached, the answer."""
    (near,) = look_up(client, faq, [question])
    if near and near[1] > threshold:
        return "cache", near[1], near[2]
    found, _ = search(client, faq, [question])[0][0]
    remember(client, faq, [question], [found])
    return "search", near and near[1], read_answers(client, faq, [found])[found]


def use_cache(client: MilvusClient, faq: Faq, threshold: float) -> list[tuple]:
    """Ask one thing several times and change its answer in between; each step."""
    steps = []
    for answer in (faq.by_id[POOL].answer, NEW_ANSWER):
        change_answer(client, faq, POOL, answer)
        for question in (POOL_QUESTION, POOL_QUESTION, POOL_AGAIN):
            steps.append((question, *ask_with_cache(client, faq, question, threshold)))
    rows = [(asked, by, near, shorten(answer, 40)) for asked, by, near, answer in steps]
    columns = ("asked", "answered by", "nearest cached", "answer")
    table("One question asked three times; its answer changed; three times more", columns, rows)
    return steps


def fill_cache(client: MilvusClient, faq: Faq, asked: Sequence[AskedQuestion]) -> Cached:
    """Cache one paraphrase of each question with the right answer, and look up all the others."""
    create(client, CACHES[faq.language], faq.encoder.dimension)
    first = {item.answered_by: item for item in reversed(asked) if item.kind == "paraphrase"}
    remember(client, faq, [item.question for item in first.values()], [*first])
    others = [item for item in asked if item not in first.values()]
    near = look_up(client, faq, [item.question for item in others])
    return Cached(Answers.of(others, [[(found, score)] for found, score, _ in near]), len(first))


def generate(client: MilvusClient, faq: Faq, question: str, threshold: float | None) -> str:
    """Let a language model write the answer from what was found; empty where nothing was."""
    best = search(client, faq, [question])[0][:BEST_ANSWERS]
    if threshold is None:
        say("No --tests and no --threshold: nothing tells whether the best answer is one.")
    elif best[0][1] <= threshold:
        say(f"{question} Nothing scores above {threshold:.3f}, so no model is asked.")
        return ""
    texts = read_answers(client, faq, [found for found, _ in best])
    passages = [Passage(i, f"{faq.by_id[i].question} {texts[i]}") for i, _ in best]
    return write_answer(question, passages, faq.language)


def lesson(client: MilvusClient, loaded: dict[str, Loaded], most: float) -> None:
    """All sections after the encoding."""
    faqs, tests = ({name: pair[side] for name, pair in loaded.items()} for side in (0, 1))
    heading("2. Store and search")
    for language, faq in faqs.items():
        say(f"{LANGUAGES[language]}: {store(client, faq)} rows, each wording in two versions.")
        for question in EXAMPLES[language]:
            ask(client, faq, question)
    say("A search always finds something. Only the score can tell that it is no answer.")
    heading("3. How often is the best answer right?")
    english = {"ko": faqs.get("en")}
    rated = {name: rate(client, *loaded[name], english.get(name)) for name in loaded}
    heading("4. When to say: I don't know")
    middle = {name: report_thresholds(name, rated[name], COMPARED, most).middle for name in rated}
    heading("5. A cache that understands paraphrases")
    for language, faq in faqs.items():
        cached = fill_cache(client, faq, tests[language])
        threshold = show_cache(LANGUAGES[language], cached, MOST_WRONG)[0].middle
        if language == "en":
            use_cache(client, faq, threshold)
    heading("6. Let a language model write the answer")
    for language, faq in faqs.items():
        generate(client, faq, EXAMPLES[language][0], middle[language])


def answer_own(client: MilvusClient, loaded: Loaded, options: argparse.Namespace) -> None:
    """Answer a question of the user, and judge a file of the user by its test questions."""
    (faq, asked), threshold = loaded, None
    store(client, faq)
    if options.tests:
        ways, most = rate(client, faq, asked), options.most_false
        threshold = report_thresholds(faq.language, ways, COMPARED, most).middle
    elif asked:
        ranked = search(client, faq, [item.question for item in asked])
        threshold = choose(Answers.of(asked, ranked), options.most_false).middle
    threshold = options.threshold if options.threshold is not None else threshold
    if options.ask:
        ask(client, faq, options.ask, threshold)
        generate(client, faq, options.ask, threshold)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the options and refuse what makes no sense."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    add = parser.add_argument
    add("--ask", metavar="TEXT", help="answer this and stop (default: give the lesson)")
    add("--faq", type=Path, metavar="FILE", help="answer from your own JSON lines (default: ours)")
    add("--tests", type=Path, metavar="FILE", help="test questions for --faq (default: none)")
    add("--language", choices=LANGUAGES, help="(default: both; of --ask by its letters, else en)")
    add("--threshold", type=float, metavar="X", help="answer above it (default: calibrated)")
    share = "of false answers when calibrating (default: %(default)s)"
    add("--most-false", type=float, default=MOST_FALSE, metavar="SHARE", help=share)
    add("--questions", type=int, metavar="N", help="test questions of each kind (default: all)")
    add("--quick", action="store_true", help=f"--questions {QUICK_QUESTIONS}")
    options = parser.parse_args(arguments)
    number = options.questions
    for wrong, problem in (
        (number is not None and number < FEWEST, f"--questions is {FEWEST} or more"),
        (options.ask is not None and not options.ask.strip(), "--ask is blank"),
        (options.faq and not (options.ask or options.tests), "--faq wants --ask or --tests"),
        (options.tests and not options.faq, "--tests belongs to --faq"),
        (options.threshold is not None and not options.ask, "--threshold belongs to --ask"),
        (not 0 <= options.most_false < 1, "--most-false is 0 or more and below 1"),
    ):
        if wrong:
            parser.error(problem)
    options.questions = number or (QUICK_QUESTIONS if options.quick else None)
    return options


def main(arguments: list[str] | None = None) -> None:
    """Give the lesson, or answer your own question."""
    options = parse(arguments)
    alone = bool(options.ask or options.faq)
    language = options.language or ("ko" if is_korean(options.ask or "") else "en")
    chosen = [language] if alone or options.language else [*LANGUAGES]
    with connect() as milvus, workspace(milvus.client, *STORED.values(), *CACHES.values()):
        heading("1. Embed the questions and answers")
        files = options.faq, options.tests, options.questions
        loaded = {name: load_faq(name, *files) for name in chosen}
        if alone:
            answer_own(milvus.client, loaded[language], options)
        else:
            lesson(milvus.client, loaded, options.most_false)


if __name__ == "__main__":
    sys.exit(run(main))
