from __future__ import annotations

import re
from typing import Any

import pytest

from bridge.core.access.keys import Key, KeyLimits, KeyScope, digest_of, parse_given

LONG = "correct-horse-battery"
OTHER = "staple-staple-staple"


def given(name: str, secret: str, scope: KeyScope = KeyScope.COMPLETE) -> Key:
    return Key(name, digest_of(secret), scope)


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        (LONG, (given("key-1", LONG),)),
        (f" {LONG} , ,{OTHER},", (given("key-1", LONG), given("key-2", OTHER))),
        (f"laptop={LONG}", (given("laptop", LONG),)),
        (f"op:admin={LONG}", (given("op", LONG, KeyScope.ADMIN),)),
        (f"a={LONG}==", (given("a", f"{LONG}=="),)),
    ],
)
def test_keys_of_the_environment(text: str, keys: tuple[Key, ...]) -> None:
    assert parse_given(text) == keys


@pytest.mark.parametrize(
    "text",
    [
        "fifteen-letters",
        "laptop=short",
        f"laptop={LONG}, short",
        f"{'x' * 30}=",  # a secret that ends like that is taken for a name
        "tab\tin-the-middle-of-it",
        "schlüssel-der-lang-genug-ist",
        f"a={LONG},a={OTHER}",
        f"a={LONG},b={LONG}",
        " , ",
    ],
)
def test_what_is_no_key_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(ValueError, match="key") as raised:
        parse_given(text)
    said = str(raised.value)
    for part in re.findall(r"[^\s,=]{5,}", text):
        assert part not in said


@pytest.mark.parametrize("name", ["concurrent", "per_minute", "tokens_per_day"])
@pytest.mark.parametrize("value", [0, -1, True, 1.5, "1"])
def test_a_limit_is_a_whole_number_of_at_least_one(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name):
        KeyLimits(**{name: value})
