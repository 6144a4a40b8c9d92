"""TLS 1.3 without a socket: ciphertext in, plaintext out, and the connection's exporter.

It uses pyOpenSSL, because Python's own ``ssl`` has no exporter; never with a Python callback, which would
need writable code (an enclave has none). The certificate is generated here and proves nothing. The host's
authority may sign another for the same key, for clients that check a server's name; to authenticate the other
end, request evidence. Sessions are not resumed and there is no early data. Spec: RFC 8446; RFC 9266.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import NameOID
from OpenSSL import SSL

from kluis.enclave.attested_tls.certificates import chain_of
from kluis.enclave.attested_tls.client_certificates import accept_any_certificate
from kluis.errors import AuthenticityError, FormatError, UsageError
from kluis.formats.kluis.attested_tls import EXPORTER_BYTES, LABEL, Role

CHUNK: Final = 64 * 1024
# Without meaning, and without a clock: RFC 5280 section 4.1.2.5, "no well-defined expiration date".
BEGIN: Final = datetime(2026, 1, 1, tzinfo=UTC)
END: Final = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)


def make_certificate() -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    """A new P-256 key and its self-signed certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Kluis enclave (ask it for evidence)")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(BEGIN)
        .not_valid_after(END)
        .sign(key, hashes.SHA256())
    )
    return key, certificate


