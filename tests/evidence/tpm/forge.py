"""A TPM and its vendors, made by hand: keys, certificates and quotes, each wrong in one way on request."""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

from cryptography import x509
from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.kdf.kbkdf import KBKDFHMAC, CounterLocation, Mode
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID, ObjectIdentifier

from kluis.evidence import ProtectionLevel, TrustAnchors
from kluis.formats.ietf import cmw
from kluis.formats.tpm import pcrs
from kluis.formats.tpm.algorithm import RSAPSS, RSASSA, HashId
from kluis.formats.tpm.attest import Clock, Quote, Selection
from kluis.formats.tpm.endorsements import TpmEndorsements
from kluis.formats.tpm.public import Attribute, EcPublic, Public, RsaPublic
from kluis.formats.tpm.signature import EcdsaSignature, RsaSignature, Signature
from tests.evidence.usages import usage as usages_of
from tests.keys import next_rsa_key

NOW = datetime(2026, 6, 1, tzinfo=UTC)
AK_USAGE = "2.23.133.8.3"
EK_USAGE = "2.23.133.8.1"
PRIVATE: TypeAlias = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
ATTRIBUTES = (
    Attribute.FIXED_TPM
    | Attribute.FIXED_PARENT
    | Attribute.SENSITIVE_DATA_ORIGIN
    | Attribute.USER_WITH_AUTH
    | Attribute.RESTRICTED
    | Attribute.SIGN
)
HASHES: dict[HashId, hashes.HashAlgorithm] = {
    HashId.SHA1: hashes.SHA1(),
    HashId.SHA256: hashes.SHA256(),
    HashId.SHA384: hashes.SHA384(),
    HashId.SHA512: hashes.SHA512(),
}
CLOCK = Clock(milliseconds=5, reset_count=1, restart_count=2, safe=1, firmware_version=7)


def rsa_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    return next_rsa_key(bits)


