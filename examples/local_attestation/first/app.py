"""Enclave A: it makes a report that only the enclave behind ``target`` can check."""

from __future__ import annotations

from kluis.enclave import Enclave, LocalReport, report

app = Enclave("first", product_id=1, svn=1)


@app.ecall
def introduce(target: bytes, nonce: bytes) -> LocalReport:
    """Vouch to the enclave behind ``target`` (512 bytes of TARGETINFO), over its nonce."""
    return report(target, b"hello from the first", nonce=nonce)
