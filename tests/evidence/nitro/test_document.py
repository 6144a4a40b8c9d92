"""Nitro documents: one forged case for each step, and the claims of a good one."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import cbor2
import pytest
from hypothesis import given

from kluis.errors import AuthenticityError, FormatError, FreshnessError, KluisError, UsageError
from kluis.evidence import Claims, NitroClaims, ProtectionLevel, TcbStatus, Tee, TrustAnchors, Verifier
from kluis.evidence.nitro import document
from kluis.evidence.nitro.document import SKEW
from kluis.formats.nitro.document import DocumentKind
from kluis.hashes import Digest
from tests.evidence.nitro.forge import INSTANCE, MODULE, NOW, PCRS, Forge, der, new_key, pem
from tests.strategies import PROPERTY, mutations

ZERO = Digest("sha384", bytes(48))
TPM = {"pcrs": ..., "nitrotpm_pcrs": PCRS, "module_id": f"{INSTANCE}-tpm0000000000000000"}
ORDER = int(
    "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973", 16
)


def vendor(claims: Claims) -> NitroClaims:
    """The claims that are Nitro's own."""
    assert isinstance(claims.vendor, NitroClaims)
    return claims.vendor


def ms(delta: timedelta) -> int:
    """A timestamp so far from now."""
    return int((NOW + delta).timestamp() * 1000)


def test_good(nitro: Forge) -> None:
    """Every claim has the document's value, and the level is the anchor's."""
    claims = nitro.verify()
    assert (claims.kind, claims.tee) == ("Nitro document", Tee.NITRO)
    assert (claims.level, claims.debug) == (ProtectionLevel.HARDWARE_NITRO, False)
    assert claims.anchor.startswith("aws.nitro-enclaves sha256:")
    assert claims.measurement == Digest("sha384", PCRS[0])
    assert claims.registers == {f"pcr{index}": Digest("sha384", value) for index, value in PCRS.items()}
    assert claims.signer is claims.product_id is claims.svn is claims.config_id is claims.family_id is None
    assert (claims.report_data, claims.nonce) == (b"user data", b"nonce")
    assert (claims.tcb.status, claims.tcb.date) == (TcbStatus.NOT_JUDGED, None)
    assert (claims.platform.id, claims.platform.product) == (MODULE.encode(), "Nitro Enclaves")
    assert (claims.collateral_issued, claims.verified_at) == (None, NOW)
    assert claims.valid_until == NOW + timedelta(hours=2)
    assert vendor(claims) == NitroClaims(
        document=DocumentKind.ENCLAVE,
        module_id=MODULE,
        timestamp=NOW,
        public_key=b"public key",
        user_data=b"user data",
        nonce=b"nonce",
        instance_measured=True,
    )


def test_absent_and_null(nitro: Forge) -> None:
    """Optional fields that are null, or absent, become None; report data is then empty."""
    for nothing in (None, ...):
        claims = nitro.verify(nitro.document(public_key=nothing, user_data=nothing, nonce=nothing))
        assert vendor(claims).public_key is vendor(claims).user_data is vendor(claims).nonce is None
        assert (claims.report_data, claims.nonce) == (b"", None)


def test_tag_and_indefinite_map(nitro: Forge) -> None:
    """Tag 18 and a payload of indefinite length change nothing in what is claimed."""
    payload = cbor2.dumps(nitro.fields())
    good = nitro.verify()
    assert nitro.verify(nitro.signed(payload, tag=18)) == good
    assert nitro.verify(nitro.signed(b"\xbf" + payload[1:] + b"\xff")) == good


def test_nitrotpm(nitro: Forge) -> None:
    """A NitroTPM's document is distinguished, measures its boot loader, and has a vTPM's protection level."""
    claims = nitro.verify(nitro.document(**TPM))
    assert (claims.kind, claims.level) == ("NitroTPM document", ProtectionLevel.VTPM)
    assert claims.measurement == Digest("sha384", PCRS[4])
    assert (claims.signer, claims.platform.product) == (None, "NitroTPM")
    assert vendor(claims).document is DocumentKind.NITROTPM
    assert vendor(claims).instance_measured is None
    unknown = TrustAnchors((dataclasses.replace(nitro.anchors.anchors[0], level=ProtectionLevel.NONE),))
    assert nitro.verify(nitro.document(**TPM), anchors=unknown).level is ProtectionLevel.NONE


