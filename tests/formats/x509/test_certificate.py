"""Certificates and CRLs: fields out, and nothing foreign escapes."""

from __future__ import annotations

import base64
from datetime import timedelta

import pytest
from cryptography import x509 as pyca
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding
from cryptography.hazmat.primitives.hashes import SHA3_256, SHA256, SHA384
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given

from kluis.authority import issuing
from kluis.errors import FormatError, KluisError, UnsupportedError
from kluis.formats import x509
from kluis.formats.x509 import KeyKind, PublicKey, Scheme
from kluis.formats.x509 import scheme as scheme_module
from tests.evidence.forge import NOW, Forge, pem
from tests.keys import rsa_key
from tests.strategies import PROPERTY, mutations

FORGE = Forge()
LEAF = FORGE.leaf()
DER = LEAF.public_bytes(Encoding.DER)
CRL = FORGE.crl("platform_ca", 5, 1 << 158)


def test_fields() -> None:
    """A certificate's fields are what the library reads."""
    parsed = x509.parse(DER, "it")
    assert parsed.common_name == "Kluis emulated SGX PCK Certificate (no hardware)"
    assert (parsed.serial, parsed.unit) == (LEAF.serial_number, None)
    assert (parsed.subject, parsed.issuer) == (LEAF.subject.public_bytes(), FORGE.ca.subject.public_bytes())
    assert (parsed.ca, parsed.path_length) == (False, None)
    assert parsed.usage is not None
    assert parsed.usage.digital_signature
    assert (parsed.usage.key_cert_sign, parsed.usage.crl_sign) == (False, False)
    assert "1.2.840.113741.1.13.1" in parsed.extensions
    assert parsed.not_after - parsed.not_before == timedelta(days=3650)
    assert parsed.point[:1] == b"\x04"
    assert len(parsed.point) == 65
    root = x509.parse(FORGE.root.public_bytes(Encoding.DER), "it")
    assert (root.ca, root.path_length, root.unit) == (True, 1, "process")
    assert root.usage is not None
    assert root.usage.crl_sign


def test_crl_fields() -> None:
    """A CRL's serials are whole, of any length."""
    crl = x509.parse_crl(CRL, "it")
    assert set(crl.revoked) == {5, 1 << 158}
    assert crl.next_update - crl.this_update == timedelta(days=30)


def _certificate(key: object, digest: object, *extensions: tuple[pyca.ExtensionType, bool]) -> bytes:
    name = pyca.Name([pyca.NameAttribute(pyca.NameOID.COMMON_NAME, "x")])
    builder = pyca.CertificateBuilder(name, name, key.public_key(), 1, NOW, NOW + timedelta(days=1))  # type: ignore[attr-defined]
    for value, critical in extensions:
        builder = builder.add_extension(value, critical)
    return builder.sign(key, digest).public_bytes(Encoding.DER)  # type: ignore[arg-type]


P256 = ec.generate_private_key(ec.SECP256R1())
RSA = rsa_key()
BASIC = (pyca.BasicConstraints(False, None), True)
UNKNOWN = (pyca.UnrecognizedExtension(pyca.ObjectIdentifier("1.2.3"), b"\x05\x00"), True)
USAGE = (issuing.key_usage(ca=False, content_commitment=True), True)

