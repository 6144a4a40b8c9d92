"""Which vault a key is expected from: what an application has in its image, so that no host can choose it.

A key that anybody handed in is worth nothing: the host would know it, and read whatever is encrypted
under it. So an application names its vault, and knows a release of it by one of two ways:

- :class:`ExpectedVault`, of Kluis's key service: the release's signing key is vouched for by the evidence
  of the enclave that made it, and the release names the vault, of all that such enclaves keep. The
  vault's operator is not believed.
- :class:`CertifiedVault`, of any other: its signing certificate chains to a pinned root and is made out
  to the vault's host. Whoever has the root's key, or the vault's, is believed.
"""

from __future__ import annotations

import dataclasses
import hmac
from datetime import datetime
from typing import Final, Protocol, Self

import msgspec

from kluis.appraisal import ByImage, BySigner, Policy, strict
from kluis.appraisal.tokens import vouching
from kluis.errors import AuthenticityError, FormatError, KluisError, UsageError
from kluis.evidence import Collateral, ProtectionLevel, TrustAnchors
from kluis.formats.encoding import jcs
from kluis.formats.encoding.unreadable import UNREADABLE
from kluis.formats.kluis.released_key import ReleasedKey
from kluis.formats.kluis.runtime_data import Purpose

MAX_SIZE: Final = 64 * 1024
_WHAT: Final = "expected vault"


class VaultEvidence(msgspec.Struct, frozen=True):
    """What the host brings along with a release; it may bring anything. May be an ecall's argument.

    Attributes:
        certificate: DER, ``signingCertificate`` of the vault's ``/configuration``; not looked at where the
            release has the one of the enclave that signed it.
        collateral: JSON in the shape that ``dcap-qvl`` reads, for the quote in the certificate; empty
            where its maker publishes none.
    """

    certificate: bytes = b""
    collateral: bytes = b""


class Vault(Protocol):
    """A vault that is expected."""

    def signing_key(self, released: ReleasedKey, brought: VaultEvidence, now: datetime) -> bytes:
        """The key that this vault signs releases with: DER of the SubjectPublicKeyInfo.

        Raises:
            AuthenticityError, FreshnessError, FormatError, PolicyError: it is none of this vault's.
        """
        ...


class ExpectedVault(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One vault of Kluis's key service, known by its enclave and by its name.

    ``kluis vault meet`` meets a vault and writes this down, as JSON.

    Attributes:
        vault: its name, hex of 32 bytes: random, and its own for as long as its store lives.
        roots: PEM of the roots that its enclave's evidence may chain to.
        images: hex of the image ids that will do; or else:
        signer: who signed its image, hex of 32 bytes, with ``product_id`` and ``min_svn``.
        levels: protection levels that will do.
        missing: protections that its machine may lack.
        counters: how its state may be witnessed.
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

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read what :meth:`encode` writes.

        Raises:
            FormatError: it is something else.
        """
        jcs.loads(data, _WHAT, max_size=MAX_SIZE, max_depth=4)
        try:
            document = msgspec.json.decode(data, type=cls)
        except UNREADABLE as error:
            raise FormatError(f"{_WHAT}: {error}") from None
        document.policy(Purpose.APP)
        return document

    def encode(self) -> bytes:
        """As JSON, for people too."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"

    def anchors(self) -> TrustAnchors:
        """The roots.

        Raises:
            FormatError: one is none.
        """
        return TrustAnchors(
            tuple(anchor for each in self.roots for anchor in TrustAnchors.from_pem(each.encode()))
        )

    def policy(self, purpose: Purpose, *, nonce: bool = False) -> Policy:
        """What the enclave must be.

        Args:
            purpose: of its evidence.
            nonce: whether it was made for a nonce.

        Raises:
            FormatError: a member cannot be meant.
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
        except (KluisError, ValueError) as error:
            raise FormatError(f"{_WHAT}: {error}") from None
        return dataclasses.replace(made, binding=dataclasses.replace(made.binding, nonce=nonce))

    def signing_key(self, released: ReleasedKey, brought: VaultEvidence, now: datetime) -> bytes:
        """See :class:`Vault`: the key in the release's own certificate, if the evidence there holds.

        A release that has none is held to the certificate that the host brought.
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


@dataclasses.dataclass(frozen=True, slots=True)
class CertifiedVault:
    """A vault known by its certificate alone, as Azure Key Vault is.

    Attributes:
        url: ``https://HOST[:PORT]``; its certificate is made out to the host.
        roots: PEM of the roots that the certificate may chain to.
    """

    url: str
    roots: bytes

    def signing_key(self, released: ReleasedKey, brought: VaultEvidence, now: datetime) -> bytes:
        """See :class:`Vault`: the key of the release's own certificate, if it is this vault's."""
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
        from cryptography.x509 import DNSName, load_der_x509_certificate, load_pem_x509_certificates
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
        except (ValueError, VerificationError):
            raise AuthenticityError(
                f"released key x5c: want a certificate of {host} under the pinned root, got another",
                code="release_vault",
            ) from None
        return leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
