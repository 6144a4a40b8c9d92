"""The settings of an attestation service. None of them comes from the environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from kluis.errors import UsageError
from kluis.evidence import ProtectionLevel
from kluis.services.attestation.kinds import TrustModel

VARIABLES: Final = ("PK", "KEK", "db", "dbx")
HOUR: Final = 3600
DAY: Final = 24 * HOUR
# Azure's limit for the reports of TPMs: a year.
MOST_REPORT_MINUTES: Final = 525_600


class Root(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A root that the instance trusts in addition to the vendors'.

    Attributes:
        pem: one self-signed certificate, or one public key.
        level: for a root that is neither a vendor's nor an emulated platform's: ``none``, ``vtpm`` or one of
            hardware; None for the others, which have a fixed level.
    """

    pem: bytes
    level: ProtectionLevel | None = None


class UvmEndorser(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An endorser whose signature makes a utility VM compliant.

    Attributes:
        issuer: ``did:x509`` with the SHA-256 fingerprint of a root and the required usage of its signers.
        feed: the product line that it signs.
        least_svn: the least version of the product.
    """

    issuer: str
    feed: str
    least_svn: int

    def __post_init__(self) -> None:
        if not self.issuer.startswith("did:x509:0:sha256:") or not self.feed or self.least_svn < 0:
            raise UsageError(
                "compliance.uvm_endorsers: want did:x509:0:sha256:.., a feed, and a version of 0 or more, "
                f"got {self.issuer!a:.40}, {self.feed!a:.40} and {self.least_svn}"
            )


class Compliance(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The code that gets the claim ``x-ms-compliance-status``. By default none does.

    Attributes:
        cvm_id_keys: SHA-384 digests of the keys that sign a cloud's paravisor, 48 bytes each.
        cvm_measurements: launch digests of paravisors, or MRTDs, 48 bytes each.
        uvm_measurements: launch digests of utility VMs, 48 bytes each.
        uvm_endorsers: whose signed utility VM measurements count as listed in ``uvm_measurements``.
    """

    cvm_id_keys: frozenset[bytes] = frozenset()
    cvm_measurements: frozenset[bytes] = frozenset()
    uvm_measurements: frozenset[bytes] = frozenset()
    uvm_endorsers: tuple[UvmEndorser, ...] = ()

    def __post_init__(self) -> None:
        for name in ("cvm_id_keys", "cvm_measurements", "uvm_measurements"):
            for digest in getattr(self, name):
                if len(digest) != 48:
                    raise UsageError(f"compliance.{name}: want 48 bytes, got {len(digest)}")


class AttestationSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The service's settings.

    Attributes:
        url: of the service for clients, ``https://host[:port]``, without a trailing slash; it is the ``iss``
            of the default instance's tokens.
        policy_signers: certificates, DER, whose keys sign the default instance's policies. With at least one
            the instance is ``Isolated``, and only they, and the certificates that they add, can change a
            policy.
        location: its location in the control plane.
        roots: trusted in addition to the vendors'.
        shipped_roots: whether the vendors' own roots are trusted.
        collateral: bundles of Intel's documents, JSON, for a service that fetches none.
        compliance: the code that is reported as compliant.
        token_seconds: lifetime of an attestation token, 8 hours as on Azure.
        policy_token_seconds: lifetime of a token about policies.
        tpm_token_minutes: lifetime of a TPM's token if its policy does not state it.
        key_seconds: how long a signing key signs before it is replaced.
        publish_seconds: how long a new signing key is published before it signs.
        challenge_seconds: lifetime of a TPM's challenge.
        collateral_seconds: how long fetched collateral is used before it is fetched again.
        tpm_issuers: certificates, DER, of the issuers of attestation keys' certificates, including roots, for
            clients that send only the key's certificate.
        secure_boot_variables: SHA-256 digests of the known good values of PK, KEK, db and dbx, by name; a
            variable without a list is never reported as validated.
        tpm_authentication: whether the default instance requires a bearer token with a TPM's evidence.
        custom_claim_prefix: of the names of TPM clients' own claims.
        deprecated_names: whether tokens repeat claims under their names from 2018.
        insecure_accept_unprotected: whether evidence of level ``none`` is attested: debug enclaves, and roots
            without a stated level.
        insecure_changing_issuer: whether another start may configure another issuer of bearer tokens, or
            other keys for it. Then anyone who runs the service can replace every policy that is not signed.
    """

    url: str
    policy_signers: tuple[bytes, ...] = ()
    location: str = "local"
    roots: tuple[Root, ...] = ()
    shipped_roots: bool = True
    collateral: tuple[bytes, ...] = ()
    compliance: Compliance = msgspec.field(default_factory=Compliance)
    token_seconds: int = 8 * HOUR
    policy_token_seconds: int = HOUR
    tpm_token_minutes: int = 1440
    key_seconds: int = 90 * DAY
    publish_seconds: int = HOUR
    challenge_seconds: int = 600
    collateral_seconds: int = HOUR
    tpm_issuers: tuple[bytes, ...] = ()
    secure_boot_variables: Mapping[str, frozenset[bytes]] = msgspec.field(default_factory=dict)
    tpm_authentication: bool = True
    custom_claim_prefix: str = "urn:kluis:custom-claim:"
    deprecated_names: bool = False
    insecure_accept_unprotected: bool = False
    insecure_changing_issuer: bool = False

    def __post_init__(self) -> None:
        if not self.url.startswith("https://") or self.url.endswith("/") or "?" in self.url:
            raise UsageError(f"attestation.url: want https://host[:port], got {self.url!a}")
        if not self.shipped_roots and not self.roots:
            raise UsageError("attestation.roots: want at least 1 where the shipped ones are off, got 0")
        if more := sorted(set(self.secure_boot_variables) - set(VARIABLES)):
            raise UsageError(
                f"attestation.secure_boot_variables: want {', '.join(VARIABLES)}, got {more[0]!a}"
            )
        if not self.custom_claim_prefix:
            raise UsageError("attestation.custom_claim_prefix: want text, got none")
        for name in (
            "token_seconds",
            "policy_token_seconds",
            "tpm_token_minutes",
            "key_seconds",
            "challenge_seconds",
        ):
            if getattr(self, name) < 1:
                raise UsageError(f"attestation.{name}: want at least 1, got {getattr(self, name)}")

    @property
    def trust_model(self) -> TrustModel:
        """Of the default instance."""
        return TrustModel.ISOLATED if self.policy_signers else TrustModel.AAD

    @property
    def longest_token_seconds(self) -> int:
        """No token of the service lives longer than this."""
        return max(self.token_seconds, self.policy_token_seconds, 60 * MOST_REPORT_MINUTES)
