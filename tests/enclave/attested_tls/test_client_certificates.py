"""A server that requests certificates from clients, only in memory."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from OpenSSL import SSL

from kluis.enclave.attested_tls.client_certificates import tls_extension
from kluis.enclave.attested_tls.link import Link, ServerKey, client_context, make_certificate, server_context
from kluis.formats.kluis.attested_tls import Role

KEY, CERTIFICATE = make_certificate()
NOW = datetime(2026, 1, 2, tzinfo=UTC)


def _certificate(
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, *, days: int = 3, name: str = "user"
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(NOW - timedelta(days=10))
        .not_valid_after(NOW + timedelta(days=days))
        .sign(key, hashes.SHA256())
    )


def _shake(context: SSL.Context, client: SSL.Context) -> tuple[Link, Link]:
    ends = Link(context, Role.SERVER), Link(client, Role.CLIENT)
    server, other = ends
    for _ in range(8):
        other.handshake()
        server.feed(other.pending())
        server.handshake()
        other.feed(server.pending())
        if all(one.established for one in ends):
            return ends
    raise AssertionError("want a handshake that ends, got one that does not")


def _asking() -> SSL.Context:
    return server_context(KEY, [CERTIFICATE], ask_clients=True)


def _client(key: object, chain: Sequence[x509.Certificate]) -> SSL.Context:
    context = client_context()
    context.use_certificate(chain[0])
    for one in chain[1:]:
        context.add_extra_chain_cert(one)
    context.use_privatekey(key)  # type: ignore[arg-type] # any private key of cryptography's
    return context


@pytest.mark.parametrize("days", [3, -5])
def test_a_self_signed_certificate_is_taken_whatever_its_dates(days: int) -> None:
    """The application finds it in ASGI's TLS extension; whether it may still be used is not TLS's to say."""
    key = ec.generate_private_key(ec.SECP384R1())
    mine = _certificate(key, days=days)
    server, _ = _shake(_asking(), _client(key, [mine]))
    assert server.client_certificates() == (mine,)
    told = tls_extension(server)
    assert [x509.load_pem_x509_certificate(one.encode()) for one in told["client_cert_chain"]] == [mine]
    assert (told["client_cert_name"], told["client_cert_error"], told["tls_version"]) == (
        "CN=user",
        None,
        0x304,
    )


def test_the_clients_own_certificate_comes_first_of_a_chain() -> None:
    """Nothing of a chain is verified: only the first certificate's key was proven."""
    key = ec.generate_private_key(ec.SECP256R1())
    mine, other = _certificate(key), _certificate(ec.generate_private_key(ec.SECP384R1()), name="other")
    server, _ = _shake(_asking(), _client(key, [mine, other]))
    assert server.client_certificates() == (mine, other)


def test_a_client_without_a_certificate_is_let_in() -> None:
    """It may have a token instead."""
    server, _ = _shake(_asking(), client_context())
    assert server.client_certificates() == ()
    assert tls_extension(server)["client_cert_chain"] == []


def test_a_server_that_does_not_ask_gets_none() -> None:
    """As every server that was there before."""
    key = ec.generate_private_key(ec.SECP256R1())
    server, _ = _shake(ServerKey().context, _client(key, [_certificate(key)]))
    assert not server.asks_clients
    assert server.client_certificates() == ()


def test_a_certificate_that_cannot_be_read_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenSSL reads more than cryptography does: such a client has no certificate, and that is stated."""
    server, _ = _shake(_asking(), client_context())

    def unreadable() -> tuple[x509.Certificate, ...]:
        raise ValueError("a time of no calendar")

    monkeypatch.setattr(server, "client_certificates", unreadable)
    told = tls_extension(server)
    assert (told["client_cert_chain"], told["client_cert_error"]) == ([], "the certificate cannot be read")
