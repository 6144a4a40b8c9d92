"""Envelopes: the evidence within is verified, at any depth, and a bare envelope proves nothing."""

from __future__ import annotations

import dataclasses
import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given

from kluis.errors import AuthenticityError, FormatError, KluisError, UnsupportedError
from kluis.evidence.model import Tee
from kluis.evidence.sniff import sniff
from kluis.evidence.wrappers import envelope
from kluis.evidence.wrappers.bound import Bound
from kluis.evidence.wrappers.unwrap import MAX_LAYERS, peel, unwrap
from kluis.formats.encoding import cbor, der
from kluis.formats.encoding.cbor import Tagged
from kluis.formats.ietf import cmw_cbor, cose
from kluis.formats.ietf.cmw import NESTED, OCTETS, Collection, Indicator, Nested, Part
from kluis.formats.kluis.evidence_file import EvidenceFile
from kluis.formats.wrappers import oe, ratls, tsm
from tests.appraisal.samples import SAMPLES
from tests.evidence import samples
from tests.evidence.wrappers.test_unwrap import GPU, SGX, SPKI, TDX, der_of, sgx_quote
from tests.formats.wrappers.test_eat import jwt, unsigned, url
from tests.strategies import PROPERTY, mutations

NONCE = b"a nonce of ours"
KEY = ec.generate_private_key(ec.SECP384R1())
PLAIN = SGX.quote()
FRESH = SGX.quote(SGX.body(report_data=NONCE.ljust(64, b"\0")))
TAG = cmw_cbor.tag_of(42)
OID = cmw_cbor.CERTIFICATE_OID


def cwt(claims: cbor.Writable) -> bytes:
    return cose.sign1(cbor.dumps(claims), KEY)


def record(data: bytes = PLAIN) -> bytes:
    return cbor.dumps([OCTETS, data])


