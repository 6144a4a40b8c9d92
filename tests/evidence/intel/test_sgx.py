"""Verification of SGX quotes: each numbered step refuses the case that breaks only that step."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import timedelta
from typing import NamedTuple

import pytest
from hypothesis import given

from kluis.errors import (
    AuthenticityError,
    FormatError,
    FreshnessError,
    KluisError,
    UnavailableError,
    UsageError,
)
from kluis.evidence import (
    Claims,
    Collateral,
    ProtectionLevel,
    SgxClaims,
    TcbStatus,
    TrustAnchors,
    Verified,
    verify,
)
from kluis.evidence.intel import sgx
from kluis.evidence.intel import tcb as tcb_rules
from kluis.formats.sgx import quote as sgx_quote
from kluis.hashes import Digest
from kluis.tee.platform import authority, quoting
from tests.evidence.forge import DEBUG, IMAGE, NOW, SIGNER, Forge, key, pem
from tests.evidence.intel.forge import as_tdx
from tests.strategies import PROPERTY, mutations

OTHER = Forge()


class Case(NamedTuple):
    """What is forged, and what must be said of it."""

    make: Callable[[Forge], dict[str, object]]
    error: type[KluisError]
    code: str
    message: str


def _quote(make: Callable[[Forge], bytes]) -> Callable[[Forge], dict[str, object]]:
    return lambda forge: {"quote": make(forge)}


def _collateral(make: Callable[[Forge], Collateral]) -> Callable[[Forge], dict[str, object]]:
    return lambda forge: {"collateral": make(forge)}


CHAIN = "PCK chain"
CA = "PCK CA certificate"
LEAF = "PCK certificate"
UNSIGNED = "is not signed by the key it should be"

STEPS: dict[str, Case] = {
    "1 another vendor": Case(
        _quote(lambda f: f.with_header(qe_vendor_id=bytes(16))),
        AuthenticityError,
        "qe_vendor",
        f"SGX quote v3.qe_vendor_id: want 939a7233f79c4ca9940a0db3957f0607, got {'00' * 16}",
    ),
    "2 other authentication data": Case(
        _quote(lambda f: f.requote(auth_data=bytes(32))),
        AuthenticityError,
        "ak_binding",
        "quoting enclave's report: does not bind this attestation key",
    ),
    "2 report data that ends in something": Case(
        _quote(
            lambda f: f.with_qe(report_data=sgx_quote.parse(f.quote()).qe_report.report_data[:63] + b"\x01")
        ),
        AuthenticityError,
        "ak_binding",
        "quoting enclave's report: does not bind this attestation key",
    ),
    "3 a key that is no point": Case(
        _quote(lambda f: f.with_attestation_key(bytes([1] * 64))),
        AuthenticityError,
        "sig_quote",
        "SGX quote v3.attestation_key: is not a point on P-256",
    ),
    "3 a key of nobody's, bound": Case(
        _quote(lambda f: f.with_attestation_key(quoting.point(key()))),
        AuthenticityError,
        "sig_quote",
        f"SGX quote v3: {UNSIGNED}",
    ),
    "3 another body": Case(
        _quote(
            lambda f: f.requote(
                signed=f.quote()[:48] + f.body(mrenclave=bytes(32)).encode(),
            )
        ),
        AuthenticityError,
        "sig_quote",
        f"SGX quote v3: {UNSIGNED}",
    ),
    "3 a signature of zeros": Case(
        _quote(lambda f: f.requote(signature=bytes(64))),
        AuthenticityError,
        "sig_quote",
        f"SGX quote v3: {UNSIGNED}",
    ),
    "4 an encrypted PPID instead of a chain": Case(
        _quote(lambda f: f.requote(certification_type=3)),
        UnavailableError,
        "chain_missing",
        "quote.certification_type: want 5, a PCK chain, got 3",
    ),
    "4 no root": Case(
        _quote(lambda f: f.with_chain(f.leaf(), f.ca)),
        AuthenticityError,
        "chain_missing",
        f"{CHAIN}: want 3 certificates, got 2",
    ),
    "4 two leaves": Case(
        _quote(lambda f: f.with_chain(f.leaf(), f.leaf(), f.ca)),
        AuthenticityError,
        "chain_missing",
        f"{CHAIN}: want 1 certificate named SGX PCK Certificate, got 2",
    ),
    "4 a leaf without the SGX extension": Case(
        _quote(lambda f: f.with_chain(f.leaf(sgx=None), f.ca, f.root)),
        FormatError,
        "cert_profile",
        f"{LEAF}: has no SGX extension",
    ),
    "5 a root of somebody's own, named as ours": Case(
        _quote(lambda f: OTHER.quote()),
        AuthenticityError,
        "root_untrusted",
        f"{CHAIN}: want root {{anchor}}, got another key named 'Kluis emulated SGX Root CA (no hardware)'",
    ),
    "5 collateral of somebody's own": Case(
        _collateral(lambda f: OTHER.collateral()),
        AuthenticityError,
        "root_untrusted",
        "PCK CRL issuer chain: want root {anchor}, got another key named "
        "'Kluis emulated SGX Root CA (no hardware)'",
    ),
    "5 a root certificate over the right key that it did not sign": Case(
        _quote(lambda f: f.with_chain(f.leaf(), f.ca, f.root_ca(issuer_key=key()))),
        AuthenticityError,
        "pck_chain",
        f"{CHAIN}: {UNSIGNED}",
    ),
    "5 a root that is no CA": Case(
        _quote(lambda f: f.with_chain(f.leaf(), f.ca, f.root_ca(path_length=None))),
        AuthenticityError,
        "cert_profile",
        f"{CHAIN}: want a CA that signs certificates and CRLs",
    ),
    "6 a CA with another path length": Case(
        _quote(lambda f: f.with_chain(f.leaf(), f.pck_ca(path_length=2), f.root)),
        AuthenticityError,
        "cert_profile",
        f"{CA}: want path length 0, got 2",
    ),
    "6 a CA of somebody's own": Case(
        _quote(lambda f: f.with_chain(f.leaf(), f.pck_ca(issuer_key=key()), f.root)),
        AuthenticityError,
        "pck_chain",
        f"{CA}: {UNSIGNED}",
    ),
    "6 a CA issued by another name": Case(
        _quote(lambda f: f.with_chain(f.leaf(), f.pck_ca(issuer=f.signer()), f.root)),
        AuthenticityError,
        "pck_chain",
        f"{CA}: its issuer is not 'Kluis emulated SGX Root CA (no hardware)'",
    ),
    "6 a CA that uses the maker's name": Case(
        _quote(lambda f: f.with_chain(f.leaf(), f.pck_ca(common_name="Intel SGX PCK Platform CA"), f.root)),
        AuthenticityError,
        "cert_profile",
        f"{CA}: want a name that begins 'Kluis emulated', got 'Intel SGX PCK Platform CA'",
    ),
    "6 a leaf that is a CA": Case(
        _quote(lambda f: f.with_chain(f.leaf(path_length=0), f.ca, f.root)),
        AuthenticityError,
        "cert_profile",
        f"{LEAF}: want an end entity that signs data",
    ),
    "6 a leaf of somebody's own": Case(
        _quote(lambda f: f.with_chain(f.leaf(issuer_key=key()), f.ca, f.root)),
        AuthenticityError,
        "pck_chain",
        f"{LEAF}: {UNSIGNED}",
    ),
    "6 a leaf that has run out": Case(
        _quote(lambda f: f.with_chain(f.leaf(now=NOW - timedelta(days=4000)), f.ca, f.root)),
        FreshnessError,
        "cert_expired",
        f"{LEAF}: want a time until 2025-06-16T11:55:00Z, got 2026-06-01T12:00:00Z",
    ),
    "6 a leaf from the future": Case(
        _quote(lambda f: f.with_chain(f.leaf(now=NOW + timedelta(days=1)), f.ca, f.root)),
        FreshnessError,
        "cert_not_yet_valid",
        f"{LEAF}: want a time from 2026-06-02T11:55:00Z, got 2026-06-01T12:00:00Z",
    ),
    "6 a CA that has run out": Case(
        _quote(lambda f: f.with_chain(f.leaf(), f.pck_ca(now=NOW - timedelta(days=4000)), f.root)),
        FreshnessError,
        "cert_expired",
        f"{CA}: want a time until 2025-06-16T11:55:00Z, got 2026-06-01T12:00:00Z",
    ),
    "6 a root that has run out": Case(
        _quote(lambda f: f.with_chain(f.leaf(), f.ca, f.root_ca(now=NOW - timedelta(days=4000)))),
        FreshnessError,
        "cert_expired",
        "root certificate: want a time until 2025-06-16T11:55:00Z, got 2026-06-01T12:00:00Z",
    ),
    "7 a leaf that is revoked": Case(
        lambda f: {"collateral": f.collateral(pck_crl=f.crl("platform_ca", 77)), "quote": _serial(f, 77)},
        AuthenticityError,
        "cert_revoked",
        f"{LEAF}: serial 0x4d is revoked",
    ),
    "7 a CA that is revoked": Case(
        _collateral(lambda f: f.collateral(root_ca_crl=f.crl("root", f.ca.serial_number))),
        AuthenticityError,
        "cert_revoked",
        f"{CA}: serial {{ca:#x}} is revoked",
    ),
    "7 a signer that is revoked": Case(
        _collateral(lambda f: f.collateral(root_ca_crl=f.crl("root", _signer_serial(f)))),
        AuthenticityError,
        "signing_cert_revoked",
        "TCB signing certificate: serial {signer:#x} is revoked",
    ),
    "7 a PCK CRL that has run out": Case(
        _collateral(lambda f: f.collateral(pck_crl=f.crl("platform_ca", now=NOW - timedelta(days=31)))),
        FreshnessError,
        "crl_expired",
        "PCK CRL: want a time until 2026-05-31T11:55:00Z, got 2026-06-01T12:00:00Z",
    ),
    "7 a root CRL from the future": Case(
        _collateral(lambda f: f.collateral(root_ca_crl=f.crl("root", now=NOW + timedelta(days=1)))),
        FreshnessError,
        "crl_not_yet_valid",
        "root CA CRL: want a time from 2026-06-02T11:55:00Z, got 2026-06-01T12:00:00Z",
    ),
    "7 the CRL of another CA of the same root": Case(
        lambda f: _second_ca(f),
        AuthenticityError,
        "crl_issuer",
        "PCK CRL: want issuer 'Kluis emulated SGX PCK Platform CA (no hardware)', "
        "got 'Kluis emulated SGX PCK Processor CA (no hardware)'",
    ),
    "8 a quoting enclave's report that the PCK did not sign": Case(
        _quote(lambda f: f.requote(qe_signature=bytes(64))),
        AuthenticityError,
        "sig_qe_report",
        f"quoting enclave's report: {UNSIGNED}",
    ),
    "9 TCB info of another kind of platform": Case(
        _collateral(lambda f: f.with_tcb_info(lambda d: d.update(fmspc="00906ea10000"))),
        AuthenticityError,
        "tcb_info_mismatch",
        "TCB info.fmspc: want e0e0e0000000, got 00906ea10000",
    ),
    "9 TCB info of another PCE": Case(
        _collateral(lambda f: f.with_tcb_info(lambda d: d.update(pceId="0100"))),
        AuthenticityError,
        "tcb_info_mismatch",
        "TCB info.pceId: want 0000, got 0100",
    ),
    "9 TCB info of another TEE": Case(
        _collateral(lambda f: f.with_tcb_info(as_tdx)),
        AuthenticityError,
        "tcb_info_mismatch",
        "TCB info.id: want SGX, got TDX",
    ),
    "9 TCB info that has run out": Case(
        _collateral(lambda f: f.with_tcb_info(lambda d: d.update(nextUpdate="2026-05-01T00:00:00Z"))),
        FreshnessError,
        "tcb_info_expired",
        "TCB info: want a time until 2026-05-01T00:00:00Z, got 2026-06-01T12:00:00Z",
    ),
    "9 TCB info from the future": Case(
        _collateral(lambda f: f.with_tcb_info(lambda d: d.update(issueDate="2026-06-02T00:00:00Z"))),
        FreshnessError,
        "tcb_info_not_yet_valid",
        "TCB info: want a time from 2026-06-02T00:00:00Z, got 2026-06-01T12:00:00Z",
    ),
    "9 the identity of another enclave": Case(
        _collateral(lambda f: f.with_identity(lambda d: d.update(id="QVE"))),
        AuthenticityError,
        "qe_identity_mismatch",
        "QE identity.id: want QE, got QVE",
    ),
    "9 an identity that has run out": Case(
        _collateral(lambda f: f.with_identity(lambda d: d.update(nextUpdate="2026-05-01T00:00:00Z"))),
        FreshnessError,
        "qe_identity_expired",
        "QE identity: want a time until 2026-05-01T00:00:00Z, got 2026-06-01T12:00:00Z",
    ),
    "9 an enclave of another signer that quotes": Case(
        _quote(lambda f: f.with_qe(mrsigner=bytes(32))),
        AuthenticityError,
        "qe_identity_mismatch",
        f"QE identity.mrsigner: want {authority.QE_MRSIGNER.hex()}, got {'00' * 32}",
    ),
    "9 another product of the quoting enclave's signer": Case(
        _quote(lambda f: f.with_qe(isvprodid=2)),
        AuthenticityError,
        "qe_identity_mismatch",
        "QE identity.isvprodid: want 1, got 2",
    ),
    "9 a quoting enclave with extra state": Case(
        _quote(lambda f: f.with_qe(miscselect=1)),
        AuthenticityError,
        "qe_identity_mismatch",
        "QE identity.miscselect: want 0, got 1",
    ),
    "9 a debug quoting enclave": Case(
        _quote(lambda f: f.with_qe(flags=0x17)),
        AuthenticityError,
        "qe_identity_mismatch",
        "QE identity.attributes: want 0x11, got 0x13",
    ),
}


def _serial(forge: Forge, serial: int) -> bytes:
    """A quote whose PCK certificate has this serial number."""
    from cryptography import x509
    from cryptography.hazmat.primitives.hashes import SHA256

    good = forge.leaf()
    builder = x509.CertificateBuilder(
        good.issuer,
        good.subject,
        good.public_key(),
        serial,
        good.not_valid_before_utc,
        good.not_valid_after_utc,
        list(good.extensions),
    )
    return forge.with_chain(builder.sign(forge.keys.platform_ca, SHA256()), forge.ca, forge.root)


def _signer_serial(forge: Forge) -> int:
    return forge.held().signers[0].serial


def _second_ca(forge: Forge) -> dict[str, object]:
    from kluis.tee.platform import issuing

    own = key()
    ca = forge.pck_ca(
        common_name="Kluis emulated SGX PCK Processor CA (no hardware)", public_key=own.public_key()
    )
    crl = issuing.crl(ca, own, forge.now, life=timedelta(days=30), revoked=())
    return {"collateral": forge.collateral(pck_crl=crl, pck_crl_issuer_chain=pem(ca, forge.root))}


@pytest.mark.parametrize("name", STEPS)
def test_step(name: str, forge: Forge) -> None:
    """Each step refuses the evidence in which it alone fails, and says which and why."""
    case = STEPS[name]
    with pytest.raises(KluisError) as caught:
        forge.verify(**case.make(forge))  # type: ignore[arg-type]
    want = case.message.format(
        anchor=next(iter(forge.anchors)).name, ca=forge.ca.serial_number, signer=_signer_serial(forge)
    )
    assert (type(caught.value), caught.value.code, str(caught.value)) == (case.error, case.code, want)


def test_every_step_has_a_case() -> None:
    """Steps 1 to 9 of the docstring each have a forged case; step 10 judges and refuses nothing."""
    assert {int(name.split()[0]) for name in STEPS} == set(range(1, 10))
    lines = [line.strip() for line in (sgx.verify.__doc__ or "").splitlines()]
    assert all(any(line.startswith(f"{number}. ") for line in lines) for number in range(1, 11))


def test_claims(forge: Forge) -> None:
    """What a good quote says is what was put into it, at the level of its anchor."""
    claims = forge.verify()
    assert claims.kind == "SGX quote v3"
    assert claims.level is ProtectionLevel.PROCESS
    assert claims.measurement == Digest("sha256", IMAGE)
    assert claims.signer == Digest("sha256", SIGNER)
    assert (claims.product_id, claims.svn, claims.debug) == (7, 3, False)
    assert (claims.config_id, claims.family_id) == (forge.body().configid, b"KLUIS-NO-HARDWAR")
    assert claims.report_data == forge.body().report_data
    assert isinstance(claims.vendor, SgxClaims)
    assert claims.vendor.attributes == 0x85 | 0xE7 << 64
    assert claims.tcb.status is TcbStatus.UP_TO_DATE
    assert claims.tcb.evaluation == 1
    assert claims.platform.id == forge.platform.ppid
    assert claims.verified_at == NOW
    assert claims.collateral_issued == NOW - timedelta(minutes=5)
    assert claims.valid_until == NOW + timedelta(days=30, minutes=-5)


def test_debug_has_no_protection(forge: Forge) -> None:
    """A debug enclave is authentic, and its level is none whatever the anchor's."""
    claims = forge.verify(forge.quote(forge.body(flags=DEBUG)))
    assert (claims.debug, claims.level) == (True, ProtectionLevel.NONE)


