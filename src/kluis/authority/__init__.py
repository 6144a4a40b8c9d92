"""The certificate authority of emulated platforms: the counterpart of Intel's provisioning service.

It signs and keeps state, but reads no clock and writes no file. So one machine's platform and a provisioning
service inside an enclave run the same code. A relying party trusts its root only by naming the root's file.
"""

from kluis.authority.authority import Authority, Keys, Published, serial_of
from kluis.authority.state import State, TcbLevel

__all__ = ["Authority", "Keys", "Published", "State", "TcbLevel", "serial_of"]
