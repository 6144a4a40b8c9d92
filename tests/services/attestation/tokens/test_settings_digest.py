"""The digest of settings: the same for the same meaning, another for another."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from cryptography import x509 as certificates

from kluis.formats import x509
from kluis.formats.kluis import vouched
from kluis.services.attestation.settings import AttestationSettings, Compliance, Root
from kluis.services.attestation.tokens.settings_digest import LEFT_OUT, digest
from kluis.services.attestation.tokens.signing import SigningKeys
from kluis.services.issuers import CHANGING, canonical
from kluis.services.web import Issuer
from tests.services.web.issuer import NOW

PLAIN = AttestationSettings(url="https://localhost:8443")
ISSUER = canonical(Issuer("https://issuer.example", ("https://service.example",), "{}"), changing=False)
ONE, TWO = bytes(48), bytes([1]) * 48


def changed(**members: Any) -> bytes:
    """The digest, with some members changed."""
    return digest(msgspec.structs.replace(PLAIN, **members), ISSUER)


@pytest.mark.parametrize(
    "members",
    [
        {"url": "https://other.example"},
        {"roots": (Root(b"pem"),)},
        {"shipped_roots": False, "roots": (Root(b"pem"),)},
        {"compliance": Compliance(cvm_measurements=frozenset({ONE}))},
        {"insecure_accept_unprotected": True},
        {"insecure_changing_issuer": True},
        {"tpm_issuers": (b"der",)},
        {"secure_boot_variables": {"PK": frozenset({bytes(32)})}},
    ],
)
def test_what_its_word_depends_on(members: dict[str, Any]) -> None:
    """Each setting that changes what is said of evidence changes the digest."""
    assert changed(**members) != digest(PLAIN, ISSUER)


def test_every_member_counts_but_those_that_are_named() -> None:
    """A new setting counts, unless it is listed as not counting."""
    assert set(PLAIN.__struct_fields__) >= LEFT_OUT
    assert changed(location="elsewhere", collateral=(b"{}",)) == digest(PLAIN, ISSUER)
    assert changed(deprecated_names=True) != digest(PLAIN, ISSUER)


@pytest.mark.parametrize(
    "issuer",
    [
        Issuer("https://other.example", ("https://service.example",), "{}"),
        Issuer("https://issuer.example", ("https://other.example",), "{}"),
        Issuer("https://issuer.example", ("https://service.example",), '{"keys":[]}'),
        None,
    ],
)
def test_who_decides_who_may_change_a_policy(issuer: Issuer | None) -> None:
    """Another issuer, other keys of it, or other audiences: another digest."""
    assert digest(PLAIN, canonical(issuer, changing=False)) != digest(PLAIN, ISSUER)
    assert digest(PLAIN, canonical(issuer, changing=True)) == digest(PLAIN, b'"' + CHANGING.encode() + b'"')


def test_sets_have_no_order() -> None:
    """Two sets with the same members are the same."""
    one, other = frozenset([ONE, TWO]), frozenset([TWO, ONE])
    assert changed(compliance=Compliance(cvm_id_keys=one)) == changed(
        compliance=Compliance(cvm_id_keys=other)
    )


def test_a_key_signs_under_one_set_of_settings(storage: Any) -> None:
    """Other settings, another key, whose evidence names them; back again, the first."""
    said: list[bytes] = []

    def keys(settings: AttestationSettings) -> SigningKeys:
        return SigningKeys(settings, storage, lambda payload: said.append(payload), ISSUER)

    loose = msgspec.structs.replace(PLAIN, insecure_accept_unprotected=True)
    first = keys(PLAIN).current("default", PLAIN.url, NOW).kid
    second = keys(loose).current("default", PLAIN.url, NOW).kid
    assert first != second
    assert keys(PLAIN).current("default", PLAIN.url, NOW).kid == first
    told = [vouched.read_statement(each).settings for each in said]
    assert told == [
        digest(PLAIN, ISSUER),
        digest(loose, ISSUER),
        digest(PLAIN, ISSUER),
    ]  # and once more at each start
    (found,) = keys(loose).published_keys("default", PLAIN.url, NOW)
    assert found[0] == second
    assert x509.parse(found[1], "certificate").spki
    assert certificates.load_der_x509_certificate(found[1])
