"""Batches of a real sequencer, for tests of the log that keeps them."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from kluis.enclave.attested_tls.link import make_certificate
from kluis.ledger.merkle import Tree
from kluis.ledger.secrets import LedgerSecret, Secrets
from kluis.ledger.sequencer import Batch, Sequencer
from kluis.ledger.signer import Signer


class Writer:
    """Writes entries of one ledger, a batch at a time.

    Args:
        view: of its entries.
        chunk_size: bytes at which a chunk is closed.
    """

    def __init__(self, view: int = 2, chunk_size: int = 5 << 20) -> None:
        key = ec.generate_private_key(ec.SECP384R1())
        _, certificate = make_certificate()
        pem = certificate.public_bytes(Encoding.PEM).decode()
        self.secrets = Secrets([LedgerSecret(bytes(range(32)), 1)])
        self.sequencer = Sequencer(
            view=view,
            tree=Tree(),
            secrets=self.secrets,
            signer=Signer(key, pem, key),
            clock=lambda: 1,
            chunk_size=chunk_size,
        )

    def batch(self, count: int = 3, size: int = 100) -> Batch:
        """A batch of ``count`` entries of about ``size`` bytes, and its signature."""
        for number in range(count):
            self.sequencer.add({"private": {number.to_bytes(8, "big"): bytes(size)}})
        return self.sequencer.seal()
