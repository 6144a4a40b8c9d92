"""Files become a verifier's inputs only by their roles."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from kluis.collateral import bundle
from kluis.errors import UsageError
from kluis.evidence import AzureEndorsements, Collateral, ProtectionLevel
from kluis.formats import x509
from kluis.formats.ietf import cose
from kluis.formats.ietf.cmw import Collection
from tests.corpus.case import MAPPINGS, case_of, unknown_roles
from tests.evidence.cca import forge as cca
from tests.evidence.forge import Forge, pem
from tests.evidence.tpm import forge as tpm
from tests.meta.corpus import samples


@pytest.fixture(scope="module")
def forge() -> Forge:
    return Forge()


@pytest.mark.parametrize("tee", sorted(MAPPINGS))
def test_an_unknown_role(tee: str) -> None:
    """A file whose role a TEE does not know is not used as evidence, and is reported."""
    assert unknown_roles(tee, {"surprise": b"", MAPPINGS[tee].evidence[0]: b""}) == ("surprise",)


@pytest.mark.parametrize("tee", sorted(set(MAPPINGS) - {"snp"}))
def test_a_missing_role(tee: str) -> None:
    """A record without its evidence file is reported; for AMD, a bare chain is allowed."""
    with pytest.raises(UsageError, match=f"{tee}: role '[a-z_]+' is missing"):
        case_of(tee, {})


def test_an_unknown_tee() -> None:
    """A TEE that is not known is named, with those that are."""
    with pytest.raises(UsageError, match="TEE 'abacus': is not known; known: azure, cca, "):
        case_of("abacus", {})


def test_a_quote(forge: Forge) -> None:
    """A quote's documents become its collateral, and each root among them is found once."""
    case = case_of("sgx", samples.files(forge))
    assert isinstance(case.endorsements, Collateral)
    assert [x509.parse_pem(root, "root")[0].common_name for root in case.roots] == [
        "Kluis emulated SGX Root CA (no hardware)"
    ]


@pytest.mark.parametrize("role", ["pck_chain", "pck_cert_chain", "pck_certificate_chain"])
def test_a_chain_beside_a_quote(forge: Forge, role: str) -> None:
    """A chain that the quote does not carry is part of its collateral, by any of its names."""
    chain = pem(forge.leaf(), forge.ca, forge.root)
    case = case_of("tdx", {**samples.files(forge), role: chain})
    assert isinstance(case.endorsements, Collateral)
    assert case.endorsements.pck_certificate_chain == chain
    assert bundle.roles_of(chain) == (bundle.PCK,)


@pytest.mark.parametrize("role", ["pck_cert", "pck_certificate", "pck_leaf"])
@pytest.mark.parametrize("der", [False, True])
def test_a_certificate_beside_a_quote(forge: Forge, role: str, der: bool) -> None:
    """A bare PCK certificate is joined to its issuer, and a bare root is a root."""
    leaf, files = forge.leaf(), samples.files(forge)
    given = leaf.public_bytes(Encoding.DER) if der else pem(leaf)
    case = case_of("sgx", {**files, role: given, "trusted_root": pem(forge.root)})
    assert isinstance(case.endorsements, Collateral)
    chain = case.endorsements.pck_certificate_chain
    assert chain is not None
    held = x509.parse_pem(pem(leaf) + files["pck_crl_issuer_chain"], "chain")
    assert [each.der for each in x509.parse_pem(chain, "chain")] == [each.der for each in held]
    assert bundle.roles_of(chain) == (bundle.PCK,)
    assert case.roots[-1] == pem(forge.root)


