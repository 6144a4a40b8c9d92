"""Intel's paths: the headers, encodings and statuses that real clients read."""

from __future__ import annotations

import json
from datetime import timedelta
from urllib.parse import quote, unquote

import pytest
from cryptography import x509

from kluis.authority.issuing import CRL_URL
from kluis.formats.sgx import evaluation, extension
from kluis.formats.sgx.collateral import crl_der, split_signed
from kluis.formats.sgx.tcb_info import parse_identity, parse_tcb_info
from tests.services.provisioning.serving import ONES, SGX, Asking, Platform

FMSPC = "e0e0e0000000"


def _chain(header: str) -> list[str]:
    return [one.subject.rfc4514_string() for one in x509.load_pem_x509_certificates(unquote(header).encode())]


def test_tcb_info(asking: Asking) -> None:
    """TCB info comes as it was signed, with its signers, whatever the case of the FMSPC."""
    answer = asking.get(f"{SGX}/tcb?fmspc={FMSPC.upper()}&update=standard")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert len(answer.headers["Request-ID"]) == 32
    signed, _ = split_signed(answer.content, "tcbInfo")
    assert parse_tcb_info(signed).fmspc.hex() == FMSPC
    signers = _chain(answer.headers["TCB-Info-Issuer-Chain"])
    assert ["TCB Signing" in signers[0], "Root CA" in signers[1]] == [True, True]


def test_identity_and_numbers(asking: Asking) -> None:
    """The quoting enclave's identity and the number in force come likewise."""
    answer = asking.get(f"{SGX}/qe/identity")
    identity = parse_identity(split_signed(answer.content, "enclaveIdentity")[0])
    assert (identity.id, identity.evaluation) == ("QE", 1)
    assert len(_chain(answer.headers["SGX-Enclave-Identity-Issuer-Chain"])) == 2
    answer = asking.get(f"{SGX}/tcbevaluationdatanumbers")
    numbers = evaluation.parse(split_signed(answer.content, "tcbEvaluationDataNumbers")[0])
    assert [one.number for one in numbers.numbers] == [1]
    assert len(_chain(answer.headers["TCB-Evaluation-Data-Numbers-Issuer-Chain"])) == 2


def test_crls_in_each_encoding(asking: Asking) -> None:
    """A CRL is returned as hex of DER, like caches do, or as DER or PEM on request; all are one CRL."""
    path = f"{SGX}/pckcrl?ca=platform"
    usual, der, pem = (asking.get(path + more) for more in ("", "&encoding=der", "&encoding=pem"))
    assert [one.headers["content-type"] for one in (usual, der, pem)] == [
        "text/plain",
        "application/pkix-crl",
        "application/x-pem-file",
    ]
    assert bytes.fromhex(usual.text) == der.content == crl_der(pem.content, "CRL")
    names = _chain(der.headers["SGX-PCK-CRL-Issuer-Chain"])
    assert x509.load_der_x509_crl(der.content).issuer.rfc4514_string() == names[0]
    root = asking.get(f"{SGX}/rootcacrl")
    assert bytes.fromhex(root.text) == asking.get("/IntelSGXRootCA.der").content
    assert x509.load_der_x509_crl(bytes.fromhex(root.text)).issuer.rfc4514_string() == names[1]


@pytest.mark.parametrize(
    "uri",
    [
        CRL_URL,
        "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der",
        "https://pcs.example/sgx/certification/v4/rootcacrl",
    ],
)
def test_crl_by_the_address_of_the_root(asking: Asking, uri: str) -> None:
    """The quote provider library requests the URL in the root unchanged: it gets the root's CRL."""
    answer = asking.get(f"{SGX}/crl?uri={uri}&customParameters=e30%3D")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/pkix-crl")
    assert answer.content == asking.get("/IntelSGXRootCA.der").content


def test_crl_by_the_address_of_a_ca(asking: Asking) -> None:
    """Where a CA's CRL is named, it is that one."""
    uri = quote("https://pcs.example/sgx/certification/v4/pckcrl?ca=platform&encoding=der", safe="")
    assert (
        asking.get(f"{SGX}/crl?uri={uri}").content
        == asking.get(f"{SGX}/pckcrl?ca=platform&encoding=der").content
    )


