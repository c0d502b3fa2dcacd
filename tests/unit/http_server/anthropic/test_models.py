"""Pages of the list of models."""

from __future__ import annotations

import json
from typing import Any

import pytest
from anthropic.types import ModelInfo

from bridge.core.contract.errors import InvalidRequestError
from bridge.core.contract.service import Model
from bridge.http_server.anthropic.models import model_object, page_of

MODELS = [Model(name, f"claude-{name}") for name in "abcd"]


@pytest.mark.parametrize(
    ("limit", "before", "after", "ids", "more"),
    [
        (20, None, None, "abcd", False),
        (2, None, None, "ab", True),
        (2, None, "b", "cd", False),
        (1, None, "b", "c", True),
        (2, "d", None, "bc", True),
        (2, "b", None, "a", False),
        (2, None, "d", "", False),
    ],
)
def test_pages(limit: int, before: str | None, after: str | None, ids: str, more: bool) -> None:
    page: dict[str, Any] = page_of(MODELS, limit, before, after)

    assert "".join(model["id"] for model in page["data"]) == ids
    assert page["has_more"] is more
    assert (page["first_id"], page["last_id"]) == ((ids[0], ids[-1]) if ids else (None, None))


def test_an_unknown_place_to_start_from_is_named() -> None:
    with pytest.raises(InvalidRequestError) as caught:
        page_of(MODELS, 2, None, "z")
    assert caught.value.field == "after_id"


@pytest.mark.parametrize("model", [MODELS[0], Model("opus", "claude-opus-5", "Opus")])
def test_a_model_is_what_the_client_reads(model: Model) -> None:
    read = ModelInfo.model_validate_json(json.dumps(model_object(model)), strict=True)

    assert (read.id, read.display_name) == (model.id, model.display_name or model.id)
