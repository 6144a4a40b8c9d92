"""Endorsements as bytes: from AMD's service, Azure's, a host's table or a file, none looked into."""

from __future__ import annotations

import json

import pytest
from hypothesis import given

from kluis.errors import FormatError, KluisError
from kluis.formats.snp import table
from kluis.formats.snp.endorsements import Endorsements
from tests.strategies import PROPERTY, mutations

VEK, ASK, ARK = (
    f"-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n".encode()
    for body in ("AAAA", "BBBB", "CCCC")
)
GOOD = Endorsements(vek=b"\x30\x01", ask=ASK, ark=ARK, crl=b"\x30\x02")


def test_json() -> None:
    """PEM stays PEM and DER becomes hex; what is not there is absent."""
    assert json.loads(GOOD.to_json()) == {
        "vek": "3001",
        "ask": ASK.decode(),
        "ark": ARK.decode(),
        "crl": "3002",
    }
    for made in (GOOD, Endorsements(), Endorsements(vek=VEK)):
        assert Endorsements.from_json(made.to_json()) == made


def test_from_amds_service() -> None:
    """A chain is ASK, then ARK."""
    assert Endorsements.from_chain(b"\x30\x01", ASK + ARK, b"\x30\x02") == GOOD
    assert Endorsements.from_chain(None, ASK + ARK) == Endorsements(ask=ASK, ark=ARK)
    for bad in (b"", ASK, ASK + ARK + VEK, b"x" + ASK + ARK, ASK + b"x\n" + ARK):
        with pytest.raises(FormatError) as caught:
            Endorsements.from_chain(None, bad)
        assert caught.value.code == "bad_length"
    assert str(caught.value) == ("SNP endorsements.chain: want 2 PEM certificates, ASK and ARK, got 2")


ANSWER = {
    "vcekCert": VEK.decode(),
    "tcbm": "DB18000000000004",
    "certificateChain": (ASK + ARK).decode(),
    "cacheControl": "86400",
}


def test_from_azures_service() -> None:
    """Azure answers with PEM in JSON, and no CRL."""
    assert Endorsements.from_thim(json.dumps(ANSWER).encode()) == Endorsements(vek=VEK, ask=ASK, ark=ARK)
    for bad in (b"{}", b"[]", json.dumps({**ANSWER, "vcekCert": 1}).encode()):
        with pytest.raises(FormatError):
            Endorsements.from_thim(bad)


def test_from_a_hosts_table() -> None:
    """The key that the report names is taken from a table that holds both."""
    made = table.build(
        {table.VCEK: b"c", table.VLEK: b"l", table.ASK: b"s", table.ARK: b"r", table.CRL: b"v"}
    )
    assert Endorsements.from_table(made, vlek=False) == Endorsements(vek=b"c", ask=b"s", ark=b"r", crl=b"v")
    assert Endorsements.from_table(made, vlek=True) == Endorsements(vek=b"l", ask=b"s", ark=b"r", crl=b"v")


def test_the_callers_own_come_first() -> None:
    """A host's certificates only fill in what the caller does not have."""
    host = Endorsements(vek=b"1", ask=b"2", ark=b"3", crl=b"4")
    assert GOOD.over(host) is GOOD
    for name in ("vek", "ask", "ark", "crl"):
        alone = Endorsements(**{name: b"own"})
        expected = {"vek": b"1", "ask": b"2", "ark": b"3", "crl": b"4", name: b"own"}
        assert alone.over(host) == Endorsements(**expected)
    assert Endorsements().over(Endorsements()) == Endorsements()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"[]", "SNP endorsements: want an object, got a list"),
        (b'{"vek":"3x"}', "SNP endorsements.vek: is not hex"),
        (b'{"vek":1}', "SNP endorsements.vek: want text, got an integer"),
        (b'{"vcek":"30"}', "SNP endorsements: want members [], got ['vcek']"),
        (
            '{"vek":"-----BEGIN \u0416"}'.encode(),
            "SNP endorsements.vek: is neither PEM nor hex",
        ),
        (bytes((4 << 20) + 1), "SNP endorsements: is 4194305 bytes, must be at most 4194304"),
    ],
    ids=["list", "hex", "number", "unknown", "not latin", "large"],
)
def test_refuses(data: bytes, message: str) -> None:
    """A member of another kind, or one that we do not know, is refused."""
    with pytest.raises(FormatError) as caught:
        Endorsements.from_json(data)
    assert str(caught.value) == message


@PROPERTY
@given(mutations(GOOD.to_json()))
def test_only_our_errors(data: bytes) -> None:
    """No foreign exception leaves the reader, and what it read it reads again."""
    try:
        read = Endorsements.from_json(data)
    except KluisError:
        return
    assert Endorsements.from_json(read.to_json()) == read


@PROPERTY
@given(mutations(json.dumps(ANSWER).encode()))
def test_only_our_errors_from_azures_service(data: bytes) -> None:
    """No foreign exception leaves the reader of Azure's answer; what it read is PEM, or not looked into."""
    try:
        read = Endorsements.from_thim(data)
    except KluisError:
        return
    assert read.ask is not None
    assert read.ask.startswith(b"-----BEGIN CERTIFICATE-----")
