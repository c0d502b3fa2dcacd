from __future__ import annotations

import json
from typing import Any

import pytest

from bridge.core.access.keys import Key, KeyLimits, KeyOwner, KeyRing, KeyScope, KeyUse, OldSecret
from bridge.core.access.keys.text import NewerTextError, ring_of, text_of

A, B = "a" * 64, "b" * 64
KEY = Key("phone", A, KeyScope.ADMIN, KeyLimits(2, models=("opus",)), 12, KeyUse(KeyOwner.MINE))
FULL = Key(
    "laptop", B, use=KeyUse(KeyOwner.OTHER, ("team",), overflow=True), number=3, id="1" * 32,
    expires_at=99, old_secrets=(OldSecret(A, 50),),
)  # fmt: skip


def test_what_is_written_is_read() -> None:
    ring = KeyRing((KEY, FULL), {"watch": 2})
    assert ring_of(text_of(ring)) == ring


def entry() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text_of(KeyRing((FULL,))))["keys"][0]
    return found


def test_a_text_of_an_earlier_version_is_read() -> None:
    old = {
        "name": "phone",
        "sha256": A,
        "scope": "complete",
        "limits": {"concurrent": 2, "per_minute": None, "tokens_per_day": None, "models": []},
        "created_at": 12,
    }
    ring = ring_of(json.dumps({"version": 1, "keys": [old]}))
    assert ring.keys == (Key("phone", A, limits=KeyLimits(2), created_at=12),)
    # As it was before keys had ids: what is stored for it is still its own.
    assert ring.keys[0].id == A[:32]


def test_only_keys_that_expire_shut_out_earlier_versions() -> None:
    assert json.loads(text_of(KeyRing((KEY,))))["version"] == 1
    assert json.loads(text_of(KeyRing((KEY, FULL))))["version"] == 2


def test_what_a_newer_version_adds_is_kept() -> None:
    content = json.loads(text_of(KeyRing((KEY,))))
    content["later"] = {"a": 1}
    content["keys"][0]["colour"] = "red"
    ring = ring_of(json.dumps(content))
    assert ring.get("phone").unknown == {"colour": "red"}
    written = json.loads(text_of(ring.added(Key("watch", B))))
    assert written["later"] == {"a": 1}
    assert written["keys"][0] == content["keys"][0]


def test_what_must_not_be_ignored_is_refused() -> None:
    with pytest.raises(NewerTextError, match=r"format 3.*up to 2"):
        ring_of(json.dumps({"version": 3, "keys": []}))
    limited = entry() | {"limits": {"models": [], "per_hour": 3}}
    with pytest.raises(NewerTextError, match="the limit per_hour"):
        ring_of(json.dumps({"version": 1, "keys": [limited]}))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", "short"),
        ("id", None),
        ("number", 0),
        ("number", True),
        ("expires_at", "soon"),
        ("expires_at", 1.5),
        ("old_secrets", [{"sha256": "x", "until": 1}]),
        ("old_secrets", [{"sha256": A}]),
        ("old_secrets", 7),
        ("owner", "someone"),
        ("payers", "team"),
        ("overflow", 1),
    ],
)
def test_a_broken_field_is_refused(field: str, value: object) -> None:
    assert ring_of(json.dumps({"version": 2, "keys": [entry()]})).keys == (FULL,)
    with pytest.raises((ValueError, TypeError, KeyError)):
        ring_of(json.dumps({"version": 2, "keys": [entry() | {field: value}]}))
