"""Endorsements of a CCA token: the platform's attestation key. Nothing here is verified.

Spec: draft-ffm-rats-cca-token, "Verification": the verifier finds the CCA platform attestation key (CPAK) by
implementation id and instance id, and obtains it from the platform's vendor.
"""

from __future__ import annotations

from typing import Final, Self

from kluis.formats.encoding import jcs
from kluis.formats.encoding.jcs import Json
from kluis.formats.encoding.members import Members
from kluis.formats.ietf import jose
from kluis.formats.x509 import PublicKey, parse_public_key, write_pem
from kluis.frozen import frozen

MAX_SIZE: Final = 64 * 1024
_WHAT: Final = "CCA endorsements"


@frozen(kw_only=True)
class Endorsements:
    """The attestation key of a platform, with the ids of that platform.

    Attributes:
        cpak: the public key: PEM, DER or a JWK.
        implementation_id: 32 bytes; None if the key is not limited to one.
        instance_id: 33 bytes, 0x01 and 32; None if the key is not limited to one.
    """

    cpak: bytes
    implementation_id: bytes | None = None
    instance_id: bytes | None = None

    @property
    def key(self) -> PublicKey:
        """The public key.

        Raises:
            FormatError: not a public key.
        """
        if self.cpak.lstrip()[:1] == b"{":
            return jose.parse_jwk(self.cpak, "CPAK")
        return parse_public_key(self.cpak, "CPAK")

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Read the members ``cpak`` (PEM or a JWK) and the two ids (hex or absent).

        Raises:
            FormatError: not JSON, a member that is missing, unknown or of the wrong kind, or more than 64
                KiB.
        """
        members = Members(jcs.loads(data, _WHAT, max_size=MAX_SIZE), _WHAT)
        sizes = {name: size for name, size in _IDS.items() if name in members}
        members.only(("cpak", *sizes))
        ids = {name: members.hex(name, size) for name, size in sizes.items()}
        return cls(cpak=members.text("cpak").encode(), **ids)

    def to_json(self) -> bytes:
        """Write the members that are set, in canonical JSON; a DER key is written as PEM.

        Raises:
            FormatError: the key is not a public key.
        """
        members: dict[str, Json] = {"cpak": self._text()}
        for name in _IDS:
            value: bytes | None = getattr(self, name)
            if value is not None:
                members[name] = value.hex()
        return jcs.dumps(members)

    def _text(self) -> str:
        spki = self.key.spki
        if self.cpak.lstrip()[:1] in (b"{", b"-"):
            return self.cpak.decode()
        return write_pem(spki, "PUBLIC KEY").decode()


_IDS: Final = {"implementation_id": 32, "instance_id": 33}
