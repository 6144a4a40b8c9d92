"""What the governance tables state of a service and its nodes: the members that a verifier reads.

Spec: CCF, "Built-in Maps"; ``include/ccf/service/tables/service.h``, ``nodes.h``.
"""

from __future__ import annotations

import enum
from typing import Self, TypeVar

from kluis.errors import FormatError
from kluis.formats.ccf.txid import TxId
from kluis.formats.ccf.values import read_json
from kluis.formats.encoding import b64
from kluis.formats.encoding.members import Members
from kluis.frozen import frozen

T = TypeVar("T", bound=enum.Enum)


class ServiceStatus(enum.Enum):
    """How far a service is in its life."""

    OPENING = "Opening"
    OPEN = "Open"
    RECOVERING = "Recovering"
    WAITING = "WaitingForRecoveryShares"


class NodeStatus(enum.Enum):
    """How far a node is in its life."""

    PENDING = "Pending"
    TRUSTED = "Trusted"
    RETIRED = "Retired"


@frozen(kw_only=True)
class ServiceInfo:
    """A value of ``public:ccf.gov.service.info``.

    Attributes:
        certificate: PEM.
        status: of the service.
        recoveries: how often it was recovered; None where an older service did not count.
        created: the entry that created this identity of it; None where it is not stated.
        previous: seqno of the value before; None if there is none.
    """

    certificate: str
    status: ServiceStatus
    recoveries: int | None
    created: TxId | None
    previous: int | None

    @classmethod
    def parse(cls, data: bytes, what: str) -> Self:
        """Read it; members that are not listed here are passed over.

        Raises:
            FormatError: a member is missing or of another kind.
        """
        members = Members(read_json(data, what), what)
        created = "current_service_create_txid"
        previous = "previous_service_identity_version"
        return cls(
            certificate=members.text("cert"),
            status=_one_of(ServiceStatus, members),
            recoveries=members.integer("recovery_count") if _has(members, "recovery_count") else None,
            created=TxId.parse(members.text(created), what) if _has(members, created) else None,
            previous=members.integer(previous) if _has(members, previous) else None,
        )


@frozen(kw_only=True)
class NodeInfo:
    """A value of ``public:ccf.gov.nodes.info``.

    Attributes:
        status: of the node.
        format: of its quote.
        quote: bytes; may be empty.
        endorsements: bytes of what endorses the quote; may be empty.
        public_key: PEM; None where an older service does not have it.
        certificate: PEM that an older service has here; else None.
        code_digest: hexadecimal; None where it is not stated.
    """

    status: NodeStatus
    format: str
    quote: bytes
    endorsements: bytes
    public_key: str | None
    certificate: str | None
    code_digest: str | None

    @classmethod
    def parse(cls, data: bytes, what: str) -> Self:
        """Read it; members that are not listed here are passed over.

        Raises:
            FormatError: a member is missing or of another kind.
        """
        members = Members(read_json(data, what), what)
        quote = members.object("quote_info")
        return cls(
            status=_one_of(NodeStatus, members),
            format=quote.text("format"),
            quote=_octets(quote, "quote"),
            endorsements=_octets(quote, "endorsements"),
            public_key=members.text("public_key") if _has(members, "public_key") else None,
            certificate=members.text("cert") if _has(members, "cert") else None,
            code_digest=members.text("code_digest") if _has(members, "code_digest") else None,
        )


def parse_text(data: bytes, what: str) -> str:
    """Read a value that is one JSON string.

    Raises:
        FormatError: anything else.
    """
    value = read_json(data, what)
    if not isinstance(value, str):
        raise FormatError(f"{what}: want a string, got something else", code="bad_type")
    return value


def _has(members: Members, name: str) -> bool:
    return name in members and not members.null(name)


def _octets(members: Members, name: str) -> bytes:
    return b64.decode(members.text(name), f"{members.what}.{name}") if _has(members, name) else b""


def _one_of(kind: type[T], members: Members) -> T:
    text = members.text("status", limit=40)
    try:
        return kind(text)
    except ValueError:
        raise FormatError(
            f"{members.what}.status: want {' or '.join(each.value for each in kind)}, got {text!a}",
            code="bad_encoding",
        ) from None