GOOD: dict[str, tuple[bytes, str]] = {
    "record": (Part(OCTETS, PLAIN, Indicator.EVIDENCE).encode(), "CMW record"),
    "record of several kinds": (Part(OCTETS, PLAIN, Indicator(6)).encode(), "CMW record"),
    "record of a content format": (Part(42, PLAIN).encode(), "CMW record"),
    "record in CBOR": (record(), "CMW record"),
    "tag": (cbor.dumps(Tagged(TAG, PLAIN)), "CMW record"),
    "collection": (
        Collection({"quote": Part(OCTETS, PLAIN), "more": Part("text/plain", b"no evidence")}).encode(),
        "CMW collection",
    ),
    "collection of as many parts as there may be": (
        Collection({**{f"no{at}": Part(42, b"none") for at in range(31)}, "quote": Part(42, PLAIN)}).encode(),
        "CMW collection",
    ),
    "collection whose other parts are none": (
        Collection(
            {"tee": Part(OCTETS, PLAIN, Indicator.EVIDENCE), "ref": Part(42, PLAIN, Indicator(1))}
        ).encode(),
        "CMW collection",
    ),
    "collection in CBOR": (cbor.dumps({1: [42, PLAIN], "more": [42, b"no evidence"]}), "CMW collection"),
    "collection under its tag": (
        cbor.dumps(Tagged(cmw_cbor.Tag.COLLECTION, {"tee": Tagged(TAG, PLAIN)})),
        "CMW collection",
    ),
    "collection in a collection": (
        Collection({"a": Nested(NESTED, Collection({"b": Part(OCTETS, PLAIN)}).encode())}).encode(),
        "CMW collection in CMW collection",
    ),
    "collection in a collection, CBOR": (
        cbor.dumps({"a": {"b": [42, PLAIN]}}),
        "CMW collection in CMW collection",
    ),
    "CBOR in JSON": (Part("application/cmw+cbor", record()).encode(), "CMW record in CMW record"),
    "a maker's wrapper in a record": (
        Part(OCTETS, oe.encode_report(PLAIN)).encode(),
        "Open Enclave report in CMW record",
    ),
    "evidence file": (EvidenceFile(evidence=PLAIN).encode(), "evidence file"),
    "EAT, signed CBOR": (cwt({256: b"\x01" + bytes(32), 273: [[42, PLAIN]]}), "EAT (CWT)"),
    "EAT, CBOR": (unsigned({266: {"tee": {273: [[42, PLAIN]]}}}), "EAT (UCCS)"),
    "EAT, CBOR without a tag": (cbor.dumps({273: [[42, PLAIN]]}), "EAT (UCCS)"),
    "EAT, signed JSON": (jwt({"measurements": [[42, url(PLAIN)]]}), "EAT (JWT)"),
    "EAT, JSON": (
        json.dumps({"eat_profile": "tag:a", "submods": {"quote": [OCTETS, url(PLAIN)]}}).encode(),
        "EAT (UJCS)",
    ),
    "EAT with a wrapper": (jwt({"cmw": {"tee": [42, url(PLAIN)]}}), "CMW collection in EAT (JWT)"),
    "EAT with a wrapper, CBOR": (cwt({299: Tagged(TAG, PLAIN)}), "CMW record in EAT (CWT)"),
    "EAT in an EAT": (
        unsigned({266: {"tee": b"\xd8\x3d" + cwt({273: [[42, PLAIN]]})}}),
        "EAT (CWT) in EAT (UCCS)",
    ),
    "JWT in a CWT": (
        cwt({266: {"tee": json.dumps(["JWT", jwt({"measurements": [[42, url(PLAIN)]]}).decode()])}}),
        "EAT (JWT) in EAT (CWT)",
    ),
    "EAT in a record": (Part("application/eat+cwt", cwt({273: [[42, PLAIN]]})).encode(),
                        "EAT (CWT) in CMW record"),
    "nonce": (cwt({10: NONCE, 273: [[42, FRESH]]}), "EAT (CWT)"),
    "nonce in base64url": (jwt({"eat_nonce": url(NONCE), "measurements": [[42, url(FRESH)]]}), "EAT (JWT)"),
    "nonce as text": (jwt({"eat_nonce": NONCE.decode(), "measurements": [[42, url(FRESH)]]}), "EAT (JWT)"),
    "nonces around": (
        unsigned({10: NONCE, 266: {"tee": {10: NONCE, 273: [[42, FRESH]]}}}),
        "EAT (UCCS)",
    ),
    "certificate with text": (
        der_of(OID, b"\x0c" + der.element(4, Part(OCTETS, sgx_quote(SPKI)).encode())[1:]),
        "CMW record in certificate with a CMW",
    ),
    "certificate with bytes": (
        der_of(OID, der.element(der.OCTET_STRING, record(sgx_quote(SPKI)))),
        "CMW record in certificate with a CMW",
    ),
    "certificate of DICE": (
        der_of(ratls.DICE_OID, cbor.dumps(Tagged(TAG, sgx_quote(SPKI)))),
        "CMW record in certificate with a CMW",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", GOOD)
def test_good(case: str) -> None:
    """The evidence within is verified, and its claims tell every wrapper that it came in."""
    data, name = GOOD[case]
    claims = SGX.verify(data)
    assert claims.wrapper is not None
    assert claims.wrapper.name == name
    fresh = case.startswith("nonce")
    bound = {"nonce of an EAT": NONCE} if fresh else {"public key": SPKI} if "certificate" in case else {}
    assert dict(claims.wrapper.binds) == bound


@pytest.mark.parametrize("case", GOOD)
def test_sniffed(case: str) -> None:
    """What is verified is also shown, down to the evidence."""
    found = sniff(GOOD[case][0])
    while found.name != "SGX quote v3":
        found = next(part for _, part in found.within if part.within or part.name == "SGX quote v3")


@pytest.mark.parametrize("kind", samples.REGISTERED)
def test_every_kind(kind: str) -> None:
    """Every vendor's evidence may come in an envelope, in CBOR and in JSON."""
    one = samples.sample(kind)
    alone = one.verify()
    for data in (
        cbor.dumps([OCTETS, one.data]),
        Part(OCTETS, one.data).encode(),
        cwt({273: [[42, one.data]]}),
        jwt({"measurements": [[42, url(one.data)]]}),
    ):
        assert one.verify(data).measurement == alone.measurement


def test_parts_that_belong_together() -> None:
    """Evidence of several parts is one piece, in CBOR as in JSON, and in nested envelopes."""
    parts = {label: [42, part.value] for label, part in Collection.parse(GPU.evidence()).parts.items()}
    assert GPU.verify(cbor.dumps(parts)).nonce == GPU.verify(GPU.evidence()).nonce
    assert GPU.verify(Part("application/cmw+json", GPU.evidence()).encode()).nonce is not None
    assert GPU.verify(jwt({"cmw": url(GPU.evidence())})).nonce is not None
    within = Collection({"gpu": Nested(NESTED, GPU.evidence()), "more": Part(42, b"no evidence")}).encode()
    assert GPU.verify(within).nonce is not None
    report = Collection.parse(tsm.wrap("tdx_guest", TDX.quote())).parts
    wrapper = TDX.verify(cbor.dumps({label: [42, part.value] for label, part in report.items()})).wrapper
    assert wrapper is not None
    assert wrapper.name == "configfs-tsm report in CMW collection"


def test_nonces_that_are_evidences_own() -> None:
    """A nonce of an EAT may be the one that the evidence has a place for."""
    one = samples.sample("nvidia.report")
    nonce = one.verify().nonce
    assert nonce is not None
    wrapper = one.verify(cwt({10: nonce, 299: one.data})).wrapper
    assert wrapper is not None
    assert dict(wrapper.binds) == {"nonce of an EAT": nonce}


@pytest.mark.parametrize("tee", SAMPLES)
def test_zeros_after_a_nonce(tee: Tee) -> None:
    """A shorter nonce has zeros after it where the TEE's field is always 64 bytes, and nowhere else."""
    bound = Bound(what="nonce of an EAT", value=NONCE, challenge=(NONCE,))
    padded = NONCE.ljust(64, b"\0")
    for nonce, report_data, ok in (
        (NONCE, b"", True),
        (None, NONCE, True),
        (None, padded, tee in {Tee.SGX, Tee.TDX, Tee.SNP}),
        (padded, b"", tee is Tee.CCA),
        (None, NONCE + b"\0", False),
        (NONCE[:-1], b"", False),
    ):
        claims = dataclasses.replace(SAMPLES[tee], nonce=nonce, report_data=report_data)
        if ok:
            bound.check(claims, "EAT")
            continue
        with pytest.raises(AuthenticityError) as caught:
            bound.check(claims, "EAT")
        assert caught.value.code == "nonce"


def test_all_that_is_bound_is_told() -> None:
    """Of two nonces, in one envelope or in two, the claims have both; the same one is listed once."""
    longer = NONCE + b"\0"
    inner = cwt({10: longer, 273: [[42, FRESH]]})
    for data in (
        cwt({10: [NONCE, longer], 273: [[42, FRESH]]}),
        cwt({10: [NONCE, NONCE], 273: [[263, inner]]}),
    ):
        wrapper = SGX.verify(data).wrapper
        assert wrapper is not None
        assert dict(wrapper.binds) == {"nonce of an EAT": NONCE, "nonce of an EAT (2)": longer}


REFUSED: dict[str, tuple[bytes, type[KluisError], str]] = {
    "an EAT alone": (cwt({10: NONCE, 256: b"\x01" + bytes(32)}), AuthenticityError, "no_evidence"),
    "an EAT alone, CBOR": (unsigned({256: b"\x01" + bytes(32)}), AuthenticityError, "no_evidence"),
    "an EAT alone, JSON": (b'{"eat_nonce":"a nonce of ours"}', AuthenticityError, "no_evidence"),
    "a PSA token": (cwt({10: NONCE, 265: "http://arm.com/psa/2.0.0"}), UnsupportedError, "bad_magic"),
    "the oldest PSA token": (cwt({-75000: "PSA_IOT_PROFILE_1", -75008: bytes(32)}), UnsupportedError,
                             "bad_magic"),
    "a TDX quote by DICE": (b"\xd8\x3d" + cwt({-212: bytes(64), -11: {"a": b""}}), UnsupportedError,
                            "bad_magic"),
    "an EAT with a digest": (unsigned({266: {"a": [-16, bytes(32)]}}), AuthenticityError, "no_evidence"),
    "an EAT with what is no evidence": (cwt({273: [[258, b"software"]]}), AuthenticityError, "no_evidence"),
    "a service's token": (jwt({"iss": "https://a.example", "x-ms-ver": "1.0"}), AuthenticityError,
                          "no_evidence"),
    "a record of something else": (Part(OCTETS, PLAIN, Indicator(2)).encode(), AuthenticityError,
                                   "no_evidence"),
    "a collection of something else": (Collection({"a": Part(OCTETS, PLAIN, Indicator(8))}).encode(),
                                       AuthenticityError, "no_evidence"),
    "a collection of two": (Collection({"a": Part(42, PLAIN), "b": Part(42, FRESH)}).encode(),
                            UnsupportedError, "bad_length"),
    "a collection of too many": (b"{" + b",".join(b'"part%d":[42,"AA"]' % at for at in range(33)) + b"}",
                                 FormatError, "too_large"),
    "a collection of two, CBOR": (cbor.dumps({"a": [42, PLAIN], "b": [42, FRESH]}), UnsupportedError,
                                  "bad_length"),
    "an EAT with two": (cwt({273: [[42, PLAIN], [42, PLAIN]]}), UnsupportedError, "bad_length"),
    "a signed collection": (cbor.dumps({"a": Tagged(cmw_cbor.Tag.SIGNED, [b"", {}, b"", b""])}),
                            UnsupportedError, "bad_type"),
    "another nonce": (cwt({10: b"theirs, not ours", 273: [[42, FRESH]]}), AuthenticityError, "nonce"),
    "a nonce that nothing answers": (cwt({10: NONCE, 273: [[42, PLAIN]]}), AuthenticityError, "nonce"),
    "a nonce before more": (cwt({10: NONCE[:8], 273: [[42, FRESH]]}), AuthenticityError, "nonce"),
    "another nonce further out": (unsigned({10: b"theirs, not ours",
                                            266: {"a": {10: NONCE, 273: [[42, FRESH]]}}}),
                                  AuthenticityError, "nonce"),
    "another nonce around an EAT": (unsigned({10: b"theirs, not ours",
                                              266: {"a": cwt({10: NONCE, 273: [[42, FRESH]]})}}),
                                    AuthenticityError, "nonce"),
    "two nonces, one answered": (cwt({10: [NONCE, b"theirs, not ours"], 273: [[42, FRESH]]}),
                                 AuthenticityError, "nonce"),
    "another key": (der_of(OID, der.element(der.OCTET_STRING, record())), AuthenticityError, "key_binding"),
    "no message in a certificate": (der_of(OID, b"\x30\x00"), UnsupportedError, "bad_magic"),
    "forged evidence in a record": (record(SGX.requote(signature=bytes(64))), AuthenticityError, "sig_quote"),
    "forged evidence in an EAT": (cwt({273: [[42, SGX.requote(signature=bytes(64))]]}), AuthenticityError,
                                  "sig_quote"),
    "a map of neither": (cbor.dumps({1: 2}), UnsupportedError, "bad_magic"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    """Without evidence, with several pieces, or with evidence that answers another: refused."""
    data, error, code = REFUSED[case]
    with pytest.raises(error) as caught:
        SGX.verify(data)
    assert caught.value.code == code


@pytest.mark.parametrize("wrap", [record, lambda data: Part(OCTETS, data).encode(), lambda d: cwt({299: d})])
def test_depth(wrap: object) -> None:
    """Envelopes in envelopes end somewhere."""
    assert callable(wrap)
    data = PLAIN
    for _ in range(MAX_LAYERS):
        data = wrap(data)
    assert SGX.verify(data).kind == "SGX quote v3"
    with pytest.raises(FormatError) as caught:
        SGX.verify(wrap(data))
    assert caught.value.code == "too_deep"


def test_nothing_within_a_makers_wrapper() -> None:
    """A vendor's own wrapper contains evidence, and no envelope."""
    with pytest.raises(KluisError):
        SGX.verify(oe.encode_report(record()))
    assert unwrap(PLAIN) is None
    assert peel(b"") is None


@PROPERTY
@given(mutations(*(data for data, _ in GOOD.values()), most=2))
def test_only_our_errors(data: bytes) -> None:
    """Only our errors escape."""
    try:
        unwrap(data)
    except KluisError:
        return


def test_parts_that_belong_together_beside_another_collection() -> None:
    """Their label counts next to a nested collection, too: no part is extracted by itself."""
    nested = Nested(NESTED, Collection({"b": Part(OCTETS, PLAIN)}).encode())
    assert envelope.peel(Collection({"pcrs": Part(OCTETS, PLAIN), "a": nested}).encode()) is None
