"""Policy management certificates: the trusted signers of an isolated instance's policies.

Azure's clients sign the same document to add a certificate and to remove it, without a date. So a signer that
was removed could return by any such document from before, sent by anyone with the role. Its key is therefore
remembered: only a document that states a later time (``iat``) adds it again.

Spec: Microsoft Azure Attestation, "Policy Certificates" (add, get, remove).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import msgspec

from kluis.enclave.store.model import Reading, Storage, Writing
from kluis.formats import x509
from kluis.formats.encoding.unreadable import UNREADABLE
from kluis.formats.x509 import Certificate
from kluis.hashes import sha256
from kluis.services.attestation.faults import InvalidOperation, InvalidParameter
from kluis.services.attestation.instances import Instance
from kluis.services.attestation.policies import certificate_chains, signed_documents
from kluis.services.attestation.policies.certificate_chains import chain_of, jwk_of, signer_chain
from kluis.services.attestation.policies.signed_documents import Document
from kluis.services.attestation.settings import AttestationSettings
from kluis.services.attestation.tokens.tokens import Tokens

TABLE: Final = "attestation.certificates"
MOST: Final = 64
MOST_REMOVED: Final = 1024
AHEAD_SECONDS: Final = 300
"""How far the clock of a document's signer may be ahead."""
_CLAIMS: Final = ("policyCertificate", "maa-policyCertificate", "x-ms-policyCertificate")
_OBJECTS: Final = ("policyCertificateToAdd", "policyCertificateToRemove")


