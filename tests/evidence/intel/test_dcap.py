"""What is cached for a platform, what never is, and quotes whose chain comes separately."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from kluis.authority import issuing
from kluis.errors import AuthenticityError, FreshnessError, KluisError, UnavailableError, UsageError
from kluis.evidence import ProtectionLevel, TrustAnchors, Verifier
from kluis.evidence.anchors import STATED_LEVELS
from kluis.evidence.context import Context, Memory
from kluis.evidence.engine import OPENSSL, Key
from kluis.evidence.intel import collateral as holding
from kluis.evidence.intel import sgx
from kluis.evidence.intel.dcap import LEVELS
from kluis.formats.sgx import quote as dcap_quote
from kluis.formats.sgx.quote import TEE_TDX
from kluis.formats.x509 import Scheme
from kluis.tee.platform.root import quoting, reports
from tests.evidence.forge import NOW, Forge, key, pem
from tests.evidence.intel.forge import TdxForge
from tests.evidence.intel.steps import signer_serial

NUMBERS = itertools.count()


class Counting:
    """An engine that counts what it verifies."""

    def __init__(self) -> None:
        # Anchors cache the keys of their certificates by the engine's name.
        self.name = f"counting {next(NUMBERS)}"
        self.verified = 0

    def key(self, spki: bytes, scheme: Scheme) -> Key:
        counting, inner = self, OPENSSL.key(spki, scheme)

        class Counted:
            def verify(self, signature: bytes, signed: bytes) -> bool:
                counting.verified += 1
                return inner.verify(signature, signed)

        return Counted()


def _count(forge: Forge, *quotes: bytes, collateral: Any = None) -> list[int]:
    engine = Counting()
    verifier = Verifier(forge.anchors, engine=engine)
    counts = []
    for quote in quotes:
        before = engine.verified
        verifier.verify(quote, collateral=collateral or forge.collateral(), now=forge.now)
        counts.append(engine.verified - before)
    return counts


def test_signatures_of_one_verification(forge: Forge) -> None:
    """Nine signatures are checked for a quote and its collateral; three where the collateral is held."""
    assert _count(forge, forge.quote(), collateral=forge.collateral()) == [9]
    assert _count(forge, forge.quote(), collateral=forge.held()) == [3]


def test_a_platform_seen_before_costs_one_signature(forge: Forge) -> None:
    """Another quote under the same attestation key only costs that quote's signature."""
    other = forge.quote(forge.body(isvsvn=9))
    assert _count(forge, forge.quote(), other, forge.quote(), collateral=forge.held()) == [3, 1, 1]


def test_collateral_seen_before_is_known_by_its_bytes(forge: Forge) -> None:
    """The same bytes of collateral are verified once; any other bytes, even if equivalent, are verified
    again.
    """
    engine = Counting()
    verifier = Verifier(forge.anchors, engine=engine)
    good = forge.collateral()
    again = dataclasses.replace(good)
    other = dataclasses.replace(good, root_ca_crl=good.root_ca_crl.hex().encode())
    counts = []
    for collateral in (good, again, other, other):
        before = engine.verified
        verifier.verify(forge.quote(), collateral=collateral, now=NOW)
        counts.append(engine.verified - before)
    assert counts == [9, 1, 7, 1]


def test_a_ca_that_the_collateral_names_and_its_root_revoked(forge: Forge) -> None:
    """A revoked certificate of the CA is refused if it is only in the collateral, as in the quote."""
    other = forge.pck_ca()
    revoking = forge.crl("root", other.serial_number)
    given = forge.collateral(pck_crl_issuer_chain=pem(other, forge.root), root_ca_crl=revoking)
    with pytest.raises(AuthenticityError) as caught:
        forge.verify(collateral=given)
    assert (caught.value.code, str(caught.value)) == (
        "cert_revoked",
        f"PCK CA certificate: serial {other.serial_number:#x} is revoked",
    )


