"""Trust anchors: hardware by shipping, emulation by naming a file."""

from __future__ import annotations

import base64
import dataclasses
import pkgutil

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import CertificateBuilder

from kluis.errors import (
    AuthenticityError,
    FormatError,
    InternalError,
    KluisError,
    UnsupportedError,
    UsageError,
)
from kluis.evidence import OPENSSL, ProtectionLevel, TrustAnchors, anchors
from kluis.evidence.roots import SHIPPED_ROOTS, Root
from kluis.formats import x509
from tests.evidence.forge import Forge, key, pem
from tests.keys import rsa_key


def test_shipped_anchors_are_hardware() -> None:
    """No emulated root is among the shipped anchors."""
    anchors = list(TrustAnchors.shipped())
    assert ProtectionLevel.HARDWARE_SGX in {anchor.level for anchor in anchors}
    assert all(anchor.level.hardware or anchor.level is ProtectionLevel.VTPM for anchor in anchors)
    assert not any(anchor.emulated for anchor in anchors)


@pytest.mark.parametrize("entry", SHIPPED_ROOTS, ids=lambda entry: entry.file)
def test_roots_are_pinned(entry: Root) -> None:
    """A shipped file whose key does not match the SHA-256 in its entry is our bug."""
    anchors._load(entry)
    with pytest.raises(InternalError):
        anchors._load(dataclasses.replace(entry, pin="00" * 32))


def test_emulated_root_names_its_level(forge: Forge) -> None:
    """An emulated root gives the level in its subject."""
    (anchor,) = forge.anchors
    assert (anchor.level, anchor.vendor) == (ProtectionLevel.PROCESS, "Kluis emulated")
    assert anchor.emulated
    assert anchor.name.startswith("Kluis emulated SGX Root CA (no hardware) sha256:")
    assert not anchor.level.hardware


def _refused(data: bytes) -> tuple[type[KluisError], str, str]:
    with pytest.raises(KluisError) as caught:
        TrustAnchors.from_pem(data)
    return type(caught.value), caught.value.code, str(caught.value)


def test_refused_roots(forge: Forge) -> None:
    """A root file must be one self-signed certificate, of a known vendor and level."""
    hardware = forge.root_ca(unit="hardware-sgx")
    known = "'Kluis emulated SGX Root CA (no hardware)' is no emulated platform's root that names its level"
    assert _refused(b"") == (FormatError, "truncated", "root certificate: holds no certificate")
    assert _refused(pem(forge.root, forge.root)) == (
        FormatError,
        "bad_length",
        "root certificate: want 1 certificate, got 2",
    )
    assert _refused(pem(hardware)) == (UnsupportedError, "bad_type", f"root certificate: {known}")
    assert _refused(pem(forge.root_ca(unit=None))) == (
        UnsupportedError,
        "bad_type",
        f"root certificate: {known}",
    )
    assert _refused(pem(forge.root_ca(issuer_key=key()))) == (
        AuthenticityError,
        "root_untrusted",
        "root certificate: is not signed by the key it should be",
    )


@pytest.mark.parametrize("name", ["A root", "Z root"])
def test_a_root_of_ones_own(name: str, forge: Forge) -> None:
    """A root of any name is believed at the level that is stated, and is nobody's emulation."""
    own = key()
    root = pem(forge.root_ca(common_name=name, public_key=own.public_key(), issuer_key=own))
    (anchor,) = TrustAnchors.from_pem(root, ProtectionLevel.VTPM)
    assert (anchor.level, anchor.vendor, anchor.emulated) == (ProtectionLevel.VTPM, name[0], False)


@pytest.mark.parametrize("name", ["A root", "Z root"])
def test_a_root_that_another_names(name: str, forge: Forge) -> None:
    """A certificate that its own key signed, in another's name, is no root, whichever name is less."""
    own = key()
    issuer = forge.root_ca(common_name=name, public_key=own.public_key(), issuer_key=own)
    made = forge.root_ca(
        common_name="M root", public_key=own.public_key(), issuer=issuer, issuer_key=own, unit="process"
    )
    assert _refused(pem(made)) == (
        AuthenticityError,
        "root_untrusted",
        "root certificate: is not signed by the key it should be",
    )


