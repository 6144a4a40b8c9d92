"""A ledger: its core against the primitives that it uses, and its auditor against CCF's own."""

from __future__ import annotations

import hashlib
import hmac
import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from bench.harness import Harness, Row, timed
from kluis.errors import UnavailableError
from kluis.ledger import certificates, sample
from kluis.ledger.merkle import Tree
from kluis.ledger.secrets import LedgerSecret, Secrets
from kluis.ledger.sequencer import Sequencer
from kluis.ledger.signer import OF_ROOT, Signer
from kluis.ledger.store import Store
from tests.clients.ccf.environments import environment

BATCH, VALUE = 500, 1024
ENTRIES = 50_000


def rows(take: Harness) -> list[Row]:
    """Take them.

    Raises:
        UnavailableError: CCF's tools are not installed.
    """
    return [core(take), *verifying(take)]


def core(take: Harness) -> Row:
    """A batch from transactions to signed bytes."""
    node, service = ec.generate_private_key(ec.SECP384R1()), ec.generate_private_key(ec.SECP384R1())
    own = certificates.service_certificate(service, datetime.now(UTC))
    cert = certificates.node_certificate(node.public_key(), service, own, datetime.now(UTC))
    sequencer = Sequencer(
        view=2,
        tree=Tree(),
        secrets=Secrets([LedgerSecret(os.urandom(32), 1)]),
        signer=Signer(node, cert, service),
        clock=lambda: 1_790_000_000,
    )
    store, values = Store(), [os.urandom(VALUE) for _ in range(BATCH)]

    def ours() -> None:
        for number, value in enumerate(values):
            sequencer.add({"records": {b"%d" % number: value}})
        sequencer.seal()

    def with_the_store() -> None:
        for number, value in enumerate(values):
            transaction = store.begin()
            transaction.put("records", b"%d" % number, value)
            store.apply(sequencer.add(transaction.writes).seqno, transaction.writes)
        store.compact(sequencer.seal().signature.seqno)

    aead, key, public, iv = AESGCM(os.urandom(32)), os.urandom(32), bytes(81), bytes(12)

    def theirs() -> None:
        for value in values:
            sealed = aead.encrypt(iv, value, public)
            hmac.digest(key, iv, "sha256")
            hashlib.sha256(sealed).digest()
        root = hashlib.sha256(key).digest()
        node.sign(root, OF_ROOT)
        service.sign(root, OF_ROOT)

    return take.compare(
        "core of a ledger: a batch of 500 entries of 1 KiB to signed bytes",
        "only its AES-GCM, SHA-256, HMAC and two P-384 signatures",
        4.0,
        ours=lambda: timed(ours),
        theirs=lambda: timed(theirs),
        rounds=max(take.rounds, 101),  # each takes a hundredth of a second
        also=lambda: {"with a transaction and the store": f"{timed(with_the_store) * 1000:.1f} ms"},
    )


def verifying(take: Harness) -> list[Row]:
    """A ledger of 50,000 entries verified, whole processes."""
    tools = environment("7")
    if tools is None:
        raise UnavailableError("CCF's tools of version 7: are not installed", hint="scripts/setup.sh bench")
    made = sample.make(ENTRIES, datetime.now(UTC), os.urandom)
    with tempfile.TemporaryDirectory(prefix="kluis-bench-") as folder:
        for name, data in made.files.items():
            (Path(folder) / name).write_bytes(data)
        kluis = [str(Path(sys.executable).with_name("kluis")), "ledger", "verify", folder]
        theirs = [str(tools / "bin" / "read_ledger.py"), "-q", "--verification-level", "FULL", folder]
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}

        def run(command: list[str]) -> float:
            return timed(lambda: subprocess.run(command, check=True, capture_output=True, env=kept))

        return [
            take.compare(
                f"kluis ledger verify, {words}, 50,000 entries",
                "read_ledger.py FULL of ccf 7, whole processes",
                hold,
                ours=lambda level=level: run([*kluis, "--level", level]),
                theirs=lambda: run(theirs),
            )
            for level, words, hold in (("full", "the checks of FULL", 1.0), ("all", "all checks", 2.5))
        ]
