"""Set, read and reset the policies of instances, each stored as the JWS that its owner sent.

Spec: Microsoft Azure Attestation, "Policy" (get, set, reset); StoredAttestationPolicy.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from kluis.enclave.store.keys.lease import Leases
from kluis.enclave.store.model import Storage, Writing
from kluis.formats.encoding import b64
from kluis.frozen import frozen
from kluis.hashes import sha256
from kluis.services.attestation.faults import InvalidParameter, PolicyMissing
from kluis.services.attestation.instances import Instance
from kluis.services.attestation.kinds import AttestationType
from kluis.services.attestation.language import Policy, default_policy, evaluate, parse
from kluis.services.attestation.language.parsing import MAX_SIZE
from kluis.services.attestation.language.syntax import Section
from kluis.services.attestation.policies import signed_documents
from kluis.services.attestation.policies.certificate_chains import jwk_of
from kluis.services.attestation.policies.certificates import PolicyCertificates, check_signer
from kluis.services.attestation.policies.signed_documents import UNSIGNED_EMPTY, Document
from kluis.services.attestation.tokens.tokens import Tokens

TABLE: Final = "attestation.policies"
MEMBER: Final = "AttestationPolicy"
MOST_HELD: Final = 256
MOST_DRAFT: Final = 64 * 1024


class _Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A policy in the store."""

    version: int
    jws: str


@frozen
class HeldPolicy:
    """A parsed and checked policy.

    Attributes:
        policy: the policy.
        properties: what its configuration rules require of the service.
        reads: the types of claims in its conditions; None if any.
        hash: the value of ``x-ms-policy-hash``.
        signer: the value of ``x-ms-policy-signer``, or None if it is unsigned.
        jws: as stored.
    """

    policy: Policy
    properties: Mapping[str, Any]
    reads: frozenset[str] | None
    hash: str
    signer: dict[str, Any] | None
    jws: str


class Policies:
    """The policies of every instance of one service."""

    def __init__(self, storage: Storage, certificates: PolicyCertificates, tokens: Tokens) -> None:
        self._storage = storage
        self._leases = Leases(storage)
        self._certificates = certificates
        self._tokens = tokens
        # Keyed by the exact bytes in the store, so that a cached policy never differs from the stored one.
        self._held: dict[bytes, HeldPolicy] = {}
        self._defaults: dict[AttestationType, HeldPolicy] = {}

    def current(self, instance: Instance, kind: AttestationType) -> HeldPolicy:
        """The policy in force.

        Raises:
            PolicyMissing: none is set, and there is no default.
        """
        data = self._leases.get(TABLE, _key(instance, kind))
        if data is None:
            return self._default(kind)
        policy = self._held.get(data)
        if policy is None:
            policy = _hold_document(signed_documents.parse(_jws(data), "policy"))
            if len(self._held) >= MOST_HELD:
                self._held.clear()
            self._held[data] = policy
        return policy

    def get(self, instance: Instance, kind: AttestationType, now: datetime) -> str:
        """Return a token with the policy in force, as it was sent; an empty one if there is none."""
        data = self._storage.get(TABLE, _key(instance, kind))
        if data is not None:
            jws = _jws(data)
        else:
            jws = UNSIGNED_EMPTY if default_policy(kind) is None else self._default(kind).jws
        return self._tokens.about_policies(instance, {"x-ms-policy": jws}, now)

    def set(self, instance: Instance, kind: AttestationType, jws: str, now: datetime) -> str:
        """Set a policy; return a token that describes it.

        Args:
            instance: of the policy.
            kind: of attestation.
            jws: ``{"AttestationPolicy": base64url of the text}``, signed or not.
            now: aware.

        Raises:
            InvalidParameter: not such a document.
            InvalidOperation: it cannot be read; or the instance is isolated, and it has no accepted signer.
            PolicyParsingError: the text is not a policy.
        """
        document = signed_documents.parse(jws, "policy")
        policy = _hold_document(document)

        def work(store: Writing) -> None:
            check_signer(
                instance, document, self._certificates.trusted_certificates(store, instance), "policy"
            )
            store.put(TABLE, _key(instance, kind), msgspec.msgpack.encode(_Kept(1, policy.jws)))

        self._storage.update(work)
        self.settle()
        return self._change_token(instance, document, "Updated", now)

    def reset(self, instance: Instance, kind: AttestationType, jws: str, now: datetime) -> str:
        """Restore the default policy; return a token that confirms it.

        Args:
            instance: of the policy.
            kind: of attestation.
            jws: without content; signed, if the instance is isolated.
            now: aware.

        Raises:
            InvalidParameter: not a JWS, or one that contains a policy.
            InvalidOperation: as for :meth:`set`.
        """
        document = signed_documents.parse(jws, "policy reset")
        if document.body.strip() not in (b"", b"null", b"{}", b'""'):
            raise InvalidParameter("policy reset: want a JWS without content, got one with some")

        def work(store: Writing) -> None:
            check_signer(
                instance, document, self._certificates.trusted_certificates(store, instance), "policy reset"
            )
            store.delete(TABLE, _key(instance, kind))

        self._storage.update(work)
        self.settle()
        return self._change_token(instance, document, "Removed", now)

    def settle(self) -> None:
        """Wait, after a change of the store, until no process of the service uses the previous state."""
        self._leases.settle()

    def forget(self, instance: str, store: Writing) -> None:
        """Delete an instance's policies, as part of a transaction that :meth:`settle` follows."""
        for kind in AttestationType:
            store.delete(TABLE, f"{instance}/{kind}")

    def _default(self, kind: AttestationType) -> HeldPolicy:
        policy = self._defaults.get(kind)
        if policy is None:
            text = default_policy(kind)
            if text is None:
                raise PolicyMissing(
                    "A VBS attestation policy has not been set on the attestation provider.: "
                    f"policy {kind}: want one, got none",
                    hint=f"PUT /policies/{kind}",
                )
            policy = self._defaults[kind] = hold(text)
        return policy

    def _change_token(self, instance: Instance, document: Document, result: str, now: datetime) -> str:
        claims: dict[str, Any] = {
            "x-ms-policy-result": result,
            "x-ms-policy-token-hash": b64.encode_url(sha256(document.jws.encode())),
        }
        if document.chain:
            claims["x-ms-policy-signer"] = _signer(document)
        return self._tokens.about_policies(instance, claims, now)


