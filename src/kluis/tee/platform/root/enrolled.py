"""What a platform has of a provisioning service that certified it: its root, and collateral for quotes.

The platform has no network: who asked the service brings what it said, and nothing of it is used before a
quote under it verifies here as it will at a relying party.
"""

from __future__ import annotations

import dataclasses
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from kluis import files
from kluis.errors import AuthenticityError, FormatError, KluisError
from kluis.formats import x509
from kluis.formats.encoding import jcs
from kluis.formats.encoding.members import Members
from kluis.formats.sgx.report import Flag
from kluis.tee.platform.root import keyfiles
from kluis.tee.platform.root.quoting import PlatformKeys, make_quote, make_report_body

if TYPE_CHECKING:
    from kluis.evidence import Claims

FILE: Final = "enrolled.json"
MAX_SERVICE: Final = 256


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Enrolled:
    """Where a platform stands that is certified by a service.

    Attributes:
        service: where it was asked, for people.
        root: PEM; what relying parties name.
        collateral: JSON in the shape that ``dcap-qvl`` reads.
    """

    service: str
    root: bytes
    collateral: bytes

    def vouches_for(self, keys: PlatformKeys) -> bool:
        """Whether the chain of ``keys`` ends in this root; if not, it is left over from before."""
        return x509.split_pem(keys.chain, "PCK chain")[-1:] == x509.split_pem(self.root, "root")

    def check(self, keys: PlatformKeys, level: str, now: datetime) -> Claims:
        """Verify a quote by ``keys`` as a relying party does that names this root.

        Args:
            keys: under the service's chain.
            level: that this platform gives.
            now: aware.

        Returns:
            What is proven of it; its TCB may be out of date.

        Raises:
            FormatError, AuthenticityError, FreshnessError: the service's word does not hold.
        """
        # A platform under its own authority starts, and starts enclaves, without a verifier.
        from kluis.evidence import Collateral, ProtectionLevel, TrustAnchors, verify

        body = make_report_body(
            cpusvn=keys.cpusvn,
            flags=Flag.INIT | Flag.MODE64,
            mrenclave=bytes(32),
            mrsigner=bytes(32),
            isvprodid=0,
            isvsvn=0,
            configid=bytes(64),
            report_data=bytes(64),
        )
        anchors = TrustAnchors.from_pem(self.root)
        if [anchor.level for anchor in anchors] != [ProtectionLevel(level)]:
            raise AuthenticityError(
                f"provisioning root: want level {level}, as this platform gives, got another",
                hint="ask a service that certifies platforms of this level",
                code="enrolment_level",
            )
        collateral = Collateral.from_json(self.collateral)
        return verify(make_quote(body, keys), collateral=collateral, anchors=anchors, now=now).value

    def status(self, keys: PlatformKeys, level: str, now: datetime) -> str:
        """The TCB status that relying parties find, or the code of why they find none."""
        try:
            return str(self.check(keys, level, now).tcb.status)
        except KluisError as error:
            return error.code

    @classmethod
    def load(cls, state: Path) -> Self | None:
        """Read what ``save`` wrote; None where there is nothing.

        Raises:
            UnavailableError: the file is another user's, or open to others.
            FormatError: it is not what ``save`` writes.
        """
        if not (state / FILE).exists():
            return None
        value = Members(jcs.loads_canonical(keyfiles.read(state / FILE), FILE), FILE)
        value.version(1)
        return cls(
            service=value.text("service", limit=MAX_SERVICE),
            root=value.text("root").encode(),
            collateral=value.text("collateral").encode(),
        )

    def save(self, state: Path) -> None:
        """Write it into ``state``, mode 0600, whole or not at all."""
        document: dict[str, jcs.Writable] = {
            "version": 1,
            "service": self.service,
            "root": self.root.decode(),
            "collateral": self.collateral.decode(),
        }
        files.write(state / FILE, jcs.dumps(document))


def read(value: Members) -> Enrolled:
    """Read what a host brings.

    Raises:
        FormatError: a member is missing, or no text.
    """
    service = value.text("service", limit=MAX_SERVICE)
    if not service.isprintable():
        raise FormatError("adopt.service: want printable text", code="bad_encoding")
    return Enrolled(
        service=service,
        root=value.text("root").encode(),
        collateral=value.text("collateral").encode(),
    )
