"""Enclave B: it requests a report for itself, checks it, and reports its peer."""

from __future__ import annotations

import os

from kluis.enclave import Enclave, LocalReport, Peer, target_info, verify_report

app = Enclave("second", product_id=2, svn=1)
asked: set[bytes] = set()


@app.ecall
def challenge() -> tuple[bytes, bytes]:
    """Where a report must be made for, and over what: TARGETINFO (512 bytes) and a nonce (32 bytes)."""
    nonce = os.urandom(32)
    asked.add(nonce)
    return target_info(), nonce


@app.ecall
def meet(made: LocalReport, nonce: bytes) -> Peer:
    """Check a report for this enclave over this enclave's nonce; each nonce is valid once."""
    if nonce not in asked:
        raise PermissionError
    asked.discard(nonce)
    return verify_report(made, nonce=nonce)
