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
SUBMITTED_SHARES: Final = "public:ccf.internal.encrypted_submitted_shares"
LAST_SIGNED_ROOT: Final = "public:ccf.internal.previous_service_last_signed_root"

SERVICE_INFO: Final = "public:ccf.gov.service.info"
SERVICE_CONFIG: Final = "public:ccf.gov.service.config"
PREVIOUS_IDENTITY: Final = "public:ccf.gov.service.previous_service_identity"
CONSTITUTION: Final = "public:ccf.gov.constitution"
NODES: Final = "public:ccf.gov.nodes.info"
NODE_CERTIFICATES: Final = "public:ccf.gov.nodes.endorsed_certificates"
MEASUREMENTS: Final = "public:ccf.gov.nodes.virtual.measurements"
HOST_DATA: Final = "public:ccf.gov.nodes.virtual.host_data"
OF_NODES: Final = (NODES, NODE_CERTIFICATES, HOST_DATA, MEASUREMENTS)
"""What the first entry writes of its node: a node's evidence names the digest of the rest."""
CODE_IDS: Final = "public:ccf.gov.nodes.code_ids"
SNP_MEASUREMENTS: Final = "public:ccf.gov.nodes.snp.measurements"
SNP_HOST_DATA: Final = "public:ccf.gov.nodes.snp.host_data"
SNP_ENDORSEMENTS: Final = "public:ccf.gov.nodes.snp.uvm_endorsements"
SNP_TCB_VERSIONS: Final = "public:ccf.gov.nodes.snp.tcb_versions"
MEMBERS: Final = "public:ccf.gov.members.info"
MEMBER_CERTIFICATES: Final = "public:ccf.gov.members.certs"
MEMBER_KEYS: Final = "public:ccf.gov.members.encryption_public_keys"
MEMBER_ACKS: Final = "public:ccf.gov.members.acks"
COSE_HISTORY: Final = "public:ccf.gov.cose_history"
PROPOSALS: Final = "public:ccf.gov.proposals"
PROPOSALS_INFO: Final = "public:ccf.gov.proposals_info"
RECENT_PROPOSALS: Final = "public:ccf.gov.cose_recent_proposals"
USER_CERTIFICATES: Final = "public:ccf.gov.users.certs"
USER_INFO: Final = "public:ccf.gov.users.info"
JWT_ISSUERS: Final = "public:ccf.gov.jwt.issuers"
JWT_KEYS: Final = "public:ccf.gov.jwt.public_signing_keys_metadata_v2"
CA_BUNDLES: Final = "public:ccf.gov.tls.ca_cert_bundles"
MODULES: Final = "public:ccf.gov.modules"
BYTECODE: Final = "public:ccf.gov.modules_quickjs_bytecode"
BYTECODE_VERSION: Final = "public:ccf.gov.modules_quickjs_version"
ENDPOINTS: Final = "public:ccf.gov.endpoints"


def is_public(name: str) -> bool:
    """Whether a table's writes are in plain in the ledger."""
    return name.startswith(PUBLIC)
