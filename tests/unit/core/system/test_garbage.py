from __future__ import annotations

import gc

from bridge.core.system import freeze_garbage


def test_what_exists_is_not_collected_any_more() -> None:
    before = gc.get_freeze_count()
    kept: list[list[int]] = [[] for _ in range(1_000)]
    freeze_garbage()
    assert gc.get_freeze_count() >= before + len(kept)
