"""Verify evidence under the service's roots, and refuse protection levels that it does not attest.

Spec: Microsoft Azure Attestation, "Attest SGX Enclave", "Attest Sev Snp Vm", "Attest Tdx Vm".
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from kluis.errors import KluisError, UnavailableError
from kluis.evidence import (
    Claims,
    ProtectionLevel,
    SnpEndorsements,
    TcbStatus,
    Tee,
    TpmEndorsements,
    TrustAnchors,
    Verifier,
)
from kluis.evidence.context import Context
from kluis.evidence.tpm import key as trust
from kluis.evidence.tpm.key import TrustedKey
from kluis.formats import x509
from kluis.formats.snp import report as snp_report
from kluis.formats.snp import response, table
from kluis.formats.snp.flags import Flags, SigningKey
from kluis.formats.x509 import Certificate
from kluis.frozen import frozen
from kluis.hashes import sha256
from kluis.services.attestation.evidence.collateral import Endorsements, Endorsing
from kluis.services.attestation.faults import InvalidEvidence, InvalidParameter
from kluis.services.attestation.octets import decode_base64, json_object
from kluis.services.attestation.settings import AttestationSettings
from kluis.services.backoff import Backoff

MOST_LISTS: Final = 16
MAX_QUOTE: Final = 64 * 1024
MAX_REPORT: Final = 8 * 1024
MAX_CHAIN: Final = 64 * 1024
MAX_BUNDLE: Final = 256 * 1024
_WANT: Final = "protection: want a level that keeps something out, got none"
_ACCEPT: Final = "insecure_accept_unprotected attests it all the same"
# Only the client can supply these: fetching again does not help.
_THE_CLIENTS: Final = ("chain_missing",)
_COLLATERAL: Final = (
    "collateral",
    "crl",
    "tcb_info",
    "qe_identity",
    "pck",
    "root",
    "cert",
    "chain",
    "signing",
)


@frozen
class Quoted:
    """An authentic quote.

    Attributes:
        claims: verified.
        collateral: seven hashes, of the quote and of its collateral.
    """

    claims: Claims
    collateral: Mapping[str, str]


class DebugTee(InvalidEvidence):
    """A debug TEE with authentic evidence, for which no token is issued.

    Attributes:
        quoted: the verified quote, for a policy that denies it with its own message.
    """

    code = "protection"

    def __init__(self, quoted: Quoted) -> None:
        super().__init__(f"{_WANT}: a debug TEE, open to its host", hint=f"start it without debug; {_ACCEPT}")
        self.quoted = quoted


class Platforms:
    """Verifies evidence.

    Args:
        settings: roots, bundles, and whether unprotected platforms are attested.
        ask: fetches collateral from outside; None: only the settings' collateral is used.

    Raises:
        KluisError: a root or a bundle is invalid.
    """

    def __init__(self, settings: AttestationSettings, ask: Endorsements | None) -> None:
        self.anchors = _anchors(settings)
        self.verifier = Verifier(self.anchors)
        self.context = Context(self.anchors, lasting=True)
        self._issuers = [x509.parse(der, "TPM issuer") for der in settings.tpm_issuers]
        self._unprotected = settings.insecure_accept_unprotected
        self._ask = ask
        self._endorsing = Endorsing(self.anchors, settings.collateral, ask, settings.collateral_seconds)
        self._lists: dict[bytes, tuple[datetime, bytes | None]] = {}
        self._seconds = settings.collateral_seconds
        self._backoff = Backoff()

    def quote(self, data: bytes, tee: Tee, bundle: bytes | None, now: datetime) -> Quoted:
        """Verify a DCAP quote.

        Args:
            data: the quote.
            tee: required.
            bundle: Intel's documents sent with it, JSON; or None.
            now: aware.

        Raises:
            InvalidEvidence: it is of another TEE, or a step of its verification fails.
            DebugTee: it is authentic, and its platform supported, but in debug mode.
            UnavailableError: Intel's documents are unavailable.
        """
        try:
            documents = self._endorsing.find(data, bundle, now)
            claims = self.verifier.verify(data, collateral=documents.collateral, now=now).value
        except KluisError as error:
            raise refusal("quote", error) from None
        if claims.tee is not tee:
            raise _of_another("quote", tee, claims)
        quoted = Quoted(claims, {**documents.hashes, "quotehash": sha256(data).hex()})
        self._admit(quoted)
        return quoted

    def report(self, bundle: bytes, now: datetime) -> Claims:
        """Verify an SNP report in the bundle that guests send.

        Args:
            bundle: JSON: ``SnpReport``, ``VcekCertChain``; :mod:`uvm` reads ``Endorsements``.
            now: aware.

        Raises:
            InvalidParameter: not such a bundle.
            InvalidEvidence: a step of the report's verification fails.
            DebugTee: it is authentic, and its platform supported, but in debug mode.
        """
        members = json_object(bundle, "report")
        report = decode_base64(text_of(members, "SnpReport"), "report.SnpReport", most=MAX_REPORT)
        chain = decode_base64(text_of(members, "VcekCertChain"), "report.VcekCertChain", most=MAX_CHAIN)
        return self.snp(report, endorsements_of(chain), now)

    def snp(self, report: bytes, endorsements: SnpEndorsements, now: datetime) -> Claims:
        """Verify an SNP report.

        Raises:
            InvalidEvidence: a step fails, a certificate is missing.
            DebugTee: it is authentic, and its platform supported, but in debug mode.
        """
        try:
            fresh = self._recent_list(endorsements, now)
            crl = fresh[1] if fresh is not None else None
            claims = self._verify_report(report, endorsements, crl, now)
            # Fetched only now: an unverified report must not make the host search for what does not exist.
            if fresh is None and (crl := self._crl(report, endorsements, now)) is not None:
                claims = self._verify_report(report, endorsements, crl, now)
        except KluisError as error:
            raise refusal("report", error) from None
        if claims.tee is not Tee.SNP:
            raise _of_another("report", Tee.SNP, claims)
        self._admit(Quoted(claims, {}))
        return claims

    def attestation_key(self, certificate: bytes, now: datetime) -> TrustedKey:
        """Verify the attestation key of a TPM, from its certificate and the configured issuers.

        Args:
            certificate: DER or PEM.
            now: aware.

        Raises:
            UnavailableError: no certificate was given; code ``chain_missing``.
            InvalidEvidence: its root has no stated level; code ``protection``.
            KluisError: as for :func:`kluis.evidence.tpm.key.verify_ak`.
        """
        if not certificate:
            raise UnavailableError("AK certificate: want one, got none", code="chain_missing")
        der = certificate
        if certificate.startswith(b"-----BEGIN"):
            (der,) = x509.split_pem(certificate, "AK certificate", most=1)
        above: list[Certificate] = []
        last = x509.parse(der, "AK certificate")
        while len(above) < x509.pem.MAX_CHAIN and last.issuer != last.subject:
            issuer = next((each for each in self._issuers if each.subject == last.issuer), None)
            if issuer is None:
                break
            above.append(issuer)
            last = issuer
        chain = b"".join(x509.write_pem(each.der) for each in above)
        endorsements = TpmEndorsements(certificate=der, chain=chain)
        key = trust.verify_ak(endorsements, context=self.context, now=now)
        if key.anchor.level is ProtectionLevel.NONE and not self._unprotected:
            raise _of_no_level(key.anchor.name)
        return key

    def _admit(self, quoted: Quoted) -> None:
        """Refuse revoked platforms, and unprotected ones unless configured to attest them."""
        claims = quoted.claims
        if claims.tcb.status in (TcbStatus.REVOKED, TcbStatus.NOT_SUPPORTED):
            raise InvalidEvidence(
                f"TCB: want a platform that its vendor supports, got {claims.tcb.status}",
                hint="update the platform's firmware and microcode",
                code="tcb_status",
            )
        if claims.level is ProtectionLevel.NONE and not self._unprotected:
            if claims.debug:
                raise DebugTee(quoted)
            raise _of_no_level(claims.anchor)

    def _is_known(self, root: bytes | None) -> bool:
        """Whether a root's key is trusted: no list is fetched for others."""
        return root is not None and self.anchors.match(x509.parse(root, "ARK").spki) is not None

    def _verify_report(
        self, report: bytes, endorsements: SnpEndorsements, crl: bytes | None, now: datetime
    ) -> Claims:
        if crl is not None:
            endorsements = dataclasses.replace(endorsements, crl=crl)
        return self.verifier.verify(report, collateral=endorsements, now=now).value

    def _recent_list(
        self, endorsements: SnpEndorsements, now: datetime
    ) -> tuple[datetime, bytes | None] | None:
        """AMD's list for a report's root and the time of its fetch; None if that was not recent."""
        listed = self._lists.get(_list_of(endorsements))
        if listed is None or abs((now - listed[0]).total_seconds()) >= self._seconds:
            return None
        return listed

    def _crl(self, report: bytes, endorsements: SnpEndorsements, now: datetime) -> bytes | None:
        """AMD's list for a report's root, fetched now; without one, revocation is unknown."""
        ask = self._ask
        if ask is None or endorsements.vek is None or not self._is_known(endorsements.ark):
            return None
        key = _list_of(endorsements)
        request = _with_key(report, endorsements.vek)
        listed = self._lists.get(key)
        try:
            fetched = self._backoff.attempt(key, lambda: SnpEndorsements.from_json(ask("snp", request)))
        except UnavailableError:
            return listed[1] if listed else None  # an old list states its own end of validity
        if len(self._lists) >= MOST_LISTS:
            self._lists.clear()
        self._lists[key] = (now, fetched.crl)
        return fetched.crl


