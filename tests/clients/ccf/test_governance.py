"""CCF's own programs make members' keys and sign their requests, and governance of ours takes them."""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA384

from kluis.formats.ccf import tables
from kluis.ledger import shares
from kluis.ledger.governance import acks, documents, proposals, recovery, requests
from kluis.ledger.governance.faults import ProposalNotOpen
from kluis.ledger.governance.requests import Kind
from kluis.ledger.secrets import LedgerSecret
from tests.clients.ccf import environments
from tests.clients.ccf.environments import VERSIONS
from tests.ledger.governance.consortium import YES, Consortium, Party

CREATED = "2026-09-21T12:53:20+00:00"  # 1,790,000,000
VERIFY = """
import base64, json, sys
import ccf.cose
given = json.load(sys.stdin)
cert, request = given["cert"].encode(), base64.b64decode(given["request"])
if hasattr(ccf.cose, "verify_cose_sign1_with_cert"):
    ccf.cose.verify_cose_sign1_with_cert(cert, request, use_key=False)
else:
    from cryptography.x509 import load_pem_x509_certificate
    key = load_pem_x509_certificate(cert).public_key()
    ccf.cose.validate_cose_sign1(key, request)
"""


class Member(Party):
    """A member whose keys ``keygenerator.sh`` made, and whose requests CCF's programs sign."""

    def __init__(
        self, version: str, folder: Path, name: str, curve: str = "secp384r1", *, apart: bool = False
    ) -> None:
        self.version, self.folder, self.name, self.apart = version, folder, name, apart
        self.role = None
        run(version, folder, "keygenerator.sh", "--name", name, "--curve", curve, "--gen-enc-key")
        self.certificate = (folder / f"{name}_cert.pem").read_text()
        self.id = documents.certificate_id(self.certificate.encode(), name)
        self.key = private(folder / f"{name}_privk.pem")  # type: ignore[assignment] # of its curve
        self.rsa = private(folder / f"{name}_enc_privk.pem")  # type: ignore[assignment] # an RSA key

    def sign(self, kind: Kind, payload: object, *, proposal_id: str | None = None, **_: Any) -> bytes:
        """A request of ``ccf_cose_sign1``, or of the two programs for keys that are elsewhere."""
        content = self.folder / "content"
        content.write_bytes(payload if isinstance(payload, bytes) else json.dumps(payload).encode())
        words = [
            "--content", content, "--signing-cert", f"{self.name}_cert.pem", "--ccf-gov-msg-type", kind.value,
            "--ccf-gov-msg-created_at", CREATED,
            *(() if proposal_id is None else ("--ccf-gov-msg-proposal_id", proposal_id)),
        ]  # fmt: skip
        if not self.apart:
            return run(
                self.version, self.folder, "ccf_cose_sign1", *words, "--signing-key", f"{self.name}_privk.pem"
            )
        prepared = json.loads(run(self.version, self.folder, "ccf_cose_sign1_prepare", *words))
        size, hashed = (48, SHA384()) if prepared["alg"] in ("ES384", -35) else (32, SHA256())
        digest = base64.b64decode(prepared["value"])
        r, s = decode_dss_signature(self.key.sign(digest, ec.ECDSA(Prehashed(hashed))))
        value = base64.urlsafe_b64encode(r.to_bytes(size, "big") + s.to_bytes(size, "big")).decode()
        (self.folder / "signature").write_text(json.dumps({"value": value}))
        return run(self.version, self.folder, "ccf_cose_sign1_finish", *words, "--signature", "signature")


def private(path: Path) -> Any:
    return serialization.load_pem_private_key(path.read_bytes(), None)


