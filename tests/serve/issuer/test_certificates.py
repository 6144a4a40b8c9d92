"""A client that signs by its certificate: what holds, and what each step refuses."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from kluis.errors import UsageError
from kluis.serve.issuer import Certificate, DevelopmentIssuer, Registered
from tests.serve.issuer.asserting import (
    AT,
    ENDPOINT,
    JWT_BEARER,
    Client,
    claims_of,
    cluster_token,
    federated,
    form_of,
    issuer_of,
    post,
    sign,
    told,
)
from tests.services.web.issuer import NOW, FixedClock

CLIENT = Client("workload")


@pytest.fixture
def issuer(tmp_path: Path) -> DevelopmentIssuer:
    """One that knows the client's certificate."""
    return issuer_of(tmp_path, CLIENT)


@pytest.mark.parametrize(
    ("header", "claims"),
    [
        ({}, {}),
        ({"x5t": f"{CLIENT.x5t}="}, {"exp": AT + 600.25, "iat": AT + 0.25, "nbf": None}),
        ({"alg": "PS256", "x5t": None, "x5t#S256": CLIENT.x5t_s256, "typ": "JWT"}, {"exp": AT + 1800}),
        ({"x5t#S256": CLIENT.x5t_s256, "x5c": CLIENT.x5c}, {}),
        ({}, {"exp": AT - 59}),
        ({}, {"nbf": AT + 60}),
        ({}, {"exp": AT + 3660}),
    ],
)
def test_the_forms_of_clients_hold(
    issuer: DevelopmentIssuer, header: dict[str, Any], claims: dict[str, Any]
) -> None:
    """MSAL's for Python, azure-identity's asynchronous one, Node's; the token states the client's
    credential.
    """
    answer = post(issuer, form_of(CLIENT.assertion(header, **claims))).json()
    said = claims_of(answer["access_token"])
    assert (said["sub"], said["appidacr"], said["aud"]) == ("workload", "2", "https://vault.example")
    assert said["roles"] == list(issuer.clients["workload"].roles)


def test_padding_is_let_pass(issuer: DevelopmentIssuer) -> None:
    """azure-identity's asynchronous client pads each part, and signs them so."""
    header = {"alg": "PS256", "x5t#S256": CLIENT.x5t_s256}
    claims = {"aud": ENDPOINT, "iss": "workload", "sub": "workload", "jti": "1", "exp": AT + 9}
    text = sign(header, claims, CLIENT.key, padded=True)
    assert "=" in text
    assert told(issuer, text) == "token"


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        ({"iss": "admin"}, "AADSTS700021: client assertion iss: want the client_id workload, got 'admin'"),
        ({"sub": None}, "AADSTS700021: client assertion sub: want the client_id workload, got None"),
        (
            {"aud": "https://login.example/"},
            f"AADSTS700023: client assertion aud: want {ENDPOINT}, got 'https://login.example/'",
        ),
        (
            {"aud": [ENDPOINT, "https://other.example"]},
            f"AADSTS700023: client assertion aud: want {ENDPOINT}, got ['{ENDPOINT}', 'https://other.example']",
        ),
        (
            {"exp": AT - 60},
            f"AADSTS700024: client assertion exp: want after {AT}, got {AT - 60}: has expired",
        ),
        (
            {"nbf": AT + 61},
            f"AADSTS700024: client assertion nbf: want {AT} or before, got {AT + 61}: is not valid yet",
        ),
        (
            {"exp": AT + 3661},
            f"AADSTS700024: client assertion exp: want at most 3600 seconds from {AT}, got {AT + 3661}",
        ),
        ({"exp": None}, "AADSTS700024: client assertion exp: want seconds since 1970, got None"),
        ({"exp": True}, "AADSTS700024: client assertion exp: want seconds since 1970, got True"),
        ({"exp": float("inf")}, "AADSTS700024: client assertion exp: want seconds since 1970, got inf"),
        ({"exp": float("nan")}, "AADSTS700024: client assertion exp: want seconds since 1970, got nan"),
        ({"nbf": "1"}, "AADSTS700024: client assertion nbf: want seconds since 1970, got '1'"),
        ({"exp": 10**17}, "client assertion claims: want numbers of at most 17 digits, got more"),
        ({"jti": None}, "client assertion jti: want 1 to 256 characters, got None"),
        ({"jti": 7}, "client assertion jti: want 1 to 256 characters, got 7"),
        ({"jti": ""}, "client assertion jti: want 1 to 256 characters, got ''"),
        ({"x": [[[[[[[[1]]]]]]]]}, "client assertion claims: nested more than 8 deep"),
    ],
)
def test_each_claim_is_checked(issuer: DevelopmentIssuer, claims: dict[str, Any], why: str) -> None:
    """A claim that is wrong is named with what was wanted and what was there, all else being right."""
    assert told(issuer, CLIENT.assertion(**claims)) == f"invalid_client: {why}"