def _list_of(endorsements: SnpEndorsements) -> bytes:
    """The list for a report: one root has a list for chips and one for clouds."""
    return sha256(sha256(endorsements.ark or b"") + sha256(endorsements.ask or b""))


def _with_key(report: bytes, vek: bytes) -> bytes:
    """A verified report with its key's certificate: the fetch does not need the chip's id."""
    body = report[response.HEADER_SIZE if report[:4] == bytes(4) else 0 :][: snp_report.SIZE]
    vlek = Flags.parse(snp_report.parse(body).flags).signing_key is SigningKey.VLEK
    return body + table.build({table.VLEK if vlek else table.VCEK: vek}).encode()


def text_of(members: Mapping[str, Any], name: str) -> str:
    """A member that must be text.

    Raises:
        InvalidParameter: it is missing, or not text.
    """
    value = members.get(name)
    if not isinstance(value, str) or not value:
        raise InvalidParameter(f"{name}: want text, got {type(value).__name__ if value else 'none'}")
    return value


def endorsements_of(chain: bytes) -> SnpEndorsements:
    """Split one PEM text into a VCEK or VLEK and its issuers, in that order.

    Raises:
        InvalidParameter: anything else.
    """
    try:
        certificates = x509.split_pem(chain.strip() + b"\n", "VcekCertChain", most=3)
    except KluisError as error:
        raise InvalidParameter(error.message) from None
    if len(certificates) != 3:
        raise InvalidParameter(
            f"VcekCertChain: want 3 certificates, VCEK, ASK and ARK, got {len(certificates)}"
        )
    return SnpEndorsements(vek=certificates[0], ask=certificates[1], ark=certificates[2])


