"""What an attestation service is told when it starts. Nothing of it comes from the environment."""

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
# Azure's bound for the reports of TPMs: a year.
MOST_REPORT_MINUTES: Final = 525_600


class Root(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A root that the instance trusts beside the makers'.

    Attributes:
        pem: one self-signed certificate, or one public key.
        level: for a root that is neither a maker's nor an emulated platform's, who holds its key:
            ``none``, ``vtpm`` or one of hardware; None for the others, which have their own.
    """

    pem: bytes
    level: ProtectionLevel | None = None


class UvmEndorser(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Whose word makes a utility VM compliant.

    Attributes:
        issuer: ``did:x509`` with the SHA-256 fingerprint of a root and the usage of those under it who sign.
        feed: the line of products that they sign for.
        least_svn: the least version of it.
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
    """Which code gets the claim ``x-ms-compliance-status``. By default none does.

    Attributes:
        cvm_id_keys: SHA-384 digests of the keys that sign a cloud's paravisor, 48 bytes each.
        cvm_measurements: launch digests of paravisors, or MRTDs, 48 bytes each.
        uvm_measurements: launch digests of utility VMs, 48 bytes each.
        uvm_endorsers: whose signed word of a utility VM's launch digest counts as if it stood there.
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
    """What the service is told.

    Attributes:
        url: where clients reach it, ``https://host[:port]``, without a slash at the end; it is the
            ``iss`` of the default instance's tokens.
        policy_signers: certificates, DER, whose keys sign the default instance's policies; with at least
            one the instance is ``Isolated``, and only they, and whom they add, change a policy.
        location: what the control plane calls the place that it is in.
        roots: trusted beside the makers'.
        shipped_roots: whether the makers' own roots are trusted.
        collateral: bundles of Intel's documents, JSON, for a service that fetches none.
        compliance: which code is called compliant.
        token_seconds: life of an attestation token, as Azure's: 8 hours.
        policy_token_seconds: life of a token about policies.
        tpm_token_minutes: life of a TPM's token whose policy does not state it.
        key_seconds: a signing key signs for so long; then there is a new one.
        publish_seconds: a new signing key is published so long before it signs.
        challenge_seconds: a TPM's challenge is good for so long.
        collateral_seconds: fetched collateral is used so long before it is asked for again.
        tpm_issuers: certificates, DER, of those who issue attestation keys' certificates, roots included,
            for clients that send the key's alone.
        secure_boot_variables: SHA-256 digests of the values of PK, KEK, db and dbx that are known to be good,
            by name; a variable without a list is never called validated.
        tpm_authentication: whether the default instance wants a bearer token with a TPM's evidence.
        custom_claim_prefix: before the names of claims that TPM clients make of themselves.
        deprecated_names: whether tokens repeat claims under the names that they had in 2018.
        insecure_accept_unprotected: whether evidence of level ``none`` is attested: debug enclaves, and
            roots of which nobody says who holds the key.
        insecure_changing_issuer: whether another start may name another issuer of bearer tokens, or other
            keys of it. Then anyone who runs the service can replace every policy that is not signed.
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
        """No token of the service lives longer."""
        return max(self.token_seconds, self.policy_token_seconds, 60 * MOST_REPORT_MINUTES)