def about(policy: HeldPolicy) -> dict[str, Any]:
    """The claims of a token about the policy that it was made under."""
    claims: dict[str, Any] = {"x-ms-policy-hash": policy.hash}
    if policy.signer is not None:
        claims["x-ms-policy-signer"] = policy.signer
    return claims


def hold_draft(text: str) -> HeldPolicy:
    """Parse a policy that a client sent, at most 64 KiB.

    Raises:
        InvalidParameter: it is longer.
        PolicyParsingError: it is invalid.
    """
    if len(text) > MOST_DRAFT:
        raise InvalidParameter(
            f"draftPolicyForAttestation: want at most {MOST_DRAFT} characters, got {len(text)}"
        )
    return hold(text)


def hold(text: str) -> HeldPolicy:
    """Parse an unsigned policy: a default one, or a draft.

    Raises:
        PolicyParsingError: it is invalid.
    """
    encoded = b64.encode_url(text.encode())
    jws = signed_documents.write_unsigned(msgspec.json.encode({MEMBER: encoded}))
    return _hold(text, jws, None)


def _hold_document(document: Document) -> HeldPolicy:
    encoded = document.members("policy").get(MEMBER)
    if not isinstance(encoded, str) or not encoded:
        raise InvalidParameter(f"policy: want member {MEMBER}, base64url of the policy's text, got none")
    try:
        text = signed_documents.decode_part(encoded, f"policy {MEMBER}", most=MAX_SIZE).decode()
    except UnicodeDecodeError:
        raise InvalidParameter(f"policy {MEMBER}: is not UTF-8") from None
    return _hold(text, document.jws, _signer(document) if document.chain else None)


def _hold(text: str, jws: str, signer: dict[str, Any] | None) -> HeldPolicy:
    policy = parse(text)
    rules = policy.rules(Section.CONFIGURATION)
    # These rules run before there is any claim, so their outcome never changes.
    configuration = dataclasses.replace(policy, sections={Section.CONFIGURATION: rules}) if rules else None
    return HeldPolicy(
        policy=policy,
        properties=evaluate(configuration, ()).properties if configuration else {},
        reads=policy.reads(),
        hash=b64.encode_url(sha256(b64.encode_url(text.encode()).encode())),
        signer=signer,
        jws=jws,
    )


def _signer(document: Document) -> dict[str, Any]:
    # Clients accept either form.
    key = jwk_of(document.chain)
    return {**key, "jwk": key}


def _key(instance: Instance, kind: AttestationType) -> str:
    return f"{instance.key}/{kind}"


def _jws(data: bytes) -> str:
    return msgspec.msgpack.decode(data, type=_Kept).jws