def spki(key: PRIVATE) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def pem(key: PRIVATE) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def area(key: PRIVATE, attributes: int = ATTRIBUTES, scheme: int | None = None) -> Public:
    """The public area of a key."""
    numbers: Any = key.public_key().public_numbers()
    held: RsaPublic | EcPublic
    hashed = HashId.SHA256 if scheme else None
    if isinstance(key, rsa.RSAPrivateKey):
        modulus = numbers.n.to_bytes(key.key_size // 8, "big")
        held = RsaPublic(scheme=scheme, hash=hashed, bits=key.key_size, exponent=0, modulus=modulus)
    else:
        x, y = numbers.x.to_bytes(32, "big"), numbers.y.to_bytes(32, "big")
        held = EcPublic(scheme=scheme, hash=hashed, curve=3, x=x, y=y)
    return Public(name_hash=HashId.SHA256, attributes=attributes, policy=b"", key=held)


EK_ATTRIBUTES = (
    Attribute.FIXED_TPM
    | Attribute.FIXED_PARENT
    | Attribute.SENSITIVE_DATA_ORIGIN
    | Attribute.ADMIN_WITH_POLICY
    | Attribute.RESTRICTED
    | Attribute.DECRYPT
)


def ek_area(key: PRIVATE, attributes: int = EK_ATTRIBUTES, **changes: Any) -> Public:
    """The public area of an endorsement key."""
    return dataclasses.replace(area(key, attributes), **{"policy": bytes(32), "symmetric": 128, **changes})


def activate(data: bytes, ek: PRIVATE, ek_public: Public, name: bytes) -> bytes:
    """What a TPM does with a credential for one of its keys, written from the specification."""
    size = int.from_bytes(data[8:10], "big")
    identity, encrypted = data[10 : 10 + size], data[12 + size :]
    hashed = ek_public.name_hash
    if isinstance(ek, rsa.RSAPrivateKey):
        algorithm = HASHES[hashed]
        oaep = padding.OAEP(padding.MGF1(algorithm), algorithm, b"IDENTITY\0")
        seed = ek.decrypt(encrypted, oaep)
    else:
        x, y = (int.from_bytes(encrypted[at : at + 32], "big") for at in (2, 36))
        point = ec.EllipticCurvePublicNumbers(x, y, ek.curve)
        parts = (ek.exchange(ec.ECDH(), point.public_key()), b"IDENTITY\0", encrypted[2:34])
        own = ek.public_key().public_numbers().x.to_bytes(32, "big")
        seed = hashlib.new(hashed.label, b"\0\0\0\1" + b"".join(parts) + own).digest()
    mac, sealed = identity[2 : 2 + hashed.size], identity[2 + hashed.size :]

    def derive(label: bytes, context: bytes, bits: int) -> bytes:
        fixed = label + b"\0" + context + bits.to_bytes(4, "big")
        return KBKDFHMAC(
            HASHES[hashed], Mode.CounterMode, bits // 8, 4, None, CounterLocation.BeforeFixed,
            None, None, fixed,
        ).derive(seed)  # fmt: skip

    if mac != hmac.digest(derive(b"INTEGRITY", b"", 8 * hashed.size), sealed + name, hashed.label):
        raise ValueError("TPM_RC_INTEGRITY")
    stream = Cipher(AES(derive(b"STORAGE", name, ek_public.symmetric or 0)), CFB(bytes(16))).decryptor()
    return (stream.update(sealed) + stream.finalize())[2:]


def sign(key: PRIVATE, message: bytes, hashed: HashId = HashId.SHA256, *, pss: bool = False) -> Signature:
    """What the TPM signs."""
    algorithm = HASHES[hashed]
    if isinstance(key, ec.EllipticCurvePrivateKey):
        r, s = decode_dss_signature(key.sign(message, ec.ECDSA(algorithm)))
        return EcdsaSignature(hashed, *(n.to_bytes((n.bit_length() + 7) // 8, "big") for n in (r, s)))
    pad: Any = padding.PKCS1v15()
    if pss:
        pad = padding.PSS(padding.MGF1(algorithm), algorithm.digest_size)
    return RsaSignature(RSAPSS if pss else RSASSA, hashed, key.sign(message, pad, algorithm))


def quote(
    values: pcrs.Values,
    selections: tuple[Selection, ...],
    *,
    nonce: bytes = b"nonce",
    hashed: HashId = HashId.SHA256,
) -> Quote:
    """A quote over values."""
    joined = b"".join(values[s.bank][index] for s in selections for index in s.indices)
    return Quote(
        qualified_signer=b"\x00\x0b" + bytes(32),
        extra_data=nonce,
        clock=CLOCK,
        selections=selections,
        pcr_digest=hashlib.new(hashed.label, joined).digest(),
    )


def collection(parts: Mapping[str, bytes]) -> bytes:
    return cmw.Collection({name: cmw.Part(cmw.OCTETS, value) for name, value in parts.items()}).encode()


VALUES: pcrs.Values = {
    HashId.SHA1: {10: b"\x10" * 20},
    HashId.SHA256: {index: bytes([index]) * 32 for index in range(24)},
}
SELECTED = (Selection.of(HashId.SHA256, 0, 1, 7),)


@dataclasses.dataclass
class Tpm:
    """An attestation key, and what it quotes."""

    key: PRIVATE
    values: pcrs.Values = dataclasses.field(default_factory=lambda: VALUES)
    selections: tuple[Selection, ...] = SELECTED
    nonce: bytes = b"nonce"

    def evidence(self, hashed: HashId = HashId.SHA256, *, pss: bool = False, **parts: bytes) -> bytes:
        """A collection; parts replace or join those of a true quote, and empty ones leave it."""
        message = quote(self.values, self.selections, nonce=self.nonce, hashed=hashed).encode()
        message = parts.get("tpm_quote", message)
        made = {
            "tpm_quote": message,
            "tpm_signature": sign(self.key, message, hashed, pss=pss).encode(),
            "pcrs": pcrs.dumps(self.values),
            **parts,
        }
        return collection({name: value for name, value in made.items() if value})

    def named(self, level: ProtectionLevel | None = ProtectionLevel.VTPM) -> TrustAnchors:
        """The anchors of a relying party that names this key."""
        return TrustAnchors.from_pem(pem(self.key), level)


def name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


class Maker:
    """A TPM vendor: root, CA, and certificates for attestation keys, good 30 days before ``now`` and
    after.
    """

    def __init__(self, now: datetime = NOW) -> None:
        self.now = now
        self.root_key: PRIVATE = ec.generate_private_key(ec.SECP384R1())
        self.ca_key: PRIVATE = rsa_key()
        self.root = self.certificate("Maker Root", self.root_key, "Maker Root", self.root_key, length=1)
        self.ca = self.certificate("Maker CA", self.ca_key, "Maker Root", self.root_key, length=0)

    def certificate(
        self,
        subject: str,
        key: PRIVATE,
        issuer: str,
        signer: PRIVATE,
        *,
        length: int | None = None,
        ca: bool = True,
        usage: bool | None = True,
        crls: bool = True,
        usages: tuple[str, ...] = (),
        bit: str = "digital_signature",
        start: datetime | None = None,
        end: datetime | None = None,
        serial: int = 7,
    ) -> x509.Certificate:
        """Any certificate; ``usage`` False gives it no bit that its kind needs, None no key usage at all."""
        bits = {
            "key_cert_sign" if ca else bit: bool(usage),
            "crl_sign": ca and crls,
            "content_commitment": not usage,
        }
        builder = (
            x509.CertificateBuilder()
            .subject_name(name(subject))
            .issuer_name(name(issuer))
            .public_key(key.public_key() if hasattr(key, "public_key") else key)
            .serial_number(serial)
            .not_valid_before(start or self.now - timedelta(days=30))
            .not_valid_after(end or self.now + timedelta(days=30))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=length if ca else None), critical=True)
        )
        if usage is not None:
            stated = usages_of(*(name for name, on in bits.items() if on))
            builder = builder.add_extension(stated, critical=True)
        if usages:
            oids = [ObjectIdentifier(dotted) for dotted in usages]
            builder = builder.add_extension(x509.ExtendedKeyUsage(oids), critical=False)
        return builder.sign(signer, hashes.SHA256())

    def ak(self, key: PRIVATE, **changes: Any) -> x509.Certificate:
        """A certificate for an attestation key."""
        options = {"ca": False, "usages": (AK_USAGE,), "serial": 9, **changes}
        return self.certificate("an AK", key, options.pop("issuer", "Maker CA"), self.ca_key, **options)

    def ek(self, key: Any, **changes: Any) -> x509.Certificate:
        """A certificate for an endorsement key."""
        options = {"ca": False, "usages": (EK_USAGE,), "serial": 9, "bit": "key_encipherment", **changes}
        return self.certificate("an EK", key, options.pop("issuer", "Maker CA"), self.ca_key, **options)

    def crl(
        self,
        *revoked: int,
        issuer: str = "Maker CA",
        signer: PRIVATE | None = None,
        start: datetime | None = None,
    ) -> bytes:
        """The CA's CRL, or another's."""
        begin = start or NOW - timedelta(days=1)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(name(issuer))
            .last_update(begin)
            .next_update(begin + timedelta(days=7))
            .add_extension(x509.CRLNumber(1), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.ca_key.public_key()), critical=False
            )
        )
        for serial in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(begin).build()
            builder = builder.add_revoked_certificate(entry)
        return builder.sign(signer or self.ca_key, hashes.SHA256()).public_bytes(Encoding.DER)

    def endorse(
        self, leaf: x509.Certificate, *chain: x509.Certificate, crls: tuple[bytes, ...] = ()
    ) -> TpmEndorsements:
        """The endorsements of a quote."""
        issuers = chain or (self.ca, self.root)
        return TpmEndorsements(
            certificate=leaf.public_bytes(Encoding.DER),
            chain=b"".join(c.public_bytes(Encoding.PEM) for c in issuers),
            crls=crls,
        )

    @property
    def anchors(self) -> TrustAnchors:
        return TrustAnchors.from_pem(self.root.public_bytes(Encoding.PEM), ProtectionLevel.VTPM)