def test_one_verification_alone_remembers_nothing(forge: Forge) -> None:
    """A single use is not cached; and little collateral is cached at all, since each is large."""
    lone, lasting = Context(forge.anchors), Context(forge.anchors, lasting=True)
    for context in (lone, lasting):
        holding.recall(forge.collateral(), context)
    assert not any(kind == "collateral" for kind, _ in lone.memory._entries)
    good = forge.collateral()
    for index in range(300):
        holding.recall(dataclasses.replace(good, pck_certificate_chain=index.to_bytes(2, "big")), lasting)
    assert 32 <= sum(kind == "collateral" for kind, _ in lasting.memory._entries) <= 64


SEEN: dict[str, tuple[Callable[[Forge], dict[str, Any]], type[KluisError], str]] = {
    "a PCK certificate revoked since": (
        lambda f: {"collateral": f.collateral(pck_crl=f.crl("platform_ca", _leaf_serial(f)))},
        AuthenticityError,
        "cert_revoked",
    ),
    "a PCK CA revoked since": (
        lambda f: {"collateral": f.collateral(root_ca_crl=f.crl("root", f.ca.serial_number))},
        AuthenticityError,
        "cert_revoked",
    ),
    "a signer revoked since": (
        lambda f: {"collateral": f.collateral(root_ca_crl=f.crl("root", signer_serial(f)))},
        AuthenticityError,
        "signing_cert_revoked",
    ),
    "certificates that have run out since": (
        lambda f: {"now": NOW + timedelta(days=3651)},
        FreshnessError,
        "cert_expired",
    ),
    "collateral that has run out since": (
        lambda f: {"now": NOW + timedelta(days=31)},
        FreshnessError,
        "tcb_info_expired",
    ),
    "TCB info of another kind of platform": (
        lambda f: {"collateral": f.with_tcb_info(lambda d: d.update(fmspc="00906ea10000"))},
        AuthenticityError,
        "tcb_info_mismatch",
    ),
    "the identity of another quoting enclave": (
        lambda f: {"collateral": f.with_identity(lambda d: d.update(isvprodid=2))},
        AuthenticityError,
        "qe_identity_mismatch",
    ),
    "a platform no longer supported": (
        lambda f: {"collateral": f.with_tcb_info(lambda d: d["tcbLevels"][0]["tcb"].update(pcesvn=2))},
        AuthenticityError,
        "tcb_not_supported",
    ),
    "another body": (
        lambda f: {"data": f.requote(signed=sgx_signed(f)[:-1] + b"\xff")},
        AuthenticityError,
        "sig_quote",
    ),
    "no collateral": (lambda f: {"collateral": None}, UnavailableError, "collateral_missing"),
}


def sgx_signed(forge: Forge) -> bytes:
    """Header and body of the forger's quote."""
    return dcap_quote.parse(forge.quote()).signed


def _leaf_serial(forge: Forge) -> int:
    return x509.load_pem_x509_certificates(forge.platform.chain)[0].serial_number


@pytest.mark.parametrize("name", SEEN)
def test_what_is_never_remembered(name: str, forge: Forge) -> None:
    """Time, revocation, status and the quote's own signature are checked again for a cached platform."""
    change, error, code = SEEN[name]
    verifier = Verifier(forge.anchors)
    good = {"data": forge.quote(), "collateral": forge.collateral(), "now": forge.now}
    verifier.verify(**good)
    with pytest.raises(KluisError) as caught:
        verifier.verify(**{**good, **change(forge)})
    assert (type(caught.value), caught.value.code) == (error, code)
    verifier.verify(**good)


def test_only_successes_are_remembered(forge: Forge) -> None:
    """Forged quotes leave nothing of theirs behind: no key, no chain."""
    memory = Memory()
    context = Context(forge.anchors, memory=memory)
    held = forge.held()
    sgx.verify(forge.quote(), context=context, collateral=held, now=forge.now)
    kept = len(memory)
    for quote in (
        forge.requote(signature=bytes(64)),
        forge.requote(qe_signature=bytes(64)),
        forge.with_attestation_key(reports.point(key())),
        forge.with_chain(forge.leaf(issuer_key=key()), forge.ca, forge.root),
        Forge().quote(),
    ):
        with pytest.raises(AuthenticityError):
            sgx.verify(quote, context=context, collateral=held, now=forge.now)
    assert len(memory) == kept