def test_without_kss_there_is_no_config_id(forge: Forge) -> None:
    """Where key separation and sharing is off, CONFIGID and the family id mean nothing and are not told."""
    claims = forge.verify(forge.quote(forge.body(flags=0x05)))
    assert (claims.config_id, claims.family_id) == (None, None)


def test_order_of_the_chain_does_not_matter(forge: Forge) -> None:
    """Certificates are found by role, not by place."""
    assert forge.verify(forge.with_chain(forge.root, forge.leaf(), forge.ca)).level is ProtectionLevel.PROCESS


def test_another_encoding_of_the_root_is_the_same_root(forge: Forge) -> None:
    """The root's key is pinned: a second certificate over it, and over the CA's, is as good."""
    quote = forge.with_chain(forge.leaf(), forge.pck_ca(), forge.root_ca())
    assert forge.verify(quote, forge.held()).level is ProtectionLevel.PROCESS


def test_quote_and_collateral_of_two_trusted_roots_do_not_mix(forge: Forge) -> None:
    """Collateral under one trusted root says nothing about a quote under another."""
    with pytest.raises(AuthenticityError) as caught:
        forge.verify(OTHER.quote(), forge.held(), anchors=forge.anchors | OTHER.anchors)
    names = [next(iter(f.anchors)).name for f in (OTHER, forge)]
    assert str(caught.value) == f"collateral: want root {names[0]}, got {names[1]}"
    assert caught.value.code == "root_untrusted"


