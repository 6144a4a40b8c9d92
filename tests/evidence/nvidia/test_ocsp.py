"""OCSP responses: who may answer, about what, and until when."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from hypothesis import given

from kluis.errors import AuthenticityError, FormatError, FreshnessError, KluisError, UnavailableError
from kluis.evidence import NvidiaClaims, NvidiaEndorsements, Verifier
from kluis.evidence.nvidia import ocsp as answers
from tests.evidence.nvidia.forge import DAY, ECDSA_SHA384, NOW, Forge
from tests.keys import rsa_key
from tests.strategies import PROPERTY, mutations

FORGE = Forge()
ANSWER = FORGE.answer()
REVOKED = ocsp.OCSPCertStatus.REVOKED
OCSP_SIGNING = x509.oid.ExtendedKeyUsageOID.OCSP_SIGNING
CLIENT_AUTH = x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH
SHA1, NO_HASH = bytes.fromhex("06052b0e03021a"), bytes.fromhex("06052b0e030263")


def _usages(*usages: x509.ObjectIdentifier) -> x509.ExtendedKeyUsage:
    return x509.ExtendedKeyUsage(usages)


def test_issuer_and_delegate(gpu: Forge) -> None:
    """The issuer may answer, its certificate inside or not; so may its delegate, named either way."""
    delegate = gpu.responder()
    more = gpu.responder(extensions=(_usages(OCSP_SIGNING, CLIENT_AUTH),))
    for answer in (
        gpu.answer(),
        gpu.answer(certificates=(gpu.certificates[2],)),
        gpu.answer(signer=delegate),
        gpu.answer(signer=delegate, encoding=ocsp.OCSPResponderEncoding.NAME),
        gpu.answer(3, signer=gpu.responder(3), encoding=ocsp.OCSPResponderEncoding.NAME),
        gpu.answer(signer=more),
        gpu.answer(signed_by=hashes.SHA256()),
    ):
        assert gpu.verify(ocsp=(answer,)).valid_until == NOW + DAY


def test_no_next_update(gpu: Forge) -> None:
    """An answer that does not say until when it holds is believed for a day."""
    claims = gpu.verify(ocsp=(gpu.answer(end=None),))
    assert claims.valid_until == NOW - DAY / 4 + DAY
    with pytest.raises(FreshnessError):
        gpu.verify(ocsp=(gpu.answer(start=NOW - DAY - DAY / 24, end=None),))


def _many(builder: ocsp.OCSPResponseBuilder, count: int = 5) -> ocsp.OCSPResponseBuilder:
    return builder.certificates([FORGE.certificates[4]] * count)


def test_four_certificates(gpu: Forge) -> None:
    """A response may contain as many certificates as are read."""
    answer = gpu.answer(change=lambda builder: _many(builder, 4))
    assert gpu.verify(ocsp=(answer,)).valid_until == NOW + DAY


Case = Callable[..., bytes]
STEPS: dict[str, tuple[Case, type[KluisError], str]] = {
    "revoked": (lambda gpu: gpu.answer(status=REVOKED), AuthenticityError, "cert_revoked"),
    "on hold": (
        lambda gpu: gpu.answer(status=REVOKED, reason=x509.ReasonFlags.certificate_hold),
        AuthenticityError,
        "cert_revoked",
    ),
    "unknown": (lambda gpu: gpu.answer(status=ocsp.OCSPCertStatus.UNKNOWN), UnavailableError, "ocsp_unknown"),
    "refused": (
        lambda gpu: ocsp.OCSPResponseBuilder.build_unsuccessful(
            ocsp.OCSPResponseStatus.TRY_LATER
        ).public_bytes(Encoding.DER),
        UnavailableError,
        "ocsp_refused",
    ),
    "about another": (
        lambda gpu: gpu.answer(about=gpu.certificates[3]),
        AuthenticityError,
        "ocsp_mismatch",
    ),
    **{
        f"about another serial number, {serial}": (
            lambda gpu, serial=serial: gpu.answer(about=gpu.certificate(1, serial=serial)),
            AuthenticityError,
            "ocsp_mismatch",
        )
        for serial in (1000, 1002)
    },
    **{
        f"about a serial number of an issuer named {name}": (
            lambda gpu, name=name: gpu.answer(about=gpu.certificate(1, issuer=name)),
            AuthenticityError,
            "ocsp_mismatch",
        )
        for name in ("another", "nobody", "somebody", "stranger")
    },
    "about a serial number of an issuer of another key": (
        lambda gpu: gpu.answer(issuer=gpu.certificate(2, key=gpu.keys[3])),
        AuthenticityError,
        "ocsp_mismatch",
    ),
    "not yet": (lambda gpu: gpu.answer(start=NOW + DAY / 24), FreshnessError, "ocsp_not_yet_valid"),
    "no more": (lambda gpu: gpu.answer(end=NOW - DAY / 24), FreshnessError, "ocsp_expired"),
    "another key": (
        lambda gpu: ANSWER[:-1] + bytes((ANSWER[-1] ^ 1,)),
        AuthenticityError,
        "ocsp_sig",
    ),
    "an algorithm that is not allowed": (
        lambda gpu: gpu.answer(signed_by=hashes.SHA512()),
        AuthenticityError,
        "ocsp_sig",
    ),
    "a delegate that is not inside": (
        lambda gpu: gpu.answer(signer=gpu.responder(), certificates=(gpu.certificates[4],)),
        AuthenticityError,
        "ocsp_issuer",
    ),
    "a delegate of another": (
        lambda gpu: gpu.answer(signer=gpu.responder(signer=gpu.keys[0])),
        AuthenticityError,
        "ocsp_issuer",
    ),
    "a delegate that may not answer": (
        lambda gpu: gpu.answer(signer=gpu.responder(extensions=(_usages(CLIENT_AUTH),))),
        AuthenticityError,
        "ocsp_issuer",
    ),
    "a delegate that may what stands after answering": (
        lambda gpu: gpu.answer(
            signer=gpu.responder(extensions=(_usages(x509.ObjectIdentifier("1.3.6.1.5.5.7.3.10")),))
        ),
        AuthenticityError,
        "ocsp_issuer",
    ),
    "a delegate that does not say what it may": (
        lambda gpu: gpu.answer(signer=gpu.responder(extensions=())),
        AuthenticityError,
        "ocsp_issuer",
    ),
    "a delegate out of its time": (
        lambda gpu: gpu.answer(signer=gpu.responder(after=NOW - DAY / 24)),
        FreshnessError,
        "cert_expired",
    ),
    "too many certificates": (lambda gpu: gpu.answer(change=_many), FormatError, "too_large"),
    "a hash that is none": (lambda gpu: ANSWER.replace(SHA1, NO_HASH), FormatError, "bad_encoding"),
    "no response": (lambda gpu: b"\x30\x03\x0a\x01\x00", FormatError, "bad_encoding"),
}


@pytest.mark.parametrize("step", STEPS)
def test_step(step: str) -> None:
    """Each rule refuses what breaks only it."""
    case, error, code = STEPS[step]
    with pytest.raises(KluisError) as caught:
        FORGE.verify(ocsp=(case(FORGE),))

    assert (type(caught.value), caught.value.code) == (error, code)


def test_hold_is_revoked_by_its_reason(gpu: Forge) -> None:
    """A certificate on hold is refused like a revoked one, with the reason."""
    with pytest.raises(AuthenticityError) as caught:
        gpu.verify(ocsp=(gpu.answer(status=REVOKED, reason=x509.ReasonFlags.certificate_hold),))
    assert caught.value.message == "OCSP response: 'BROM' is revoked: certificateHold"


def test_status_is_judged_anew(gpu: Forge) -> None:
    """A response that was read before is still judged at every call."""
    verifier = Verifier(gpu.anchors)
    good, revoked = (
        NvidiaEndorsements(ocsp=(gpu.answer(status=s),)) for s in (ocsp.OCSPCertStatus.GOOD, REVOKED)
    )
    for _ in range(2):
        verifier.verify(gpu.evidence(), collateral=good, now=NOW)
        with pytest.raises(AuthenticityError):
            verifier.verify(gpu.evidence(), collateral=revoked, now=NOW)
        with pytest.raises(FreshnessError):
            verifier.verify(gpu.evidence(), collateral=good, now=NOW + 2 * DAY)


def test_an_answer_that_was_seen_is_of_its_chain_alone(gpu: Forge) -> None:
    """A response that was good for one chain is not used for another."""
    other = Forge()
    verifier = Verifier(gpu.anchors | other.anchors)
    answer = NvidiaEndorsements(ocsp=(gpu.answer(),))
    verifier.verify(gpu.evidence(), collateral=answer, now=NOW)
    with pytest.raises(AuthenticityError) as caught:
        verifier.verify(other.evidence(), collateral=answer, now=NOW)
    assert caught.value.code == "ocsp_mismatch"


def test_too_many_answers(gpu: Forge, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work is bounded before any signature is checked."""
    monkeypatch.setattr(answers, "_MOST_ANSWERS", 0)
    with pytest.raises(FormatError) as caught:
        gpu.verify(ocsp=(gpu.answer(),))
    assert caught.value.code == "too_large"


