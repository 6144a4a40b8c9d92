"""A forger with a test certificate authority: evidence with a single fault chosen by the test."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from kluis.authority import issuing
from kluis.evidence import Claims, Collateral, HeldCollateral, TrustAnchors, verify
from kluis.evidence.intel import collateral as holding
from kluis.formats.kluis import launch, runtime_data
from kluis.formats.kluis.launch import LaunchConfiguration
from kluis.formats.kluis.runtime_data import Purpose, RuntimeData
from kluis.formats.sgx import quote as sgx_quote
from kluis.formats.sgx.quote import BODY_TYPES, TEE_SGX, TEE_TDX, Body, Quote
from kluis.formats.sgx.report import ReportBody
from kluis.hashes import sha256
from kluis.tee.platform.root import quoting, reports
from kluis.tee.platform.root.authority import Authority
from kluis.tee.platform.root.quoting import PlatformKeys

NOW = datetime(2026, 6, 1, 12, 0, 0, tzinfo=UTC)
IMAGE = bytes(range(32))
SIGNER = bytes(range(100, 132))
NONCE = bytes.fromhex("9f02aa77") * 4
FLAGS = 0x85
DEBUG = 0x87


class Forge:
    """One authority, one platform, and every key of both."""

    def __init__(self, level: str = "process", now: datetime = NOW) -> None:
        self.now = now
        self.authority = Authority.create(level, now)
        self.keys = self.authority.keys
        self.platform = PlatformKeys.create(self.authority, now)
        self.root = x509.load_pem_x509_certificate(self.authority.root_pem())
        self.ca = x509.load_pem_x509_certificate(self.authority.state.platform_ca.encode())
        self.anchors = TrustAnchors.from_pem(self.authority.root_pem())
        self.runtime = RuntimeData(
            purpose=Purpose.CLI, image_id=IMAGE, nonce=NONCE, payload=b"payload"
        ).encode()
        self.launch = LaunchConfiguration(
            heap_bytes=1 << 29,
            threads=8,
            grants=(),
            missing=(),
            counter="unwitnessed",
            level=level,
            platform=bytes(32),
        ).encode()

    def body(self, **changes: Any) -> ReportBody:
        """The report body of the forger's enclave."""
        fields: dict[str, Any] = {
            "cpusvn": self.platform.cpusvn,
            "flags": FLAGS,
            "mrenclave": IMAGE,
            "mrsigner": SIGNER,
            "isvprodid": 7,
            "isvsvn": 3,
            "configid": launch.config_id(self.launch),
            "report_data": runtime_data.report_data(self.runtime),
        }
        return reports.make_report_body(**{**fields, **changes})

    def quote(self, body: ReportBody | None = None) -> bytes:
        """A good quote."""
        return quoting.make_quote(body or self.body(), self.platform)

    def collateral(self, **changes: bytes) -> Collateral:
        """Good collateral, with parts replaced."""
        good = Collateral.from_json(json.dumps(self.authority.collateral(self.now)).encode())
        return dataclasses.replace(good, **changes)

    def held(self) -> HeldCollateral:
        """Good collateral, verified."""
        return holding.hold(self.collateral(), self.anchors)

    def verify(
        self, quote: bytes | None = None, collateral: Collateral | HeldCollateral | None = None, **other: Any
    ) -> Claims:
        """Verify, by default with everything good."""
        given = {"anchors": self.anchors, "now": self.now, **other}
        return verify(quote or self.quote(), collateral=collateral or self.collateral(), **given).value

    def quote_of(self, body: Body, version: int) -> bytes:
        """A good quote of this version of an enclave or a trust domain."""
        given = sgx_quote.parse(Forge.quote(self))
        tee = TEE_SGX if isinstance(body, ReportBody) else TEE_TDX
        header = dataclasses.replace(given.header, version=version, tee_type=tee, qe_svn=0, pce_svn=0)
        number = next(number for number, (_, kind) in BODY_TYPES.items() if kind is type(body))
        descriptor = number.to_bytes(2, "little") + body.SIZE.to_bytes(4, "little") if version == 5 else b""
        signed = header.encode() + descriptor + body.encode()
        signature = issuing.sign(self.platform.attestation, signed)
        return dataclasses.replace(
            given, header=header, body=body, signed=signed, signature=signature
        ).encode()

    def requote(self, **changes: Any) -> bytes:
        """A good quote with parts replaced, without a new signature."""
        return dataclasses.replace(sgx_quote.parse(self.quote()), **changes).encode()

    def with_header(self, **changes: Any) -> bytes:
        """A quote whose header is changed and signed."""
        good = sgx_quote.parse(self.quote())
        signed = dataclasses.replace(good.header, **changes).encode() + good.signed[48:]
        return self.requote(signed=signed, signature=issuing.sign(self.platform.attestation, signed))

    def with_qe(self, **changes: Any) -> bytes:
        """A quote whose quoting enclave's report is changed and signed by the PCK."""
        report = dataclasses.replace(ReportBody.parse(self.platform.qe_report), **changes).encode()
        return self.requote(qe_report_bytes=report, qe_signature=issuing.sign(self.platform.pck, report))

    def with_attestation_key(self, point: bytes) -> bytes:
        """A quote with another attestation key, properly bound, and the old signature."""
        bound = sha256(point + self.platform.auth_data) + bytes(32)
        good: Quote = sgx_quote.parse(self.with_qe(report_data=bound))
        return dataclasses.replace(good, attestation_key=point).encode()

    def with_chain(self, *certificates: x509.Certificate) -> bytes:
        """A quote with these certificates."""
        chain = "".join(map(issuing.pem, certificates)).encode()
        return self.requote(certification_data=chain)

    def leaf(self, **changes: Any) -> x509.Certificate:
        """A PCK certificate, with arguments of its issue replaced."""
        given = x509.load_pem_x509_certificates(self.platform.chain)[0]
        sgx = given.extensions.get_extension_for_oid(x509.ObjectIdentifier("1.2.840.113741.1.13.1"))
        fields: dict[str, Any] = {
            "common_name": "Kluis emulated SGX PCK Certificate (no hardware)",
            "public_key": self.platform.pck.public_key(),
            "issuer": self.ca,
            "issuer_key": self.keys.platform_ca,
            "now": self.now,
            "sgx": sgx.value.value,
        }
        return _issue({**fields, **changes})

    def pck_ca(self, **changes: Any) -> x509.Certificate:
        """A PCK CA certificate, with arguments of its issue replaced."""
        fields: dict[str, Any] = {
            "common_name": "Kluis emulated SGX PCK Platform CA (no hardware)",
            "public_key": self.keys.platform_ca.public_key(),
            "issuer": self.root,
            "issuer_key": self.keys.root,
            "now": self.now,
            "path_length": 0,
        }
        return _issue({**fields, **changes})

    def root_ca(self, **changes: Any) -> x509.Certificate:
        """A root certificate over the same key, with arguments of its issue replaced."""
        fields: dict[str, Any] = {
            "common_name": "Kluis emulated SGX Root CA (no hardware)",
            "public_key": self.keys.root.public_key(),
            "issuer": None,
            "issuer_key": self.keys.root,
            "now": self.now,
            "path_length": 1,
            "unit": "process",
        }
        return _issue({**fields, **changes})

    def signer(self, **changes: Any) -> x509.Certificate:
        """A TCB signing certificate, with arguments of its issue replaced."""
        fields: dict[str, Any] = {
            "common_name": "Kluis emulated SGX TCB Signing (no hardware)",
            "public_key": self.keys.tcb_signing.public_key(),
            "issuer": self.root,
            "issuer_key": self.keys.root,
            "now": self.now,
        }
        return _issue({**fields, **changes})

    def crl(self, issuer: str, *serials: int, now: datetime | None = None, days: int = 30) -> bytes:
        """A CRL of ``root`` or ``platform_ca`` that lists ``serials``."""
        certificate = self.root if issuer == "root" else self.ca
        return issuing.crl(
            certificate,
            getattr(self.keys, issuer),
            now or self.now,
            life=timedelta(days=days),
            revoked=[(serial, self.now) for serial in serials],
        )

    def with_tcb_info(self, change: Callable[[dict[str, Any]], object]) -> Collateral:
        """Collateral whose TCB info is changed and signed."""
        return self._resigned("tcb_info", change)

    def with_identity(self, change: Callable[[dict[str, Any]], object]) -> Collateral:
        """Collateral whose QE identity is changed and signed."""
        return self._resigned("qe_identity", change)

    def _resigned(self, name: str, change: Callable[[dict[str, Any]], object]) -> Collateral:
        good = self.collateral()
        document = json.loads(getattr(good, name))
        change(document)
        return dataclasses.replace(good, **self.signed(name, document))

    def signed(self, name: str, document: dict[str, Any]) -> dict[str, bytes]:
        """A document of the collateral, written and signed again."""
        data = json.dumps(document, separators=(",", ":")).encode()
        return {name: data, f"{name}_signature": issuing.sign(self.keys.tcb_signing, data)}


def pem(*certificates: x509.Certificate) -> bytes:
    """Certificates as one PEM chain."""
    return "".join(map(issuing.pem, certificates)).encode()


def key() -> ec.EllipticCurvePrivateKey:
    """A key of nobody's."""
    return ec.generate_private_key(ec.SECP256R1())


def _issue(fields: dict[str, Any]) -> x509.Certificate:
    return issuing.issue(**fields)
