"""Printing that nothing waits for."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import closing

import pytest

from bridge.cli import background
from bridge.cli.background import BackgroundHandler, BackgroundWriter
from tests.support.harness import PATIENCE


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)


def rest(pipe: tuple[int, int]) -> bytes:
    """All that was written; nothing more can be."""
    reader, writer = pipe
    os.close(writer)
    with open(reader, "rb", closefd=False) as file:
        return file.read()


def test_what_is_printed_comes_in_order_and_whole_before_the_end(pipe: tuple[int, int]) -> None:
    with closing(BackgroundWriter(pipe[1])) as out:
        out.write("one ")
        out.line("two \N{SNOWMAN}")
        out.line("\ud800")
    assert rest(pipe) == "one two \N{SNOWMAN}\n?\n".encode()


def test_lines_that_are_not_read_are_lost_and_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(background, "CLOSE_SECONDS", 0.01)
    monkeypatch.setattr(background, "MAX_WAITING", 5)
    reader, writer = os.pipe()
    out = BackgroundWriter(writer)
    # Each is more than a pipe holds.
    for number in range(20):
        out.line(f"{number:06} " + "x" * 100_000)
    out.close()
    with open(reader, "rb") as file:
        assert file.readline().startswith(b"000000 ")
        while not (line := file.readline()).startswith(b"("):
            pass
    assert b"lines dropped" in line
    # What is left has no reader any more, so that it holds up nothing.
    monkeypatch.setattr(background, "CLOSE_SECONDS", PATIENCE)
    out.close()
    os.close(writer)


def test_a_record_that_cannot_be_formatted_raises_nothing(pipe: tuple[int, int]) -> None:
    with closing(BackgroundWriter(pipe[1])) as err:
        handler = BackgroundHandler(err)
        handler.emit(logging.LogRecord("x", logging.INFO, "here.py", 3, "%d", ("secret",), None))
    assert rest(pipe) == b"log record could not be formatted (here.py:3)\n"
