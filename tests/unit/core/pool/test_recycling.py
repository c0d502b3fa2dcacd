from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import Any

import pytest

from bridge.core.pool.recycling import Recycling, resident_bytes


@dataclass
class Served:
    """What is looked at of a session; its process is this one."""

    answers: int = 0
    out_of_tool_names: bool = False
    pid: int = os.getpid()


def served(**how: Any) -> Any:
    return Served(**how)


def test_after_so_many_answers_it_is_due() -> None:
    recycling = Recycling(answers=3, memory_bytes=sys.maxsize)
    assert [recycling.due(served(answers=count)) for count in (2, 3, 4)] == [False, True, True]


def test_without_another_name_for_tools_it_is_due() -> None:
    assert Recycling(memory_bytes=sys.maxsize).due(served(out_of_tool_names=True))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc")
def test_with_too_much_memory_it_is_due_and_with_far_too_much_it_is_ended() -> None:
    memory = resident_bytes(os.getpid())
    assert memory is not None
    assert 2**20 < memory < 2**40
    large = Recycling(memory_bytes=memory // 2, runaway_bytes=memory * 100)
    assert (large.due(served()), large.runaway(served())) == (True, False)
    assert Recycling(runaway_bytes=memory // 2).runaway(served())


def test_a_process_that_is_gone_has_no_memory() -> None:
    assert resident_bytes(2**22 + 1) is None
    assert not Recycling().runaway(served(pid=2**22 + 1))
