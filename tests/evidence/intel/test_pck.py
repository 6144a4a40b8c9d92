"""The profile of each certificate of a PCK chain, one property at a time, and chains of other lengths."""

from __future__ import annotations

import dataclasses
from types import MappingProxyType

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from kluis.errors import AuthenticityError, UnavailableError
from kluis.evidence import Verifier, verify
from kluis.evidence.context import Context
from kluis.evidence.intel import pck
from kluis.formats import x509 as formats
from tests.evidence.forge import Forge, key
from tests.evidence.usages import usage

END_ENTITY = "want an end entity that signs data"
AUTHORITY = "want a CA that signs certificates and CRLs"


def again(
    forge: Forge, given: x509.Certificate, *extensions: x509.ExtensionType, without: type | None = None
) -> x509.Certificate:
    """A certificate issued again, with extensions replaced or left out."""
    issuer = forge.keys.platform_ca if given.issuer == forge.ca.subject else forge.keys.root
    replaced = {each.oid for each in extensions}
    builder = x509.CertificateBuilder(
        given.issuer,
        given.subject,
        given.public_key(),  # type: ignore[arg-type]
        given.serial_number,
        given.not_valid_before_utc,
        given.not_valid_after_utc,
        [
            each
            for each in given.extensions
            if each.oid not in replaced and not (without and isinstance(each.value, without))
        ],
    )
    for each in extensions:
        builder = builder.add_extension(each, critical=True)
    return builder.sign(issuer, SHA256())


def refused(
    forge: Forge,
    leaf: x509.Certificate | None = None,
    ca: x509.Certificate | None = None,
    root: x509.Certificate | None = None,
) -> tuple[str, str]:
    """The code and the words with which a quote under these certificates is refused."""
    quote = forge.with_chain(leaf or forge.leaf(), ca or forge.ca, root or forge.root)
    with pytest.raises(AuthenticityError) as caught:
        forge.verify(quote)
    return caught.value.code, str(caught.value)


LEAVES = {
    "a CA by its constraints alone": x509.BasicConstraints(ca=True, path_length=0),
    "one that may sign certificates": usage("digital_signature", "key_cert_sign"),
    "one that may sign no data": usage("content_commitment"),
}
CAS = {
    "no CA by its constraints": (x509.BasicConstraints(ca=False, path_length=None), AUTHORITY),
    "one that may sign no CRLs": (usage("key_cert_sign"), AUTHORITY),
    "one that may sign CRLs alone": (usage("crl_sign"), AUTHORITY),
    "one without a path length": (
        x509.BasicConstraints(ca=True, path_length=None),
        "want path length 0, got None",
    ),
    "one of another path length": (
        x509.BasicConstraints(ca=True, path_length=1),
        "want path length 0, got 1",
    ),
}


@pytest.mark.parametrize("case", LEAVES)
def test_a_leafs_profile(case: str, forge: Forge) -> None:
    """Each of what makes an end entity that signs data is looked at by itself."""
    leaf = again(forge, forge.leaf(), LEAVES[case])
    assert refused(forge, leaf) == ("cert_profile", f"PCK certificate: {END_ENTITY}")


@pytest.mark.parametrize("case", CAS)
def test_a_cas_profile(case: str, forge: Forge) -> None:
    """Each of what makes a CA that signs certificates and CRLs is looked at by itself."""
    changed, said = CAS[case]
    ca = again(forge, forge.ca, changed)
    assert refused(forge, ca=ca) == ("cert_profile", f"PCK CA certificate: {said}")


@pytest.mark.parametrize("case", [case for case in CAS if "path" not in case])
def test_a_roots_profile(case: str, forge: Forge) -> None:
    """So is what makes a root."""
    changed, said = CAS[case]
    root = again(forge, forge.root, changed)
    assert refused(forge, root=root) == ("cert_profile", f"PCK chain: {said}")


@pytest.mark.parametrize("length", [0, 2])
def test_a_root_of_another_path_length(length: int, forge: Forge) -> None:
    """A root's path is of one CA."""
    root = again(forge, forge.root, x509.BasicConstraints(ca=True, path_length=length))
    said = f"PCK chain: want path length 1, got {length}"
    assert refused(forge, root=root) == ("cert_profile", said)


