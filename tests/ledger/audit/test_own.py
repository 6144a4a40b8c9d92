"""Evidence of a node in an enclave of ours: one forged document for each step."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from kluis.errors import AuthenticityError, FormatError, KluisError
from kluis.evidence import TrustAnchors
from kluis.formats.ccf import tables
from kluis.formats.ccf.domain import encode_writes
from kluis.formats.ccf.service import NodeInfo, ServiceInfo
from kluis.formats.encoding import b64, jcs
from kluis.formats.kluis.launch import LaunchConfiguration, config_id
from kluis.formats.kluis.runtime_data import Purpose, RuntimeData, ec_key, report_data
from kluis.formats.sgx import quote as sgx_quote
from kluis.hashes import sha256
from kluis.ledger import receipts
from kluis.ledger.audit import Check
from kluis.ledger.audit.own import Trust, judge
from kluis.ledger.sample.governance import genesis
from tests.evidence.forge import NOW, Forge
from tests.ledger.audit.forge import Forge as Ledger
from tests.ledger.audit.forge import failed, parties
from tests.ledger.audit.test_checks import accepted

FORGE = Forge()
IMAGE = b"i" * 32
GENESIS = sha256(
    encode_writes(
        {name: each for name, each in sorted(genesis(parties()).items()) if name not in tables.OF_NODES}
    )
)


def payload(**change: Any) -> bytes:
    """What the node states."""
    digest = receipts.fingerprint(parties().service)
    value = {"genesis": GENESIS.hex(), "service_certificate": digest.hex(), "witness_milliseconds": 0}
    return jcs.dumps({**value, **change})


def runtime(**change: Any) -> bytes:
    """The runtime data."""
    numbers = parties().node_key.public_key().public_numbers()
    good = RuntimeData(
        purpose=Purpose.LEDGER_NODE,
        image_id=IMAGE,
        nonce=b"",
        keys=(ec_key(parties().node_key.curve, numbers.x, numbers.y),),
        payload=payload(),
    )
    return dataclasses.replace(good, **change).encode()


LAUNCH = LaunchConfiguration(
    heap_bytes=1, threads=1, grants=(), missing=(), counter="unwitnessed", level="process", platform=bytes(32)
).encode()


def endorsed(document: bytes | None = None, launch: bytes = LAUNCH, **body: Any) -> bytes:
    """The endorsements of the virtual quote."""
    document = runtime() if document is None else document
    made = FORGE.body(
        **{"report_data": report_data(document), "configid": config_id(LAUNCH), "mrenclave": IMAGE, **body}
    )
    parts = {"launch_configuration": launch, "quote": FORGE.quote(made), "runtime_data": document}
    return jcs.dumps({name: b64.encode(raw) for name, raw in parts.items()})


def info(endorsements: bytes, measurement: str = IMAGE.hex()) -> NodeInfo:
    """The node's row."""
    good = NodeInfo.parse(parties().node_info(), "node")
    quote = jcs.dumps({"measurement": measurement})
    return dataclasses.replace(good, endorsements=endorsements, quote=quote)


SERVICE = ServiceInfo.parse(parties().service_info("Open"), "service")
TRUST = Trust(anchors=FORGE.anchors, collateral=FORGE.collateral(), now=NOW)


def test_good() -> None:
    """What it shows is said, and that nobody judged who signed it, where no root is named."""
    said = judge(info(endorsed()), SERVICE, GENESIS, None)
    shown = f"image {IMAGE.hex()[:16]}, level process, witness after 0 ms"
    assert said == f"{shown}; who signed its quote is not judged without --root"
    said = judge(info(endorsed()), SERVICE, GENESIS, TRUST)
    assert said is not None
    assert said.startswith(f"{shown}; signed under ")
    assert judge(info(b""), SERVICE, GENESIS, TRUST) is None


@pytest.mark.parametrize(
    ("node", "said"),
    [
        (lambda: info(endorsed(report_data=bytes(64))), "quote.report_data: want "),
        (
            lambda: info(endorsed(launch=LAUNCH.replace(b'"threads":1', b'"threads":2'))),
            "quote.configid: want ",
        ),
        (
            lambda: info(endorsed(runtime(purpose=Purpose.APP))),
            "runtime data.purpose: want ledger-node, got app",
        ),
        (lambda: info(endorsed(runtime(keys=()))), "runtime data.keys: want the node's key, got another"),
        (
            lambda: info(endorsed(runtime(payload=payload(service_certificate="00" * 32)))),
            "runtime data.service_certificate: want ",
        ),
        (lambda: info(endorsed(runtime(payload=payload(genesis="00" * 32)))), "runtime data.genesis: want "),
        (lambda: info(endorsed(mrenclave=bytes(32))), "quote.mrenclave: want "),
        (lambda: info(endorsed(), "ab"), "measurement: want "),
        (lambda: info(endorsed(flags=7)), "quote: is of an enclave that its host debugs"),
        (lambda: info(b"{}"), "endorsements: want members "),
    ],
)
def test_forged(node: Any, said: str) -> None:
    """Each step refuses what does not hold in it."""
    with pytest.raises((AuthenticityError, FormatError)) as caught:
        judge(node(), SERVICE, GENESIS, None)
    assert str(caught.value).startswith(said)


def test_another_root() -> None:
    """A quote that no named root signed is refused."""
    with pytest.raises(KluisError):
        judge(info(endorsed()), SERVICE, GENESIS, dataclasses.replace(TRUST, anchors=TrustAnchors.shipped()))


def test_in_a_ledger() -> None:
    """The auditor judges the evidence in a node's row, with the ledger's own first entry."""
    made = Ledger.governed()
    row = jcs.loads(parties().node_info(), "node")
    assert isinstance(row, dict)
    quote = {
        "host_data": sha256(b"").hex(), "measurement": IMAGE.hex(),
        "report_data": b64.encode(bytes.fromhex(parties().node_id)),
    }  # fmt: skip
    measurements = "public:ccf.gov.nodes.virtual.measurements"
    for evidence, result in ((endorsed(), []), (endorsed(mrenclave=bytes(32)), [Check.QUOTES])):
        row["quote_info"] = {
            "format": "Insecure_Virtual", "quote": b64.encode(jcs.dumps({**quote, "x": len(result)})),
            "endorsements": b64.encode(evidence),
        }  # fmt: skip
        accepted(made, {measurements: {IMAGE.hex().encode(): b'"AllowedToJoin"'}})
        made.write({tables.NODES: {parties().node_id.encode(): jcs.dumps(row)}})
        report = made.audit(trust=TRUST)
        assert [each[0] for each in failed(report)] == result
    assert sgx_quote.parse(FORGE.quote()).body
