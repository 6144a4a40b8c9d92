"""What governance tables state of services and nodes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given

from kluis.errors import FormatError
from kluis.formats.ccf import service, tables
from kluis.formats.ccf.domain import PublicDomain
from kluis.formats.ccf.entry import Entry
from kluis.formats.ccf.service import NodeInfo, NodeStatus, ServiceInfo, ServiceStatus
from kluis.formats.ccf.txid import TxId
from tests.formats.ccf import real
from tests.strategies import PROPERTY, mutations

SERVICE = json.dumps(
    {
        "cert": "pem", "status": "Open", "recovery_count": 1, "current_service_create_txid": "4.484",
        "previous_service_identity_version": 484, "service_data": {"a": 1},
    }
).encode()  # fmt: skip
NODE = json.dumps(
    {
        "status": "Trusted", "public_key": "pem", "code_digest": "00", "node_data": None,
        "quote_info": {"format": "Insecure_Virtual", "quote": "AQI=", "endorsements": ""},
    }
).encode()  # fmt: skip


def test_service() -> None:
    """Members that are known are read, others passed over; older services leave some out."""
    read = ServiceInfo.parse(SERVICE, "service")
    assert (read.certificate, read.status, read.recoveries) == ("pem", ServiceStatus.OPEN, 1)
    assert (read.created, read.previous) == (TxId(4, 484), 484)
    old = ServiceInfo.parse(b'{"cert":"pem","status":"Opening"}', "service")
    assert (old.recoveries, old.created, old.previous) == (None, None, None)


def test_node() -> None:
    """Likewise of nodes."""
    read = NodeInfo.parse(NODE, "node")
    assert (read.status, read.format, read.quote, read.endorsements) == (
        NodeStatus.TRUSTED, "Insecure_Virtual", b"\1\2", b"",
    )  # fmt: skip
    assert (read.public_key, read.certificate, read.code_digest) == ("pem", None, "00")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (SERVICE.replace(b"Open", b"open"), "service.status: want Opening or Open or Recovering or "),
        (SERVICE.replace(b"4.484", b"4"), "service: want VIEW.SEQNO, got '4'"),
        (b"{}", "service: member 'status' is missing"),
        (b"[]", "service: want an object, got a list"),
    ],
)
def test_refused(data: bytes, message: str) -> None:
    """A member that is missing or wrong is named."""
    with pytest.raises(FormatError) as caught:
        ServiceInfo.parse(data, "service")
    assert str(caught.value).startswith(message) or "is missing" in message
    with pytest.raises(FormatError):
        NodeInfo.parse(NODE.replace(b"AQI=", b"AQI"), "node")


def test_text() -> None:
    """A value that is one string."""
    assert service.parse_text(b'"pem"', "value") == "pem"
    for wrong in (b"1", b"", b'"'):
        with pytest.raises(FormatError):
            service.parse_text(wrong, "value")


@given(mutations(SERVICE, NODE))
@PROPERTY
def test_only_our_errors(data: bytes) -> None:
    """Only our errors escape."""
    for kind in (ServiceInfo, NodeInfo):
        try:
            kind.parse(data, "value")
        except FormatError:
            continue


@real.needed
def test_real() -> None:
    """Every status of a recovered service, in its order."""
    found = []
    for raw in real.entries("double_sealed"):
        writes = PublicDomain.parse(Entry.parse(raw, "entry").public, "entry").writes
        if (value := writes.get(tables.SERVICE_INFO, {}).get(tables.ONLY)) is not None:
            found.append(ServiceInfo.parse(value, "service").status)
    assert found == [
        ServiceStatus.OPENING, ServiceStatus.OPEN, ServiceStatus.RECOVERING, ServiceStatus.WAITING,
        ServiceStatus.OPEN,
    ]  # fmt: skip