def test_one_answer_among_others(gpu: Forge) -> None:
    """Up to eight answers are read, and one of them, in any place, must be about this chain."""
    ours, other = gpu.answer(), gpu.answer(about=gpu.certificate(1, serial=7))
    for single in ((ours,), (ours, other), (*[other] * 7, ours)):
        assert gpu.verify(ocsp=(gpu.answers(*single),)).valid_until == NOW + DAY


@pytest.mark.parametrize(
    ("single", "error", "code"),
    [
        ("none", AuthenticityError, "ocsp_mismatch"),
        ("good twice", AuthenticityError, "ocsp_mismatch"),
        ("good, then revoked", AuthenticityError, "ocsp_mismatch"),
        ("revoked, then good", AuthenticityError, "ocsp_mismatch"),
        ("revoked among others", AuthenticityError, "cert_revoked"),
        ("eight before it", FormatError, "too_large"),
    ],
)
def test_answers_of_one_response(single: str, error: type[KluisError], code: str) -> None:
    """A contradictory, empty or excessive answer about a chain is refused."""
    good, revoked = FORGE.answer(), FORGE.answer(status=REVOKED)
    other = FORGE.answer(about=FORGE.certificate(1, serial=7))
    answers = {
        "none": (other, other),
        "good twice": (good, good),
        "good, then revoked": (good, revoked),
        "revoked, then good": (revoked, good),
        "revoked among others": (other, revoked, other),
        "eight before it": (*[other] * 8, good),
    }[single]
    with pytest.raises(KluisError) as caught:
        FORGE.verify(ocsp=(FORGE.answers(*answers),))

    assert (type(caught.value), caught.value.code) == (error, code)


