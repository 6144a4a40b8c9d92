"""Credential activation: one forged case a step, and what an activated key endorses."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from kluis.errors import AuthenticityError, FreshnessError, UnavailableError, UsageError
from kluis.evidence import ProtectionLevel, TrustAnchors, verify
from kluis.evidence.context import Context
from kluis.evidence.tpm.activation import FRESH_SIZE, Activated, Challenge, challenge
from kluis.evidence.tpm.claims import TpmClaims
from kluis.formats.tpm import extended_usage
from kluis.formats.tpm.algorithm import HashId
from kluis.formats.tpm.public import Attribute
from tests.evidence.tpm import forge
from tests.evidence.tpm.forge import NOW, Maker, Tpm, rsa_key

EK: forge.PRIVATE = rsa_key()
CURVED: forge.PRIVATE = ec.generate_private_key(ec.SECP256R1())
FRESH = bytes(range(FRESH_SIZE))
DAY = timedelta(days=1)
REQUIRED = forge.EK_ATTRIBUTES & ~Attribute.ADMIN_WITH_POLICY


def _challenge(maker: Maker, tpm: Tpm, key: forge.PRIVATE = EK, **changes: Any) -> Challenge:
    """A challenge for a TPM, by default with everything good."""
    given: dict[str, Any] = {
        "endorsements": maker.endorse(maker.ek(key)),
        "ek": forge.ek_area(key).encode(),
        "ak": forge.area(tpm.key).encode(),
        "context": Context(maker.anchors),
        "now": NOW,
        "fresh": FRESH,
        **changes,
    }
    return challenge(given.pop("endorsements"), given.pop("ek"), given.pop("ak"), **given)


def _answer(made: Challenge, tpm: Tpm, key: forge.PRIVATE = EK) -> bytes:
    return forge.activate(made.credential.encode(), key, forge.ek_area(key), forge.area(tpm.key).name)


@pytest.fixture(scope="module")
def activated(maker: Maker, tpm: Tpm) -> Activated:
    made = _challenge(maker, tpm)
    return made.accept(_answer(made, tpm), now=NOW)


@pytest.mark.parametrize("key", [EK, CURVED], ids=["RSA", "P-256"])
def test_true(maker: Maker, tpm: Tpm, key: forge.PRIVATE) -> None:
    """The TPM with both keys answers; then the EK's vendor is the anchor of what the AK quotes."""
    bit = "key_encipherment" if key is EK else "key_agreement"
    made = _challenge(maker, tpm, key, endorsements=maker.endorse(maker.ek(key, bit=bit)))
    assert made.credential == made.credential.parse(made.credential.encode())
    assert "secret" not in repr(made).lower()
    found = made.accept(_answer(made, tpm, key), now=NOW)
    claims = verify(tpm.evidence(), anchors=maker.anchors, collateral=found, now=NOW).value
    assert (claims.level, claims.anchor) == (ProtectionLevel.VTPM, found.ek.anchor.name)
    vendor = claims.vendor
    assert isinstance(vendor, TpmClaims)
    assert (vendor.key, vendor.key_certified) == (forge.spki(tpm.key), True)
    assert vendor.key_name == forge.area(tpm.key).name


def test_expected(maker: Maker, tpm: Tpm) -> None:
    """A relying party may say which AK it expects."""
    endorsed = maker.endorse(maker.ek(EK))
    _challenge(maker, tpm, endorsements=replace(endorsed, public=forge.area(tpm.key).encode()))
    other = forge.area(rsa_key()).encode()
    with pytest.raises(AuthenticityError) as caught:
        _challenge(maker, tpm, endorsements=replace(endorsed, public=other))
    assert caught.value.code == "key_binding"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"usages": ()}, "got another's"),
        ({"usages": (extended_usage.AK_CERTIFICATE,)}, "attestation key's, which opens nothing"),
        ({"bit": "digital_signature"}, "want an end entity that receives keys"),
        ({"ca": True}, "want an end entity that receives keys"),
    ],
)
def test_step_1_profile(maker: Maker, tpm: Tpm, changes: dict[str, Any], message: str) -> None:
    """A certificate of another kind of key is not accepted for an endorsement key."""
    with pytest.raises(AuthenticityError, match=message) as caught:
        _challenge(maker, tpm, endorsements=maker.endorse(maker.ek(EK, **changes)))
    assert caught.value.code == "cert_profile"


