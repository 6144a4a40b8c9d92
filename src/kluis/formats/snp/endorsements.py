"""Endorsements needed to verify an SNP report, as bytes. Nothing here is verified.

Spec: AMD 57230, "KDS interface"; Azure's THIM service, ``/metadata/THIM/amd/certification``.
"""

from __future__ import annotations

import re
from typing import Final, Self

from kluis.errors import FormatError
from kluis.formats.encoding import jcs
from kluis.formats.encoding.jcs import Json
from kluis.formats.encoding.members import Members
from kluis.formats.snp import table as certificate_table
from kluis.formats.snp.table import CertificateTable
from kluis.frozen import frozen

MAX_SIZE: Final = 4 << 20
_NAMES: Final = ("vek", "ask", "ark", "crl")
_WHAT: Final = "SNP endorsements"
_PEM: Final = re.compile(rb"-----BEGIN CERTIFICATE-----\r?\n[^-]+-----END CERTIFICATE-----(?:\r?\n)*")


@frozen(kw_only=True)
class Endorsements:
    """Certificates, DER or PEM, and the CRL; None for each that is not available.

    Attributes:
        vek: the VCEK or VLEK whose key signed the report.
        ask: the ASK or ASVK that signed the VEK.
        ark: the root that signed the ASK or ASVK.
        crl: DER, of the root; without it revocation is unknown.
    """

    vek: bytes | None = None
    ask: bytes | None = None
    ark: bytes | None = None
    crl: bytes | None = None

    @classmethod
    def from_chain(cls, vek: bytes | None, chain: bytes, crl: bytes | None = None) -> Self:
        """Combine the responses of AMD's service.

        Args:
            vek: DER or PEM.
            chain: PEM: ASK or ASVK, then ARK.
            crl: DER.

        Raises:
            FormatError: ``chain`` is not two PEM certificates.
        """
        ask, ark = _split(chain, f"{_WHAT}.chain")
        return cls(vek=vek, ask=ask, ark=ark, crl=crl)

    @classmethod
    def from_table(cls, table: CertificateTable, *, vlek: bool) -> Self:
        """Take the certificates that a host sent with a report.

        Args:
            table: of the extended report.
            vlek: whether the report states that a VLEK signed it.
        """
        return cls(
            vek=table.get(certificate_table.VLEK if vlek else certificate_table.VCEK),
            ask=table.get(certificate_table.ASK),
            ark=table.get(certificate_table.ARK),
            crl=table.get(certificate_table.CRL),
        )

    @classmethod
    def from_thim(cls, data: bytes) -> Self:
        """Parse the response of Azure's service: ``vcekCert`` and ``certificateChain`` as PEM.

        Raises:
            FormatError: not JSON, or a member that is missing or of the wrong kind.
        """
        value = Members(jcs.loads(data, "THIM answer", max_size=MAX_SIZE), "THIM answer")
        return cls.from_chain(value.text("vcekCert").encode(), value.text("certificateChain").encode())

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Read the members ``vek``, ``ask``, ``ark`` and ``crl``; each is PEM or hex of DER, or absent.

        Raises:
            FormatError: not JSON, a member that is unknown or of the wrong kind, or more than 4 MiB.
        """
        value = Members(jcs.loads(data, _WHAT, max_size=MAX_SIZE), _WHAT)
        present = [name for name in _NAMES if name in value]
        value.only(present)
        return cls(**{name: _bytes(value, name) for name in present})

    def to_json(self) -> bytes:
        """Write the members that are set, in canonical JSON."""
        members: dict[str, Json] = {}
        for name in _NAMES:
            data: bytes | None = getattr(self, name)
            if data is not None:
                members[name] = data.decode("latin-1") if _pem(data) else data.hex()
        return jcs.dumps(members)

    def over(self, other: Endorsements) -> Endorsements:
        """Fill the members missing here from ``other``."""
        if None not in (self.vek, self.ask, self.ark, self.crl):
            return self
        return Endorsements(
            vek=other.vek if self.vek is None else self.vek,
            ask=other.ask if self.ask is None else self.ask,
            ark=other.ark if self.ark is None else self.ark,
            crl=other.crl if self.crl is None else self.crl,
        )


def _pem(data: bytes) -> bool:
    return data.startswith(b"-----BEGIN ")


def _bytes(value: Members, name: str) -> bytes:
    text = value.text(name)
    if not text.startswith("-----BEGIN "):
        return value.hex(name)
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        raise FormatError(f"{value.what}.{name}: is neither PEM nor hex", code="bad_encoding") from None


def _split(chain: bytes, what: str) -> tuple[bytes, bytes]:
    certificates = _PEM.findall(chain)
    if len(certificates) != 2 or b"".join(certificates) != chain.removesuffix(b"\0"):
        raise FormatError(
            f"{what}: want 2 PEM certificates, ASK and ARK, got {len(certificates)}", code="bad_length"
        )
    return certificates[0], certificates[1]
