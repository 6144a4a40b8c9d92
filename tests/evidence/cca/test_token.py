"""CCA tokens: one forged case for each step, and the claims of a good one."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given

from kluis.errors import AuthenticityError, FormatError, KluisError, UnavailableError, UnsupportedError
from kluis.evidence import (
    OPENSSL,
    CcaClaims,
    CcaEndorsements,
    Claims,
    ProtectionLevel,
    TcbStatus,
    Tee,
    TrustAnchors,
    Verifier,
)
from kluis.evidence.cca import token as verifying
from kluis.evidence.cca.token import LEVELS, NEVER
from kluis.evidence.context import Context, Memory
from kluis.formats.cca.platform import Component, Lifecycle
from kluis.hashes import Digest
from tests.evidence.cca.forge import (
    IMPLEMENTATION,
    INSTANCE,
    LEGACY,
    NEW_PLATFORM,
    NEW_REALM,
    NOW,
    PLATFORM,
    REALM,
    Forge,
    new_key,
    pem,
    signed,
    spki,
)
from tests.evidence.nvidia.forge import Forge as Gpu
from tests.strategies import PROPERTY, mutations

OTHER = new_key()


def vendor(claims: Claims) -> CcaClaims:
    """The claims that are CCA's own."""
    assert isinstance(claims.vendor, CcaClaims)
    return claims.vendor


def test_good(cca: Forge) -> None:
    """Every claim has the token's value, and the level is the anchor's."""
    claims = cca.verify()
    assert (claims.kind, claims.tee) == ("CCA token", Tee.CCA)
    assert (claims.level, claims.debug) == (ProtectionLevel.HARDWARE_CCA, False)
    assert claims.anchor == next(iter(cca.anchors)).name
    assert claims.measurement == Digest("sha256", b"m" * 32)
    assert claims.registers == {f"rem{i}": Digest("sha256", bytes((i,)) * 32) for i in range(4)}
    assert claims.signer is claims.product_id is claims.svn is claims.config_id is claims.family_id is None
    assert (claims.report_data, claims.nonce) == (b"", b"c" * 64)
    assert claims.tcb.status is TcbStatus.NOT_JUDGED
    assert (claims.platform.id, claims.platform.product) == (INSTANCE, IMPLEMENTATION.hex())
    assert (claims.collateral_issued, claims.valid_until, claims.verified_at) == (None, NEVER, NOW)
    assert claims.valid_until - NOW > timedelta(days=365_000)
    assert vendor(claims) == CcaClaims(
        realm_profile=REALM,
        platform_profile=PLATFORM,
        personalization_value=b"p" * 64,
        hash_algorithm="sha-256",
        realm_key=spki(cca.rak),
        implementation_id=IMPLEMENTATION,
        instance_id=INSTANCE,
        config=b"config",
        lifecycle=Lifecycle.SECURED,
        state=0x3003,
        components=(
            Component(
                kind="BL", measurement=b"f" * 32, version="1.2", signer=b"s" * 32, hash_algorithm="sha-256"
            ),
            Component(kind=None, measurement=b"g" * 48, version=None, signer=b"t" * 64, hash_algorithm=None),
        ),
        verification_service="https://verify.example",
        platform_hash_algorithm="sha-256",
    )


def test_collection(cca: Forge) -> None:
    """A token as a collection of messages has the same claims, and passes the same steps."""
    assert cca.verify(cca.token(tag=907)).measurement == cca.verify().measurement
    with pytest.raises(AuthenticityError) as caught:
        cca.verify(cca.token(tag=907, realm=cca.realm(key=OTHER)))
    assert caught.value.code == "sig_token"
    with pytest.raises(AuthenticityError) as caught:
        cca.verify(cca.token(tag=907, platform=cca.platform(key=OTHER)))
    assert caught.value.code == "sig_token"


