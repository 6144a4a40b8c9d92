"""``httpx`` and ``httpx2`` transports for a service inside an enclave, under a policy.

::

    with httpx.Client(transport=attested.transport("policy.toml", root=root)) as client:
        client.get("https://localhost:8443/")    # raises before the request leaves, or it is the right code
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from kluis import trust
from kluis.appraisal import Policy
from kluis.enclave.attested_tls.client import AsyncAttestedTransport, AttestedTransport, attestation
from kluis.enclave.attested_tls.judge import Judge
from kluis.evidence import Collateral, TrustAnchors
from kluis.host.attesting import read_policy
from kluis.tee import backends

if TYPE_CHECKING:
    from kluis.enclave.attested_tls import client2

__all__ = [
    "async_httpx2_transport",
    "async_transport",
    "attestation",
    "httpx2_transport",
    "judge",
    "transport",
]


def transport(
    policy: Policy | Path | str, *, root: bytes | None = None, collateral: bytes | None = None
) -> AttestedTransport:
    """For ``httpx.Client(transport=...)``: judges every connection's enclave before it gets a request.

    Args:
        policy: of purpose ``channel``, with a nonce; or its TOML file.
        root: PEM of the only root to trust; None trusts the vendors' roots, those of the trust store, and
            this machine's platform, which only proves that this machine's operator runs it.
        collateral: JSON in the format of ``dcap-qvl``; None uses this machine's platform.

    Raises:
        UsageError: the policy is for another purpose.
    """
    return AttestedTransport(judge(policy, root=root, collateral=collateral))


def async_transport(
    policy: Policy | Path | str, *, root: bytes | None = None, collateral: bytes | None = None
) -> AsyncAttestedTransport:
    """For ``httpx.AsyncClient(transport=...)``; like :func:`transport`."""
    return AsyncAttestedTransport(judge(policy, root=root, collateral=collateral))


def httpx2_transport(
    policy: Policy | Path | str, *, root: bytes | None = None, collateral: bytes | None = None
) -> client2.AttestedTransport:
    """For ``httpx2.Client(transport=...)``; like :func:`transport`."""
    from kluis.enclave.attested_tls import client2  # whose package only its users have

    return client2.AttestedTransport(judge(policy, root=root, collateral=collateral))


def async_httpx2_transport(
    policy: Policy | Path | str, *, root: bytes | None = None, collateral: bytes | None = None
) -> client2.AsyncAttestedTransport:
    """For ``httpx2.AsyncClient(transport=...)``, as MCP's client takes it; like :func:`transport`."""
    from kluis.enclave.attested_tls import client2  # whose package only its users have

    return client2.AsyncAttestedTransport(judge(policy, root=root, collateral=collateral))


def judge(
    policy: Policy | Path | str, *, root: bytes | None = None, collateral: bytes | None = None
) -> Judge:
    """The judge of :func:`transport`, which queries this machine's platform again for each connection."""
    return Judge(read_policy(policy), _standing(root, collateral))


def _standing(
    root: bytes | None, collateral: bytes | None
) -> Callable[[], tuple[TrustAnchors, Collateral, datetime]]:
    def standing() -> tuple[TrustAnchors, Collateral, datetime]:
        endorsed, anchors = collateral, None if root is None else TrustAnchors.from_pem(root)
        if anchors is None or endorsed is None:
            platform = backends.default()
            if anchors is None:
                anchors = TrustAnchors.from_pem(platform.root_pem()) | trust.anchors(trust.folder())
            endorsed = platform.collateral() if endorsed is None else endorsed
        return anchors, Collateral.from_json(endorsed), datetime.now(UTC)

    return standing
