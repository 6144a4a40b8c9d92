"""Chains of attestation keys: one forged case a step."""

from __future__ import annotations

import dataclasses
from datetime import datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from kluis.errors import AuthenticityError, FormatError, FreshnessError, UnavailableError
from kluis.evidence import ProtectionLevel, TrustAnchors
from kluis.evidence.context import Context
from kluis.evidence.tpm.key import TrustedKey, area_of, verify_ak, verify_ek
from kluis.formats.tpm import extended_usage
from kluis.formats.tpm.endorsements import TpmEndorsements
from tests.evidence.tpm import forge
from tests.evidence.tpm.forge import AK_USAGE, NOW, Maker, Tpm, rsa_key
from tests.vectors import MISSING, Vector, found

DAY = timedelta(days=1)


def _certified(
    maker: Maker, endorsements: TpmEndorsements, anchors: TrustAnchors | None = None
) -> TrustedKey:
    return verify_ak(endorsements, context=Context(anchors or maker.anchors), now=NOW)


def test_true_chain(maker: Maker, tpm: Tpm) -> None:
    """A chain may be in any order; the key is the leaf's."""
    leaf = maker.ak(tpm.key)
    for chain in ((maker.ca, maker.root), (maker.root, maker.ca)):
        key = _certified(maker, maker.endorse(leaf, *chain))
        assert key.spki == forge.spki(tpm.key)
        assert [c.common_name for c in key.chain] == ["an AK", "Maker CA", "Maker Root"]


CERTIFIED = [v for v in found("azure") if "ak_cert" in v]


@pytest.mark.skipif(not CERTIFIED, reason=MISSING)
@pytest.mark.parametrize("vector", CERTIFIED, ids=lambda vector: vector.name)
def test_real_chain(vector: Vector) -> None:
    """A real vTPM's certificate chains to the cloud's root that is shipped, in its own time."""
    endorsements = TpmEndorsements(certificate=vector.part("ak_cert"), chain=vector.part("ak_chain"))
    window = vector.known["ak_cert"]
    context = Context(TrustAnchors.shipped())
    key = verify_ak(endorsements, context=context, now=_time(window["not_before"]))
    assert key.anchor.level is ProtectionLevel.VTPM
    assert [c.common_name for c in key.chain][1:] == [
        name.partition(",")[0].removeprefix("CN=") for name in window["chain"]
    ]
    assert key.valid_until == _time(window["not_after"])
    with pytest.raises(FreshnessError) as caught:
        verify_ak(endorsements, context=context, now=_time(window["not_after"]) + DAY)
    assert caught.value.code == "cert_expired"


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def test_step_1_parses(maker: Maker, tpm: Tpm) -> None:
    """What is no certificate is malformed."""
    for endorsements in (
        TpmEndorsements(certificate=b""),
        TpmEndorsements(certificate=b"-----BEGIN CERTIFICATE-----\n!"),
        TpmEndorsements(certificate=maker.ak(tpm.key).public_bytes(Encoding.DER), chain=b"no PEM"),
    ):
        with pytest.raises(FormatError):
            _certified(maker, endorsements)


def test_step_1_issuer_missing(maker: Maker, tpm: Tpm) -> None:
    """Without an issuer nothing can be decided."""
    leaf = maker.ak(tpm.key).public_bytes(Encoding.DER)
    only_ca = maker.ca.public_bytes(Encoding.PEM)
    for endorsements in (TpmEndorsements(certificate=leaf), TpmEndorsements(certificate=leaf, chain=only_ca)):
        with pytest.raises(UnavailableError, match="is missing") as caught:
            _certified(maker, endorsements)
        assert caught.value.code == "chain_missing"


def test_step_1_more_than_the_issuers(maker: Maker, tpm: Tpm) -> None:
    """A certificate that issued nothing has no place in a chain; nor has one that appears twice."""
    stranger = maker.certificate("Stranger", maker.ca_key, "Stranger", maker.ca_key)
    for chain in ((maker.ca, maker.root, stranger), (maker.ca, maker.ca, maker.root)):
        with pytest.raises(AuthenticityError, match=r"issued none of the others|signed by the key") as caught:
            _certified(maker, maker.endorse(maker.ak(tpm.key), *chain))
        assert caught.value.code in {"cert_chain", "cert_profile"}


