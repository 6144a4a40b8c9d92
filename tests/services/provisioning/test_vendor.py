"""The vendors' documents: checked when they come and when they go, returned byte for byte, or refused."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from kluis.collateral import Cache, Document, Key, Kind, Vendors, fetch_for
from kluis.collateral.amd import Kds
from kluis.collateral.intel import Pcs
from kluis.collateral.paths import answer, find_document, vendor
from kluis.enclave.store.model import Writing
from kluis.enclave.store.sealed import SealedStore
from kluis.errors import FreshnessError
from kluis.evidence import Collateral, SnpEndorsements, TrustAnchors, verify
from kluis.formats.sgx.collateral import crl_der
from kluis.services.provisioning.vendor import Vendor
from tests.evidence.amd.forge import Forge as AmdForge
from tests.evidence.forge import NOW, Forge
from tests.services.provisioning.serving import OWNER, Asking, Served
from tests.vectors import MISSING, VECTORS, Vector

GENUINE = VECTORS / "tdx" / "attestation-rs-140cbd8c-202601-tcbv3-UpToDate" / "meta.json"
FMSPC = "e0e0e0000000"
INTEL = "/intel/sgx/certification/v4"


def documents(forge: Forge) -> dict[tuple[Kind, Key], Document]:
    """A forger's collateral as its vendor would publish it."""
    given = forge.collateral()

    def signed(member: str, body: bytes, signature: bytes, chain: bytes) -> Document:
        whole = b'{"%s":%s,"signature":"%s"}' % (member.encode(), body, signature.hex().encode())
        return Document(body=whole, chain=chain)

    info = signed("tcbInfo", given.tcb_info, given.tcb_info_signature, given.tcb_info_issuer_chain)
    identity = signed(
        "enclaveIdentity", given.qe_identity, given.qe_identity_signature, given.qe_identity_issuer_chain
    )
    published = forge.authority.publish(NOW)
    numbers = signed(
        "tcbEvaluationDataNumbers",
        published.evaluation_numbers,
        published.evaluation_numbers_signature,
        given.tcb_info_issuer_chain,
    )
    return {
        (Kind.TCB_INFO, ("sgx", FMSPC, "standard")): info,
        (Kind.QE_IDENTITY, ("sgx", "standard")): identity,
        (Kind.EVALUATION_NUMBERS, ("sgx",)): numbers,
        (Kind.PCK_CRL, ("platform",)): Document(body=given.pck_crl, chain=given.pck_crl_issuer_chain),
        (Kind.ROOT_CA_CRL, ()): Document(body=given.root_ca_crl),
    }


def chip(forge: AmdForge) -> dict[tuple[Kind, Key], Document]:
    """A forged chip's certificates as AMD would publish them."""
    product = forge.product.value
    chain = b"".join(one.public_bytes(Encoding.PEM) for one in (forge.ask, forge.ark))
    tcb = forge.tcb
    parts = (tcb.fmc, tcb.boot_loader, tcb.tee, tcb.snp, tcb.microcode)
    versions = "-".join(str(part) for part in parts if part is not None)
    return {
        (Kind.VCEK, (product, forge.hw_id.hex(), versions)): Document(
            body=forge.vek.public_bytes(Encoding.DER)
        ),
        (Kind.AMD_CHAIN, (product, "vcek")): Document(body=chain),
        (Kind.AMD_CRL, (product, "vcek")): Document(body=forge.crl()),
    }


PATHS = {
    Kind.TCB_INFO: f"{INTEL}/tcb?fmspc={FMSPC}",
    Kind.QE_IDENTITY: f"{INTEL}/qe/identity?update=standard",
    Kind.EVALUATION_NUMBERS: f"{INTEL}/tcbevaluationdatanumbers",
    Kind.PCK_CRL: f"{INTEL}/pckcrl?ca=platform&encoding=der",
    Kind.ROOT_CA_CRL: f"{INTEL}/rootcacrl?encoding=der",
    Kind.AMD_CHAIN: "/vcek/v1/Turin/cert_chain",
    Kind.AMD_CRL: "/vcek/v1/Turin/crl",
}
FORGE, AMD = Forge(), AmdForge("Turin")
PATHS[Kind.VCEK] = f"/vcek/v1/Turin/{AMD.hw_id.hex()}?fmcSPL=02&blSPL=04&teeSPL=01&snpSPL=24&ucodeSPL=219"
GOOD_INTEL = documents(FORGE)
GOOD = GOOD_INTEL | chip(AMD)