@pytest.mark.parametrize(
    ("header", "why"),
    [
        ({"x5t": None}, "client assertion header: want x5t or x5t#S256, got none"),
        ({"crit": ["exp"]}, "client assertion header: want none of crit and b64, got one"),
        ({"alg": "RS512"}, "client assertion alg: want RS256 or PS256, got 'RS512'"),
    ],
)
def test_the_header_is_checked(issuer: DevelopmentIssuer, header: dict[str, Any], why: str) -> None:
    """A header that names no certificate, or wants what is not understood, is refused."""
    assert told(issuer, CLIENT.assertion(header)) == f"invalid_client: {why}"


@pytest.mark.parametrize(
    ("assertion", "why"),
    [
        ("x", "client_assertion: want a JWT of three parts, got 1"),
        ("a.b.c.d.e", "client_assertion: want a JWT of three parts, got 5"),
        ("!.!.!", "client_assertion: want base64url, got something else"),
        ("e30.W10.", "client assertion claims: want a JSON object, got another"),
        ("eyJh.e30.", "client assertion header: want a JSON object, got another"),
        ("eyJhIjoxLCJhIjoyfQ.e30.", "client assertion header: want each name once, got one twice"),
        ("_w.e30.", "client assertion header: want a JSON object, got another"),
    ],
)
def test_what_is_no_assertion(issuer: DevelopmentIssuer, assertion: str, why: str) -> None:
    """Whatever cannot be read is refused with a word, and none of it raises."""
    assert told(issuer, assertion) == f"invalid_client: {why}"


def test_a_signature_of_another_kind_is_refused(issuer: DevelopmentIssuer) -> None:
    """RS256 in the header, and a signature by PS256: refused by the certificate's name."""
    head, body, _ = CLIENT.assertion().split(".")
    other = CLIENT.assertion({"alg": "PS256"}).split(".")[2]
    said = told(issuer, f"{head}.{body}.{other}")
    assert said.startswith("invalid_client: AADSTS700027: client assertion: want it signed by the key ")


@pytest.mark.parametrize(("begin", "end"), [(-40, -1), (1, 40)])
def test_a_certificate_out_of_its_time(tmp_path: Path, begin: int, end: int) -> None:
    """It is refused with its time, though the assertion is fresh."""
    times = {"begin": NOW + timedelta(days=begin), "end": NOW + timedelta(days=end)}
    client = Client("reader", "workload", **times)
    assert told(issuer_of(tmp_path, client), client.assertion(), "reader") == (
        "invalid_client: certificate of reader: want one that is valid at 2026-06-01 00:00, got one from"
        f" {times['begin']:%Y-%m-%d} 00:00 to {times['end']:%Y-%m-%d} 00:00"
    )


