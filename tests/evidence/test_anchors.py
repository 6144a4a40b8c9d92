"""Trust anchors: hardware by shipping, emulation by naming a file."""

from __future__ import annotations

import pytest

from kluis.errors import AuthenticityError, FormatError, KluisError, UnsupportedError, UsageError
from kluis.evidence import ProtectionLevel, TrustAnchors
from kluis.evidence.anchors import INTEL_SGX_ROOT, INTEL_SGX_ROOT_SHA256
from kluis.hashes import sha256
from tests.evidence.forge import Forge, key, pem


def test_shipped_anchors_are_hardware() -> None:
    """No emulated root is among the shipped anchors."""
    assert [anchor.level for anchor in TrustAnchors.shipped()] == [ProtectionLevel.HARDWARE_SGX]
    assert all(anchor.level.hardware for anchor in TrustAnchors.shipped())


def test_intels_root_is_pinned() -> None:
    """The shipped key is the one whose SHA-256 is written beside it."""
    assert sha256(INTEL_SGX_ROOT).hex() == INTEL_SGX_ROOT_SHA256


def test_emulated_root_names_its_level(forge: Forge) -> None:
    """An emulated root gives the level in its subject."""
    (anchor,) = forge.anchors
    assert (anchor.level, anchor.maker) == (ProtectionLevel.PROCESS, "Kluis emulated")
    assert anchor.name.startswith("Kluis emulated SGX Root CA (no hardware) sha256:")
    assert not anchor.level.hardware


def _refused(data: bytes) -> tuple[type[KluisError], str]:
    with pytest.raises(KluisError) as caught:
        TrustAnchors.from_pem(data)
    return type(caught.value), str(caught.value)


def test_refused_roots(forge: Forge) -> None:
    """A root file must be one certificate, of a known maker and level, signed by itself."""
    hardware = forge.root_ca(unit="hardware-sgx")
    known = "'Kluis emulated SGX Root CA (no hardware)' is no emulated platform's root that names its level"
    assert _refused(b"") == (FormatError, "root certificate: holds no certificate")
    assert _refused(pem(forge.root, forge.root)) == (
        FormatError,
        "root certificate: want 1 certificate, got 2",
    )
    assert _refused(pem(hardware)) == (UnsupportedError, f"root certificate: {known}")
    assert _refused(pem(forge.root_ca(unit=None))) == (UnsupportedError, f"root certificate: {known}")
    assert _refused(pem(forge.root_ca(common_name="Intel SGX Root CA"))) == (
        UnsupportedError,
        "root certificate: 'Intel SGX Root CA' is no emulated platform's root that names its level",
    )
    assert _refused(pem(forge.root_ca(issuer_key=key()))) == (
        AuthenticityError,
        "root certificate: is not signed by the key it should be",
    )


def test_no_anchor_is_a_mistake() -> None:
    """A relying party that believes nobody has made a mistake."""
    with pytest.raises(UsageError) as caught:
        TrustAnchors(())
    assert str(caught.value) == "trust anchors: want at least 1, got 0"


def test_union(forge: Forge) -> None:
    """Two sets of anchors are believed together."""
    both = TrustAnchors.shipped() | forge.anchors
    assert [anchor.maker for anchor in both] == ["Intel", "Kluis emulated"]
    assert both.match(INTEL_SGX_ROOT) is next(iter(both))
    assert both.match(bytes(65)) is None