def upload(asking: Asking, given: Mapping[tuple[Kind, Key], Document]) -> httpx.Response:
    """Put documents into the service."""
    body = {
        "documents": [
            {
                "kind": kind.value,
                "key": list(key),
                "body": base64.b64encode(one.body).decode(),
                "chain": base64.b64encode(one.chain).decode(),
            }
            for (kind, key), one in given.items()
        ]
    }
    return asking.ask("POST", "/kluis/collateral", OWNER, json=body)


def error(answer: httpx.Response) -> tuple[int, str, str]:
    found = answer.json()["error"]
    return answer.status_code, found["code"], found["message"]


@pytest.fixture
def believing(storage: SealedStore) -> Asking:
    """A service that takes the forgers for Intel and AMD."""
    return Asking(storage, NOW, anchors=FORGE.anchors | AMD.anchors)


def test_what_was_uploaded_is_given(believing: Asking) -> None:
    """Each document comes back byte for byte on its vendor's path, with its signer."""
    assert upload(believing, GOOD).status_code == 204
    for (kind, _), one in GOOD.items():
        answer = believing.get(PATHS[kind])
        assert (answer.status_code, answer.content) == (200, one.body), kind
        chains = [text for name, text in answer.headers.items() if name.endswith("issuer-chain")]
        assert [unquote(text).encode() for text in chains] == ([one.chain] if one.chain else [])
    assert bytes.fromhex(believing.get(f"{INTEL}/rootcacrl").text) == GOOD[Kind.ROOT_CA_CRL, ()].body
    assert believing.get("/intel/IntelSGXRootCA.der").content == GOOD[Kind.ROOT_CA_CRL, ()].body
    named = believing.get(
        f"{INTEL}/crl?uri=https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"
    )
    assert named.headers["content-type"] == "application/pkix-crl"
    assert named.content == GOOD[Kind.ROOT_CA_CRL, ()].body
    ca = believing.get(
        f"{INTEL}/crl?uri=https://api.trustedservices.intel.com/sgx/certification/v4/pckcrl?ca=platform"
    )
    assert ca.content == GOOD[Kind.PCK_CRL, ("platform",)].body


def test_what_is_beside_is_given(storage: SealedStore, tmp_path: Path) -> None:
    """A document that was not uploaded comes from the host's folder."""
    cache = Cache(tmp_path / "kept")
    for (kind, key), one in GOOD.items():
        cache.write(kind, key, one, NOW)
    asking = Asking(storage, NOW, anchors=FORGE.anchors | AMD.anchors, from_host=vendor(cache))
    for (kind, _), one in GOOD.items():
        assert asking.get(PATHS[kind]).content == one.body, kind


def test_intels_paths_without_an_authority(storage: SealedStore) -> None:
    """A service without its own authority has Intel's documents on Intel's paths, and no orders."""
    asking = Asking(storage, NOW, level=None, anchors=FORGE.anchors)
    upload(asking, GOOD_INTEL)
    answer = asking.get(PATHS[Kind.TCB_INFO].removeprefix("/intel"))
    assert answer.content == GOOD[Kind.TCB_INFO, ("sgx", FMSPC, "standard")].body
    assert asking.order("recover").status_code == 404
    assert asking.get("/kluis/root").status_code == 404


@pytest.mark.parametrize(
    ("path", "message", "hint"),
    [
        (
            PATHS[Kind.TCB_INFO],
            f"tcb-info sgx {FMSPC} standard: is not kept here",
            "kluis collateral fetch EVIDENCE --update standard on the service's host fetches it from"
            " the vendor",
        ),
        (
            f"{INTEL}/tcb?fmspc={FMSPC}&tcbEvaluationDataNumber=17",
            f"tcb-info sgx {FMSPC} 17: is not kept here",
            "kluis collateral fetch EVIDENCE --evaluation 17 on the service's host fetches it from"
            " the vendor",
        ),
        (
            PATHS[Kind.AMD_CRL],
            "amd-crl Turin vcek: is not kept here",
            "kluis collateral fetch EVIDENCE on the service's host fetches it from the vendor",
        ),
    ],
)
def test_what_is_missing(believing: Asking, path: str, message: str, hint: str) -> None:
    """A missing document is 404, and the answer names the command that brings it."""
    answer = believing.get(path)
    assert error(answer) == (404, "collateral_missing", message)
    assert answer.json()["error"]["details"] == [{"code": "Hint", "message": hint}]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (f"{INTEL}/tcb?fmspc=1", "fmspc: want 12 hex digits, got '1'"),
        (
            f"{INTEL}/crl?uri=https://example",
            "uri: want where a root's CRL is, or a CA's, got 'https://example'",
        ),
        (f"{INTEL}/pckcrl?ca=x", "ca: want platform or processor, got 'x'"),
        (
            f"{INTEL}/qe/identity?update=early&tcbEvaluationDataNumber=5",
            "update, tcbEvaluationDataNumber: want one of them, got both",
        ),
        ("/vcek/v1/Rome/cert_chain", "product: want one of Milan, Genoa, Turin, Venice, got 'Rome'"),
        (f"/vcek/v1/Turin/{'ab' * 8}?blSPL=1", "fmcSPL: want 0..255, got ''"),
        (f"/vcek/v1/Milan/{'ab' * 64}?blSPL=256", "blSPL: want 0..255, got '256'"),
    ],
)
def test_wrong_parameters(believing: Asking, path: str, message: str) -> None:
    """A parameter that is not what it should be is 400, and named."""
    assert error(believing.get(path)) == (400, "InvalidParameter", message)


