"""AMD's chains: what is cached, and what is checked again at every use."""

from __future__ import annotations

import dataclasses
from datetime import datetime, timedelta

import pytest

from kluis.errors import AuthenticityError, FreshnessError, KluisError, UnavailableError
from kluis.evidence import OPENSSL, SnpClaims, SnpEndorsements, TrustAnchors, Verifier
from kluis.evidence.amd import chain
from kluis.evidence.amd import snp as amd_snp
from kluis.evidence.context import Context, Memory
from kluis.evidence.engine import Key
from kluis.evidence.model import Claims
from kluis.formats.snp.flags import SigningKey
from kluis.formats.x509 import Scheme
from tests.evidence.amd.forge import NOW, YEAR, Forge, rsa_key, spki

FORGE = Forge("Genoa")


class Counting:
    """An engine that counts what it checks, by scheme."""

    name = "counting"

    def __init__(self) -> None:
        self.checked: list[Scheme] = []

    def key(self, spki: bytes, scheme: Scheme) -> Key:
        return _CountedKey(OPENSSL.key(spki, scheme), self.checked, scheme)


class _CountedKey:
    def __init__(self, key: Key, checked: list[Scheme], scheme: Scheme) -> None:
        self._key, self._checked, self._scheme = key, checked, scheme

    def verify(self, signature: bytes, signed: bytes) -> bool:
        self._checked.append(self._scheme)
        return self._key.verify(signature, signed)


def _verify(context: Context, endorsements: SnpEndorsements, now: datetime = NOW) -> Claims:
    return amd_snp.verify(FORGE.report(), context=context, collateral=endorsements, now=now).value


def test_a_known_chain_costs_one_signature() -> None:
    """A chain and a CRL that were proven cost no signature again; every report costs its own."""
    engine = Counting()
    context = Context(FORGE.anchors, engine)
    endorsements = FORGE.endorsements(crl=FORGE.crl())
    _verify(context, endorsements)
    assert engine.checked == [Scheme.PS384] * 4 + [Scheme.ES384]
    engine.checked.clear()
    claims = [_verify(context, endorsements) for _ in range(3)]
    assert engine.checked == [Scheme.ES384] * 3
    assert claims[0] == claims[1]


def test_other_bytes_are_another_chain() -> None:
    """One byte of difference, in any certificate, is not the chain that was proven."""
    context = Context(FORGE.anchors)
    _verify(context, FORGE.endorsements())
    for part in ("vek", "ask", "ark"):
        whole = getattr(FORGE.endorsements(), part)
        with pytest.raises(KluisError):
            _verify(context, FORGE.endorsements(**{part: whole[:-1] + bytes([whole[-1] ^ 1])}))
    crl = FORGE.crl()
    _verify(context, FORGE.endorsements(crl=crl))
    with pytest.raises(AuthenticityError) as caught:
        _verify(context, FORGE.endorsements(crl=crl[:-1] + bytes([crl[-1] ^ 1])))
    assert caught.value.code == "crl_sig"


def test_parts_do_not_run_into_one_another() -> None:
    """Bytes that only joined are the same as those proven are another chain."""
    context = Context(FORGE.anchors)
    good = FORGE.endorsements()
    _verify(context, good)
    assert good.ask is not None
    assert good.ark is not None
    moved = SnpEndorsements(vek=good.vek, ask=good.ask + good.ark[:1], ark=good.ark[1:])
    with pytest.raises(KluisError):
        _verify(context, moved)


def test_time_is_judged_at_each_use() -> None:
    """A chain and a CRL that were good are refused once they have run out, every certificate of them."""
    for part in ("vek", "ask", "ark", "crl"):
        end = NOW + timedelta(days=1)
        made: dict[str, object] = {"crl": FORGE.crl()}
        made[part] = {
            "vek": lambda end=end: FORGE.make_vek(end=end),
            "ask": lambda end=end: FORGE.make_ask(end=end),
            "ark": lambda end=end: FORGE.make_ark(end=end),
            "crl": lambda end=end: FORGE.crl(end=end),
        }[part]()
        context, endorsements = Context(FORGE.anchors), FORGE.endorsements(**made)
        _verify(context, endorsements)
        _verify(context, endorsements, end)
        for when in (end + timedelta(seconds=1), NOW - 2 * YEAR):
            with pytest.raises(FreshnessError):
                _verify(context, endorsements, when)


