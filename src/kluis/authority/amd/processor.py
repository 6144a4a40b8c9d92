"""The emulated processor: signs SNP reports and derives keys, like AMD's, without one.

What AMD's processor has fused is derived from a secret of the platform. A new TCB gives it another
endorsement key (VCEK), and keys derived for the earlier TCB remain available.

Spec: AMD 56860, SEV-SNP Firmware ABI; AMD 57230, VCEK certificate specification; RFC 5869 (HKDF).
"""

from __future__ import annotations

import dataclasses
from datetime import datetime
from typing import Final, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from kluis.authority import issuing
from kluis.authority.amd import certificates, reports
from kluis.authority.amd.reports import KeyRequest, Launch, ReportRequest, Selection
from kluis.authority.amd.state import CPUIDS, MAX_REVOKED, Keys, State
from kluis.errors import FormatError, UsageError
from kluis.formats.snp.extensions import TURIN_ID_SIZE, VCEK_ID_SIZE, VekExtensions
from kluis.formats.snp.flags import PlatformInfo
from kluis.formats.snp.report import ECDSA_P384, ReportV3
from kluis.formats.snp.tcb import Product, TcbVersion
from kluis.hashes import sha256

RSA_BITS: Final = 4096
SECRET_SIZE: Final = 32
FIRMWARE: Final = (1, 55, 40)
# Genoa's first version without a published flaw of software, which the dated denylists name.
_TCB: Final = {"boot_loader": 10, "tee": 0, "snp": 24, "microcode": 84}
_NO_AGENT: Final = b"\xff" * 32
_ORDER: Final = (
    0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973
)
_INFO: Final = PlatformInfo(
    smt=True,
    tsme=False,
    ecc=False,
    rapl_disabled=False,
    ciphertext_hiding=False,
    alias_check_complete=True,
    tio=False,
    unknown=0,
).encode()