def test_parts_become_a_collection() -> None:
    """Evidence of several files is one collection of parts, by the names that its verifier knows."""
    for tee, files, parts in (
        ("nvidia", ("report", "cert_chain"), {"report", "cert_chain"}),
        ("tpm", ("quote_msg", "quote_sig", "pcrs"), {"tpm_quote", "tpm_signature", "pcrs"}),
        ("tpm", ("quote_msg", "quote_sig"), {"tpm_quote", "tpm_signature", "pcrs"}),
        (
            "azure",
            ("hcl_report", "tpm_quote_msg", "tpm_quote_sig", "pcrs"),
            {"hcl_report", "tpm_quote", "tpm_signature", "pcrs"},
        ),
    ):
        case = case_of(tee, dict.fromkeys(files, b"x"))
        assert set(Collection.parse(case.evidence).parts) == parts
    assert case_of("azure", {"hcl_report": b"x"}).evidence == b"x"


def test_a_key_in_any_form() -> None:
    """A platform's key as PEM, DER, JWK or COSE_Key is one key, that the relying party believes."""
    key = cca.new_key()
    public = x509.parse_public_key(cca.spki(key), "key")
    jwk = _jwk(public.bits[1:])
    for form in (cca.pem(key), cca.spki(key), jwk, cose.encode_key(public)):
        case = case_of("cca", {"token": b"x", "cpak": form})
        ((data, level),) = case.keys
        assert x509.parse_public_key(data, "key").spki == cca.spki(key)
        assert level is ProtectionLevel.HARDWARE_CCA
        assert case.anchors.match(cca.spki(key)) is not None


def _jwk(point: bytes) -> bytes:
    from kluis.formats.encoding import b64, jcs

    half = len(point) // 2
    curve = {32: "P-256", 48: "P-384"}[half]
    x, y = b64.encode_url(point[:half]), b64.encode_url(point[half:])
    return jcs.dumps({"kty": "EC", "crv": curve, "x": x, "y": y})


def test_parts_of_which_one_is_missing(forge: Forge) -> None:
    """Incomplete collateral is ignored: what the quote's own bytes refute is still refused."""
    files = samples.files(forge)
    del files["qe_identity"]
    assert case_of("sgx", files).endorsements is None
    azure = case_of("azure", {**files, "hcl_report": b"x"})
    assert azure.endorsements == AzureEndorsements()


def test_a_report_of_no_bytes_is_still_evidence() -> None:
    """An empty report is malformed evidence; only a record without the file is a bare chain."""
    assert case_of("snp", {"report": b""}).evidence == b""
    assert case_of("snp", {"ark": b"x"}).evidence is None


def test_an_attestation_key_in_any_form() -> None:
    """A TPM's key as PEM, DER or its public area, with or without a size, is one key."""
    key = tpm.rsa_key()
    area = tpm.area(key).encode()
    sized = len(area).to_bytes(2, "big") + area
    for form in (tpm.pem(key), tpm.spki(key), area, sized):
        case = case_of("tpm", {"quote_msg": b"x", "quote_sig": b"x", "ak_pub": form})
        assert case.anchors.match(tpm.spki(key)) is not None


def test_a_chain_that_begins_with_its_root(forge: Forge) -> None:
    """A root is recognised by its own name as issuer, anywhere in its chain."""
    files = samples.files(forge)
    backwards = pem(forge.root, forge.ca)
    case = case_of("sgx", {**files, "pck_crl_issuer_chain": backwards})
    (root,) = case.roots
    assert x509.parse_pem(root, "root")[0].der == forge.root.public_bytes(Encoding.DER)


def test_files_by_intels_own_names(forge: Forge) -> None:
    """Chains of signers under the names that Intel's samples give them are the same collateral."""
    files = samples.files(forge)
    renamed = {name: data for name, data in files.items() if not name.endswith("_issuer_chain")}
    renamed |= {
        "pck_sign_chain": files["pck_crl_issuer_chain"],
        "tcb_sign_chain": files["tcb_info_issuer_chain"],
    }
    assert case_of("sgx", renamed).endorsements == case_of("sgx", files).endorsements
    assert case_of("sgx", renamed).roots == case_of("sgx", files).roots
    assert unknown_roles("sgx", renamed) == ()
    with_leaf = case_of("sgx", {**renamed, "pck_cert": pem(forge.leaf())}).endorsements
    assert with_leaf.pck_certificate_chain.endswith(files["pck_crl_issuer_chain"])