def test_a_remembered_platform_under_another_root(forge: Forge) -> None:
    """A platform cached under one root is not verified by collateral of another."""
    other = Forge()
    verifier = Verifier(forge.anchors | other.anchors)
    verifier.verify(forge.quote(), collateral=forge.held(), now=NOW)
    with pytest.raises(AuthenticityError) as caught:
        verifier.verify(forge.quote(), collateral=other.held(), now=NOW)
    assert caught.value.code == "root_untrusted"


# Every type without a chain, and that of a chain without one.
LONE = [*((kind, b"\1" * 404) for kind in (1, 2, 3, 4, 7)), (1, bytes(34)), (5, b"")]


@pytest.mark.parametrize(("kind", "data"), LONE)
def test_a_chain_beside_the_quote(kind: int, data: bytes, forge: Forge) -> None:
    """A quote that only names its certificate is verified with the chain that the collateral brings."""
    quote = forge.requote(certification_type=kind, certification_data=data)
    beside = dataclasses.replace(forge.collateral(), pck_certificate_chain=forge.platform.chain)
    with pytest.raises(UnavailableError) as caught:
        forge.verify(quote)
    assert caught.value.code == "chain_missing"
    assert caught.value.hint == "give the platform's PCK chain as the collateral's pck_certificate_chain"
    claims = forge.verify(quote, beside)
    assert claims == forge.verify()
    assert forge.verify(quote, holding.hold(beside, forge.anchors)) == claims
    assert _count(forge, quote, quote, collateral=holding.hold(beside, forge.anchors)) == [3, 1]


def test_the_quotes_own_chain_goes_before(forge: Forge) -> None:
    """A quote with a chain is judged by that chain, whatever the collateral brings."""
    beside = dataclasses.replace(forge.collateral(), pck_certificate_chain=b"nothing")
    assert forge.verify(collateral=beside) == forge.verify()
    lone = forge.requote(certification_type=3)
    with pytest.raises(KluisError) as caught:
        forge.verify(lone, beside)
    assert str(caught.value) == "PCK chain at 0x0: is not a PEM certificate"


def test_another_platforms_chain_beside(forge: Forge) -> None:
    """A chain of another platform did not sign this quoting enclave's report."""
    quote = forge.requote(certification_type=3)
    stranger = quoting.PlatformKeys.create(forge.authority, NOW)
    beside = dataclasses.replace(forge.collateral(), pck_certificate_chain=stranger.chain)
    with pytest.raises(AuthenticityError) as caught:
        forge.verify(quote, beside)
    assert caught.value.code == "sig_qe_report"


def _without(forge: Forge, oid: str) -> bytes:
    """A quote whose leaf has one extension removed."""
    from cryptography.hazmat.primitives.hashes import SHA256

    good = forge.leaf()
    builder = x509.CertificateBuilder(
        good.issuer,
        good.subject,
        good.public_key(),
        good.serial_number,
        good.not_valid_before_utc,
        good.not_valid_after_utc,
        [each for each in good.extensions if each.oid.dotted_string != oid],
    )
    return forge.with_chain(builder.sign(forge.keys.platform_ca, SHA256()), forge.ca, forge.root)


@pytest.mark.parametrize(("oid", "missing"), [("2.5.29.15", "key usage"), ("2.5.29.19", "basic constraints")])
def test_a_leaf_without_its_profile(oid: str, missing: str, forge: Forge) -> None:
    """A leaf without key usage, or basic constraints, may not be one."""
    with pytest.raises(AuthenticityError) as caught:
        forge.verify(_without(forge, oid))
    assert (caught.value.code, str(caught.value)) == ("cert_profile", f"PCK certificate: has no {missing}")


def test_a_leaf_that_issues(forge: Forge) -> None:
    """A certificate issued by a genuine PCK leaf is nobody's."""
    own = key()
    child = forge.leaf(public_key=own.public_key(), issuer=forge.leaf(), issuer_key=forge.platform.pck)
    with pytest.raises(AuthenticityError) as caught:
        forge.verify(forge.with_chain(child, forge.ca, forge.root))
    assert caught.value.code == "pck_chain"


