"""Make quotes like Intel's quoting enclave, without one, under the keys of a platform.

The bytes are exact DCAP version 3. Values that the processor would fuse are derived from the platform's own
secrets; fields that allow it contain "KLUIS-NO-HARDWARE".

Spec: Intel "SGX ECDSA QuoteLibReference DCAP API", "Quote Format".
"""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import Final, Self

from cryptography.hazmat.primitives.asymmetric import ec

from kluis import files
from kluis.authority import Authority, issuing, serial_of
from kluis.authority.documents import QE_MRSIGNER, QE_PRODUCT_ID, QE_SVN
from kluis.authority.state import CPUSVN, PCESVN
from kluis.errors import FormatError
from kluis.formats.encoding import jcs
from kluis.formats.encoding.members import Members
from kluis.formats.sgx.quote import (
    ECDSA_P256,
    NO_HARDWARE,
    PCK_CHAIN,
    QE_VENDOR_INTEL,
    TEE_SGX,
    Header,
    Quote,
)
from kluis.formats.sgx.report import Flag, ReportBody
from kluis.frozen import frozen
from kluis.hashes import sha256
from kluis.tee import keyfiles
from kluis.tee.platform.root.reports import make_report_body, point

USER_DATA: Final = NO_HARDWARE.ljust(20, b"\0")
MAX_EARLIER: Final = 256
QE_MRENCLAVE: Final = sha256(b"Kluis emulated quoting enclave 1 (no hardware)")


