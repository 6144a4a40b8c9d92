"""The module that the launcher imports in an enclave: loads the runtime, with every import checked, and runs
it.
"""

import gc

from kluis import measured

INDEXES = 7


def load() -> None:
    """Check imports from now on, and import the runtime; errors are still reported to the host."""
    gc.disable()  # until the application is imported: what is loaded here stays
    measured.arm(INDEXES)
    import kluis.enclave.runtime.main  # noqa: F401 - for its effect


def main() -> None:
    """Run the enclave."""
    from kluis.enclave.runtime import main as runtime

    runtime.main()
