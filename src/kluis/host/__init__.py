"""The untrusted host side: start an enclave, call it, serve its ocalls, and attest it.

The host carries ciphertext. Anything that it passes in plaintext is visible to it: arguments, Tables and
results. Only data sealed to a key generated inside is not.
"""

from __future__ import annotations

from kluis.host.loading import load
from kluis.host.pool import Pool
from kluis.host.proxy import Call, Ecall, EnclaveProxy, TypedEnclave

__all__ = ["Call", "Ecall", "EnclaveProxy", "Pool", "TypedEnclave", "load"]