def run(version: str, folder: Path, name: str, *words: object, given: bytes = b"") -> bytes:
    """Run a program of CCF's; gives what it prints, which may be bytes."""
    place = environments.needed(version) / "bin"
    done = subprocess.run(
        [str(place / name), *map(str, words)],
        cwd=folder,
        input=given,
        capture_output=True,
        timeout=environments.SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


@pytest.fixture(params=VERSIONS)
def consortium(request: pytest.FixtureRequest, tmp_path: Path) -> Consortium:
    """Three members; one has a key on P-256, and one signs where its key is, in two steps."""
    version = request.param
    members: list[Party] = [
        Member(version, tmp_path, "member0"),
        Member(version, tmp_path, "member1", "secp256r1"),
        Member(version, tmp_path, "member2", apart=True),
    ]
    found = Consortium(members=members, threshold=2)
    found.activate()
    found.open()
    return found


def test_a_vote(consortium: Consortium) -> None:
    """Two of three ballots accept; a third is too late; CCF's library verifies what the ledger keeps."""
    one, two, three = consortium.members
    assert isinstance(one, Member)
    user = Member(one.version, one.folder, "user0")
    proposal = consortium.propose({"name": "set_user", "args": {"cert": user.certificate}}, by=three)
    consortium.vote(proposal, two)
    assert consortium.vote(proposal, three).state == proposals.ACCEPTED
    with pytest.raises(ProposalNotOpen):
        consortium.vote(proposal, one)
    assert consortium.get("public:ccf.gov.users.certs", user.id) == user.certificate.encode()

    for member in consortium.members:
        kept = {"cert": member.certificate, "request": consortium.json(tables.COSE_HISTORY, member.id)}
        run(one.version, one.folder, "python", "-c", VERIFY, given=json.dumps(kept).encode())
    assert consortium.replayed() == []


def test_a_withdrawal(consortium: Consortium) -> None:
    """Signed for the proposal by its id."""
    proposal = consortium.propose({"name": "trigger_ledger_chunk"}, by=consortium.members[1])
    withdrawn = consortium.withdraw(proposal.id, consortium.members[1])
    assert withdrawn is not None
    assert withdrawn.state == proposals.WITHDRAWN


def test_shares_by_openssl(consortium: Consortium) -> None:
    """``openssl`` decrypts a share as ``submit_recovery_share.sh`` does, and two of them open the secret."""
    info = {**consortium.json(tables.SERVICE_INFO), "status": "WaitingForRecoveryShares"}
    consortium.commit({tables.SERVICE_INFO: {tables.ONLY: documents.write_json(info)}})
    found, present = None, LedgerSecret(b"p" * 32, 9)
    for member in consortium.members[:2]:
        assert isinstance(member, Member)
        sealed = recovery.encrypted_share(consortium.store.begin(), member.id)
        share = subprocess.run(
            ["openssl", "pkeyutl", "-inkey", str(member.folder / f"{member.name}_enc_privk.pem"), "-decrypt",
             "-pkeyopt", "rsa_padding_mode:oaep", "-pkeyopt", "rsa_oaep_md:sha256"],
            input=sealed, capture_output=True, check=True, timeout=60,
        ).stdout  # fmt: skip
        payload = {"share": base64.b64encode(share).decode()}
        request = requests.parse(member.sign(Kind.RECOVERY_SHARE, payload), Kind.RECOVERY_SHARE)
        found = consortium.run(
            lambda t, r=request, m=member: recovery.submit(t, r, m.id, present, 1, consortium.random)
        )
    assert found is not None
    assert found.secret.reveal() == bytes(range(32))
    assert isinstance(consortium.members[0].rsa, rsa.RSAPrivateKey)
    assert shares.decrypt_share(
        recovery.encrypted_share(consortium.store.begin(), consortium.members[0].id),
        consortium.members[0].rsa,
        "share",
    ).x in (1, 2, 3)


def test_an_acknowledgement(consortium: Consortium) -> None:
    """A digest is requested and acknowledged again, by the same programs."""
    member = consortium.members[2]
    consortium.activate(member)
    assert acks.digest(consortium.store.begin(), member.id)
    assert consortium.vote(consortium.propose({"name": "trigger_ledger_chunk"}), member, YES).info["ballots"]