REFUSED = {
    "noise": (b"noise", FormatError, None),
    "Ed25519": (_certificate(ed25519.Ed25519PrivateKey.generate(), None), UnsupportedError, None),
    "secp256k1": (_certificate(ec.generate_private_key(ec.SECP256K1()), SHA256()), UnsupportedError, None),
    "SHA3": (_certificate(P256, SHA3_256()), UnsupportedError, None),
    "critical and unknown": (
        _certificate(P256, SHA256(), UNKNOWN),
        UnsupportedError,
        "it: critical extension 1.2.3 is not known",
    ),
    "large": (bytes(16385), FormatError, "it: is 16385 bytes, must be at most 16384"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(name: str) -> None:
    """What is no certificate of the one algorithm, with the fields it needs, is refused."""
    data, error, message = REFUSED[name]
    with pytest.raises(FormatError) as caught:
        x509.parse(data, "it")
    assert type(caught.value) is error
    assert message is None or str(caught.value) == message


@pytest.mark.parametrize(
    ("own", "digest", "scheme", "kind"),
    [
        (P256, SHA256(), Scheme.ES256, KeyKind.P256),
        (ec.generate_private_key(ec.SECP384R1()), SHA384(), Scheme.ES384, KeyKind.P384),
        (ec.generate_private_key(ec.SECP521R1()), SHA384(), Scheme.ES384, KeyKind.P521),
        (RSA, SHA384(), Scheme.RS384, KeyKind.RSA),
    ],
    ids=["P-256", "P-384", "P-521", "RSA"],
)
def test_kinds(own: object, digest: object, scheme: Scheme, kind: KeyKind) -> None:
    """Keys and signatures of vendors are distinguished; a certificate needs no constraints to be read."""
    parsed = x509.parse(_certificate(own, digest), "it")
    assert (parsed.scheme, parsed.public_key.kind, parsed.usage, parsed.ca) == (scheme, kind, None, False)
    oracle = own.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined]
    assert parsed.spki == oracle
    assert x509.parse_public_key(oracle, "key") == parsed.public_key
    if kind is KeyKind.RSA:
        with pytest.raises(UnsupportedError):
            _ = parsed.point
        numbers = RSA.public_key().public_numbers()
        assert PublicKey.of_rsa(numbers.n, numbers.e) == parsed.public_key
    else:
        assert PublicKey.of_point(kind, parsed.point) == parsed.public_key


@pytest.mark.parametrize("trailer", [False, True], ids=["default left out", "default written"])
def test_pss(trailer: bool) -> None:
    """RSASSA-PSS with SHA-384 is one scheme, in both ways of writing its parameters; salt counts."""
    name = pyca.Name([pyca.NameAttribute(pyca.NameOID.COMMON_NAME, "x")])
    builder = pyca.CertificateBuilder(name, name, RSA.public_key(), 1, NOW, NOW + timedelta(days=1))

    def made(salt: int) -> bytes:
        scheme = padding.PSS(padding.MGF1(SHA384()), salt)
        return builder.sign(RSA, SHA384(), rsa_padding=scheme).public_bytes(Encoding.DER)

    data = made(48)
    written = bytes.fromhex("a203020130a303020101")
    if trailer and written not in data:
        short, long = scheme_module._pss(384, trailer=False), scheme_module._pss(384, trailer=True)
        assert scheme_module.scheme_of(long, "it") is scheme_module.scheme_of(short, "it") is Scheme.PS384
        return
    assert x509.parse(data, "it").scheme is Scheme.PS384
    with pytest.raises(UnsupportedError):
        x509.parse(made(20), "it")


def test_two_common_names() -> None:
    """A subject with two common names could be found under either."""
    name = pyca.Name([pyca.NameAttribute(pyca.NameOID.COMMON_NAME, text) for text in "ab"])
    builder = pyca.CertificateBuilder(name, name, P256.public_key(), 1, NOW, NOW + timedelta(days=1))
    for value, critical in (BASIC, USAGE):
        builder = builder.add_extension(value, critical)
    data = builder.sign(P256, SHA256()).public_bytes(Encoding.DER)
    with pytest.raises(FormatError, match=r"^it: subject has 2 of one attribute, want 1$"):
        x509.parse(data, "it")


def _bare_crl(digest: object = None, *extensions: pyca.ExtensionType) -> bytes:
    builder = pyca.CertificateRevocationListBuilder(FORGE.ca.subject, NOW, NOW + timedelta(days=1))
    for value in extensions:
        builder = builder.add_extension(value, critical=False)
    return builder.sign(P256, digest or SHA256()).public_bytes(Encoding.DER)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (bytes((1 << 20) + 1), "it: is 1048577 bytes, must be at most 1048576"),
        (_bare_crl(), "it: has no CRL number or authority key identifier"),
        (_bare_crl(None, pyca.CRLNumber(1)), "it: has no CRL number or authority key identifier"),
    ],
    ids=["large", "bare", "numbered"],
)
def test_refuses_crls(data: bytes, message: str) -> None:
    """A CRL must be signed in the one algorithm and say whose it is."""
    with pytest.raises(FormatError) as caught:
        x509.parse_crl(data, "it")
    assert str(caught.value) == message


