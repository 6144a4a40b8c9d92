"""Verification of SGX quotes: each numbered step refuses the case that breaks only that step."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import timedelta

import pytest
from cryptography import x509
from hypothesis import given

from kluis.errors import (
    AuthenticityError,
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
    Verifier,
    verify,
)
from kluis.evidence.intel import sgx
from kluis.evidence.intel import tcb as tcb_rules
from kluis.formats.sgx import extension
from kluis.hashes import Digest
from kluis.tee.platform.root import quoting
from tests.evidence.forge import DEBUG, IMAGE, NOW, SIGNER, Forge
from tests.evidence.intel.steps import STEPS, said
from tests.strategies import PROPERTY, mutations

OTHER = Forge()


@pytest.mark.parametrize("name", STEPS)
def test_step(name: str, forge: Forge) -> None:
    """Each step refuses the evidence in which only it fails, and names the step and the reason."""
    case = STEPS[name]
    with pytest.raises(KluisError) as caught:
        forge.verify(**case.make(forge))  # type: ignore[arg-type]
    assert (type(caught.value), caught.value.code, str(caught.value)) == (
        case.error,
        case.code,
        said(case, forge),
    )


def test_every_step_has_a_case() -> None:
    """Steps 1 to 9 of the docstring each have a forged case; step 10 judges and refuses nothing."""
    assert {int(name.split()[0]) for name in STEPS} == set(range(1, 10))
    lines = [line.strip() for line in (sgx.verify.__doc__ or "").splitlines()]
    assert all(any(line.startswith(f"{number}. ") for line in lines) for number in range(1, 11))


def test_claims(forge: Forge) -> None:
    """A good quote's claims have its values, at the level of its anchor."""
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
    assert claims.platform.product == "E0E0E0000000"
    assert claims.tcb.status is TcbStatus.UP_TO_DATE
    assert claims.tcb.evaluation == 1
    assert claims.platform.id == forge.platform.ppid
    assert claims.verified_at == NOW
    assert claims.collateral_issued == NOW - timedelta(minutes=5)
    assert claims.valid_until == NOW + timedelta(days=30, minutes=-5)


def test_debug_has_no_protection(forge: Forge) -> None:
    """A debug enclave is authentic, and its level is ``none``, at any anchor level."""
    claims = forge.verify(forge.quote(forge.body(flags=DEBUG)))
    assert (claims.debug, claims.level) == (True, ProtectionLevel.NONE)


def test_without_kss_there_is_no_config_id(forge: Forge) -> None:
    """If key separation and sharing is off, its fields are meaningless and not reported."""
    body = dataclasses.replace(forge.body(), isvextprodid=bytes(range(16)), configsvn=5)
    claims = forge.verify(forge.quote(body))
    assert isinstance(claims.vendor, SgxClaims)
    assert (claims.vendor.extended_product_id, claims.vendor.configsvn) == (bytes(range(16)), 5)
    claims = forge.verify(forge.quote(dataclasses.replace(body, flags=0x05)))
    assert isinstance(claims.vendor, SgxClaims)
    assert (claims.config_id, claims.family_id) == (None, None)
    assert (claims.vendor.extended_product_id, claims.vendor.configsvn) == (None, None)


@pytest.mark.parametrize("on", range(3))
def test_a_platforms_configuration(on: int, forge: Forge) -> None:
    """Each flag of a certificate's configuration is reported, and None if the certificate has none."""
    own = x509.load_pem_x509_certificates(forge.platform.chain)[0].extensions
    sgx = own.get_extension_for_oid(x509.ObjectIdentifier(extension.OID)).value
    assert isinstance(sgx, x509.UnrecognizedExtension)
    flags = [index == on for index in range(3)]
    for stated, order, told in (
        (extension.Configuration(*flags), (1, 2, 3, 4, 5, 7), flags),
        (None, (1, 2, 3, 4, 5), [None] * 3),
    ):
        made = dataclasses.replace(extension.parse(sgx.value), configuration=stated, order=order)
        leaf = forge.leaf(sgx=made.encode())
        vendor = forge.verify(forge.with_chain(leaf, forge.ca, forge.root)).vendor
        assert isinstance(vendor, SgxClaims)
        assert [vendor.dynamic, vendor.cached_keys, vendor.smt] == told


def test_how_the_quoting_enclave_names_the_platform(forge: Forge) -> None:
    """It is the first 16 bytes of the header's user data."""
    vendor = forge.verify(forge.with_header(user_data=bytes(range(20)))).vendor
    assert isinstance(vendor, SgxClaims)
    assert vendor.qe_id == bytes(range(16))


def test_order_of_the_chain_does_not_matter(forge: Forge) -> None:
    """Certificates are found by role, not by place."""
    assert forge.verify(forge.with_chain(forge.root, forge.leaf(), forge.ca)).level is ProtectionLevel.PROCESS


def test_another_encoding_of_the_root_is_the_same_root(forge: Forge) -> None:
    """The root's key is pinned: a second certificate over it, and over the CA's, is as good."""
    quote = forge.with_chain(forge.leaf(), forge.pck_ca(), forge.root_ca())
    assert forge.verify(quote, forge.held()).level is ProtectionLevel.PROCESS


@pytest.mark.parametrize("fmspc", ["e0e0e0000000", "E0E0E0000000"])
def test_platforms_in_either_case(fmspc: str, forge: Forge) -> None:
    """TCB info names its kind of platform by a value, whose hexadecimal may be of either case."""
    info = forge.with_tcb_info(lambda d: d.update(fmspc=fmspc))
    assert forge.verify(collateral=info).tcb.status is TcbStatus.UP_TO_DATE


