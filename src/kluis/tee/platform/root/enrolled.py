"""A platform's certification by a provisioning service: the service's root, and collateral for quotes.

The platform has no network: a host fetches the service's response. Nothing of it is used before a quote under
it verifies here as it will at a relying party.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from kluis import files
from kluis.errors import AuthenticityError, FormatError, KluisError
from kluis.formats import x509
from kluis.formats.encoding import jcs
from kluis.formats.encoding.members import Members
from kluis.formats.sgx.report import Flag
from kluis.frozen import frozen
from kluis.tee import keyfiles
from kluis.tee.platform.root.quoting import PlatformKeys, make_quote
from kluis.tee.platform.root.reports import make_report_body

if TYPE_CHECKING:
    from kluis.evidence import Claims

FILE: Final = "enrolled.json"
MAX_SERVICE: Final = 256


@frozen(kw_only=True)
class Enrolled:
    """The certification of a platform by a service.

    Attributes:
        service: its address, for messages.
        root: PEM; named by relying parties.
        collateral: JSON in the format of ``dcap-qvl``.
    """

    service: str
    root: bytes
    collateral: bytes

    def vouches_for(self, keys: PlatformKeys) -> bool:
        """Whether the chain of ``keys`` ends in this root; if not, it is left over from before."""
        return x509.split_pem(keys.chain, "PCK chain")[-1:] == x509.split_pem(self.root, "root")

    def check(self, keys: PlatformKeys, level: str, now: datetime) -> Claims:
        """Verify a quote with ``keys``, like a relying party that trusts this root.

        Args:
            keys: under the service's chain.
            level: of this platform.
            now: aware.

        Returns:
            The proven claims; the TCB may be out of date.

        Raises:
            FormatError, AuthenticityError, FreshnessError: the service's response is not valid.
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
        """The TCB status for relying parties, or the code of the error that prevents it."""
        try:
            return str(self.check(keys, level, now).tcb.status)
        except KluisError as error:
            return error.code

    @classmethod
    def load(cls, state: Path) -> Self | None:
        """Load the output of ``save``; None if there is none.

        Raises:
            UnavailableError: the file is another user's, or accessible to others.
            FormatError: it is damaged.
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
        """Write it into ``state``, mode 0600, atomically."""
        document: dict[str, jcs.Writable] = {
            "version": 1,
            "service": self.service,
            "root": self.root.decode(),
            "collateral": self.collateral.decode(),
        }
        files.write(state / FILE, jcs.dumps(document))


def read(value: Members) -> Enrolled:
    """Parse the response from a host.

    Raises:
        FormatError: a member is missing, or not text.
    """
    service = value.text("service", limit=MAX_SERVICE)
    if not service.isprintable():
        raise FormatError("adopt.service: want printable text", code="bad_encoding")
    return Enrolled(
        service=service, root=value.text("root").encode(), collateral=value.text("collateral").encode()
    )
