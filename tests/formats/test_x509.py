"""Certificates and CRLs: fields out, and nothing foreign escapes."""

from __future__ import annotations

import base64
from datetime import timedelta

import pytest
from cryptography import x509 as pyca
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given

from kluis.errors import FormatError, KluisError, UnsupportedError
from kluis.formats import x509
from kluis.tee.platform import issuing
from tests.evidence.forge import NOW, Forge, pem
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
    assert (parsed.ca, parsed.path_length, parsed.signs_data) == (False, None, True)
    assert (parsed.signs_certificates, parsed.signs_crls) == (False, False)
    assert list(parsed.extensions) == ["1.2.840.113741.1.13.1"]
    assert parsed.not_after - parsed.not_before == timedelta(days=3650)
    assert parsed.point[:1] == b"\x04"
    assert len(parsed.point) == 65
    root = x509.parse(FORGE.root.public_bytes(Encoding.DER), "it")
    assert (root.ca, root.path_length, root.unit, root.signs_crls) == (True, 1, "process", True)


def test_crl_fields() -> None:
    """A CRL's serials are whole, of any length."""
    crl = x509.parse_crl(CRL, "it")
    assert crl.revoked == {5, 1 << 158}
    assert crl.next_update - crl.this_update == timedelta(days=30)


def _certificate(key: object, digest: object, *extensions: tuple[pyca.ExtensionType, bool]) -> bytes:
    name = pyca.Name([pyca.NameAttribute(pyca.NameOID.COMMON_NAME, "x")])
    builder = pyca.CertificateBuilder(name, name, key.public_key(), 1, NOW, NOW + timedelta(days=1))  # type: ignore[attr-defined]
    for value, critical in extensions:
        builder = builder.add_extension(value, critical)
    return builder.sign(key, digest).public_bytes(Encoding.DER)  # type: ignore[arg-type]


P256 = ec.generate_private_key(ec.SECP256R1())
BASIC = (pyca.BasicConstraints(False, None), True)
UNKNOWN = (pyca.UnrecognizedExtension(pyca.ObjectIdentifier("1.2.3"), b"\x05\x00"), True)
USAGE = (issuing._key_usage(ca=False), True)

REFUSED = {
    "noise": (b"noise", FormatError, None),
    "P-384": (
        _certificate(ec.generate_private_key(ec.SECP384R1()), SHA256()),
        UnsupportedError,
        "it: want a P-256 key",
    ),
    "RSA": (
        _certificate(rsa.generate_private_key(65537, 2048), SHA256()),
        UnsupportedError,
        "it: want a P-256 key",
    ),
    "SHA-384": (
        _certificate(P256, SHA384()),
        UnsupportedError,
        "it: want ECDSA with SHA-256, got 1.2.840.10045.4.3.3",
    ),
    "no constraints": (_certificate(P256, SHA256(), USAGE), FormatError, "it: has no basic constraints"),
    "no usage": (_certificate(P256, SHA256(), BASIC), FormatError, "it: has no key usage"),
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
        (_bare_crl(SHA384()), "it: want ECDSA with SHA-256, got 1.2.840.10045.4.3.3"),
    ],
    ids=["large", "bare", "numbered", "SHA-384"],
)
def test_refuses_crls(data: bytes, message: str) -> None:
    """A CRL must be signed in the one algorithm and say whose it is."""
    with pytest.raises(FormatError) as caught:
        x509.parse_crl(data, "it")
    assert str(caught.value) == message


def test_crl_without_an_end() -> None:
    """A CRL that never runs out is refused: it would hide every later one."""
    from kluis.formats import der

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
