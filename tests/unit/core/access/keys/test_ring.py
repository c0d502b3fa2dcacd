from __future__ import annotations

from dataclasses import replace

import pytest

from bridge.core.access.keys import Key, KeyRing, OldSecret
from bridge.core.access.keys.ring import rotated

A, B, C, D = ("a" * 64, "b" * 64, "c" * 64, "d" * 64)


def test_a_name_is_used_again_by_another_caller() -> None:
    ring = KeyRing().added(Key("phone", A)).added(Key("laptop", B))
    assert [key.caller for key in ring.keys] == ["phone", "laptop"]
    for caller in ("phone#2", "phone#3"):
        ring = ring.without("phone").added(Key("phone", C))
        assert ring.get("phone").caller == caller
    assert ring.get("laptop").caller == "laptop"
    with pytest.raises(ValueError, match="already exists"):
        ring.added(Key("phone", D))


def test_a_change_keeps_the_order_and_the_others() -> None:
    ring = KeyRing().added(Key("phone", A)).added(Key("laptop", B))
    changed = ring.changed("phone", lambda key: replace(key, expires_at=5))
    assert changed.keys == (replace(ring.get("phone"), expires_at=5), ring.get("laptop"))
    for change in (ring.without, ring.get, lambda name: ring.changed(name, lambda key: key)):
        with pytest.raises(KeyError):
            change("watch")


def test_a_new_secret_leaves_the_id_and_the_old_one_for_the_overlap() -> None:
    key = Key("phone", A)
    twice = rotated(rotated(key, B, 100, 50), C, 120, 60)
    assert (twice.id, twice.digest, twice.caller) == (key.id, C, "phone")
    assert twice.old_secrets == (OldSecret(A, 150), OldSecret(B, 180))
    assert set(twice.valid_digests(149)) == {A, B, C}
    assert set(twice.valid_digests(150)) == {B, C}
    # A shorter overlap also ends what was left of the earlier ones.
    assert rotated(twice, D, 130, 10).old_secrets == (
        OldSecret(A, 140),
        OldSecret(B, 140),
        OldSecret(C, 140),
    )
    # Whoever still sends the last one is told that it was replaced.
    assert rotated(twice, D, 130, 0).old_secrets == (OldSecret(C, 130),)


def test_an_expired_key_has_no_valid_secret() -> None:
    key = rotated(Key("phone", A, expires_at=200), B, 100, 500)
    assert set(key.valid_digests(199)) == {A, B}
    assert not set(key.valid_digests(200))