def test_no_path_of_anybodys(believing: Asking) -> None:
    """An invalid chip name is no path of AMD's."""
    assert error(believing.get("/vcek/v1/Milan/xyz"))[:2] == (404, "collateral_missing")
    assert find_document("/sgx/certification/v4/qve/identity", {}) is None
    assert find_document("/vlek/v1/Milan/" + "ab" * 64, {}) is None
    assert find_document("/somewhere", {}) is None


def poisoned(kind: Kind) -> Document:
    """The document of a kind with one byte of what was signed flipped."""
    ((_, one),) = [(key, one) for key, one in GOOD.items() if key[0] is kind]
    at = one.body.index(b"2026") if kind in {Kind.TCB_INFO, Kind.QE_IDENTITY} else len(one.body) - 20
    if kind is Kind.EVALUATION_NUMBERS:
        at = one.body.index(b"2026")
    changed = bytes((one.body[at] ^ 1,))
    return Document(body=one.body[:at] + changed + one.body[at + 1 :], chain=one.chain)


SIGNATURES = {
    Kind.TCB_INFO: "tcb_info_sig",
    Kind.QE_IDENTITY: "qe_identity_sig",
    Kind.EVALUATION_NUMBERS: "tcb_info_sig",
    Kind.PCK_CRL: "crl_sig",
    Kind.ROOT_CA_CRL: "crl_sig",
    Kind.VCEK: "cert_chain",
    Kind.AMD_CRL: "crl_sig",
}


@pytest.mark.parametrize("kind", SIGNATURES, ids=str)
def test_a_poisoned_cache(storage: SealedStore, tmp_path: Path, kind: Kind) -> None:
    """A document that its vendor did not sign is refused, with its name, from the host and in an upload."""
    (key,) = [key for found, key in GOOD if found is kind]
    bad = {**GOOD, (kind, key): poisoned(kind)}
    cache = Cache(tmp_path / "kept")
    for (each, words), one in bad.items():
        cache.write(each, words, one, NOW)
    asking = Asking(storage, NOW, anchors=FORGE.anchors | AMD.anchors, from_host=vendor(cache))
    answer = asking.get(PATHS[kind])
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, SIGNATURES[kind])
    answer = upload(asking, {(kind, key): bad[kind, key]})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, SIGNATURES[kind])


def test_another_makers_root(asking: Asking) -> None:
    """Documents under a root that is not a vendor's are refused: the emulated ones, too."""
    answer = upload(asking, documents(FORGE))
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "root_untrusted")


@pytest.mark.parametrize(
    ("name", "key", "message"),
    [
        (
            (Kind.TCB_INFO, ("sgx", FMSPC, "standard")),
            (Kind.TCB_INFO, ("sgx", "00906ed50000", "early")),
            f"tcb-info sgx 00906ed50000 early: want that, got SGX {FMSPC}",
        ),
        (
            (Kind.TCB_INFO, ("sgx", FMSPC, "standard")),
            (Kind.TCB_INFO, ("sgx", FMSPC, "7")),
            f"tcb-info sgx {FMSPC} 7: want that, got evaluation data number 1",
        ),
        (
            (Kind.QE_IDENTITY, ("sgx", "standard")),
            (Kind.QE_IDENTITY, ("tdx", "standard")),
            "qe-identity tdx standard: want that, got QE",
        ),
        (
            (Kind.EVALUATION_NUMBERS, ("sgx",)),
            (Kind.EVALUATION_NUMBERS, ("tdx",)),
            "evaluation-numbers tdx: want that, got SGX",
        ),
        (
            (Kind.PCK_CRL, ("platform",)),
            (Kind.PCK_CRL, ("processor",)),
            "pck-crl processor: want that, got Kluis emulated SGX PCK Platform CA (no hardware)",
        ),
    ],
)
def test_another_than_its_name(
    believing: Asking, name: tuple[Kind, Key], key: tuple[Kind, Key], message: str
) -> None:
    """A genuine document under the name of another is refused: a host could else swap them."""
    assert error(upload(believing, {key: GOOD[name]})) == (403, "collateral_mismatch", message)