def test_a_root_without_a_path_length(forge: Forge) -> None:
    """A root need not bound its path: the chain's length is fixed."""
    root = again(forge, forge.root, x509.BasicConstraints(ca=True, path_length=None))
    assert forge.verify(forge.with_chain(forge.leaf(), forge.ca, root)).debug is False


@pytest.mark.parametrize(
    ("kind", "name"), [(x509.KeyUsage, "key usage"), (x509.BasicConstraints, "basic constraints")]
)
def test_certificates_that_do_not_say_what_they_are_for(
    kind: type[x509.ExtensionType], name: str, forge: Forge
) -> None:
    """Without key usage, or without basic constraints, a certificate is for nothing."""
    leaf = again(forge, forge.leaf(), without=kind)
    ca = again(forge, forge.ca, without=kind)
    assert refused(forge, leaf) == ("cert_profile", f"PCK certificate: has no {name}")
    assert refused(forge, ca=ca) == ("cert_profile", f"PCK CA certificate: has no {name}")


def test_a_chain_that_is_too_long(forge: Forge) -> None:
    """A certificate without a role, added to the three, is refused."""
    quote = forge.with_chain(forge.leaf(), forge.ca, forge.root, forge.signer())
    with pytest.raises(AuthenticityError, match=r"^PCK chain: want 3 certificates, got 4$") as caught:
        forge.verify(quote)
    assert caught.value.code == "chain_missing"


def test_a_chain_in_another_order(forge: Forge) -> None:
    """Roles are by name, and the order has no meaning."""
    assert forge.verify(forge.with_chain(forge.root, forge.leaf(), forge.ca)).debug is False


@pytest.mark.parametrize("last", ["A", "z"])
def test_a_root_of_another_name(last: str, forge: Forge) -> None:
    """A CA is of the root that issued it by name too, though its key and the CA are known."""
    name = f"Kluis emulated SGX Root CA (no hardwar{last})"
    assert refused(forge, root=forge.root_ca(common_name=name)) == (
        "pck_chain",
        f"PCK CA certificate: its issuer is not '{name}'",
    )


def test_the_makers_name_begins_a_name(forge: Forge) -> None:
    """A name that has the vendor's in another position is not the vendor's."""
    name = "Not Kluis emulated SGX PCK Platform CA"
    ca = forge.pck_ca(common_name=name)
    assert refused(forge, ca=ca) == (
        "cert_profile",
        f"PCK CA certificate: want a name that begins 'Kluis emulated', got '{name}'",
    )


@pytest.mark.parametrize("greater", [False, True])
def test_a_proven_certificate_under_another_key(greater: bool, forge: Forge) -> None:
    """A certificate signed by an anchor's key is verified under that key, not under one with the same
    name.
    """
    anchor = next(iter(forge.anchors))
    ca = formats.parse(forge.ca.public_bytes(Encoding.DER), "CA")
    knowing = dataclasses.replace(anchor, proven=MappingProxyType({ca.der: ca}))
    while True:  # of keys, half are less than the anchor's
        other = key()
        root = forge.root_ca(public_key=other.public_key(), issuer_key=other)
        given = formats.parse(root.public_bytes(Encoding.DER), "root")
        if (given.spki > anchor.spki) is greater:
            break
    context = Context(forge.anchors)
    true_root = formats.parse(forge.root.public_bytes(Encoding.DER), "root")
    pck.check_ca(ca, true_root, knowing, "PCK CA certificate", context)
    with pytest.raises(
        AuthenticityError, match=r"^PCK CA certificate: is not signed by the key it should be$"
    ):
        pck.check_ca(ca, given, knowing, "PCK CA certificate", context)


@pytest.mark.parametrize("other", [2, 3])
def test_a_quote_without_a_chain_and_nothing_beside_it(other: int, forge: Forge) -> None:
    """Neither chain nor collateral: the first error is that the collateral is missing."""
    quote = forge.requote(certification_type=other)
    with pytest.raises(UnavailableError, match=r"^SGX quote v3: no collateral given: TCB info, QE identity"):
        verify(quote, anchors=forge.anchors, collateral=None, now=forge.now)
    with pytest.raises(UnavailableError, match="no collateral given"):
        Verifier(forge.anchors).verify(quote, collateral=None, now=forge.now)