class Processor:
    """An emulated AMD secure processor, whose vendor is this machine's platform.

    Attributes:
        keys: secret; for the caller to store.
        state: everything else to store.
    """

    def __init__(self, keys: Keys, state: State) -> None:
        self.keys = keys
        self.state = state

    @classmethod
    def create(
        cls,
        now: datetime,
        *,
        secret: bytes,
        product: Product = Product.GENOA,
        rsa_keys: tuple[rsa.RSAPrivateKey, rsa.RSAPrivateKey] | None = None,
    ) -> Self:
        """Create a processor and its vendor's certificates.

        Args:
            now: aware; certificates are valid from five minutes before it, for ten years.
            secret: 32 random bytes.
            product: the product line that it is of: Milan, Genoa or Turin.
            rsa_keys: of root and authority; None generates them, which takes seconds.

        Raises:
            UsageError: another size of ``secret``, or another product.
        """
        if len(secret) != SECRET_SIZE:
            raise UsageError(f"processor.secret: want {SECRET_SIZE} bytes, got {len(secret)}")
        if product not in CPUIDS:
            raise UsageError(f"processor.product: want one of {', '.join(CPUIDS)}, got {product}")
        ark_key, ask_key = rsa_keys or (_rsa_key(), _rsa_key())
        keys = Keys(ark=ark_key, ask=ask_key, chip=secret)
        ark = certificates.ark(ark_key, product, now)
        ask = certificates.ask(ask_key.public_key(), product, ark, ark_key, now)
        tcb = TcbVersion(fmc=1 if product.has_fmc else None, **_TCB)
        state = State(product=product, tcb=tcb, ark=issuing.pem(ark), ask=issuing.pem(ask), vcek="")
        made = cls(keys, state)
        made._certify(now)
        return made

    def root_pem(self) -> bytes:
        """The root certificate (ARK), which a relying party names as its anchor."""
        return self.state.ark.encode()

    def certificates(self) -> bytes:
        """PEM: VCEK, ASK, ARK."""
        return (self.state.vcek + self.state.ask + self.state.ark).encode()

    def crl(self, now: datetime) -> bytes:
        """The root's CRL, signed at ``now``, valid for a year; DER."""
        return certificates.crl(_certificate(self.state.ark), self.keys.ark, self.state.revoked, now)

    @property
    def chip_id(self) -> bytes:
        """64 bytes; on Turin, zeros follow the first 8."""
        size = TURIN_ID_SIZE if self.state.product.has_fmc else VCEK_ID_SIZE
        return _derive(self.keys.chip, b"kluis snp chip id 1", size).ljust(VCEK_ID_SIZE, b"\0")

    def report(self, launch: Launch, report_data: bytes, vmpl: int | None = None) -> bytes:
        """Sign a report for a guest: 1184 bytes, version 3.

        Args:
            launch: of the guest, as this processor measured it.
            report_data: 64 bytes.
            vmpl: the privilege level that it states; by default the guest's own.

        Raises:
            UsageError: report data of another size, or a level that the guest does not have.
        """
        level = launch.vmpl if vmpl is None else vmpl
        if len(report_data) != 64:
            raise UsageError(f"report_data: want 64 bytes, got {len(report_data)}")
        if not launch.vmpl <= level <= reports.LOWEST_VMPL:
            raise UsageError(f"vmpl: want {launch.vmpl}..{reports.LOWEST_VMPL}, got {level}")
        family, model, stepping = CPUIDS[self.state.product]
        tcb = self.state.tcb.encode()
        major, minor, build = FIRMWARE
        unsigned = ReportV3(
            version=3,
            guest_svn=launch.guest_svn,
            policy=launch.policy.encode(),
            family_id=launch.family_id,
            image_id=launch.image_id,
            vmpl=level,
            signature_algo=ECDSA_P384,
            current_tcb=tcb,
            platform_info=_INFO,
            flags=int(any(launch.author_key_digest)),
            report_data=report_data,
            measurement=launch.measurement,
            host_data=launch.host_data,
            id_key_digest=launch.id_key_digest,
            author_key_digest=launch.author_key_digest,
            report_id=launch.report_id,
            report_id_ma=_NO_AGENT,
            reported_tcb=tcb,
            cpuid_family=family,
            cpuid_model=model,
            cpuid_stepping=stepping,
            chip_id=self.chip_id,
            committed_tcb=tcb,
            current_build=build,
            current_minor=minor,
            current_major=major,
            committed_build=build,
            committed_minor=minor,
            committed_major=major,
            launch_tcb=tcb,
            r=bytes(48),
            s=bytes(48),
        )
        signature = self._vcek().sign(unsigned.encode()[:0x2A0], ec.ECDSA(hashes.SHA384()))
        r, s = (number.to_bytes(48, "little") for number in decode_dss_signature(signature))
        return dataclasses.replace(unsigned, r=r, s=s).encode()

    def answer_report(self, launch: Launch, request: bytes) -> bytes:
        """Answer the request of a guest for a report, as the firmware does: 4000 bytes.

        A request that the firmware would refuse has an answer with a status other than 0.

        Args:
            launch: of the guest.
            request: 96 bytes, untrusted.
        """
        try:
            parsed = ReportRequest.parse(request)
            report = self.report(launch, parsed.report_data, parsed.vmpl)
        except (FormatError, UsageError):
            return reports.refusal(reports.INVALID_PARAMETERS, reports.REPORT_ANSWER_SIZE)
        return reports.report_answer(report)

    def answer_key(self, launch: Launch, request: bytes) -> bytes:
        """Answer the request of a guest for a derived key, as the firmware does: 64 bytes.

        The key depends on this processor, the privilege level and what the guest selects. A guest gets no key
        of a newer version or TCB, or of a more privileged level. There is no migration agent, so no key of
        one.

        Args:
            launch: of the guest.
            request: 32 bytes, untrusted.
        """
        try:
            parsed = KeyRequest.parse(request)
            tcb = TcbVersion.parse(parsed.tcb, self.state.product, "tcb_version")
        except FormatError:
            return reports.refusal(reports.INVALID_PARAMETERS, reports.KEY_ANSWER_SIZE)
        if parsed.root:
            return reports.refusal(reports.INVALID_KEY, reports.KEY_ANSWER_SIZE)
        if (
            not launch.vmpl <= parsed.vmpl <= reports.LOWEST_VMPL
            or parsed.guest_svn > launch.guest_svn
            or not self.state.tcb.reaches(tcb)
        ):
            return reports.refusal(reports.INVALID_PARAMETERS, reports.KEY_ANSWER_SIZE)
        return reports.key_answer(self._key(launch, parsed))

    def recover(self, tcb: TcbVersion, now: datetime) -> None:
        """Update the firmware to ``tcb``: reports are signed by the key of this TCB from now on.

        Raises:
            UsageError: a part is older than now, or the layout is another product's.
        """
        if not tcb.reaches(self.state.tcb):
            raise UsageError(f"recovery: want at least {self.state.tcb}, got {tcb}")
        self.state = dataclasses.replace(self.state, tcb=tcb)
        self._certify(now)

    def revoke(self) -> None:
        """Revoke the ASK: the root's CRL lists it from now on.

        Raises:
            UsageError: the list is full.
        """
        revoked = {*self.state.revoked, _certificate(self.state.ask).serial_number}
        if len(revoked) > MAX_REVOKED:
            raise UsageError(f"revocation: want at most {MAX_REVOKED} serial numbers, got {len(revoked)}")
        self.state = dataclasses.replace(self.state, revoked=tuple(sorted(revoked)))

    def _certify(self, now: datetime) -> None:
        state, tcb = self.state, self.state.tcb
        size = TURIN_ID_SIZE if state.product.has_fmc else VCEK_ID_SIZE
        parts = dataclasses.asdict(tcb)
        spls = {name: svn for name, svn in parts.items() if svn is not None}
        extensions = VekExtensions(
            struct_version=int(state.product.has_fmc),
            product_name=str(state.product),
            spls={**spls, **dict.fromkeys(("spl4", "spl5", "spl6", "spl7"), 0)},
            hw_id=self.chip_id[:size],
        ).encode()
        issuer = _certificate(state.ask)
        made = certificates.vcek(self._vcek().public_key(), extensions, issuer, self.keys.ask, now)
        self.state = dataclasses.replace(state, vcek=issuing.pem(made))

    def _vcek(self) -> ec.EllipticCurvePrivateKey:
        seed = _derive(self.keys.chip, b"kluis snp vcek 1\0" + self.state.tcb.encode(), 56)
        return ec.derive_private_key(int.from_bytes(seed, "big") % (_ORDER - 1) + 1, ec.SECP384R1())

    def _key(self, launch: Launch, request: KeyRequest) -> bytes:
        chosen = {
            Selection.POLICY: launch.policy.encode().to_bytes(8, "little"),
            Selection.IMAGE_ID: launch.image_id,
            Selection.FAMILY_ID: launch.family_id,
            Selection.MEASUREMENT: launch.measurement,
            Selection.GUEST_SVN: request.guest_svn.to_bytes(4, "little"),
            Selection.TCB_VERSION: request.tcb,
        }
        parts = [request.selected.to_bytes(8, "little"), request.vmpl.to_bytes(4, "little")]
        parts += [value if part in request.selected else bytes(len(value)) for part, value in chosen.items()]
        return _derive(
            self.keys.chip, b"kluis snp derived key 1\0" + sha256(b"".join(parts)), reports.KEY_SIZE
        )


def _derive(secret: bytes, info: bytes, size: int) -> bytes:
    return HKDF(algorithm=hashes.SHA384(), length=size, salt=None, info=info).derive(secret)


def _rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, RSA_BITS)


def _certificate(pem: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem.encode())
