"""What CCF's and Azure's own code makes of ledgers and receipts; runs in their environments.

``checking.py WHAT``: what is given comes as JSON on standard input, the answer goes out as JSON.
"""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import ccf.cose
import ccf.ledger
import ccf.receipt
from azure.confidentialledger.receipt import compute_claims_digest, verify_receipt
from cryptography.x509 import load_pem_x509_certificate


def ledger(given: dict[str, Any]) -> dict[str, Any]:
    """Every entry's id, digest and public tables, and the public state at the end."""
    read = ccf.ledger.Ledger([given["folder"]], committed_only=True)
    entries = []
    for chunk in read:
        for entry in chunk:
            public = entry.get_public_domain()
            tables = public.get_tables()
            entries.append([str(entry.get_txid()), entry.get_tx_digest().hex(), sorted(tables)])
    again = ccf.ledger.Ledger([given["folder"]], committed_only=True)
    some = {
        str(seqno): [str((found := again.get_transaction(seqno)).get_txid()), found.get_tx_digest().hex()]
        for seqno in given["seqnos"]
    }
    state, last = ccf.ledger.Ledger([given["folder"]], committed_only=True).get_latest_public_state()
    shown = {
        name: {key.hex(): None if value is None else value.hex() for key, value in table.items()}
        for name, table in state.items()
        if name == given["table"]
    }
    return {"entries": entries, "some": some, "state": shown, "last": last}


def domains(given: list[str]) -> list[Any]:
    """What public domains of these bytes hold; an error is null."""
    found: list[Any] = []
    for each in given:
        try:
            tables = ccf.ledger.PublicDomain(bytes.fromhex(each)).get_tables()
            found.append(
                {
                    name: {key.hex(): None if value is None else value.hex() for key, value in table.items()}
                    for name, table in tables.items()
                }
            )
        except Exception:
            found.append(None)
    return found


def _leaf(components: dict[str, Any]) -> str:
    """As CCF's own callers compute it."""
    evidence = sha256(components["commit_evidence"].encode()).digest()
    digest, claims = components["write_set_digest"], components["claims_digest"]
    return sha256(bytes.fromhex(digest) + evidence + bytes.fromhex(claims)).hexdigest()


def _by_ccf(receipt: dict[str, Any], service: str) -> None:
    node = load_pem_x509_certificate(receipt["cert"].encode())
    leaf = receipt["leaf"] if "leaf" in receipt else _leaf(receipt["leaf_components"])
    root = ccf.receipt.root(leaf, receipt["proof"])
    ccf.receipt.verify(root, receipt["signature"], node)
    between = [load_pem_x509_certificate(each.encode()) for each in receipt.get("service_endorsements", ())]
    ccf.receipt.check_endorsements(node, load_pem_x509_certificate(service.encode()), between)


def _chain(receipt: dict[str, Any], service: str) -> None:
    ccf.receipt.check_cert_chain(
        load_pem_x509_certificate(receipt["cert"].encode()), load_pem_x509_certificate(service.encode()), []
    )


def _by_azure(receipt: dict[str, Any], service: str) -> None:
    verify_receipt(copy.deepcopy(receipt), service)


def _cose(receipt: str, service: str, claims: str) -> None:
    key = load_pem_x509_certificate(service.encode()).public_key()
    verify = getattr(ccf.receipt, "verify_cose", None) or ccf.cose.verify_receipt
    verify(bytes.fromhex(receipt), key, bytes.fromhex(claims))


def _tried(work: Callable[..., None], *given: Any) -> str:
    try:
        work(*given)
    except Exception as error:
        return type(error).__name__
    return ""


def receipts(given: dict[str, Any]) -> list[dict[str, str]]:
    """For each receipt, the error of each verifier; empty where it is accepted."""
    service = given["service"]
    verifiers = {"ccf": _by_ccf, "azure": _by_azure}
    if given.get("chain"):
        verifiers["chain"] = _chain
    return [
        {name: _tried(work, receipt, service) for name, work in verifiers.items()}
        for receipt in given["receipts"]
    ]


def cose(given: dict[str, Any]) -> list[str]:
    """For each COSE receipt, the error of CCF's verifier."""
    return [_tried(_cose, each["receipt"], given["service"], each["claims"]) for each in given["receipts"]]


def claims(given: list[Any]) -> list[str]:
    """For each list of application claims, the digest by Azure's code; empty where it refuses them."""
    found = []
    for each in given:
        try:
            found.append(str(compute_claims_digest(each)))
        except Exception:
            found.append("")
    return found


def main() -> None:
    """Do what is asked for."""
    what = {"ledger": ledger, "domains": domains, "receipts": receipts, "cose": cose, "claims": claims}
    print(json.dumps(what[sys.argv[1]](json.loads(sys.stdin.read()))))


if __name__ == "__main__":
    main()
