"""Make ledgers for tests: in memory, with new keys."""

from __future__ import annotations

import functools

from cryptography.hazmat.primitives.asymmetric import ec

from kluis.ledger.merkle import Tree
from kluis.ledger.secrets import LedgerSecret, Secrets
from kluis.ledger.sequencer import Sequencer
from kluis.ledger.signer import Signer

NOW = 1_790_000_000
SECRET = bytes(range(32))


@functools.cache
def key(number: int) -> ec.EllipticCurvePrivateKey:
    """A key on P-384, the same for the same number."""
    return ec.derive_private_key(number + 1_000_003, ec.SECP384R1())


def signer(*, cose_only: bool = False) -> Signer:
    """Signs with key 0 for the node and key 1 for the service."""
    return Signer(key(0), "certificate", key(1), cose_only=cose_only)


def sequencer(*, chunk_size: int = 5 << 20, cose_only: bool = False) -> Sequencer:
    """A sequencer of a ledger that has no entry yet."""
    return Sequencer(
        view=2,
        tree=Tree(),
        secrets=Secrets([LedgerSecret(SECRET, 1)]),
        signer=signer(cose_only=cose_only),
        clock=lambda: NOW,
        chunk_size=chunk_size,
    )