def test_another_chip(believing: Asking) -> None:
    """A genuine VCEK of another chip or TCB is refused, and so is the chain of another product."""
    ((_, words),) = [key for key in GOOD if key[0] is Kind.VCEK]
    given = {(Kind.AMD_CHAIN, ("Turin", "vcek")): GOOD[Kind.AMD_CHAIN, ("Turin", "vcek")]}
    good = GOOD[Kind.VCEK, words]
    for wrong in (("Turin", "ab" * 8, words[2]), (*words[:2], "2-4-1-24-218")):
        answer = upload(believing, {**given, (Kind.VCEK, wrong): good})
        assert error(answer) == (
            403,
            "collateral_mismatch",
            f"vcek {' '.join(wrong)}: want that, got that of another chip, or of TCB {words[2]}",
        )
    answer = upload(believing, {(Kind.AMD_CHAIN, ("Milan", "vcek")): next(iter(given.values()))})
    assert error(answer)[2] == "amd-chain Milan vcek: want that, got SEV-Turin"


def test_out_of_its_time(believing: Asking) -> None:
    """A document that ran out is refused while nobody brings a new one; so is one of the future."""
    upload(believing, GOOD)
    believing.clock.at = NOW + timedelta(days=31)
    for kind, code in (
        (Kind.TCB_INFO, "tcb_info_expired"),
        (Kind.QE_IDENTITY, "qe_identity_expired"),
        (Kind.PCK_CRL, "crl_expired"),
        (Kind.EVALUATION_NUMBERS, "tcb_info_expired"),
    ):
        assert error(believing.get(PATHS[kind]))[:2] == (503, code)
    believing.clock.at = NOW - timedelta(days=1)
    assert error(believing.get(PATHS[Kind.TCB_INFO]))[0] == 503


def test_nothing_older_takes_a_place(believing: Asking) -> None:
    """A genuine older document does not take the place of a newer one."""
    name = (Kind.ROOT_CA_CRL, ())
    old = Document(body=FORGE.crl("root", now=NOW - timedelta(days=1)))
    assert upload(believing, GOOD_INTEL).status_code == 204
    answer = upload(believing, {name: old})
    assert error(answer) == (
        403,
        "collateral_replayed",
        "root-ca-crl: want one issued 2026-06-01T11:55:00Z or later, as is kept, "
        "got one issued 2026-05-31T11:55:00Z",
    )
    assert answer.json()["error"]["details"] == [
        {
            "code": "Hint",
            "message": "kluis collateral fetch EVIDENCE fetches a newer one from the vendor; stored"
            " documents are never replaced by older ones",
        }
    ]


def numbered(number: int, days: int) -> Document:
    """TCB info of an evaluation number, issued so many days ago."""
    issued = NOW - timedelta(days=days)
    given = FORGE.with_tcb_info(
        lambda info: info.update(
            tcbEvaluationDataNumber=number, issueDate=issued.strftime("%Y-%m-%dT%H:%M:%SZ")
        )
    )
    signature = given.tcb_info_signature.hex().encode()
    body = b'{"tcbInfo":%s,"signature":"%s"}' % (given.tcb_info, signature)
    return Document(body=body, chain=given.tcb_info_issuer_chain)


def test_a_newer_day_of_a_lower_number_is_older(storage: SealedStore) -> None:
    """TCB info of a later day and a lower evaluation number replaces nothing: not uploaded, not from the
    host.
    """
    name = (Kind.TCB_INFO, ("sgx", FMSPC, "standard"))
    new, old = numbered(21, days=2), numbered(20, days=1)
    folder = Folder()
    asking = Asking(storage, NOW, anchors=FORGE.anchors, from_host=folder)
    assert upload(asking, {name: new}).status_code == 204
    assert error(upload(asking, {name: old}))[1:] == (
        "collateral_replayed",
        f"tcb-info sgx {FMSPC} standard: want one issued 2026-05-30T12:00:00Z with evaluation number 21 or "
        "later, as is kept, got one issued 2026-05-31T12:00:00Z with evaluation number 20",
    )
    folder.document = old
    assert asking.get(PATHS[Kind.TCB_INFO]).content == new.body


