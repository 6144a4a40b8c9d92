"""Request certificates from clients without verification, and pass them on in ASGI's TLS extension.

OpenSSL refuses a certificate that no trusted authority signed, unless a callback accepts it. A callback in
Python needs code that is written at run time, which an enclave does not have: the launcher has one, in C.
docs/decisions/0031-client-certificates-are-accepted-in-c.md states why nothing is verified here.
Spec: ASGI, "TLS Extension", version 0.2.
"""

from __future__ import annotations

import ctypes
from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.bindings.openssl.binding import Binding
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL

ACCEPT: Final = "kluis_accept_certificate"
TLS_1_3: Final = 0x0304
UNREADABLE: Final = "the certificate cannot be read"


def accept_any_certificate(context: SSL.Context) -> None:
    """Have a server ask each client for a certificate, and take any whose key the client has, or none."""
    context.set_verify_depth(0)  # no chain is built of what hostile clients send
    try:
        accept = ctypes.CDLL(None)[ACCEPT]
    except AttributeError:  # outside an enclave, where callbacks may be written
        context.set_verify(SSL.VERIFY_PEER, lambda *_: True)
        return
    openssl, address = Binding(), ctypes.cast(accept, ctypes.c_void_p).value
    callback = openssl.ffi.cast("int (*)(int, X509_STORE_CTX *)", address)
    openssl.lib.SSL_CTX_set_verify(context._context, SSL.VERIFY_PEER, callback)


def tls_extension(link: Any) -> dict[str, Any]:
    """What ``scope["extensions"]["tls"]`` of an ASGI application contains.

    Args:
        link: a :class:`kluis.enclave.attested_tls.link.Link` whose handshake is done.
    """
    chain: list[str] = []
    name = error = None
    try:
        certificates = link.client_certificates()
        chain = [one.public_bytes(Encoding.PEM).decode() for one in certificates]
        name = certificates[0].subject.rfc4514_string() if certificates else None
    except (ValueError, UnsupportedAlgorithm):  # OpenSSL reads more than cryptography does
        error = UNREADABLE
    return {
        "server_cert": None,
        "client_cert_chain": [] if error else chain,
        "client_cert_name": name,
        "client_cert_error": error,
        "tls_version": TLS_1_3,
        "cipher_suite": None,
    }
