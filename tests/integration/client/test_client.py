"""Against a small server on a real socket, with scripted answers."""

from __future__ import annotations

import http.server
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from bridge.client import ChatError, Image, Question, Turn
from bridge.client.asking import Done, Text
from bridge.client.connection import ServerAddress
from bridge.client.grpc import request_of
from bridge.client.http import HttpClient, body_of


@dataclass
class Server:
    """What the next request is answered with, and what was asked."""

    status: int = 200
    content_type: str = "text/event-stream"
    pieces: list[bytes] = field(default_factory=list)
    cut: bool = False
    url: str = ""
    asked: list[tuple[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    go_on: threading.Event = field(default_factory=threading.Event)

    def says(self, *values: object, done: bool = True) -> None:
        """Answer with a stream of these values."""
        self.pieces = [f"data: {json.dumps(value)}\n\n".encode() for value in values]
        if done:
            self.pieces.append(b"data: [DONE]\n\n")


def stream_chat(
    url: str, prompt: str, *, api_key: str | None = None, **options: Any
) -> Iterator[str]:
    """The text of an answer, piece by piece."""
    question = Question((Turn("user", prompt),), **options)
    for part in HttpClient(ServerAddress(url), api_key).ask(question):
        if isinstance(part, Text):
            yield part.text


def list_models(url: str) -> list[str]:
    return [model["id"] for model in HttpClient(ServerAddress(url)).models()]


def delta(**content: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": content}]}


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def server() -> Iterator[Server]:
    answering = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(None)

        def do_POST(self) -> None:
            length = int(self.headers["content-length"])
            self._answer(json.loads(self.rfile.read(length)))

        def _answer(self, body: object) -> None:
            answering.asked.append((self.path, body))
            answering.headers.append({k.lower(): v for k, v in self.headers.items()})
            self.send_response(answering.status)
            self.send_header("content-type", answering.content_type)
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            for piece in answering.pieces:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                self.wfile.flush()
                answering.go_on.wait(60)
            if answering.cut:
                self.close_connection = True
            else:
                self.wfile.write(b"0\r\n\r\n")

        def log_message(self, format: str, *args: object) -> None:
            pass

    listening = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    answering.url = f"http://127.0.0.1:{listening.server_address[1]}"
    answering.go_on.set()
    thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
    thread.start()
    yield answering
    answering.go_on.set()
    listening.shutdown()
    thread.join(60)
    listening.server_close()


@pytest.fixture
def nobody() -> str:
    """An address where nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    return f"http://127.0.0.1:{port}"


def test_the_text_of_an_answer_comes_piece_by_piece_as_it_is_sent(server: Server) -> None:
    server.says(delta(content="Hel"), delta(content="lo"))
    server.go_on.clear()
    texts = stream_chat(server.url, "hi")
    assert next(texts) == "Hel"
    server.go_on.set()
    assert list(texts) == ["lo"]


def test_what_is_no_text_is_passed_over(server: Server) -> None:
    server.says(
        delta(role="assistant", content=""),
        delta(content="a"),
        delta(reasoning_content="hm"),
        delta(content=None),
        {"choices": [], "usage": {"total_tokens": 3}},
    )
    server.pieces.insert(1, b": keep-alive\n\n")
    assert list(stream_chat(server.url, "hi")) == ["a"]


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85"])
def test_a_text_with_a_line_separator_in_it_is_one_text(server: Server, separator: str) -> None:
    value = json.dumps(delta(content=f"a{separator}b"), ensure_ascii=False)
    server.pieces = [f"data: {value}\n\n".encode(), b"data: [DONE]\n\n"]
    assert list(stream_chat(server.url, "hi")) == [f"a{separator}b"]


def test_a_text_that_comes_in_pieces_of_bytes_is_put_together(server: Server) -> None:
    whole = f"data: {json.dumps(delta(content='Grüße'), ensure_ascii=False)}\n\n".encode()
    cut = whole.index(b"\xc3") + 1
    server.pieces = [whole[:cut], whole[cut:], b"data: [DONE]\n\n"]
    assert list(stream_chat(server.url, "hi")) == ["Grüße"]


def test_the_prompt_the_model_and_the_system_prompt_are_sent(server: Server) -> None:
    server.says()
    list(stream_chat(server.url, "hi", model="opus", system="Be brief."))
    ((path, body),) = server.asked
    assert path == "/v1/chat/completions"
    assert body == {
        "model": "opus",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "hi"},
        ],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_without_a_system_prompt_none_is_sent(server: Server) -> None:
    server.says()
    list(stream_chat(server.url, "hi"))
    assert [message["role"] for message in server.asked[0][1]["messages"]] == ["user"]


def test_an_error_of_the_server_is_shown_unchanged(server: Server) -> None:
    server.status = 404
    server.pieces = [json.dumps({"error": {"message": "No such model."}}).encode()]
    with pytest.raises(ChatError, match=r"^No such model\.$"):
        list(stream_chat(server.url, "hi"))
    with pytest.raises(ChatError, match=r"^No such model\.$"):
        list_models(server.url)


@pytest.mark.parametrize(
    "body", [b"<html>", b"[]", b'"text"', b"null", b'{"error": "text"}', b'{"error": {}}', b"\xff"]
)
def test_an_error_without_a_message_is_shown_by_its_status(server: Server, body: bytes) -> None:
    server.status = 502
    server.pieces = [body]
    with pytest.raises(ChatError, match="502"):
        list(stream_chat(server.url, "hi"))


def test_an_error_in_the_middle_of_the_stream_is_shown_after_the_text_before_it(
    server: Server,
) -> None:
    server.says(delta(content="half"), {"error": {"message": "Overloaded."}}, done=False)
    texts = stream_chat(server.url, "hi")
    assert next(texts) == "half"
    with pytest.raises(ChatError, match=r"^Overloaded\.$"):
        next(texts)


@pytest.mark.parametrize("cut", [True, False])
def test_a_stream_without_its_end_was_cut_off(server: Server, cut: bool) -> None:
    server.says(delta(content="half"), done=False)
    server.cut = cut
    texts = stream_chat(server.url, "hi")
    assert next(texts) == "half"
    with pytest.raises(ChatError):
        next(texts)


def test_a_server_that_is_not_a_bridge_is_reported_as_such(server: Server) -> None:
    server.pieces = [b"data: hello\n\n"]
    with pytest.raises(ChatError):
        list(stream_chat(server.url, "hi"))
    server.pieces = [b"<html>"]
    with pytest.raises(ChatError):
        list_models(server.url)
    server.pieces = [b"[]"]
    with pytest.raises(ChatError):
        list_models(server.url)


def test_an_unreachable_server_is_reported_with_a_remedy(nobody: str) -> None:
    with pytest.raises(ChatError, match="bridge serve"):
        list(stream_chat(nobody, "hi"))
    with pytest.raises(ChatError, match="bridge serve"):
        list_models(nobody)


@pytest.mark.parametrize("url", ["nonsense", "http://[", "http://a b/", "ftp://127.0.0.1"])
def test_an_invalid_address_is_reported(url: str) -> None:
    with pytest.raises(ChatError):
        list(stream_chat(url, "hi"))
    with pytest.raises(ChatError):
        list_models(url)


def test_the_names_of_the_models_are_listed_in_order(server: Server) -> None:
    server.pieces = [json.dumps({"data": [{"id": "opus"}, {"id": "haiku"}]}).encode()]
    assert list_models(server.url) == ["opus", "haiku"]
    assert server.asked == [("/v1/models", None)]


def test_the_end_has_the_model_the_reason_and_the_tokens(server: Server) -> None:
    finish = {"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]}
    usage = {"prompt_tokens": 3, "completion_tokens": 4}
    server.says(
        {"model": "claude-x", **delta(content="a")}, finish, {"choices": [], "usage": usage}
    )
    question = Question((Turn("user", "hi"),))
    *_, end = HttpClient(ServerAddress(server.url)).ask(question)
    assert end == Done("claude-x", "length", 3, 4)


def test_a_key_goes_with_the_request_and_one_that_is_none_is_not_sent(server: Server) -> None:
    server.says()
    list(stream_chat(server.url, "hi", api_key="sk-1"))
    assert server.headers[-1]["authorization"] == "Bearer sk-1"
    for key in ("sk\n-1", "schlüssel"):
        with pytest.raises(ChatError, match="key"):
            list(stream_chat(server.url, "hi", api_key=key))
    assert len(server.asked) == 1


QUESTION = Question(
    (
        Turn("user", "one", (Image("image/png", b"\x89PNG"), Image(url="https://a/b.png"))),
        Turn("assistant", "two"),
        Turn("user", "three"),
    ),
    "opus",
    "Be brief.",
    {"type": "object"},
)


def test_all_of_a_question_goes_into_the_body() -> None:
    body = body_of(QUESTION)
    system, first, second, third = body["messages"]
    assert system == {"role": "system", "content": "Be brief."}
    assert [part["type"] for part in first["content"]] == ["image_url", "image_url", "text"]
    assert first["content"][0]["image_url"]["url"] == "data:image/png;base64,iVBORw=="
    assert first["content"][1]["image_url"]["url"] == "https://a/b.png"
    assert second == {"role": "assistant", "content": "two"}
    assert third == {"role": "user", "content": "three"}
    assert body["response_format"]["json_schema"]["schema"] == {"type": "object"}


def test_all_of_a_question_goes_into_the_message() -> None:
    request = request_of(QUESTION)
    assert (request.completion.model, request.completion.system) == ("opus", "Be brief.")
    first, second, third = request.completion.messages
    assert [part.WhichOneof("part") for part in first.parts] == ["image", "image", "text"]
    assert first.parts[0].image.data.content == b"\x89PNG"
    assert first.parts[1].image.url == "https://a/b.png"
    assert (second.parts[0].text, third.parts[0].text) == ("two", "three")
    assert json.loads(request.completion.output_format.schema_json) == {"type": "object"}
    assert request_of(Question((Turn("user", "x"),))).completion.model == ""
