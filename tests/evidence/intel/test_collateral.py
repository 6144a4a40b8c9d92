"""Collateral: what needs no quote is refused when it is verified, each for its own reason."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from datetime import timedelta
from typing import NamedTuple

import pytest

from kluis.authority import issuing
from kluis.errors import AuthenticityError, FormatError, FreshnessError, KluisError, UnsupportedError
from kluis.evidence import Collateral
from kluis.evidence.context import Context
from kluis.evidence.intel import collateral as holding
from tests.evidence.forge import NOW, Forge, key, pem


class Case(NamedTuple):
    """What is forged, and what must be said of it."""

    make: Callable[[Forge], Collateral]
    error: type[KluisError]
    code: str
    message: str


OTHER = Forge()
UNSIGNED = "is not signed by the key it should be"
SIGNER = "TCB signing certificate"

CASES: dict[str, Case] = {
    "1 a chain without its root": Case(
        lambda f: f.collateral(pck_crl_issuer_chain=pem(f.ca)),
        AuthenticityError,
        "chain_missing",
        "PCK CRL issuer chain: want 2 certificates, got 1",
    ),
    "1 a chain of the wrong role": Case(
        lambda f: f.collateral(tcb_info_issuer_chain=pem(f.leaf(), f.root)),
        AuthenticityError,
        "chain_missing",
        "TCB info issuer chain: want 1 certificate named SGX TCB Signing, got 0",
    ),
    "1 a signer's chain of another root": Case(
        lambda f: f.collateral(tcb_info_issuer_chain=pem(OTHER.signer(), OTHER.root)),
        AuthenticityError,
        "root_untrusted",
        "TCB info issuer chain: its root is not that of the PCK CRL",
    ),
    "2 a signer of somebody's own": Case(
        lambda f: f.collateral(tcb_info_issuer_chain=pem(f.signer(issuer_key=key()), f.root)),
        AuthenticityError,
        "pck_chain",
        f"{SIGNER}: {UNSIGNED}",
    ),
    "2 a signer that is a CA": Case(
        lambda f: f.collateral(qe_identity_issuer_chain=pem(f.signer(path_length=0), f.root)),
        AuthenticityError,
        "cert_profile",
        f"{SIGNER}: want an end entity that signs data",
    ),
    "2 a CA that signs no CRLs": Case(
        lambda f: f.collateral(pck_crl_issuer_chain=pem(f.pck_ca(path_length=None), f.root)),
        AuthenticityError,
        "cert_profile",
        "PCK CA certificate: want a CA that signs certificates and CRLs",
    ),
    "3 the root's CRL as the PCK CRL": Case(
        lambda f: f.collateral(pck_crl=f.crl("root")),
        AuthenticityError,
        "crl_issuer",
        "PCK CRL: its issuer is not 'Kluis emulated SGX PCK Platform CA (no hardware)'",
    ),
    "3 a CRL in the CA's name": Case(
        lambda f: f.collateral(pck_crl=issuing.crl(f.ca, key(), NOW, life=timedelta(days=30), revoked=())),
        AuthenticityError,
        "crl_sig",
        f"PCK CRL: {UNSIGNED}",
    ),
    "3 a root CRL in the root's name": Case(
        lambda f: f.collateral(
            root_ca_crl=issuing.crl(f.root, key(), NOW, life=timedelta(days=30), revoked=())
        ),
        AuthenticityError,
        "crl_sig",
        f"root CA CRL: {UNSIGNED}",
    ),
    "4 TCB info written anew": Case(
        lambda f: f.collateral(tcb_info=f.collateral().tcb_info.replace(b",", b", ", 1)),
        AuthenticityError,
        "tcb_info_sig",
        f"TCB info: {UNSIGNED}",
    ),
    "4 an identity that is changed": Case(
        lambda f: f.collateral(qe_identity=f.collateral().qe_identity.replace(b"OutOf", b"UpTo")[:-1]),
        AuthenticityError,
        "qe_identity_sig",
        f"QE identity: {UNSIGNED}",
    ),
    "4 a signature cut short": Case(
        lambda f: f.collateral(tcb_info_signature=bytes(63)),
        AuthenticityError,
        "tcb_info_sig",
        "TCB info: want a signature of 64 bytes, got 63",
    ),
    "4 an identity's signature that goes on": Case(
        lambda f: f.collateral(qe_identity_signature=bytes(65)),
        AuthenticityError,
        "qe_identity_sig",
        "QE identity: want a signature of 64 bytes, got 65",
    ),
    "4 a status that nobody knows": Case(
        lambda f: f.with_tcb_info(lambda d: d["tcbLevels"][0].update(tcbStatus="Fine")),
        UnsupportedError,
        "bad_type",
        "TCB info: status 'Fine' is not known",
    ),
    "4 the verifier's own status": Case(
        lambda f: f.with_identity(lambda d: d["tcbLevels"][0].update(tcbStatus="NotSupported")),
        UnsupportedError,
        "bad_type",
        "QE identity: status 'NotSupported' is not known",
    ),
    "4 a signed document without levels": Case(
        lambda f: f.with_tcb_info(lambda d: d.update(tcbLevels=[])),
        FormatError,
        "bad_length",
        "TCB info.tcbLevels: want at least 1, got 0",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_case(name: str, forge: Forge) -> None:
    """Each step refuses the collateral in which only it fails."""
    case = CASES[name]
    with pytest.raises(KluisError) as caught:
        holding.hold(case.make(forge), forge.anchors)
    assert (type(caught.value), caught.value.code, str(caught.value)) == (
        case.error,
        case.code,
        case.message,
    )


def test_two_signers(forge: Forge) -> None:
    """TCB info and identity may have different signers, and both are held."""
    second = forge.signer()
    collateral = forge.collateral(qe_identity_issuer_chain=pem(second, forge.root))
    held = holding.hold(collateral, forge.anchors)
    assert [signer.serial for signer in held.signers][1:] == [second.serial_number]
    assert len(held.signers) == 2
    held.check(NOW)


def test_every_part_has_its_window(forge: Forge) -> None:
    """The window of the whole is the intersection of its parts'."""
    held = forge.held()
    assert held.start == max(window.start for window in held.windows)
    assert held.end == min(window.end for window in held.windows)
    assert [window.what for window in held.windows] == [
        "TCB info",
        "QE identity",
        "root CA CRL",
        "PCK CRL",
        "root certificate",
        "PCK CA certificate",
        "TCB signing certificate",
    ]
    assert held.start == NOW - timedelta(minutes=5)
    assert held.end == NOW + timedelta(days=30, minutes=-5)


