"""Evidence of a Kluis enclave with the two documents whose hashes are in it, as one value.

The base of each type that carries these three. A type adds fields, bounds for what it is read from, and how
it is written.
"""

from __future__ import annotations

from typing import Any, Self

import msgspec


class EvidenceBundle(msgspec.Struct, frozen=True):
    """Evidence and the two documents whose hashes are in it. Nothing is verified.

    Attributes:
        quote: evidence of any TEE; a DCAP v3 quote from the emulated platform.
        runtime_data: canonical JSON; report_data is its SHA-256 and 32 zero bytes.
        launch_configuration: canonical JSON; CONFIGID is its SHA-512.
    """

    quote: bytes
    runtime_data: bytes
    launch_configuration: bytes

    @classmethod
    def of(cls, other: EvidenceBundle, **more: Any) -> Self:
        """The same three as a value of this class.

        Args:
            other: a bundle of any class.
            more: the fields that this class adds, by name.
        """
        return cls(
            quote=other.quote,
            runtime_data=other.runtime_data,
            launch_configuration=other.launch_configuration,
            **more,
        )
