"""The certificates of a Nitro document: one forged case for each rule of their chain."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from kluis.errors import AuthenticityError, FreshnessError, KluisError
from kluis.evidence import OPENSSL, ProtectionLevel, TrustAnchors
from kluis.evidence.context import Context, Memory
from kluis.evidence.nitro import cabundle
from kluis.formats.nitro.document import Document
from tests.evidence.nitro.forge import NOW, ROLES, Forge, der, new_key

NAMES = {
    "root": "Nitro cabundle[0]",
    "regional": "Nitro cabundle[1]",
    "zonal": "Nitro cabundle[2]",
    "instance": "Nitro cabundle[3]",
    "leaf": "Nitro certificate",
}
CA = "want a CA that signs certificates"
LEAF = "want an end entity that signs data"
SIGNED = "is not signed by the key it should be"
HASH = "want ECDSA with SHA-384, got ECDSA with SHA-256"
CURVE = "want a key on P-384, got P-256"
OTHER = new_key()
SMALL = ec.generate_private_key(ec.SECP256R1())

# Role of the certificate, changed fields, message, code.
CASES: list[tuple[str, dict[str, Any], str, str]] = [
    *[
        (role, change, CA, "cert_profile")
        for role in ROLES[:4]
        for change in (
            {"ca": False, "path_length": None},
            {"usage": None},
            {"usage": {"digital_signature", "crl_sign"}},
        )
    ],
    *[(role, {"signer": OTHER}, SIGNED, "cert_chain") for role in ROLES],
    *[(role, {"hash": hashes.SHA256()}, HASH, "cert_profile") for role in ROLES],
    *[(role, {"key": SMALL.public_key()}, CURVE, "cert_profile") for role in ROLES[1:]],
    ("root", {"path_length": 2}, "want at most 2 authorities below it, got 3", "cert_profile"),
    ("regional", {"path_length": 1}, "want at most 1 authorities below it, got 2", "cert_profile"),
    ("zonal", {"path_length": 0}, "want at most 0 authorities below it, got 1", "cert_profile"),
    ("root", {"issuer": "another"}, "its issuer is not 'aws.nitro-enclaves'", "cert_chain"),
    ("regional", {"issuer": "another"}, "its issuer is not 'aws.nitro-enclaves'", "cert_chain"),
    ("zonal", {"issuer": "another"}, "its issuer is not 'regional.aws.nitro-enclaves'", "cert_chain"),
    ("instance", {"issuer": "another"}, "its issuer is not 'zonal.aws.nitro-enclaves'", "cert_chain"),
    ("leaf", {"issuer": "another"}, "its issuer is not 'instance.aws.nitro-enclaves'", "cert_chain"),
    ("leaf", {"ca": True, "path_length": None}, LEAF, "cert_profile"),
    ("leaf", {"usage": None}, LEAF, "cert_profile"),
    ("leaf", {"usage": {"content_commitment"}}, LEAF, "cert_profile"),
    ("leaf", {"usage": {"digital_signature", "key_cert_sign"}}, LEAF, "cert_profile"),
]


@pytest.mark.parametrize(("role", "change", "message", "code"), CASES)
def test_step_3(role: str, change: dict[str, Any], message: str, code: str, nitro: Forge) -> None:
    """One certificate with one wrong name, profile, path length or signature is refused for it."""
    with pytest.raises(AuthenticityError) as caught:
        nitro.verify(nitro.with_certificates(**{role: nitro.issue(role, **change)}))
    assert (str(caught.value), caught.value.code) == (f"{NAMES[role]}: {message}", code)


def test_path_lengths_may_be_larger(nitro: Forge) -> None:
    """A path length is a maximum, not a required number."""
    roomy = {role: nitro.issue(role, path_length=9) for role in ROLES[:4]}
    assert nitro.verify(nitro.with_certificates(**roomy))


def test_a_leaf_issues_nothing(nitro: Forge) -> None:
    """A genuine leaf cannot be used as an authority: what it issues is refused."""
    chain = [der(nitro.certificates[role]) for role in ROLES]
    below = nitro.issue("leaf", issuer="leaf.aws.nitro-enclaves", signer=nitro.keys["leaf"])
    with pytest.raises(AuthenticityError) as caught:
        nitro.verify(nitro.document(certificate=der(below), cabundle=chain))
    assert caught.value.code == "cert_profile"
    roomy = [der(nitro.issue(role, path_length=9)) for role in ROLES[:4]]
    with pytest.raises(AuthenticityError) as caught:
        nitro.verify(nitro.document(certificate=der(below), cabundle=[*roomy, chain[4]]))
    assert (str(caught.value), caught.value.code) == (f"Nitro cabundle[4]: {CA}", "cert_profile")


@pytest.mark.parametrize(
    "order", [(3, 2, 1, 0), (0, 2, 1, 3), (0, 2, 3), (0, 1, 3), (0, 1, 2), (0, 1, 2, 3, 3), (0,)], ids=str
)
def test_bundles_in_another_order(order: tuple[int, ...], nitro: Forge) -> None:
    """Certificates are in order, root first, none missing, none twice: issuers are not searched for."""
    chain = [der(nitro.certificates[role]) for role in ROLES]
    with pytest.raises(AuthenticityError) as caught:
        nitro.verify(nitro.document(cabundle=[chain[index] for index in order]))
    assert caught.value.code in ("root_untrusted", "cert_chain", "cert_profile")


def test_step_2(nitro: Forge) -> None:
    """A whole PKI with Amazon's names, made by somebody else, is refused: the key is what is trusted."""
    other = Forge()
    with pytest.raises(AuthenticityError) as caught:
        other.verify(anchors=nitro.anchors)
    assert caught.value.code == "root_untrusted"
    assert str(caught.value) == (
        f"Nitro cabundle: want root {nitro.anchors.anchors[0].name}, got another key named "
        "'aws.nitro-enclaves'"
    )
    with pytest.raises(AuthenticityError) as caught:
        other.verify(anchors=TrustAnchors.shipped())
    assert caught.value.code == "root_untrusted"


