"""The rules of a request besides its messages."""

from __future__ import annotations

import pytest

from bridge.core.contract.errors import InvalidRequestError
from bridge.core.contract.request import CompletionRequest
from bridge.core.validation.settings import check_settings
from tests.support.harness import user


def asked(id: str) -> CompletionRequest:
    return CompletionRequest((user("Hello?"),), client_request_id=id)


@pytest.mark.parametrize("id", ["", "a", "order-1_2.3", "x" * 64])
def test_a_request_may_have_an_id_of_its_callers(id: str) -> None:
    check_settings(asked(id))


@pytest.mark.parametrize("id", ["x" * 65, "a b", "a/b", "ä", "a\n", "a:b"])
def test_an_id_in_another_format_is_refused(id: str) -> None:
    with pytest.raises(InvalidRequestError, match="1 to 64 letters") as error:
        check_settings(asked(id))
    assert error.value.field == "client_request_id"
