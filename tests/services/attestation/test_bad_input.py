"""Requests that are damaged anywhere, at any depth of their encodings, are refused: none is our own fault."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kluis.enclave.store import SealedStore
from kluis.errors import AuthenticityError
from kluis.serve.store import Database, keeping
from tests.services.attestation.owners import owner
from tests.services.attestation.test_attesting import sgx, snp, tdx
from tests.services.attestation.tpm.client import Client, world_of
from tests.services.attestation.vm import Vm, request
from tests.services.attestation.world import PERMIT, VERSION, World, b64u, error_of, from_b64u
from tests.strategies import examples

FINE = (200, 400, 413)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One service for all of them."""
    with Database(f"sqlite:///{tmp_path_factory.mktemp('bad')}/db") as database:
        yield World(
            SealedStore(keeping.records(database, "test"), bytes(32)), policy_signers=(owner("trusted").der,)
        )


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A TPM's client, and its service."""
    with Database(f"sqlite:///{tmp_path_factory.mktemp('tpm')}/db") as database:
        made = world_of(SealedStore(keeping.records(database, "test"), bytes(32)))
        made.set_policy("Tpm", PERMIT)
        yield Client(made)


def damaged(data: bytes, at: int, put: bytes) -> bytes:
    """Bytes with some replaced; the place is taken from the whole length."""
    place = at % (len(data) + 1)
    return data[:place] + put + data[place + len(put) :]


PLACES = st.integers(0, 1 << 20)
PUT = st.one_of(
    st.binary(min_size=1, max_size=4), st.sampled_from([b'"', b"{", b"[", b"}", b"null", b"-1", b"\xff" * 8])
)


@pytest.mark.parametrize("kind", ["SgxEnclave", "OpenEnclave", "SevSnpVm", "TdxVm", "AzureGuest", "Tpm"])
@pytest.mark.parametrize(
    "body",
    [
        b'{"runtimeData": {"\xff": 1}}',
        b'{"runtimeData": {"data": "\xff"}}',
        b'{"initTimeData": {"a": {"\xfc": "b"}}}',
        b'{"\xff": 1}',
        b'{"quote": "\xff", "report": "\xff", "AttestationInfo": "\xff", "data": "\xff"}',
        b'{"a": ' + b"[" * 5000 + b"]" * 5000 + b"}",
    ],
)
def test_text_that_is_no_utf8(world: World, kind: str, body: bytes) -> None:
    """Invalid text and endless nesting, in any position, are the client's fault."""
    answer = world.owner("POST", f"/attest/{kind}?{VERSION}", content=body)
    assert answer.status_code == 400, answer.text


@given(st.sampled_from(["SgxEnclave", "SevSnpVm", "TdxVm", "AzureGuest"]), PLACES, PUT)
@settings(max_examples=examples(300))
def test_bodies(world: World, kind: str, at: int, put: bytes) -> None:
    """A damaged body is refused, or has the same meaning as before."""
    good: dict[str, Any] = {"SgxEnclave": sgx, "SevSnpVm": snp, "TdxVm": tdx}.get(
        kind, lambda: request(Vm().info())
    )()
    body = damaged(json.dumps(good).encode(), at, put)
    answer = world.ask("POST", f"/attest/{kind}?{VERSION}", content=body)
    assert answer.status_code in FINE, answer.text


@given(PLACES, PUT)
@settings(max_examples=examples(200))
def test_what_is_within(world: World, at: int, put: bytes) -> None:
    """So is what is encoded within a body: a guest's JSON, an SNP report's bundle, a quote."""
    guest = damaged(from_b64u(request(Vm().info())["AttestationInfo"]), at, put)
    bundle = damaged(from_b64u(snp()["report"]), at, put)
    quote = damaged(from_b64u(sgx()["quote"]), at, put)
    for kind, body in (
        ("AzureGuest", {"AttestationInfo": b64u(guest)}),
        ("SevSnpVm", {"report": b64u(bundle)}),
        ("SgxEnclave", {"quote": b64u(quote)}),
    ):
        answer = world.attest(kind, body)
        assert answer.status_code in FINE, answer.text


@given(PLACES, PUT, st.integers(0, 2))
@settings(max_examples=examples(150))
def test_requests_of_tpms(client: Client, at: int, put: bytes, which: int) -> None:
    """So is a TPM's request, in its JWS and around it."""
    parts = client.v2().split(".")
    parts[which] = b64u(damaged(from_b64u(parts[which]), at, put))
    answer = client.send({"request": ".".join(parts)})
    assert answer.status_code in FINE, answer.text


