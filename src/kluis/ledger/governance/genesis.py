"""The first entry of a ledger: the constitution, the members, the first node, and the service, not yet open.

Spec: CCF, "Built-in Maps"; ``src/node/rpc/node_frontend.h``, "create".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from kluis.errors import UsageError
from kluis.formats.ccf import tables
from kluis.formats.ccf.domain import Writes
from kluis.frozen import frozen
from kluis.ledger.governance import constitution, documents
from kluis.ledger.governance.documents import write_json
from kluis.ledger.js import HostFault, ScriptError

CREATED: Final = "2.1"
ROLES: Final = ("Participant", "Owner", "NonParticipant")
MOST_MEMBERS: Final = 1024
MOST_THRESHOLD: Final = 254


@frozen(kw_only=True)
class FirstMember:
    """A member from the beginning.

    Attributes:
        certificate: PEM.
        encryption_key: PEM of an RSA key, for a recovery share; None: the member gets no share.
        data: anything that JSON holds.
        recovery_role: of ``ROLES``; None: a participant if there is an encryption key.
    """

    certificate: str
    encryption_key: str | None = None
    data: Any = None
    recovery_role: str | None = None


@frozen(kw_only=True)
class FirstNode:
    """The node that creates the service.

    Attributes:
        id: SHA-256 of its public key, in hexadecimal.
        info: the value of its row, but for the status.
        certificate: issued by the service, PEM.
        admitted: rows of the tables that later nodes are held against, by table and key.
    """

    id: str
    info: Mapping[str, Any]
    certificate: str
    admitted: Mapping[str, Mapping[str, bytes]]


def genesis(
    *,
    service_certificate: str,
    members: Sequence[FirstMember],
    node: FirstNode,
    threshold: int,
    source: str | None = None,
    service_data: Any = None,
    window: int | None = None,
    node_days: int = 365,
    service_days: int = 365,
) -> Writes:
    """The writes of a ledger's first entry.

    Args:
        service_certificate: PEM.
        members: at least one.
        node: the first.
        threshold: how many participants open the ledger secret together.
        source: of the constitution; None: ours.
        service_data: anything that JSON holds.
        window: how many recent proposals are kept; None: 100.
        node_days: the longest validity of a node's certificate.
        service_days: the longest validity of the service's certificate.

    Raises:
        UsageError: no members, one twice, a threshold that its participants do not reach, or no constitution.
        FormatError: a certificate or key is malformed.
    """
    source = constitution.ours() if source is None else source
    try:
        constitution.check(source)
        constitution.evaluate(source, constitution.Rules())
    except HostFault as error:
        raise UsageError(error.message) from None
    except ScriptError as error:
        raise UsageError(f"the constitution is not valid: {error.message}") from None
    if not 0 < len(members) <= MOST_MEMBERS:
        raise UsageError(f"genesis: want 1 to {MOST_MEMBERS} members, got {len(members)}")
    writes: dict[str, dict[bytes, bytes | None]] = {
        tables.CONSTITUTION: {tables.ONLY: write_json(source)},
        tables.MEMBER_ACKS: {},
        tables.MEMBER_CERTIFICATES: {},
        tables.MEMBERS: {},
        tables.NODES: {node.id.encode(): write_json({**node.info, "status": "Trusted"})},
        tables.NODE_CERTIFICATES: {node.id.encode(): node.certificate.encode()},
    }
    participants = sum(_add(writes, each) for each in members)
    if not 1 <= threshold <= min(participants, MOST_THRESHOLD):
        raise UsageError(
            f"genesis: want a recovery threshold of 1 to {participants} participants, got {threshold}",
            hint="give more members an encryption key, or lower the threshold",
        )
    for table, rows in node.admitted.items():
        writes[table] = {key.encode(): value for key, value in rows.items()}
    config: dict[str, Any] = {
        "maximum_node_certificate_validity_days": node_days,
        "maximum_service_certificate_validity_days": service_days,
        "recovery_threshold": threshold,
    }
    if window is not None:
        config["recent_cose_proposals_window_size"] = window
    writes[tables.SERVICE_CONFIG] = {tables.ONLY: write_json(config)}
    info = {
        "cert": service_certificate,
        "current_service_create_txid": CREATED,
        "recovery_count": 0,
        "status": "Opening",
    }
    if service_data is not None:
        info["service_data"] = service_data
    writes[tables.SERVICE_INFO] = {tables.ONLY: write_json(info)}
    return writes


def _add(writes: dict[str, dict[bytes, bytes | None]], each: FirstMember) -> bool:
    """Write a member, and say whether it is a participant of recovery."""
    key = documents.certificate_id(each.certificate.encode(), "member certificate").encode()
    if key in writes[tables.MEMBERS]:
        raise UsageError(f"genesis: member {key.decode()} is there twice")
    if each.recovery_role is not None and (each.recovery_role not in ROLES or each.encryption_key is None):
        raise UsageError(f"genesis: want a role of {', '.join(ROLES)}, and with an encryption key only")
    info: dict[str, Any] = {"status": "Accepted"}
    if each.data is not None:
        info["member_data"] = each.data
    if each.recovery_role is not None:
        info["recovery_role"] = each.recovery_role
    writes[tables.MEMBERS][key] = write_json(info)
    writes[tables.MEMBER_CERTIFICATES][key] = each.certificate.encode()
    writes[tables.MEMBER_ACKS][key] = write_json({"state_digest": ""})
    if each.encryption_key is not None:
        documents.rsa_key(each.encryption_key.encode(), f"member {key.decode()}")
        writes.setdefault(tables.MEMBER_KEYS, {})[key] = each.encryption_key.encode()
    return each.encryption_key is not None and each.recovery_role in (None, "Participant")