@pytest.mark.parametrize("form", ["hex", "PEM"])
def test_crls_in_every_form(form: str, forge: Forge) -> None:
    """CRLs may come as hex or PEM, as other services give them."""
    import base64

    def written(data: bytes) -> bytes:
        if form == "hex":
            return data.hex().encode()
        return b"-----BEGIN X509 CRL-----\n" + base64.encodebytes(data) + b"-----END X509 CRL-----\n"

    good = forge.collateral()
    other = forge.collateral(root_ca_crl=written(good.root_ca_crl), pck_crl=written(good.pck_crl))
    assert forge.verify(collateral=other) == forge.verify(collateral=good)


def test_held_collateral_at_its_edges(forge: Forge) -> None:
    """The first and the last moment of collateral are its own; a naive time is refused."""
    held = forge.held()
    for moment in (held.start, held.end):
        held.check(moment)
    with pytest.raises(FreshnessError):
        held.check(held.end + timedelta(seconds=1))
    with pytest.raises(FreshnessError):
        held.check(held.start - timedelta(seconds=1))
    with pytest.raises(UsageError):
        forge.verify(collateral=held, now=NOW.replace(tzinfo=None))


def test_an_anchor_knows_its_own_certificates_alone(forge: Forge) -> None:
    """A root certificate of the same key and other bytes is checked; one known by its bytes need not be."""
    (anchor,) = forge.anchors
    assert [each.common_name for each in anchor.proven.values()] == [
        "Kluis emulated SGX Root CA (no hardware)"
    ]
    again = forge.with_chain(forge.leaf(), forge.ca, forge.root_ca())
    assert _count(forge, again, collateral=forge.held()) == [4]
    for known in TrustAnchors.shipped():
        for certificate in known.proven.values():
            key_of = OPENSSL.key(known.spki, certificate.scheme)
            assert key_of.verify(certificate.signature, certificate.signed)


def _stated(forge: Forge, level: ProtectionLevel | None) -> TrustAnchors:
    """The forger's root as a bare key, whose level is stated."""
    spki = forge.root.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return TrustAnchors.from_pem(spki, level)


@pytest.mark.parametrize(
    ("level", "sgx_level", "tdx_level"),
    [
        (ProtectionLevel.HARDWARE_SGX, ProtectionLevel.HARDWARE_SGX, ProtectionLevel.HARDWARE_TDX),
        (ProtectionLevel.HARDWARE_TDX, None, ProtectionLevel.HARDWARE_TDX),
        (ProtectionLevel.NONE, ProtectionLevel.NONE, ProtectionLevel.NONE),
        *((level, None, None) for level in STATED_LEVELS if level not in LEVELS[TEE_TDX]),
    ],
)
def test_step_5_a_root_of_another_tee(
    level: ProtectionLevel, sgx_level: ProtectionLevel | None, tdx_level: ProtectionLevel | None, forge: Forge
) -> None:
    """A root stated to be of AMD, of TPMs or of GPUs is not trusted for a quote of Intel's."""
    domain = TdxForge()
    for made, want in ((forge, sgx_level), (domain, tdx_level)):
        anchors = _stated(made, level)
        if want is not None:
            assert made.verify(anchors=anchors).level is want
            continue
        with pytest.raises(AuthenticityError, match="is no root of") as caught:
            made.verify(anchors=anchors)
        assert caught.value.code == "root_untrusted"


def test_held_collateral_does_not_bring_its_level(forge: Forge) -> None:
    """Collateral held under a root of one level is not used under another level for the same key."""
    held = holding.hold(forge.collateral(), _stated(forge, ProtectionLevel.HARDWARE_SGX))
    with pytest.raises(AuthenticityError) as caught:
        forge.verify(collateral=held, anchors=_stated(forge, None))
    assert caught.value.code == "root_untrusted"