@pytest.mark.parametrize("level", ProtectionLevel)
def test_which_levels_there_are_for_whom(level: ProtectionLevel, forge: Forge) -> None:
    """An operator's root names one of three levels; of an unknown root, any of the others may be stated."""
    own = {"process-user", "process", "vm"}
    emulated, unknown = pem(forge.root_ca(unit=level)), pem(forge.root_ca(common_name="A Root"))
    if level in own:
        assert next(iter(TrustAnchors.from_pem(emulated))).level is level
        with pytest.raises(UsageError):
            TrustAnchors.from_pem(unknown, level)
    else:
        assert _refused(emulated)[0] is UnsupportedError
        assert next(iter(TrustAnchors.from_pem(unknown, level))).level is level


def test_unknown_roots_have_the_level_that_is_stated(forge: Forge) -> None:
    """The user states the level of an unknown root; by default it has none."""
    data = pem(forge.root_ca(common_name="Intel SGX Root CA"))
    (unsaid,) = TrustAnchors.from_pem(data)
    assert (unsaid.level, unsaid.vendor) == (ProtectionLevel.NONE, "Intel")
    assert unsaid.name.startswith("Intel SGX Root CA sha256:")
    (stated,) = TrustAnchors.from_pem(data, ProtectionLevel.HARDWARE_SGX)
    assert stated.level is ProtectionLevel.HARDWARE_SGX
    with pytest.raises(UsageError, match=r"^root level: want one of none, vtpm, hardware-"):
        TrustAnchors.from_pem(data, ProtectionLevel.PROCESS)
    with pytest.raises(UnsupportedError):
        TrustAnchors.from_pem(pem(forge.root), ProtectionLevel.HARDWARE_SGX)


def test_a_named_roots_certificate_is_known(forge: Forge) -> None:
    """Its self-signature is checked when it is named, and only for these bytes."""
    root, another = (pem(forge.root_ca(common_name=f"{each} root")) for each in ("One", "Another"))
    anchors = TrustAnchors.from_pem(root)
    (der,), (other,) = (x509.split_pem(each, "root") for each in (root, another))
    proven = anchors.proven(der)
    assert proven is not None
    assert proven.der == der
    assert anchors.proven(other) is None
    assert TrustAnchors.from_pem(another).proven(der) is None


def test_a_name_that_only_holds_ours_is_anybodys(forge: Forge) -> None:
    """A root whose name does not begin as an emulated one's has no implied level."""
    (anchor,) = TrustAnchors.from_pem(pem(forge.root_ca(common_name="A Kluis emulated SGX Root CA")))
    assert (anchor.level, anchor.emulated) == (ProtectionLevel.NONE, False)


def test_a_known_key_is_of_its_scheme_alone() -> None:
    """A key that anchors know, once loaded, is given for the scheme that it was loaded for, and no other."""
    anchors = TrustAnchors.shipped()
    spki = next(certificate.spki for anchor in anchors for certificate in anchor.proven.values())
    loaded = anchors.key(spki, x509.Scheme.ES256, OPENSSL)
    assert loaded is not None
    assert anchors.key(spki, x509.Scheme.ES256, OPENSSL) is loaded
    assert anchors.key(spki, x509.Scheme.ES384, OPENSSL) is not loaded


def test_a_bare_key_of_a_makers_root_is_the_makers() -> None:
    """A shipped root that is named only by its key is the shipped anchor, too."""
    intel = TrustAnchors.shipped().anchors[0]
    text = b"\n".join(
        (b"-----BEGIN PUBLIC KEY-----", base64.encodebytes(intel.spki).strip(), b"-----END PUBLIC KEY-----")
    )
    (anchor,) = TrustAnchors.from_pem(text)
    assert anchor is intel


