"""Starts the services on this machine, outside enclaves, with everything that they need. Nothing here is
trusted.
"""

from typing import Final

DEFAULT_PORT: Final = 8443
"""Port of the first service; the others follow."""