def test_held_collateral_needs_its_anchor(forge: Forge) -> None:
    """Collateral held under an anchor is refused by a relying party that does not believe it."""
    with pytest.raises(AuthenticityError) as caught:
        forge.verify(collateral=forge.held(), anchors=TrustAnchors.shipped())
    name = next(iter(forge.anchors)).name
    shipped = " or ".join(anchor.name for anchor in TrustAnchors.shipped())
    assert str(caught.value) == f"collateral: want root {shipped}, got {name}"


def test_held_collateral_is_judged_at_each_use(forge: Forge) -> None:
    """Collateral that was good when it was verified is refused once it has run out."""
    held = forge.held()
    assert forge.verify(collateral=held).level is ProtectionLevel.PROCESS
    with pytest.raises(FreshnessError) as caught:
        forge.verify(collateral=held, now=NOW + timedelta(days=30))
    assert str(caught.value) == "TCB info: want a time until 2026-07-01T11:55:00Z, got 2026-07-01T12:00:00Z"


def test_a_naive_time_is_refused(forge: Forge) -> None:
    """A time without a zone is a mistake of the caller."""
    with pytest.raises(UsageError) as caught:
        forge.verify(now=NOW.replace(tzinfo=None))
    assert str(caught.value) == "now: want an aware time, got a naive one"


