"""The interface to a language model, against a small server that speaks its protocol."""

import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from common import generation
from common.generation import (
    ChatModel,
    GenerationError,
    Passage,
    configured_model,
    prompt,
    unfounded,
    write_answer,
)
from common.settings import Settings

import pytest

PASSAGES = [Passage(29, "There is no pool."), Passage(7, "Partitions have names.")]
HELLO = [{"role": "user", "content": "hello"}]


@dataclass
class Chat:
    """A server: what it answers next, and what it was asked."""

    url: str = ""
    status: int = 200
    body: bytes = b""
    kind: str = "application/json"
    hold: threading.Event | None = None
    asked: list[dict] = field(default_factory=list)
    headers: list[dict] = field(default_factory=list)

    def writes(self, text: object) -> None:
        usage = {"prompt_tokens": 11, "completion_tokens": 3}
        message = {"role": "assistant", "content": text}
        self.body = json.dumps({"choices": [{"message": message}], "usage": usage}).encode()


@pytest.fixture
def chat() -> Iterator[Chat]:
    state = Chat()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            state.asked.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            lower = {name.lower(): value for name, value in self.headers.items()}
            state.headers.append({"path": self.path, **lower})
            if state.hold:
                state.hold.wait(30)
            self.send_response(state.status)
            self.send_header("content-type", state.kind)
            self.send_header("content-length", str(len(state.body)))
            self.end_headers()
            self.wfile.write(state.body)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    state.url = f"http://127.0.0.1:{server.server_port}/v1"
    yield state
    if state.hold:
        state.hold.set()
    server.shutdown()
    server.server_close()


