from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Hashable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bridge.core.access.authentication import ANYONE, Access, Grant, bearer
from bridge.core.access.keys import (
    KeyFile,
    KeyLimits,
    KeyRing,
    KeyScope,
    KeySource,
    KeyStoreError,
    parse_given,
)
from bridge.core.contract.errors import (
    AuthenticationError,
    KeysUnavailableError,
    PermissionDeniedError,
)

GIVEN = parse_given("laptop=laptop-secret-long,op:admin=admin-secret-long")


@pytest.fixture
def file(tmp_path: Path) -> KeyFile:
    return KeyFile(tmp_path / "state" / "keys.json")


@pytest.mark.parametrize(
    ("header", "secret"),
    [
        ("Bearer abc", "abc"),
        ("bearer abc", "abc"),
        ("BEARER   abc ", "abc"),
        (None, None),
        ("", None),
        ("Bearer", None),
        ("Bearer ", None),
        ("abc", None),
        ("Basic abc", None),
        ("Bearerabc", None),
    ],
)
def test_the_secret_stands_behind_the_scheme(header: str | None, secret: str | None) -> None:
    assert bearer(header) == secret


def test_without_keys_everyone_may_everything(file: KeyFile) -> None:
    access = Access(store=file)
    assert not access.required
    for secret in (None, "anything"):
        assert access.authenticate(secret, KeyScope.ADMIN) == ANYONE
    access.check(ANYONE, KeyScope.ADMIN)
    assert access.limits_of("") == KeyLimits()


def test_a_key_is_found_by_its_secret() -> None:
    access = Access(GIVEN)
    assert access.required
    assert access.authenticate("laptop-secret-long").name == "laptop"
    assert access.authenticate("admin-secret-long", KeyScope.ADMIN).name == "op"
    assert access.authenticate("admin-secret-long").name == "op"


@pytest.mark.parametrize("secret", [None, "", "x", "laptop", "laptop-secret-lon", "\udcff\ud800é"])
def test_a_missing_or_wrong_key_is_refused(secret: str | None) -> None:
    with pytest.raises(AuthenticationError) as raised:
        Access(GIVEN).authenticate(secret)
    assert not secret or len(secret) < 5 or secret not in raised.value.message


def test_a_scope_that_is_not_enough_is_refused() -> None:
    access = Access(GIVEN)
    with pytest.raises(PermissionDeniedError, match="admin"):
        access.authenticate("laptop-secret-long", KeyScope.ADMIN)
    grant = access.authenticate("laptop-secret-long")
    access.check(grant)
    with pytest.raises(PermissionDeniedError):
        access.check(grant, KeyScope.ADMIN)


def test_every_key_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[str] = []
    compare_digest = hmac.compare_digest

    def compare(one: Any, other: Any) -> bool:
        compared.append(one)
        return compare_digest(one, other)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    Access(GIVEN).authenticate("laptop-secret-long")
    assert compared == [key.digest for key in GIVEN]


def test_the_file_is_followed(file: KeyFile) -> None:
    revoked: list[str] = []
    access = Access(GIVEN, file, on_revoked=revoked.append)
    secret = file.add("phone", limits=KeyLimits(concurrent=3))
    grant = access.authenticate(secret)
    assert grant.name == "phone"
    assert access.limits_of("phone") == KeyLimits(concurrent=3)
    file.revoke("phone")
    for refused in (
        lambda: access.authenticate(secret),
        lambda: access.check(grant),
        lambda: access.limits_of("phone"),
    ):
        with pytest.raises(AuthenticationError):
            refused()
    assert revoked == ["phone"]
    assert access.authenticate("laptop-secret-long").name == "laptop"


def test_a_new_key_of_an_old_name_is_another(file: KeyFile) -> None:
    revoked: list[str] = []
    file.add("phone")
    access = Access(store=file, on_revoked=revoked.append)
    revoked.clear()
    old = access.keys["phone"]
    file.revoke("phone")
    secret = file.add("phone")
    with pytest.raises(AuthenticationError):
        access.check(Grant("phone", old.digest, old.id))
    assert revoked == ["phone"]
    grant = access.authenticate(secret)
    access.check(grant)
    # Nothing that is counted or stored for the one is the other's.
    assert grant.name == "phone#2"
    assert grant.id != old.id
    assert access.limits_of("phone#2") == KeyLimits()


