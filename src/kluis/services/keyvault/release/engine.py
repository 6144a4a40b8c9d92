"""Releasing a key: to an environment that an authority vouches for, under the policy that the key has.

Spec: Azure Key Vault, "Secure Key Release"; REST API, "Release".
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from kluis.errors import KluisError
from kluis.formats import b64
from kluis.hashes import sha256
from kluis.services.keyvault import shelf, views
from kluis.services.keyvault.audit import Event, Recorder
from kluis.services.keyvault.faults import BadParameter, Detail, Forbidden
from kluis.services.keyvault.names import check_name, check_version, identifier
from kluis.services.keyvault.records import KeyRecord, KeyVersion
from kluis.services.keyvault.release import assertion, policy, wrapping
from kluis.services.keyvault.release.assertion import Assertion, Recipient
from kluis.services.keyvault.release.keyring import Keyring
from kluis.services.keyvault.release.signer import Signer
from kluis.services.keyvault.requests import Release
from kluis.services.keyvault.vault import Vault

__all__ = ["Releases"]

MAX_NONCE: Final = 1024
UNVERIFIED: Final = "Target environment attestation statement cannot be verified."
UNMET: Final = "Target environment attestation does not meet key release policy requirements."


@dataclasses.dataclass(frozen=True, slots=True)
class Releases:
    """Releases keys.

    Attributes:
        vault: whose they are.
        keyring: the authorities' keys.
        signer: of what is said here.
        recorder: of releases.
    """

    vault: Vault
    keyring: Keyring
    signer: Signer
    recorder: Recorder

    def release(
        self, name: str, version: str, asked: Release, *, now: datetime, subject: str, url: str, api: str
    ) -> str:
        """Release one version of a key.

        1. The key is there, enabled, exportable, and has a release policy. Its times do not matter.
        2. ``target`` is a token that an authority of this vault signed, in its time.
        3. Its claims meet the policy.
        4. They name an RSA key of the environment's, for encryption.
        5. The material is wrapped to that key, and the release is on record before it is answered.

        Args:
            name: the key's.
            version: "" is the latest.
            asked: target, nonce and algorithm.
            now: aware.
            subject: who asks.
            url: of the vault, for ``kid``.
            api: the version of the API, for the answer.

        Returns:
            A JWS, compact.

        Raises:
            KeyNotFound: there is no such key.
            BadParameter: what is asked cannot be meant.
            Forbidden: a step fails.
        """
        at = int(now.timestamp())
        if asked.target is None:
            raise BadParameter("target: want the environment's attestation token, got none")
        if asked.nonce is not None and len(asked.nonce) > MAX_NONCE:
            raise BadParameter(f"nonce: want at most {MAX_NONCE} characters, got {len(asked.nonce)}")
        algorithm = wrapping.chosen(asked.enc)
        record = shelf.demand(self.vault.storage, check_name(name), at)  # 1
        key = shelf.version(self.vault.storage, record, check_version(version))
        rule = _rule(record, key)
        vouched = self._checked(asked.target, now)  # 2
        missed = policy.judge(policy.parse(rule), vouched.issuer, vouched.claims)  # 3
        if missed:
            raise self._refused(UNMET, missed)
        to = self._recipient(vouched)  # 4
        ciphertext = wrapping.wrap(key.secret, to.key, algorithm)  # 5
        payload = _payload(self.vault, record, key, to.kid, ciphertext, algorithm, asked, version, url, api)
        signed = self.signer.sign(payload)
        self._record(record, key, vouched, to, asked.target, at, subject)
        return signed

    def _checked(self, target: str, now: datetime) -> Assertion:
        try:
            return assertion.check(target, self.keyring, now)
        except KluisError as error:
            raise self._refused(UNVERIFIED, (Detail("token", "target", error.message),)) from None

    def _recipient(self, vouched: Assertion) -> Recipient:
        try:
            return assertion.recipient(vouched.claims)
        except KluisError as error:
            raise self._refused(UNMET, (Detail("runtime_key", "x-ms-runtime", error.message),)) from None

    def _refused(self, message: str, details: Sequence[Detail]) -> Forbidden:
        return Forbidden(message, "AccessDenied", details if self.vault.rules.explain else ())

    def _record(
        self,
        record: KeyRecord,
        key: KeyVersion,
        vouched: Assertion,
        to: Recipient,
        token: str,
        at: int,
        subject: str,
    ) -> None:
        spki = to.key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        event = Event(
            "release", record.name, key.id, subject, at, vouched.issuer,
            sha256(token.encode()).hex(), sha256(spki).hex(),
        )  # fmt: skip
        self.recorder.record(event)


def _rule(record: KeyRecord, key: KeyVersion) -> bytes:
    if not key.enabled:
        raise Forbidden("Operation release is not allowed on a disabled key.", "KeyDisabled")
    if not key.exportable or record.release is None:
        raise Forbidden(
            "Operation release is not allowed on a key that is not exportable.", "KeyNotExportable"
        )
    return record.release.data


def _payload(
    vault: Vault, record: KeyRecord, key: KeyVersion, kid: str, ciphertext: bytes, algorithm: str,
    asked: Release, version: str, url: str, api: str,
) -> dict[str, Any]:  # fmt: skip
    request = {"api-version": api, "enc": algorithm, "kid": identifier(url, record.name, version)}
    if asked.nonce is not None:
        request["nonce"] = asked.nonce
    sealed = {
        "schema_version": "1.0",
        "header": {"kid": kid, "alg": "dir", "enc": algorithm},
        "ciphertext": b64.encode_url(ciphertext),
    }
    shown = views.bundle(url, record, key, vault.rules)
    shown["key"]["key_hsm"] = b64.encode_url(msgspec.json.encode(sealed))
    return {"request": request, "response": {"key": shown}}