@pytest.mark.parametrize("level", [level for level in ProtectionLevel if level not in cabundle.LEVELS])
def test_anchors_of_other_makers(level: ProtectionLevel, nitro: Forge) -> None:
    """A root trusted for other evidence is not trusted for Nitro's."""
    anchor = dataclasses.replace(nitro.anchors.anchors[0], level=level, name="other")
    with pytest.raises(AuthenticityError) as caught:
        nitro.verify(anchors=TrustAnchors((anchor,)))
    assert (str(caught.value), caught.value.code) == (
        f"Nitro cabundle: want a root of hardware-nitro, got other of {level}",
        "root_untrusted",
    )


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("kept", [False, True], ids=["first", "seen before"])
def test_step_4(role: str, kept: bool, nitro: Forge) -> None:
    """Each certificate has its time, also one that was proven before; its first and last moment count."""
    start, end = NOW - timedelta(minutes=1), NOW + timedelta(minutes=1)
    document = Document.parse(nitro.with_certificates(**{role: nitro.issue(role, start=start, end=end)}))
    context = Context(nitro.anchors, OPENSSL, Memory())
    if kept:
        cabundle.verify(document, context)
    found = cabundle.verify(document, context)
    found.check_time(start)
    found.check_time(end)
    for now, code, message in (
        (start - timedelta(seconds=1), "cert_not_yet_valid", "is not valid before 2026-06-01T11:59:00Z"),
        (end + timedelta(seconds=1), "cert_expired", "expired on 2026-06-01T12:01:00Z"),
    ):
        with pytest.raises(FreshnessError) as caught:
            found.check_time(now)
        assert caught.value.code == code
        assert str(caught.value).startswith(f"{NAMES[role]} {message}, judged at ")