def test_a_key_of_a_new_file_is_another_than_the_one_of_its_name(file: KeyFile) -> None:
    file.add("phone")
    access = Access(store=file)
    old = access.keys["phone"]
    file.path.unlink()
    secret = file.add("phone")
    with pytest.raises(AuthenticationError, match="has been revoked"):
        access.check(Grant("phone", old.digest, old.id))
    assert access.authenticate(secret).owner != Grant("phone", old.digest, old.id).owner


def test_an_expired_key_is_refused_and_only_its_holder_is_told(file: KeyFile) -> None:
    revoked: list[str] = []
    now = 1000.0
    secret = file.add("phone", expires_at=1060)
    access = Access(store=file, on_revoked=revoked.append, now=lambda: now)
    revoked.clear()
    grant = access.authenticate(secret)
    now = 1059.9
    access.check(grant)
    assert not revoked
    now = 1060.0
    for refused in (
        lambda: access.authenticate(secret),
        lambda: access.check(grant),
        # A request that still waits for a process asks this again.
        lambda: access.use_of("phone"),
    ):
        with pytest.raises(AuthenticationError, match=r"on 1970-01-01 00:17 UTC.*--expires"):
            refused()
    # What it holds open is given up, once.
    assert revoked == ["phone"]
    with pytest.raises(AuthenticationError, match=r"^Invalid API key\.$"):
        access.authenticate(f"{secret}x")
    file.edit("phone", lambda key: replace(key, expires_at=None))
    assert access.authenticate(secret) == grant
    access.check(grant)


def test_both_secrets_of_a_rotated_key_are_the_same_key(file: KeyFile) -> None:
    revoked: list[str] = []
    now = 1000.0
    old = file.add("phone")
    access = Access(store=file, on_revoked=revoked.append, now=lambda: now)
    revoked.clear()
    before = access.authenticate(old)
    new = file.rotate("phone", 60, now=lambda: now)
    after = access.authenticate(new)
    assert access.authenticate(old) == before
    assert (before.name, before.owner) == (after.name, after.owner)
    access.check(before)
    assert not revoked
    now = 1060.0
    for refused in (lambda: access.authenticate(old), lambda: access.check(before)):
        with pytest.raises(AuthenticationError, match=r"replaced.*bridge keys rotate phone"):
            refused()
    assert revoked == ["phone"]
    access.check(after)
    newest = file.rotate("phone", 0, now=lambda: now)
    with pytest.raises(AuthenticationError, match="replaced"):
        access.authenticate(new)
    assert access.authenticate(newest).owner == before.owner


def test_an_edited_key_goes_on(file: KeyFile) -> None:
    revoked: list[str] = []
    secret = file.add("phone", limits=KeyLimits(concurrent=3))
    access = Access(store=file, on_revoked=revoked.append)
    revoked.clear()
    grant = access.authenticate(secret)
    file.edit("phone", lambda key: replace(key, limits=KeyLimits(per_minute=5)))
    access.check(grant)
    assert access.limits_of("phone") == KeyLimits(per_minute=5)
    assert not revoked


async def test_the_last_use_is_stored_by_the_end_of_following(file: KeyFile) -> None:
    secret = file.add("phone")
    file.add("laptop")
    access = Access(GIVEN, store=file, now=lambda: 1000.0)
    async with access.following(seconds=3600):
        access.authenticate(secret)
        access.authenticate("admin-secret-long")
    assert file.used() == {file.ring().get("phone").id: 1000}


class _Noted(KeyFile):
    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.noted = asyncio.Event()

    async def note_used(self, times: Mapping[str, int]) -> None:
        await super().note_used(times)
        self.noted.set()


async def test_the_last_use_is_stored_while_following(tmp_path: Path) -> None:
    file = _Noted(tmp_path / "keys.json")
    access = Access(store=file, now=lambda: 1000.0)
    async with access.following(seconds=0.01):
        access.authenticate(file.add("phone"))
        await asyncio.wait_for(file.noted.wait(), 60)
        assert file.used()


class _Late(KeySource):
    """Keys that are not known until they have been looked for."""

    known = False
    place = "Nowhere"
    changes = 0

    def signature(self) -> Hashable | None:
        return self.changes or None

    def ring(self) -> KeyRing:
        return KeyRing((GIVEN[1],) * self.changes)

    async def note_used(self, times: Mapping[str, int]) -> None:
        pass

    async def look(self) -> None:
        self.known = True