def test_a_bare_key_is_an_anchor() -> None:
    """A key without a certificate is believed by naming it."""
    data = key().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (anchor,) = TrustAnchors.from_pem(data, ProtectionLevel.HARDWARE_CCA)
    assert (anchor.level, anchor.vendor) == (ProtectionLevel.HARDWARE_CCA, "")
    assert TrustAnchors.from_pem(data).match(anchor.spki) is not None


def test_a_makers_root_keeps_its_name() -> None:
    """A shipped root that is named by its file is the shipped anchor."""
    data = pkgutil.get_data("kluis.evidence", "roots/intel-sgx.pem") or b""
    (anchor,) = TrustAnchors.from_pem(data)
    assert anchor is TrustAnchors.shipped().anchors[0]


def test_no_anchor_is_a_mistake() -> None:
    """A relying party that believes nobody has made a mistake."""
    with pytest.raises(UsageError) as caught:
        TrustAnchors(())
    assert str(caught.value) == "trust anchors: want at least 1, got 0"


def test_union(forge: Forge) -> None:
    """Two sets of anchors are believed together."""
    both = TrustAnchors.shipped() | forge.anchors
    assert {anchor.vendor for anchor in both} >= {"Intel", "Kluis emulated"}
    first = next(iter(both))
    assert both.match(first.spki) is first
    assert both.match(bytes(65)) is None


def test_certificates_that_a_key_signed() -> None:
    """The certificates listed for a shipped key were signed by it; a mismatch is our bug."""
    intel = next(entry for entry in SHIPPED_ROOTS if entry.issued)
    anchor = anchors._load(intel)
    assert len(anchor.proven) > 1
    for der, certificate in anchor.proven.items():
        assert TrustAnchors((anchor,)).proven(der) is certificate
        assert TrustAnchors((anchor,)).chain(x509.write_pem(der)) == (
            (certificate,) if certificate.spki == anchor.spki else None
        )
    other = next(entry for entry in SHIPPED_ROOTS if entry.vendor == "AMD")
    with pytest.raises(InternalError, match="is not of its root"):
        anchors._load(dataclasses.replace(intel, issued=other.file))


def test_chains_as_they_are_usually_written() -> None:
    """A chain of proven certificates is known as it is written, its root last, and in no other order."""
    anchors = TrustAnchors.shipped()
    (anchor,) = (each for each in anchors if each.name == "Intel SGX Root CA")
    roots = [each for each in anchor.proven.values() if each.spki == anchor.spki]
    for each in anchor.proven.values():
        for root in roots:
            written = x509.write_pem(each.der) + x509.write_pem(root.der)
            known = each.spki != anchor.spki
            assert anchors.chain(written) == ((each, root) if known else None)
            assert anchors.chain(x509.write_pem(root.der) + x509.write_pem(each.der)) is None
            assert x509.split_pem(written, "it") == (each.der, root.der)
    assert anchors.chain(b"") is None
    assert anchors.proven(b"") is None


def test_a_root_signed_in_another_keys_scheme(forge: Forge) -> None:
    """A root whose signature is of a scheme that its own key cannot make did not sign itself."""
    own = rsa_key()
    good = forge.root
    builder = CertificateBuilder(
        good.subject,
        good.subject,
        good.public_key(),
        1,
        good.not_valid_before_utc,
        good.not_valid_after_utc,
        list(good.extensions),
    )
    assert _refused(pem(builder.sign(own, SHA256()))) == (
        AuthenticityError,
        "root_untrusted",
        "root certificate: is not signed by the key it should be",
    )


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize("blank", [b"\n", b"\r\n"])
def test_blank_lines_after_a_root_take_no_memory(blank: bytes, forge: Forge) -> None:
    """64 MiB of blank lines after a root are passed over, and not kept."""
    data = pem(forge.root) + blank * ((64 << 20) // len(blank))
    assert TrustAnchors.from_pem(data) == forge.anchors