def test_step_2_self_made(tpm: Tpm, maker: Maker) -> None:
    """A whole chain under a private root with the vendor's names is refused: the anchor is a key, not a
    name.
    """
    other = Maker()
    with pytest.raises(AuthenticityError, match="got another key named 'Maker Root'") as caught:
        _certified(maker, other.endorse(other.ak(tpm.key)))
    assert caught.value.code == "root_untrusted"


def test_step_2_processors_root(maker: Maker, tpm: Tpm) -> None:
    """A root that is an anchor for processors is not one for TPMs."""
    anchors = TrustAnchors.from_pem(maker.root.public_bytes(Encoding.PEM), ProtectionLevel.HARDWARE_TDX)
    with pytest.raises(AuthenticityError, match="want a root for TPMs") as caught:
        _certified(maker, maker.endorse(maker.ak(tpm.key)), anchors)
    assert caught.value.code == "root_untrusted"


@pytest.mark.parametrize(
    ("usages", "message"),
    [
        ((), "got another's"),
        (("1.3.6.1.5.5.7.3.1",), "got another's"),
        ((extended_usage.EK_CERTIFICATE,), "endorsement key's, which signs nothing"),
    ],
)
def test_step_3_usage(maker: Maker, tpm: Tpm, usages: tuple[str, ...], message: str) -> None:
    """A certificate for servers, or of an endorsement key, is refused for an attestation key."""
    with pytest.raises(AuthenticityError, match=message) as caught:
        _certified(maker, maker.endorse(maker.ak(tpm.key, usages=usages)))
    assert caught.value.code == "cert_profile"


def test_step_3_leaf(maker: Maker, tpm: Tpm) -> None:
    """An attestation key is no CA's, and signs data."""
    for changes in ({"ca": True}, {"usage": False}):
        with pytest.raises(AuthenticityError, match="want an end entity that signs data") as caught:
            _certified(maker, maker.endorse(maker.ak(tpm.key, **changes)))
        assert caught.value.code == "cert_profile"


@pytest.mark.parametrize("issuer", ["Maker Root", "Another Root"])
def test_step_4_a_root_that_somebody_wrote(maker: Maker, tpm: Tpm, issuer: str) -> None:
    """The times and limits of a root are its own key's word: a copy with others is nobody's."""
    other = ec.generate_private_key(ec.SECP384R1())
    later = {"length": None, "end": NOW + timedelta(days=3000)}
    root = maker.certificate("Maker Root", maker.root_key, issuer, other, **later)
    given = maker.endorse(maker.ak(tpm.key), maker.ca, root)
    with pytest.raises(AuthenticityError) as caught:
        _certified(maker, given)
    assert caught.value.code == "cert_chain"
    assert caught.value.message.startswith("AK chain.root: ")


def test_step_3_certificates_without_key_usage(maker: Maker, tpm: Tpm) -> None:
    """A certificate that does not say what its key is for is held by its other extensions."""
    leaf = maker.ak(tpm.key, usage=None)
    ca = maker.certificate("Maker CA", maker.ca_key, "Maker Root", maker.root_key, usage=None)
    endorsed = maker.endorse(leaf, ca, maker.root, crls=(maker.crl(),))
    assert _certified(maker, endorsed).spki == forge.spki(tpm.key)


def test_step_3_a_leaf_is_no_ca(maker: Maker, tpm: Tpm) -> None:
    """What an attestation key's certificate issued is refused, and so is a CA past its depth."""
    below = maker.certificate("below", rsa_key(), "an AK", tpm.key, ca=False, usages=(AK_USAGE,))
    weak = maker.certificate("Maker CA", maker.ca_key, "Maker Root", maker.root_key, usage=False)
    deep = maker.certificate("Maker CA", maker.ca_key, "Middle", tpm.key, length=0)
    middle = maker.certificate("Middle", tpm.key, "Maker Root", maker.root_key, length=0)
    for leaf, chain in (
        (below, (maker.ak(tpm.key), maker.ca, maker.root)),
        (maker.ak(tpm.key), (weak, maker.root)),
        (maker.ak(tpm.key), (deep, middle, maker.root)),
    ):
        with pytest.raises(AuthenticityError, match="want a CA above") as caught:
            _certified(maker, maker.endorse(leaf, *chain))
        assert caught.value.code == "cert_profile"


