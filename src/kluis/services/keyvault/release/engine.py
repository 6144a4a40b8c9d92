"""Release a key to an environment that an authority attests, under the key's release policy.

Spec: Azure Key Vault, "Secure Key Release"; REST API, "Release".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

import msgspec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from kluis.appraisal.tokens import signed_claims
from kluis.appraisal.tokens.signed_claims import Assertion
from kluis.appraisal.tokens.token_keys import TrustedKey
from kluis.enclave.store.model import Reading
from kluis.errors import KluisError
from kluis.formats.encoding import b64
from kluis.frozen import frozen
from kluis.hashes import sha256
from kluis.services.keyvault import views
from kluis.services.keyvault.faults import BadParameter, Detail, Forbidden
from kluis.services.keyvault.names import check_name, check_version, identifier
from kluis.services.keyvault.release import policy, recipient, wrapping
from kluis.services.keyvault.release.keyring import Keyring
from kluis.services.keyvault.release.recipient import Recipient
from kluis.services.keyvault.release.signer import Signer
from kluis.services.keyvault.requests import Release
from kluis.services.keyvault.vault import keys
from kluis.services.keyvault.vault.audit import Event, Recorder
from kluis.services.keyvault.vault.records import KeyRecord, KeyVersion, ReleaseRule
from kluis.services.keyvault.vault.vault import Vault

# Clients send a file with a token unchanged, and its last line has an end; no part of a token contains one.
_BLANK: Final = " \t\r\n"
MAX_NONCE: Final = 1024
UNVERIFIED: Final = "Target environment attestation statement cannot be verified."
# A policy names its authority; what the name refers to is another matter (decision 0018).
CHANGED: Final = "want the authority that the policy was set with, got another: set the policy again"
UNMET: Final = "Target environment attestation does not meet key release policy requirements."


@frozen
class Releases:
    """Releases keys.

    Attributes:
        vault: that has them.
        keyring: the authorities' keys.
        signer: of responses.
        recorder: of releases.
    """

    vault: Vault
    keyring: Keyring
    signer: Signer
    recorder: Recorder

    def release(
        self, name: str, version: str, request: Release, *, now: datetime, subject: str, url: str, api: str
    ) -> str:
        """Release one version of a key.

        1. The key exists, is enabled, exportable, and has a release policy. Its times do not matter.
        2. ``target`` is a valid token that an authority of this vault signed.
        3. Its claims meet the policy, and the authority is the same as when the policy was set.
        4. They name an RSA encryption key of the environment.
        5. The material is wrapped to that key, and the release is recorded before the response.

        Args:
            name: of the key.
            version: "" is the latest.
            request: target, nonce and algorithm.
            now: aware.
            subject: of the requester.
            url: of the vault, for ``kid``.
            api: the version of the API, for the response.

        Returns:
            A JWS, compact.

        Raises:
            KeyNotFound: the key does not exist.
            BadParameter: an invalid request.
            Forbidden: a step fails.
        """
        at = int(now.timestamp())
        if request.target is None:
            raise BadParameter("target: want the environment's attestation token, got none")
        if request.nonce is not None and len(request.nonce) > MAX_NONCE:
            raise BadParameter(f"nonce: want at most {MAX_NONCE} characters, got {len(request.nonce)}")
        algorithm = wrapping.choose_algorithm(request.enc)
        name, version = check_name(name), check_version(version)
        token = request.target.strip(_BLANK)
        vouched = self._check(name, token, now)
        target = sha256(token.encode()).hex()
        going: _Going
        ciphertext, signed = b"", ""

        def happen(reading: Reading) -> Event:
            nonlocal going
            going = self._going(reading, name, version, vouched, at)  # 1 to 4
            return going.event(subject, at, target)

        def wrap() -> None:
            nonlocal ciphertext
            ciphertext = wrapping.wrap(going.key.secret, going.to.key, algorithm)

        def sign() -> None:
            nonlocal signed
            signed = self.signer.sign(
                _payload(self.vault, going, ciphertext, algorithm, request, version, url, api)
            )

        self.recorder.record(happen, wrap, sign)  # 5
        return signed

    def _going(
        self, reading: Reading, name: str, version: str, vouched: Assertion | Forbidden, at: int
    ) -> _Going:
        """The key to release and its recipient; steps 1 to 4."""
        record = keys.demand(reading, name, at)  # 1
        key = keys.version(reading, record, version)
        rule = _rule(record, key)
        if isinstance(vouched, Forbidden):  # 2
            raise vouched
        missed = policy.judge(policy.parse(rule.data), vouched.issuer, vouched.claims)  # 3
        if missed:
            raise self._refusal(UNMET, missed)
        if not self.vault.means_the_same(vouched.issuer, rule.epoch):
            raise self._refusal(UNMET, (Detail("authority", "iss", CHANGED),))
        return _Going(record, key, self._recipient(vouched), vouched.issuer)  # 4

    def _check(self, name: str, target: str, now: datetime) -> Assertion | Forbidden:
        """The claims of the token; or the refusal, returned and not raised: a caller first learns if the key
        does not exist.
        """
        authority_keys = _Keys(self.keyring, lambda: self._named_authorities(name, int(now.timestamp())))
        try:
            return signed_claims.check(target, authority_keys, now)
        except KluisError as error:
            return self._refusal(UNVERIFIED, (Detail("token", "target", error.message),))

    def _named_authorities(self, name: str, at: int) -> frozenset[str]:
        """The authorities that a key's policy names."""
        record = keys.find(self.vault.storage, name, at)
        if record is None or record.release is None:
            return frozenset()
        return frozenset(each.url for each in policy.parse(record.release.data).authorities)

    def _recipient(self, vouched: Assertion) -> Recipient:
        try:
            return recipient.recipient(vouched.claims)
        except KluisError as error:
            raise self._refusal(UNMET, (Detail("runtime_key", "x-ms-runtime", error.message),)) from None

    def _refusal(self, message: str, details: Sequence[Detail]) -> Forbidden:
        return Forbidden(message, "AccessDenied", details if self.vault.rules.explain else ())


