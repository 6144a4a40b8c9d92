"""Parts that say what they are, and bundles that say what they hold."""

from __future__ import annotations

import dataclasses

import pytest

from kluis.collateral import bundle, contents
from kluis.errors import FormatError, UsageError
from kluis.formats import x509
from kluis.formats.sgx.collateral import Collateral
from kluis.formats.snp.endorsements import Endorsements
from tests.evidence.azure.forge import AzureForge
from tests.evidence.forge import Forge
from tests.meta.corpus import samples


def test_a_chain_may_have_two_roles(forge: Forge) -> None:
    """One TCB signing chain serves TCB info and identity, unless another is named for one of them."""
    chain = forge.collateral().tcb_info_issuer_chain
    assert bundle.roles_of(chain) == ("tcb_info_issuer_chain", "qe_identity_issuer_chain")
    assert bundle.roles_of(forge.collateral().pck_crl_issuer_chain) == ("pck_crl_issuer_chain",)


def test_crls_are_told_apart(forge: Forge) -> None:
    """A CRL is the root's or the PCK CA's by its issuer."""
    assert bundle.roles_of(forge.crl("root")) == ("root_ca_crl",)
    assert bundle.roles_of(forge.crl("platform_ca")) == ("pck_crl",)


def test_a_chain_that_endorses_nothing(forge: Forge) -> None:
    """Certificates without a vendor's role are refused."""
    from tests.evidence.forge import pem

    for chain in (pem(forge.leaf(), forge.root), pem(forge.ca), pem(forge.signer())):
        with pytest.raises(FormatError) as caught:
            bundle.roles_of(chain)
        assert caught.value.code == "bad_type"


@pytest.mark.parametrize("der", [False, True])
def test_a_pck_certificate_alone(forge: Forge, der: bool) -> None:
    """A PCK certificate, as Intel's service gives it, makes a chain with who issued it and its CRL."""
    from cryptography.hazmat.primitives.serialization import Encoding

    from tests.evidence.forge import pem

    leaf = forge.leaf()
    data = leaf.public_bytes(Encoding.DER) if der else pem(leaf)
    assert bundle.roles_of(data) == (bundle.PCK_LEAF,)
    parts = {**samples.files(forge), bundle.PCK_LEAF: data}
    del parts["quote"]
    made = bundle.join(parts)
    assert isinstance(made, Collateral)
    assert made.pck_certificate_chain is not None
    held = x509.parse_pem(made.pck_certificate_chain, "chain")
    assert [each.der for each in held] == [
        each.public_bytes(Encoding.DER) for each in (leaf, forge.ca, forge.root)
    ]
    whole = pem(leaf, forge.ca, forge.root)
    both = bundle.join({**parts, bundle.PCK: whole})
    assert isinstance(both, Collateral)
    assert both.pck_certificate_chain == whole


def test_a_certificate_that_endorses_nothing_is_told_as_one(forge: Forge) -> None:
    """DER of a certificate without a role is refused as that, and not as a malformed CRL."""
    from cryptography.hazmat.primitives.serialization import Encoding

    with pytest.raises(FormatError, match=r"^part: a certificate of '.*TCB Signing.*' endorses nothing$"):
        bundle.roles_of(forge.signer().public_bytes(Encoding.DER))


def test_too_large() -> None:
    """A part past 1 MiB is refused before it is read."""
    with pytest.raises(FormatError) as caught:
        bundle.roles_of(bytes(2 << 20))
    assert caught.value.code == "too_large"


@pytest.mark.parametrize(
    "roles",
    [(), ("tcb_info", "ark"), ("something",), ("ask", "asvk", "ark")],
    ids=["none", "both vendors", "unknown", "two CAs"],
)
def test_parts_of_one_maker(roles: tuple[str, ...]) -> None:
    """Parts of no vendor, of two, of an unknown role, or of two CAs make no bundle."""
    with pytest.raises(UsageError):
        bundle.join(dict.fromkeys(roles, b"x"))


def test_amd_parts() -> None:
    """AMD's parts become endorsements, as many as there are; an ASVK takes the place of an ASK."""
    made = bundle.join({"endorsement_key": b"vek", "asvk": b"asvk", "ark": b"ark"})
    assert made == Endorsements(vek=b"vek", ask=b"asvk", ark=b"ark", crl=None)


def test_a_crl_of_another_ca_says_so(forge: Forge) -> None:
    """A CRL whose issuer is not in the bundle is shown as such, not under another's name."""
    odd = dataclasses.replace(
        forge.collateral(), pck_crl_issuer_chain=forge.collateral().tcb_info_issuer_chain
    )
    lines = {line.part: line for line in contents.describe(odd)}
    assert lines["pck_crl"].issuer == "no certificate of the bundle"
    assert lines["root_ca_crl"].issuer == "Kluis emulated SGX Root CA (no hardware)"


def test_a_bundle_of_an_azure_vm() -> None:
    """The endorsements of an Azure VM's evidence are shown part by part: hardware's, and the vTPM key's."""
    azure = AzureForge()
    key = azure.maker.endorse(azure.maker.ak(azure.ak), azure.maker.ca, azure.maker.root)
    given = azure.endorsements(ak=key)
    read = bundle.parse(given.to_json())
    assert read == given
    parts = [line.part for line in contents.describe(read)]
    assert parts == [
        *("snp.vek", "snp.ask", "snp.ark"),
        *("tdx.tcb_info", "tdx.qe_identity", "tdx.pck_crl", "tdx.root_ca_crl"),
        *("ak", "ak", "ak"),
    ]


def test_who_signed_each_certificate_is_named() -> None:
    """AMD's certificates, and those above a vTPM's key, are listed under their issuers, not their
    subjects.
    """
    azure = AzureForge()
    leaf = azure.maker.ak(azure.ak)
    read = azure.endorsements(ak=azure.maker.endorse(leaf, azure.maker.ca, azure.maker.root))
    told = [(line.part, line.issuer, line.about.partition(",")[0]) for line in contents.describe(read)]
    assert told[:3] == [
        ("snp.vek", "SEV-Milan", "SEV-VCEK"),
        ("snp.ask", "ARK-Milan", "SEV-Milan"),
        ("snp.ark", "ARK-Milan", "ARK-Milan"),
    ]
    assert told[-1] == ("ak", "Maker Root", "Maker Root")
