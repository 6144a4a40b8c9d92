"""A service's host starts it once under an issuer of the host's own, changes what it keeps, and goes back."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import msgspec
import pytest

from kluis.enclave.store.model import Storage, Writing
from kluis.errors import PolicyError
from kluis.formats.kluis import vouched
from kluis.services.attestation.app import service as attestation
from kluis.services.attestation.engine import Engine
from kluis.services.attestation.tokens.settings_digest import digest
from kluis.services.issuers import canonical, fix
from kluis.services.keyvault.settings import Settings as VaultSettings
from kluis.services.keyvault.vault.keys import NAMES
from kluis.services.keyvault.vault.vault import Rules, start
from kluis.services.provisioning.app import Settings
from kluis.services.provisioning.app import service as provisioning
from kluis.services.web import Bearer
from kluis.testing.plugin import storage
from tests.services.attestation.world import settings_of
from tests.services.web.issuer import NOW, FixedClock, TokenMaker

__all__ = ["storage"]

T = TypeVar("T")
OWNER, HOST = TokenMaker(), TokenMaker(key=1)
FIXED = (
    r"^issuer: want https://issuer\.example/tenant with its keys, for https://[a-z.:/, ]+,"
    r" which was fixed with the first start, got "
)


def attest(storage: Storage, maker: TokenMaker | None, said: list[bytes], **changed: Any) -> None:
    """Start an attestation service."""
    issuer = None if maker is None else maker.issuer()
    engine = Engine(settings_of(**changed), storage, lambda payload: said.append(payload), None, issuer)
    engine.ready(NOW)


def provision(storage: Storage, maker: TokenMaker | None, changing: bool = False) -> None:
    """Start a provisioning service."""
    issuer = None if maker is None else maker.issuer()
    settings = Settings(issuer=issuer, insecure_changing_issuer=changing)
    provisioning(settings, storage, FixedClock(NOW))


@pytest.mark.parametrize("other", [HOST, None])
def test_an_attestation_service_keeps_its_issuer(storage: Storage, other: TokenMaker | None) -> None:
    """Policies of the first issuer's callers cannot be replaced by another's, nor with the flag."""
    said: list[bytes] = []
    attest(storage, OWNER, said)
    with pytest.raises(PolicyError, match=FIXED):
        attest(storage, other, said)
    with pytest.raises(PolicyError, match=FIXED):
        attest(storage, other, said, insecure_changing_issuer=True)
    attest(storage, OWNER, said)
    assert len({vouched.read_statement(each).settings for each in said}) == 1


def test_one_that_may_change_it_says_so_in_its_evidence(storage: Storage) -> None:
    """With the setting any issuer is taken, and the digest in the signing key's evidence is another."""
    said: list[bytes] = []
    attest(storage, OWNER, said, insecure_changing_issuer=True)
    attest(storage, HOST, said, insecure_changing_issuer=True)
    with pytest.raises(PolicyError, match=r"^issuer: want any \(insecure_changing_issuer\), "):
        attest(storage, OWNER, said)
    fixed = digest(settings_of(), canonical(OWNER.issuer(), changing=False))
    loose = digest(settings_of(insecure_changing_issuer=True), canonical(None, changing=True))
    assert {vouched.read_statement(each).settings for each in said} == {loose}
    assert loose != fixed


@pytest.mark.parametrize("other", [HOST, None])
def test_a_provisioning_service_keeps_its_issuer(storage: Storage, other: TokenMaker | None) -> None:
    """Platforms are certified and revoked by callers of the first issuer only."""
    provision(storage, OWNER)
    with pytest.raises(PolicyError, match=FIXED):
        provision(storage, other)
    with pytest.raises(PolicyError, match=FIXED):
        provision(storage, other, changing=True)
    provision(storage, OWNER)


