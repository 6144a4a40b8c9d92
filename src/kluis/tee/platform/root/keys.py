"""The platform's secret, and the keys that enclaves derive from it.

Spec: after Intel SDM vol. 3D, "EGETKEY", key names SEAL and REPORT; RFC 5869 (HKDF).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, Self

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from kluis import files
from kluis.errors import PolicyError, UsageError
from kluis.formats.encoding import jcs
from kluis.formats.kluis.launch import LaunchConfiguration
from kluis.formats.sgx.report import Flag
from kluis.tee import keyfiles
from kluis.tee.platform.root.identity import Identity

SECRET_SIZE: Final = 32
CPUSVN: Final = bytes([1, 1, 1, 1]) + bytes([1]) * 12
"""Security versions of launcher, filters, memory library and guardian, then eight that stay at 1.

Raised by hand when a weakness in that part is fixed, so that a verifier recognizes an old platform.
"""


class Secret:
    """The 32 bytes that protect everything sealed on this platform. Never printed."""

    __slots__ = ("_report_root", "_seal_root")

    def __init__(self, secret: bytes) -> None:
        if len(secret) != SECRET_SIZE:
            raise UsageError(f"platform secret: want {SECRET_SIZE} bytes, got {len(secret)}")
        self._seal_root = _derive(secret, b"kluis seal root 1")
        self._report_root = _derive(secret, b"kluis report root 1")

    def __repr__(self) -> str:
        return "<platform secret>"

    @classmethod
    def load_or_create(cls, path: Path) -> Self:
        """Load the secret at ``path`` (mode 0600), or create it.

        Raises:
            UnavailableError: it is another user's, or accessible to others.
        """
        if not path.exists():
            files.write(path, os.urandom(SECRET_SIZE))
        return cls(keyfiles.read(path))

    @property
    def report_root(self) -> bytes:
        """32 bytes, the root key of local reports."""
        return self._report_root

    def seal_key(self, caller: Identity, *, policy: str, svn: int, key_id: bytes, cpusvn: bytes) -> bytes:
        """Derive a sealing key for ``caller``: 32 bytes.

        Debug, protection level, missing protections and insecure grants are always mixed in, so a launch with
        less protection never gets the key of one with more.

        Args:
            caller: the requesting enclave.
            policy: ``measurement`` (this exact code) or ``signer`` (its author's product).
            svn: 0..65535, at most the caller's own.
            key_id: 32 bytes.
            cpusvn: 16 bytes, no component above the platform's own.

        Raises:
            PolicyError: an svn or a platform version above the caller's.
            UsageError: another policy, or wrong sizes.
        """
        if len(key_id) != 32 or len(cpusvn) != 16 or not 0 <= svn <= 0xFFFF:
            raise UsageError("seal key: want svn 0..65535, 32 bytes of key id, 16 of cpusvn")
        if svn > caller.svn:
            raise PolicyError(
                f"seal key: svn: want at most the caller's {caller.svn}, got {svn}", code="seal_svn"
            )
        if any(wanted > own for wanted, own in zip(cpusvn, caller.cpusvn, strict=True)):
            raise PolicyError(
                f"seal key: cpusvn: want at most {caller.cpusvn.hex()}, got {cpusvn.hex()}",
                code="seal_cpusvn",
            )
        who: dict[str, jcs.Writable]
        if policy == "measurement":
            who = {"mrenclave": caller.mrenclave.hex()}
        elif policy == "signer":
            who = {"mrsigner": caller.mrsigner.hex(), "product_id": caller.product_id}
        else:
            raise UsageError(f"seal key: policy: want measurement or signer, got {policy[:40]!r}")
        context = jcs.dumps(
            {
                "who": who,
                "svn": svn,
                "key_id": key_id.hex(),
                "cpusvn": cpusvn.hex(),
                "debug": bool(caller.flags & Flag.DEBUG),
                "protection": _protection(caller.configuration),
            }
        )
        return _derive(self._seal_root, b"kluis seal key 1\0" + context)


def _protection(configuration: LaunchConfiguration) -> dict[str, jcs.Writable]:
    """The parts that lower or raise protection. Heap and threads are excluded: a new release may change
    them.
    """
    weak = [grant for grant in configuration.grants if grant.startswith("insecure_")]
    return {"level": configuration.level, "missing": list(configuration.missing), "insecure": list(weak)}


def _derive(root: bytes, info: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(root)