def test_an_answer_of_the_last_day_of_all(gpu: Forge) -> None:
    """An answer whose day would end after the last year that there is has no time."""
    with pytest.raises(FormatError) as caught:
        gpu.verify(ocsp=(gpu.answer(start=datetime(9999, 12, 31, 12, tzinfo=UTC), end=None),))
    assert caught.value.code == "bad_encoding"


def test_a_delegates_key_of_another_kind(gpu: Forge) -> None:
    """A delegate's key of RSA signs nothing, whatever algorithm the answer names."""
    key = rsa_key()
    signer = (gpu.certificate(1, key=key, ca=False, extensions=(_usages(OCSP_SIGNING),)), key)
    for algorithm in (ECDSA_SHA384, "1.2.840.113549.1.1.12"):
        with pytest.raises(AuthenticityError) as caught:
            gpu.verify(ocsp=(gpu.answers(gpu.answer(), signer=signer, algorithm=algorithm),))
        assert caught.value.code == "ocsp_sig"


def test_key_on_another_curve(gpu: Forge) -> None:
    """A delegate's key may be on P-256, if its issuer signed that."""
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = gpu.certificate(1, key=key, ca=False, extensions=(_usages(OCSP_SIGNING),))
    claims = gpu.verify(ocsp=(gpu.answer(signer=(certificate, key), signed_by=hashes.SHA256()),))
    assert isinstance(claims.vendor, NvidiaClaims)


@PROPERTY
@given(mutations(ANSWER))
def test_only_our_errors(data: bytes) -> None:
    """Only our errors escape a changed response, and no change is believed."""
    try:
        FORGE.verify(ocsp=(data,))
    except KluisError:
        return
    assert data[:-110] == ANSWER[:-110]
