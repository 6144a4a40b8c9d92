"""Forgeries that published verifiers have accepted, made of genuine evidence: each has its own message."""

from __future__ import annotations

import dataclasses

import pytest
from cryptography import x509

from kluis.authority import issuing
from kluis.errors import AuthenticityError
from kluis.evidence import Collateral
from kluis.formats.sgx import quote as dcap_quote
from kluis.formats.sgx.quote import Quote
from kluis.hashes import sha256
from kluis.tee.platform.root import reports
from tests.evidence.forge import Forge, key, pem
from tests.evidence.test_vectors import FOUND, SHIPPED, VECTORS, Vector, verify

pytestmark = pytest.mark.skipif(not FOUND, reason=f"no vectors in {VECTORS}: set KLUIS_VECTORS")
TEES = ("sgx", "tdx")


def _genuine(tee: str) -> tuple[Vector, Quote]:
    """Evidence of a platform that is up to date, and its quote."""
    vector = next(
        vector
        for vector in map(Vector, FOUND)
        if vector.meta["tee"] == tee and vector.expected.get("tcb_status") == "UpToDate"
    )
    return vector, dcap_quote.parse(vector.part("quote"))


def _refused(vector: Vector, quote: Quote, collateral: Collateral | None = None) -> tuple[str, str]:
    with pytest.raises(AuthenticityError) as caught:
        verify(quote.encode(), anchors=SHIPPED, collateral=collateral or vector.collateral(), now=vector.now)
    return caught.value.code, str(caught.value)


def _other_measurement(quote: Quote) -> bytes:
    """Header and body of a quote whose code is another's."""
    name = "mrenclave" if quote.name.startswith("SGX") else "mrtd"
    body = dataclasses.replace(quote.body, **{name: b"\xaa" * len(getattr(quote.body, name))})
    return quote.signed[: -quote.body.SIZE] + body.encode()


@pytest.mark.parametrize("tee", TEES)
def test_an_attestation_key_of_somebodys_own(tee: str) -> None:
    """Another body signed by a fresh key, under the genuine quoting enclave's report and chain."""
    vector, quote = _genuine(tee)
    own, signed = key(), _other_measurement(quote)
    forged = dataclasses.replace(
        quote, signed=signed, signature=issuing.sign(own, signed), attestation_key=reports.point(own)
    )
    assert _refused(vector, forged) == (
        "ak_binding",
        "quoting enclave's report: does not bind this attestation key",
    )


@pytest.mark.parametrize("tee", TEES)
def test_a_pki_of_somebodys_own_in_intels_names(tee: str, forge: Forge) -> None:
    """Every key and certificate recreated, in Intel's names: the root's key is not trusted."""
    vector, quote = _genuine(tee)
    genuine = x509.load_pem_x509_certificates(quote.certification_data.rstrip(b"\0"))
    leaf = next(each for each in genuine if "PCK Certificate" in each.subject.rfc4514_string())
    oid = x509.ObjectIdentifier("1.2.840.113741.1.13.1")
    sgx = leaf.extensions.get_extension_for_oid(oid).value.value  # type: ignore[attr-defined]
    root_key, ca_key, pck_key, own = key(), key(), key(), key()
    root = forge.root_ca(
        common_name="Intel SGX Root CA", public_key=root_key.public_key(), issuer_key=root_key
    )
    ca = forge.pck_ca(
        common_name="Intel SGX PCK Platform CA",
        public_key=ca_key.public_key(),
        issuer=root,
        issuer_key=root_key,
    )
    pck = forge.leaf(
        common_name="Intel SGX PCK Certificate",
        public_key=pck_key.public_key(),
        issuer=ca,
        issuer_key=ca_key,
        sgx=sgx,
    )
    signed = _other_measurement(quote)
    bound = sha256(reports.point(own) + quote.auth_data) + bytes(32)
    report = dataclasses.replace(quote.qe_report, report_data=bound).encode()
    forged = dataclasses.replace(
        quote,
        signed=signed,
        signature=issuing.sign(own, signed),
        attestation_key=reports.point(own),
        qe_report_bytes=report,
        qe_signature=issuing.sign(pck_key, report),
        certification_data=pem(pck, ca, root),
    )
    code, message = _refused(vector, forged)
    assert code == "root_untrusted"
    assert message.startswith("PCK chain: want root Intel SGX Root CA")
    assert message.endswith("got another key named 'Intel SGX Root CA'")


@pytest.mark.parametrize("tee", TEES)
def test_tcb_info_that_was_changed(tee: str) -> None:
    """A TCB info with one status made better is not as Intel signed it."""
    vector, quote = _genuine(tee)
    given = vector.collateral()
    better = given.tcb_info.replace(b'"OutOfDate"', b'"UpToDate" ', 1)
    assert better != given.tcb_info
    assert _refused(vector, quote, dataclasses.replace(given, tcb_info=better)) == (
        "tcb_info_sig",
        "TCB info: is not signed by the key it should be",
    )


@pytest.mark.parametrize("tee", TEES)
@pytest.mark.parametrize(
    "signature", [bytes(64), b"\xff" * 64, bytes(32) + b"\1" * 32], ids=lambda s: s[:1].hex()
)
def test_signatures_out_of_range(tee: str, signature: bytes) -> None:
    """Zeros, or numbers past the curve's order, are no signature, and refused as one that is not."""
    vector, quote = _genuine(tee)
    assert _refused(vector, dataclasses.replace(quote, signature=signature)) == (
        "sig_quote",
        f"{quote.name}: is not signed by the key it should be",
    )
    assert _refused(vector, dataclasses.replace(quote, qe_signature=signature)) == (
        "sig_qe_report",
        "quoting enclave's report: is not signed by the key it should be",
    )