def test_revocation_is_judged_at_each_use() -> None:
    """A chain that was proven is refused with a newer CRL that lists it."""
    context = Context(FORGE.anchors)
    _verify(context, FORGE.endorsements(crl=FORGE.crl()))
    for _ in range(2):
        with pytest.raises(AuthenticityError) as caught:
            _verify(context, FORGE.endorsements(crl=FORGE.crl(65537)))
        assert caught.value.code == "cert_revoked"
    vendor = _verify(context, FORGE.endorsements()).vendor
    assert isinstance(vendor, SnpClaims)
    assert not vendor.crl_checked


def test_what_was_proven_for_another_is_not_believed() -> None:
    """A memory that two relying parties share does not make one believe the other's anchors."""
    memory = Memory()
    _verify(Context(FORGE.anchors, memory=memory), FORGE.endorsements())
    with pytest.raises(AuthenticityError) as caught:
        _verify(Context(TrustAnchors.shipped(), memory=memory), FORGE.endorsements())
    assert caught.value.code == "root_untrusted"


def test_a_leaf_that_nobody_vouches_for_is_not_kept() -> None:
    """A report that is checked only by its leaf, since its chain is missing, leaves no key in the cache."""
    context = Context(FORGE.anchors)
    with pytest.raises(UnavailableError):
        _verify(context, FORGE.endorsements(ark=None))
    assert len(context.memory) == 0


def test_a_crl_proven_for_another_root() -> None:
    """A CRL that was proven is that of the root that signed it, and of no other of its name."""
    other = Forge("Genoa")
    other.ark_key = rsa_key("other ARK")
    other.ark = other.make_ark()
    other.ask = other.make_ask()
    (anchor,) = FORGE.anchors
    context = Context(TrustAnchors((anchor, dataclasses.replace(anchor, spki=spki(other.ark_key)))))
    crl = FORGE.crl()
    _verify(context, FORGE.endorsements(crl=crl))
    _verify(context, FORGE.endorsements(ark=other.ark, ask=other.ask))
    with pytest.raises(AuthenticityError) as caught:
        _verify(context, FORGE.endorsements(ark=other.ark, ask=other.ask, crl=crl))
    assert caught.value.code == "crl_sig"


def test_failures_are_not_kept() -> None:
    """A chain that was refused is looked at again, and puts nothing good out of memory."""
    engine = Counting()
    context = Context(FORGE.anchors, engine, Memory(8))
    bad = FORGE.endorsements(vek=FORGE.make_vek(issuer_key=rsa_key("nobody")))
    good = FORGE.endorsements()
    _verify(context, good)
    for _ in range(20):
        with pytest.raises(AuthenticityError):
            _verify(context, bad)
    engine.checked.clear()
    _verify(context, good)
    assert engine.checked == [Scheme.ES384]


def test_a_verifier_remembers() -> None:
    """The public verifier keeps what it proved."""
    engine = Counting()
    verifier = Verifier(FORGE.anchors, engine=engine)
    for _ in range(3):
        verifier.verify(FORGE.report(), collateral=FORGE.endorsements(), now=NOW)
    assert engine.checked == [Scheme.PS384] * 3 + [Scheme.ES384] * 3


def test_a_held_chain_of_the_other_kind() -> None:
    """A chain proven for VCEKs is not one for a report that names a VLEK."""
    context = Context(FORGE.anchors)
    good = FORGE.endorsements()
    assert good.vek is not None
    chain.verify_vek(good.vek, good, SigningKey.VCEK, context)
    with pytest.raises(AuthenticityError) as caught:
        chain.verify_vek(good.vek, good, SigningKey.VLEK, context)
    assert caught.value.code == "signer_kind_mismatch"


def test_authority_alone() -> None:
    """ARK and ASK verify without a report, with their CRL and at their time."""
    context = Context(FORGE.anchors)
    authority = chain.verify_authority(FORGE.endorsements(vek=None), context=context, now=NOW)
    assert (authority.product, authority.kind, authority.crl) == ("Genoa", SigningKey.VCEK, None)
    listed = FORGE.endorsements(vek=None, crl=FORGE.crl())
    crl = chain.verify_authority(listed, context=context, now=NOW).crl
    assert crl is not None
    assert crl.revoked == ()
    for given in (listed, FORGE.endorsements(vek=None)):
        with pytest.raises(FreshnessError) as caught:
            chain.verify_authority(given, context=context, now=NOW + 2 * YEAR)
        assert caught.value.code == "cert_expired"
    with pytest.raises(AuthenticityError):
        chain.verify_authority(FORGE.endorsements(crl=FORGE.crl(65537)), context=context, now=NOW)
    with pytest.raises(UnavailableError):
        chain.verify_authority(SnpEndorsements(), context=context, now=NOW)