def test_step_1_no_certificate(maker: Maker, tpm: Tpm) -> None:
    """An endorsement key without its vendor's certificate is refused, with the command that reads it."""
    with pytest.raises(UnavailableError) as caught:
        _challenge(maker, tpm, endorsements=replace(maker.endorse(maker.ek(EK)), certificate=None))
    assert (caught.value.code, caught.value.message) == (
        "ek_missing",
        "EK certificate: want the TPM vendor's certificate, got no certificate",
    )
    assert caught.value.hint == "tpm2_getekcertificate reads it from the TPM, or requests it from the vendor"


def test_step_1_root(maker: Maker, tpm: Tpm) -> None:
    """An untrusted vendor is refused."""
    with pytest.raises(AuthenticityError) as caught:
        _challenge(maker, tpm, context=Context(Maker().anchors))
    assert caught.value.code == "root_untrusted"


def test_step_1_revoked(maker: Maker, tpm: Tpm) -> None:
    """An endorsement key that its vendor revoked is refused."""
    with pytest.raises(AuthenticityError) as caught:
        _challenge(maker, tpm, endorsements=maker.endorse(maker.ek(EK), crls=(maker.crl(9),)))
    assert caught.value.code == "cert_revoked"


def test_step_2_another_area(maker: Maker, tpm: Tpm) -> None:
    """The area of a key that the certificate is not of is refused: its holder would open the credential."""
    other = rsa_key()
    for certified, shown in ((EK, other), (other, EK)):
        with pytest.raises(AuthenticityError) as caught:
            _challenge(maker, tpm, certified, ek=forge.ek_area(shown).encode())
        assert caught.value.code == "key_binding"


@pytest.mark.parametrize(
    "attributes",
    [
        *(forge.EK_ATTRIBUTES & ~flag for flag in REQUIRED),
        forge.EK_ATTRIBUTES | Attribute.SIGN,
    ],
)  # fmt: skip
def test_step_2_attributes(maker: Maker, tpm: Tpm, attributes: int) -> None:
    """A key that may leave its TPM, open anything, or sign, is no endorsement key."""
    with pytest.raises(AuthenticityError, match="want a restricted storage key") as caught:
        _challenge(maker, tpm, ek=forge.ek_area(EK, attributes).encode())
    assert caught.value.code == "ak_binding"


def test_step_3(maker: Maker, tpm: Tpm) -> None:
    """A key that signs what it is handed is no attestation key."""
    loose = forge.area(tpm.key, forge.ATTRIBUTES & ~Attribute.RESTRICTED).encode()
    with pytest.raises(AuthenticityError, match="without RESTRICTED") as caught:
        _challenge(maker, tpm, ak=loose)
    assert caught.value.code == "ak_binding"


def test_step_4(maker: Maker, tpm: Tpm) -> None:
    """A name that another area may have is refused."""
    weak = replace(forge.area(tpm.key), name_hash=HashId.SHA1)
    for changes in ({"ak": weak.encode()}, {"ek": forge.ek_area(EK, name_hash=HashId.SHA1).encode()}):
        with pytest.raises(AuthenticityError, match="want a name of SHA-256 or better") as caught:
            _challenge(maker, tpm, **changes)
        assert caught.value.code == "ak_binding"


def test_step_5(maker: Maker, tpm: Tpm) -> None:
    """Another answer is refused: of nobody, of another challenge, or the secret cut short."""
    made = _challenge(maker, tpm)
    other = _challenge(maker, tpm, fresh=bytes(FRESH_SIZE))
    good = _answer(made, tpm)
    for answer in (b"", bytes(32), good[:-1], good + b"\0", _answer(other, tpm)):
        with pytest.raises(AuthenticityError) as caught:
            made.accept(answer, now=NOW)
        assert caught.value.code == "credential"
        assert good.hex() not in caught.value.message


def test_step_5_another_key(maker: Maker, tpm: Tpm) -> None:
    """A TPM without the AK cannot open what was made for it."""
    made = _challenge(maker, tpm)
    with pytest.raises(ValueError, match="INTEGRITY"):
        forge.activate(made.credential.encode(), EK, forge.ek_area(EK), forge.area(rsa_key()).name)


