"""A signing key is trusted if evidence of its enclave covers it, and in no other case."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from kluis.appraisal import ByImage, Policy, strict
from kluis.appraisal.tokens import vouching
from kluis.errors import AuthenticityError, FormatError, FreshnessError, PolicyError, UsageError
from kluis.evidence import ProtectionLevel
from kluis.formats.kluis import runtime_data, vouched
from kluis.formats.kluis.bundle import EvidenceBundle
from kluis.formats.kluis.runtime_data import Purpose, RuntimeData
from tests.evidence.forge import IMAGE, Forge
from tests.keys import rsa_key

KEY, OTHER = rsa_key(0), rsa_key(1)


def spki(key: rsa.RSAPrivateKey) -> bytes:
    """DER of its public half."""
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


@pytest.fixture(scope="module")
def forge() -> Forge:
    """A platform."""
    return Forge()


def wanted(image: bytes = IMAGE, **binding: Any) -> Policy:
    """The policy of a relying party."""
    made = strict(
        ByImage(image_ids=frozenset({image})),
        protection=frozenset({ProtectionLevel.PROCESS}),
        purpose=Purpose.APP,
        counters=frozenset({"unwitnessed"}),
        missing=frozenset(),
    )
    given = {"purpose": Purpose.APP, "nonce": False, **binding}
    return dataclasses.replace(made, binding=dataclasses.replace(made.binding, **given))


def vouch(forge: Forge, payload: bytes, purpose: Purpose = Purpose.APP) -> EvidenceBundle:
    """Evidence as an enclave makes it."""
    document = RuntimeData(purpose=purpose, image_id=IMAGE, nonce=b"", payload=payload).encode()
    body = forge.body(report_data=runtime_data.report_data(document))
    return EvidenceBundle(forge.quote(body), document, forge.launch)


def certificate(
    made: EvidenceBundle | None,
    forge: Forge,
    key: rsa.RSAPrivateKey = KEY,
    signer: rsa.RSAPrivateKey | None = None,
) -> bytes:
    """A self-signed certificate around the evidence."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "https://localhost")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(forge.now - timedelta(days=1))
        .not_valid_after(forge.now + timedelta(days=1))
    )
    for oid, value in vouched.extensions(made) if made else ():
        held = x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value)
        builder = builder.add_extension(held, critical=False)
    return builder.sign(signer or key, hashes.SHA256()).public_bytes(Encoding.DER)


def check(forge: Forge, made: bytes, **changes: Any) -> vouching.SigningKey:
    """Check it, with everything good but what is changed."""
    given: dict[str, Any] = {
        "anchors": forge.anchors, "collateral": forge.collateral(), "policy": wanted(), "now": forge.now,
    }  # fmt: skip
    return vouching.check(made, **{**given, **changes})


def test_a_key_that_its_enclave_vouches_for(forge: Forge) -> None:
    """The key is named, with the level of the anchor that matched."""
    found = check(forge, certificate(vouch(forge, vouched.statement(spki(KEY))), forge))
    assert found.spki == spki(KEY)
    assert found.result.claims.level is ProtectionLevel.PROCESS


def test_no_evidence(forge: Forge) -> None:
    """A bare certificate proves nothing."""
    with pytest.raises(FormatError, match=r"want extension 1\.3\.6\.1\.4\.1\.311\.105\.1, got none"):
        check(forge, certificate(None, forge))


def test_evidence_of_another_key(forge: Forge) -> None:
    """Genuine evidence, copied into another certificate, still covers only the first one's key."""
    made = certificate(vouch(forge, vouched.statement(spki(KEY))), forge, key=OTHER)
    with pytest.raises(AuthenticityError) as refused:
        check(forge, made)
    assert refused.value.message == "signing certificate: its evidence is for another key"
    assert refused.value.code == "vouched_key"


def test_signed_by_another(forge: Forge) -> None:
    """Who cannot sign with the key cannot change its certificate."""
    made = certificate(vouch(forge, vouched.statement(spki(KEY))), forge, signer=OTHER)
    with pytest.raises(AuthenticityError) as refused:
        check(forge, made)
    assert refused.value.code == "cert_sig"


@pytest.mark.parametrize("purpose", [Purpose.CLI, Purpose.CHANNEL, Purpose.RECEIPT])
def test_another_purpose(forge: Forge, purpose: Purpose) -> None:
    """What a host has quoted is never a statement of the application's."""
    made = certificate(vouch(forge, vouched.statement(spki(KEY)), purpose), forge)
    with pytest.raises(PolicyError, match=f"purpose: want app, got {purpose}"):
        check(forge, made)


def test_a_payload_that_is_no_statement(forge: Forge) -> None:
    """An application's other payloads are no statement, not even the key itself."""
    with pytest.raises(FormatError, match="signing key statement"):
        check(forge, certificate(vouch(forge, spki(KEY)), forge))


def test_another_enclave(forge: Forge) -> None:
    """The rule that fails is named."""
    made = certificate(vouch(forge, vouched.statement(spki(KEY))), forge)
    with pytest.raises(PolicyError, match="measurement: want"):
        check(forge, made, policy=wanted(bytes(32)))


def test_another_root(forge: Forge) -> None:
    """A platform that nobody named is not believed."""
    made = certificate(vouch(forge, vouched.statement(spki(KEY))), forge)
    with pytest.raises(AuthenticityError):
        check(forge, made, anchors=Forge().anchors)


def test_out_of_its_time(forge: Forge) -> None:
    """A certificate is in its time, as the collateral must be."""
    made = certificate(vouch(forge, vouched.statement(spki(KEY))), forge)
    with pytest.raises(FreshnessError) as refused:
        check(forge, made, now=datetime(2026, 6, 3, tzinfo=UTC))
    assert refused.value.code == "cert_expired"


@pytest.mark.parametrize("binding", [{"purpose": Purpose.CHANNEL}, {"nonce": True}])
def test_a_policy_for_something_else(forge: Forge, binding: dict[str, Any]) -> None:
    """A policy that could never be met, or is ambiguous, is refused at once."""
    with pytest.raises(UsageError) as refused:
        check(forge, b"", policy=wanted(**binding))
    assert refused.value.message == "policy.binding: want purpose app without a nonce"


def test_the_policy_of_a_relying_party() -> None:
    """It is strict, of the purpose ``app``, and needs no nonce."""
    made = vouching.build_policy(
        ByImage(image_ids=frozenset({IMAGE})),
        protection=frozenset({ProtectionLevel.PROCESS}),
        counters=frozenset({"unwitnessed"}),
        missing=frozenset(),
    )
    assert made == wanted()


def test_settings(forge: Forge) -> None:
    """One of the accepted digests is accepted; another one is refused, and so is a missing one."""
    found = check(forge, certificate(vouch(forge, vouched.statement(spki(KEY))), forge))
    accepted = "ab" * 32
    dataclasses.replace(found, settings=b"\xab" * 32).require_settings([accepted])
    for settings, got in ((None, "none"), (bytes(32), "00" * 32)):
        with pytest.raises(AuthenticityError) as refused:
            dataclasses.replace(found, settings=settings).require_settings([accepted])
        assert refused.value.message == f"settings: want {accepted}, got {got}"