def test_latest(cca: Forge) -> None:
    """The latest generation names the realm, its memory protection, and the platform's features."""
    device = {2: b"d" * 32, 3: b"c" * 32, 4: True, 5: "spdm-1.4.0", 6: b"v" * 32, 7: "cxl-type-3", 8: 0}
    platform = cca.platform(
        cca.platform_claims(
            **NEW_PLATFORM,
            c2403=b"made",
            c2404=[device],
            c2405=[{1: "DM", 2: 0, 3: 1, 4: b"k" * 32}],
            c2406=b"peers",
        )
    )
    realm = cca.realm(cca.realm_claims(**NEW_REALM, c44244=1, c44257=b"t" * 32))
    said = vendor(cca.verify(cca.token(tag=907, platform=platform, realm=realm)))
    assert (said.platform_profile, said.realm_profile) == (NEW_PLATFORM["c265"], NEW_REALM["c265"])
    assert (said.realm_id, said.memory, said.live_activation) == (NEW_REALM["c256"], "private", True)
    assert (said.devices_digest, said.manufacturing_config, said.peer_signers) == (
        b"t" * 32,
        b"made",
        b"peers",
    )
    assert [each.kind for each in said.devices] == ["cxl-type-3"]
    assert [each.name for each in said.root_keys] == ["DM"]


def test_latest_is_bound(cca: Forge) -> None:
    """A realm of the latest generation is bound to its platform like any other."""
    other = Forge()
    realm = other.realm(other.realm_claims(**NEW_REALM))
    with pytest.raises(AuthenticityError) as caught:
        cca.verify(cca.token(platform=cca.platform(cca.platform_claims(**NEW_PLATFORM)), realm=realm))
    assert caught.value.code == "key_binding"


@pytest.mark.parametrize("data", [b"", b"\xd9\x01", b"\xd9\x01\x8e", b"\xd9\x01\x90", b"\xd2\x84D"])
def test_matches(data: bytes) -> None:
    """A token is recognised only by tag 399."""
    assert verifying.matches(b"\xd9\x01\x8f\xa2")
    assert not verifying.matches(data)


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1()], ids=lambda curve: curve.name)
@pytest.mark.parametrize("legacy", [False, True])
def test_generations(curve: ec.EllipticCurve, legacy: bool) -> None:
    """Both generations verify, under platform keys of both curves."""
    claims = Forge(curve, legacy=legacy).verify()
    expected = (None, LEGACY) if legacy else (REALM, PLATFORM)
    assert (vendor(claims).realm_profile, vendor(claims).platform_profile) == expected


def test_mixed_generations(cca: Forge) -> None:
    """A realm of the new generation on a platform of the old one is a genuine token."""
    token = cca.token(platform=cca.platform(cca.platform_claims(c265=LEGACY)))
    assert vendor(cca.verify(token)).platform_profile == LEGACY


@pytest.mark.parametrize(
    ("size", "name", "algorithm"),
    [(32, "sha256", "sha-256"), (48, "sha384", "sha-384"), (64, "sha512", "sha-512")],
)
def test_digests(size: int, name: Any, algorithm: str, cca: Forge) -> None:
    """Measurements are digests by their length; the realm's key is bound by the digest it names."""
    bound = hashlib.new(name, cca.realm_key()).digest()
    token = cca.token(
        realm=cca.realm(cca.realm_claims(c44238=b"m" * size, c44240=algorithm)),
        platform=cca.platform(cca.platform_claims(c10=bound)),
    )
    assert cca.verify(token).measurement == Digest(name, b"m" * size)


@pytest.mark.parametrize("state", [0x0000, 0x10FF, 0x20FF, 0x40FF, 0x5000, 0x60FF])
def test_lifecycle(state: int, cca: Forge) -> None:
    """A platform that is not secured is in debug, and its realm is protected by nothing."""
    claims = cca.verify(cca.token(platform=cca.platform(cca.platform_claims(c2395=state))))
    assert (claims.debug, claims.level, vendor(claims).state) == (True, ProtectionLevel.NONE, state)
    assert vendor(claims).lifecycle is Lifecycle(state >> 8)


@pytest.mark.parametrize("state", [0x3000, 0x30FF])
def test_secured(state: int, cca: Forge) -> None:
    """The whole range of the secured state is secured."""
    claims = cca.verify(cca.token(platform=cca.platform(cca.platform_claims(c2395=state))))
    assert (claims.debug, claims.level) == (False, ProtectionLevel.HARDWARE_CCA)


