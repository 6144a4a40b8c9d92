"""What the launcher imports in an enclave: the check of imports first, then the runtime."""

from kluis import measured

INDEXES = 7

measured.arm(INDEXES)

from kluis.enclave.runtime import main  # noqa: E402 - imported under the check

__all__ = ["main"]
