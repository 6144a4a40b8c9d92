"""A forger of GPUs, with a test root: evidence with a single fault chosen by the test."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kluis.evidence import Claims, NvidiaEndorsements, ProtectionLevel, TrustAnchors, verify
from kluis.formats.encoding import der
from kluis.formats.ietf.cmw import OCTETS, Collection, Part
from kluis.formats.nvidia import dice
from kluis.formats.nvidia.opaque import Field, Opaque
from kluis.formats.nvidia.report import Report

NOW = datetime(2026, 6, 1, 12, 0, 0, tzinfo=UTC)
DAY = timedelta(days=1)
NONCE = bytes(range(32))
FWID = bytes(range(48, 96))
DRIVER = b"590.12\0"
VBIOS = bytes.fromhex("00a5009601000000")
NAMES = ("LF", "BROM", "NVIDIA GH100 Provisioner ICA 1", "NVIDIA GH100 Identity", "NVIDIA forged root")
DEVICE_NAME = x509.ObjectIdentifier("1.3.6.1.4.1.412.274.1")
SHA384 = der.oid("2.16.840.1.101.3.4.2.2")
ECDSA_SHA384 = "1.2.840.10045.4.3.3"
BASIC_RESPONSE = "1.3.6.1.5.5.7.48.1.1"


def fwid(value: bytes = FWID) -> bytes:
    """One firmware id, DER."""
    return der.element(der.SEQUENCE, SHA384, der.element(der.OCTET_STRING, value))


def composite(value: bytes = FWID) -> x509.UnrecognizedExtension:
    """Hopper's DICE extension."""
    key = der.element(der.SEQUENCE, der.oid("1.2.840.10045.2.1"))
    body = der.element(der.SEQUENCE, der.integer(1), key, fwid(value))
    return x509.UnrecognizedExtension(x509.ObjectIdentifier(dice.COMPOSITE_DEVICE), body)


def tcb_info(value: bytes = FWID, flags: int = 0x80000001) -> x509.UnrecognizedExtension:
    """Blackwell's DICE extension."""
    body = der.element(
        der.SEQUENCE,
        der.element(0x80, b"NVIDIA"),
        der.element(0x83, b"\1"),
        der.element(0xA6, fwid(value), fwid(bytes(48))),
        der.element(0x87, b"\0" + flags.to_bytes(4, "big")),
    )
    return x509.UnrecognizedExtension(x509.ObjectIdentifier(dice.TCB_INFO), body)