class ServerKey:
    """A server's key, generated here, and its certificate.

    Attributes:
        context: a server's settings; replaced when a certificate is adopted.
    """

    def __init__(self) -> None:
        self._key, certificate = make_certificate()
        self.context = self._settings([certificate])

    def request(self) -> bytes:
        """A request for a certificate of this key: PKCS#10, PEM; the authority chooses the names."""
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Kluis enclave")])
        made = x509.CertificateSigningRequestBuilder().subject_name(name).sign(self._key, hashes.SHA256())
        return made.public_bytes(Encoding.PEM)

    def adopt(self, chain: bytes) -> None:
        """Use ``chain`` for new connections; existing ones keep theirs.

        Args:
            chain: PEM, this key's certificate first, followed by its issuers.

        Raises:
            FormatError: not a chain of certificates.
            UsageError: its first certificate is for another key.
        """
        self.context = self._settings(chain_of(chain, self._key.public_key(), "enclave"))

    def adopt_key(self, key: bytes, chain: bytes) -> None:
        """Use the operator's ``key`` and ``chain`` for new connections; existing ones keep theirs.

        The host then knows the key. Evidence stays bound to each connection, so a client that requests it
        still detects a host that poses as the enclave.

        Args:
            key: PEM, PKCS#8, of RSA, P-256 or P-384.
            chain: PEM, this key's certificate first, followed by its issuers.

        Raises:
            FormatError: not a key, or not a chain of certificates.
            UsageError: the first certificate is for another key.
        """
        try:
            private = load_pem_private_key(key, None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            private = None
        if not isinstance(private, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
            raise FormatError("operator's key: want PEM, PKCS#8, of RSA, P-256 or P-384")
        self.context = server_context(private, chain_of(chain, private.public_key(), "operator"))

    def _settings(self, chain: list[x509.Certificate]) -> SSL.Context:
        return server_context(self._key, chain)


def server_context(
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey,
    chain: Sequence[x509.Certificate],
    *,
    ask_clients: bool = False,
) -> SSL.Context:
    """A server's settings.

    Args:
        key: of its TLS.
        chain: its certificate first, its issuers after it.
        ask_clients: whether to request a certificate from the client. A client without one is accepted, and
            so is any certificate whose private key the client proves to have:
            :meth:`Link.client_certificates` returns it, otherwise unverified.
    """
    context = _only_1_3(SSL.Context(SSL.TLS_SERVER_METHOD))
    context.use_certificate(chain[0])
    for issuer in chain[1:]:
        context.add_extra_chain_cert(issuer)
    context.use_privatekey(key)
    if ask_clients:
        accept_any_certificate(context)
    return context


def client_context() -> SSL.Context:
    """A client's settings; the certificate is ignored, and the evidence is judged instead."""
    return _only_1_3(SSL.Context(SSL.TLS_CLIENT_METHOD))


class Link:
    """One end of one connection.

    Attributes:
        role: which end.
        established: whether the handshake is done.
        asks_clients: whether a server requests a certificate from its client.

    Args:
        context: shared by every connection of this end.
        role: which end.
    """

    def __init__(self, context: SSL.Context, role: Role) -> None:
        self.role = role
        self.established = False
        self._connection = SSL.Connection(context, None)
        self.asks_clients = role is Role.SERVER and context.get_verify_mode() != SSL.VERIFY_NONE
        if role is Role.SERVER:
            self._connection.set_accept_state()
        else:
            self._connection.set_connect_state()

    def handshake(self) -> bool:
        """Continue the handshake, as far as the input allows.

        Returns:
            Whether it is done.

        Raises:
            AuthenticityError: the input is not a TLS 1.3 handshake.
        """
        if not self.established:
            try:
                self._connection.do_handshake()
            except SSL.WantReadError:
                return False
            except SSL.Error as error:
                raise AuthenticityError(f"TLS handshake: {_reason(error)}", code="tls") from None
            self.established = True
        return True

    def feed(self, ciphertext: bytes) -> None:
        """Process input from the other end."""
        view = memoryview(ciphertext)
        while view:
            view = view[self._connection.bio_write(bytes(view[:CHUNK])) :]

    def pending(self) -> bytes:
        """The output for the other end; empty if there is none."""
        parts = []
        while True:
            try:
                parts.append(self._connection.bio_read(CHUNK))
            except SSL.WantReadError:
                return parts[0] if len(parts) == 1 else b"".join(parts)

    def read(self) -> bytes | None:
        """The next plaintext; empty if more input is needed, None once the other end has closed.

        Raises:
            AuthenticityError: a record cannot be decrypted.
        """
        try:
            return self._connection.recv(CHUNK)
        except SSL.WantReadError:
            return b""
        except SSL.ZeroReturnError:
            return None
        except SSL.Error as error:
            raise AuthenticityError(f"TLS record: {_reason(error)}", code="tls") from None

    def write(self, plain: bytes) -> None:
        """Encrypt plaintext; :meth:`pending` returns the records."""
        if plain:
            self._connection.sendall(plain)

    def close(self) -> None:
        """Close the connection; :meth:`pending` returns the alert."""
        if self.established:
            try:
                self._connection.shutdown()
            except SSL.Error:
                return

    def client_certificates(self) -> tuple[x509.Certificate, ...]:
        """The certificates that a client sent on request: its own first; empty if it sent none.

        The client has the first one's private key. Nothing else is verified: neither its signer nor its
        dates.
        """
        first = self._connection.get_peer_certificate(as_cryptography=True)
        if first is None:
            return ()
        rest = self._connection.get_peer_cert_chain(as_cryptography=True) or ()
        return (first, *(one for one in rest if one != first))

    def exporter(self) -> bytes:
        """The exporter, which only the two ends of this connection have: 32 bytes.

        Raises:
            UsageError: the handshake is not done.
        """
        if not self.established:
            raise UsageError("TLS exporter: want a handshake that is done, got one under way")
        return self._connection.export_keying_material(LABEL, EXPORTER_BYTES, None)


def _only_1_3(context: SSL.Context) -> SSL.Context:
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    context.set_max_proto_version(SSL.TLS1_3_VERSION)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_options(SSL.OP_NO_TICKET)
    return context


def _reason(error: SSL.Error) -> str:
    """OpenSSL's error text, which contains no transmitted data."""
    reason = error.args[0] if error.args else None
    if isinstance(reason, list) and reason:
        return str(reason[0][-1])
    return "the other end hung up"