def test_keys_in_every_form(cca: Forge) -> None:
    """The platform's key may come as PEM or DER, with ids or without."""
    read = CcaEndorsements.from_json(cca.endorsements.to_json())
    for endorsed in (read, CcaEndorsements(cpak=pem(cca.cpak)), CcaEndorsements(cpak=spki(cca.cpak))):
        assert cca.verify(collateral=endorsed) == cca.verify()


def test_the_one_bare_key(cca: Forge) -> None:
    """Without endorsements, the one bare key that is believed is the platform's."""
    assert cca.verify(collateral=None) == cca.verify()
    assert cca.verify(collateral=None, anchors=TrustAnchors.shipped() | cca.anchors) == cca.verify()
    stranger = TrustAnchors.from_pem(pem(OTHER), ProtectionLevel.VTPM)
    assert cca.verify(collateral=None, anchors=stranger | cca.anchors) == cca.verify()
    # A certificate's root may be an anchor for CCA, too, and is not a bare key.
    root = TrustAnchors.from_pem(Gpu().pem(4), ProtectionLevel.HARDWARE_CCA)
    assert cca.verify(collateral=None, anchors=root | cca.anchors) == cca.verify()


def test_a_key_of_which_nobody_says_whose_it_is(cca: Forge) -> None:
    """A platform's key whose level nobody stated verifies, and gives no level."""
    claims = cca.verify(anchors=TrustAnchors.from_pem(pem(cca.cpak)))
    assert (claims.level, claims.debug) == (ProtectionLevel.NONE, False)