def test_a_ca_proven_under_one_root_is_not_under_another(forge: Forge) -> None:
    """A chain of another root, and the CA of the collateral's, is refused before it is remembered."""
    other = Forge()
    leaf = forge.leaf()
    mixed = forge.with_chain(leaf, forge.ca, other.root)
    context = Context(forge.anchors | other.anchors, lasting=True)
    with pytest.raises(AuthenticityError) as caught:
        sgx.verify(mixed, context=context, collateral=forge.collateral(), now=forge.now)
    assert caught.value.code == "pck_chain"
    assert not any(kind == "DCAP attestation key" for kind, _ in context.memory._entries)


def test_an_older_certificate_of_the_ca_that_is_revoked(forge: Forge) -> None:
    """The quote's own certificate of the PCK CA is looked for on the root CRL, too."""
    older = forge.pck_ca()
    assert older.serial_number != forge.ca.serial_number
    leaf = x509.load_pem_x509_certificates(forge.platform.chain)[0]
    quote = forge.with_chain(leaf, older, forge.root)
    forge.verify(quote)
    revoking = forge.collateral(root_ca_crl=forge.crl("root", older.serial_number))
    with pytest.raises(AuthenticityError) as caught:
        forge.verify(quote, revoking)
    assert caught.value.code == "cert_revoked"


@pytest.mark.parametrize(("kind", "data"), [*LONE, (3, b"\xff" * 404)])
def test_a_remembered_platform_under_another_chain(kind: int, data: bytes, forge: Forge) -> None:
    """A platform cached with the chain next to its quote is not verified by another chain."""
    quote = forge.requote(certification_type=kind, certification_data=data)
    stranger = quoting.PlatformKeys.create(forge.authority, NOW)
    verifier = Verifier(forge.anchors)
    good = dataclasses.replace(forge.collateral(), pck_certificate_chain=forge.platform.chain)
    verifier.verify(quote, collateral=good, now=NOW)
    other = dataclasses.replace(good, pck_certificate_chain=stranger.chain)
    with pytest.raises(AuthenticityError) as caught:
        verifier.verify(quote, collateral=other, now=NOW)
    assert caught.value.code == "sig_qe_report"


@pytest.mark.parametrize("changed", [{}, {"certification_data": bytes(404)}], ids=["again", "beside"])
def test_a_remembered_chain_beside_another_quoting_enclave(changed: dict[str, bytes], forge: Forge) -> None:
    """A chain that was verified with a quote only covers that quoting enclave's report."""
    verifier = Verifier(forge.anchors)
    beside = dataclasses.replace(forge.collateral(), pck_certificate_chain=forge.platform.chain)
    good = dcap_quote.parse(forge.requote(certification_type=3, **changed))
    verifier.verify(good.encode(), collateral=beside, now=NOW)
    newer = dataclasses.replace(good.qe_report, isvsvn=good.qe_report.isvsvn + 1).encode()
    forged = dataclasses.replace(good, qe_report_bytes=newer)
    with pytest.raises(AuthenticityError) as caught:
        verifier.verify(forged.encode(), collateral=beside, now=NOW)
    assert caught.value.code == "sig_qe_report"


@pytest.mark.parametrize("greater", [False, True])
def test_the_list_of_another_ca_of_the_same_root(greater: bool, forge: Forge) -> None:
    """A PCK CRL is of the very CA that issued the leaf, whichever key is the greater."""
    mine = forge.ca.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    while True:  # of keys, half are less
        own = key()
        other = own.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        if (other > mine) is greater:
            break
    ca = forge.pck_ca(public_key=own.public_key())
    crl = issuing.crl(ca, own, NOW, life=timedelta(days=30), revoked=())
    given = forge.collateral(pck_crl=crl, pck_crl_issuer_chain=pem(ca, forge.root))
    with pytest.raises(AuthenticityError) as caught:
        forge.verify(collateral=given)
    assert caught.value.code == "crl_issuer"


def test_collateral_of_another_trusted_root_in_either_order(forge: Forge) -> None:
    """Collateral under another root, trusted or not, is not used for a quote, whichever key is greater."""
    other = Forge()
    for one, two in ((forge, other), (other, forge)):
        for anchors in (one.anchors | two.anchors, one.anchors):
            with pytest.raises(AuthenticityError) as caught:
                one.verify(collateral=two.held(), anchors=anchors)
            assert caught.value.code == "root_untrusted"
