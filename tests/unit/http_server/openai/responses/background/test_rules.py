"""A response in the background has to be stored, or nobody could have it."""

from __future__ import annotations

import pytest

from bridge.core.contract.errors import InvalidRequestError, UnsupportedError
from bridge.http_server.openai.responses.background.rules import Storage, storage_of
from bridge.http_server.openai.responses.wire import ResponsesRequest
from bridge.http_server.wire import Ignored


def asked(**parameters: bool) -> ResponsesRequest:
    return ResponsesRequest.model_validate({"input": "hi", **parameters})


@pytest.mark.parametrize(
    ("parameters", "storage"),
    [
        ({}, Storage.AT_ITS_END),
        ({"store": True}, Storage.AT_ITS_END),
        ({"store": False}, Storage.NONE),
        ({"store": False, "background": False}, Storage.NONE),
        ({"background": True}, Storage.FROM_ITS_START),
        ({"background": True, "store": True}, Storage.FROM_ITS_START),
    ],
)
def test_when_a_response_is_stored(parameters: dict[str, bool], storage: Storage) -> None:
    assert storage_of(asked(**parameters), Ignored(strict=True), keeps=True) is storage


def test_in_the_background_a_response_must_be_stored() -> None:
    with pytest.raises(InvalidRequestError, match="Omit 'store'") as error:
        storage_of(asked(background=True, store=False), Ignored(strict=False), keeps=True)
    assert error.value.field == "store"


def test_a_server_that_stores_nothing_has_no_background() -> None:
    with pytest.raises(UnsupportedError, match="BRIDGE_RESPONSES_DAYS") as error:
        storage_of(asked(background=True), Ignored(strict=False), keeps=False)
    assert error.value.field == "background"


def test_storing_without_a_store_is_named() -> None:
    ignored = Ignored(strict=False)
    assert storage_of(asked(store=True), ignored, keeps=False) is Storage.NONE
    assert ignored.names == ("store",)