UNSIGNED = "is not signed by the key it should be"
P = "CCA platform token"
R = "CCA realm token"
Case = tuple[Callable[[Forge], bytes], type[KluisError], str, str]
CASES: dict[str, Case] = {
    "1 a realm's key on another curve": (
        lambda f: f.token(
            realm=f.realm(f.realm_claims(c44237=cbor2.dumps({1: 2, -1: 1, -2: bytes(32), -3: bytes(32)})))
        ),
        UnsupportedError,
        f"{R}.public_key: want a key on P-384, got one on P-256",
        "bad_type",
    ),
    "1 an algorithm that is not used": (
        lambda f: f.token(realm=f.realm(protected={1: -36})),
        UnsupportedError,
        f"{R}.protected: want algorithm -7 or -35, got -36",
        "bad_type",
    ),
    "1 a header beside the algorithm": (
        lambda f: f.token(platform=f.platform(protected={1: -35, 4: b"kid"})),
        FormatError,
        f"{P}: want an algorithm, and no other header",
        "bad_type",
    ),
    "1 an unprotected header": (
        lambda f: f.token(realm=f.realm(unprotected={4: b"kid"})),
        FormatError,
        f"{R}: want an algorithm, and no other header",
        "bad_type",
    ),
    "2 another realm's key": (
        lambda f: f.token(platform=f.platform(f.platform_claims(c10=bytes(32)))),
        AuthenticityError,
        f"{P}: does not bind this realm's key",
        "key_binding",
    ),
    "2 the digest of another form of the key": (
        lambda f: f.token(platform=f.platform(f.platform_claims(c10=hashlib.sha256(spki(f.rak)).digest()))),
        AuthenticityError,
        f"{P}: does not bind this realm's key",
        "key_binding",
    ),
    "2 the beginning of a longer digest": (
        lambda f: f.token(
            realm=f.realm(f.realm_claims(c44240="sha-512")),
            platform=f.platform(f.platform_claims(c10=hashlib.sha512(f.realm_key()).digest()[:32])),
        ),
        AuthenticityError,
        f"{P}: does not bind this realm's key",
        "key_binding",
    ),
    "3 the realm's part by another key": (
        lambda f: f.token(realm=f.realm(key=OTHER)),
        AuthenticityError,
        f"{R}: {UNSIGNED}",
        "sig_token",
    ),
    "3 the realm's part by the platform's key": (
        lambda f: f.token(realm=f.realm(key=f.cpak)),
        AuthenticityError,
        f"{R}: {UNSIGNED}",
        "sig_token",
    ),
    "3 zeros for the realm's signature": (
        lambda f: f.token(realm=f.realm(signature=bytes(96))),
        AuthenticityError,
        f"{R}: {UNSIGNED}",
        "sig_token",
    ),
    "3 the algorithm of another curve": (
        lambda f: f.token(realm=f.realm(protected={1: -7}, signature=bytes(64))),
        AuthenticityError,
        f"{R}.protected: want the algorithm of a key on P-384, got ECDSA with SHA-256",
        "sig_token",
    ),
    "4 another implementation": (
        lambda f: f.token(platform=f.platform(f.platform_claims(c2396=bytes(32)))),
        AuthenticityError,
        f"{P}.implementation_id: want {IMPLEMENTATION.hex()}, whose key is given, got {bytes(32).hex()}",
        "root_untrusted",
    ),
    "4 another instance": (
        lambda f: f.token(platform=f.platform(f.platform_claims(c256=b"\1" + bytes(32)))),
        AuthenticityError,
        f"{P}.instance_id: want {INSTANCE.hex()}, whose key is given, got 01{bytes(32).hex()}",
        "root_untrusted",
    ),
    "5 the platform's part by another key": (
        lambda f: f.token(platform=f.platform(key=OTHER)),
        AuthenticityError,
        f"{P}: {UNSIGNED}",
        "sig_token",
    ),
    "5 the platform's part by the realm's key": (
        lambda f: f.token(platform=f.platform(key=f.rak)),
        AuthenticityError,
        f"{P}: {UNSIGNED}",
        "sig_token",
    ),
    "5 zeros for the platform's signature": (
        lambda f: f.token(platform=f.platform(signature=bytes(96))),
        AuthenticityError,
        f"{P}: {UNSIGNED}",
        "sig_token",
    ),
    "5 the algorithm of another curve": (
        lambda f: f.token(platform=f.platform(protected={1: -7}, signature=bytes(64))),
        AuthenticityError,
        f"{P}.protected: want the algorithm of a key on P-384, got ECDSA with SHA-256",
        "sig_token",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_step(case: str, cca: Forge) -> None:
    """A token in which only one step is wrong is refused at that step."""
    forged, error, message, code = CASES[case]
    with pytest.raises(KluisError) as caught:
        cca.verify(forged(cca))
    assert (type(caught.value), str(caught.value), caught.value.code) == (error, message, code)


def test_step_4_a_key_that_is_not_believed(cca: Forge) -> None:
    """A platform's key that comes with the token is trusted only as an anchor."""
    with pytest.raises(AuthenticityError) as caught:
        cca.verify(anchors=TrustAnchors.from_pem(pem(OTHER), ProtectionLevel.HARDWARE_CCA))
    assert caught.value.code == "root_untrusted"
    assert str(caught.value).startswith("CPAK: want key public key sha256:")
    assert str(caught.value).endswith(", got another")


@pytest.mark.parametrize("level", [level for level in ProtectionLevel if level not in LEVELS])
def test_step_4_anchors_of_other_makers(level: ProtectionLevel, cca: Forge) -> None:
    """A key trusted for other evidence is not trusted for CCA's."""
    anchor = dataclasses.replace(next(iter(cca.anchors)), level=level, name="other")
    with pytest.raises(AuthenticityError) as caught:
        cca.verify(anchors=TrustAnchors((anchor,)))
    assert (str(caught.value), caught.value.code) == (
        f"CPAK: want a key of hardware-cca, got other of {level}",
        "root_untrusted",
    )


@pytest.mark.parametrize("bare", [0, 2])
def test_step_4_no_key(bare: int, cca: Forge) -> None:
    """Without the platform's key, or among several, nothing is verified: a bare realm proves nothing."""
    anchors = TrustAnchors.shipped()
    for key in (OTHER, cca.cpak)[:bare]:
        anchors = anchors | TrustAnchors.from_pem(pem(key), ProtectionLevel.HARDWARE_CCA)
    with pytest.raises(UnavailableError) as caught:
        cca.verify(collateral=None, anchors=anchors)
    assert str(caught.value) == f"{P}: the key of instance {INSTANCE.hex()} is not known"
    assert caught.value.code == "collateral_missing"
    assert caught.value.hint
    with pytest.raises(AuthenticityError) as refused:
        cca.verify(cca.token(realm=cca.realm(signature=bytes(96))), collateral=None, anchors=anchors)
    assert refused.value.code == "sig_token"


def test_splices(cca: Forge) -> None:
    """A realm of another platform does not go with this one's token."""
    other = Forge()
    with pytest.raises(AuthenticityError) as caught:
        cca.verify(cca.token(realm=other.realm()))
    assert caught.value.code == "key_binding"


def test_the_platforms_part_is_verified_once(cca: Forge) -> None:
    """A platform's part is proven once by its bytes and its key; the realm's part at every call."""
    memory = Memory()
    context = Context(cca.anchors, OPENSSL, memory)
    token = cca.token()
    first = verifying.verify(token, context=context, collateral=cca.endorsements, now=NOW).value
    assert memory.get("cca platform token", spki(cca.cpak) + cbor2.loads(token).value[44234])
    assert verifying.verify(token, context=context, collateral=cca.endorsements, now=NOW).value == first
    bad = cbor2.loads(token).value[44234]
    for forged in (
        cca.token(realm=cca.realm(key=OTHER), platform=bad),
        cca.token(platform=bad[:-1] + bytes((bad[-1] ^ 1,))),
    ):
        with pytest.raises(AuthenticityError) as caught:
            verifying.verify(forged, context=context, collateral=cca.endorsements, now=NOW)
        assert caught.value.code == "sig_token"
    other = dataclasses.replace(cca.endorsements, instance_id=b"\1" + bytes(32))
    with pytest.raises(AuthenticityError) as caught:
        verifying.verify(token, context=context, collateral=other, now=NOW)
    assert caught.value.code == "root_untrusted"
    elsewhere = Context(TrustAnchors.from_pem(pem(OTHER)), OPENSSL, memory)
    with pytest.raises(AuthenticityError) as caught:
        verifying.verify(token, context=elsewhere, collateral=None, now=NOW)
    assert caught.value.code == "sig_token"


def test_failures_are_not_kept(cca: Forge) -> None:
    """Nothing is kept of a platform's part that failed, but the keys."""
    memory = Memory()
    bad = cca.token(platform=cca.platform(key=OTHER))
    for _ in range(2):
        with pytest.raises(AuthenticityError):
            verifying.verify(
                bad, context=Context(cca.anchors, OPENSSL, memory), collateral=cca.endorsements, now=NOW
            )
    assert len(memory) == 3


def test_a_key_that_is_no_point(cca: Forge) -> None:
    """A realm's key that is no point of its curve is a clean refusal."""
    legacy = Forge(legacy=True)
    raw = b"\x04" + b"\x01" * 96
    token = legacy.token(
        realm=legacy.realm(legacy.realm_claims(c44237=raw)),
        platform=legacy.platform(legacy.platform_claims(c10=hashlib.sha256(raw).digest())),
    )
    with pytest.raises(AuthenticityError) as caught:
        legacy.verify(token)
    assert caught.value.code == "sig_token"


def test_one_verifier(cca: Forge) -> None:
    """A verifier that keeps what it has proven gives the same claims again."""
    verifier = Verifier(cca.anchors)
    token = cca.token()
    first, second = (verifier.verify(token, collateral=cca.endorsements, now=NOW).value for _ in range(2))
    assert first == second == cca.verify(token)


FORGES = (Forge(), Forge(ec.SECP256R1(), legacy=True))
TOKENS = tuple(forge.token() for forge in FORGES)
CLAIMS = [forge.verify(token) for forge, token in zip(FORGES, TOKENS, strict=True)]
ALL = FORGES[0].anchors | FORGES[1].anchors


@given(mutations(*TOKENS, most=2))
@PROPERTY
def test_only_our_errors(data: bytes) -> None:
    """A changed token is refused, only by our errors, or has exactly the signed claims."""
    for forge in FORGES:
        try:
            claims = forge.verify(data, anchors=ALL)
        except KluisError:
            continue
        assert claims in CLAIMS


def test_signed_is_what_is_meant(cca: Forge) -> None:
    """A part with another part's payload, signed by the right key, is read as its content."""
    with pytest.raises(FormatError):
        cca.verify(cca.token(realm=signed(cbor2.dumps(cca.platform_claims()), cca.rak)))