@pytest.mark.parametrize("changes", [0, 1])
async def test_until_the_keys_are_known_only_given_ones_are_accepted(changes: int) -> None:
    source = _Late()
    source.changes = changes
    access = Access(GIVEN[:1], source) if changes else Access((), source)
    assert access.required
    with pytest.raises(KeysUnavailableError):
        access.authenticate("admin-secret-long")
    for refused in (
        lambda: access.authenticate(None),
        lambda: access.check(ANYONE),
        lambda: access.limits_of(""),
        lambda: access.use_of("op"),
    ):
        with pytest.raises(KeysUnavailableError):
            refused()
    assert not access.is_admin(ANYONE)
    if changes:
        access.check(access.authenticate("laptop-secret-long"))
    known = asyncio.Event()
    access.on_known = known.set
    async with access.following(seconds=0.01):
        await asyncio.wait_for(known.wait(), 60)
    access.refresh()
    assert access.required is bool(changes)
    assert access.authenticate("admin-secret-long").name == ("op" if changes else "")


def test_the_first_key_closes_the_api_to_those_without(file: KeyFile) -> None:
    revoked: list[str] = []
    access = Access(store=file, on_revoked=revoked.append)
    access.check(ANYONE)
    file.add("phone")
    with pytest.raises(AuthenticationError):
        access.check(ANYONE)
    with pytest.raises(AuthenticationError):
        access.limits_of("")
    # Conversations held open for callers without a key are ended.
    assert revoked == [""]


def test_a_file_that_breaks_leaves_the_keys_as_they_were(
    file: KeyFile, caplog: pytest.LogCaptureFixture
) -> None:
    secret = file.add("phone")
    access = Access(store=file)
    good = file.path.read_text()
    file.path.write_text('{"version": 1, "keys": [')
    for _ in range(3):
        assert access.authenticate(secret).name == "phone"
    (record,) = [r for r in caplog.records if r.levelno >= logging.ERROR]
    assert "stay in force" in record.getMessage()
    file.path.write_text(good.replace("phone", "phone2"))
    assert access.authenticate(secret).name == "phone2"


def test_a_file_that_goes_takes_its_keys_along_and_opens_nothing(file: KeyFile) -> None:
    secret = file.add("phone")
    access = Access(store=file)
    file.path.unlink()
    for given in (None, secret):
        with pytest.raises(AuthenticationError):
            access.authenticate(given)
    assert access.required
    assert access.authenticate(file.add("again")).name == "again"


def test_a_file_without_a_key_refuses_every_request(file: KeyFile) -> None:
    file.add("phone")
    file.revoke("phone")
    access = Access(store=file)
    assert access.required
    with pytest.raises(AuthenticationError):
        access.authenticate(None)


def test_a_broken_file_at_the_start_is_an_error(file: KeyFile) -> None:
    file.add("phone")
    file.path.write_text("")
    with pytest.raises(KeyStoreError):
        Access(store=file)


def test_a_given_key_goes_before_one_of_the_file(file: KeyFile) -> None:
    secret = file.add("laptop")
    access = Access(GIVEN, file)
    assert access.authenticate("laptop-secret-long").name == "laptop"
    with pytest.raises(AuthenticationError):
        access.authenticate(secret)


def test_a_temporary_key_is_good_within_its_block(file: KeyFile) -> None:
    revoked: list[str] = []
    access = Access(GIVEN, file, on_revoked=revoked.append)
    with access.temporary_key("tour") as secret:
        assert secret is not None
        file.add("phone")
        assert access.authenticate(secret).name == "(tour)"
        with pytest.raises(PermissionDeniedError):
            access.authenticate(secret, KeyScope.ADMIN)
    with pytest.raises(AuthenticationError):
        access.authenticate(secret)
    assert revoked == ["(tour)"]
    with Access().temporary_key("tour") as none:
        assert none is None


async def test_a_revoked_key_is_noticed_without_any_request(file: KeyFile) -> None:
    file.add("phone")
    noticed = asyncio.Event()
    access = Access(store=file)
    access.on_revoked = lambda name: noticed.set() if name == "phone" else None
    async with access.following(seconds=0.01):
        file.revoke("phone")
        await asyncio.wait_for(noticed.wait(), 60)


async def test_following_continues_after_a_fault(file: KeyFile) -> None:
    file.add("phone")
    file.add("watch")
    tried, noticed = asyncio.Event(), asyncio.Event()

    def fail(name: str) -> None:
        (noticed if name == "watch" else tried).set()
        raise RuntimeError(name)

    access = Access(store=file)
    access.on_revoked = fail
    async with access.following(seconds=0.01):
        file.revoke("phone")
        await asyncio.wait_for(tried.wait(), 60)
        file.revoke("watch")
        await asyncio.wait_for(noticed.wait(), 60)
