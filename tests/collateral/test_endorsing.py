"""What endorses evidence, from files in any order: recognised, or refused."""

from __future__ import annotations

import base64
import json

import pytest

from kluis.collateral.endorsing import of_files
from kluis.errors import FormatError, KluisError, UsageError
from kluis.evidence.registry import Kind, kind_of
from kluis.formats.cca.endorsements import Endorsements as CcaEndorsements
from kluis.formats.hcl.endorsements import AzureEndorsements
from kluis.formats.nvidia.endorsements import NvidiaEndorsements
from kluis.formats.sgx.collateral import Collateral
from kluis.formats.snp.endorsements import Endorsements as SnpEndorsements
from kluis.formats.tpm.endorsements import TpmEndorsements
from tests.evidence.forge import Forge

FORGE = Forge()


def _kind(*types: type) -> Kind:
    return Kind("evidence", lambda data: True, types, kind_of(FORGE.quote()).verify)


SGX, SNP, TPM = _kind(Collateral), _kind(SnpEndorsements), _kind(TpmEndorsements)
NVIDIA, CCA, NITRO = _kind(NvidiaEndorsements), _kind(CcaEndorsements), _kind()
AZURE = _kind(AzureEndorsements, SnpEndorsements, Collateral)
HELD = FORGE.collateral()
BUNDLE = HELD.to_json()


def _of(kind: Kind, *datas: bytes) -> object:
    return of_files(kind, [(f"file{i}", data) for i, data in enumerate(datas)])


def test_no_file() -> None:
    """Without a file there are no endorsements, and the verifier reports what is missing."""
    assert _of(SGX) is None


def test_one_bundle() -> None:
    """A bundle is read as what it is, for Azure's machines the bundle of both, too."""
    assert _of(SGX, BUNDLE) == HELD
    assert _of(AZURE, BUNDLE) == HELD
    both = AzureEndorsements(tdx=HELD).to_json()
    assert _of(AZURE, both) == AzureEndorsements(tdx=HELD)
    assert _of(NVIDIA, b'{"ocsp":[]}') == NvidiaEndorsements(ocsp=())


def test_armor() -> None:
    """What endorses may come in base64 or hex, as evidence may."""
    assert _of(SGX, base64.b64encode(BUNDLE)) == HELD
    assert _of(SGX, BUNDLE.hex().encode() + b"\n") == HELD
    assert _of(SGX, b"\n" + BUNDLE + b"\n") == HELD


def test_another_object() -> None:
    """An object without a member of any vendor's is refused, with the members that it has."""
    with pytest.raises(FormatError) as caught:
        _of(SGX, b'{"quote_collateral":{}}')
    assert str(caught.value) == (
        "bundle: want Intel's members, AMD's or an Azure machine's, got ['quote_collateral']"
    )


def test_intels_files() -> None:
    """The documents of Intel's service, in any order, are put together."""
    held = HELD
    info = b'{"tcbInfo":' + held.tcb_info + b',"signature":"' + held.tcb_info_signature.hex().encode() + b'"}'
    identity = b'{"enclaveIdentity":' + held.qe_identity
    identity += b',"signature":"' + held.qe_identity_signature.hex().encode() + b'"}'
    with pytest.raises(KluisError):
        _of(SGX, info)
    with pytest.raises(FormatError):
        _of(SGX, info, identity, b"noise")


def test_raw_files_of_other_makers() -> None:
    """An OCSP answer, and a platform's key, are accepted raw."""
    assert _of(NVIDIA, b"\x30\x00", b"\x30\x01") == NvidiaEndorsements(ocsp=(b"\x30\x00", b"\x30\x01"))
    key = json.dumps({"kty": "EC"}).encode()
    assert _of(CCA, key) == CcaEndorsements(cpak=key)


def test_certificates_of_a_tpms_key() -> None:
    """A key's certificate, its issuers and their CRLs are distinguished by content."""
    root = FORGE.authority.root_pem()
    with pytest.raises(UsageError, match="want 1 certificate of an attestation key, got 0"):
        _of(TPM, root)
    with pytest.raises(FormatError):
        _of(TPM, b"noise")
    assert _of(TPM, b"{}") == TpmEndorsements()


@pytest.mark.parametrize(
    ("kind", "datas", "message"),
    [
        (CCA, (b"{}", b"{}"), "--collateral: want one bundle for evidence, got 2 files"),
        (NITRO, (b"{}",), "file0: evidence of kind evidence takes no collateral"),
    ],
)
def test_what_is_too_much(kind: Kind, datas: tuple[bytes, ...], message: str) -> None:
    """More than a kind takes is refused, and never left aside."""
    with pytest.raises(UsageError) as caught:
        _of(kind, *datas)
    assert str(caught.value) == message


def test_another_makers() -> None:
    """One vendor's documents are refused for another's evidence, with a readable message."""
    with pytest.raises(UsageError) as caught:
        _of(SNP, BUNDLE)
    assert str(caught.value) == (
        "file0: want AMD's certificates for evidence, got Intel's TCB info, identity and CRLs"
    )
    assert caught.value.hint == "kluis collateral fetch EVIDENCE -o FILE gets what endorses it"
