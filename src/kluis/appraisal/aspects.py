"""The vocabulary of results: the aspects of an attester, and the tiers of their numbers.

Spec: draft-ietf-rats-ar4si, "Trustworthiness Claims"; draft-ietf-rats-ear, "Trustworthiness Tiers".
"""

from __future__ import annotations

import enum


class Aspect(enum.StrEnum):
    """The aspect that a number of the vector describes, in the order of CBOR labels."""

    INSTANCE_IDENTITY = "instance-identity"
    CONFIGURATION = "configuration"
    EXECUTABLES = "executables"
    FILE_SYSTEM = "file-system"
    HARDWARE = "hardware"
    RUNTIME_OPAQUE = "runtime-opaque"
    STORAGE_OPAQUE = "storage-opaque"
    SOURCED_DATA = "sourced-data"

    @property
    def label(self) -> int:
        """Its CBOR label, 0..7."""
        return list(Aspect).index(self)


class Tier(enum.StrEnum):
    """The tier of one number or of all, worst first."""

    CONTRAINDICATED = "contraindicated"
    WARNING = "warning"
    NONE = "none"
    AFFIRMING = "affirming"

    @property
    def number(self) -> int:
        """The tier's CBOR number: 96, 32, 0 or 2."""
        return {"contraindicated": 96, "warning": 32, "none": 0, "affirming": 2}[self.value]
