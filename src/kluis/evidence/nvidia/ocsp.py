"""Check NVIDIA's OCSP responses about its certificates: good, revoked, or on hold.

Spec: RFC 6960, "Signed Response Acceptance Requirements", "Authorized Responders".
"""

from __future__ import annotations

import hashlib
import itertools
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from kluis.errors import AuthenticityError, FormatError, UnavailableError
from kluis.evidence import chain as links
from kluis.evidence.context import Context
from kluis.formats import x509
from kluis.formats.x509 import Certificate, Scheme
from kluis.formats.x509.extended_usage import read_usages
from kluis.formats.x509.parts import EXTENDED_KEY_USAGE
from kluis.frozen import frozen

WHAT: Final = "OCSP response"
# A response without an end of validity is trusted for this long.
MAX_AGE: Final = timedelta(days=1)
_MEMORY: Final = "nvidia ocsp"
_SIGNING: Final = "1.3.6.1.5.5.7.3.9"
_SCHEMES: Final = {"1.2.840.10045.4.3.3": Scheme.ES384, "1.2.840.10045.4.3.2": Scheme.ES256}
_MOST_ANSWERS: Final = 8
_MOST_CERTIFICATES: Final = 4


@frozen(kw_only=True)
class Answer:
    """A signed response's statement about one certificate.

    Attributes:
        index: of the certificate in its chain.
        good: whether it is neither revoked nor on hold.
        known: whether the responder has the certificate.
        reason: of the revocation, or empty.
        start: of the response's validity.
        end: of the response's validity.
        responder: the delegate that signed, whose validity must be checked; None if the issuer signed.
    """

    index: int
    good: bool
    known: bool
    reason: str
    start: datetime
    end: datetime
    responder: Certificate | None


def check(data: bytes, chain: tuple[Certificate, ...], now: datetime, context: Context) -> Answer:
    """Check one response, which must be about one certificate of the chain and report it as good.

    Args:
        data: DER.
        chain: leaf first, checked.
        now: aware.
        context: of the verifier.

    Returns:
        The answer: the certificate of the chain, and the validity period.

    Raises:
        FormatError: malformed.
        AuthenticityError: about another certificate, not signed by its issuer or a delegate, or the
            certificate is revoked or on hold.
        FreshnessError: expired or not yet valid.
        UnavailableError: the responder refused, or does not have the certificate.
    """
    key = b"".join((data, *(certificate.der for certificate in chain)))
    answer: Answer | None = context.memory.get(_MEMORY, key)
    if answer is None:
        answer = _read(data, chain, context)
        context.memory.put(_MEMORY, key, answer)
    links.in_time(WHAT, answer.start, answer.end, now, kind="ocsp")
    if answer.responder is not None:
        links.valid(answer.responder, f"{WHAT}.responder", now)
    if not answer.known:
        raise UnavailableError(
            f"{WHAT}: the responder does not know certificate {answer.index}", code="ocsp_unknown"
        )
    if not answer.good:
        name = chain[answer.index].common_name
        raise AuthenticityError(f"{WHAT}: {name!a} is revoked: {answer.reason}", code="cert_revoked")
    return answer


def _read(data: bytes, chain: tuple[Certificate, ...], context: Context) -> Answer:
    try:
        response = ocsp.load_der_ocsp_response(data)
        if response.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
            raise UnavailableError(
                f"{WHAT}: the responder answered {response.response_status.name.lower()}", code="ocsp_refused"
            )
        index, single = _about(response, chain)
        reason = single.revocation_reason
        start = single.this_update_utc
        end = single.next_update_utc or start + MAX_AGE
        responder = _check_signature(response, chain[index + 1], context)
        return Answer(
            index=index,
            good=single.certificate_status is ocsp.OCSPCertStatus.GOOD,
            known=single.certificate_status is not ocsp.OCSPCertStatus.UNKNOWN,
            reason=reason.value if reason else "no reason given",
            start=start.astimezone(UTC),
            end=end.astimezone(UTC),
            responder=responder,
        )
    except (ValueError, OverflowError, UnsupportedAlgorithm) as error:
        raise FormatError(f"{WHAT}: is malformed: {str(error)[:80]!a}", code="bad_encoding") from None


def _about(
    response: ocsp.OCSPResponse, chain: tuple[Certificate, ...]
) -> tuple[int, ocsp.OCSPSingleResponse]:
    """The response's only answer about a certificate of the chain below its root."""
    matching = []
    for count, single in enumerate(response.responses):
        if count == _MOST_ANSWERS:
            raise FormatError(f"{WHAT}: more than {_MOST_ANSWERS} answers", code="too_large")
        algorithm = single.hash_algorithm.name
        matching += [
            (index, single)
            for index, (certificate, issuer) in enumerate(itertools.pairwise(chain))
            if certificate.serial == single.serial_number
            and _hash(algorithm, issuer.subject) == single.issuer_name_hash
            and _hash(algorithm, issuer.public_key.bits) == single.issuer_key_hash
        ]
    if len(matching) != 1:
        raise AuthenticityError(
            f"{WHAT}: want 1 answer about this chain, got {len(matching)}", code="ocsp_mismatch"
        )
    return matching[0]


def _check_signature(
    response: ocsp.OCSPResponse, issuer: Certificate, context: Context
) -> Certificate | None:
    """Check the signer: the issuer, or a delegate that it allows to sign. The signed bytes name it."""
    embedded = response.certificates
    if len(embedded) > _MOST_CERTIFICATES:
        raise FormatError(f"{WHAT}: more than {_MOST_CERTIFICATES} certificates", code="too_large")
    others = [x509.parse(one.public_bytes(Encoding.DER), f"{WHAT}.certificate") for one in embedded]
    signers = [one for one in (issuer, *others) if _names_responder(response, one)]
    if not signers:
        raise AuthenticityError(f"{WHAT}: does not hold its responder's certificate", code="ocsp_issuer")
    signer = signers[0]
    if signer.spki != issuer.spki:
        links.check_issued(
            signer, issuer, f"{WHAT}.responder", schemes=(Scheme.ES384,), context=context, code="ocsp_issuer"
        )
        if not _may_sign(signer):
            raise AuthenticityError(f"{WHAT}.responder: may not sign answers", code="ocsp_issuer")
    scheme = _SCHEMES.get(response.signature_algorithm_oid.dotted_string)
    if scheme is None:
        raise AuthenticityError(f"{WHAT}: is signed by an algorithm that is not allowed", code="ocsp_sig")
    key = context.key(signer.spki, scheme, WHAT, code="ocsp_sig")
    if not key.verify(response.signature, response.tbs_response_bytes):
        raise AuthenticityError(f"{WHAT}: is not signed by the key it should be", code="ocsp_sig")
    return None if signer is issuer else signer


def _names_responder(response: ocsp.OCSPResponse, certificate: Certificate) -> bool:
    if response.responder_key_hash is not None:
        return _hash("sha1", certificate.public_key.bits) == response.responder_key_hash
    return (
        response.responder_name is not None and response.responder_name.public_bytes() == certificate.subject
    )


def _may_sign(responder: Certificate) -> bool:
    usages = responder.extensions.get(EXTENDED_KEY_USAGE)
    return usages is not None and _SIGNING in read_usages(usages, f"{WHAT}.responder")


def _hash(algorithm: str, data: bytes) -> bytes:
    # A certificate's id may use SHA-1: it only selects the certificate, and the response is signed.
    return hashlib.new(algorithm, data, usedforsecurity=False).digest()