def test_the_age_is_that_of_what_is_published_each_month(forge: Forge) -> None:
    """A root's CRL is made once a year; collateral with one of last winter is not old for it."""
    winter = NOW - timedelta(days=200)
    yearly = forge.crl("root", now=winter, days=365)
    held = holding.hold(forge.collateral(root_ca_crl=yearly), forge.anchors)
    assert held.issued > winter
    assert held.issued == holding.hold(forge.collateral(), forge.anchors).issued
    stale = forge.crl("platform_ca", now=NOW - timedelta(days=20), days=30)
    older = held.issued - timedelta(days=15)
    assert holding.hold(forge.collateral(pck_crl=stale), forge.anchors).issued < older


@pytest.mark.parametrize("other", [bytes(32), b"\xff" * 32], ids=["before", "after"])
def test_held_in_the_same_place(other: bytes, forge: Forge) -> None:
    """Other collateral that was cached at the same place is not returned."""
    context = Context(forge.anchors, lasting=True)
    for place in range(64):
        context.memory.put("collateral", bytes((place,)), (other, None))
    assert holding.recall(forge.collateral(), context).tcb_info == forge.held().tcb_info


def test_bounds_of_parts_are_held_too(forge: Forge) -> None:
    """The same bytes, cut into parts in another place, are other collateral."""
    context = Context(forge.anchors, lasting=True)
    good = forge.collateral()
    holding.recall(good, context)
    names = [field.name for field in dataclasses.fields(good)]
    first = names.index("tcb_info")
    for one, two in itertools.pairwise(names):
        if first not in (names.index(one), names.index(two)):
            continue
        left, right = getattr(good, one), getattr(good, two)
        moved = dataclasses.replace(good, **{one: left + right[:1], two: right[1:]})
        with pytest.raises(KluisError):
            holding.recall(moved, context)