def test_quote_and_collateral_of_two_trusted_roots_do_not_mix(forge: Forge) -> None:
    """Collateral under one trusted root is not used for a quote under another."""
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
    assert str(caught.value) == "TCB info expired on 2026-07-01T11:55:00Z, judged at 2026-07-01T12:00:00Z"


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
    """A platform's status is reported, not judged: even Revoked is authentic evidence."""
    tcb = forge.verify(collateral=_recovered(forge, status)).tcb
    assert (tcb.status, tcb.advisories) == (status, ("KLUIS-1",))


PARTS: dict[str, Callable[[Forge], Collateral]] = {
    "platform": lambda f: f.with_tcb_info(lambda d: d["tcbLevels"][0]["tcb"].update(pcesvn=2)),
    "quoting enclave": lambda f: f.with_identity(lambda d: d["tcbLevels"][0]["tcb"].update(isvsvn=2)),
}


@pytest.mark.parametrize("part", PARTS)
def test_step_10_no_level_reached(part: str, forge: Forge) -> None:
    """A platform, or a quoting enclave, below every level is refused: its vendor does not support it."""
    with pytest.raises(AuthenticityError) as caught:
        forge.verify(collateral=PARTS[part](forge))
    assert caught.value.code == "tcb_not_supported"
    assert str(caught.value) == (
        f"{part}: is NotSupported: it reaches none of the 1 TCB levels that its vendor lists"
    )


def test_tcb_recovery() -> None:
    """After a recovery an old platform is OutOfDate, and one certified again is UpToDate again."""
    forge = Forge()
    newer = bytes([2] * 16)
    forge.authority.recover(cpusvn=newer, pcesvn=1, advisories=("KLUIS-SA-1",), now=NOW)
    old = forge.verify().tcb
    again = forge.platform.recertify(forge.authority, NOW, cpusvn=newer, pcesvn=1)
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
    """For any change of a quote, only our errors come out; if it verifies, the claims are the same as
    before.
    """
    try:
        verified: Verified[Claims] = verify(data, anchors=MUTANT.anchors, collateral=HELD, now=NOW)
    except KluisError:
        return
    # Bytes that nobody signs and that mean nothing: padding, PEM line ends, a NUL after the chain.
    assert verified.value == MUTANT.verify(GOOD)


OPTIONAL = ("pck_certificate_chain", "endorsement")
FIELDS = [field.name for field in dataclasses.fields(Collateral) if field.name not in OPTIONAL]


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


@pytest.mark.parametrize("link", ["leaf", "pck_ca", "root_ca"])
def test_the_first_to_run_out_ends_a_verification(link: str, forge: Forge) -> None:
    """What is claimed holds until the first of collateral and the quote's own certificates runs out."""
    old = getattr(forge, link)(now=NOW - timedelta(days=3640))
    parts = {"leaf": forge.leaf(), "pck_ca": forge.ca, "root_ca": forge.root, link: old}
    claims = forge.verify(forge.with_chain(*parts.values()), forge.held())
    assert claims.valid_until == NOW + timedelta(days=10, minutes=-5)


@pytest.mark.parametrize("vendor", [bytes(16), b"\xff" * 16], ids=["before", "after"])
def test_any_other_vendor(vendor: bytes, forge: Forge) -> None:
    """A quoting enclave of any other vendor is refused."""
    with pytest.raises(AuthenticityError) as caught:
        forge.verify(forge.with_header(qe_vendor_id=vendor))
    assert caught.value.code == "qe_vendor"


REFUTED: dict[str, tuple[Callable[[Forge], bytes], str]] = {
    "root": (lambda _: OTHER.quote(), "root_untrusted"),
    "chain": (lambda forge: forge.with_chain(forge.leaf(), forge.ca), "chain_missing"),
    "quoting enclave": (lambda forge: forge.requote(qe_signature=bytes(64)), "sig_qe_report"),
    "signature": (lambda forge: forge.requote(signature=bytes(64)), "sig_quote"),
}


@pytest.mark.parametrize("what", REFUTED)
def test_without_collateral_what_its_own_bytes_refute_is_refused(what: str, forge: Forge) -> None:
    """Collateral cannot help a quote under an unknown root, or one that its own chain does not cover."""
    forged, code = REFUTED[what]
    with pytest.raises(AuthenticityError) as caught:
        verify(forged(forge), anchors=forge.anchors, collateral=None, now=forge.now)
    assert caught.value.code == code


def test_without_collateral_a_chain_out_of_its_time_is_refused(forge: Forge) -> None:
    """Nor could it save one whose certificates have expired."""
    verifier = Verifier(forge.anchors)
    for _ in range(2):  # uncached, and from the cache
        with pytest.raises(FreshnessError) as caught:
            verifier.verify(forge.quote(), collateral=None, now=forge.now.replace(year=2090))
        assert caught.value.code == "cert_expired"


def test_without_collateral_it_is_said_what_is_missing(forge: Forge) -> None:
    """For evidence without collateral the error names what is missing, and how to get it."""
    with pytest.raises(UnavailableError) as caught:
        Verifier(forge.anchors).verify(forge.quote(), collateral=None, now=NOW)
    assert str(caught.value) == "SGX quote v3: no collateral given: TCB info, QE identity and CRLs"
    assert (caught.value.hint or "").startswith("kluis collateral fetch QUOTE")