def test_crl_without_an_end() -> None:
    """A CRL that never runs out is refused: it would hide every later one."""
    from kluis.formats.encoding import der

    elements = [der.parse(CRL, "it")]
    content = elements[0].content
    ends = [pos for pos in range(len(content)) if content[pos : pos + 2] == b"\x17\x0d"]
    second = ends[1]
    body_start = 4 if content[1] & 0x80 == 0x82 & 0x80 and content[1] == 0x82 else 3
    body = content[body_start:second] + content[second + 15 :]
    tbs_size = int.from_bytes(content[2:body_start], "big") - 15
    tbs = der.element(der.SEQUENCE, body[:tbs_size])
    cut = der.element(der.SEQUENCE, tbs, body[tbs_size:])
    with pytest.raises(FormatError) as caught:
        x509.parse_crl(cut, "it")
    assert (str(caught.value), caught.value.code) == ("it: has no next update", "crl_expired")


def test_pem() -> None:
    """A chain splits into its certificates; one NUL may end it."""
    chain = pem(LEAF, FORGE.ca, FORGE.root)
    want = tuple(c.public_bytes(Encoding.DER) for c in (LEAF, FORGE.ca, FORGE.root))
    assert x509.split_pem(chain, "it") == want
    assert x509.split_pem(chain + b"\0", "it") == want
    assert x509.split_pem(chain.replace(b"\n", b"\r\n"), "it") == want
    assert [c.der for c in x509.parse_pem(chain, "it")] == list(want)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "it: holds no certificate"),
        (b"\0", "it: holds no certificate"),
        (b"x" + pem(LEAF), "it at 0x0: is not a PEM certificate"),
        (pem(LEAF) + b"\0\0", f"it at {len(pem(LEAF)):#x}: is not a PEM certificate"),
        (pem(LEAF) * 5, "it: more than 4 certificates"),
        (pem(LEAF).replace(b"CERTIFICATE", b"PRIVATE KEY"), "it at 0x0: is not a PEM certificate"),
        (
            b"-----BEGIN CERTIFICATE-----\nAAA\n-----END CERTIFICATE-----\n",
            "it at 0x0: is not base64",
        ),
        (
            b"-----BEGIN CERTIFICATE-----\n" + base64.b64encode(b"x") + b"\n-----END CERTIFICATE-----\n",
            None,
        ),
    ],
    ids=range(8),
)
def test_refuses_pem(data: bytes, message: str | None) -> None:
    """Anything between, before or after the certificates is refused."""
    with pytest.raises(FormatError) as caught:
        x509.parse_pem(data, "it")
    assert message is None or str(caught.value) == message


@PROPERTY
@given(mutations(DER, FORGE.root.public_bytes(Encoding.DER)))
def test_only_our_errors(data: bytes) -> None:
    """No foreign exception leaves the reader of certificates, nor that of CRLs."""
    for read in (x509.parse, x509.parse_crl):
        try:
            assert read(data, "it").der == data
        except KluisError:
            continue


@PROPERTY
@given(mutations(CRL))
def test_only_our_errors_of_crls(data: bytes) -> None:
    """The same for mutated CRLs."""
    try:
        assert x509.parse_crl(data, "it").der == data
    except KluisError:
        return