def _two_keys(forge: Forge, own: str) -> tuple[Collateral, int]:
    """Collateral with one document whose signer has a separate key."""
    second = key()
    signer = forge.signer(public_key=second.public_key())
    chain = {"tcb_info": "tcb_info_issuer_chain", "qe_identity": "qe_identity_issuer_chain"}[own]
    signature = issuing.sign(second, getattr(forge.collateral(), own))
    changed = {chain: pem(signer, forge.root), f"{own}_signature": signature}
    return forge.collateral(**changed), signer.serial_number


@pytest.mark.parametrize("own", ["tcb_info", "qe_identity"])
def test_each_document_has_its_own_signer(own: str, forge: Forge) -> None:
    """A document is checked with its own signer's key, and that signer may be revoked."""
    collateral, serial = _two_keys(forge, own)
    held = holding.hold(collateral, forge.anchors)
    assert serial in [signer.serial for signer in held.signers]
    swapped = {name: getattr(collateral, name) for name in (f"{own}_issuer_chain",)}
    with pytest.raises(AuthenticityError) as caught:
        holding.hold(forge.collateral(**swapped), forge.anchors)
    assert caught.value.code == f"{own}_sig"
    revoked = dataclasses.replace(collateral, root_ca_crl=forge.crl("root", serial))
    with pytest.raises(AuthenticityError) as caught:
        holding.hold(revoked, forge.anchors).check(NOW)
    assert caught.value.code == "signing_cert_revoked"


def test_a_signers_root_is_exactly_that_root(forge: Forge) -> None:
    """Another root's key is another, whichever of both is the greater."""
    for one, two in ((forge, OTHER), (OTHER, forge)):
        with pytest.raises(AuthenticityError) as caught:
            holding.hold(one.collateral(tcb_info_issuer_chain=pem(two.signer(), two.root)), one.anchors)
        assert caught.value.code == "root_untrusted"


@pytest.mark.parametrize("own", ["tcb_info", "qe_identity"])
def test_a_signer_that_has_run_out(own: str, forge: Forge) -> None:
    """Every signer of the collateral has its time, and its error names a certificate."""
    old = forge.signer(now=NOW - timedelta(days=4000))
    held = holding.hold(forge.collateral(**{f"{own}_issuer_chain": pem(old, forge.root)}), forge.anchors)
    with pytest.raises(FreshnessError, match="TCB signing certificate expired on") as caught:
        held.check(NOW)
    assert caught.value.code == "cert_expired"


def test_the_age_is_that_of_the_oldest_document(forge: Forge) -> None:
    """TCB info and identity each make collateral as old as they are."""
    when = NOW - timedelta(days=9)
    stamp = when.isoformat().replace("+00:00", "Z")
    for change in (forge.with_tcb_info, forge.with_identity):
        older = change(lambda document: document.update(issueDate=stamp))
        assert holding.hold(older, forge.anchors).issued == when


@pytest.mark.parametrize(
    ("made", "code"),
    [(timedelta(days=-4000), "cert_expired"), (timedelta(days=1), "cert_not_yet_valid")],
    ids=["old", "new"],
)
@pytest.mark.parametrize("which", ["root", "ca", "signer"])
def test_each_certificate_of_the_collateral_has_its_time(
    which: str, made: timedelta, code: str, forge: Forge
) -> None:
    """A certificate that is only in the collateral is checked for its time, too, though the quote's own are
    valid.
    """
    given = {"root": forge.root_ca, "ca": forge.pck_ca, "signer": forge.signer}[which](now=NOW + made)
    if which == "signer":
        collateral = forge.collateral(tcb_info_issuer_chain=pem(given, forge.root))
    else:
        chain = pem(forge.ca, given) if which == "root" else pem(given, forge.root)
        collateral = forge.collateral(pck_crl_issuer_chain=chain)
    with pytest.raises(FreshnessError) as caught:
        forge.verify(collateral=collateral)
    name = {"root": "root", "ca": "PCK CA", "signer": "TCB signing"}[which]
    state = "expired on" if code == "cert_expired" else "is not valid before"
    assert str(caught.value).startswith(f"{name} certificate {state} ")
    assert caught.value.code == code