def test_step_6(maker: Maker, tpm: Tpm) -> None:
    """A certificate that ran out between challenge and answer is refused, and so is a list."""
    made = _challenge(maker, tpm, endorsements=maker.endorse(maker.ek(EK, end=NOW + DAY)))
    with pytest.raises(FreshnessError) as caught:
        made.accept(_answer(made, tpm), now=NOW + 2 * DAY)
    assert caught.value.code == "cert_expired"
    crls = maker.crl(), maker.crl(issuer="Maker Root", signer=maker.root_key)
    listed = _challenge(maker, tpm, endorsements=maker.endorse(maker.ek(EK), crls=crls))
    found = listed.accept(_answer(listed, tpm), now=NOW)
    claims = verify(tpm.evidence(), anchors=maker.anchors, collateral=found, now=NOW).value
    assert isinstance(claims.vendor, TpmClaims)
    assert claims.vendor.revocation_checked is True
    with pytest.raises(FreshnessError) as late:
        listed.accept(_answer(listed, tpm), now=NOW + 8 * DAY)
    assert late.value.code == "crl_expired"


def test_another_keys_quote(maker: Maker, tpm: Tpm, activated: Activated) -> None:
    """An activation endorses its own AK's quotes, and no other's."""
    other = Tpm(rsa_key())
    with pytest.raises(AuthenticityError) as caught:
        verify(other.evidence(), anchors=maker.anchors, collateral=activated, now=NOW)
    assert caught.value.code == "sig_tpm"
    mixed = tpm.evidence(tpm_public=forge.area(other.key).encode())
    with pytest.raises(AuthenticityError) as swapped:
        verify(mixed, anchors=maker.anchors, collateral=activated, now=NOW)
    assert swapped.value.code == "key_binding"


def test_another_verifier(tpm: Tpm, activated: Activated) -> None:
    """An activation endorses nothing for a verifier that does not trust the EK's vendor."""
    with pytest.raises(AuthenticityError) as caught:
        verify(tpm.evidence(), anchors=Maker().anchors, collateral=activated, now=NOW)
    assert caught.value.code == "root_untrusted"


def test_another_verifiers_level(maker: Maker, tpm: Tpm, activated: Activated) -> None:
    """The level of a vendor's root is that of the appraising verifier, not of the challenging one."""
    root = maker.root.public_bytes(Encoding.PEM)
    for level in (ProtectionLevel.NONE, ProtectionLevel.VTPM):
        anchors = TrustAnchors.from_pem(root, level)
        found = verify(tpm.evidence(), anchors=anchors, collateral=activated, now=NOW).value
        assert (found.level, found.anchor) == (level, anchors.anchors[0].name)
    anchors = TrustAnchors.from_pem(root, ProtectionLevel.HARDWARE_SNP)
    with pytest.raises(AuthenticityError, match="want a root for TPMs") as caught:
        verify(tpm.evidence(), anchors=anchors, collateral=activated, now=NOW)
    assert caught.value.code == "root_untrusted"


def test_later(maker: Maker, tpm: Tpm, activated: Activated) -> None:
    """An activation endorses nothing once the EK's certificate has run out."""
    with pytest.raises(FreshnessError) as caught:
        verify(tpm.evidence(), anchors=maker.anchors, collateral=activated, now=NOW + 40 * DAY)
    assert caught.value.code == "cert_expired"


@pytest.mark.parametrize("fresh", [b"", FRESH[:-1], FRESH + b"\0"])
def test_fresh(maker: Maker, tpm: Tpm, fresh: bytes) -> None:
    """Less randomness than a challenge needs, or more, is no challenge."""
    with pytest.raises(UsageError):
        _challenge(maker, tpm, fresh=fresh)


def test_secret_and_seed(maker: Maker, tpm: Tpm) -> None:
    """The secret and the seed that hides it have no byte of the randomness in common."""
    made = _challenge(maker, tpm)
    data = made.credential.encode()
    encrypted = data[12 + int.from_bytes(data[8:10], "big") :]
    assert isinstance(EK, rsa.RSAPrivateKey)
    oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), b"IDENTITY\0")
    assert _answer(made, tpm) == FRESH[:32]
    assert EK.decrypt(encrypted, oaep) == FRESH[32:64]
