"""Bodies of requests and answers, as Azure Attestation's clients write and read them.

Members that are not named here are passed over. One is ours: ``x-kluis-collateral``, base64url of a bundle
of Intel's documents, for a service that fetches none.
"""

from __future__ import annotations

from typing import Any

import msgspec

from kluis.services.attestation.bound_data import Data

__all__ = ["AttestGuest", "AttestOpenEnclave", "AttestReport", "AttestSgx", "AttestTdx", "Token"]


class _Request(msgspec.Struct, kw_only=True):
    """What requests with evidence have in common.

    Attributes:
        runtimeData: data that the evidence's report data are the hash of.
        initTimeData: data that the enclave's configuration is the hash of.
        draftPolicyForAttestation: a policy's text, evaluated in place of the one that is set.
        nonce: of the client; comes back in the token.
        collateral: Intel's documents.
    """

    runtimeData: Data | None = None  # noqa: N815 - names of the wire
    initTimeData: Data | None = None  # noqa: N815
    draftPolicyForAttestation: str | None = None  # noqa: N815
    nonce: str | int | None = None
    collateral: str | None = msgspec.field(default=None, name="x-kluis-collateral")


class AttestSgx(_Request, kw_only=True):
    """A request with an SGX quote, base64url."""

    quote: str


class AttestOpenEnclave(_Request, kw_only=True):
    """A request with an Open Enclave report, base64url."""

    report: str


class AttestReport(_Request, kw_only=True):
    """A request with an SNP report and its certificates, base64url of JSON."""

    report: str


class AttestTdx(_Request, kw_only=True):
    """A request with a TDX quote, base64url."""

    quote: str


class AttestGuest(msgspec.Struct, kw_only=True):
    """A request with everything that an Azure guest has to say, base64url of JSON."""

    attestationInfo: str | None = None  # noqa: N815 - names of the wire
    client: str | None = msgspec.field(default=None, name="AttestationInfo")
    draftPolicyForAttestation: str | None = None  # noqa: N815


class Token(msgspec.Struct):
    """An answer with a token, or with what stands for one."""

    token: str


class TpmMessage(msgspec.Struct):
    """A message of the TPM's protocol, either way: base64url of JSON."""

    data: str


class JwksKey(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One key of ``/certs``."""

    kid: str
    kty: str
    x5c: list[str]
    alg: str
    use: str
    n: str
    e: str


class Jwks(msgspec.Struct):
    """The answer of ``/certs``."""

    keys: list[JwksKey]


class Baselines(msgspec.Struct):
    """The answer of ``/tcbbaselines``."""

    tcbBaselines: list[dict[str, Any]]  # noqa: N815 - names of the wire