def test_debug_mode(nitro: Forge) -> None:
    """Zeros in PCR0, 1 and 2 are an enclave in debug mode, whatever the others hold: level none."""
    zeros = {**PCRS, 0: bytes(48), 1: bytes(48), 2: bytes(48)}
    for pcrs in (zeros, {3: PCRS[3]}):
        claims = nitro.verify(nitro.document(pcrs=pcrs))
        assert (claims.debug, claims.level, claims.measurement) == (True, ProtectionLevel.NONE, ZERO)
    assert nitro.verify(nitro.document(**{**TPM, "nitrotpm_pcrs": zeros})).debug
    for code in ((0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)):
        claims = nitro.verify(nitro.document(pcrs={**zeros, **dict.fromkeys(code, b"c" * 48)}))
        assert (claims.debug, claims.level) == (False, ProtectionLevel.HARDWARE_NITRO)


def test_signer_of_the_image(nitro: Forge) -> None:
    """PCR8, if the image file was signed, identifies the signer."""
    claims = nitro.verify(nitro.document(pcrs={**PCRS, 8: b"\x08" * 48}))
    assert claims.signer == Digest("sha384", b"\x08" * 48)
    assert nitro.verify(nitro.document(pcrs={0: PCRS[0]})).signer is None
    tpm = {**TPM, "nitrotpm_pcrs": {**PCRS, 8: b"\x08" * 48}}
    assert nitro.verify(nitro.document(**tpm)).signer is None


def test_instance(nitro: Forge) -> None:
    """PCR4, the SHA-384 of 48 zero bytes and an instance's id, shows whether the module's id is the measured
    one.
    """
    assert PCRS[4] == hashlib.sha384(bytes(48) + b"i-0123456789abcdef0").digest()
    other = nitro.verify(nitro.document(module_id="i-00000000000000000-enc0123456789abcdef"))
    assert vendor(other).instance_measured is False
    assert vendor(nitro.verify(nitro.document(module_id=INSTANCE))).instance_measured is True
    for near in (bytes(47) + b"\1", b"\xff" * 48):
        claims = nitro.verify(nitro.document(pcrs={**PCRS, 4: near}))
        assert vendor(claims).instance_measured is False
    assert vendor(nitro.verify(nitro.document(pcrs={0: PCRS[0]}))).instance_measured is None


def test_every_pcr(nitro: Forge) -> None:
    """All 32 PCRs are registers by their names, and cannot be changed."""
    pcrs = {index: bytes((index,)) * 48 for index in range(32)}
    registers = nitro.verify(nitro.document(pcrs=pcrs)).registers
    assert registers == {f"pcr{index}": Digest("sha384", value) for index, value in pcrs.items()}
    with pytest.raises(TypeError):
        registers["pcr0"] = Digest("sha384", PCRS[0])  # type: ignore[index]


@pytest.mark.parametrize(
    ("data", "matched"),
    [(b"\x84", True), (b"\xd2\x84", True)]
    + [
        (raw, False)
        for raw in (b"", b"\x83", b"\x85", b"\xd1\x84", b"\xd2", b"\xd2\x83", b"\xd2\x85", b"\xd3\x84")
    ],
)
def test_matches(data: bytes, matched: bool) -> None:
    """A COSE_Sign1 is recognised by its first byte, or by the first two under its tag."""
    assert document.matches(data + bytes(8)) is matched


def test_timestamp_is_in_milliseconds(nitro: Forge) -> None:
    """The timestamp is kept to the millisecond."""
    delta = -timedelta(milliseconds=1)
    assert vendor(nitro.verify(nitro.document(timestamp=ms(delta)))).timestamp == NOW + delta


