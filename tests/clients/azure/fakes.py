"""Authorities that are no attestation service: keys in their documents that are wrong in one way each.

They answer over TLS on loopback what a vault fetches of an authority; the scenarios have their signing key.
"""

from __future__ import annotations

import base64
import contextlib
import json
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from kluis.serve.front.authority import LoopbackAuthority
from tests.services.attestation.owners import Owner

__all__ = ["KINDS", "fakes"]

KINDS = ("good", "lacks_jwks_uri", "lacks_x5c", "lacks_kid", "silent")


@contextlib.contextmanager
def fakes(folder: Path) -> Iterator[tuple[dict[str, str], Path]]:
    """Run one of each kind: their addresses, with the signing key of all as ``folder/fakes.pem``.

    Yields:
        Address by kind, and the file of the authority of their TLS.
    """
    owner = Owner("fake authority")
    pem = owner.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "fakes.pem").write_bytes(pem)
    tls = LoopbackAuthority.load_or_create(folder / "fakes-ca", datetime.now(UTC))
    context = tls.server_context(folder / "fakes-ca", ("localhost",), datetime.now(UTC))
    with contextlib.ExitStack() as stack:
        found = {kind: stack.enter_context(_serving(kind, owner, context)) for kind in KINDS}
        yield found, folder / "fakes-ca" / "root.pem"


@contextlib.contextmanager
def _serving(kind: str, owner: Owner, context: ssl.SSLContext) -> Iterator[str]:
    server = _Server(("127.0.0.1", 0), _Handler)
    url = f"https://localhost:{server.server_address[1]}"
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.documents = _documents(kind, url, owner)
    thread = threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True)
    thread.start()
    try:
        yield url
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _documents(kind: str, url: str, owner: Owner) -> dict[str, Any]:
    if kind == "silent":
        return {}
    numbers = owner.key.public_key().public_numbers()
    key = {
        "kid": "fake-key",
        "kty": "RSA",
        "n": base64.urlsafe_b64encode(numbers.n.to_bytes(256, "big")).rstrip(b"=").decode(),
        "e": "AQAB",
        "x5c": [owner.x5c],
    }
    if kind in ("lacks_x5c", "lacks_kid"):
        del key[kind.removeprefix("lacks_")]
    metadata = {"issuer": url, "jwks_uri": f"{url}/keys"}
    if kind == "lacks_jwks_uri":
        del metadata["jwks_uri"]
    return {"/.well-known/openid-configuration": metadata, "/keys": {"keys": [key]}}


class _Server(ThreadingHTTPServer):
    documents: dict[str, Any]


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        """Answer with a document."""
        found = self.server.documents.get(self.path)
        data = b"" if found is None else json.dumps(found).encode()
        self.send_response(404 if found is None else 200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *words: Any) -> None:
        """Say nothing."""