class Meanwhile:
    """A store on whose way another instance is first, once."""

    def __init__(self, storage: SealedStore, first: Callable[[], None]) -> None:
        self.rollback, self._storage, self._first = storage.rollback, storage, [first]
        self.get, self.scan = storage.get, storage.scan

    def update(self, work: Callable[[Writing], Any], *meanwhile: Callable[[], None]) -> Any:
        if self._first:
            self._first.pop()()
        return self._storage.update(work, *meanwhile)


@pytest.mark.parametrize("beside", [False, True])
def test_of_two_instances_at_once_the_newer_document_stays(storage: SealedStore, beside: bool) -> None:
    """Between what an instance reads and what it keeps, another may have kept a newer one."""
    oldest, older, newest = (numbered(number, days) for number, days in ((19, 3), (20, 2), (21, 1)))
    name = (Kind.TCB_INFO, ("sgx", FMSPC, "standard"))
    other = Vendor(storage, FORGE.anchors)
    other.keep(*name, oldest, NOW)
    path, query = "/sgx/certification/v4/tcb", {"fmspc": FMSPC, "update": "standard"}
    folder = Folder()
    folder.document = older
    meanwhile = Meanwhile(storage, lambda: other.keep(*name, newest, NOW))
    late = Vendor(meanwhile, FORGE.anchors, folder if beside else None)
    if beside:
        assert late.get(path, query, NOW) == (name, newest)
    else:
        with pytest.raises(FreshnessError) as caught:
            late.keep(*name, older, NOW)
        assert caught.value.code == "collateral_replayed"
        assert "evaluation number 21 or later, as is kept, got one issued" in caught.value.message
    assert other.get(path, query, NOW)[1] == newest


class Folder:
    """The host's folder: one document for every path, as a test sets it."""

    def __init__(self) -> None:
        self.document: Document | None = None

    def __call__(self, path: str, query: Mapping[str, str]) -> tuple[dict[str, str], bytes] | None:
        return (
            None
            if self.document is None
            else answer(Kind.TCB_INFO if self.document.chain else Kind.ROOT_CA_CRL, self.document)
        )


def test_a_host_cannot_go_back(storage: SealedStore) -> None:
    """The newest genuine document that was given once is given from then on, whatever the host has later."""
    folder, path = Folder(), PATHS[Kind.ROOT_CA_CRL]
    asking = Asking(storage, NOW, anchors=FORGE.anchors, from_host=folder)
    first, second = (Document(body=FORGE.crl("root", now=NOW - timedelta(days=days))) for days in (2, 1))
    lies = Document(body=Forge().crl("root"))
    for has, gives in (
        (first, first),
        (second, second),
        (first, second),
        (None, second),
        (lies, second),
        (Document(body=b"0"), second),
    ):
        folder.document = has
        assert asking.get(path).content == gives.body
    late = Document(body=FORGE.crl("root", now=NOW + timedelta(days=29)))
    asking.clock.at = NOW + timedelta(days=29, hours=1)
    folder.document = None
    assert asking.get(path).status_code == 503
    folder.document = late
    assert asking.get(path).content == late.body
    folder.document, asking.clock.at = None, NOW
    other = Asking(storage, NOW, anchors=FORGE.anchors)
    assert other.get(path).status_code == 503  # kept, and of the future


