"""Endorsements needed to verify a TPM quote, as bytes. Nothing here is verified.

Spec: TCG "EK Credential Profile"; TCG "PC Client Platform Firmware Profile" for everything else.
"""

from __future__ import annotations

from typing import Final, Self

from kluis.formats.encoding import jcs
from kluis.formats.encoding.members import Members
from kluis.frozen import frozen

MAX_SIZE: Final = 4 << 20
MAX_CRLS: Final = 4
_NAMES: Final = ("certificate", "chain", "crls", "public")
_WHAT: Final = "TPM endorsements"


@frozen(kw_only=True)
class TpmEndorsements:
    """Endorsements of an attestation key (AK).

    Attributes:
        certificate: of the AK, DER or PEM; None if the relying party names the AK itself.
        chain: PEM, of its issuers, including the root; at most 4 certificates.
        crls: DER, of the chain's certificates; without one, its issuer's revocations are unknown.
        public: the AK's public area, TPMT_PUBLIC or TPM2B_PUBLIC, that the relying party expects.
    """

    certificate: bytes | None = None
    chain: bytes = b""
    crls: tuple[bytes, ...] = ()
    public: bytes | None = None

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Read them from a JSON object: hex, with the chain as text; each member is optional.

        Raises:
            FormatError: not JSON, a member that is unknown or of the wrong kind, or more than 4 MiB.
        """
        value = Members(jcs.loads(data, _WHAT, max_size=MAX_SIZE), _WHAT)
        value.only([name for name in _NAMES if name in value])
        crls = [Members({"crl": item}, f"{_WHAT}.crls") for item in _list(value)]
        return cls(
            certificate=value.hex("certificate") if "certificate" in value else None,
            chain=value.text("chain").encode() if "chain" in value else b"",
            crls=tuple(item.hex("crl") for item in crls),
            public=value.hex("public") if "public" in value else None,
        )

    def to_json(self) -> bytes:
        """Write them in canonical JSON."""
        members: dict[str, jcs.Writable] = {}
        for name in ("certificate", "public"):
            data: bytes | None = getattr(self, name)
            if data is not None:
                members[name] = data.hex()
        if self.chain:
            members["chain"] = self.chain.decode()
        if self.crls:
            members["crls"] = [crl.hex() for crl in self.crls]
        return jcs.dumps(members)


def _list(value: Members) -> list[jcs.Json]:
    return value.array("crls", most=MAX_CRLS) if "crls" in value else []
