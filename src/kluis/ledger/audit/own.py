"""Evidence of a node in an enclave of ours: what it binds, and, under a root that is named, who signed it.

    {"launch_configuration": base64, "quote": base64, "runtime_data": base64}, next to a virtual quote

1. The quote is of the runtime data and of the launch configuration.
2. The runtime data are of a ledger's node, with this node's key, this service and this ledger's first entry.
3. The quote's code is the image that the node's row and the runtime data name, and is not debugged.
4. The quote is signed under one of the anchors, at the time that is given.
"""

from __future__ import annotations

from datetime import datetime

from cryptography.hazmat.primitives.asymmetric import ec

from kluis.errors import AuthenticityError
from kluis.evidence import Collateral, TrustAnchors
from kluis.evidence import verify as verify_evidence
from kluis.formats.ccf.service import NodeInfo, ServiceInfo
from kluis.formats.encoding import b64, jcs
from kluis.formats.encoding.members import Members
from kluis.formats.kluis.launch import LaunchConfiguration, config_id
from kluis.formats.kluis.runtime_data import Purpose, RuntimeData, ec_key, report_data
from kluis.formats.sgx import quote as sgx_quote
from kluis.formats.sgx.report import ReportBody
from kluis.frozen import frozen
from kluis.ledger import receipts


@frozen(kw_only=True)
class Trust:
    """Whom a reader trusts with the evidence of nodes.

    Attributes:
        anchors: roots.
        collateral: what the roots' owners publish; None if there is none.
        now: aware.
    """

    anchors: TrustAnchors
    collateral: Collateral | None
    now: datetime


def judge(info: NodeInfo, service: ServiceInfo, genesis: bytes, trust: Trust | None) -> str | None:
    """What a node's evidence shows, in words.

    Args:
        info: of the node.
        service: at the node's entry.
        genesis: digest of what the first entry writes, but for its node, 32 bytes.
        trust: None: step 4 is left out, and the words state so.

    Returns:
        None if the node has no such evidence.

    Raises:
        KluisError: a step does not hold.
    """
    if not info.endorsements or info.public_key is None:
        return None
    parts = Members(jcs.loads(info.endorsements, "endorsements"), "endorsements")
    parts.only(("launch_configuration", "quote", "runtime_data"))
    quote, document, launch = (
        b64.decode(parts.text(name, limit=1 << 20), f"endorsements.{name}")
        for name in ("quote", "runtime_data", "launch_configuration")
    )
    body = sgx_quote.parse(quote).body
    if not isinstance(body, ReportBody):
        raise AuthenticityError("quote: want one of an enclave, got another", code="ledger_node")
    _same("quote.report_data", report_data(document), body.report_data)  # 1
    _same("quote.configid", config_id(launch), body.configid)
    stated = RuntimeData.parse(document)  # 2
    if stated.purpose is not Purpose.LEDGER_NODE:
        raise AuthenticityError(
            f"runtime data.purpose: want {Purpose.LEDGER_NODE}, got {stated.purpose}", code="ledger_node"
        )
    if [dict(key) for key in stated.keys] != [_jwk(info.public_key)]:
        raise AuthenticityError("runtime data.keys: want the node's key, got another", code="ledger_node")
    payload = Members(jcs.loads(stated.payload, "runtime data.payload"), "runtime data.payload")
    digest = receipts.fingerprint(service.certificate)
    _same("runtime data.service_certificate", digest, payload.hex("service_certificate", 32))
    _same("runtime data.genesis", genesis, payload.hex("genesis", 32))
    _same("quote.mrenclave", stated.image_id, body.mrenclave)  # 3
    named = Members(jcs.loads(info.quote, "quote"), "quote").text("measurement")
    if named != stated.image_id.hex():
        raise AuthenticityError(
            f"measurement: want {stated.image_id.hex()}, got {named!a:.80}", code="ledger_node"
        )
    if body.debug:
        raise AuthenticityError("quote: is of an enclave that its host debugs", code="ledger_node")
    level = LaunchConfiguration.parse(launch).level
    witness = payload.integer("witness_milliseconds")
    shown = f"image {named[:16]}, level {level}, witness after {witness} ms"
    if trust is None:
        return f"{shown}; who signed its quote is not judged without --root"
    proven = verify_evidence(  # 4
        quote, anchors=trust.anchors, collateral=trust.collateral, now=trust.now
    )
    return f"{shown}; signed under {proven.value.anchor}"


def _same(what: str, want: bytes, got: bytes) -> None:
    if want != got:
        raise AuthenticityError(f"{what}: want {want.hex()}, got {got.hex()}", code="ledger_node")


def _jwk(pem: str) -> dict[str, str | list[str]]:
    key = receipts.load_public_key(pem, "public key")
    numbers = key.public_numbers()
    return ec_key(ec.SECP384R1(), numbers.x, numbers.y)
