"""The links of a chain: name and signature, root, revocation, time."""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from kluis.errors import AuthenticityError, FreshnessError, KluisError
from kluis.evidence import TrustAnchors, chain
from kluis.evidence.context import Context
from kluis.formats import x509
from kluis.formats.x509 import Certificate, Scheme
from tests.evidence.forge import NOW, Forge


def _read(forge: Forge, name: str) -> Certificate:
    return x509.parse(getattr(forge, name).public_bytes(Encoding.DER), name)


def test_issued(forge: Forge) -> None:
    """An issuer is identified by its name and its key; either by itself is not enough."""
    root, ca = _read(forge, "root"), _read(forge, "ca")
    context = Context(forge.anchors)
    arguments = {"schemes": (Scheme.ES256,), "context": context, "code": "pck_chain"}
    chain.check_issued(ca, root, "CA", **arguments)  # type: ignore[arg-type]
    with pytest.raises(AuthenticityError, match=r"^CA: its issuer is not 'Kluis emulated SGX PCK") as caught:
        chain.check_issued(ca, ca, "CA", **arguments, name_code="crl_issuer")  # type: ignore[arg-type]
    assert caught.value.code == "crl_issuer"
    impostor = x509.parse(Forge().root.public_bytes(Encoding.DER), "root")
    with pytest.raises(AuthenticityError, match=r"^CA: is not signed by the key it should be$"):
        chain.check_issued(ca, impostor, "CA", **arguments)  # type: ignore[arg-type]
    with pytest.raises(
        AuthenticityError, match=r"^CA: want RSASSA-PSS with SHA-384, got ECDSA with SHA-256$"
    ):
        chain.check_issued(ca, root, "CA", **{**arguments, "schemes": (Scheme.PS384,)})  # type: ignore[arg-type]


def test_root(forge: Forge) -> None:
    """A root without an anchor is refused, and the message lists the anchors."""
    root = _read(forge, "root")
    assert chain.match_root(root, Context(forge.anchors), "chain").level == "process"
    with pytest.raises(AuthenticityError, match=r"^chain: want root Intel SGX Root CA") as caught:
        chain.match_root(root, Context(TrustAnchors.shipped()), "chain")
    assert caught.value.code == "root_untrusted"


def test_revoked(forge: Forge) -> None:
    """A serial on its issuer's list is refused."""
    ca = _read(forge, "ca")
    clean = x509.parse_crl(forge.crl("root", ca.serial + 1), "CRL")
    chain.not_revoked(ca, clean, "CA")
    with pytest.raises(AuthenticityError, match=r"^CA: serial 0x[0-9a-f]+ is revoked$"):
        chain.not_revoked(ca, x509.parse_crl(forge.crl("root", ca.serial), "CRL"), "CA")


@pytest.mark.parametrize(
    ("offset", "code"), [(-1, "crl_not_yet_valid"), (0, None), (30, None), (31, "crl_expired")]
)
def test_time(offset: int, code: str | None) -> None:
    """Both ends of a window belong to it."""
    window = (NOW, NOW + timedelta(days=30), NOW + timedelta(days=offset))
    if code is None:
        chain.in_time("CRL", *window, kind="crl")
        return
    with pytest.raises(FreshnessError) as caught:
        chain.in_time("CRL", *window, kind="crl")
    assert caught.value.code == code


def test_a_certificates_time(forge: Forge) -> None:
    """A certificate before its time has its own code."""
    root = _read(forge, "root")
    chain.valid(root, "root", NOW)
    with pytest.raises(KluisError) as caught:
        chain.valid(root, "root", NOW - timedelta(days=9000))
    assert caught.value.code == "cert_not_yet_valid"