class _Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The certificates of an instance in the store.

    Attributes:
        version: of this record.
        chains: one for each, DER, the trusted certificate first.
        removed: when a key was last removed, in seconds since 1970, by the SHA-256 of its
            SubjectPublicKeyInfo.
    """

    version: int
    chains: tuple[tuple[bytes, ...], ...]
    removed: dict[bytes, int] = {}


class _Wish(NamedTuple):
    """A signed document, and the chain that it adds or removes."""

    document: Document
    issued_at: object
    chain: tuple[Certificate, ...]

    @property
    def ders(self) -> tuple[bytes, ...]:
        return tuple(each.der for each in self.chain)

    @property
    def key(self) -> bytes:
        """What is remembered of its key."""
        return sha256(self.chain[0].spki)


class PolicyCertificates:
    """The certificates of every instance of one service."""

    def __init__(self, settings: AttestationSettings, storage: Storage, tokens: Tokens) -> None:
        self._settings = settings
        self._storage = storage
        self._tokens = tokens

    def trusted_certificates(self, store: Reading, instance: Instance) -> tuple[Certificate, ...]:
        """The trusted certificates; empty for an instance that is not isolated."""
        if not instance.isolated:
            return ()
        return tuple(_read(chain[0]) for chain in self._chains(store, instance))

    def get(self, instance: Instance, now: datetime) -> str:
        """Return a token that lists them."""
        chains = self._chains(self._storage, instance) if instance.isolated else ()
        keys = [jwk_of([_read(each) for each in chain]) for chain in chains]
        return self._tokens.about_policies(instance, {"x-ms-policy-certificates": {"keys": keys}}, now)

    def add(self, instance: Instance, jws: str, now: datetime) -> str:
        """Add a trusted certificate; return a token that confirms it.

        Args:
            instance: isolated.
            jws: names the certificate, and is signed by a trusted one.
            now: aware.

        Raises:
            InvalidOperation: the instance is not isolated, or the JWS cannot be read, names no certificate,
                or has no trusted signer; or its key was removed since.
            InvalidParameter: not such a document, or the certificate's key cannot sign.
        """
        wish = self._read_request(instance, jws, signer_chain)

        def work(store: Writing) -> None:
            self._check(store, instance, wish.document)
            there, removed = self._chains(store, instance), self._removed(store, instance)
            if any(each[0] == wish.ders[0] for each in there):
                return
            if len(there) == MOST:
                raise InvalidOperation(f"policy certificates: want at most {MOST}, got one more")
            if (since := removed.get(wish.key)) is not None:
                _check_later(wish, since, now)
            self.put(store, instance.key, (*there, wish.ders), removed)

        self._storage.update(work)
        return self._change_token(instance, wish.ders[0], "IsPresent", now)

    def remove(self, instance: Instance, jws: str, now: datetime) -> str:
        """Remove a trusted certificate, and remember its key; return a token that confirms it.

        Raises:
            InvalidOperation: as for :meth:`add`, or it is the last one, or too many were removed.
            InvalidParameter: as for :meth:`add`.
        """
        wish = self._read_request(instance, jws, chain_of)

        def work(store: Writing) -> None:
            self._check(store, instance, wish.document)
            there, removed = self._chains(store, instance), self._removed(store, instance)
            left = tuple(each for each in there if each[0] != wish.ders[0])
            if not left:
                raise InvalidOperation(
                    "policy certificates: want at least 1 to stay, got the last one to remove",
                    hint="add another first",
                )
            if len({*removed, wish.key}) > MOST_REMOVED:
                raise InvalidOperation(
                    f"policy certificates: want at most {MOST_REMOVED} removed keys, got one more",
                    hint="make another instance",
                )
            at = max(int(now.timestamp()), removed.get(wish.key, 0))
            self.put(store, instance.key, left, {**removed, wish.key: at})

        self._storage.update(work)
        return self._change_token(instance, wish.ders[0], "IsAbsent", now)

    def put(
        self,
        store: Writing,
        instance: str,
        chains: Sequence[Sequence[bytes]],
        removed: Mapping[bytes, int] = MappingProxyType({}),
    ) -> None:
        """Store the certificates of an instance, and its removed keys, as part of a transaction."""
        record = _Kept(1, tuple(tuple(chain) for chain in chains), dict(removed))
        store.put(TABLE, instance, msgspec.msgpack.encode(record))

    def stored_chains(self, store: Reading, instance: str) -> tuple[tuple[bytes, ...], ...] | None:
        """The chains in the store for an instance; None if they were never changed."""
        kept = _stored(store, instance)
        return None if kept is None else kept.chains

    def forget(self, instance: str, store: Writing) -> None:
        """Delete them, as part of a transaction."""
        store.delete(TABLE, instance)

    def _chains(self, store: Reading, instance: Instance) -> tuple[tuple[bytes, ...], ...]:
        stored = self.stored_chains(store, instance.key)
        return tuple((der,) for der in self._settings.policy_signers) if stored is None else stored

    def _removed(self, store: Reading, instance: Instance) -> Mapping[bytes, int]:
        kept = _stored(store, instance.key)
        return {} if kept is None else kept.removed

    def _read_request(
        self, instance: Instance, jws: str, read: Callable[[object, str], tuple[Certificate, ...]]
    ) -> _Wish:
        if not instance.isolated:
            raise InvalidOperation(
                f"policy certificates: want trust model Isolated, got {instance.trust_model}",
                hint="make the instance with policySigningCertificates",
            )
        document = signed_documents.parse(jws, "policy certificate")
        members = document.members("policy certificate")
        jwk = next((members[name] for name in _CLAIMS if name in members), None)
        if not isinstance(jwk, dict):
            raise InvalidOperation(
                'Msg:[Could not find "maa-policyCertificate" claim in policy token]: policy certificate: '
                "want member policyCertificate, a JWK with x5c"
            )
        return _Wish(document, members.get("iat"), read(jwk.get("x5c"), "policyCertificate.x5c"))

    def _check(self, store: Reading, instance: Instance, document: Document) -> None:
        check_signer(instance, document, self.trusted_certificates(store, instance), "policy certificate")

    def _change_token(self, instance: Instance, der: bytes, result: str, now: datetime) -> str:
        claims = {
            "x-ms-certificate-thumbprint": thumbprint(der),
            "x-ms-policycertificates-result": result,
            "x-ms-certificate-result": result,
        }
        return self._tokens.about_policies(instance, claims, now)


def check_signer(
    instance: Instance, document: Document, certificates: Sequence[Certificate], what: str
) -> None:
    """Refuse a document without an accepted signer, if the instance is isolated.

    Raises:
        InvalidOperation: unsigned, or signed by another.
    """
    if not instance.isolated:
        return
    if not document.chain:
        raise InvalidOperation(
            "Native operation failed with 74: Bad message    Msg:[Unsigned JWS specified but enclave is "
            f"configured with signing certificates.]: {what}: want a signature of one of "
            f"{len(certificates)} policy management certificates, got none"
        )
    if not certificate_chains.is_trusted(document.chain, certificates):
        signer = document.chain[0]
        raise InvalidOperation(
            f"{what} signer: want one of {len(certificates)} policy management certificates, got "
            f"CN={signer.common_name}, SHA-1 {thumbprint(signer.der)}"
        )


def thumbprint(der: bytes) -> str:
    """A certificate's name in Azure's tools: the SHA-1 of its DER, hex in capitals."""
    return hashlib.sha1(der, usedforsecurity=False).hexdigest().upper()


def certificate_body(body: bytes) -> str:
    """The JWS in a request to add or remove: a JSON string, an object with one member, or the JWS itself.

    Raises:
        InvalidParameter: none of these.
    """
    text = body.strip()
    if text[:1] not in (b'"', b"{"):
        return text.decode("ascii", "replace")
    try:
        value: Any = msgspec.json.decode(text)
    except UNREADABLE:
        raise InvalidParameter("body: is not JSON") from None
    if isinstance(value, dict):
        value = next((value[name] for name in _OBJECTS if name in value), None)
    if not isinstance(value, str):
        raise InvalidParameter(f"body: want a JSON string with a JWS, or a member {' or '.join(_OBJECTS)}")
    return value


def _check_later(wish: _Wish, since: int, now: datetime) -> None:
    """Refuse to add a key that was removed after the document was signed, or may have been.

    Raises:
        InvalidOperation: it states no later time.
    """
    at, latest = wish.issued_at, int(now.timestamp()) + AHEAD_SECONDS
    if isinstance(at, bool) or not isinstance(at, int) or not since < at <= latest:
        raise InvalidOperation(
            f"policy certificates: the key of CN={wish.chain[0].common_name} was removed: want iat after"
            f" {since}, at most {latest}, got {'none' if at is None else str(at)[:32]}",
            hint="sign it with the time: a member iat, seconds since 1970, next to policyCertificate",
        )


def _stored(store: Reading, instance: str) -> _Kept | None:
    data = store.get(TABLE, instance)
    return None if data is None else msgspec.msgpack.decode(data, type=_Kept)


def _read(der: bytes) -> Certificate:
    return x509.parse(der, "policy management certificate")
