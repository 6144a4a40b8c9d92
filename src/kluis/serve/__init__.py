"""Starts the services on this machine, outside enclaves, with everything that they need. Nothing here is
trusted.
"""

from typing import Final

DEFAULT_PORT: Final = 8443
"""Port of the first service; the others follow."""
HOST: Final = "127.0.0.1"
"""The address that services listen on, unless the operator names another."""
