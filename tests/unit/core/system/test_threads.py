from __future__ import annotations

import threading

import pytest

from bridge.core.system import off_loop


@pytest.mark.parametrize("large", [True, False])
async def test_what_is_large_is_done_in_a_thread(large: bool) -> None:
    def work(number: int, *, more: int) -> tuple[int, threading.Thread]:
        return number + more, threading.current_thread()

    total, thread = await off_loop(large, work, 1, more=2)
    assert total == 3
    assert (thread is threading.current_thread()) is not large


async def test_what_it_raises_is_raised() -> None:
    def work() -> None:
        raise LookupError

    with pytest.raises(LookupError):
        await off_loop(True, work)