@frozen(kw_only=True)
class PlatformKeys:
    """One platform's keys: the PCK, and the attestation key that it certifies.

    Attributes:
        pck: private, P-256; certified by the authority.
        attestation: private, P-256; signs quotes.
        chain: PEM: PCK certificate, platform CA, root.
        ppid: 16 bytes, identifies the platform.
        cpusvn: 16 bytes, one component SVN each.
        pcesvn: 0..65535.
        qe_report: 384 bytes, created once: binds the attestation key.
        qe_signature: 64 bytes, the PCK's over ``qe_report``.
        auth_data: 32 bytes.
        earlier: serial numbers of this platform's earlier certificates, under these keys or others.
    """

    pck: ec.EllipticCurvePrivateKey
    attestation: ec.EllipticCurvePrivateKey
    chain: bytes
    ppid: bytes
    cpusvn: bytes
    pcesvn: int
    qe_report: bytes
    qe_signature: bytes
    auth_data: bytes
    earlier: tuple[int, ...] = ()

    @classmethod
    def create(cls, ca: Authority, now: datetime, *, cpusvn: bytes = CPUSVN, pcesvn: int = PCESVN) -> Self:
        """Generate a platform's keys and have ``ca`` certify them at this TCB."""
        pck, ppid = ec.generate_private_key(ec.SECP256R1()), os.urandom(16)
        return cls.of(
            ca.certify(pck.public_key(), ppid=ppid, cpusvn=cpusvn, pcesvn=pcesvn, now=now),
            pck=pck,
            attestation=ec.generate_private_key(ec.SECP256R1()),
            ppid=ppid,
            cpusvn=cpusvn,
            pcesvn=pcesvn,
        )

    @classmethod
    def of(
        cls,
        chain: bytes,
        *,
        pck: ec.EllipticCurvePrivateKey,
        attestation: ec.EllipticCurvePrivateKey,
        ppid: bytes,
        cpusvn: bytes,
        pcesvn: int,
        earlier: tuple[int, ...] = (),
    ) -> Self:
        """A platform's keys with a chain that certifies the PCK for this platform and TCB."""
        auth_data = os.urandom(32)
        qe_report = make_report_body(
            cpusvn=cpusvn,
            flags=Flag.INIT | Flag.MODE64 | Flag.PROVISION_KEY,
            mrenclave=QE_MRENCLAVE,
            mrsigner=QE_MRSIGNER,
            isvprodid=QE_PRODUCT_ID,
            isvsvn=QE_SVN,
            configid=bytes(64),
            isvfamilyid=bytes(16),
            report_data=sha256(point(attestation) + auth_data) + bytes(32),
        ).encode()
        return cls(
            pck=pck,
            attestation=attestation,
            chain=chain,
            ppid=ppid,
            cpusvn=cpusvn,
            pcesvn=pcesvn,
            qe_report=qe_report,
            qe_signature=issuing.sign(pck, qe_report),
            auth_data=auth_data,
            earlier=earlier,
        )

    def serials(self) -> tuple[int, ...]:
        """Serial numbers of all current and earlier certificates: revoking the platform revokes them all."""
        return (*self.earlier, serial_of(self.chain)) if self.chain else self.earlier

    def under(self, chain: bytes, *, cpusvn: bytes, pcesvn: int) -> Self:
        """The same keys with another chain, which certifies them for this TCB."""
        now = serial_of(chain)
        return self.of(
            chain,
            pck=self.pck,
            attestation=self.attestation,
            ppid=self.ppid,
            cpusvn=cpusvn,
            pcesvn=pcesvn,
            earlier=tuple(each for each in self.serials() if each != now),
        )

    def renew(self) -> Self:
        """The same platform with new keys, not yet certified."""
        return self.of(
            b"",
            pck=ec.generate_private_key(ec.SECP256R1()),
            attestation=ec.generate_private_key(ec.SECP256R1()),
            ppid=self.ppid,
            cpusvn=self.cpusvn,
            pcesvn=self.pcesvn,
            earlier=self.serials(),
        )

    def recertify(self, ca: Authority, now: datetime, *, cpusvn: bytes, pcesvn: int) -> Self:
        """The same keys, certified again at another TCB."""
        chain = ca.certify(self.pck.public_key(), ppid=self.ppid, cpusvn=cpusvn, pcesvn=pcesvn, now=now)
        return self.under(chain, cpusvn=cpusvn, pcesvn=pcesvn)

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Load the keys from the output of ``save``.

        Raises:
            UnavailableError: a file is missing, another user's, or accessible to others.
            FormatError: a file is damaged.
        """
        value = jcs.loads_canonical(keyfiles.read(directory / "platform.json"), "platform.json")
        stored = Members(value, "platform.json")
        stored.version(1)
        return cls(
            pck=keyfiles.load_key(directory / "pck.key"),
            attestation=keyfiles.load_key(directory / "attestation.key"),
            chain=stored.text("chain").encode(),
            pcesvn=stored.integer("pcesvn", most=0xFFFF),
            earlier=_serials(stored),
            **{name: stored.hex(name, size) for name, size in _STORED.items()},
        )

    def save(self, directory: Path) -> None:
        """Write the keys into ``directory``, each file 0600, atomically."""
        keyfiles.save_key(directory / "pck.key", self.pck)
        keyfiles.save_key(directory / "attestation.key", self.attestation)
        stored = {name: getattr(self, name).hex() for name in _STORED}
        earlier = [f"{serial:x}" for serial in self.earlier]
        document = {
            "version": 1, "chain": self.chain.decode(), "pcesvn": self.pcesvn, "earlier": earlier, **stored,
        }  # fmt: skip
        files.write(directory / "platform.json", jcs.dumps(document))


def _serials(stored: Members) -> tuple[int, ...]:
    """Serial numbers of earlier certificates; an older Kluis did not record them.

    Raises:
        FormatError: anything else.
    """
    serials = stored.texts("earlier", most=MAX_EARLIER) if "earlier" in stored else ()
    try:
        return tuple(int(each, 16) for each in serials)
    except ValueError:
        raise FormatError("platform.json.earlier: want serial numbers in hex", code="bad_encoding") from None


_STORED: Final = {"ppid": 16, "cpusvn": 16, "qe_report": 384, "qe_signature": 64, "auth_data": 32}


def make_quote(body: ReportBody, platform: PlatformKeys) -> bytes:
    """Quote ``body`` under the platform's attestation key: DCAP version 3."""
    header = Header(
        version=3,
        attestation_key_type=ECDSA_P256,
        tee_type=TEE_SGX,
        qe_svn=QE_SVN,
        pce_svn=platform.pcesvn,
        qe_vendor_id=QE_VENDOR_INTEL,
        user_data=USER_DATA,
    )
    signed = header.encode() + body.encode()
    return Quote(
        signed=signed,
        header=header,
        body=body,
        signature=issuing.sign(platform.attestation, signed),
        attestation_key=point(platform.attestation),
        qe_report_bytes=platform.qe_report,
        qe_report=ReportBody.parse(platform.qe_report),
        qe_signature=platform.qe_signature,
        auth_data=platform.auth_data,
        certification_type=PCK_CHAIN,
        certification_data=platform.chain,
    ).encode()