def test_fmspcs(asking: Asking) -> None:
    """One kind of platform is certified, and it is not one of Intel's."""
    assert asking.get(f"{SGX}/fmspcs").json() == [{"fmspc": FMSPC.upper(), "platform": "emulated"}]
    assert asking.get(f"{SGX}/fmspcs?platform=E5").json() == []


@pytest.mark.parametrize(
    ("path", "status", "code", "message"),
    [
        ("/tcb", 400, "InvalidParameter", "fmspc: want 12 hex digits, got ''"),
        ("/tcb?fmspc=zz", 400, "InvalidParameter", "fmspc: want 12 hex digits, got 'zz'"),
        (
            "/tcb?fmspc=00906ED50000",
            404,
            "NotFound",
            "fmspc: want e0e0e0000000, the emulated platforms', got 00906ed50000",
        ),
        (
            f"/tcb?fmspc={FMSPC}&update=late",
            400,
            "InvalidParameter",
            "update: want early or standard, got 'late'",
        ),
        (
            f"/tcb?fmspc={FMSPC}&update=early&tcbEvaluationDataNumber=1",
            400,
            "InvalidParameter",
            "update, tcbEvaluationDataNumber: want one of them, got both",
        ),
        (
            f"/tcb?fmspc={FMSPC}&tcbEvaluationDataNumber=2",
            404,
            "NotFound",
            "tcbEvaluationDataNumber: want 1, got 2",
        ),
        (
            "/qe/identity?tcbEvaluationDataNumber=0",
            410,
            "Gone",
            "tcbEvaluationDataNumber: want 1, got 0, which is retired",
        ),
        (
            "/qe/identity?tcbEvaluationDataNumber=-1",
            400,
            "InvalidParameter",
            "tcbEvaluationDataNumber: want a number, got '-1'",
        ),
        (
            "/qve/identity",
            404,
            "NotFound",
            "qve identity: the emulated platforms have no quote verification enclave",
        ),
        ("/pckcrl", 400, "InvalidParameter", "ca: want platform or processor, got ''"),
        ("/pckcrl?ca=processor", 404, "NotFound", "ca: the emulated platforms have no processor CA"),
        (
            "/pckcrl?ca=platform&encoding=xml",
            400,
            "InvalidParameter",
            "encoding: want der or pem, got 'xml'",
        ),
        ("/crl", 400, "InvalidParameter", "uri: want where a root's CRL is, or a CA's, got ''"),
        ("/crl?uri=http://[", 400, "InvalidParameter", "uri: want an address, got 'http://['"),
        (
            "/crl?uri=https://pcs.example/rootcacrl/more",
            400,
            "InvalidParameter",
            "uri: want where a root's CRL is, or a CA's, got 'https://pcs.example/rootcacrl/more'",
        ),
        (
            f"/crl?uri=https://pcs.example/{'x' * 2048}/rootcacrl",
            400,
            "InvalidParameter",
            f"uri: want where a root's CRL is, or a CA's, got 'https://pcs.example/{'x' * 20}'",
        ),
        (
            "/crl?uri=https://pcs.example/pckcrl?ca=processor",
            404,
            "NotFound",
            "ca: the emulated platforms have no processor CA",
        ),
        (
            "/fmspcs?platform=E7",
            400,
            "InvalidParameter",
            "platform: want one of all, client, E3, E5, got 'E7'",
        ),
        (
            "/pckcert?cpusvn=1&pcesvn=0100&pceid=0000",
            400,
            "InvalidParameter",
            "cpusvn: want 32 hex digits, got '1'",
        ),
        (
            f"/pckcert?cpusvn={'01' * 16}&pcesvn=0100&pceid=0000&qeid=12",
            400,
            "InvalidParameter",
            "qeid or encrypted_ppid: want a PPID, or a PPID and zeros, got neither",
        ),
        (
            f"/pckcert?cpusvn={'01' * 16}&pcesvn=0100&pceid=0000&qeid={'ab' * 16}",
            404,
            "NotFound",
            "pckcert: the platform has no certificate for that TCB, or a lower one",
        ),
        (
            f"/pckcerts?pceid=0001&qeid={'ab' * 16}",
            404,
            "NotFound",
            "pceid: want 0000, the emulated platforms', got another",
        ),
        (
            f"/pckcerts?pceid=0000&qeid={'ab' * 16}",
            404,
            "NotFound",
            "pckcerts: no platform of that name was certified",
        ),
    ],
)
def test_refusals(asking: Asking, path: str, status: int, code: str, message: str) -> None:
    """Each wrong parameter has Intel's status, and the error in Intel's headers and in our body."""
    answer = asking.get(SGX + path)
    assert (answer.status_code, answer.headers["Error-Code"]) == (status, code)
    assert answer.headers["Error-Message"] == message
    error = answer.json()["error"]
    assert (error["code"], error["message"]) == (code, message)