@pytest.mark.parametrize(
    ("one", "message"),
    [
        ({"kind": "gossip", "key": [], "body": ""}, "kind: want one of tcb-info"),
        ({"kind": "pck-crl", "key": ["../x"], "body": ""}, "pck-crl: want letters and digits, got '../x'"),
        ({"kind": "pck-crl", "key": ["platform"], "body": "%"}, "body: is not base64"),
        ({"kind": "pck-crl", "key": [], "body": ""}, "pck-crl: want the key platform|processor, got ''"),
        ({"kind": "root-ca-crl", "key": ["x"], "body": ""}, "root-ca-crl: want the key empty, got 'x'"),
        (
            {"kind": "tcb-info", "key": ["sgx", "0123456789AB", "early"], "body": ""},
            "tcb-info: want the key sgx|tdx [0-9a-f]{12} early|standard|[0-9]{1,5}, got 'sgx 0123456789AB",
        ),
        ({"kind": "tcb-info", "key": ["sgx", "01" * 6], "body": ""}, "tcb-info: want the key sgx|tdx "),
        ({"kind": "qe-identity", "key": ["sgx"], "body": ""}, "qe-identity: want the key sgx|tdx early|"),
        ({"kind": "vcek", "key": [], "body": ""}, "vcek: want the key Milan|Genoa|Turin|Venice "),
        ({"kind": "vcek", "key": ["Rome", "01" * 64, "1-2-3-4"], "body": ""}, "vcek: want the key Milan|"),
        ({"kind": "amd-crl", "key": ["Milan", "vtek"], "body": ""}, "amd-crl: want the key Milan|"),
    ],
)
def test_uploads_that_are_none(believing: Asking, one: dict[str, Any], message: str) -> None:
    """What cannot be a document is 400, and named."""
    answer = believing.ask("POST", "/kluis/collateral", OWNER, json={"documents": [one]})
    assert answer.status_code == 400
    assert error(answer)[2].startswith(message)


def test_uploads_are_bounded(believing: Asking) -> None:
    """So many documents at once, and no more."""
    one = {"kind": "pck-crl", "key": ["platform"], "body": ""}
    answer = believing.ask("POST", "/kluis/collateral", OWNER, json={"documents": [one] * 257})
    assert error(answer) == (400, "usage", "documents: want at most 256, got 257")


@pytest.mark.skipif(not GENUINE.exists(), reason=MISSING)
def test_intels_own(storage: SealedStore, tmp_path: Path) -> None:
    """Intel's own TDX collateral goes through unchanged; our client and dcap-qvl fetch it and accept."""
    vector = Vector(GENUINE)
    cache = Cache(tmp_path / "kept")
    body, chain = vector.part("tcb_info"), vector.part("tcb_info_issuer_chain")
    for which in ("early", "standard"):
        info = Document(body=body, chain=chain)
        cache.write(Kind.TCB_INFO, ("tdx", "90c06f000000", which), info, vector.now)
        identity = Document(body=vector.part("qe_identity"), chain=vector.part("qe_identity_issuer_chain"))
        cache.write(Kind.QE_IDENTITY, ("tdx", which), identity, vector.now)
    pck = Document(body=crl_der(vector.part("pck_crl"), "CRL"), chain=vector.part("pck_crl_issuer_chain"))
    cache.write(Kind.PCK_CRL, ("platform",), pck, vector.now)
    cache.write(Kind.ROOT_CA_CRL, (), Document(body=crl_der(vector.part("root_ca_crl"), "CRL")), vector.now)
    quote = vector.part("quote")
    with Served(storage, vector.now, tmp_path, from_host=vendor(cache)) as served:
        answer = served.get("/intel/tdx/certification/v4/tcb?fmspc=90C06F000000")
        assert answer.content == body
        trust = ssl.create_default_context(cafile=str(served.ca))
        anchors = TrustAnchors.shipped()
        with Pcs(f"{served.url}/intel", roots=None, trust=trust) as pcs:
            vendors = Vendors(intel=pcs, amd=pcs)
            found = fetch_for(quote, vendors, release="early", anchors=anchors, now=vector.now)
        assert isinstance(found, Collateral)
        assert verify(quote, collateral=found, anchors=anchors, now=vector.now).value.tcb.status == "UpToDate"

        dcap_qvl = pytest.importorskip("dcap_qvl", reason="pip install dcap-qvl")

        async def fetch() -> Any:
            return await dcap_qvl.get_collateral(f"{served.plain}/intel", quote)

        theirs = dcap_qvl.verify(quote, asyncio.run(fetch()), int(vector.now.timestamp()))
        assert theirs.status == "UpToDate"


def test_amds_through_our_client(storage: SealedStore, tmp_path: Path) -> None:
    """Our client of AMD's service fetches a chip's certificates from ours, and the verifier accepts them."""
    with Served(storage, NOW, tmp_path, anchors=AMD.anchors) as served:
        assert upload(served, chip(AMD)).status_code == 204
        trust = ssl.create_default_context(cafile=str(served.ca))
        with Kds(served.url, trust=trust) as kds:
            vendors = Vendors(intel=kds, amd=kds)
            found = fetch_for(AMD.report(), vendors, release="early", anchors=AMD.anchors, now=NOW)
        assert isinstance(found, SnpEndorsements)
        assert verify(AMD.report(), collateral=found, anchors=AMD.anchors, now=NOW)
