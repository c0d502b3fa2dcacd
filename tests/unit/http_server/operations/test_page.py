"""The files of the page, and the data it gets."""

from __future__ import annotations

import re

import pytest
from google.protobuf import json_format

from bridge.core.access.keys import KeyScope
from bridge.http_server.middleware.access import needed_for
from bridge.http_server.operations.page import FILES
from bridge.v1 import completion_pb2 as pb
from tests.support.fakes import FakeService
from tests.support.http.asgi import ask, build


@pytest.mark.parametrize("path", FILES)
async def test_its_files_allow_nothing_from_elsewhere(path: str) -> None:
    reply = await ask(build(FakeService()), "GET", path)

    assert reply.status == 200
    policy = reply.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert reply.headers["x-content-type-options"] == "nosniff"
    text = reply.body.decode()
    assert not re.search(r"(?:src|href)=\"(?:https?:)?//", text)
    assert not re.search(r"\son\w+=|style=", text)


async def test_its_examples_for_grpc_are_requests_of_the_api() -> None:
    script = (await ask(build(FakeService()), "GET", "/page.js")).body.decode()

    (given,) = re.findall(r"-d '(.+)' .*\n.*CompletionService/Complete", script)
    asked = json_format.Parse(given, pb.CompleteRequest())
    (written,) = re.findall(r"request = (pb\.CompleteRequest\(.+?)\$", script)
    message = pb.Message(role=pb.ROLE_USER, parts=[pb.Part(text="Hello")])
    assert eval(written, {"pb": pb, "message": message}) == asked
    assert [field.name for field, _ in asked.ListFields()] == ["completion"]


async def test_its_state_is_the_pools_and_names_no_words() -> None:
    reply = await ask(build(FakeService()), "GET", "/bridge/state")

    assert reply.status == 200
    assert reply.headers["cache-control"] == "no-store"
    assert reply.json["version"] == "1.2.3"
    assert reply.json["keys"] is False
    assert reply.json["recent"] == []
    pool = reply.json["pool"]
    assert (pool["status"], pool["pool_size"], pool["waiting"]) == ("ok", 3, 1)
    assert pool["plan"] is None


@pytest.mark.parametrize(
    ("path", "scope"),
    [
        ("/", None),
        ("/page.js", None),
        ("/usage.js", None),
        ("/page.css", None),
        ("/bridge/state", KeyScope.ADMIN),
        ("/bridge/", KeyScope.ADMIN),
        ("/v1/models", KeyScope.COMPLETE),
        ("//", KeyScope.COMPLETE),
        ("/anything", KeyScope.COMPLETE),
    ],
)
def test_only_the_empty_page_needs_no_key(path: str, scope: KeyScope | None) -> None:
    assert needed_for(path) is scope