@pytest.mark.parametrize("path", ["tcb?fmspc=00906ED50000", "qe/identity", "tcbevaluationdatanumbers"])
def test_no_tdx(asking: Asking, path: str) -> None:
    """There is no emulated TDX, and the answer names the place of Intel's own documents."""
    answer = asking.get(f"/tdx/certification/v4/{path}")
    assert answer.status_code == 404
    assert answer.json()["error"]["details"] == [
        {
            "code": "Hint",
            "message": "Intel's own documents are under /intel: kluis collateral fetch keeps them",
        }
    ]


def test_pck_certificates(asking: Asking) -> None:
    """A platform's certificate is the highest that its TCB reaches, with the headers of Intel's service."""
    asking.order("terms", open=True)
    platform = Platform()
    asking.enrol(platform)
    platform.pcesvn = 3
    asking.clock.at += timedelta(seconds=1)  # a request is made later than the one before
    asking.enrol(platform)
    ppid = platform.ppid.hex()
    path = f"{SGX}/pckcert?cpusvn={ONES.hex()}&pceid=0000&qeid={ppid}&pcesvn="
    low, high = asking.get(path + "0200"), asking.get(path + "ff00")
    assert [one.headers["SGX-TCBm"] for one in (low, high)] == ["01" * 16 + "0100", "01" * 16 + "0300"]
    assert low.headers["SGX-FMSPC"] == FMSPC.upper()
    assert low.headers["SGX-PCK-Certificate-CA-Type"] == "platform"
    leaf = x509.load_pem_x509_certificate(low.content)
    issuers = _chain(low.headers["SGX-PCK-Certificate-Issuer-Chain"])
    assert leaf.issuer.rfc4514_string() == issuers[0]
    said = leaf.extensions.get_extension_for_oid(x509.ObjectIdentifier(extension.OID)).value.value
    assert (extension.parse(said).ppid.hex(), extension.parse(said).pcesvn) == (ppid, 1)
    encrypted = ppid + "0" * 736
    assert asking.get(path.replace(f"qeid={ppid}", f"encrypted_ppid={encrypted}") + "0100").content
    every = asking.get(f"{SGX}/pckcerts?pceid=0000&qeid={ppid}").json()
    assert [one["tcb"]["pcesvn"] for one in every] == [3, 1]
    assert unquote(every[1]["cert"]).encode() == low.content


def test_published_once_a_day(asking: Asking) -> None:
    """Within a day the same bytes are given, by every instance; a day later, or after an order, new ones."""
    path = f"{SGX}/tcb?fmspc={FMSPC}"
    first = asking.get(path).content
    other = Asking(asking.storage, asking.now + timedelta(hours=23))
    assert other.get(path).content == first
    other.clock.at = asking.now + timedelta(hours=25)
    second = other.get(path).content
    assert second != first
    asking.order("recover")
    assert json.loads(asking.get(path).content)["tcbInfo"]["tcbEvaluationDataNumber"] == 2
