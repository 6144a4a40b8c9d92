"""Determine how the keys of a request are bound to its TPM.

Spec: Microsoft Azure Attestation, "TPM and VBS enclave attestation protocol", "Key object", "Policy key
object".
"""

from __future__ import annotations

import enum
import hashlib
import hmac
from typing import Any, Final

import msgspec

from kluis.errors import AuthenticityError, KluisError
from kluis.evidence.context import Context
from kluis.evidence.tpm import key as trust
from kluis.evidence.tpm import quote
from kluis.formats.encoding import b64
from kluis.formats.ietf import jose
from kluis.formats.tpm import certify, signature
from kluis.formats.tpm.attest import Quote
from kluis.formats.tpm.public import Public
from kluis.formats.x509 import PublicKey
from kluis.frozen import frozen
from kluis.services.attestation.faults import InvalidEvidence, InvalidParameter
from kluis.services.attestation.octets import decode_base64
from kluis.services.attestation.tpm.messages import Certified, Key, Quoted, Request
from kluis.services.attestation.tpm.parts import MAX_PART

# SHA-1 is excluded: the client chooses what is hashed.
HASHES: Final = {"sha-256": "sha256", "sha-384": "sha384", "sha-512": "sha512"}


class Binding(enum.StrEnum):
    """What binds a key to the attested machine."""

    NONE = "none"
    """Nothing: any client that can forward the challenge to the machine may hold the key."""
    QUOTE = "quote"
    """The TPM quoted it: the quote's requester has the key, which need not be in the TPM."""
    CERTIFICATION = "certification"
    """The attestation key certified it: it is in the TPM."""
    ENCLAVE = "enclave"
    """A VBS enclave reported it."""


@frozen
class BoundKey:
    """A key of a request.

    Attributes:
        jwk: unchanged.
        binding: to the TPM.
        hash_alg: with which the quote covers it; empty if it does not.
        area: of the key in the TPM, if it is certified.
    """

    jwk: bytes
    binding: Binding
    hash_alg: str = ""
    area: Public | None = None

    def claims(self) -> dict[str, Any]:
        """The key in the form that policies read."""
        members: dict[str, Any] = {"jwk": msgspec.json.decode(self.jwk)}
        if self.area is not None:
            members["info"] = {
                "tpm_certify": {
                    "name_alg": int(self.area.name_hash),
                    "obj_attr": self.area.attributes,
                    "auth_policy": b64.encode_url(self.area.policy),
                }
            }
        elif self.hash_alg:
            members["info"] = {"tpm_quote": {"hash_alg": self.hash_alg}}
        return members


def request_key(request: Request, challenge: bytes, quoted: Quote, ak: bytes, context: Context) -> BoundKey:
    """Determine how the request's own key is bound.

    Version 2: the quote covers HASH(key || 0 || challenge), or only the challenge if the attestation key
    certified the key. Version 1: the quote covers the challenge, which binds no key; or as in version 2,
    which does.

    Args:
        request: signed by its own key.
        challenge: that it answers.
        quoted: the quote, verified.
        ak: DER of the attestation key's SubjectPublicKeyInfo.
        context: of the verifier.

    Raises:
        InvalidEvidence: the quote covers something else.
        InvalidParameter: the request names a hash that version 2 does not have.
        AuthenticityError: the certification fails verification.
    """
    certified = request.info.tpm_certify
    if certified is not None:
        _want(quoted.extra_data, challenge, "the challenge")
        area = _certified_area(certified, request.key, challenge, quoted, ak, context)
        return BoundKey(request.jwk, Binding.CERTIFICATION, area=area)
    if request.version == 1 and hmac.compare_digest(quoted.extra_data, challenge):
        return BoundKey(request.jwk, Binding.NONE)
    named = (request.info.tpm_quote or Quoted()).hash_alg.lower()
    if named not in HASHES:
        raise InvalidParameter(f"hash_alg: want one of {', '.join(HASHES)}, got {named[:16]!a}")
    digest = hashlib.new(HASHES[named], request.jwk + b"\0" + challenge).digest()
    _want(quoted.extra_data, digest, f"{named} of the request's key, a zero byte and the challenge")
    return BoundKey(request.jwk, Binding.QUOTE, hash_alg=named)


def other_keys(
    keys: list[Key], challenge: bytes, quoted: Quote, ak: bytes, context: Context
) -> tuple[BoundKey, ...]:
    """The request's further keys: each certified, or not bound at all.

    Raises:
        InvalidParameter: one is not a key, or states that the quote covers it.
        AuthenticityError: a certification fails verification.
    """
    return tuple(_other(each, challenge, quoted, ak, context) for each in keys)


def _other(offered: Key, challenge: bytes, quoted: Quote, ak: bytes, context: Context) -> BoundKey:
    jwk = bytes(offered.jwk)
    try:
        key = jose.parse_jwk(jwk, "other_keys")
    except KluisError as error:
        raise InvalidParameter(error.message) from None
    if offered.info is not None and offered.info.tpm_quote is not None:
        raise InvalidParameter("other_keys.info: want tpm_certify or none, got tpm_quote")
    if offered.info is None or offered.info.tpm_certify is None:
        return BoundKey(jwk, Binding.NONE)
    area = _certified_area(offered.info.tpm_certify, key, challenge, quoted, ak, context)
    return BoundKey(jwk, Binding.CERTIFICATION, area=area)


def _want(got: bytes, want: bytes, what: str) -> None:
    if not hmac.compare_digest(got, want):
        raise InvalidEvidence(
            f"TPM quote: qualifying data: want {want.hex()}, {what}, got {got.hex() or 'none'}",
            code="runtime_data_binding",
        )


def _certified_area(
    certified: Certified, key: PublicKey, challenge: bytes, quoted: Quote, ak: bytes, context: Context
) -> Public:
    message = decode_base64(certified.certification, "tpm_certify.certification", most=MAX_PART)
    signed = signature.parse_either(
        decode_base64(certified.signature, "tpm_certify.signature", most=MAX_PART)
    )
    if not quote.signed_by(message, signed, ak, context):
        raise AuthenticityError("tpm_certify: is not signed by the attestation key", code="sig_tpm")
    area = trust.area_of(decode_base64(certified.public, "tpm_certify.public", most=MAX_PART))
    named = certify.parse(message)
    if named.name != area.name or area.spki != key.spki:
        raise AuthenticityError("tpm_certify: certifies another key", code="key_binding")
    if not hmac.compare_digest(named.extra_data, challenge):
        raise InvalidEvidence(
            f"tpm_certify: qualifying data: want {challenge.hex()}, the challenge, "
            f"got {named.extra_data.hex() or 'none'}",
            code="runtime_data_binding",
        )
    quote.check_boot(named.clock, quoted.clock, "tpm_certify")
    return area
