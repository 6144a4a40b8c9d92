"""What runs outside and is not trusted: start an enclave, call it, serve its ocalls, have it attest.

The host carries ciphertext. What it passes in plain is public to it: an argument, a Table and a
result are seen here, and only what was sealed to a key made inside is not.
"""

from __future__ import annotations

from kluis.host.loading import load
from kluis.host.pool import Pool
from kluis.host.proxy import Call, Ecall, EnclaveProxy

__all__ = ["Call", "Ecall", "EnclaveProxy", "Pool", "load"]
