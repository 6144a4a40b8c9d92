"""A node of ours, over TLS, and CCF's programs: they govern it, read its files, verify its receipts."""

from __future__ import annotations

import json
import ssl
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from kluis.serve.ledger.governing import member_id
from kluis.services.clock import SystemClock
from kluis.services.ledger import kept
from kluis.services.ledger.settings import Member, Principal
from tests.clients.ccf import environments
from tests.clients.ccf.environments import VERSIONS
from tests.services.ledger.listening import listening
from tests.services.ledger.world import World

VERIFY = """
import json, sys
import ccf.cose, ccf.receipt
from hashlib import sha256
from cryptography.x509 import load_pem_x509_certificate
given = json.load(sys.stdin)
receipt, leaf = given["receipt"], given["receipt"]["leaf_components"]
service = load_pem_x509_certificate(given["service"].encode())
node = load_pem_x509_certificate(receipt["cert"].encode())
claims = bytes.fromhex(leaf["claims_digest"])
evidence = sha256(leaf["commit_evidence"].encode()).digest()
start = sha256(bytes.fromhex(leaf["write_set_digest"]) + evidence + claims).hexdigest()
ccf.receipt.verify(ccf.receipt.root(start, receipt["proof"]), receipt["signature"], node)
ccf.receipt.check_endorsements(node, service, [])
ccf.receipt.check_cert_chain(node, service, [])
verify = getattr(ccf.receipt, "verify_cose", None) or ccf.cose.verify_receipt
verify(bytes.fromhex(given["cose"]), service.public_key(), claims)
try:
    verify(bytes.fromhex(given["cose"]), service.public_key(), bytes(32))
except ValueError:
    print(json.dumps("verified"))
"""


class Signing:
    """A member whose keys CCF's script made, and whose requests its program signs and curl sends."""

    def __init__(self, version: str, folder: Path) -> None:
        self.version, self.folder = version, folder
        script = environments.needed(version) / "bin/keygenerator.sh"
        subprocess.run([script, "--name", "m0", "--gen-enc-key"], cwd=folder, check=True, capture_output=True)
        self.certificate = (folder / "m0_cert.pem").read_text()
        self.encryption_key = (folder / "m0_enc_pubk.pem").read_text()
        self.id = member_id(self.certificate)

    def send(self, url: str, path: str, kind: str, content: bytes, proposal: str | None = None) -> Any:
        """Sign and send one request; gives the answer's JSON, or None."""
        body, signed = self.folder / "content", self.folder / "signed"
        body.write_bytes(content)
        more = () if proposal is None else ("--ccf-gov-msg-proposal_id", proposal)
        done = subprocess.run(
            [
                environments.needed(self.version) / "bin/ccf_cose_sign1", "--content", body,
                "--signing-cert", self.folder / "m0_cert.pem", "--signing-key", self.folder / "m0_privk.pem",
                "--ccf-gov-msg-type", kind,
                "--ccf-gov-msg-created_at", datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), *more,
            ],
            capture_output=True, check=True,
        )  # fmt: skip
        signed.write_bytes(done.stdout)
        answered = subprocess.run(
            [
                "curl", "-sS", "--fail-with-body", "--cacert", self.folder / "service.pem",
                f"{url}/gov/{path}?api-version=2024-07-01", "-H", "content-type: application/cose",
                "--data-binary", f"@{signed}",
            ],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert answered.returncode == 0, answered.stdout + answered.stderr
        return json.loads(answered.stdout) if answered.stdout else None


@pytest.mark.parametrize("version", VERSIONS)
def test_a_node_of_ours(version: str, tmp_path: Path) -> None:
    """Opened with CCF's programs; its receipts and its files satisfy CCF's verifiers."""
    member = Signing(version, tmp_path)
    settings = {
        "members": (Member(certificate=member.certificate, encryption_key=member.encryption_key),),
        "principals": (Principal(member.id, ("Administrator",)),),
    }
    world = World(tmp_path / "ledger", clock=SystemClock(), settings=settings)  # type: ignore[arg-type] # a clock
    with listening(world) as url:
        found = kept.find(world.storage)
        assert found is not None
        (tmp_path / "service.pem").write_text(found.certificate)
        digests = f"members/state-digests/{member.id}"
        given = member.send(url, f"{digests}:update", "state_digest", b"")
        member.send(url, f"{digests}:ack", "ack", json.dumps({"stateDigest": given["stateDigest"]}).encode())
        arguments = {"next_service_identity": found.certificate}
        document = {"actions": [{"name": "transition_service_to_open", "args": arguments}]}
        made = member.send(url, "members/proposals:create", "proposal", json.dumps(document).encode())
        ident = made["proposalId"]
        ballot = json.dumps({"ballot": "export function vote (rawProposal, proposerId) { return true; }"})
        path = f"members/proposals/{ident}/ballots/{member.id}:submit"
        assert member.send(url, path, "ballot", ballot.encode(), ident)["proposalState"] == "Accepted"
        _verify(version, url, tmp_path, found.certificate)
    done = environments.tool(version, "read_ledger.py", "-q", "--uncommitted", world.folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"until 2.{world.witness.said.seqno}" in done.stdout


def _verify(version: str, url: str, folder: Path, service: str) -> None:
    context = ssl.create_default_context(cafile=str(folder / "service.pem"))
    context.load_cert_chain(folder / "m0_cert.pem", folder / "m0_privk.pem")
    with httpx.Client(base_url=url, verify=context, timeout=120) as client:
        answer = client.post("/app/transactions?api-version=2026-02-23", json={"contents": "Hello world"})
        txid = answer.raise_for_status().headers["x-ms-ccf-transaction-id"]
        status = client.get(f"/node/tx?transaction_id={txid}").json()
        assert status == {"transaction_id": txid, "status": "Committed"}
        receipt = client.get(f"/app/receipt?transaction_id={txid}").json()
        cose = client.get(f"/app/receipt/cose?transaction_id={txid}").content
    done = subprocess.run(
        [environments.needed(version) / "bin/python", "-B", "-W", "ignore", "-c", VERIFY],
        input=json.dumps({"receipt": receipt, "cose": cose.hex(), "service": service}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == '"verified"', done.stderr
