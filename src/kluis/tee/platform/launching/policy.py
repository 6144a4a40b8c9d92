"""The launch policy: which enclaves the operator allows here. It is a control for the operator, not a claim
to others.

``launch.toml`` in the platform's state directory:

    max_heap = "8GiB"        # for one enclave
    max_scratch = "64GiB"    # for one enclave
    max_enclaves = 32        # at once; one user may run half of what the others leave, root all of it
    debug = true             # may debug enclaves be launched?
    signers = []             # hex MRSIGNERs; empty: any
    users = []               # user ids that may launch; empty: any
"""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from kluis.errors import FormatError, PolicyError

_UNITS = {"B": 0, "KiB": 10, "MiB": 20, "GiB": 30, "TiB": 40}


class LaunchPolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The rules for launches on this platform; see the module."""

    max_heap: str = "16GiB"
    max_scratch: str = "64GiB"
    max_enclaves: int = 32
    debug: bool = True
    signers: list[str] = []
    users: list[int] = []

    def check(
        self, *, signer: bytes, debug: bool, heap_bytes: int, scratch_bytes: int = 0, user: int
    ) -> None:
        """Refuse a launch that violates the policy.

        Raises:
            PolicyError: names the rule, want and got.
        """
        if debug and not self.debug:
            raise PolicyError("launch policy: debug: want off, got on", hint="build without --debug")
        if heap_bytes > size(self.max_heap):
            raise PolicyError(
                f"launch policy: max_heap: want at most {self.max_heap}, got {heap_bytes} bytes",
                hint="lower heap in kluis.toml, or raise max_heap in launch.toml",
            )
        if scratch_bytes > size(self.max_scratch):
            raise PolicyError(
                f"launch policy: max_scratch: want at most {self.max_scratch}, got {scratch_bytes} bytes",
                hint="lower scratch in kluis.toml, or raise max_scratch in launch.toml",
            )
        if self.signers and signer.hex() not in self.signers:
            raise PolicyError(
                f"launch policy: signers: want one of {len(self.signers)}, got {signer.hex()}",
                hint="add the signer to launch.toml, or sign with an accepted key",
            )
        if self.users and user not in self.users:
            raise PolicyError(f"launch policy: users: want one of {self.users}, got {user}")


def size(text: str) -> int:
    """Read a size such as ``512MiB``: bytes.

    Raises:
        FormatError: not a size.
    """
    match = re.fullmatch(r"(\d{1,9})(B|KiB|MiB|GiB|TiB)", text)
    if not match:
        raise FormatError(f"size: want a whole number and one of {', '.join(_UNITS)}, got {text[:40]!r}")
    return int(match[1]) << _UNITS[match[2]]


def load(path: Path) -> LaunchPolicy:
    """Read ``launch.toml``; without one, use the defaults.

    Raises:
        FormatError: an unknown field, or a wrong type; names it.
    """
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        return LaunchPolicy()
    import tomllib  # most platforms have no such file

    try:
        policy = msgspec.convert(tomllib.loads(text), LaunchPolicy)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise FormatError(f"{path.name}: {error}") from None
    size(policy.max_heap), size(policy.max_scratch)
    return policy
