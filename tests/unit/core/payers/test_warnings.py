"""What is said at every start."""

from __future__ import annotations

import pytest

from bridge.core.payers.choice import Option
from bridge.core.payers.warnings import account_warnings

LOGIN, KEY = Option("mine", subscription=True), Option("team", subscription=False)


@pytest.mark.parametrize(
    ("options", "unmarked", "share", "beyond", "said"),
    [
        ([LOGIN], (), False, False, []),
        ([LOGIN], ("old", "older"), False, False, ["old, older"]),
        ([LOGIN], (), True, False, ["BRIDGE_SHARE_LOGIN=1"]),
        ([LOGIN], (), False, True, ["other machines"]),
        ([LOGIN, KEY], (), False, True, []),
        ([KEY], (), False, True, []),
        ([LOGIN], ("old",), True, True, ["BRIDGE_SHARE_LOGIN=1", "old", "other machines"]),
    ],
)
def test_each_has_its_sentence(
    options: list[Option], unmarked: tuple[str, ...], share: bool, beyond: bool, said: list[str]
) -> None:
    found = list(account_warnings(options, unmarked, share_login=share, beyond_loopback=beyond))
    assert len(found) == len(said)
    assert all(word in sentence for word, sentence in zip(said, found, strict=True))