def test_step_4_signatures(maker: Maker, tpm: Tpm) -> None:
    """A certificate with its issuer's name, and another's signature, is refused."""
    other = rsa_key()
    forged = maker.certificate("an AK", tpm.key, "Maker CA", other, ca=False, usages=(AK_USAGE,))
    forged_ca = maker.certificate("Maker CA", maker.ca_key, "Maker Root", other)
    for leaf, chain in ((forged, (maker.ca, maker.root)), (maker.ak(tpm.key), (forged_ca, maker.root))):
        with pytest.raises(AuthenticityError, match=r"not signed by the key|want a key for") as caught:
            _certified(maker, maker.endorse(leaf, *chain))
        assert caught.value.code == "cert_chain"


@pytest.mark.parametrize(
    ("start", "end", "code"),
    [(NOW - 9 * DAY, NOW - DAY, "cert_expired"), (NOW + DAY, NOW + 9 * DAY, "cert_not_yet_valid")],
)
def test_step_5_time(maker: Maker, tpm: Tpm, start: datetime, end: datetime, code: str) -> None:
    """Every certificate is in its time, the CA's as well."""
    ca = maker.certificate("Maker CA", maker.ca_key, "Maker Root", maker.root_key, start=start, end=end)
    for leaf, chain in (
        (maker.ak(tpm.key, start=start, end=end), (maker.ca, maker.root)),
        (maker.ak(tpm.key), (ca, maker.root)),
    ):
        with pytest.raises(FreshnessError) as caught:
            _certified(maker, maker.endorse(leaf, *chain))
        assert caught.value.code == code


def test_step_6_revocation(maker: Maker, tpm: Tpm) -> None:
    """A revoked key is refused; so is a list that is another's, forged, or out of its time."""
    leaf = maker.ak(tpm.key)
    cases = (
        (maker.crl(9), "cert_revoked"),
        (maker.crl(issuer="Stranger"), "crl_issuer"),
        (maker.crl(signer=rsa_key()), "crl_sig"),
        (maker.crl(start=NOW - 30 * DAY), "crl_expired"),
        (maker.crl(start=NOW + DAY), "crl_not_yet_valid"),
        (maker.crl(7, issuer="Maker Root", signer=maker.root_key), "cert_revoked"),
    )
    for crl, code in cases:
        with pytest.raises((AuthenticityError, FreshnessError)) as caught:
            _certified(maker, maker.endorse(leaf, crls=(crl,)))
        assert caught.value.code == code


def test_step_6_who_signs_lists(maker: Maker, tpm: Tpm) -> None:
    """A CA that may sign no list signs none; and a list given twice is not the lists of two issuers."""
    leaf = maker.ak(tpm.key)
    mute = maker.certificate("Maker CA", maker.ca_key, "Maker Root", maker.root_key, crls=False)
    with pytest.raises(AuthenticityError, match="want a CA that signs CRLs") as caught:
        _certified(maker, maker.endorse(leaf, mute, maker.root, crls=(maker.crl(),)))
    assert caught.value.code == "cert_profile"
    with pytest.raises(AuthenticityError, match="two are of one issuer") as twice:
        _certified(maker, maker.endorse(leaf, crls=(maker.crl(),) * 2))
    assert twice.value.code == "crl_issuer"


def test_a_chain_is_known_by_all_of_it(maker: Maker, tpm: Tpm) -> None:
    """What was proven of one key's certificate and its chain is of those two together."""
    context, other = Context(maker.anchors), Tpm(rsa_key())
    for each in (tpm, other):
        endorsed = maker.endorse(maker.ak(each.key))
        assert verify_ak(endorsed, context=context, now=NOW).spki == forge.spki(each.key)
    with pytest.raises(UnavailableError):
        verify_ak(dataclasses.replace(endorsed, chain=b""), context=context, now=NOW)


@pytest.mark.parametrize("issuer", ["A", "Z", "A maker of many letters"])
def test_step_1_an_issuer_of_any_name(maker: Maker, tpm: Tpm, issuer: str) -> None:
    """A missing issuer is reported as that, whether its name is less or greater."""
    leaf = maker.ak(tpm.key, issuer=issuer)
    with pytest.raises(UnavailableError) as caught:
        _certified(maker, TpmEndorsements(certificate=leaf.public_bytes(Encoding.DER)))
    assert caught.value.code == "chain_missing"


