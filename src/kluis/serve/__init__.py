"""Outside: what starts the services on this machine, and what they stand on. Nothing here is trusted."""

from typing import Final

DEFAULT_PORT: Final = 8443
"""Of the first service; the others follow."""
