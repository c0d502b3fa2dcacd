"""Every requirement has its tests, and they exist."""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest

from tests.integration.requirements import chat, messages, responses
from tests.integration.requirements.chat import Requirement
from tests.support.paths import ROOT

GROUPS = (
    chat.PARAMETERS,
    chat.MESSAGES,
    chat.REPLIES,
    chat.STREAMS,
    chat.ERRORS,
    chat.HEADERS,
    chat.MODELS,
    chat.COMPLETIONS,
    responses.PARAMETERS,
    responses.TOOLS,
    responses.INPUT,
    responses.REPLIES,
    responses.STREAMS,
    responses.COUNTING,
    responses.COMPACTION,
    responses.CONVERSATIONS,
    responses.STATE,
    messages.PARAMETERS,
    messages.INPUT,
    messages.REPLIES,
    messages.ERRORS,
    messages.CLAUDE_CODE,
)
REQUIREMENTS = {**chat.REQUIREMENTS, **responses.REQUIREMENTS, **messages.REQUIREMENTS}


@cache
def functions_of(path: str) -> frozenset[str]:
    """The names of the test functions of a file."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return frozenset(
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
    )


@pytest.mark.parametrize(("id", "requirement"), REQUIREMENTS.items(), ids=REQUIREMENTS)
def test_a_requirement_is_a_sentence_with_tests_that_exist(
    id: str, requirement: Requirement
) -> None:
    assert re.fullmatch(r"[a-z_]+(\.[a-z_]+)+", id)
    assert re.fullmatch(r"[A-Z`].+\.", requirement.says)
    assert requirement.tests
    assert len(set(requirement.tests)) == len(requirement.tests)
    for test in requirement.tests:
        path, _, name = test.partition("::")
        assert name in functions_of(path), test


def test_no_id_and_no_sentence_is_used_twice() -> None:
    assert sum(map(len, GROUPS)) == len(REQUIREMENTS)
    sentences = [requirement.says for requirement in REQUIREMENTS.values()]
    assert len(set(sentences)) == len(sentences)
