"""The module that the launcher imports to run the platform, whose hosts wait for its imports."""

from __future__ import annotations

import gc

from kluis import imports


def main() -> int:
    """Run the daemon; what it imports stays."""
    with imports.quick():
        from kluis.tee.platform import daemon
    gc.freeze()
    return daemon.main()
