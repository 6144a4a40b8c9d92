"""Intel's service and its caches, on loopback: paths, headers, and answers that are damaged."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote, unquote

import pytest

from kluis.collateral import Document, Key, Kind, Offline
from kluis.collateral.intel import Pcs
from kluis.errors import FormatError, UnavailableError, UsageError
from kluis.evidence import Collateral
from kluis.formats.sgx.collateral import crl_der
from tests.collateral.service import Reply, Service, signed
from tests.evidence.forge import NOW, Forge

FMSPC = "e0e0e0000000"
WANTED: list[tuple[Kind, Key, str]] = [
    (
        Kind.TCB_INFO,
        ("sgx", FMSPC, "early"),
        f"/sgx/certification/v4/tcb?fmspc={FMSPC}&update=early",
    ),
    (
        Kind.TCB_INFO,
        ("sgx", FMSPC, "1"),
        f"/sgx/certification/v4/tcb?fmspc={FMSPC}&tcbEvaluationDataNumber=1",
    ),
    (Kind.QE_IDENTITY, ("sgx", "standard"), "/sgx/certification/v4/qe/identity?update=standard"),
    (Kind.PCK_CRL, ("platform",), "/sgx/certification/v4/pckcrl?ca=platform&encoding=der"),
    (Kind.ROOT_CA_CRL, (), "/IntelSGXRootCA.der"),
]


@pytest.fixture
def good(forge: Forge, service: Service) -> Collateral:
    given = forge.collateral()
    service.serve_intel(given)
    return given


@pytest.fixture
def pcs(service: Service) -> Iterator[Pcs]:
    with Pcs(service.url, roots=service.url, trust=service.trust) as made:
        yield made


@pytest.mark.parametrize(("kind", "key", "path"), WANTED, ids=lambda value: str(value))
def test_each_document_has_its_path(
    service: Service, good: Collateral, pcs: Pcs, kind: Kind, key: Key, path: str
) -> None:
    """Each kind of document is requested by Intel's path, and returned with its signed bytes."""
    document = pcs.get(kind, key, NOW)
    assert service.asked == [path]
    match kind:
        case Kind.TCB_INFO:
            assert good.tcb_info in document.body
            assert document.chain == good.tcb_info_issuer_chain
        case Kind.QE_IDENTITY:
            assert good.qe_identity in document.body
            assert document.chain == good.qe_identity_issuer_chain
        case Kind.PCK_CRL:
            assert document == Document(body=good.pck_crl, chain=good.pck_crl_issuer_chain)
        case _:
            assert document == Document(body=good.root_ca_crl)


def test_another_number_than_asked_for(service: Service, good: Collateral, pcs: Pcs) -> None:
    """A cache that ignores the requested number is reported; its document is not used."""
    for kind, key in (
        (Kind.TCB_INFO, ("sgx", FMSPC, "17")),
        (Kind.QE_IDENTITY, ("sgx", "17")),
    ):
        with pytest.raises(UnavailableError) as caught:
            pcs.get(kind, key, NOW)
        assert caught.value.code == "service_refused"
        assert caught.value.message.endswith(": want evaluation data number 17, got 1")


def test_tdx_has_paths_of_its_own(service: Service, good: Collateral, pcs: Pcs) -> None:
    """TDX documents are requested under /tdx."""
    service.serve_intel(good, tee="tdx")
    pcs.get(Kind.TCB_INFO, ("tdx", FMSPC, "early"), NOW)
    pcs.get(Kind.QE_IDENTITY, ("tdx", "early"), NOW)
    assert service.asked == [
        f"/tdx/certification/v4/tcb?fmspc={FMSPC}&update=early",
        "/tdx/certification/v4/qe/identity?update=early",
    ]


@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.parametrize("slash", ["", "/"])
def test_a_cache_of_either_version(service: Service, forge: Forge, version: int, slash: str) -> None:
    """A cache serves the root's CRL too; version 3 writes CRLs in hex and has another header."""
    given = forge.collateral()
    service.serve_intel(given, version=version)
    url = f"{service.url}/sgx/certification/v{version}{slash}"
    with Pcs(url, roots=None, trust=service.trust) as cache:
        assert cache.get(Kind.PCK_CRL, ("platform",), NOW).body == given.pck_crl
        assert cache.get(Kind.ROOT_CA_CRL, (), NOW).body == given.root_ca_crl
        info = cache.get(Kind.TCB_INFO, ("sgx", FMSPC, "early"), NOW)
    assert info.chain == given.tcb_info_issuer_chain
    assert all(path.startswith(f"/sgx/certification/v{version}/") for path in service.asked)


def test_another_path_is_no_cache(service: Service) -> None:
    """A version that is not known, or what can be no folder, is refused."""
    for path in ("/sgx/certification/v5", "/x/sgx/certification/v5", "/x/../y", "/X", "/a?b", "/a/b/c/d/e"):
        with pytest.raises(UsageError):
            Pcs(service.url + path, roots=None)


HEADER = "TCB-Info-Issuer-Chain"


def damaged(given: Collateral, chain: str) -> Reply:
    return signed("tcbInfo", given, HEADER)._replace(headers=((HEADER, chain),))