class _Keys(NamedTuple):
    """The authorities' keys under the policy of one key."""

    keyring: Keyring
    named: Callable[[], frozenset[str]]

    def key(self, issuer: str, kid: str, now: datetime) -> TrustedKey:
        """Like :meth:`Keyring.key`."""
        return self.keyring.key(issuer, kid, now, self.named)


class _Going(NamedTuple):
    """A key to release: its recipient, and the attesting authority."""

    record: KeyRecord
    key: KeyVersion
    to: Recipient
    authority: str

    def event(self, subject: str, at: int, target: str) -> Event:
        """The event of its release, for the record."""
        spki = self.to.key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        name, version = self.record.name, self.key.id
        return Event("release", name, version, subject, at, self.authority, target, sha256(spki).hex())


def _rule(record: KeyRecord, key: KeyVersion) -> ReleaseRule:
    if not key.enabled:
        raise Forbidden("Operation release is not allowed on a disabled key.", "KeyDisabled")
    if not key.exportable or record.release is None:
        raise Forbidden(
            "Operation release is not allowed on a key that is not exportable.", "KeyNotExportable"
        )
    return record.release


def _payload(
    vault: Vault, going: _Going, ciphertext: bytes, algorithm: str, release: Release, version: str, url: str,
    api: str,
) -> dict[str, Any]:  # fmt: skip
    record, kid = going.record, going.to.kid
    request = {"api-version": api, "enc": algorithm, "kid": identifier(url, record.name, version)}
    if release.nonce is not None:
        request["nonce"] = release.nonce
    sealed = {
        "schema_version": "1.0",
        "header": {"kid": kid, "alg": "dir", "enc": algorithm},
        "ciphertext": b64.encode_url(ciphertext),
    }
    shown = views.bundle(url, record, going.key, vault.rules, api)
    shown["key"]["key_hsm"] = b64.encode_url(msgspec.json.encode(sealed))
    return {"request": request, "response": {"key": shown}}