def test_the_audiences_are_kept_too(storage: Storage) -> None:
    """A token that the same issuer made for a service of the host's own counts for nothing, at no start."""
    mine = OWNER.issuer()
    mine = msgspec.structs.replace(mine, audiences=(*mine.audiences, "https://other.example"))
    other = msgspec.structs.replace(mine, audiences=(*mine.audiences, "https://host.example"))
    Engine(settings_of(), storage, lambda _: None, None, mine)
    with pytest.raises(PolicyError, match=FIXED):
        Engine(settings_of(), storage, lambda _: None, None, other)
    reordered = msgspec.structs.replace(mine, audiences=mine.audiences[::-1])
    Engine(settings_of(), storage, lambda _: None, None, reordered)


def test_a_provisioning_service_keeps_its_audiences(storage: Storage) -> None:
    """Likewise."""
    mine = OWNER.issuer()
    other = msgspec.structs.replace(mine, audiences=("https://host.example",))
    provisioning(Settings(issuer=mine), storage, FixedClock(NOW))
    with pytest.raises(PolicyError, match=FIXED):
        provisioning(Settings(issuer=other), storage, FixedClock(NOW))


def test_a_whole_attestation_service_keeps_the_issuer_of_its_bearers(storage: Storage) -> None:
    """What is fixed is the issuer whose tokens the service checks."""

    def begin(maker: TokenMaker | None) -> None:
        bearer = None if maker is None else Bearer(maker.issuer())
        attestation(settings_of(), storage, FixedClock(NOW), bearer, vouch=lambda _: None, ask=None)

    begin(OWNER)
    for other in (HOST, None):
        with pytest.raises(PolicyError, match=FIXED):
            begin(other)
    begin(OWNER)


@pytest.mark.parametrize("changing", [False, True])
def test_a_service_of_nobody_stays_so(storage: Storage, changing: bool) -> None:
    """A first start without an issuer leaves no place for one, nor is it a start under any."""
    provision(storage, None)
    with pytest.raises(PolicyError, match=r"^issuer: want none, which was fixed with the first start, got "):
        provision(storage, HOST, changing=changing)
    provision(storage, None)


def test_a_provisioning_service_whose_issuer_may_change_stays_so(storage: Storage) -> None:
    """Its store is marked: no later start passes it off as one that was fixed."""
    provision(storage, OWNER, changing=True)
    provision(storage, HOST, changing=True)
    with pytest.raises(PolicyError, match=r"^issuer: want any \(insecure_changing_issuer\), "):
        provision(storage, OWNER)


class Overtaken(Storage):
    """A store in which another start fixed its issuer after this one had looked."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.rollback = storage.rollback

    def get(self, table: str, key: str) -> bytes | None:
        return None

    def scan(self, table: str, index: str = "", *, after: str = "") -> Iterator[tuple[str, bytes]]:
        return self._storage.scan(table, index, after=after)

    def update(self, work: Callable[[Writing], T], *meanwhile: Callable[[], None]) -> T:
        return self._storage.update(work, *meanwhile)


def test_of_two_first_starts_one_fixes_the_issuer(storage: Storage) -> None:
    """The later one is refused, and does not replace the earlier one's."""
    mine = canonical(OWNER.issuer(), changing=False)
    fix(storage, mine)
    with pytest.raises(PolicyError, match=FIXED):
        fix(Overtaken(storage), canonical(HOST.issuer(), changing=False))
    fix(Overtaken(storage), mine)
    fix(storage, mine)


@pytest.mark.parametrize("changing", [False, True])
def test_a_vault_keeps_what_its_settings_fix(storage: Storage, changing: bool) -> None:
    """The issuer, once it has a key; or that it may change, which no later start undoes."""

    def begin(maker: TokenMaker, changing: bool) -> None:
        settings = VaultSettings(
            issuer=maker.issuer(),
            authorization="https://issuer.example",
            resource="https://vault.example",
            insecure_changing_issuer=changing,
        )
        start(storage, Rules(), b"[]", settings.pinned_issuer(), 0)

    begin(OWNER, changing)
    storage.update(lambda store: store.put(NAMES, "key", b"any"))
    begin(OWNER, changing)
    with pytest.raises(PolicyError) if not changing else contextlib.nullcontext():
        begin(HOST, changing)
    with pytest.raises(PolicyError, match=r"^issuer: want "):
        begin(OWNER, not changing)
