"""Checks before caching: each property of a vendor's document and of its signers."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from kluis.collateral import Document, Key, Kind
from kluis.collateral.checks import check
from kluis.errors import AuthenticityError, FormatError, FreshnessError, KluisError, UnavailableError
from kluis.evidence import TrustAnchors
from kluis.evidence.context import Context
from kluis.formats.sgx.collateral import Collateral
from tests.evidence.amd.forge import Forge as AmdForge
from tests.evidence.forge import NOW, Forge, key, pem

FORGE, AMD = Forge(), AmdForge("Genoa")
ANCHORS = FORGE.anchors | AMD.anchors
FMSPC = "e0e0e0000000"
INFO: tuple[Kind, Key] = (Kind.TCB_INFO, ("sgx", FMSPC, "early"))
YEARS = timedelta(days=3650)


def none(kind: Kind, words: Key) -> Document:
    """There is nothing to check with."""
    raise UnavailableError(f"{kind}: nothing", code="collateral_missing")


def info(given: Collateral | None = None, **changes: bytes) -> Document:
    """TCB info as it is published."""
    given = dataclasses.replace(given or FORGE.collateral(), **changes)
    body = b'{"tcbInfo":%s,"signature":"%s"}' % (given.tcb_info, given.tcb_info_signature.hex().encode())
    return Document(body=body, chain=given.tcb_info_issuer_chain)


def pck_crl(**changes: bytes) -> Document:
    given = dataclasses.replace(FORGE.collateral(), **changes)
    return Document(body=given.pck_crl, chain=given.pck_crl_issuer_chain)


def checked(
    name: tuple[Kind, Key], document: Document, anchors: TrustAnchors = ANCHORS, days: int = 0
) -> None:
    check(*name, document, none, Context(anchors), NOW + timedelta(days=days))


def refused(
    name: tuple[Kind, Key], document: Document, anchors: TrustAnchors = ANCHORS, days: int = 0
) -> tuple[type[KluisError], str]:
    with pytest.raises(KluisError) as caught:
        checked(name, document, anchors, days)
    return type(caught.value), caught.value.code


def test_what_is_good_is_good() -> None:
    """A document signed by its vendor, currently valid and under the right name, passes."""
    checked(INFO, info())
    checked((Kind.PCK_CRL, ("platform",)), pck_crl())
    checked((Kind.ROOT_CA_CRL, ()), Document(body=FORGE.crl("root")))


@pytest.mark.parametrize(
    ("document", "kind", "code"),
    [
        (info(tcb_info_issuer_chain=pem(FORGE.signer())), AuthenticityError, "chain_missing"),
        (
            info(tcb_info_issuer_chain=pem(FORGE.ca, FORGE.root)),
            AuthenticityError,
            "chain_missing",
        ),
        (
            info(tcb_info_issuer_chain=pem(FORGE.signer(issuer_key=key()), FORGE.root)),
            AuthenticityError,
            "pck_chain",
        ),
        (
            info(tcb_info_issuer_chain=pem(FORGE.signer(path_length=0), FORGE.root)),
            AuthenticityError,
            "cert_profile",
        ),
        (
            info(tcb_info_issuer_chain=pem(FORGE.signer(public_key=key().public_key()), FORGE.root)),
            AuthenticityError,
            "tcb_info_sig",
        ),
        (
            info(tcb_info_issuer_chain=pem(FORGE.signer(now=NOW - YEARS), FORGE.root)),
            FreshnessError,
            "cert_expired",
        ),
        (
            info(tcb_info_issuer_chain=pem(FORGE.signer(), FORGE.root_ca(now=NOW - YEARS))),
            FreshnessError,
            "cert_expired",
        ),
        (
            info(tcb_info_issuer_chain=pem(FORGE.signer(now=NOW + YEARS), FORGE.root)),
            FreshnessError,
            "cert_not_yet_valid",
        ),
        (Document(body=b"{}", chain=FORGE.collateral().tcb_info_issuer_chain), FormatError, "bad_encoding"),
        (Document(body=info().body), FormatError, "truncated"),
    ],
    ids=[
        "a signer alone",
        "a CA in a signer's place",
        "a signer that the root did not sign",
        "a signer that is a CA",
        "another signer's key",
        "a signer that ran out",
        "a root that ran out",
        "a signer of the future",
        "no document",
        "no chain",
    ],
)
def test_who_signed_tcb_info(document: Document, kind: type[KluisError], code: str) -> None:
    """Chain, profile, key and time of the signer each count."""
    assert refused(INFO, document) == (kind, code)


@pytest.mark.parametrize(
    ("document", "kind", "code"),
    [
        (
            pck_crl(pck_crl_issuer_chain=pem(FORGE.pck_ca(issuer_key=key()), FORGE.root)),
            AuthenticityError,
            "pck_chain",
        ),
        (
            pck_crl(pck_crl_issuer_chain=pem(FORGE.pck_ca(path_length=None), FORGE.root)),
            AuthenticityError,
            "cert_profile",
        ),
        (
            pck_crl(pck_crl_issuer_chain=pem(FORGE.pck_ca(now=NOW - YEARS), FORGE.root)),
            FreshnessError,
            "cert_expired",
        ),
        (
            pck_crl(pck_crl_issuer_chain=pem(FORGE.ca, FORGE.root_ca(now=NOW - YEARS))),
            FreshnessError,
            "cert_expired",
        ),
        (pck_crl(pck_crl=FORGE.crl("root")), AuthenticityError, "crl_issuer"),
        (
            pck_crl(pck_crl_issuer_chain=pem(FORGE.pck_ca(public_key=key().public_key()), FORGE.root)),
            AuthenticityError,
            "crl_sig",
        ),
    ],
    ids=[
        "a CA that the root did not sign",
        "an end entity",
        "a CA that ran out",
        "a root that ran out",
        "the root's CRL",
        "another CA's key",
    ],
)
def test_who_signed_a_pck_crl(document: Document, kind: type[KluisError], code: str) -> None:
    """Chain, profile, key and time of the CA each count."""
    assert refused((Kind.PCK_CRL, ("platform",)), document) == (kind, code)


def test_times() -> None:
    """Before its time and after it a document is refused, however good its signers are."""
    before = NOW - timedelta(days=9)
    older = info(tcb_info_issuer_chain=pem(FORGE.signer(now=before), FORGE.root_ca(now=before)))
    assert refused(INFO, older, days=31) == (FreshnessError, "tcb_info_expired")
    assert refused(INFO, older, days=-1) == (FreshnessError, "tcb_info_not_yet_valid")
    assert refused((Kind.PCK_CRL, ("platform",)), pck_crl(), days=31) == (FreshnessError, "crl_expired")


def test_a_root_whose_key_alone_is_known() -> None:
    """If an anchor is a bare key, the root that signed a CRL is only found next to the PCK CRL."""
    bare = TrustAnchors(tuple(dataclasses.replace(anchor, proven={}) for anchor in FORGE.anchors))
    name: tuple[Kind, Key] = (Kind.ROOT_CA_CRL, ())
    document = Document(body=FORGE.crl("root"))
    assert refused(name, document, bare) == (UnavailableError, "collateral_missing")
    check(*name, document, lambda kind, words: pck_crl(), Context(bare), NOW)
    other = Forge()
    given = other.collateral()
    strange = Document(body=given.pck_crl, chain=given.pck_crl_issuer_chain)
    with pytest.raises(AuthenticityError) as caught:
        check(*name, document, lambda kind, words: strange, Context(bare), NOW)
    assert caught.value.code == "root_untrusted"


def test_amds_chain_is_asked_for() -> None:
    """AMD's CRL and chips are checked with AMD's chain, which is itself checked."""
    chain = Document(body=b"".join(one.public_bytes(Encoding.PEM) for one in (AMD.ask, AMD.ark)))
    name: tuple[Kind, Key] = (Kind.AMD_CRL, ("Genoa", "vcek"))
    document = Document(body=AMD.crl())
    assert refused(name, document) == (UnavailableError, "collateral_missing")
    asked = []

    def ask(kind: Kind, words: Key) -> Document:
        asked.append((kind, words))
        return chain

    check(*name, document, ask, Context(ANCHORS), NOW)
    assert asked == [(Kind.AMD_CHAIN, ("Genoa", "vcek"))]
    with pytest.raises(AuthenticityError) as caught:
        check(*name, document, ask, Context(FORGE.anchors), NOW)
    assert caught.value.code == "root_untrusted"
    revoked = Document(body=AMD.crl(AMD.ask.serial_number))
    check(*name, revoked, ask, Context(ANCHORS), NOW)  # a CRL with this entry is genuine
    with pytest.raises(FreshnessError):
        check(Kind.AMD_CHAIN, ("Genoa", "vcek"), chain, ask, Context(ANCHORS), NOW + 40 * YEARS)
