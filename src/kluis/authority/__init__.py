"""The emulated platforms' certificate authority: what Intel's provisioning service is to real hardware.

It signs and remembers; it reads no clock and keeps no file, so one machine's platform and a provisioning
service inside an enclave run the same code. Its root is trusted by nobody who did not name its file.
"""

from kluis.authority.authority import Authority, Keys, Published, serial_of
from kluis.authority.state import State, TcbLevel

__all__ = ["Authority", "Keys", "Published", "State", "TcbLevel", "serial_of"]
