"""The untrusted host side: start an enclave, call it, serve its ocalls, and attest it.

The host carries ciphertext. Anything that it passes in plaintext is visible to it: arguments, Tables and
results. Only data sealed to a key generated inside is not.
"""

from __future__ import annotations

from kluis.host.asynchronous import AsyncEnclave, AsyncItems, TypedAsyncEnclave
from kluis.host.loading import load
from kluis.host.pool import Pool
from kluis.host.proxy import Call, Ecall, EnclaveProxy, TypedEnclave
from kluis.host.streaming import Items, StreamingEcall

__all__ = [
    "AsyncEnclave", "AsyncItems", "Call", "Ecall", "EnclaveProxy", "Items", "Pool", "StreamingEcall",
    "TypedAsyncEnclave", "TypedEnclave", "load",
]  # fmt: skip