def test_nothing_has_a_default(forge: Forge) -> None:
    """Anchors, collateral and time must be given."""
    with pytest.raises(TypeError):
        verify(forge.quote())  # type: ignore[call-arg]


@pytest.mark.parametrize("level", ["process", "process-user"])
def test_level_is_the_roots(level: str) -> None:
    """The protection level is what the root's subject states."""
    assert Forge(level).verify().level == level


def _recovered(forge: Forge, status: str) -> Collateral:
    return forge.with_tcb_info(lambda d: d["tcbLevels"][0].update(tcbStatus=status, advisoryIDs=["KLUIS-1"]))


@pytest.mark.parametrize("status", sorted(tcb_rules._PUBLISHED))
def test_step_10_tells_the_status_as_published(status: str, forge: Forge) -> None:
    """A platform's status is told, not judged: even Revoked is authentic evidence."""
    tcb = forge.verify(collateral=_recovered(forge, status)).tcb
    assert (tcb.status, tcb.advisories) == (status, ("KLUIS-1",))


PARTS: dict[str, Callable[[Forge], Collateral]] = {
    "platform": lambda f: f.with_tcb_info(lambda d: d["tcbLevels"][0]["tcb"].update(pcesvn=2)),
    "quoting enclave": lambda f: f.with_identity(lambda d: d["tcbLevels"][0]["tcb"].update(isvsvn=2)),
}


