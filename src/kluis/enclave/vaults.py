"""The vault that an application expects keys from, fixed in its image, so that no host can choose it.

A key from an unknown source is worthless: the host could know it, and read everything encrypted with it. So
an application names its vault, and verifies its releases in one of two ways:

- :class:`ExpectedVault`, for Kluis's key service: the evidence of the enclave that generated the release's
  signing key certifies it, and the release names the vault, of all that such enclaves keep. The vault's
  operator is not trusted.
- :class:`CertifiedVault`, for any other: its signing certificate chains to a pinned root and names the
  vault's host. Everyone who has the root's key, or the vault's, is trusted.
"""

from __future__ import annotations

import dataclasses
import hmac
from datetime import datetime
from typing import Final, Protocol, Self

import msgspec

from kluis.appraisal import ByImage, BySigner, Policy, loads_machine, strict
from kluis.appraisal.tokens import vouching
from kluis.errors import AuthenticityError, FormatError, KluisError, UsageError
from kluis.evidence import Collateral, ProtectionLevel, TrustAnchors
from kluis.formats.encoding import jcs
from kluis.formats.encoding.unreadable import UNREADABLE
from kluis.formats.kluis.released_key import ReleasedKey
from kluis.formats.kluis.runtime_data import Purpose
from kluis.frozen import frozen

MAX_SIZE: Final = 64 * 1024
_WHAT: Final = "expected vault"


class VaultEvidence(msgspec.Struct, frozen=True):
    """The host's evidence for a release; untrusted. May be an ecall's argument.

    Attributes:
        certificate: DER, ``signingCertificate`` of the vault's ``/configuration``; ignored if the release
            contains that of the enclave that signed it.
        collateral: JSON in the format of ``dcap-qvl``, for the quote in the certificate; empty if its vendor
            publishes none.
    """

    certificate: bytes = b""
    collateral: bytes = b""


class Vault(Protocol):
    """An expected vault."""

    def signing_key(self, released: ReleasedKey, brought: VaultEvidence, now: datetime) -> bytes:
        """The key with which this vault signs releases: DER of the SubjectPublicKeyInfo.

        Raises:
            AuthenticityError, FreshnessError, FormatError, PolicyError: the release's key is not this
                vault's.
        """
        ...


class ExpectedVault(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A vault of Kluis's key service, identified by its enclave and its name.

    ``kluis vault meet`` verifies a vault and writes this down, as JSON.

    Attributes:
        vault: name, hex of 32 bytes: random, and constant for the lifetime of its store.
        roots: PEM of the roots that its enclave's evidence may chain to.
        images: hex of the accepted image ids; or else:
        signer: of its image, hex of 32 bytes, with ``product_id`` and ``min_svn``.
        levels: accepted protection levels.
        missing: protections that its machine may do without.
        counters: accepted witnesses of its state.
        machine: the machine that its enclave must run in, a policy's table ``[machine]`` in TOML; empty: an
            enclave in a machine is refused.
    """

    version: int = 1
    vault: str
    roots: tuple[str, ...]
    images: tuple[str, ...] = ()
    signer: str = ""
    product_id: int = 0
    min_svn: int = 0
    levels: tuple[str, ...]
    missing: tuple[str, ...] = ()
    counters: tuple[str, ...] = ("unwitnessed",)
    machine: str = ""

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Parse the output of :meth:`encode`.

        Raises:
            FormatError: another format.
        """
        jcs.loads(data, _WHAT, max_size=MAX_SIZE, max_depth=4)
        try:
            document = msgspec.json.decode(data, type=cls)
        except UNREADABLE as error:
            raise FormatError(f"{_WHAT}: {error}") from None
        document.policy(Purpose.APP)
        return document

    def encode(self) -> bytes:
        """Write it as JSON, readable for people."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"

    def anchors(self) -> TrustAnchors:
        """The roots.

        Raises:
            FormatError: one is invalid.
        """
        return TrustAnchors(
            tuple(anchor for each in self.roots for anchor in TrustAnchors.from_pem(each.encode()))
        )

    def policy(self, purpose: Purpose, *, nonce: bool = False) -> Policy:
        """The policy for its enclave.

        Args:
            purpose: of its evidence.
            nonce: whether it was made for a nonce.

        Raises:
            FormatError: an invalid member.
        """
        try:
            bytes.fromhex(self.vault)
            if self.version != 1 or len(self.vault) != 64 or bool(self.images) is bool(self.signer):
                raise UsageError("want version 1, a name of 32 bytes, and either images or a signer")
            identity: ByImage | BySigner
            if self.images:
                identity = ByImage(image_ids=frozenset(bytes.fromhex(each) for each in self.images))
            else:
                identity = BySigner(
                    signers=frozenset({bytes.fromhex(self.signer)}),
                    product_id=self.product_id,
                    min_svn=self.min_svn,
                )
            made = strict(
                identity,
                protection=frozenset(ProtectionLevel(each) for each in self.levels),
                purpose=purpose,
                counters=frozenset(self.counters),
                missing=frozenset(self.missing),
            )
            machine = loads_machine(self.machine.encode()) if self.machine else None
        except (KluisError, ValueError) as error:
            raise FormatError(f"{_WHAT}: {error}") from None
        return dataclasses.replace(
            made, denylists=True, binding=dataclasses.replace(made.binding, nonce=nonce), machine=machine
        )

    def signing_key(self, released: ReleasedKey, brought: VaultEvidence, now: datetime) -> bytes:
        """Return the key in the release's own certificate, if its evidence is valid.

        A release without one is checked against the certificate from the host.
        """
        if released.vault is None or not hmac.compare_digest(released.vault.hex(), self.vault):
            got = "none" if released.vault is None else released.vault.hex()
            raise AuthenticityError(f"released key vault: want {self.vault}, got {got}", code="release_vault")
        collateral = Collateral.from_json(brought.collateral) if brought.collateral else None
        return vouching.check(
            brought.certificate if released.certificate is None else released.certificate,
            anchors=self.anchors(),
            collateral=collateral,
            policy=self.policy(Purpose.APP),
            now=now,
        ).spki


@frozen
class CertifiedVault:
    """A vault identified only by its certificate, such as Azure Key Vault.

    Attributes:
        url: ``https://HOST[:PORT]``; its certificate names the host.
        roots: PEM of the roots that the certificate may chain to.
    """

    url: str
    roots: bytes

    def signing_key(self, released: ReleasedKey, brought: VaultEvidence, now: datetime) -> bytes:
        """Return the key of the release's own certificate, if it is this vault's."""
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
        from cryptography.x509 import (
            DNSName,
            InvalidVersion,
            load_der_x509_certificate,
            load_pem_x509_certificates,
        )
        from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

        host = self.url.removeprefix("https://").partition(":")[0]
        if released.url != self.url:
            raise AuthenticityError(
                f"released key vault: want {self.url}, got {released.url}", code="release_vault"
            )
        try:
            roots = Store(load_pem_x509_certificates(self.roots))
            leaf, *between = (load_der_x509_certificate(each) for each in released.chain)
            verifier = PolicyBuilder().store(roots).time(now).build_server_verifier(DNSName(host))
            verifier.verify(leaf, between)
        except (ValueError, InvalidVersion, VerificationError):
            raise AuthenticityError(
                f"released key x5c: want a certificate of {host} under the pinned root, got another",
                code="release_vault",
            ) from None
        return leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