def test_step_3_what_only_says_whether_it_is_a_ca(maker: Maker, tpm: Tpm) -> None:
    """Without a key usage a leaf must not be a CA, and an issuer must be one."""
    leaf = maker.ak(tpm.key, ca=True, usage=None)
    ca = maker.certificate("Maker CA", maker.ca_key, "Maker Root", maker.root_key, ca=False, usage=None)
    for given in (maker.endorse(leaf), maker.endorse(maker.ak(tpm.key), ca, maker.root)):
        with pytest.raises(AuthenticityError) as caught:
            _certified(maker, given)
        assert caught.value.code == "cert_profile"


def test_step_4_the_shortest_chains(maker: Maker, tpm: Tpm) -> None:
    """A root right above the key is its own word, too; a key that was named itself is its own anchor."""
    other = ec.generate_private_key(ec.SECP384R1())
    leaf = maker.certificate(
        "an AK", tpm.key, "Maker Root", maker.root_key, ca=False, usages=(AK_USAGE,), serial=9
    )
    assert len(_certified(maker, maker.endorse(leaf, maker.root)).chain) == 2
    root = maker.certificate("Maker Root", maker.root_key, "Maker Root", other, length=1)
    with pytest.raises(AuthenticityError) as caught:
        _certified(maker, maker.endorse(leaf, root))
    assert caught.value.code == "cert_chain"
    alone = maker.certificate("an AK", tpm.key, "an AK", other, ca=False, usages=(AK_USAGE,))
    given = TpmEndorsements(certificate=alone.public_bytes(Encoding.DER))
    assert len(_certified(maker, given, tpm.named()).chain) == 1


@pytest.mark.parametrize("issuer", ["A", "Maker Root", "Z"])
def test_step_4_a_named_key_above(maker: Maker, tpm: Tpm, issuer: str) -> None:
    """Of a CA whose bare key was named nobody can say who issued it; that it did itself, it must have."""
    other = ec.generate_private_key(ec.SECP384R1())
    anchors = TrustAnchors.from_pem(forge.pem(maker.ca_key), ProtectionLevel.VTPM)
    ca = maker.certificate("Maker CA", maker.ca_key, issuer, other, length=0)
    assert len(_certified(maker, maker.endorse(maker.ak(tpm.key), ca), anchors).chain) == 2
    own = maker.certificate("Maker CA", maker.ca_key, "Maker CA", other, length=0)
    with pytest.raises(AuthenticityError) as caught:
        _certified(maker, maker.endorse(maker.ak(tpm.key), own), anchors)
    assert caught.value.code == "cert_chain"


def test_a_chain_is_known_as_it_was_divided(maker: Maker, tpm: Tpm) -> None:
    """Two certificates where one belongs are refused, though the same bytes, divided otherwise, were good."""
    context = Context(maker.anchors, lasting=True)
    leaf, ca, root = (each.public_bytes(Encoding.PEM) for each in (maker.ak(tpm.key), maker.ca, maker.root))
    good = TpmEndorsements(certificate=leaf, chain=ca + root)
    divided = TpmEndorsements(certificate=leaf + ca, chain=root)
    for _ in range(2):
        assert verify_ak(good, context=context, now=NOW).chain
        with pytest.raises(FormatError):
            verify_ak(divided, context=context, now=NOW)


def test_nothing_to_certify(maker: Maker) -> None:
    """Endorsements without a certificate cover no key."""
    with pytest.raises(FormatError):
        verify_ak(TpmEndorsements(), context=Context(maker.anchors), now=NOW)
    with pytest.raises(UnavailableError) as caught:
        verify_ek(TpmEndorsements(), context=Context(maker.anchors), now=NOW)
    assert caught.value.code == "ek_missing"


def test_areas(tpm: Tpm) -> None:
    """A public area is read bare or with its size before it."""
    data = forge.area(tpm.key).encode()
    assert area_of(data) == area_of(len(data).to_bytes(2, "big") + data)
    with pytest.raises(FormatError):
        area_of(b"")


def test_usages_are_bounded() -> None:
    """An extended key usage is a sequence of identifiers, 16 at most."""
    oids = [x509.ObjectIdentifier(f"1.3.6.1.{n}") for n in range(17)]
    data = x509.ExtendedKeyUsage(oids).public_bytes()
    with pytest.raises(FormatError, match="more than 16 usages"):
        extended_usage.parse_usages(data, "AK")
    with pytest.raises(FormatError, match="bytes after"):
        extended_usage.parse_usages(b"\x30\x00\x00", "AK")
    with pytest.raises(FormatError, match="want tag"):
        extended_usage.parse_usages(b"\x30\x02\x05\x00", "AK")