@given(PLACES, PUT, st.integers(0, 2))
@settings(max_examples=examples(150))
def test_signed_policies(world: World, at: int, put: bytes, which: int) -> None:
    """A damaged policy is not set."""
    parts = owner("trusted").policy(PERMIT).split(".")
    changed = list(parts)
    changed[which] = b64u(damaged(from_b64u(parts[which]), at, put))
    answer = world.owner("PUT", f"/policies/SgxEnclave?{VERSION}", content=".".join(changed))
    assert answer.status_code == (200 if changed == parts else 400), answer.text


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "body: "),
        (b"null", "body: expected `object`, got `null`"),
        (b"[" * 100_000, "body: "),
        (b'{"quote":' + b"[" * 100_000, "body: "),
        (b'{"quote":5}', "body: expected `str`, got `int` - at `$.quote`"),
        (b"{}", "body: object missing required field `quote`"),
        (b'{"quote":"AAAA","nonce":1.5}', "body: expected `int | str | null`, got `float` - at `$.nonce`"),
        (b'{"quote":"AAA A"}', "quote: Unknown base64 character: 32 (' ')"),
        (b'{"quote":"AAAAA"}', "quote: is cut short"),
        (b'{"quote":"' + b"A" * 100_000 + b'"}', "quote: want at most 65536 bytes, got "),
        (b'{"quote":""}', "The specified quote was invalid"),
        (
            b'{"quote":"AAAA","runtimeData":{"data":"AAAA","dataType":"XML"}}',
            "runtimeData.dataType: want JSON",
        ),
        (b'{"quote":"AAAA","runtimeData":{"data":"W10","dataType":"json"}}', "want a JSON object, got list"),
        (
            b'{"quote":"AAAA","runtimeData":{"data":"eyJhIjoxLCJhIjoyfQ","dataType":"JSON"}}',
            "'a' appears twice",
        ),
        (b'{"quote":"AAAA","runtimeData":{"data":"eyJhIjpOYU59","dataType":"JSON"}}', "is not JSON"),
    ],
)
def test_bodies_that_are_none(world: World, body: bytes, message: str) -> None:
    """Each is refused for what is wrong with it."""
    answer = world.ask("POST", f"/attest/SgxEnclave?{VERSION}", content=body)
    status, code, told = error_of(answer)
    assert (status, code) == (400, "InvalidParameter")
    assert message in told


def test_too_large(world: World) -> None:
    """A body past its bound is not read."""
    assert world.ask("POST", f"/attest/SgxEnclave?{VERSION}", content=b" " * (5 << 20)).status_code == 413


PAST = "is past 64 bits: want a larger one as text"
HALF = "a string holds half a character"


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("1" + "0" * 30, f"integer {'1' + '0' * 30} {PAST}"),
        ("18446744073709551616", f"integer 18446744073709551616 {PAST}"),
        ("-9223372036854775809", f"integer -9223372036854775809 {PAST}"),
        ("1" * 5000, f"integer {'1' * 32} {PAST}"),
        ("1e999", "number 1e999 is past what a reader holds"),
        ('"\\ud800"', HALF),
        ('{"\\udfff":1}', HALF),
    ],
)
def test_values_that_no_token_can_say(world: World, value: str, why: str) -> None:
    """Numbers that no reader holds, and half a character, are refused for that, however they are bound."""
    text = f'{{"a":{value}}}'.encode()
    assert error_of(world.attest("SgxEnclave", sgx(text, "JSON"))) == (
        400,
        "InvalidParameter",
        f"runtimeData.data: {why}",
    )


def test_numbers_that_a_token_can_say(world: World) -> None:
    """Fractions, and whole numbers of 64 bits, come back as they were."""
    text = b'{"a":1.5,"b":18446744073709551615,"c":-1,"d":"\\u00e9"}'
    claims = world.token(world.attest("SgxEnclave", sgx(text, "JSON")))
    assert claims["x-ms-runtime"] == {"a": 1.5, "b": 2**64 - 1, "c": -1, "d": "\u00e9"}


@pytest.mark.parametrize("nonce", [2**64, -1])
def test_nonces_that_are_none(world: World, nonce: int) -> None:
    """A number is a nonce within 64 bits."""
    answer = world.attest("SgxEnclave", sgx() | {"nonce": nonce})
    assert error_of(answer)[2] == "nonce: want 0 to 2^64-1"


def test_a_host_that_is_found_out(storage: SealedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """An invalid store is no judgement about the client's evidence: it is requested again later."""
    world = World(storage)

    def tampered(self: SealedStore, table: str, key: str) -> bytes | None:
        raise AuthenticityError("store: record: want one, got none", code="store_record")

    monkeypatch.setattr(SealedStore, "get", tampered)
    answer = world.owner("GET", f"/policies/SgxEnclave?{VERSION}")
    assert error_of(answer) == (503, "ServiceUnavailable", "store: record: want one, got none")