class TestComplete:
    def test_an_answer(self, chat: Chat) -> None:
        chat.writes(" No pool [29]. ")
        found = ChatModel(chat.url, "small", "secret").complete(HELLO, most_tokens=50)
        assert found.text == "No pool [29]."
        assert (found.prompt_tokens, found.completion_tokens) == (11, 3)
        assert found.seconds > 0
        (asked,) = chat.asked
        assert asked["model"] == "small"
        assert asked["messages"] == HELLO
        assert asked["max_tokens"] == 50
        assert chat.headers[0]["path"] == "/v1/chat/completions"
        assert chat.headers[0]["authorization"] == "Bearer secret"

    def test_a_server_that_counts_no_tokens(self, chat: Chat) -> None:
        chat.body = b'{"choices": [{"message": {"content": "yes"}}]}'
        found = ChatModel(chat.url, "small").complete(HELLO)
        assert (found.text, found.prompt_tokens) == ("yes", None)

    def test_a_key_for_another_server_stays_at_home(
        self, chat: Chat, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OPENAI_API_KEY", "of somebody else")
        chat.writes("yes")
        ChatModel(chat.url, "small").complete(HELLO)
        assert chat.headers[0]["authorization"] == "Bearer none"

    @pytest.mark.parametrize(
        ("status", "says"),
        [
            (401, r"refuses the key .*LLM_API_KEY"),
            (403, r"refuses the key"),
            (404, r"knows no model 'small' .*LLM_MODEL"),
            (429, r"failed: "),
            (500, r"failed: "),
        ],
    )
    def test_what_a_server_refuses(self, chat: Chat, status: int, says: str) -> None:
        chat.status, chat.body = status, b'{"error": {"message": "because"}}'
        with pytest.raises(GenerationError, match=says) as caught:
            ChatModel(chat.url, "small", "secret").complete(HELLO)
        assert caught.value.exit_code == 2
        assert chat.url in str(caught.value)
        assert "secret" not in str(caught.value)
        assert len(chat.asked) == 1  # not tried again behind the caller's back

    @pytest.mark.parametrize(
        "body",
        [
            b"<html>welcome</html>",
            b"{not json",
            b"\xff\xfe\x00",
            b"",
            b"[1, 2]",
            b'"text"',
            b"{}",
            b'{"choices": []}',
            b'{"choices": "x"}',
            b'{"choices": [{"message": null}]}',
        ],
    )
    def test_what_is_not_the_protocol(self, chat: Chat, body: bytes) -> None:
        chat.body = body
        with pytest.raises(GenerationError, match="is no chat completion"):
            ChatModel(chat.url, "small").complete(HELLO)

    @pytest.mark.parametrize("nothing", [None, "", " \n", 5])
    def test_an_empty_answer(self, chat: Chat, nothing: object) -> None:
        chat.writes(nothing)
        with pytest.raises(GenerationError, match="wrote nothing"):
            ChatModel(chat.url, "small").complete(HELLO)

    def test_a_server_that_takes_too_long(self, chat: Chat) -> None:
        chat.hold = threading.Event()
        with pytest.raises(GenerationError, match=r"did not answer within 0\.3 s.*LLM_TIMEOUT"):
            ChatModel(chat.url, "small", timeout=0.3).complete(HELLO)

    def test_nobody_there(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
        with pytest.raises(GenerationError, match=r"cannot be reached: .*LLM_BASE_URL"):
            ChatModel(url, "small").complete(HELLO)

    def test_an_address_that_is_none(self) -> None:
        with pytest.raises(GenerationError, match=r"cannot be reached: .*http://"):
            ChatModel("localhost/v1", "small").complete(HELLO)


class TestPrompt:
    def test_it_holds_the_rules_the_passages_and_the_question(self) -> None:
        system, user = prompt("Is there a pool?", PASSAGES, "en")
        assert user == {"role": "user", "content": "Is there a pool?"}
        assert system["role"] == "system"
        assert system["content"].endswith("\n\n[29] There is no pool.\n[7] Partitions have names.")
        assert "say exactly: I don't know." in system["content"]

    def test_the_rules_are_in_the_language_of_the_question(self) -> None:
        system, _ = prompt("풀이 있나요?", PASSAGES, "ko")
        assert "잘 모르겠습니다." in system["content"]
        with pytest.raises(ValueError, match="en, ko"):
            prompt("?", PASSAGES, "de")

    def test_passages_that_do_not_fit_are_left_out_whole(self) -> None:
        system, _ = prompt("?", PASSAGES, "en", most_characters=30)
        assert "[29] There is no pool." in system["content"]
        assert "Partitions" not in system["content"]
        system, _ = prompt("?", PASSAGES, "en", most_characters=5)
        assert system["content"].endswith("[29] There")

    def test_without_passages_there_is_no_prompt(self) -> None:
        with pytest.raises(ValueError, match="needs a passage"):
            prompt("?", [], "en")
        with pytest.raises(ValueError, match="room"):
            prompt("?", PASSAGES, "en", most_characters=0)


@pytest.mark.parametrize(
    ("text", "doubt"),
    [
        ("There is none [29].", ""),
        ("There is none [29], and names [7].", ""),
        ("I don't know.", ""),
        ("There is none.", "it cites no passage"),
        ("There is none [29] [30] [1].", "it cites passages that it was not given: [1, 30]"),
    ],
)
def test_an_answer_must_cite_what_it_was_given(text: str, doubt: str) -> None:
    assert unfounded(text, PASSAGES, "en") == doubt


@pytest.fixture
def configure(monkeypatch: pytest.MonkeyPatch):
    def use(**chosen: str) -> None:
        monkeypatch.setattr(generation, "settings", lambda: Settings(**chosen))

    return use


class TestWriteAnswer:
    def test_without_a_model_the_prompt_is_shown(self, configure, capsys) -> None:
        configure()
        assert configured_model() is None
        assert write_answer("Is there a pool?", PASSAGES, "en") == ""
        shown = capsys.readouterr().out
        assert "[29] There is no pool." in shown
        assert "user: Is there a pool?" in shown

    def test_with_a_model_its_answer_is_shown(self, configure, chat: Chat, capsys) -> None:
        configure(llm_base_url=chat.url, llm_model="small", llm_api_key="key")
        chat.writes("No [29].")
        assert write_answer("Is there a pool?", PASSAGES, "en") == "No [29]."
        shown = capsys.readouterr().out
        assert "small in " in shown
        assert "Do not trust it" not in shown
        assert chat.asked[0]["messages"] == prompt("Is there a pool?", PASSAGES, "en")

    def test_an_answer_without_ground_is_marked(self, configure, chat: Chat, capsys) -> None:
        configure(llm_base_url=chat.url, llm_model="small")
        chat.writes("Surely.")
        write_answer("Is there a pool?", PASSAGES, "en")
        assert "Do not trust it: it cites no passage." in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("chosen", "missing"),
        [({"llm_base_url": "http://x/v1"}, "LLM_MODEL"), ({"llm_model": "m"}, "LLM_BASE_URL")],
    )
    def test_half_a_setting(self, configure, chosen: dict, missing: str) -> None:
        configure(**chosen)
        with pytest.raises(GenerationError, match=f"{missing} is not set"):
            configured_model()
