"""A forger with a test AMD: reports and chains with a single fault chosen by the test."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from kluis.evidence import Anchor, Claims, ProtectionLevel, SnpClaims, SnpEndorsements, TrustAnchors, verify
from kluis.formats.snp.extensions import VekExtensions
from kluis.formats.snp.report import Report
from kluis.formats.snp.tcb import Product, TcbVersion
from tests.evidence.usages import usage
from tests.formats.snp import samples
from tests.keys import next_rsa_key

NOW: Final = datetime(2026, 6, 1, 12, tzinfo=UTC)
YEAR: Final = timedelta(days=365)
CSP: Final = "CN=cc-us-east-2.amazonaws.com"
CPUIDS: Final = {"Milan": (0x19, 0x01, 1), "Genoa": (0x19, 0x11, 1), "Turin": (0x1A, 0x02, 1)}
PSS: Final = padding.PSS(mgf=padding.MGF1(hashes.SHA384()), salt_length=48)


@cache
def rsa_key(name: str) -> rsa.RSAPrivateKey:
    """The same key for the same name."""
    return next_rsa_key()


class Forge:
    """An authority for one product, and one chip, or one cloud, under it.

    Args:
        product: of both.
        vlek: whether a cloud's key signs, and not the chip's.
        emulated: whether the names say that no hardware is behind it.
        now: certificates are good for a year before and after.
    """

    def __init__(
        self, product: str = "Milan", *, vlek: bool = False, emulated: bool = False, now: datetime = NOW
    ) -> None:
        self.now = now
        self.product, self.vlek, self.emulated = Product(product), vlek, emulated
        self.ark_key, self.ask_key = rsa_key("ARK"), rsa_key("ASK")
        self.vek_key = ec.generate_private_key(ec.SECP384R1())
        spare = {} if self.product.has_fmc else {"spl4": 0}
        fmc = {"fmc": 2} if self.product.has_fmc else {}
        parts = {"boot_loader": 4, "tee": 1, "snp": 24, **spare, "spl5": 0, "spl6": 0, "spl7": 0}
        self.spls = {**parts, "microcode": 219, **fmc}
        self.tcb = TcbVersion(fmc=fmc.get("fmc"), boot_loader=4, tee=1, snp=24, microcode=219)
        self.hw_id = samples.CHIP_ID[:8] if self.product.has_fmc else samples.CHIP_ID
        self.chip_id = self.hw_id.ljust(64, b"\0")
        self.ark = self.make_ark()
        self.ask = self.make_ask()
        self.vek = self.make_vek()
        self.anchors = self._anchors()

    def _anchors(self) -> TrustAnchors:
        if self.emulated:
            return TrustAnchors.from_pem(self.ark.public_bytes(Encoding.PEM))
        anchor = Anchor(
            name=f"forged ARK-{self.product}",
            vendor="AMD",
            spki=spki(self.ark_key),
            level=ProtectionLevel.HARDWARE_SNP,
            product=self.product,
        )
        return TrustAnchors((anchor,))

    @property
    def validity(self) -> dict[str, datetime]:
        """From when until when a certificate is good."""
        return {"start": self.now - YEAR, "end": self.now + YEAR}

    def name(self, name: str) -> str:
        """A common name, as this authority writes it."""
        return f"Kluis emulated {name} (no hardware)" if self.emulated else name

    def make_ark(self, **changed: Any) -> x509.Certificate:
        """The root, with arguments of its issue replaced."""
        return _issue(
            {
                "name": self.name(f"ARK-{self.product}"),
                "key": self.ark_key,
                "issuer": None,
                "issuer_key": self.ark_key,
                "serial": 65536,
                "ca": True,
                "usage": {"key_cert_sign", "crl_sign"},
                "unit": "vm" if self.emulated else "Engineering",
                **self.validity,
                **changed,
            }
        )

    def make_ask(self, **changed: Any) -> x509.Certificate:
        """The ASK or ASVK, with arguments of its issue replaced."""
        kind = "SEV-VLEK" if self.vlek else "SEV"
        return _issue(
            {
                "name": self.name(f"{kind}-{self.product}"),
                "key": self.ask_key,
                "issuer": self.ark,
                "issuer_key": self.ark_key,
                "serial": 65537,
                "ca": True,
                "path_length": 0,
                "usage": {"key_cert_sign"},
                **self.validity,
                **changed,
            }
        )

    def extensions(self, **changed: Any) -> VekExtensions:
        """The extensions of the VCEK or VLEK, with fields replaced."""
        fields: dict[str, Any] = {
            "struct_version": 0,
            "product_name": f"{self.product}-B0" if self.product is Product.MILAN else str(self.product),
            "spls": self.spls,
            "hw_id": None if self.vlek else self.hw_id,
            "csp_id": CSP if self.vlek else None,
        }
        return VekExtensions(**{**fields, **changed})

    def make_vek(self, extensions: VekExtensions | None = None, **changed: Any) -> x509.Certificate:
        """The VCEK or VLEK, with arguments of its issue replaced."""
        return _issue(
            {
                "name": self.name("SEV-VLEK" if self.vlek else "SEV-VCEK"),
                "key": self.vek_key,
                "issuer": self.ask,
                "issuer_key": self.ask_key,
                "serial": 1,
                "values": (extensions or self.extensions()).encode(),
                **self.validity,
                **changed,
            }
        )

    def crl(self, *serials: int, **changed: Any) -> bytes:
        """The root's CRL, which lists ``serials``."""
        fields: dict[str, Any] = {
            "issuer": self.ark,
            "key": self.ark_key,
            "start": NOW - YEAR,
            "end": NOW + YEAR,
        }
        fields |= changed
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(fields["issuer"].subject)
            .last_update(fields["start"])
            .next_update(fields["end"])
            .add_extension(x509.CRLNumber(4), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(fields["key"].public_key()), critical=False
            )
        )
        for serial in serials:
            revoked = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(NOW - YEAR)
            builder = builder.add_revoked_certificate(revoked.build())
        made = builder.sign(fields["key"], hashes.SHA384(), rsa_padding=PSS)
        return made.public_bytes(Encoding.DER)

    def endorsements(self, **changed: Any) -> SnpEndorsements:
        """Good endorsements without a CRL, with parts replaced: certificates, bytes or None."""
        parts = {"vek": self.vek, "ask": self.ask, "ark": self.ark, "crl": None, **changed}
        return SnpEndorsements(**{name: _bytes(part) for name, part in parts.items()})

    def fields(self, version: int = 3, **changed: Any) -> Report:
        """A report's fields, unsigned."""
        cpuid = CPUIDS[self.product]
        raw = self.tcb.encode()
        good: dict[str, Any] = {
            "flags": 0x04 if self.vlek else 0,
            "chip_id": bytes(64) if self.vlek else self.chip_id,
            **dict.fromkeys(("current_tcb", "reported_tcb", "committed_tcb", "launch_tcb"), raw),
        }
        if version > 2:
            good |= {"cpuid_family": cpuid[0], "cpuid_model": cpuid[1], "cpuid_stepping": cpuid[2]}
        return samples.make(version, **{**good, **changed})

    def report(self, version: int = 3, **changed: Any) -> bytes:
        """A report, with fields changed, signed."""
        return sign(self.fields(version, **changed).encode(), self.vek_key)

    def verify(
        self, report: bytes | None = None, endorsements: SnpEndorsements | None = None, **other: Any
    ) -> Claims:
        """Verify, by default with everything good."""
        given = {"anchors": self.anchors, "now": NOW, **other}
        data = self.report() if report is None else report
        return verify(data, collateral=endorsements or self.endorsements(), **given).value

    def claims(self, **changed: Any) -> SnpClaims:
        """SNP's own claims of a report with fields changed."""
        vendor = self.verify(self.report(**changed)).vendor
        assert isinstance(vendor, SnpClaims)
        return vendor