def test_who_has_none_is_told_the_option(issuer: DevelopmentIssuer) -> None:
    """A client without a certificate learns how one is registered; one that is nobody learns who is."""
    assert told(issuer, Client("admin").assertion(), "admin") == (
        "invalid_client: client_assertion: want a certificate or a federated subject registered for admin,"
        " got none: kluis serve ... --client-certificate admin=CERT.pem, or --federated FILE"
    )
    assert told(issuer, CLIENT.assertion(), "nobody") == (
        "invalid_client: AADSTS700016: client_id: want one of admin, administrator, auditor, reader, stale,"
        " workload, got 'nobody'"
    )


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        (
            {"client_secret": "x"},
            "invalid_request: client_secret: want no secret with client_assertion, got one",
        ),
        (
            {"client_assertion_type": "saml"},
            f"invalid_request: client_assertion_type: want {JWT_BEARER}, got 'saml'",
        ),
    ],
)
def test_one_way_at_a_time(issuer: DevelopmentIssuer, changed: dict[str, str], why: str) -> None:
    """A secret next to an assertion, and an assertion of another kind, are refused."""
    assert told(issuer, CLIENT.assertion(), **changed) == why


def test_one_certificate_takes_over_from_another(tmp_path: Path) -> None:
    """Two certificates of one client both hold; one of a client with federated subjects, too."""
    second = Client("workload", "second")
    issuer = issuer_of(tmp_path, CLIENT, second, federated())
    assert told(issuer, CLIENT.assertion()) == "token"
    assert told(issuer, second.assertion()) == "token"
    assert told(issuer, cluster_token()) == "token"


def test_a_stale_client_is_marked_by_its_certificate_too(tmp_path: Path) -> None:
    """A challenge's claims lead to a fresh token, by the same assertion, as MSAL does it."""
    client = Client("stale")
    issuer, assertion = issuer_of(tmp_path, client), client.assertion()
    claims = '{"access_token": {"nbf": {"essential": true, "value": "1"}}}'
    marked = post(issuer, form_of(assertion, "stale")).json()["access_token"]
    fresh = post(issuer, form_of(assertion, "stale", claims=claims)).json()["access_token"]
    assert "x-kluis-claims-wanted" in claims_of(marked)
    assert "x-kluis-claims-wanted" not in claims_of(fresh)


def test_a_file_with_key_and_certificate_is_read_for_the_certificate() -> None:
    """As clients keep it; the key is ignored."""
    assert Certificate.of_pem(CLIENT.both, "both.pem").sha256 == Certificate.of_pem(CLIENT.pem, "a").sha256


@pytest.mark.parametrize("data", [b"", b"no certificate", CLIENT.pem[:100]], ids=["empty", "text", "cut"])
def test_what_is_no_certificate(data: bytes) -> None:
    """It is named."""
    with pytest.raises(UsageError) as caught:
        Certificate.of_pem(data, "client.pem")
    assert caught.value.message == "client.pem: want a certificate, PEM"


def test_a_certificate_of_another_kind_of_key() -> None:
    """Azure's clients sign only by RSA; the refusal shows how to make one."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(NOW).not_valid_after(NOW + timedelta(days=1))
    with pytest.raises(UsageError) as caught:
        Certificate.of_pem(made.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM), "client.pem")
    want = "client.pem: want a certificate of an RSA key of 2048 to 8192 bits, got another"
    assert caught.value.message == want
    assert "openssl req -x509" in (caught.value.hint or "")


def test_a_client_that_there_is_not(tmp_path: Path) -> None:
    """A certificate for nobody is refused before anything runs."""
    registered = Registered(certificates=(("nobody", Certificate.of_pem(CLIENT.pem, "a")),))
    with pytest.raises(UsageError) as caught:
        DevelopmentIssuer.load_or_create(
            tmp_path, "https://localhost:1", {"admin": ()}, FixedClock(), frozenset(), registered
        )
    assert caught.value.message == "client: want one of admin, got 'nobody'"