def _anchors(settings: AttestationSettings) -> TrustAnchors:
    stores = [TrustAnchors.from_pem(root.pem, root.level) for root in settings.roots]
    if settings.shipped_roots:
        stores.insert(0, TrustAnchors.shipped())
    return TrustAnchors(tuple(anchor for each in stores for anchor in each))


def _of_no_level(root: str) -> InvalidEvidence:
    hint = f"who knows who holds that root's key tells the service its level, --root FILE=LEVEL; {_ACCEPT}"
    return InvalidEvidence(f"{_WANT}: under root {root}", hint=hint, code="protection")


def _of_another(what: str, want: Tee, claims: Claims) -> InvalidEvidence:
    return InvalidEvidence(f"The specified {what} was invalid: want one of {want}, got one of {claims.tee}")


def refusal(what: str, error: KluisError) -> KluisError:
    """The error to report for evidence that failed verification.

    Returns:
        InvalidEvidence, in Azure's words followed by ours; or ``error`` itself if the cause is on the
        service's side, such as unavailable documents.
    """
    if isinstance(error, UnavailableError) and error.code not in _THE_CLIENTS:
        return error
    code = error.code or ""
    about = " due to an error in the quote collateral" if code.startswith(_COLLATERAL) else ""
    return InvalidEvidence(
        f"The specified {what} was invalid{about}: {error.message}", hint=error.hint, code=error.code
    )