def usage(*, sign: bool) -> x509.KeyUsage:
    """Of a leaf that signs reports, or of a CA."""
    return x509.KeyUsage(
        digital_signature=sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=not sign,
        crl_sign=not sign,
        encipher_only=False,
        decipher_only=False,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Link:
    """How one certificate of the chain is made."""

    ca: bool
    path_length: int | None = None
    usage: x509.KeyUsage | None
    extensions: tuple[x509.ExtensionType, ...] = ()
    before: datetime = NOW - DAY
    after: datetime = NOW + 90 * DAY
    issuer: str | None = None
    serial: int | None = None
    hash: hashes.HashAlgorithm = dataclasses.field(default_factory=hashes.SHA384)


class Forge:
    """A root, three CAs below it, and a device."""

    def __init__(self) -> None:
        self.keys: list[ec.EllipticCurvePrivateKey] = [ec.generate_private_key(ec.SECP384R1()) for _ in NAMES]
        self.links = [
            Link(ca=False, usage=usage(sign=True), extensions=(self.device_name(), composite())),
            *(Link(ca=True, usage=usage(sign=False)) for _ in NAMES[1:]),
        ]
        self.certificates = [self.certificate(index) for index in range(len(NAMES))]
        self.anchors = TrustAnchors.from_pem(self.pem(4), ProtectionLevel.HARDWARE_GPU)

    @staticmethod
    def device_name(text: bytes = b"NVIDIA:GH100:48B02DF44660DA06") -> x509.SubjectAlternativeName:
        """The name of a device."""
        return x509.SubjectAlternativeName([x509.OtherName(DEVICE_NAME, der.element(0x0C, text))])

    def certificate(
        self, index: int, key: Any = None, signer: Any = None, **changes: Any
    ) -> x509.Certificate:
        """One certificate of the chain, with changes."""
        link = dataclasses.replace(self.links[index], **changes)
        issuer = link.issuer or NAMES[min(index + 1, len(NAMES) - 1)]
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAMES[index])]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
            .public_key((key or self.keys[index]).public_key())
            .serial_number(1000 + index if link.serial is None else link.serial)
            .not_valid_before(link.before)
            .not_valid_after(link.after)
        )
        if link.ca:
            builder = builder.add_extension(x509.BasicConstraints(True, link.path_length), critical=True)
        if link.usage is not None:
            builder = builder.add_extension(link.usage, critical=True)
        for extension in link.extensions:
            builder = builder.add_extension(extension, critical=False)
        return builder.sign(signer or self.keys[min(index + 1, len(NAMES) - 1)], link.hash)

    def pem(self, index: int) -> bytes:
        """One certificate of the good chain."""
        return self.certificates[index].public_bytes(Encoding.PEM)

    def chain(self, **swapped: x509.Certificate) -> bytes:
        """The chain, PEM, leaf first; ``at0`` and so on put other certificates in place."""
        found = [swapped.get(f"at{i}", one) for i, one in enumerate(self.certificates)]
        return b"".join(one.public_bytes(Encoding.PEM) for one in found)

    def report(self, sign_with: ec.EllipticCurvePrivateKey | None = None, **changes: Any) -> bytes:
        """A report, signed by the leaf's key unless by another."""
        fields = {Field.VBIOS_VERSION: VBIOS, Field.DRIVER_VERSION: DRIVER, Field.FWID: FWID}
        fields |= changes.pop("fields", {})
        digests = changes.pop("digests", tuple(bytes((n,)) * 48 for n in range(3)))
        made = Report(
            **{
                "nonce": NONCE,
                "slot": 0,
                "record": b"".join(
                    bytes((n, 1, 51, 0, 1, 48, 0)) + digest for n, digest in enumerate(digests, 1)
                ),
                "device_nonce": bytes(32),
                "opaque": Opaque({int(k): v for k, v in fields.items() if v is not None}),
                "signature": bytes(96),
                "trailing": b"",
                **changes,
            }
        )
        der_signature = (sign_with or self.keys[0]).sign(made.signed_bytes(), ec.ECDSA(hashes.SHA384()))
        r, s = decode_dss_signature(der_signature)
        return dataclasses.replace(made, signature=r.to_bytes(48, "big") + s.to_bytes(48, "big")).encode()

    def evidence(self, report: bytes | None = None, chain: bytes | None = None) -> bytes:
        """A collection of a report and a chain."""
        return Collection(
            {
                "report": Part(OCTETS, report or self.report()),
                "cert_chain": Part("application/pem-certificate-chain", chain or self.chain()),
            }
        ).encode()

    def verify(
        self, evidence: bytes | None = None, *, ocsp: tuple[bytes, ...] | None = None, now: datetime = NOW
    ) -> Claims:
        """Verify under the forger's own root."""
        collateral = None if ocsp is None else NvidiaEndorsements(ocsp=ocsp)
        data = self.evidence() if evidence is None else evidence
        return verify(data, anchors=self.anchors, collateral=collateral, now=now).value

    def responder(
        self, index: int = 1, **changes: Any
    ) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        """A delegate of the issuer of certificate ``index``, that may sign answers."""
        key = ec.generate_private_key(ec.SECP384R1())
        signs = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.OCSP_SIGNING])
        options = {"ca": False, "usage": usage(sign=True), "extensions": (signs,), **changes}
        return self.certificate(index, key=key, **options), key

    def answer(
        self,
        index: int = 1,
        *,
        status: ocsp.OCSPCertStatus = ocsp.OCSPCertStatus.GOOD,
        reason: x509.ReasonFlags | None = None,
        start: datetime = NOW - DAY / 4,
        end: datetime | None = NOW + DAY,
        signer: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None = None,
        certificates: tuple[x509.Certificate, ...] | None = None,
        encoding: ocsp.OCSPResponderEncoding = ocsp.OCSPResponderEncoding.HASH,
        about: x509.Certificate | None = None,
        issuer: x509.Certificate | None = None,
        signed_by: hashes.HashAlgorithm | None = None,
        change: Callable[[ocsp.OCSPResponseBuilder], ocsp.OCSPResponseBuilder] = lambda builder: builder,
    ) -> bytes:
        """An OCSP response about certificate ``index``, signed by its issuer unless by another.

        ``about`` and ``issuer`` are named in the answer in place of the certificate's own and its issuer's.
        """
        certificate, key = signer or (self.certificates[index + 1], self.keys[index + 1])
        builder = ocsp.OCSPResponseBuilder().add_response(
            cert=about or self.certificates[index],
            issuer=issuer or self.certificates[index + 1],
            algorithm=hashes.SHA1(),
            cert_status=status,
            this_update=start,
            next_update=end,
            revocation_time=start if status is ocsp.OCSPCertStatus.REVOKED else None,
            revocation_reason=reason,
        )
        builder = builder.responder_id(encoding, certificate)
        if certificates is None and signer is not None:
            certificates = (certificate,)
        if certificates:
            builder = builder.certificates(list(certificates))
        return change(builder).sign(key, signed_by or hashes.SHA384()).public_bytes(Encoding.DER)

    def answers(
        self,
        *single: bytes,
        signer: tuple[x509.Certificate, Any] | None = None,
        algorithm: str = ECDSA_SHA384,
    ) -> bytes:
        """The contents of several responses, in one that is signed by their issuer or by ``signer``.

        Args:
            single: responses, about certificate 1.
            signer: a delegate and its key, on a curve or of RSA.
            algorithm: the signature algorithm stated in the response.
        """
        key = self.keys[2] if signer is None else signer[1]
        name, made = b"", b""
        listed: list[bytes] = []
        for response in single:
            name, made, said = _children(ocsp.load_der_ocsp_response(response).tbs_response_bytes)
            listed += _children(said)
        if signer is not None:
            name = der.element(0xA1, signer[0].subject.public_bytes())
        signed = der.element(der.SEQUENCE, name, made, der.element(der.SEQUENCE, *listed))
        arguments = (
            (padding.PKCS1v15(), hashes.SHA384())
            if isinstance(key, rsa.RSAPrivateKey)
            else (ec.ECDSA(hashes.SHA384()),)
        )
        basic = der.element(
            der.SEQUENCE,
            signed,
            der.element(der.SEQUENCE, der.oid(algorithm)),
            der.element(der.BIT_STRING, b"\0", key.sign(signed, *arguments)),
            *(
                ()
                if signer is None
                else (der.element(0xA0, der.element(der.SEQUENCE, signer[0].public_bytes(Encoding.DER))),)
            ),
        )
        body = der.element(der.SEQUENCE, der.oid(BASIC_RESPONSE), der.element(der.OCTET_STRING, basic))
        return der.element(der.SEQUENCE, der.integer(0, der.ENUMERATED), der.element(0xA0, body))


def _children(data: bytes) -> list[bytes]:
    """The elements within the element that ``data`` is."""
    content, found = der.parse(data, "element").content, []
    while content:
        _, _, end = der.bounds(content, 0, len(content), "element")
        found.append(content[:end])
        content = content[end:]
    return found