def sign(data: bytes, key: ec.EllipticCurvePrivateKey) -> bytes:
    """A report's bytes with the signature of ``key`` put in."""
    r, s = decode_dss_signature(key.sign(data[:0x2A0], ec.ECDSA(hashes.SHA384())))
    return with_signature(data, r, s)


def with_signature(data: bytes, r: int, s: int) -> bytes:
    """A report's bytes with this signature put in: two little-endian numbers."""
    return b"".join((data[:0x2A0], r.to_bytes(72, "little"), s.to_bytes(72, "little"), bytes(368)))


def spki(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    """DER of a public key."""
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def changed(report: bytes, at: int, value: bytes) -> bytes:
    """A report's bytes with some replaced, without a new signature."""
    return report[:at] + value + report[at + len(value) :]


def replace(report: bytes, **fields: Any) -> bytes:
    """A report with fields replaced, without a new signature."""
    from kluis.formats.snp import report as snp_report

    return dataclasses.replace(snp_report.parse(report), **fields).encode()


def _bytes(part: x509.Certificate | bytes | None) -> bytes | None:
    return part.public_bytes(Encoding.DER) if isinstance(part, x509.Certificate) else part


def _issue(fields: dict[str, Any]) -> x509.Certificate:
    unit = fields.get("unit", "Engineering")
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit),
            x509.NameAttribute(NameOID.COMMON_NAME, fields["name"]),
        ]
    )
    issuer = fields["issuer"]
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(fields["key"].public_key())
        .serial_number(fields["serial"])
        .not_valid_before(fields.get("start", NOW - YEAR))
        .not_valid_after(fields.get("end", NOW + YEAR))
    )
    if "ca" in fields:
        constraints = x509.BasicConstraints(fields["ca"], fields.get("path_length"))
        builder = builder.add_extension(constraints, critical=True)
    if fields.get("usage") is not None:
        builder = builder.add_extension(usage(*fields["usage"]), critical=True)
    for oid, value in fields.get("values", {}).items():
        unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value)
        builder = builder.add_extension(unknown, critical=False)
    rsa_padding = fields.get("padding", PSS)
    return builder.sign(fields["issuer_key"], fields.get("hash", hashes.SHA384()), rsa_padding=rsa_padding)