def test_step_4_in_a_document(nitro: Forge) -> None:
    """A document whose leaf has ended is refused, however right its timestamp is."""
    with pytest.raises(FreshnessError) as caught:
        nitro.verify(now=NOW + timedelta(hours=2, seconds=1))
    assert caught.value.code == "cert_expired"


class Counting:
    """An engine that counts what it verifies."""

    name = "counting"

    def __init__(self) -> None:
        self.count = 0

    def key(self, spki: bytes, scheme: Any) -> Any:
        """A key that counts."""
        return _CountingKey(self, OPENSSL.key(spki, scheme))


class _CountingKey:
    def __init__(self, engine: Counting, key: Any) -> None:
        self.engine, self.key = engine, key

    def verify(self, signature: bytes, signed: bytes) -> bool:
        self.engine.count += 1
        return bool(self.key.verify(signature, signed))


def test_certificates_are_verified_once(nitro: Forge) -> None:
    """The same certificates cost five verifications once; one byte moved or changed is another chain."""
    engine = Counting()
    context = Context(nitro.anchors, engine, Memory())
    document = Document.parse(nitro.document())
    found = cabundle.verify(document, context)
    assert (cabundle.verify(document, context), engine.count) == (found, 5)
    first, second, *rest = document.cabundle
    with pytest.raises(KluisError) as caught:
        cabundle.verify(dataclasses.replace(document, cabundle=(first + second, *rest)), context)
    assert caught.value.code == "trailing_data"
    other = dataclasses.replace(document, certificate=der(nitro.issue("leaf", end=NOW)))
    assert cabundle.verify(other, context).leaf.not_after == NOW
    assert engine.count == 10


@pytest.mark.parametrize("byte", [b"\0", b"\xff"])
@pytest.mark.parametrize("place", range(4))
def test_another_bundle_under_a_leaf_seen_before(place: int, byte: bytes, nitro: Forge) -> None:
    """A leaf that was proven once proves nothing of other authorities that are sent with it."""
    context = Context(nitro.anchors, OPENSSL, Memory())
    document = Document.parse(nitro.document())
    cabundle.verify(document, context)
    bundle = list(document.cabundle)
    bundle[place] = byte + bundle[place][1:]
    with pytest.raises(KluisError) as caught:
        cabundle.verify(dataclasses.replace(document, cabundle=tuple(bundle)), context)
    assert caught.value.code in ("bad_type", "bad_encoding")


def test_failures_are_not_kept(nitro: Forge) -> None:
    """Nothing but the keys of its authorities below the root is kept of a chain that failed."""
    memory = Memory()
    context = Context(nitro.anchors, OPENSSL, memory)
    bad = Document.parse(nitro.with_certificates(leaf=nitro.issue("leaf", signer=OTHER)))
    for _ in range(2):
        with pytest.raises(AuthenticityError):
            cabundle.verify(bad, context)
    assert len(memory) == 3


def test_memory_of_another_believer(nitro: Forge) -> None:
    """A chain verified for a caller that trusts its root is verified again for one that does not."""
    memory = Memory()
    document = Document.parse(nitro.document())
    cabundle.verify(document, Context(nitro.anchors, OPENSSL, memory))
    with pytest.raises(AuthenticityError) as caught:
        cabundle.verify(document, Context(TrustAnchors.shipped(), OPENSSL, memory))
    assert caught.value.code == "root_untrusted"


@pytest.mark.parametrize("role", ROLES)
def test_no_certificate(role: str, nitro: Forge) -> None:
    """A malformed certificate is reported by its position."""
    chain = {name: der(nitro.certificates[name]) for name in ROLES}
    chain[role] = b"\x30\x03\x02\x01\x00"
    bundle = [chain[name] for name in ROLES[:4]]
    with pytest.raises(KluisError) as caught:
        nitro.verify(nitro.document(certificate=chain["leaf"], cabundle=bundle))
    assert str(caught.value).startswith(NAMES[role])