def test_a_root_that_is_not_known_has_no_level(nitro: Forge) -> None:
    """A root of which nobody said who holds it verifies, and protects nothing."""
    anchors = TrustAnchors.from_pem(pem(nitro.certificates["root"]))
    assert nitro.verify(anchors=anchors).level is ProtectionLevel.NONE


Case = tuple[Callable[[Forge], bytes], type[KluisError], str, str]
UNSIGNED = "is not signed by the key it should be"
WINDOW = "2026-06-01T11:00:00Z to 2026-06-01T12:00:00Z, within 5 minutes"
CASES: dict[str, Case] = {
    "1 algorithm of another curve": (
        lambda f: f.signed(cbor2.dumps(f.fields()), protected=bytes.fromhex("a10126")),
        FormatError,
        "Nitro document.protected: want a1013822, only ES384, got a10126",
        "bad_type",
    ),
    "1 a header beside the algorithm": (
        lambda f: f.signed(cbor2.dumps(f.fields()), protected=cbor2.dumps({1: -35, 4: b"key"})),
        FormatError,
        "Nitro document.protected: want a1013822, only ES384, got a201382204436b6579",
        "bad_type",
    ),
    "1 an unprotected header": (
        lambda f: f.signed(cbor2.dumps(f.fields()), unprotected={4: b"key"}),
        FormatError,
        "Nitro document.unprotected: want nothing",
        "bad_type",
    ),
    "1 PCRs of both kinds of document": (
        lambda f: f.document(nitrotpm_pcrs=PCRS),
        FormatError,
        "NitroTPM document: key 'pcrs' is not known here",
        "bad_type",
    ),
    "5 another key": (
        lambda f: f.signed(cbor2.dumps(f.fields()), key=new_key()),
        AuthenticityError,
        f"Nitro document: {UNSIGNED}",
        "sig_cose",
    ),
    "5 the key of the authority": (
        lambda f: f.signed(cbor2.dumps(f.fields()), key=f.keys["instance"]),
        AuthenticityError,
        f"Nitro document: {UNSIGNED}",
        "sig_cose",
    ),
    "5 another key, of a NitroTPM": (
        lambda f: f.signed(cbor2.dumps(f.fields(**TPM)), key=new_key()),
        AuthenticityError,
        f"NitroTPM document: {UNSIGNED}",
        "sig_cose",
    ),
    "5 zeros for a signature": (
        lambda f: f.document()[:-96] + bytes(96),
        AuthenticityError,
        f"Nitro document: {UNSIGNED}",
        "sig_cose",
    ),
    "5 numbers past the order of the curve": (
        lambda f: f.document()[:-96] + b"\xff" * 96,
        AuthenticityError,
        f"Nitro document: {UNSIGNED}",
        "sig_cose",
    ),
    "6 signed before the leaf began": (
        lambda f: f.document(timestamp=ms(-timedelta(hours=1) - SKEW) - 1),
        FreshnessError,
        f"Nitro document.timestamp: want {WINDOW}, got 2026-06-01T10:54:59.999000Z",
        "freshness",
    ),
    "6 signed in the future": (
        lambda f: f.document(timestamp=ms(SKEW) + 1),
        FreshnessError,
        f"Nitro document.timestamp: want {WINDOW}, got 2026-06-01T12:05:00.001000Z",
        "freshness",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_step(case: str, nitro: Forge) -> None:
    """A document in which only one step is wrong is refused at that step."""
    forged, error, message, code = CASES[case]
    with pytest.raises(KluisError) as caught:
        nitro.verify(forged(nitro))
    assert (str(caught.value), caught.value.code) == (message, code)
    assert isinstance(caught.value, error)


def test_skew(nitro: Forge) -> None:
    """A clock that is five minutes off, either way, is believed."""
    for delta in (-timedelta(hours=1) - SKEW, SKEW):
        assert vendor(nitro.verify(nitro.document(timestamp=ms(delta)))).timestamp == NOW + delta


def test_signed_after_the_leaf_ended(nitro: Forge) -> None:
    """A leaf is valid for its hours: at its last moment a later timestamp is still refused."""
    end, late = NOW + timedelta(hours=2), ms(timedelta(hours=2) + SKEW)
    assert nitro.verify(nitro.document(timestamp=late), now=end)
    with pytest.raises(FreshnessError) as caught:
        nitro.verify(nitro.document(timestamp=late + 1), now=end)
    assert caught.value.code == "freshness"


def test_signatures_are_malleable(nitro: Forge) -> None:
    """One document has two signatures and two tags: its bytes identify nothing, its nonce does."""
    good = nitro.document()
    mirrored = good[:-48] + (ORDER - int.from_bytes(good[-48:], "big")).to_bytes(48, "big")
    assert mirrored != good
    assert nitro.verify(mirrored) == nitro.verify(good)


def test_time_is_judged_at_every_call(nitro: Forge) -> None:
    """What was proven before is kept; whether it is in its time, and the signature, are not."""
    verifier = Verifier(nitro.anchors)
    good = nitro.document()
    first = verifier.verify(good, collateral=None, now=NOW).value
    assert verifier.verify(good, collateral=None, now=NOW).value == first
    with pytest.raises(FreshnessError) as caught:
        verifier.verify(good, collateral=None, now=NOW + timedelta(hours=3))
    assert caught.value.code == "cert_expired"
    with pytest.raises(AuthenticityError):
        verifier.verify(good[:-1] + bytes((good[-1] ^ 1,)), collateral=None, now=NOW)


def test_what_another_document_says_is_not_remembered(nitro: Forge) -> None:
    """Documents under one leaf are read by all that they say: kind, module and every PCR."""
    verifier = Verifier(nitro.anchors)
    every: tuple[dict[str, Any], ...] = (
        {},
        {"nonce": b"another"},
        {"pcrs": {**PCRS, 3: b"\7" * 48}},
        {"pcrs": {**PCRS, **dict.fromkeys(range(3), bytes(48))}},
        {"pcrs": {index: value for index, value in PCRS.items() if index != 4}},
        {"module_id": f"i-{'0' * 17}-enc{'0' * 16}"},
        TPM,
        {},
    )
    for changes in every:
        data = nitro.document(**changes)
        assert verifier.verify(data, collateral=None, now=NOW).value == nitro.verify(data)


def test_a_document_needs_no_collateral(nitro: Forge) -> None:
    """Another vendor's collateral is the caller's mistake."""
    with pytest.raises(UsageError):
        nitro.verify(collateral=b"")


def test_splices(nitro: Forge) -> None:
    """A leaf of another enclave does not cover this one, though one authority issued both."""
    other = new_key()
    leaf = nitro.issue("leaf", key=other.public_key())
    with pytest.raises(AuthenticityError) as caught:
        nitro.verify(nitro.with_certificates(leaf=leaf))
    assert caught.value.code == "sig_cose"
    assert nitro.verify(nitro.signed(cbor2.dumps(nitro.fields(certificate=der(leaf))), key=other))


FORGE = Forge()
DOCUMENTS = (FORGE.document(), FORGE.signed(cbor2.dumps(FORGE.fields()), tag=18), FORGE.document(**TPM))
CLAIMS = [FORGE.verify(each) for each in DOCUMENTS]


@given(mutations(*DOCUMENTS, most=2))
@PROPERTY
def test_only_our_errors(data: bytes) -> None:
    """A changed document is refused, only by our errors, or has exactly the signed claims."""
    try:
        claims = FORGE.verify(data)
    except KluisError:
        return
    assert claims in CLAIMS


def test_the_last_minutes_of_the_calendar() -> None:
    """Certificates that never run out, and a document of the last minute, are verified then."""
    end = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    forge = Forge()
    forge.certificates = {role: forge.issue(role, end=end) for role in forge.certificates}
    data = forge.document(timestamp=int(end.timestamp() * 1000))
    assert forge.verify(data, now=end).verified_at == end
