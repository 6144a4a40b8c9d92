"""What the launcher imports in an enclave: the check of imports first, then the runtime."""

from kluis import measured

INDEXES = 7


def main() -> None:
    """Check every import from now on, then run. Nothing is imported before: it would not be checked."""
    measured.arm(INDEXES)
    from kluis.enclave.runtime import main as run  # imported under the check

    run()