@pytest.mark.parametrize("part", PARTS)
def test_step_10_no_level_reached(part: str, forge: Forge) -> None:
    """A platform, or a quoting enclave, that reaches no level is refused: its maker does not support it."""
    with pytest.raises(AuthenticityError) as caught:
        forge.verify(collateral=PARTS[part](forge))
    assert caught.value.code == "tcb_not_supported"
    assert str(caught.value) == (
        f"{part}: is NotSupported: it reaches none of the 1 TCB levels that its maker lists"
    )


def test_tcb_recovery() -> None:
    """After a recovery an old platform is OutOfDate, and one certified anew is UpToDate again."""
    forge = Forge()
    newer = bytes([2] * 16)
    forge.authority.recover(cpusvn=newer, pcesvn=1, advisories=("KLUIS-SA-1",), now=NOW)
    old = forge.verify().tcb
    again = forge.platform.recertified(forge.authority, NOW, cpusvn=newer, pcesvn=1)
    new = forge.verify(quoting.make_quote(forge.body(), again)).tcb
    assert (old.status, old.advisories, old.evaluation) == ("OutOfDate", ("KLUIS-SA-1",), 2)
    assert (new.status, new.advisories) == ("UpToDate", ())


def test_revoked_platform() -> None:
    """The authority's own revocation is seen by the verifier."""
    forge = Forge()
    quote = forge.quote()
    forge.authority.revoke(forge.platform.chain, NOW)
    with pytest.raises(AuthenticityError) as caught:
        forge.verify(quote)
    assert caught.value.code == "cert_revoked"


