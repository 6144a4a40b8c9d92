"""Names of the tables that a ledger itself reads and writes, and the key of those that hold one value.

Spec: CCF, "Built-in Maps".
"""

from __future__ import annotations

from typing import Final

PUBLIC: Final = "public:"
GOVERNANCE: Final = "public:ccf.gov."
INTERNAL: Final = "public:ccf.internal."
ONLY: Final = bytes(8)
"""The key of a table that holds one value."""

SIGNATURES: Final = "public:ccf.internal.signatures"
COSE_SIGNATURES: Final = "public:ccf.internal.cose_signatures"
TREE: Final = "public:ccf.internal.tree"
SNAPSHOT_EVIDENCE: Final = "public:ccf.internal.snapshot_evidence"
RECOVERY_SHARES: Final = "public:ccf.internal.recovery_shares"
PAST_SECRETS: Final = "public:ccf.internal.historical_encrypted_ledger_secret"
IDENTITY_ENDORSEMENT: Final = "public:ccf.internal.previous_service_identity_endorsement"
LAST_SIGNED_ROOT: Final = "public:ccf.internal.previous_service_last_signed_root"

SERVICE_INFO: Final = "public:ccf.gov.service.info"
SERVICE_CONFIG: Final = "public:ccf.gov.service.config"
PREVIOUS_IDENTITY: Final = "public:ccf.gov.service.previous_service_identity"
CONSTITUTION: Final = "public:ccf.gov.constitution"
NODES: Final = "public:ccf.gov.nodes.info"
NODE_CERTIFICATES: Final = "public:ccf.gov.nodes.endorsed_certificates"
MEMBERS: Final = "public:ccf.gov.members.info"
MEMBER_CERTIFICATES: Final = "public:ccf.gov.members.certs"
MEMBER_KEYS: Final = "public:ccf.gov.members.encryption_public_keys"
MEMBER_ACKS: Final = "public:ccf.gov.members.acks"
COSE_HISTORY: Final = "public:ccf.gov.cose_history"
PROPOSALS: Final = "public:ccf.gov.proposals"
PROPOSALS_INFO: Final = "public:ccf.gov.proposals_info"


def is_public(name: str) -> bool:
    """Whether a table's writes are in plain in the ledger."""
    return name.startswith(PUBLIC)