@pytest.mark.parametrize(
    ("damage", "code", "said"),
    [
        (lambda text: text[:-40], "bad_encoding", "is not a PEM certificate"),
        (lambda text: text.replace("%0A", "+"), "bad_encoding", "is not a PEM certificate"),
        (lambda text: text.replace("%0A", "%ZZ"), "bad_encoding", "is not a PEM certificate"),
        (lambda text: quote(unquote(text)[:-40].partition("-----END")[0]), "bad_encoding", "is not a PEM"),
        (lambda text: text[: len(text) // 2], "bad_encoding", "is not a PEM certificate"),
        (lambda text: text + text, "bad_length", "want 2 certificates"),
        (lambda _: "", "truncated", "holds no certificate"),
        (lambda text: text * 40, "too_large", "is more than 65536 characters"),
    ],
    ids=["cut", "plus", "percent", "quoted", "half", "twice", "empty", "long"],
)
def test_a_damaged_chain(
    service: Service, good: Collateral, pcs: Pcs, damage: object, code: str, said: str
) -> None:
    """An issuer chain that is anything but two percent-encoded certificates is refused."""
    assert callable(damage)
    text = signed("tcbInfo", good, HEADER).headers[0][1]
    service.put("/sgx/certification/v4/tcb", damaged(good, damage(text)))
    with pytest.raises(FormatError) as caught:
        pcs.get(Kind.TCB_INFO, ("sgx", FMSPC, "early"), NOW)
    assert caught.value.code == code
    assert said in caught.value.message


def test_no_chain(service: Service, good: Collateral, pcs: Pcs) -> None:
    """A document without its issuer chain is refused."""
    reply = signed("tcbInfo", good, HEADER)._replace(headers=())
    service.put("/sgx/certification/v4/tcb", reply)
    with pytest.raises(FormatError) as caught:
        pcs.get(Kind.TCB_INFO, ("sgx", FMSPC, "early"), NOW)
    assert (caught.value.code, caught.value.message) == (
        "chain_missing",
        f"tcb-info sgx {FMSPC} early: the answer has no header TCB-Info-Issuer-Chain",
    )


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"<html>", b'{"tcbInfo":{},"signature":"00"}', b'{"enclaveIdentity":{}}'],
    ids=["empty", "object", "page", "short", "other"],
)
def test_another_document(service: Service, good: Collateral, pcs: Pcs, body: bytes) -> None:
    """An answer of status 200 that is not the document is refused, never kept."""
    service.put("/sgx/certification/v4/tcb", signed("tcbInfo", good, HEADER)._replace(body=body))
    with pytest.raises(FormatError):
        pcs.get(Kind.TCB_INFO, ("sgx", FMSPC, "early"), NOW)


def test_an_unknown_platform(service: Service, good: Collateral, pcs: Pcs) -> None:
    """A platform that Intel does not know is missing, with a hint of why."""
    service.put("/sgx/certification/v4/tcb", Reply(404))
    with pytest.raises(UnavailableError) as caught:
        pcs.get(Kind.TCB_INFO, ("sgx", FMSPC, "early"), NOW)
    assert caught.value.code == "collateral_missing"
    assert caught.value.hint is not None


def test_a_crl_in_three_forms(good: Collateral) -> None:
    """DER, hex of DER and PEM are one CRL."""
    import base64

    pem = b"-----BEGIN X509 CRL-----\n" + base64.encodebytes(good.pck_crl) + b"-----END X509 CRL-----\n"
    forms = (good.pck_crl, good.pck_crl.hex().encode(), good.pck_crl.hex().upper().encode() + b"\n", pem)
    assert {crl_der(form, "CRL") for form in forms} == {good.pck_crl}


@pytest.mark.parametrize("data", [b"", b"{}", b"zz", b"-----BEGIN X509 CRL-----\n"])
def test_no_crl(data: bytes) -> None:
    """Anything else is refused."""
    with pytest.raises(FormatError):
        crl_der(data, "CRL")


@pytest.mark.parametrize(
    ("kind", "key"),
    [
        (Kind.TCB_INFO, ("sgx", FMSPC)),
        (Kind.TCB_INFO, ("sgx", "../../x", "early")),
        (Kind.TCB_INFO, ("sgx", FMSPC, "early&update=standard")),
        (Kind.PCK_CRL, ("other",)),
        (Kind.VCEK, ("Milan", "00", "0-0-0-0")),
    ],
)
def test_no_other_words(service: Service, pcs: Pcs, kind: Kind, key: Key) -> None:
    """A malformed key, or another vendor's document, is refused and never requested."""
    with pytest.raises(UsageError):
        pcs.get(kind, key, NOW)
    assert service.asked == []


def test_what_is_not_at_hand_is_missing(good: Collateral) -> None:
    """The offline provider gives what it was given, and for all else an error, never nothing."""
    at_hand = Offline({(Kind.ROOT_CA_CRL, ()): Document(body=good.root_ca_crl)})
    assert at_hand.get(Kind.ROOT_CA_CRL, (), NOW).body == good.root_ca_crl
    with pytest.raises(UnavailableError) as caught:
        at_hand.get(Kind.PCK_CRL, ("platform",), NOW)
    assert (caught.value.code, caught.value.message) == (
        "collateral_missing",
        "pck-crl platform: is not available",
    )