MUTANT = Forge()
GOOD = MUTANT.quote()
HELD = MUTANT.held()
COLLATERAL = MUTANT.collateral()


@PROPERTY
@given(mutations(GOOD))
def test_no_mutated_quote_is_verified(data: bytes) -> None:
    """Whatever is changed in a quote, only our errors come out; what verifies says the same as before."""
    try:
        verified: Verified[Claims] = verify(data, anchors=MUTANT.anchors, collateral=HELD, now=NOW)
    except KluisError:
        return
    # Bytes that nobody signs and that mean nothing: padding, PEM line ends, a NUL after the chain.
    assert verified.value == MUTANT.verify(GOOD)


FIELDS = [field.name for field in dataclasses.fields(Collateral) if field.name != "pck_certificate_chain"]


@pytest.mark.parametrize("field", FIELDS)
def test_no_mutated_collateral_is_verified(field: str) -> None:
    """Whatever is changed in any part of the collateral, only our errors come out."""

    @PROPERTY
    @given(mutations(getattr(COLLATERAL, field)))
    def changed(data: bytes) -> None:
        try:
            claims = MUTANT.verify(GOOD, dataclasses.replace(COLLATERAL, **{field: data}))
        except KluisError:
            return
        assert claims == MUTANT.verify(GOOD)

    changed()
